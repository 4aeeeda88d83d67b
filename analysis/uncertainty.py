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

from analysis.metrics import auroc, check_scores, midranks


class Paired(NamedTuple):
    """AUROC of a minus AUROC of b, its interval, the two-sided p-value of "no difference" and its z."""

    difference: float
    low: float
    high: float
    p_value: float
    z: float


def _placements(scores: np.ndarray, mask: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """AUROC; per anomaly the share of nominal images below it; per nominal image the share of anomalies above."""
    ranks = midranks(scores)
    anomalies, nominal = int(mask.sum()), int((~mask).sum())
    of_anomalies = (ranks[mask] - midranks(scores[mask])) / nominal
    of_nominal = 1 - (ranks[~mask] - midranks(scores[~mask])) / anomalies
    return float(of_anomalies.mean()), of_anomalies, of_nominal


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
    quantile = _normal_quantile(level)
    scores, mask = check_scores(anomaly_score, is_anomaly)
    _, of_anomalies, of_nominal = _placements(scores, mask)
    area = auroc(scores, mask)
    variance = _variance(of_anomalies, of_nominal)
    if variance == 0.0 or area in (0.0, 1.0):
        return (area, *_degenerate_interval(area, min(len(of_anomalies), len(of_nominal)), level))
    centre = math.log(area / (1 - area))
    reach = quantile * math.sqrt(variance) / (area * (1 - area))
    return area, _expit(centre - reach), _expit(centre + reach)


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
    quantile = _normal_quantile(level)
    a, mask = check_scores(score_a, is_anomaly)
    b, _ = check_scores(score_b, is_anomaly)
    _, anomalies_a, nominal_a = _placements(a, mask)
    _, anomalies_b, nominal_b = _placements(b, mask)
    difference = auroc(a, mask) - auroc(b, mask)
    variance = _variance(anomalies_a - anomalies_b, nominal_a - nominal_b)
    if variance > 0.0:
        error = math.sqrt(variance)
        z = difference / error
        p_value = math.erfc(abs(z) / math.sqrt(2))
        return Paired(difference, max(-1.0, difference - quantile * error), min(1.0, difference + quantile * error),
                      p_value, z)
    if np.array_equal(midranks(a), midranks(b)):
        return Paired(0.0, 0.0, 0.0, 1.0, 0.0)
    return _degenerate_paired(a, b, mask, difference, level)


def _degenerate_paired(a: np.ndarray, b: np.ndarray, mask: np.ndarray, difference: float, level: float) -> Paired:
    from statistics import NormalDist

    half_error = 1 - (1 - level) / 2
    _, low_a, high_a = delong_interval(a, mask, half_error)
    _, low_b, high_b = delong_interval(b, mask, half_error)
    pairs = min(int(mask.sum()), int((~mask).sum()))
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
