"""How far one method is ahead of another in revealed AUROC, and whether that is more than noise.

With several splits the paired differences must exclude zero (t interval over the splits both methods have). With one
split the difference of two AUROCs must: from reveal's paired DeLong interval where it recorded one, else from the rows'
own 95 % intervals (method of variance estimates recovery, Zou & Donner, Statistics in Medicine 2008), taken as
independent, which is the cautious side for two scores of the same images. The level is 0.95, divided among the rivals
when the best of several methods is compared with each (Bonferroni).
"""
from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist, stdev
from typing import Any

from analysis import summary_rows as rows


@dataclass(frozen=True)
class Comparison:
    """`first` minus `second` in revealed AUROC of the frozen rule, with an interval and where that came from."""

    first: str
    second: str
    difference: float
    low: float | None
    high: float | None
    basis: str  # "splits" | "images" | "paired" | "none"
    splits: int
    drowned_by_seeds: bool = False
    means: tuple[float, float] | None = None  # of the two, over the splits they share
    rivals: int = 1

    @property
    def beyond_noise(self) -> bool:
        return self.low is not None and self.low > 0 and not self.drowned_by_seeds


def revealed_order(summary: Mapping[str, Any]) -> list[str]:
    """Methods by the mean over splits of their selected trials' AUROC (frozen rule), best first.

    Those that lack splits which others have (all their trials failed there) come last: means over different splits, some
    harder than others, say nothing about the methods.
    """
    means = {m: method_mean(summary, m, "scorer_auroc") for m in rows.method_names(summary)}
    known = {method: value for method, value in means.items() if value is not None}
    return sorted(known, key=lambda method: (-len(by_split(summary, method)), -known[method]))


def compare(summary: Mapping[str, Any], first: str, second: str, *, rivals: int = 1) -> Comparison:
    """How far `first` is ahead of `second` on the splits they share, at level 0.95 / `rivals`."""
    ours, theirs = by_split(summary, first), by_split(summary, second)
    shared = [split for split in ours if split in theirs]
    differences = [ours[s]["scorer_auroc"] - theirs[s]["scorer_auroc"] for s in shared]
    if not differences:
        gap = (method_mean(summary, first, "scorer_auroc") or 0) - (method_mean(summary, second, "scorer_auroc") or 0)
        return Comparison(first, second, gap, None, None, "none", 0)
    centre = sum(differences) / len(differences)
    means = tuple(sum(found[s]["scorer_auroc"] for s in shared) / len(shared) for found in (ours, theirs))
    more = {"means": means, "rivals": rivals}
    drowned = abs(centre) < 1.96 * seed_spread(summary, first, second, shared)
    independent = rows.over_distinct_classes(summary, dict(zip(shared, differences, strict=True)))
    if len(independent) > 1:
        low, high = mean_interval(independent, rivals=rivals)
        shift = centre - sum(independent) / len(independent)  # splits of one class set count once there, each here
        low, high = low + shift, high + shift
        return Comparison(first, second, centre, low, high, "splits", len(shared), drowned, **more)
    # one set of classes: splits of it differ by images alone, so each one's interval about its own difference holds
    paired = [_paired(summary, first, second, split) for split in shared]
    basis, widen = ("paired", _widening(rivals)) if None not in paired else ("images", 1.0)
    limits = paired if basis == "paired" else [recovered_interval(ours[s], theirs[s], rivals) for s in shared]
    if None in limits:
        return Comparison(first, second, centre, None, None, "none", 1, drowned, **more)
    below = sum(d - low for d, (low, _) in zip(differences, limits, strict=True)) / len(shared) * widen
    above = sum(high - d for d, (_, high) in zip(differences, limits, strict=True)) / len(shared) * widen
    return Comparison(first, second, centre, centre - below, centre + above, basis, 1, drowned, **more)


def mean_interval(values: list[float], *, rivals: int = 1) -> tuple[float, float]:
    """t interval of the mean of at least two values, at level 0.95 divided among the rivals."""
    centre = sum(values) / len(values)
    reach = _t_quantile(len(values) - 1, rivals) * stdev(values) / math.sqrt(len(values))
    return centre - reach, centre + reach


def _t_quantile(freedom: int, rivals: int) -> float:
    from scipy.stats import t  # scipy.stats takes long to import, and most callers have one split

    return float(t.ppf(1 - 0.025 / rivals, freedom))


def _widening(rivals: int) -> float:
    """How much wider a normal interval is at the level divided among the rivals than at 0.95."""
    return NormalDist().inv_cdf(1 - 0.025 / rivals) / NormalDist().inv_cdf(0.975)


def recovered_interval(ours: rows.Row, theirs: rows.Row, rivals: int = 1) -> tuple[float, float] | None:
    """Interval of the difference of two rows' AUROCs from their own, taken as independent (Zou & Donner 2008); None
    where a row has none."""
    a, b = rows.interval(ours.get("scorer_auroc_ci")), rows.interval(theirs.get("scorer_auroc_ci"))
    if a is None or b is None:
        return None
    x, y = ours["scorer_auroc"], theirs["scorer_auroc"]
    widen = _widening(rivals)
    below = math.hypot(max(x - a[0], 0), max(b[1] - y, 0)) * widen
    above = math.hypot(max(a[1] - x, 0), max(y - b[0], 0)) * widen
    return x - y - below, x - y + above


def _paired(summary: Mapping[str, Any], first: str, second: str, split: object) -> tuple[float, float] | None:
    """A paired DeLong interval, where reveal recorded one: summary["comparisons"] = [{first, second, split, ci}]."""
    for item in summary.get("comparisons") or []:
        if item.get("split", 0) != split or {item.get("first"), item.get("second")} != {first, second}:
            continue
        pair = rows.interval(item.get("ci"))
        if pair is not None:
            return pair if item.get("first") == first else (-pair[1], -pair[0])
    return None


def seed_spread(summary: Mapping[str, Any], first: str, second: str, splits: list[Any]) -> float:
    """Standard deviation of the mean difference over `splits` that the training seed alone makes; 0 when no seed was
    repeated."""
    variances: list[float] = []
    for method in (first, second):
        spreads, chosen = [], by_split(summary, method)
        for split in splits:
            again = [r.get("scorer_auroc") for r in rows.retrained_rows(summary, method, split)]
            values = [rows.finite(v) for v in [chosen[split]["scorer_auroc"], *again]]
            known = [value for value in values if value is not None]
            if len(known) > 1:
                spreads.append(stdev(known) ** 2)
        if spreads:
            variances.append(sum(spreads) / len(spreads) / len(splits))
    return math.sqrt(sum(variances))


def by_split(summary: Mapping[str, Any], method: str) -> dict[Any, rows.Row]:
    return {
        row.get("split", 0): row for row in rows.selected_rows(summary)
        if row["method"] == method and rows.finite(row.get("scorer_auroc")) is not None
    }


def method_mean(summary: Mapping[str, Any], method: str, field: str) -> float | None:
    return rows.mean(row.get(field) for row in rows.selected_rows(summary) if row["method"] == method)
