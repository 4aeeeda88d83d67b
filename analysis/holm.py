"""P-values of a family of tests, adjusted for their number.

Holm's step-down procedure (S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
Statistics 1979) keeps the probability of even one false finding below the level whatever the tests depend on, and finds
at least as much as Bonferroni.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def holm(p_values: Mapping[Any, float | None] | Sequence[float | None]) -> Any:
    """Adjusted p-values, a dict for a mapping, else a list in the order given; a test is found at level α where its adjusted p is ≤ α.

    The i-th smallest of m is multiplied by m − i + 1, made no smaller than those before it, and cut to 1. None marks a
    test that could not be made: it stays None and is not counted. ValueError for NaN or a value outside 0..1.
    """
    if isinstance(p_values, Mapping):
        return dict(zip(p_values, holm(list(p_values.values())), strict=True))
    known = [(float(p), place) for place, p in enumerate(p_values) if p is not None]
    bad = [p for p, _ in known if math.isnan(p) or not 0 <= p <= 1]
    if bad:
        raise ValueError(f"a p-value lies in 0..1, not {bad[0]}")
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(sorted(known)):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[place] = largest
    return adjusted


def paired_t_p_value(differences: Sequence[float]) -> float | None:
    """Two-sided p of "the mean difference is 0" from at least two independent differences (splits, say), by Student's t.

    None for fewer than two. 1 where all are the same: then nothing is known about their noise, and nothing is claimed.
    """
    if len(differences) < 2:
        return None
    from statistics import stdev

    from scipy.stats import t  # takes long to import, and most callers have one split

    centre = math.fsum(differences) / len(differences)
    error = stdev(differences) / math.sqrt(len(differences))
    if error <= 1e-12 * max(1.0, abs(centre)):  # rounding of equal differences
        return 1.0
    return float(2 * t.sf(abs(centre) / error, len(differences) - 1))
