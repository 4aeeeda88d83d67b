"""The doctor, on this machine: a good place is good, and each thing that is wrong is named with a remedy."""

from __future__ import annotations

import sys

import pytest
from conftest import run

from study import doctor as place
from study.doctor import _clocks, _gpus, _nodes, _processors, _same, _shared, _versions, doctor, doctor_text
from study.errors import UserError
from study.spec import ResourcesSpec, StudySpec


def states(found) -> dict[str, str]:
    return {row["name"]: row["state"] for row in found["checks"]}


def test_a_good_place(tmp_path):
    done = run("doctor", "digits", cwd=tmp_path, RAY_ADDRESS="")
    assert done.returncode == 0 and done.stdout.rstrip().endswith("A study can run here."), done.stdout + done.stderr
    assert not list(tmp_path.iterdir())


def test_what_is_wrong_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "analysis").mkdir()
    (tmp_path / "file").touch()
    spec = StudySpec.parse({"name": "x", "methods": ["classifier"], "resources": {
        "ledger": "postgresql+psycopg://me@127.0.0.1:9/db", "address": "127.0.0.1:9"}})
    found = doctor(spec, root=tmp_path / "file")
    assert states(found) == {"python": "ok", "packages": "ok", "names": "doubt", "storage": "failed", "mlflow": "failed",
                             "ledger": "failed", "cluster": "failed"}
    assert not found["well"] and doctor_text(found).endswith("would fail here: storage, mlflow, ledger, cluster.")
    assert all("\n" not in row["words"] for row in found["checks"])


@pytest.fixture
def nodes():
    """What two nodes of a good cluster answer."""
    seen = {"python": sys.version.split()[0], "versions": _versions(place.COMPARED), "time": 10.0, "sent": 9.9, "received": 10.2,
            "gpus": ["H100"], "mps": True, "sees": True, "bfloat16": False, "resources": {"CPU": 8.0, "GPU": 1.0}}
    return {"a": dict(seen), "b": dict(seen)}


def test_good_nodes(nodes, tmp_path):
    found = [*_nodes(nodes), *_same(nodes), *_clocks(nodes), *_shared(nodes, tmp_path), *_gpus(nodes, ResourcesSpec())]
    assert {row.state for row in found} == {"ok"} and found[-1].words == "2 (H100), 4 trials on each"


def test_cpus_with_bfloat16_are_told_of(nodes):
    assert not _processors(nodes, True)  # GPUs have it
    for seen in nodes.values():
        seen["gpus"] = []
    assert not _processors(nodes, False)
    nodes["a"]["bfloat16"] = True
    assert not _processors(nodes, False)  # what not every trial could use is no advice
    nodes["b"]["bfloat16"] = True
    (advice,), (asked,) = _processors(nodes, False), _processors(nodes, True)
    assert {advice.state, asked.state} == {"ok"} and "may train faster" in advice.words and "asked for" in asked.words


@pytest.mark.parametrize(("change", "check", "state", "words"), [
    ({"error": "No module named 'study'"}, _nodes, "failed", "1 of 2 cannot run our code: b: No module"),
    ({"versions": {**_versions(place.COMPARED), "torch": "1.0"}}, _same, "failed", "b has torch 1.0 (here"),
    ({"python": "3.9.1"}, _same, "failed", "b has python 3.9.1"), ({"time": 99.0}, _clocks, "failed", "b is off by 89 s"),
    ({"time": 1.0}, _clocks, "failed", "b is off by 9 s"),
    ({"sees": False}, lambda nodes: _shared(nodes, place.Path("runs")), "failed", "is not the same place on b"),
    ({"mps": False}, lambda nodes: _gpus(nodes, ResourcesSpec()), "doubt", "no CUDA MPS on b"),
    ({"gpus": []}, lambda nodes: _processors(nodes, True), "doubt", "b has no AMX and no GPU"),
])
def test_a_bad_node_is_named(nodes, change, check, state, words):
    nodes["b"].update(change)
    (found,) = check(nodes)
    assert found.state == state and words in found.words


@pytest.mark.parametrize("address", ["ray://10.0.0.7:10001", "foo"])
def test_an_address_that_is_none_is_one_line(tmp_path, address):
    with pytest.raises(UserError, match="--address: address: ") as caught:
        doctor(root=tmp_path, address=address)
    assert "\n" not in str(caught.value)
