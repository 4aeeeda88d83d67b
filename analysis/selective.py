"""Selective prediction: what is wrong among the images that are accepted, against how many are.

Images are accepted from the lowest anomaly score up. The risk at a coverage is the share of errors among the accepted
(Geifman & El-Yaniv, "Selective Classification for Deep Neural Networks", 2017); AURC is its mean over the coverages
1/n, 2/n … 1, and E-AURC what is above the best order of the same errors (Geifman, Uziel & El-Yaniv, "Bias-Reduced
Uncertainty Estimation", 2019). Tied images stand in random order, and every number is its expectation: within a tie errors
grow linearly.
"""

from __future__ import annotations

import numpy as np


def _checked(anomaly_score, is_error) -> tuple[np.ndarray, np.ndarray]:
    scores, errors = np.asarray(anomaly_score, dtype=np.float64), np.asarray(is_error)
    if scores.ndim != 1 or scores.shape != errors.shape or not len(scores):
        raise ValueError(f"anomaly_score and is_error must be vectors of one length, not {scores.shape} and {errors.shape}")
    if np.isnan(scores).any():
        raise ValueError("anomaly_score holds NaN")
    return scores, errors.astype(bool)


def risk_coverage_curve(anomaly_score, is_error) -> tuple[np.ndarray, np.ndarray]:
    """Coverage k/n and the expected risk at it, both (n,), for k = 1 … n of the n images.

    ``is_error`` (n,): whether an image is an error when it is accepted. ValueError for no image, NaN or other shapes.
    """
    scores, errors = _checked(anomaly_score, is_error)
    order = np.argsort(scores, kind="stable")
    ordered, total = scores[order], np.cumsum(errors[order])
    ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(scores) - 1) + 1
    accepted = np.arange(1, len(scores) + 1)
    expected = np.interp(accepted, np.append(0, ends), np.append(0, total[ends - 1]))
    return accepted / len(scores), expected / accepted


def aurc(anomaly_score, is_error) -> float:
    """Area under the risk–coverage curve: mean risk over all coverages, 0..1, lower is better."""
    return float(risk_coverage_curve(anomaly_score, is_error)[1].mean())


def best_aurc(is_error) -> float:
    """AURC of the order that puts every error last: what no score can beat at this accuracy."""
    errors = np.asarray(is_error).astype(bool)
    return aurc(errors.astype(np.float64), errors)


def excess_aurc(anomaly_score, is_error) -> float:
    """E-AURC: AURC above that of the best order, 0 or more."""
    return aurc(anomaly_score, is_error) - best_aurc(is_error)


def open_set_errors(is_anomaly, correct) -> np.ndarray:
    """Which images (N,) are errors when accepted: every anomaly, and nominal images of a wrong class."""
    mask = np.asarray(is_anomaly).astype(bool)
    return mask | ~np.asarray(correct).astype(bool)


def thinned(coverage: np.ndarray, risk: np.ndarray, points: int = 50) -> dict[str, list[float]]:
    """{"coverage", "risk"}: at most so many points, evenly spaced in coverage, the last one always."""
    keep = np.unique(np.ceil(np.linspace(1 / points, 1, points) * len(coverage)).astype(int) - 1)
    return {"coverage": [round(float(x), 4) for x in coverage[keep]], "risk": [round(float(x), 5) for x in risk[keep]]}


def acceptance_interval(aimed: float, validation: int, test: int, level: float = 0.95) -> tuple[float, float]:
    """Where the share of accepted test images lies with that probability, when the threshold is the k-th smallest of
    ``validation`` scores, k = ceil(aimed · validation), and all scores are exchangeable and without ties.

    The number accepted is then beta-binomial, BetaBin(test, k, validation + 1 − k) (Vovk, "Conditional Validity of
    Inductive Conformal Predictors", 2012; Angelopoulos & Bates 2023, section 3.2).
    """
    from scipy.stats import betabinom

    k = int(np.ceil(aimed * validation - 1e-9))
    law = betabinom(test, k, validation + 1 - k)
    return float(law.ppf((1 - level) / 2) / test), float(law.ppf((1 + level) / 2) / test)
