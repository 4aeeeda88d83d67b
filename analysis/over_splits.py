"""Every method's selected trials over the splits: means with standard errors, and how many trials failed.

The mean is over all splits, as the field reports it. The standard error is over the distinct sets of nominal classes,
since splits of the same classes are one draw (`summary_rows.over_distinct_classes`); with one set there is none.
"""
from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import stdev
from typing import Any, NamedTuple

from analysis import summary_rows as rows

MEASURES = {  # key of a line → the number of a selected row
    "accuracy": lambda row: row.get("closed_set_accuracy"),
    "scorer": lambda row: row.get("scorer_auroc"),
    "max_logit": rows.max_logit_auroc,
    "oracle": lambda row: row.get("oracle_detector_auroc"),
    "linear_oracle": lambda row: row.get("linear_oracle_auroc"),
    "representation": lambda row: row.get("oracle_representation_auroc"),
    "extraction_gap": lambda row: row.get("extraction_gap"),
    "representation_gap": lambda row: row.get("representation_gap"),
    "regret": lambda row: row.get("regret"),
    "regret_crossfit": lambda row: row.get("regret_crossfit"),
}
GAPS = ("extraction_gap", "representation_gap")


class Mean(NamedTuple):
    """`value` None: no split has the number; `error` None: fewer than two distinct sets of nominal classes have it."""

    value: float | None
    error: float | None
    n: int


def over_splits(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One line per method: {"method", "splits", "of_splits", "failed", "trials", and a `Mean` for each of MEASURES}.

    Only selected trials of the searched seed count; "splits" is how many have one, of "of_splits". The order is that of
    the rows, and a method all of whose trials failed keeps its line.
    """
    lines = []
    for method in rows.method_names(summary):
        trials = rows.trial_rows(summary, method)
        chosen = {row.get("split", 0): row for row in rows.selected_rows(summary) if row["method"] == method}
        means = {key: mean_of(summary, {split: rows.finite(of(row)) for split, row in chosen.items()})
                 for key, of in MEASURES.items()}
        lines.append({"method": method, "splits": len(chosen), "of_splits": len({row.get("split", 0) for row in trials}),
                      "failed": sum(row.get("state") == "failed" for row in trials), "trials": len(trials), **means})
    return lines


def mean_of(summary: Mapping[str, Any], values: Mapping[Any, float | None]) -> Mean:
    """Mean and standard error of one number by split, missing ones left out."""
    known = {split: value for split, value in values.items() if value is not None}
    draws = rows.over_distinct_classes(summary, known)
    error = stdev(draws) / math.sqrt(len(draws)) if len(draws) > 1 else None
    return Mean(rows.mean(known.values()), error, len(known))


def words(mean: Mean, *, sign: bool = False, digits: int = 3) -> str:
    """0.902 ± 0.004, without the error where there is none; an en dash for a missing mean."""
    if mean.value is None:
        return rows.MISSING
    text = (rows.signed if sign else rows.number)(mean.value, digits)
    return text if mean.error is None else f"{text} ± {rows.number(mean.error, digits)}"


COLUMNS = (
    ("closed-set accuracy", "accuracy"), ("scorer: frozen rule", "scorer"), ("max logit", "max_logit"),
    ("oracle detector", "oracle"), ("linear oracle", "linear_oracle"), ("oracle representation", "representation"),
    ("extraction gap", "extraction_gap"), ("representation gap", "representation_gap"),
)


def markdown(summary: Mapping[str, Any]) -> str:
    """The table for a README: a line per method, means ± standard errors over its splits, regret with the cross-fitted
    one in parentheses, the number of splits, and failed trials of all."""
    titles = ["method", *(title for title, _ in COLUMNS), "regret (cross-fitted)", "splits", "failed trials"]
    text = ["| " + " | ".join(titles) + " |", "|---|" + "--:|" * (len(titles) - 1)]
    for line in over_splits(summary):
        cells = [words(line[key], sign=key in GAPS) for _, key in COLUMNS]
        regret = words(line["regret"])
        if line["regret_crossfit"].value is not None:
            regret += f" ({rows.number(line['regret_crossfit'].value)})"
        some = line["splits"] < line["of_splits"]
        splits = f"{line['splits']} of {line['of_splits']}" if some else str(line["splits"])
        cells = [_cell(line["method"]), *cells, regret, splits, f"{line['failed']} of {line['trials']}"]
        text.append("| " + " | ".join(cells) + " |")
    return "\n".join(text)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
