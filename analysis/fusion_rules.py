"""How the scores of several scorers become one: standardised scores, empirical CDFs, and the rules that join them.

Everything is learned from *nominal validation* scores, never from an anomaly. Rules work on standardised scores,
(s - mean) / max(sd, 1e-12); those of a fold job are standardised already, and give the same fused score.

``ecdf_mean``: each member's empirical CDF on nominal validation scores, ties counted half (mid-rank), then their mean.
A CDF cannot tell apart what lies beyond the last validation score, so it is continued there: a score that exceeds the
largest by x standard deviations gets 1 + log(1 + x) / n (n validation images), one that is below the smallest by x gets
-log(1 + x) / n. The tail orders every score, and weighs little: x = e - 1 is worth the step of one image.

``fisher_sum``, ``fisher_family``: Fisher's method (R. A. Fisher, "Statistical Methods for Research Workers", 1925)
with normal tails: the sum of -log p, p = 1 - Φ(standardised score), over members or over families' means. The p of a
family's mean is taken as if that had variance 1; its true one is smaller, so a family counts less than it could.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

RULES = ("best", "top_half_mean", "top3_mean", "all_mean", "family_mean", "ecdf_mean", "fisher_sum", "fisher_family")
RULES_WITHOUT_FOLDS = ("all_mean", "family_mean", "ecdf_mean", "fisher_sum", "fisher_family")
ECDF_MEAN, BY_FAMILY, BY_TAILS = "ecdf_mean", ("family_mean", "fisher_family"), ("fisher_sum", "fisher_family")
SMALLEST_SD = 1e-12


@dataclass(frozen=True)
class Standardiser:
    """(score - mean) / max(sd, 1e-12), mean and sd (population) of nominal validation scores."""

    mean: float
    sd: float

    @classmethod
    def fit(cls, nominal_score) -> Standardiser:
        """ValueError for no scores or scores that are not finite."""
        scores = np.asarray(nominal_score, dtype=np.float64)
        if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
            raise ValueError("standardising needs a vector of finite nominal validation scores")
        return cls(float(scores.mean()), float(scores.std()))

    def __call__(self, score) -> np.ndarray:
        return (np.asarray(score, dtype=np.float64) - self.mean) / max(self.sd, SMALLEST_SD)


def ecdf(ordered: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Continued empirical CDF (module docstring) of standardised scores (N,), float64; ``ordered``: standardised
    nominal validation scores (n,), n >= 1, rising."""
    below, up_to = np.searchsorted(ordered, score, "left"), np.searchsorted(ordered, score, "right")
    beyond = np.log1p(np.maximum(score - ordered[-1], 0)) - np.log1p(np.maximum(ordered[0] - score, 0))
    return ((below + up_to) / 2 + beyond) / len(ordered)


def surprise(standardised: np.ndarray) -> np.ndarray:
    """-log p of standardised scores, p = 1 - Φ(score): 0.69 at the mean, about score²/2 far above it."""
    from scipy.special import log_ndtr

    return -log_ndtr(-np.asarray(standardised, dtype=np.float64))


def fuse(rule: str, standardised: Mapping[str, np.ndarray], families: Mapping[str, str], *,
         nominal: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
    """One score (N,) from standardised members, by any rule (a scorer's name: the mean of that one member).

    ``families``: family by member, for the rules over families. ``nominal``: the members' standardised nominal
    validation scores (n,) in any order, which ``ecdf_mean`` alone asks for (ValueError without them).
    """
    scores = [np.asarray(score, dtype=np.float64) for score in standardised.values()]
    if rule == ECDF_MEAN:
        if nominal is None:
            raise ValueError("ecdf_mean needs nominal validation scores")
        scores = [ecdf(np.sort(nominal[name]), score) for name, score in zip(standardised, scores, strict=True)]
    if rule in BY_FAMILY:
        groups: dict[str, list[np.ndarray]] = {}
        for name, score in zip(standardised, scores, strict=True):
            groups.setdefault(families[name], []).append(score)
        scores = [np.mean(group, axis=0) for group in groups.values()]
    if rule in BY_TAILS:
        return np.sum([surprise(score) for score in scores], axis=0)
    return np.mean(scores, axis=0)
