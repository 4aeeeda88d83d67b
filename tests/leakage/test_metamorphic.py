"""Anomalies reach nothing before the freeze: whatever happens to them, the selection stays the same to the byte.

Real studies, sequential, one thread. The controls show that the digest would move, and the hook hear, if something had reached
it (``test_planted.py``); every method, sampler, pruner and signal, and more seeds, are in ``soak_leaks.py``.
"""

from __future__ import annotations

import json
import shutil

import pytest
from conftest import digits_npz, overrides, run
from leak_runs import SETTINGS, opens, selection_of
from transforms import all_but_deleted, changed_nominal_image, deleted, noise, renamed_and_reordered, unchanged

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("leak") / "reference"
    return selection_of(folder, unchanged) | {"opens": opens(folder)}


@pytest.mark.parametrize("change", [noise, deleted, renamed_and_reordered, pytest.param(all_but_deleted, marks=pytest.mark.long)],
                         ids=lambda change: change.__name__)
def test_the_selection_does_not_depend_on_the_anomalies(tmp_path, reference, change):
    assert selection_of(tmp_path / "changed", change)["digest"] == reference["digest"]
    assert opens(tmp_path / "changed") == []


def test_nobody_but_prepare_opens_the_vault_before_the_freeze(reference):
    assert reference["opens"] == []


def test_a_changed_nominal_image_changes_the_digest(tmp_path, reference):
    assert selection_of(tmp_path / "changed", changed_nominal_image)["digest"] != reference["digest"]


def test_search_and_freeze_run_with_the_vault_moved_away(tmp_path, reference):
    folder = tmp_path / "moved"
    folder.mkdir()
    digits_npz(folder / "digits.npz")
    arguments = ["launch", "digits", "--offline", *overrides(*SETTINGS)]
    first = run(*arguments, "--stop-after", "search", "-o", "search.trials=1", cwd=folder)
    assert first.returncode == 0, first.stderr
    shutil.move(folder / "runs" / "tiny" / "vault", folder / "hidden")
    done = run(*arguments, "--stop-after", "freeze", cwd=folder)
    assert done.returncode == 0, done.stderr
    digest = json.loads((folder / "runs" / "tiny" / "selection.json").read_text())["digest"]
    assert digest == reference["digest"]  # and in two launches the same as in one
