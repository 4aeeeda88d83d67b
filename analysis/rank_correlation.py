"""Rank correlations over the trials of a study, and how sure they are."""
from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from statistics import NormalDist
from typing import Any, NamedTuple

from analysis import summary_rows as rows

ENOUGH_FOR_TAU = 8  # Kendall's tau of fewer pairs says next to nothing
ENOUGH_FOR_RHO = 6
ENOUGH_SPLITS = 3  # distinct sets of nominal classes from which an interval over splits is taken
NEARLY_ONE = 0.99  # Fisher's z of ±1 is infinite; six trials in perfect order are no proof of a perfect relation


class Rho(NamedTuple):
    """Spearman's ρ over `n` trials of `splits` splits, pooled on Fisher's z scale, with its interval."""

    value: float
    low: float
    high: float
    n: int
    splits: int

    @property
    def sign(self) -> int:
        """+1 or −1 where the interval leaves out 0, else 0: within noise."""
        return (self.low > 0) - (self.high < 0)


class Tau(NamedTuple):
    """Mean of the splits' Kendall τ-b with its 95 % interval and whence that comes: "splits", "trials" or "none"."""

    value: float
    low: float | None
    high: float | None
    basis: str
    splits: int

    @property
    def sign(self) -> int:
        """+1 or −1 where the interval leaves out 0, else 0: within noise or not known."""
        return 0 if self.low is None else (self.low > 0) - (self.high < 0)


def kendall_tau(x: list[float | None], y: list[float | None]) -> float | None:
    """Kendall's τ-b of the pairs that are complete; None for fewer than eight or when one side never changes."""
    pairs = [(a, b) for a, b in zip(x, y, strict=False) if a is not None and b is not None]
    if len(pairs) < ENOUGH_FOR_TAU:
        return None
    from scipy.stats import kendalltau

    return rows.finite(kendalltau(*zip(*pairs, strict=True)).statistic)


def spearman(x: list[float], y: list[float]) -> float | None:
    """Spearman's ρ, ties at their mean rank; None when one side never changes."""
    if len(set(x)) < 2 or len(set(y)) < 2:
        return None
    from scipy.stats import spearmanr

    return rows.finite(spearmanr(x, y).statistic)


def pooled_spearman(samples: Iterable[tuple[list[float], list[float]]], *, level: float = 0.95) -> Rho | None:
    """ρ of each sample (the trials of one split) with at least six pairs, averaged on Fisher's z scale.

    Weights and interval by the variance (1 + ρ²/2)/(n − 3) of Bonett & Wright, Psychometrika 2000; samples are taken as
    independent. None when no sample has six pairs in which both sides change.
    """
    weights, found, pairs = [], [], 0
    for x, y in samples:
        rho = spearman(x, y) if len(x) >= ENOUGH_FOR_RHO else None
        if rho is None:
            continue
        weights.append((len(x) - 3) / (1 + rho**2 / 2))
        found.append(math.atanh(max(-NEARLY_ONE, min(NEARLY_ONE, rho))))
        pairs += len(x)
    if not found:
        return None
    centre = sum(w * z for w, z in zip(weights, found, strict=True)) / sum(weights)
    reach = NormalDist().inv_cdf(0.5 + level / 2) / math.sqrt(sum(weights))
    return Rho(math.tanh(centre), math.tanh(centre - reach), math.tanh(centre + reach), pairs, len(found))


def mean_tau(
    summary: Mapping[str, Any], taus: Mapping[Any, float | None], counts: Mapping[Any, int | None]
) -> Tau | None:
    """Mean of the τ of each split, `counts` trials in it; None where no split has one.

    "splits": t interval over three or more sets of nominal classes; it holds for splits not yet seen. "trials": with
    fewer, Fisher's z of each τ with variance 0.437/(n − 4) (Fieller, Hartley & Pearson, Biometrika 1957; for |τ| below
    about 0.8 and few ties), trials taken as independent; it holds for further trials of the same splits only.
    """
    known = {split: tau for split, tau in taus.items() if tau is not None}
    if not known:
        return None
    centre = sum(known.values()) / len(known)
    draws = rows.over_distinct_classes(summary, known)
    if len(draws) >= ENOUGH_SPLITS:
        from analysis.comparison import mean_interval

        low, high = mean_interval(draws)
        shift = centre - sum(draws) / len(draws)  # splits of one class set count once there, each here
        return Tau(centre, max(-1.0, low + shift), min(1.0, high + shift), "splits", len(known))
    if any((counts.get(split) or 0) < ENOUGH_FOR_TAU for split in known):
        return Tau(centre, None, None, "none", len(known))
    error = math.sqrt(sum(0.437 / (counts[split] - 4) for split in known)) / len(known)
    middle, reach = math.atanh(max(-NEARLY_ONE, min(NEARLY_ONE, centre))), NormalDist().inv_cdf(0.975) * error
    return Tau(centre, math.tanh(middle - reach), math.tanh(middle + reach), "trials", len(known))
