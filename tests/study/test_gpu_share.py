"""How many trials share a card, and how busy the cards were. No card is needed: what torch and nvidia-smi say is given."""

from __future__ import annotations

import json
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.gpu_share import (
    MARGIN,
    MOST_ON_A_CARD,
    ask_cards,
    peak_memory,
    settled,
    share_of_a_card,
    watched,
)
from study.plan import plan
from study.runtime import Cluster
from study.spec import StudySpec
from trainables.inference import CONTEXT_BYTES

GIB = 2**30


@pytest.mark.parametrize(("peak", "total", "trials"), [
    (80 * GIB, 80 * GIB, 1), (30 * GIB, 80 * GIB, 2), (10 * GIB, 80 * GIB, 6), (1, 80 * GIB, MOST_ON_A_CARD), (7 * GIB, 8 * GIB, 1)])
def test_as_many_trials_share_a_card_as_fit(peak, total, trials):
    share = share_of_a_card(peak, total)
    assert int(1 / share + 1e-9) == trials
    assert Cluster(64, 1, 1, share).concurrency(0) == trials


@given(st.integers(1, 10**11), st.integers(2**30, 10**11))
def test_a_pack_never_needs_more_than_the_card(peak, total):
    share = share_of_a_card(peak, total)
    trials = int(1 / share + 1e-9)
    assert 0 < share <= 1 and trials * share <= 1
    assert trials == 1 or trials * (MARGIN * peak + CONTEXT_BYTES) <= total


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="above 0"):
        share_of_a_card(0, GIB)


def test_nothing_is_measured_where_nothing_is_to_be(tmp_path):
    spec = StudySpec.parse({"name": "x", "methods": ["classifier"]})
    for resources, cluster in ((0.5, Cluster(4, 1, 1, 0.5)), ("auto", Cluster(4, 0, 1, 0))):
        assert settled(spec.changed({"resources.gpus_per_trial": resources}), cluster, tmp_path, views={}) is cluster


def test_without_cuda_it_says_so(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert peak_memory(None, {}, {}, 1) == {"problem": "torch sees no CUDA device"}


def fake_smi(folder, text):
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    return str(program)


def test_the_cards_are_asked(tmp_path):
    assert ask_cards(fake_smi(tmp_path, "printf '80, 1024\\n20, 3072\\n'")) == (0.5, 2 * GIB)
    for broken in ("exit 9", "echo No devices were found", "echo '[N/A], [N/A]'"):
        assert ask_cards(fake_smi(tmp_path, broken)) is None
    assert ask_cards(str(tmp_path / "absent")) is None


def test_a_search_is_watched(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    fake_smi(tmp_path, "printf '50, 1024\\n'")
    (tmp_path / "gpu.json").write_text('{"gpus_per_trial": 0.25}')
    with watched(tmp_path, seconds=0.01) as told:
        pass
    assert len(told) == 1 and "busy 50% of the search, with 1.0 GiB" in told[0]
    kept = json.loads((tmp_path / "gpu.json").read_text())
    assert kept["gpus_per_trial"] == 0.25 and kept["busy"] == 0.5 and kept["most_used_bytes"] == GIB
    monkeypatch.setenv("PATH", "/nowhere")
    with watched(tmp_path) as told:
        pass
    assert told == []


def test_a_plan_before_the_first_trial_says_how_to_measure_one(tmp_path):
    from study.screens import plan_text

    spec = StudySpec.parse({"name": "x", "methods": ["classifier"]})
    found = plan(spec, tmp_path)
    assert found["core_hours"] is found["gpu_hours"] is None
    assert "--stop-after search -o search.trials=1" in plan_text(found)
