"""The course of a training: the trial's own numbers, bit for bit, whatever is watched and kept on the way."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from search_spaces import get_space
from trainables.checkpoint import read_tensors
from trainables.course import course_epochs, train_course, weights_name
from trainables.data import View
from trainables.fit import TrainSettings, fit
from trainables.methods import built_in


@pytest.fixture(scope="module")
def view(tmp_path_factory) -> View:
    from study.prepare import prepare

    folder = tmp_path_factory.mktemp("course")
    prepare({"source": "digits", "limit": 30}, folder)
    return View.load(folder / "view" / "0")


def settings(epochs=3):
    return TrainSettings(epochs=epochs, batch_size=32, device="cpu", threads=1)


@pytest.mark.parametrize(("epochs", "points", "expected"), [
    (30, 4, [1, 11, 20, 30]), (5, 100, [1, 2, 3, 4, 5]), (7, 1, [7]), (1, 3, [1]), (2, 2, [1, 2]), (12, 3, [1, 7, 12]),
])
def test_epochs_are_spread_from_the_first_to_the_last(epochs, points, expected):
    found = course_epochs(epochs, points)
    assert found == expected
    with pytest.raises(ValueError):
        course_epochs(epochs, 0)


@pytest.mark.parametrize("method", built_in())
def test_watching_changes_nothing(method, view, tmp_path):
    params, epochs = get_space(method).default(), 2 if method in ("classifier", "hybrid") else 1
    plain = fit(method=method, view=view, params=params, settings=settings(epochs), seed=3)
    found = train_course(folder=tmp_path, view=view, method=method, params=params, settings=settings(epochs), seed=3, points=2)
    assert found["weights_sha256"] == plain["weights_sha256"] == found["files"][weights_name(epochs)]
    assert found["kept"] == course_epochs(epochs, 2) and [row["epoch"] for row in found["epochs"]] == list(range(1, epochs + 1))
    assert found["epochs"][-1]["val_accuracy"] == pytest.approx(plain["signals"]["val_accuracy"])
    assert all(row["gradient_norm"] > 0 for row in found["epochs"])
    tensors = read_tensors(tmp_path / weights_name(1), found["files"][weights_name(1)])
    assert all(torch.isfinite(tensor.float()).all() for tensor in tensors.values())


def test_the_norm_is_that_of_all_gradients_before_clipping(view, tmp_path, monkeypatch):
    """One step an epoch: the norm is what a second, naive look at the gradients gives, however they are clipped."""
    from trainables.sgd import SGD

    heard = []
    real = SGD.clip

    def listen(optimiser, most):
        heard.append(np.sqrt(sum(float((parameter.grad.double()**2).sum()) for parameter, _, _ in optimiser.places)))
        real(optimiser, most)

    monkeypatch.setattr(SGD, "clip", listen)
    params = {**get_space("classifier").default(), "gradient_clip": 0.01}
    many = TrainSettings(epochs=2, batch_size=10_000, device="cpu", threads=1)
    found = train_course(folder=tmp_path, view=view, method="classifier", params=params, settings=many, seed=0, points=1)
    assert [row["gradient_norm"] for row in found["epochs"]] == pytest.approx(heard, rel=1e-5)
    assert min(heard) > 0.01
