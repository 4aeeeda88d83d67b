"""Signals of latent geometry: closed forms, naive definitions, and what must not change them."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import metrics, signal_geometry
from analysis.checks import features
from analysis.scorer_base import Features
from analysis.signals import computed_signals, get_signal, missing_signals

GEOMETRY = ("effective_rank", "rankme", "neural_collapse", "knn_margin", "logit_margin", "refined_nll")


def latents(z, labels=None) -> Features:
    z = np.asarray(z, dtype=np.float64)
    return Features(np.zeros((len(z), 2)), z, None if labels is None else np.asarray(labels))


def of_logits(logits, labels) -> Features:
    return Features(np.asarray(logits, dtype=float), np.zeros((len(logits), 1)), np.asarray(labels))


def cloud(seed: int, count: int = 60, width: int = 5, classes: int = 3) -> Features:
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(count) % classes)
    z = random.normal(0, random.uniform(0.3, 2, width), (count, width)) + 2
    z[np.arange(count), labels] += 3
    return latents(z, labels)


def test_effective_rank_of_known_shapes():
    square = np.concatenate([np.eye(4), -np.eye(4)])
    assert signal_geometry.effective_rank(None, latents(square)) == pytest.approx(4)
    line = np.outer(np.arange(5.0), [1, 2, 3])
    assert signal_geometry.effective_rank(None, latents(line)) == pytest.approx(1)
    assert signal_geometry.effective_rank(None, latents(np.ones((6, 3)))) == 0
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))  # singular values 3 : 1
    uneven = np.concatenate([np.diag([3.0, 1.0]), -np.diag([3.0, 1.0])])
    assert signal_geometry.effective_rank(None, latents(uneven)) == pytest.approx(math.exp(entropy))


def test_ranks_are_those_of_the_singular_values():
    for seed, shape in ((0, (40, 6)), (1, (5, 30))):  # tall and wide
        z = np.random.default_rng(seed).normal(1, 1, shape)
        for name, matrix in (("effective_rank", z - z.mean(axis=0)), ("rankme", z)):
            sizes = np.linalg.svd(matrix, compute_uv=False)
            p = sizes[sizes > 1e-9] / sizes.sum()
            found = getattr(signal_geometry, name)(latents(z), latents(z))
            assert found == pytest.approx(math.exp(-(p * np.log(p)).sum()), rel=1e-6), name


def test_rankme_reads_training_latents_and_effective_rank_validation_ones():
    a, b = cloud(0), cloud(1)
    assert signal_geometry.rankme(a, b) == signal_geometry.rankme(a, a) != signal_geometry.rankme(b, b)
    assert signal_geometry.effective_rank(a, b) == signal_geometry.effective_rank(b, b)


def test_neural_collapse_is_nc1():
    data = cloud(3)
    data = data.select(np.flatnonzero((data.labels > 0) | (np.arange(60) < 15)))  # classes of unequal size
    means = np.stack([data.z[data.labels == k].mean(axis=0) for k in range(3)])
    between = sum(np.outer(m, m) for m in means - means.mean(axis=0)) / 3
    within = sum(np.mean([np.outer(r, r) for r in data.z[data.labels == k] - means[k]], axis=0) for k in range(3)) / 3
    expected = np.trace(within @ np.linalg.pinv(between, rcond=1e-9)) / 3
    assert signal_geometry.neural_collapse(None, data) == pytest.approx(expected, rel=1e-9)


def test_neural_collapse_at_its_ends():
    corners = latents(np.repeat(np.eye(3), 4, axis=0), np.repeat([0, 1, 2], 4))
    assert signal_geometry.neural_collapse(None, corners) == pytest.approx(0, abs=1e-12)
    same = latents(np.tile([[1.0, 0], [0, 1.0]], (3, 1)), np.repeat([0, 1, 2], 2))  # class means coincide
    assert math.isnan(signal_geometry.neural_collapse(None, same))
    assert math.isnan(signal_geometry.neural_collapse(None, latents(np.eye(3), [0, 0, 0])))
    assert math.isnan(signal_geometry.neural_collapse(None, latents(np.ones((6, 2)), [0, 0, 1, 1, 2, 2])))


def test_knn_margin_is_the_naive_loop():
    train, validation = cloud(5), cloud(6, count=25)
    unit = [f.z / np.linalg.norm(f.z, axis=1, keepdims=True) for f in (train, validation)]
    margins = []
    for z, label in zip(unit[1], validation.labels, strict=True):
        far = np.linalg.norm(unit[0] - z, axis=1)
        margins.append(far[train.labels != label].min() - far[train.labels == label].min())
    assert signal_geometry.knn_margin(train, validation) == pytest.approx(np.mean(margins), rel=1e-9)


def test_knn_margin_leaves_out_classes_without_neighbours():
    train = latents([[1.0, 0], [0, 1.0]], [0, 1])
    assert signal_geometry.knn_margin(train, latents([[2.0, 0], [1, 1]], [0, 7])) == pytest.approx(math.sqrt(2))
    assert math.isnan(signal_geometry.knn_margin(latents([[1.0, 0]], [0]), latents([[1.0, 0]], [0])))


def test_logit_margin_and_refined_nll():
    data = of_logits([[2, 0, 0], [0, 2, 0], [0, 0, 2], [2, 0, 0]], [0, 1, 2, 1])
    spread = math.sqrt(np.var(data.logits, axis=0).sum())
    assert signal_geometry.logit_margin(None, data) == pytest.approx((2 + 2 + 2 - 2) / 4 / spread)
    scaled = of_logits(7 * data.logits + 3, data.labels)
    assert signal_geometry.logit_margin(None, scaled) == pytest.approx(signal_geometry.logit_margin(None, data))
    assert signal_geometry.refined_nll(None, scaled) == pytest.approx(signal_geometry.refined_nll(None, data), rel=1e-6)
    assert signal_geometry.refined_nll(None, scaled) < metrics.nll(scaled.logits, scaled.labels) - 0.5
    grid = min(metrics.nll(data.logits / t, data.labels) for t in np.geomspace(0.05, 100, 4000))
    assert signal_geometry.refined_nll(None, data) == pytest.approx(grid, abs=1e-5)
    assert math.isnan(signal_geometry.logit_margin(None, of_logits(np.ones((3, 2)), [0, 1, 0])))


def test_balanced_accuracy_counts_classes_alike():
    data = of_logits([[1, 0], [1, 0], [1, 0], [1, 0]], [0, 0, 0, 1])
    assert signal_geometry.balanced_accuracy(None, data) == 0.5


def test_balanced_accuracy_of_unequal_classes_is_that_of_scikit_learn():
    from sklearn.metrics import balanced_accuracy_score

    random = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2, 3], [100, 30, 7, 3])
    logits = random.normal(size=(len(labels), 4)) + 1.5 * np.eye(4)[labels] + np.array([1, 0, 0, 0])
    expected = balanced_accuracy_score(labels, logits.argmax(1))
    assert signal_geometry.balanced_accuracy(None, of_logits(logits, labels)) == pytest.approx(expected)
    assert abs(expected - metrics.closed_set_accuracy(logits, labels)) > 0.05


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 100))
def test_neither_scale_nor_rotation_nor_order_counts(seed, scale):
    train, validation = cloud(seed), cloud(seed + 1)
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(5, 5)))[0]
    order = np.random.default_rng(seed).permutation(len(validation))
    turned = [Features(f.logits, scale * f.z @ turn, f.labels) for f in (train, validation)]
    for name in ("effective_rank", "rankme", "neural_collapse", "knn_margin"):
        function = getattr(signal_geometry, name)
        assert function(*turned) == pytest.approx(function(train, validation), rel=1e-6), name
        assert function(train, validation.select(order)) == pytest.approx(function(train, validation), rel=1e-9), name


@pytest.mark.parametrize("name", GEOMETRY)
def test_a_diverged_network_gives_no_number_and_no_error(name):
    broken = features()
    z, logits = broken.z.copy(), broken.logits.copy()
    z[3], logits[3] = np.nan, np.inf
    bad = Features(logits, z, broken.labels)
    assert math.isnan(get_signal(name).compute(bad, bad))


@pytest.mark.parametrize("name", GEOMETRY)
def test_a_dead_network_is_never_best(name):
    dead = Features(np.zeros((60, 3), np.float32), np.zeros((60, 4), np.float32), np.arange(60) % 3)
    value = get_signal(name).compute(dead, dead)
    worst = {"effective_rank": 0.0, "rankme": 0.0, "knn_margin": 0.0, "refined_nll": math.log(3)}
    assert math.isnan(value) if name not in worst else value == pytest.approx(worst[name])


def test_the_cost_of_a_trial_is_small():
    random = np.random.default_rng(0)

    def made(count):
        labels = random.integers(0, 6, count)
        z = random.normal(size=(count, 128)).astype(np.float32)
        z[np.arange(count), labels] += 3
        return Features(z[:, :6].copy(), z, labels)

    train, validation = made(3600), made(1200)
    for name, compute in computed_signals().items():
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            value = compute(train, validation)
            seconds.append(time.perf_counter() - start)
        assert min(seconds) < 0.1, f"{name}: {min(seconds):.3f} s"
        assert value == compute(train, validation), name


def test_many_images_are_drawn_from_all_of_them():
    """Sorted by class, as data often lie: the first thousand alone would hold one class."""
    data = cloud(2, count=6000)
    ordered = data.select(np.argsort(data.labels, kind="stable"))
    for name in ("effective_rank", "neural_collapse", "knn_margin", "rankme"):
        function = getattr(signal_geometry, name)
        assert function(ordered, ordered) == pytest.approx(function(data, data), rel=0.15), name


def test_missing_signals_are_those_that_the_record_lacks():
    train, validation = features(), features(seed=1, count=60)
    found = missing_signals({"val_nll": 9.0, "rankme": None, "synthetic_outlier_auroc": 0.5}, train, validation)
    assert set(found) == set(computed_signals()) - {"val_nll", "rankme"}
    assert found["val_accuracy"] == metrics.closed_set_accuracy(validation.logits, validation.labels)
    assert missing_signals(found | {"val_nll": 1, "rankme": 1}, train, validation) == {}
