"""Anomalies reach nothing before the freeze: whatever happens to them, the selection stays the same to the byte.

Real studies, sequential, one thread. The controls show that the digest would move, and the hook hear, if something had reached
it; all transforms, more seeds and thirteen planted leaks are in ``soak_leaks.py``.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import digits_npz, overrides, run
from transforms import SETTINGS, TRANSFORMS, changed_nominal_image, opens, selection_of, unchanged

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("leak") / "reference"
    return selection_of(folder, unchanged) | {"opens": opens(folder)}


@pytest.mark.parametrize("name", ["noise", "deleted", "renamed and reordered"])
def test_the_selection_does_not_depend_on_the_anomalies(tmp_path, reference, name):
    assert selection_of(tmp_path / "changed", TRANSFORMS[name])["digest"] == reference["digest"]
    assert opens(tmp_path / "changed") == []


def test_nobody_but_prepare_opens_the_vault_before_the_freeze(reference):
    assert reference["opens"] == []


def test_a_changed_nominal_image_changes_the_digest(tmp_path, reference):
    assert selection_of(tmp_path / "changed", changed_nominal_image)["digest"] != reference["digest"]


def test_a_method_that_watches_the_test_images_is_heard(tmp_path):
    shutil.copy(Path(__file__).with_name("planted.py"), tmp_path)
    selection_of(tmp_path, unchanged, 'methods=["planted:EpochByTest"]', "search.trials=1", "selection.folds=0",
                 "selection.scorer_rule=all_mean")
    assert any("ray" in line.lower() and "test_anomaly_images.npy" in line for line in opens(tmp_path))


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
