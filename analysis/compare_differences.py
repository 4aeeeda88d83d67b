"""By how much studies differ in what they measured, and whether that is more than noise.

Where two studies hold the same sealed test images (the digests of their vaults say so), their differences are paired,
split by split: `comparison.compare` on both, as if they were two methods of one study. Elsewhere the studies are taken
as independent: Welch's t over the splits of each, or the recovered interval of two single AUROCs. The p-values of all
comparisons are adjusted together (Holm), and a difference is called one only where its adjusted p stays below 0.05.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import NormalDist, stdev
from typing import Any

from analysis import over_splits
from analysis import summary_rows as rows
from analysis.comparison import compare

LEVEL = 0.05
#: Measures whose difference is shown, and the field of a row with each one's 95 % interval, where it has one.
INTERVALS = {"scorer": "scorer_auroc_ci", "max_logit": None, "oracle": "oracle_detector_ci",
             "representation": "oracle_representation_ci", "extraction_gap": None, "representation_gap": None,
             "accuracy": None}
#: pair(study, (method, split) of the first, the same of that study) → {measure: (difference, low, high, p)}, the other
#: study minus the first; {} where nothing can be paired.
Pairing = Callable[[int, tuple[str, Any], tuple[str, Any]], Mapping[str, tuple[float, float, float, float]]]


@dataclass(frozen=True)
class Side:
    """One study. ``label``: its name in the comparison; ``vaults`` and ``views``: {split: digest of the data}."""

    label: str
    summary: Mapping[str, Any]
    folder: str = ""
    spec: Mapping[str, Any] = field(default_factory=dict)
    stamp: Mapping[str, Any] = field(default_factory=dict)
    vaults: Mapping[Any, str] = field(default_factory=dict)
    views: Mapping[Any, str] = field(default_factory=dict)


def shared_splits(first: Side, second: Side) -> list[tuple[Any, Any]]:
    """(split of the first, split of the second) with the very same sealed images."""
    theirs = {digest: split for split, digest in second.vaults.items()}
    return [(split, theirs[digest]) for split, digest in first.vaults.items() if digest in theirs]


def differences(sides: Sequence[Side], *, pair: Pairing) -> list[dict[str, Any]]:
    """Of every study but the first: each method that both have, then the methods that each ranked first without labels,
    where those are not the same.

    {"study": number, "label", "method", "against": the first study's method, "measures": {measure: {"difference",
    "low", "high", "p_value", "basis", "splits", "means"}}, "p_adjusted", "verdict": "higher" | "lower" | "noise" |
    "unknown", "sure": "result" over several sets of classes, else "lead", "drowned_by_seeds"}. The verdict is on
    "scorer", the frozen rule. Differences are that study minus the first, with 95 % intervals; basis: "splits"
    (paired), "paired" (DeLong, same images), "unpaired splits", "images" (independent), "none".
    """
    found = []
    for number, side in enumerate(sides[1:], start=1):
        mine = rows.method_names(side.summary)
        couples = [(method, method) for method in rows.method_names(sides[0].summary) if method in mine]
        ranked = [next(iter(rows.frozen_ranking(s.summary)), None) for s in (sides[0], side)]
        if None not in ranked and ranked[0] != ranked[1]:
            couples.append((ranked[0], ranked[1]))
        for against, method in couples:
            line = _difference(sides[0], side, (against, method), partial(pair, number))
            if line["measures"]:
                found.append({"study": number, "label": side.label, "method": method, "against": against, **line})
    return _judged(found)


def _difference(first: Side, second: Side, methods: tuple[str, str], pair: Callable) -> dict[str, Any]:
    chosen = [_selected(side, method) for side, method in zip((first, second), methods, strict=True)]
    shared = [(a, b) for a, b in shared_splits(first, second) if a in chosen[0] and b in chosen[1]]
    paired = {i: pair((methods[0], a), (methods[1], b)) for i, (a, b) in enumerate(shared)}
    measures, drowned = {}, False
    for measure in INTERVALS:
        of = over_splits.MEASURES[measure]
        if shared:
            merged = _merged(first, second, methods, shared, measure, paired)
            item, lost = _paired_difference(merged, [paired[i].get(measure) for i in range(len(shared))])
            drowned = drowned or (measure == "scorer" and lost)
        else:
            item = _unpaired_difference(first, second, [{s: of(row) for s, row in c.items()} for c in chosen],
                                        INTERVALS[measure], chosen)
        if item is not None:
            measures[measure] = item
    return {"measures": measures, "drowned_by_seeds": drowned}


def _selected(side: Side, method: str) -> dict[Any, rows.Row]:
    return {row.get("split", 0): row for row in rows.selected_rows(side.summary) if row["method"] == method}


def _merged(first: Side, second: Side, methods, shared, measure: str, paired) -> dict[str, Any]:
    """Both studies as the methods "first" and "second" of one, which `comparison.compare` understands; the measure
    stands where the frozen rule's AUROC would."""
    of, made = over_splits.MEASURES[measure], []
    for side, method, name, place in ((first, methods[0], "first", 0), (second, methods[1], "second", 1)):
        for number, splits in enumerate(shared):
            wanted = [r for r in rows.selected_rows(side.summary)
                      if r["method"] == method and r.get("split", 0) == splits[place]]
            again = rows.retrained_rows(side.summary, method, splits[place])
            made += [{**row, "method": name, "split": number, "scorer_auroc": rows.finite(of(row)),
                      "scorer_auroc_ci": row.get(INTERVALS[measure]) if INTERVALS[measure] else None}
                     for row in [*wanted, *again]]
    known = first.summary.get("nominal_classes") or {}
    classes = {str(i): known.get(str(a), [f"split {a}"]) for i, (a, _) in enumerate(shared)}
    comparisons = [{"first": "second", "second": "first", "split": i, "ci": list(found[measure][1:3])}
                   for i, found in paired.items() if measure in found]
    return {"rows": made, "nominal_classes": classes, "comparisons": comparisons}


def _paired_difference(merged: Mapping[str, Any], tested: list) -> tuple[dict[str, Any] | None, bool]:
    found = compare(merged, "second", "first")
    if not found.splits and found.basis == "none":
        return None, False
    low, high, basis, p_value = found.low, found.high, found.basis, None
    if basis == "splits":
        sets = {frozenset(merged["nominal_classes"][str(split)]) for split in _both(merged)}
        p_value = _t_p_value(found.difference, (high - low) / 2, len(sets))
    elif basis == "paired" and len(tested) == 1 and tested[0] is not None:
        p_value = tested[0][3]
    elif low is not None:
        p_value = _normal_p_value(found.difference, low, high)
    if p_value is None:
        low = high = None
        basis = "none"
    means = [found.means[1], found.means[0]] if found.means else None
    return _item(found.difference, low, high, p_value, basis, len(_both(merged)), means), found.drowned_by_seeds


def _both(merged: Mapping[str, Any]) -> set[Any]:
    """Splits on which both have the measure."""
    having = [{r["split"] for r in merged["rows"] if r["method"] == name and r["scorer_auroc"] is not None}
              for name in ("first", "second")]
    return having[0] & having[1]


def _unpaired_difference(
    first: Side, second: Side, values: list[dict], ci: str | None, chosen: list[dict]
) -> dict[str, Any] | None:
    known = [{s: v for s, v in found.items() if rows.finite(v) is not None} for found in values]
    if not all(known):
        return None
    means = [sum(found.values()) / len(found) for found in known]
    draws = [rows.over_distinct_classes(side.summary, found)
             for side, found in zip((first, second), known, strict=True)]
    centre, splits = means[1] - means[0], min(map(len, known))
    if all(len(found) > 1 for found in draws):
        reach, p_value = welch(draws, centre)
        if p_value is not None:
            return _item(centre, centre - reach, centre + reach, p_value, "unpaired splits", splits, means)
    elif all(len(found) == 1 for found in draws) and ci:
        merged = {"rows": [
            {"method": name, "split": 0, "state": "completed", "selected": True, "scorer_auroc": mean,
             "scorer_auroc_ci": _mean_interval([found[s].get(ci) for s in splits_of], mean, list(splits_of.values()))}
            for name, mean, found, splits_of in zip(("first", "second"), means, chosen, known, strict=True)]}
        made = compare(merged, "second", "first")
        if made.low is not None:
            p_value = _normal_p_value(centre, made.low, made.high)
            return _item(centre, made.low, made.high, p_value, "images", splits, means)
    return _item(centre, None, None, None, "none", splits, means)


def _mean_interval(limits: list, mean: float, values: list[float]) -> list[float] | None:
    """The mean of several intervals about their own values, taken about the mean: splits of one class set."""
    pairs = [rows.interval(pair) for pair in limits]
    if None in pairs:
        return None
    below = sum(value - low for value, (low, _) in zip(values, pairs, strict=True)) / len(values)
    above = sum(high - value for value, (_, high) in zip(values, pairs, strict=True)) / len(values)
    return [mean - below, mean + above]


def welch(draws: Sequence[Sequence[float]], centre: float) -> tuple[float, float | None]:
    """(reach of the 95 % interval, p-value) of a difference of two independent means (Welch, Biometrika 1947); p None
    where nothing varies although the means differ."""
    from scipy.stats import t

    parts = [stdev(found) ** 2 / len(found) for found in draws]
    error = math.sqrt(sum(parts))
    if error < 1e-12:
        return 0.0, 1.0 if abs(centre) < 1e-12 else None
    freedom = sum(parts) ** 2 / sum(part**2 / (len(found) - 1) for part, found in zip(parts, draws, strict=True))
    return float(t.ppf(0.975, freedom) * error), float(2 * t.sf(abs(centre) / error, freedom))


def _t_p_value(centre: float, reach: float, draws: int) -> float | None:
    from scipy.stats import t

    if reach < 1e-12:  # the same difference on every split: rounding of AUROC, or the same study once more
        return 1.0 if abs(centre) < 1e-12 else None
    return float(2 * t.sf(abs(centre) * t.ppf(0.975, draws - 1) / reach, draws - 1))


def _normal_p_value(centre: float, low: float, high: float) -> float | None:
    """From a 95 % interval, by its side towards 0."""
    reach = centre - low if centre > 0 else high - centre
    if reach < 1e-12:
        return 1.0 if abs(centre) < 1e-12 else None
    return math.erfc(abs(centre) / reach * NormalDist().inv_cdf(0.975) / math.sqrt(2))


def _item(difference, low, high, p_value, basis, splits, means) -> dict[str, Any]:
    return {"difference": difference, "low": low, "high": high, "p_value": p_value, "basis": basis, "splits": splits,
            "means": means}


def _judged(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds "p_adjusted", "verdict" and "sure"; the family is every difference of the frozen rule that has a p-value."""
    from analysis.holm import holm

    tested = [line for line in found if (line["measures"].get("scorer") or {}).get("p_value") is not None]
    p_values = [line["measures"]["scorer"]["p_value"] for line in tested]
    adjusted = dict(zip(map(id, tested), holm(p_values), strict=True)) if tested else {}
    judged = []
    for line in found:
        scorer, p_value = line["measures"].get("scorer"), adjusted.get(id(line))
        verdict = "unknown"
        if p_value is not None:
            sure = p_value < LEVEL and not line["drowned_by_seeds"]
            verdict = "noise" if not sure else "higher" if scorer["difference"] > 0 else "lower"
        several = bool(scorer) and scorer["basis"] in ("splits", "unpaired splits")
        judged.append({**line, "p_adjusted": p_value, "verdict": verdict, "sure": "result" if several else "lead"})
    return judged
