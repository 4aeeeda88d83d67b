"""Training in bfloat16: every method stands it, it is another trial than one of float32, and "auto" on a CPU is float32."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from search_spaces import get_space, space_names
from study.errors import UserError
from study.spec import StudySpec
from trainables import precision
from trainables.data import View
from trainables.fit import Training, TrainSettings, WrongFolder
from trainables.trial import train_settings

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def view() -> View:
    """Three digits, few of them: bfloat16 is slow on a CPU without AMX."""
    from sklearn.datasets import load_digits

    found = load_digits()
    rows = np.concatenate([np.flatnonzero(found.target == digit)[:24] for digit in (3, 5, 8)])
    images, labels = np.rint(found.images * (255 / 16)).astype(np.uint8)[rows, ..., None], np.repeat([0, 1, 2], 24)
    train = np.arange(len(rows)) % 3 > 0
    return View(
        classes=("3", "5", "8"), image_shape=(8, 8, 1), mean=(0.3,), std=(0.37,), flips_keep_labels=False,
        rotations_keep_labels=False, digest="d", split=0, train_images=images[train], train_labels=labels[train],
        validation_images=images[~train], validation_labels=labels[~train])


def start(view, name, method="classifier", folder=None, epochs=1) -> Training:
    return Training(method=method, view=view, params=get_space(method).default() | {"width": 0.5}, seed=5, folder=folder,
                    settings=TrainSettings(epochs=epochs, batch_size=24, device="cpu", precision=name))


def finish(training: Training) -> dict:
    while not training.done:
        training.step()
    return training.finish()


@pytest.mark.parametrize("method", space_names())
def test_every_method_trains_in_bfloat16(view, method, tmp_path):
    exact, rounded = (finish(start(view, name, method, tmp_path / name)) for name in ("float32", "bfloat16"))
    assert all(math.isfinite(value) for value in rounded["signals"].values() if value is not None)
    assert exact["weights_sha256"] != rounded["weights_sha256"]
    mine, other = (load_file(tmp_path / name / "model.safetensors") for name in ("bfloat16", "float32"))
    for name, weights in mine.items():
        assert weights.dtype == other[name].dtype, name
        # two steps of a network whose activations are rounded to 8 bits
        if weights.is_floating_point() and weights.numel() > 1:
            assert (weights - other[name]).norm() <= 0.2 * other[name].norm() + 0.2, name


def test_on_a_cpu_auto_is_float32(view):
    assert finish(start(view, "auto"))["weights_sha256"] == finish(start(view, "float32"))["weights_sha256"]


def test_a_resumed_run_of_bfloat16_is_the_uninterrupted_one(view, tmp_path):
    whole = finish(start(view, "bfloat16", epochs=3))
    start(view, "bfloat16", folder=tmp_path / "a", epochs=3).step()
    assert finish(start(view, "bfloat16", folder=tmp_path / "a", epochs=3))["weights_sha256"] == whole["weights_sha256"]


@pytest.mark.parametrize(("first", "then"), [("auto", "bfloat16"), ("bfloat16", "auto"), ("bfloat16", "float32")])
def test_no_folder_is_continued_in_another_precision(view, tmp_path, first, then):
    start(view, first, folder=tmp_path, epochs=2).step()
    with pytest.raises(WrongFolder):
        start(view, then, folder=tmp_path, epochs=2)


def test_from_the_spec_to_the_trial():
    spec = StudySpec.parse({"name": "x", "methods": ["classifier", "hybrid"], "training": {
        "precision": "bfloat16", "hybrid": {"precision": "auto"}}})
    training = {method: spec.training.for_method(method) for method in spec.methods}
    assert "precision" not in training["hybrid"]  # as before there was a choice: such studies keep their trials' names
    shared = {"gpus_per_trial": 0, "cpus_per_trial": 1, "training": training}
    assert [train_settings(shared, method).precision for method in spec.methods] == ["bfloat16", "auto"]
    with pytest.raises(UserError, match="must be 'auto', 'float32' or 'bfloat16', not 'half'"):
        StudySpec.parse({"name": "x", "methods": ["classifier"], "training": {"precision": "half"}})


def test_autocast_by_device():
    for device, name, cast in (("cpu", "auto", False), ("cpu", "float32", False), ("cpu", "bfloat16", True),
                               ("cuda", "float32", False)):
        with precision.autocast(torch.device(device), name):
            assert torch.is_autocast_enabled("cpu") is cast and not torch.is_autocast_enabled("cuda")
    with pytest.raises(ValueError, match="unknown precision 'half'; one of auto, float32, bfloat16"):
        precision.autocast(torch.device("cpu"), "half")


@pytest.mark.parametrize(("text", "has"), [("flags : fpu amx_bf16 amx_tile", True), ("flags : fpu avx512f", False), (None, False)])
def test_what_the_system_says_of_its_cpu(tmp_path, monkeypatch, text, has):
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(precision, "CPUINFO", tmp_path / "cpuinfo")
    assert precision.cpu_has_bfloat16() is has
