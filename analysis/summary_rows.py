"""Reading a study's summary: the one place that knows the field names of summary.json's rows and how numbers are worded.

Pure functions over plain dicts (study/SUMMARY.md). Anything may be missing or null: a trial that failed, a
study without anomalies, an oracle representation that was never trained. Nothing here raises for a missing number.
"""
from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

Row = Mapping[str, Any]
#: Samplers that propose without looking at results, so that their trials are a fair draw of the space.
UNADAPTIVE = ("random", "QMCSampler", "BruteForceSampler")

SCORER_TITLES = {
    "msp": "MSP",
    "max_logit": "max logit",
    "knn": "kNN",
    "vim": "ViM",
    "react": "ReAct",
    "relative_mahalanobis": "relative Mahalanobis",
    "mahalanobis": "Mahalanobis",
}
RULE_TITLES = {
    "best": "the best scorer",
    "top_half_mean": "mean of the better half",
    "top3_mean": "mean of the best three",
    "all_mean": "mean of all",
    "family_mean": "mean of the families",
    "ecdf_mean": "mean of empirical CDFs",
    "fisher_sum": "Fisher's sum",
    "fisher_family": "Fisher's sum over families",
}
MINUS = "\N{MINUS SIGN}"  # a hyphen is too short to be seen in a column of signed gaps
MISSING = "–"


def finite(value: object) -> float | None:
    """The number as a float, or None for null, NaN, infinity, text and booleans."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def interval(value: object) -> tuple[float, float] | None:
    """A [low, high] list as a pair, or None when it is not one of two finite numbers."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return None
    low, high = finite(value[0]), finite(value[1])
    return None if low is None or high is None else (low, high)


def rows_of(summary: Mapping[str, Any]) -> list[Row]:
    return list(summary.get("rows") or [])


def method_names(summary: Mapping[str, Any]) -> list[str]:
    """Methods in the order in which the rows name them."""
    return list(dict.fromkeys(str(row["method"]) for row in rows_of(summary)))


def split_names(summary: Mapping[str, Any]) -> list[Any]:
    return sorted({row.get("split", 0) for row in rows_of(summary)}, key=lambda split: (str(type(split)), split))


def is_retrained(row: Row) -> bool:
    """A frozen configuration trained again with another seed: no trial, so neither searched nor ranked."""
    return bool(row.get("retrained")) or row.get("state") == "retrained"


def is_completed(row: Row) -> bool:
    return row.get("state") in ("completed", "complete", "COMPLETE")


def trial_rows(summary: Mapping[str, Any], method: str | None = None, split: object = None) -> list[Row]:
    """The rows of trials (completed, failed, pruned), retrained seeds left out."""
    return [
        row for row in rows_of(summary)
        if not is_retrained(row)
        and (method is None or row["method"] == method)
        and (split is None or row.get("split", 0) == split)
    ]


def retrained_rows(summary: Mapping[str, Any], method: str, split: object) -> list[Row]:
    return [r for r in rows_of(summary) if is_retrained(r) and r["method"] == method and r.get("split", 0) == split]


def selected_rows(summary: Mapping[str, Any]) -> list[Row]:
    """One row per (method, split): the trial that freeze selected; method by method, split by split."""
    splits = {split: index for index, split in enumerate(split_names(summary))}
    methods = {method: index for index, method in enumerate(method_names(summary))}
    chosen = [row for row in trial_rows(summary) if row.get("selected")]
    return sorted(chosen, key=lambda row: (methods[row["method"]], splits[row.get("split", 0)]))


def groups(summary: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Every (method, split) that has a trial, in the order of `selected_rows`."""
    return [
        (method, split)
        for method in method_names(summary)
        for split in split_names(summary)
        if trial_rows(summary, method, split)
    ]


def selection_entry(selection: Mapping[str, Any] | None, method: str, split: object) -> Mapping[str, Any]:
    """The entry of selection.json for one method and split, or an empty mapping."""
    for entry in (selection or {}).get("selections") or []:
        if entry.get("method") == method and entry.get("split", 0) == split:
            return entry
    return {}


def frozen_ranking(summary: Mapping[str, Any], selection: Mapping[str, Any] | None = None) -> list[str]:
    """The methods as freeze ranked them without any label, best first; [] when it is not recorded."""
    ranking = (selection or {}).get("method_ranking") or summary.get("method_ranking") or []
    return [str(item.get("method")) if isinstance(item, Mapping) else str(item) for item in ranking]


def mean(values: Iterable[object]) -> float | None:
    """Mean of the finite values, None without any."""
    numbers = [number for number in map(finite, values) if number is not None]
    return sum(numbers) / len(numbers) if numbers else None


def parameter(row: Row, name: str) -> float | None:
    """A numeric hyperparameter of a row's configuration, None where it has none of that name."""
    return finite((row.get("params") or {}).get(name))


def over_distinct_classes(summary: Mapping[str, Any], values: Mapping[Any, float]) -> list[float]:
    """One value for each set of nominal classes, from values by split: splits of the same classes (two of the field's
    five on CIFAR-10) are one draw, seen twice."""
    classes = summary.get("nominal_classes") or {}
    draws: dict[Any, list[float]] = {}
    for split, value in values.items():
        draws.setdefault(frozenset(classes.get(str(split), [f"split {split}"])), []).append(value)
    return [sum(draw) / len(draw) for draw in draws.values()]


def max_logit_auroc(row: Row) -> float | None:
    return finite((row.get("scorers") or {}).get("max_logit"))


def unrevealed(summary: Mapping[str, Any]) -> bool:
    """Something was selected, and no anomaly has measured it: there were none, or the reveal is still to come."""
    chosen = selected_rows(summary)
    return bool(chosen) and all(finite(row.get("scorer_auroc")) is None for row in chosen)


def members_of(row: Row, entry: Mapping[str, Any] | None = None) -> list[str]:
    """The scorers that the frozen rule averages, from the selection or the row."""
    return [str(name) for name in (entry or {}).get("members") or row.get("members") or []]


def accuracy(row: Row) -> float | None:
    """Closed-set accuracy on test images; before a reveal, or without anomalies, that on validation images."""
    found = finite(row.get("closed_set_accuracy"))
    return finite((row.get("signals") or {}).get("val_accuracy")) if found is None else found


# ---------------------------------------------------------------------------------------------------- wording
def scorer_title(name: object) -> str:
    return SCORER_TITLES.get(str(name), str(name).replace("_", " "))


def rule_title(row: Row, entry: Mapping[str, Any] | None = None) -> str:
    """The frozen scorer rule in words: "mean of the better half", or a single scorer's title."""
    rule = (entry or {}).get("scorer") or row.get("scorer")
    if not rule:
        return MISSING
    return RULE_TITLES.get(str(rule), scorer_title(rule))


def number(value: object, digits: int = 3) -> str:
    """0.842, or an en dash for a missing number; never NaN."""
    found = finite(value)
    if found is None:
        return MISSING
    return f"{found:.{digits}f}".replace("-", MINUS)


def signed(value: object, digits: int = 3) -> str:
    """+0.063, −0.004, 0.000: a gap is shown as it is."""
    found = finite(value)
    if found is None:
        return MISSING
    text = f"{found:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def bounds(value: object, digits: int = 3, *, sign: bool = False) -> str:
    """[0.810, 0.871], or an empty text without an interval."""
    pair = interval(value)
    if pair is None:
        return ""
    word = signed if sign else number
    return f"[{word(pair[0], digits)}, {word(pair[1], digits)}]"


def short(value: object) -> str:
    """A hyperparameter as a reader wants it: 0.000483, 1.2e-05, 64, relu."""
    if isinstance(value, bool) or value is None:
        return MISSING if value is None else str(value).lower()
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(value)


def listed(words: Iterable[str]) -> str:
    """a, b and c."""
    items = list(words)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""


def plural(count: int, word: str, many: str | None = None) -> str:
    return f"{count} {word if count == 1 else many or word + 's'}"
