"""Signals told by the shape of nominal features: how many directions latents use, how tight classes lie, how far apart.

Each is a function of nominal training and validation ``Features`` and gives one number, or NaN where it is not defined
(latents that are not finite, one class, a network that sees no difference between classes): NaN is never chosen. All
take well under 0.1 s (latents of 128 numbers), since no more than ``TRAIN_IMAGES`` and ``VALIDATION_IMAGES`` images are
looked at, drawn by a fixed seed. ``analysis.signals`` says in which direction each points, and after which paper; that
was settled before any of them was compared with anomalies.
"""

from __future__ import annotations

import math

import numpy as np

from analysis import metrics
from analysis.scorer_base import Features

TRAIN_IMAGES, VALIDATION_IMAGES = 2000, 1000
NOTHING = 1e-7  # of the largest singular value; what rounding of float32 latents leaves lies below


def effective_rank(train: Features, validation: Features) -> float:
    """Effective rank of the validation latents (N, D) about their mean: 1..min(N - 1, D), or 0 where all are equal.

    exp of the entropy of the singular values' shares: Roy & Vetterli, EUSIPCO 2007.
    """
    z = _latents(validation, VALIDATION_IMAGES)
    return math.nan if z is None else _exp_entropy(z - z.mean(axis=0))


def rankme(train: Features, validation: Features) -> float:
    """The same of training latents about 0, which RankMe (Garrido et al., ICML 2023) defines so."""
    z = _latents(train, TRAIN_IMAGES)
    return math.nan if z is None else _exp_entropy(z)


def neural_collapse(train: Features, validation: Features) -> float:
    """NC1 of Papyan, Han & Donoho (2020) on validation latents: trace(Σ_W Σ_B⁺) / K, 0 where each class is one point.

    Σ_W: mean covariance within classes; Σ_B: covariance of the K class means, each class counted once. Rotating or
    scaling the latents changes nothing. NaN where class means span fewer than min(K - 1, D) directions.
    """
    z, labels = _latents(validation, VALIDATION_IMAGES), _labels(validation, VALIDATION_IMAGES)
    if z is None or labels is None:
        return math.nan
    classes, which = np.unique(labels, return_inverse=True)
    means = np.stack([z[which == index].mean(axis=0) for index in range(len(classes))])
    _, sizes, directions = np.linalg.svd((means - means.mean(axis=0)) / math.sqrt(len(classes)), full_matrices=False)
    rank = min(len(classes) - 1, z.shape[1])
    if not rank or not sizes[0] > 0 or sizes[rank - 1] <= NOTHING * np.abs(z).max():
        return math.nan
    within = z - means[which]
    along = np.sum((within @ directions[:rank].T / sizes[:rank]) ** 2, axis=1)
    share = np.array([along[which == index].mean() for index in range(len(classes))])
    return float(share.mean() / len(classes))


def knn_margin(train: Features, validation: Features) -> float:
    """Mean over validation images of the distance to the nearest training image of another class minus that to the
    nearest one of the same, latents scaled to length 1: -2..2, positive where neighbours share the class.

    Twice the hypothesis margin of a nearest-neighbour classifier (Crammer et al. 2002; Gilad-Bachrach et al. 2004).
    """
    known, asked = _latents(train, TRAIN_IMAGES), _latents(validation, VALIDATION_IMAGES)
    labels, wanted = _labels(train, TRAIN_IMAGES), _labels(validation, VALIDATION_IMAGES)
    if known is None or asked is None or labels is None or wanted is None:
        return math.nan
    known, asked = _unit(known), _unit(asked)
    near = asked.astype(np.float32) @ known.astype(np.float32).T
    same = wanted[:, None] == labels[None, :]
    usable = same.any(axis=1) & ~same.all(axis=1)
    if not usable.any():
        return math.nan
    distances = []
    for candidates in (~same, same):  # a float32 product finds the neighbours, float64 their distance
        nearest = np.where(candidates, near, -np.inf).argmax(axis=1)
        distances.append(np.linalg.norm(asked - known[nearest], axis=1)[usable])
    return float(np.mean(distances[0] - distances[1]))


def logit_margin(train: Features, validation: Features) -> float:
    """Mean over validation images of the true class's logit minus the largest other one, in units of the logits' total
    standard deviation, so that the scale of the logits does not count. Negative where most are wrong.

    After Jiang et al., ICLR 2019, who divide a margin by the total variation of its layer.
    """
    logits = np.asarray(validation.logits, dtype=np.float64)
    if validation.labels is None or not len(logits) or logits.shape[1] < 2 or not np.isfinite(logits).all():
        return math.nan
    labels, rows = np.asarray(validation.labels), np.arange(len(logits))
    spread = math.sqrt(logits.var(axis=0).sum())
    others = logits.copy()
    others[rows, labels] = -np.inf
    margins = logits[rows, labels] - others.max(axis=1)
    return float(margins.mean() / spread) if spread > 0 else math.nan


def refined_nll(train: Features, validation: Features) -> float:
    """Validation NLL in nats after the temperature that makes it smallest: what is left once calibration is repaired.

    The refinement part of the loss, Berta et al. 2025. Label smoothing and mixup spoil calibration and so ``val_nll``.
    """
    from analysis.posthoc import best_temperature  # which loads every scorer

    logits = np.asarray(validation.logits, dtype=np.float64)
    if validation.labels is None or not len(logits) or not np.isfinite(logits).all():
        return math.nan
    return metrics.nll(logits / best_temperature(logits, validation.labels), validation.labels)


def balanced_accuracy(train: Features, validation: Features) -> float:
    """Mean over classes of the accuracy on validation images (Brodersen et al., ICPR 2010)."""
    return metrics.balanced_accuracy(validation.logits, validation.labels)


def _drawn(count: int, most: int) -> np.ndarray | slice:
    """Which images are looked at: all of them, or as many as allowed, in order, drawn by a fixed seed."""
    if count <= most:
        return slice(None)
    return np.sort(np.random.default_rng(0).permutation(count)[:most])


def _latents(features: Features, most: int) -> np.ndarray | None:
    """Latents (N, D) in float64, or None where there are none or some are not finite."""
    z = np.asarray(features.z)
    if z.ndim != 2 or not z.size:
        return None
    z = z[_drawn(len(z), most)].astype(np.float64)
    return z if np.isfinite(z).all() else None


def _labels(features: Features, most: int) -> np.ndarray | None:
    """Labels of the same images."""
    return None if features.labels is None else np.asarray(features.labels)[_drawn(len(features), most)]


def _exp_entropy(matrix: np.ndarray) -> float:
    gram = matrix.T @ matrix if matrix.shape[0] > matrix.shape[1] else matrix @ matrix.T
    sizes = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0.0))
    sizes = sizes[sizes > NOTHING * sizes.max(initial=0.0)]
    shares = sizes / sizes.sum() if len(sizes) else sizes
    return float(np.exp(-np.sum(shares * np.log(shares)))) if len(shares) else 0.0


def _unit(z: np.ndarray) -> np.ndarray:
    return z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
