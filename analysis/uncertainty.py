"""Intervals for AUROC and for differences of AUROC on the same images.

DeLong's variance (DeLong, DeLong & Clarke-Pearson 1988) by midranks (Sun & Xu 2014, O(N log N)). Single AUROCs
are put on the logit scale, so that an interval never leaves 0..1. DeLong's variance is zero where the scores
separate the classes wholly; what is used there instead is exact or conservative and said below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from analysis.metrics import check_scores, midranks


class Paired(NamedTuple):
    """AUROC of a minus AUROC of b, its interval, the two-sided p-value of "no difference" and its z."""

    difference: float
    low: float
    high: float
    p_value: float
    z: float


class Placements(NamedTuple):
    """What DeLong's variances are made of: AUROC; per anomaly the share of nominal images below it, per nominal image
    the share of anomalies above it, ties counted half. Paired tests of two scores need nothing else of them."""

    area: float
    of_anomalies: np.ndarray
    of_nominal: np.ndarray


def placements(anomaly_score, is_anomaly) -> Placements:
    """Of scores (N,) against the mask (N,), in the images' order; errors as ``metrics.check_scores``."""
    scores, mask = check_scores(anomaly_score, is_anomaly)
    ranks = midranks(scores)
    anomalies, nominal = int(mask.sum()), int((~mask).sum())
    of_anomalies = (ranks[mask] - midranks(scores[mask])) / nominal
    of_nominal = 1 - (ranks[~mask] - midranks(scores[~mask])) / anomalies
    area = float((ranks[mask].sum() - anomalies * (anomalies + 1) / 2) / (anomalies * nominal))
    return Placements(area, of_anomalies, of_nominal)


def _variance(of_anomalies: np.ndarray, of_nominal: np.ndarray) -> float:
    """DeLong's variance; 0 when it cannot be estimated (a class of one image)."""
    if min(len(of_anomalies), len(of_nominal)) < 2:
        return 0.0
    variance = of_anomalies.var(ddof=1) / len(of_anomalies) + of_nominal.var(ddof=1) / len(of_nominal)
    return float(variance) if variance > 1e-20 else 0.0  # below: rounding of equal placements


def _normal_quantile(level: float) -> float:
    from statistics import NormalDist

    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), not {level}")
    return NormalDist().inv_cdf(0.5 + level / 2)


def _degenerate_interval(area: float, pairs: int, level: float) -> tuple[float, float]:
    """Interval without a variance, from the min(anomalies, nominal) disjoint pairs that the images hold.

    AUROC 1: all disjoint pairs are in order, which has probability AUROC**pairs, so the exact one-sided bound is
    (1 - level)**(1/pairs), about 1 - 3/pairs at 95 % (the rule of three); AUROC 0 by symmetry. Between (constant
    scores, a class of one image): Hoeffding's bound for U-statistics, valid for any scores.
    """
    alpha = 1 - level
    if area == 1.0:
        return alpha ** (1 / pairs), 1.0
    if area == 0.0:
        return 0.0, 1 - alpha ** (1 / pairs)
    reach = math.sqrt(math.log(2 / alpha) / (2 * pairs))
    return max(0.0, area - reach), min(1.0, area + reach)


def delong_interval(anomaly_score, is_anomaly, level: float = 0.95) -> tuple[float, float, float]:
    """(AUROC, low, high) of scores (N,) against the mask (N,), on the logit scale; ties count half.

    At AUROC 1 or 0, and where the variance is zero or cannot be estimated, an exact or conservative bound from
    disjoint pairs. Errors as ``metrics.check_scores``.
    """
    found = placements(anomaly_score, is_anomaly)
    return (found.area, *_single_interval(found, level))


def _single_interval(found: Placements, level: float) -> tuple[float, float]:
    quantile = _normal_quantile(level)
    area, variance = found.area, _variance(found.of_anomalies, found.of_nominal)
    if variance == 0.0 or area in (0.0, 1.0):
        return _degenerate_interval(area, min(len(found.of_anomalies), len(found.of_nominal)), level)
    centre = math.log(area / (1 - area))
    reach = quantile * math.sqrt(variance) / (area * (1 - area))
    return _expit(centre - reach), _expit(centre + reach)


def _expit(value: float) -> float:
    if value >= 0:
        return 1 / (1 + math.exp(-value))
    return math.exp(value) / (1 + math.exp(value))


def paired_delong(score_a, score_b, is_anomaly, level: float = 0.95) -> Paired:
    """Difference AUROC(a) - AUROC(b) of two scores of the same images, (N,) each, by DeLong's paired test.

    The interval is difference ± z·se, cut to -1..1. Without a variance (both scores separate perfectly, a class of
    one image): scores that order the images alike differ by exactly 0; else the interval combines two single
    intervals at half the error each (Bonferroni) and the p-value is Hoeffding's. ``z`` is always finite.
    """
    a, mask = check_scores(score_a, is_anomaly)
    b, _ = check_scores(score_b, is_anomaly)
    if np.array_equal(midranks(a), midranks(b)):
        _normal_quantile(level)  # a wrong level is refused here too
        return Paired(0.0, 0.0, 0.0, 1.0, 0.0)
    return paired_placements(placements(a, mask), placements(b, mask), level)


def paired_placements(a: Placements, b: Placements, level: float = 0.95) -> Paired:
    """``paired_delong`` of two scores whose placements are known, of the same images in the same order. Equal placements mean
    that every pair of images is ordered alike, so the difference is exactly 0; of two perfect scores (AUROC 0 or 1) that
    says nothing, and the interval stays wide. ValueError where the numbers of images differ."""
    quantile = _normal_quantile(level)
    if [len(part) for part in a[1:]] != [len(part) for part in b[1:]]:
        raise ValueError("placements of two scores need the same anomalies and nominal images")
    difference = a.area - b.area
    variance = _variance(a.of_anomalies - b.of_anomalies, a.of_nominal - b.of_nominal)
    if variance == 0.0:
        alike = all(np.array_equal(one, other) for one, other in zip(a[1:], b[1:], strict=True))
        if alike and 0.0 < a.area == b.area < 1.0:
            return Paired(0.0, 0.0, 0.0, 1.0, 0.0)
        return _degenerate_paired(a, b, level)
    error = math.sqrt(variance)
    z = difference / error
    p_value = math.erfc(abs(z) / math.sqrt(2))
    return Paired(difference, max(-1.0, difference - quantile * error), min(1.0, difference + quantile * error), p_value, z)


def _degenerate_paired(a: Placements, b: Placements, level: float) -> Paired:
    from statistics import NormalDist

    difference, half_error = a.area - b.area, 1 - (1 - level) / 2
    low_a, high_a = _single_interval(a, half_error)
    low_b, high_b = _single_interval(b, half_error)
    pairs = min(len(a.of_anomalies), len(a.of_nominal))
    p_value = min(1.0, 2 * math.exp(-pairs * difference**2 / 2))
    z = math.copysign(NormalDist().inv_cdf(1 - max(p_value, 1e-15) / 2), difference) if p_value < 1 else 0.0
    return Paired(difference, max(-1.0, low_a - high_b), min(1.0, high_a - low_b), p_value, z)


def bootstrap_interval(metric: Callable[..., float], anomaly_score, is_anomaly, *, level: float = 0.95,
                       resamples: int = 1000, seed: int = 0) -> tuple[float, float, float]:
    """(value, low, high) of ``metric(anomaly_score, is_anomaly)``: percentiles over images drawn with replacement,
    anomalies and nominal images apart, so that both stay present. For metrics without an interval of their own."""
    scores, mask = check_scores(anomaly_score, is_anomaly)
    generator = np.random.default_rng(seed)
    groups = np.flatnonzero(mask), np.flatnonzero(~mask)
    values = np.empty(resamples)
    for number in range(resamples):
        drawn = np.concatenate([generator.choice(group, len(group)) for group in groups])
        values[number] = metric(scores[drawn], mask[drawn])
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(metric(scores, mask)), float(low), float(high)


def mean_and_standard_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean of the values over seeds or splits and sd/sqrt(n) with n - 1 degrees; None for a single value."""
    numbers = np.asarray(values, dtype=np.float64)
    if not numbers.size:
        raise ValueError("no values to average")
    error = float(numbers.std(ddof=1) / math.sqrt(numbers.size)) if numbers.size > 1 else None
    return float(numbers.mean()), error
