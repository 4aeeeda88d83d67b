"""Anomalies reach nothing before the freeze: whatever happens to them, the selection stays the same to the byte.

Real studies, sequential, one thread. The controls show that the digest would move if something had reached it.
"""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from conftest import TINY, digits_npz, overrides, run

pytestmark = pytest.mark.slow
NOMINAL = ["three", "five", "six", "seven", "nine"]
SETTINGS = [*TINY, "data.source=npz", "data.path=digits.npz", f"data.nominal_classes={NOMINAL}",
            "search.max_concurrent=1", "search.sampler=tpe", "training.epochs=2", 'resources.address="local"']


def anomalous(labels, names) -> np.ndarray:
    return ~np.isin(names[labels], NOMINAL)


def unchanged(images, labels, names):
    return images, labels, names


def noise(images, labels, names):
    images, mask = images.copy(), anomalous(labels, names)
    images[mask] = np.random.default_rng(0).integers(0, 256, images[mask].shape, dtype=np.uint8)
    return images, labels, names


def deleted(images, labels, names):
    mask = anomalous(labels, names)
    return images[~mask], labels[~mask], names


def permuted_labels(images, labels, names):
    labels, mask = labels.copy(), anomalous(labels, names)
    labels[mask] = np.random.default_rng(0).permutation(labels[mask])
    return images, labels, names


def changed_nominal_image(images, labels, names):
    images = images.copy()
    images[np.flatnonzero(~anomalous(labels, names))[:40]] //= 2
    return images, labels, names


def selection_of(folder, change, *more: str) -> dict:
    folder.mkdir()
    digits_npz(folder / "digits.npz", change=change)
    done = run("launch", "digits", "--offline", "--stop-after", "freeze", *overrides(*SETTINGS, *more), cwd=folder)
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads((folder / "runs" / "tiny" / "selection.json").read_text())


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return selection_of(tmp_path_factory.mktemp("leak") / "reference", unchanged)


@pytest.mark.parametrize("change", [noise, deleted, permuted_labels])
def test_the_selection_does_not_depend_on_the_anomalies(tmp_path, reference, change):
    assert selection_of(tmp_path / "changed", change)["digest"] == reference["digest"]


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
