"""The order of an epoch: every image once, or every class equally often; and what of it names a trial."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import get_space
from study.spec import StudySpec, TrainingSpec
from trainables.data import View
from trainables.files import derive_seed, digest_of
from trainables.fit import Training, TrainSettings, WrongFolder
from trainables.sampling import epoch_order
from trainables.trial import train_settings

COUNTS = {3: 90, 5: 30, 8: 12}  # training images of these digits
PARAMS = get_space("classifier").default() | {"width": 0.5}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def view() -> View:
    from sklearn.datasets import load_digits

    found = load_digits()
    rows = {digit: np.flatnonzero(found.target == digit) for digit in COUNTS}
    train = np.concatenate([rows[digit][:count] for digit, count in COUNTS.items()])
    validation = np.concatenate([rows[digit][90:140] for digit in COUNTS])
    images, labels = np.rint(found.images * (255 / 16)).astype(np.uint8)[..., None], np.searchsorted(list(COUNTS), found.target)
    return View(
        classes=("3", "5", "8"), image_shape=(8, 8, 1), mean=(0.3,), std=(0.37,), flips_keep_labels=False,
        rotations_keep_labels=False, digest="d", split=0, train_images=images[train], train_labels=labels[train],
        validation_images=images[validation], validation_labels=labels[validation])


def start(view, folder=None, *, seed=5, epochs=2, **settings) -> Training:
    return Training(method="classifier", view=view, params=PARAMS, seed=seed, folder=folder,
                    settings=TrainSettings(epochs=epochs, batch_size=16, device="cpu", **settings))


def finish(training: Training) -> dict:
    while not training.done:
        training.step()
    return training.finish()


@given(st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(any), st.integers(0, 2**31))
def test_balanced_draws_classes_and_their_images_equally_often(counts, seed):
    labels = torch.from_numpy(np.repeat(np.arange(len(counts)), counts))
    order = epoch_order(labels, "balanced", generator(seed))
    assert order.shape == labels.shape and torch.equal(order, epoch_order(labels, "balanced", generator(seed)))
    drawn = torch.bincount(labels[order], minlength=len(counts))[torch.tensor(counts) > 0]
    assert drawn.max() - drawn.min() <= 1
    times = torch.bincount(order, minlength=len(labels))
    for label in labels.unique():
        of_class = times[labels == label]
        assert of_class.max() - of_class.min() <= 1


def test_uniform_is_the_permutation_that_it_always_was():
    labels = torch.arange(50) % 3
    assert torch.equal(epoch_order(labels, "uniform", generator(7)), torch.randperm(50, generator=generator(7)))
    with pytest.raises(ValueError, match="unknown sampler 'ballanced'; one of uniform, balanced"):
        epoch_order(labels, "ballanced", generator())


def test_a_large_class_shows_other_images_in_the_next_epoch():
    labels = torch.from_numpy(np.repeat([0, 1], [90, 10]))
    first, second = (set(epoch_order(labels, "balanced", generator(seed)).tolist()) for seed in (1, 2))
    assert {*range(90, 100)} <= first & second and len(first & second) < 60 and first != second


def test_the_default_is_named_as_before_there_was_another(view):
    """By this digest a folder's trial is known: were it another, no study from before could go on."""
    old = {"network": "small_cnn", "epochs": 2, "early_stopping": False, "batch_size": 16}
    named = digest_of(["classifier", PARAMS, old, 5, view.digest, list(view.classes), len(view.train_labels)])
    assert start(view).identity == start(view, sampler="uniform").identity == named
    assert start(view, sampler="balanced").identity != named


def test_killed_after_any_epoch_the_balanced_weights_are_the_same(view, tmp_path):
    whole = finish(start(view, tmp_path / "whole", sampler="balanced"))
    start(view, tmp_path / "parts", sampler="balanced").step()
    parts = finish(start(view, tmp_path / "parts", sampler="balanced"))
    assert parts["weights_sha256"] == whole["weights_sha256"] != finish(start(view))["weights_sha256"]
    with pytest.raises(WrongFolder):
        start(view, tmp_path / "parts")


def test_every_epoch_and_seed_draws_anew(view):
    from trainables.fit import _Stream

    orders = {tuple(torch.cat(_Stream(start(view, seed=seed, sampler="balanced"), epoch, member, 8).order).tolist())
              for seed in (5, 6) for epoch in (1, 2) for member in (0, 1)}
    assert len(orders) == 8
    labels = view.train_labels[list(next(iter(orders)))]
    assert np.bincount(labels).tolist() == [44, 44, 44]
    assert derive_seed(5, "order", 1) != derive_seed(5, "order", 2)


def test_rare_classes_are_recalled_better(view):
    plain, balanced = (np.mean([finish(start(view, seed=seed, epochs=4, sampler=sampler))["signals"]["val_balanced_accuracy"]
                                for seed in range(3)]) for sampler in ("uniform", "balanced"))
    assert balanced > plain + 0.05


def test_trials_and_jobs_get_it_by_one_way_and_are_named_by_it_only_where_it_is_asked():
    spec = StudySpec.parse({"name": "x", "methods": ["classifier", "hybrid"], "training": {
        "sampler": "balanced", "hybrid": {"sampler": "uniform", "epochs": 3}}})
    named = {method: spec.training.for_method(method) for method in spec.methods}
    old = {"network", "epochs", "early_stopping", "batch_size"}
    assert set(named["classifier"]) == {*old, "sampler"} and set(named["hybrid"]) == set(TrainingSpec().for_method("csi")) == old
    shared = {"training": named, "cpus_per_trial": 1, "gpus_per_trial": 0}
    assert [train_settings(shared, method).sampler for method in spec.methods] == ["balanced", "uniform"]
    again = StudySpec.parse(spec.to_table())
    assert again == spec and spec.changes(StudySpec.parse({**spec.to_table(), "training": {}})) != []
