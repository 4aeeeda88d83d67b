"""The report's tables as plain dicts and lists, already ordered; `templates/report.html` shows them."""
from __future__ import annotations

from collections.abc import Mapping
from statistics import mean, stdev
from typing import Any

from analysis import over_splits
from analysis import summary_rows as rows
from analysis.curves import SHARED

MANY = 6  # more selected trials than this: their scorers are shown as means over the splits


def headline_table(summary: Mapping[str, Any], selection: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """One dict per method and split: the selected row with the words of its frozen rule."""
    table = []
    for row in rows.selected_rows(summary):
        entry = rows.selection_entry(selection, row["method"], row.get("split", 0))
        table.append({
            "row": row, "rule": rows.rule_title(row, entry),
            "members": [rows.scorer_title(name) for name in rows.members_of(row, entry)],
            "max_logit": rows.max_logit_auroc(row), "accuracy": rows.accuracy(row), "seeds": _seeds(summary, row),
        })
    return table


def _seeds(summary: Mapping[str, Any], row: rows.Row) -> str:
    """Mean ± standard deviation of the frozen configuration over its seeds, or "" when only one was trained."""
    again = rows.retrained_rows(summary, row["method"], row.get("split", 0))
    values = [value for r in [row, *again] if (value := rows.finite(r.get("scorer_auroc"))) is not None]
    if len(values) < 2:
        return ""
    return f"{rows.number(mean(values))} ± {rows.number(stdev(values))} over {len(values)} seeds"


MEASURES = {
    "frozen rule AUROC": lambda row: row.get("scorer_auroc"),
    "max logit": rows.max_logit_auroc,
    "oracle": lambda row: row.get("oracle_detector_auroc"),
    "linear oracle": lambda row: row.get("linear_oracle_auroc"),
    "FPR at 95 % TPR": lambda row: row.get("fpr_at_95_tpr"),
    "equal error rate": lambda row: row.get("equal_error_rate"),
    "accuracy": lambda row: row.get("closed_set_accuracy"),
}


def trial_tables(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One table per method: "titles" [(title, is_text)], "lines" of cells {"text", "sort"} with the trial's state."""
    tables = []
    measures = {} if rows.unrevealed(summary) else MEASURES
    for method in rows.method_names(summary):
        group = [row for row in rows.rows_of(summary) if row["method"] == method]
        signals = list(dict.fromkeys(name for row in group for name in row.get("signals") or {}))
        params = list(dict.fromkeys(name for row in group for name in row.get("params") or {}))
        # a column that holds one value for every trial only makes the table wider
        places = [key for key in ("split", "seed") if len({row.get(key) for row in group}) > 1]
        titles = [("trial", False), *((key, False) for key in places), ("state", True),
                  *((name, False) for name in (*measures, *signals, *params)), ("seconds", False)]
        lines = []
        for row in sorted(group, key=lambda r: (str(r.get("split", 0)), r.get("trial") or 0, r.get("seed") or 0)):
            state = str(row.get("state")) + (f": {row['reason']}" if row.get("reason") else "")
            cells = [_cell(row.get("trial")), *(_cell(row.get(key)) for key in places), _cell(state)]
            cells += [_cell(measure(row), 3) for measure in measures.values()]
            cells += [_cell((row.get("signals") or {}).get(name), 4) for name in signals]
            cells += [_cell((row.get("params") or {}).get(name)) for name in params]
            cells.append(_cell(row.get("train_seconds"), 1))
            lines.append({"cells": cells, "selected": bool(row.get("selected")), "state": row.get("state")})
        tables.append({"method": method, "titles": titles, "lines": lines})
    return tables


def _cell(value: object, digits: int | None = None) -> dict[str, str]:
    """Text to read and a key to sort by; a missing number sorts last."""
    found = rows.finite(value)
    text = rows.short(value) if digits is None else rows.number(value, digits)
    key = "" if value is None or (digits is not None and found is None) else str(found if found is not None else value)
    return {"text": text, "sort": key}


def scorer_table(summary: Mapping[str, Any], selection: Mapping[str, Any] | None) -> dict[str, Any]:
    """AUROC of every scorer on the selected trials: {"columns" [(method, words)], "lines" [{"name", "cells"}], "frozen"}.

    A cell: {"value", "member" (share of the column's trials whose frozen rule has it), "best"}. A column is one selected
    trial, or where these are many a method's mean over its splits.
    """
    chosen = [row for row in rows.selected_rows(summary) if row.get("scorers")]
    columns: dict[Any, list[rows.Row]] = {}
    for row in chosen:
        split = "" if len(chosen) > MANY else f"split {row.get('split', 0)}"
        columns.setdefault((row["method"], split), []).append(row)
    names = list(dict.fromkeys(name for row in chosen for name in row["scorers"]))
    found = [[_scorer_cell(group, name, selection) for name in names] for group in columns.values()]
    for cells in found:
        top = max((cell["value"] for cell in cells if cell["value"] is not None), default=None)
        for cell in cells:
            cell["best"] = cell["value"] is not None and cell["value"] == top
    titles = [(method, split or f"mean of {rows.plural(len(group), 'split')}")
              for (method, split), group in columns.items()]
    frozen = [rows.mean(row.get("scorer_auroc") for row in group) for group in columns.values()]
    return {"columns": titles, "frozen": frozen,
            "lines": [{"name": name, "cells": [cells[index] for cells in found]} for index, name in enumerate(names)]}


def _scorer_cell(group: list[rows.Row], name: str, selection: Mapping[str, Any] | None) -> dict[str, Any]:
    entries = [rows.selection_entry(selection, row["method"], row.get("split", 0)) for row in group]
    used = [name in rows.members_of(row, entry) for row, entry in zip(group, entries, strict=True)]
    value = rows.mean(row["scorers"].get(name) for row in group)
    return {"value": value, "member": sum(used) / len(used), "best": False}


MEANS = ("scorer", "max_logit", "oracle", "linear_oracle", "representation", "extraction_gap", "representation_gap",
         "regret", "regret_crossfit", "accuracy")


def means_table(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One line per method: {"method", "cells" [(mean, standard error or "")] of MEANS, "splits", "of_splits", "failed",
    "trials"}; none where there is one split."""
    if len(rows.split_names(summary)) < 2 or rows.unrevealed(summary):
        return []
    lines = []
    for line in over_splits.over_splits(summary):
        cells = [over_splits.words(line[key], sign=key in over_splits.GAPS).partition(" ± ")[::2] for key in MEANS]
        lines.append({"cells": cells, **{key: line[key] for key in ("method", "splits", "of_splits", "failed", "trials")}})
    return lines


def failures(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every failed trial or retraining: {"method", "split", "trial", "reason", "params": [(name, text)]}.

    "params" are what its failure may come from: the scientific parameters of its own method and the learning rate;
    without a record of roles, all of them.
    """
    found = []
    for row in rows.rows_of(summary):
        if row.get("state") == "failed":
            params = row.get("params") or {}
            spaces = (summary.get("spaces") or {}).get(row["method"]) or {}
            roles = {name: (limits or {}).get("role") for name, limits in spaces.items()}
            own = [name for name, role in roles.items() if role == "scientific" and name not in SHARED]
            known = any(roles.values())
            shown = [name for name in (*own, "learning_rate") if name in params] if known else list(params)
            number = str(row.get("trial")) + (f", seed {row.get('seed')}" if rows.is_retrained(row) else "")
            found.append({"method": row["method"], "split": row.get("split", 0), "trial": number,
                          "reason": row.get("reason") or "no reason was recorded",
                          "params": [(name, rows.short(params[name])) for name in shown]})
    return found


def choices(summary: Mapping[str, Any], selection: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """How each method and split was selected: trial, signals, finalists, folds, rule, scorers' own parameters."""
    found = []
    for row in rows.selected_rows(summary):
        entry = rows.selection_entry(selection, row["method"], row.get("split", 0))
        shown = {key: value for key, value in entry.items() if key not in ("method", "split")}
        basis = {"trial": row.get("trial"), "signal": row.get("signal"), "signal_value": row.get("signal_value")}
        found.append({"method": row["method"], "split": row.get("split", 0), "params": row.get("params") or {},
                      "entry": flatten({**basis, **shown})})
    return found


def flatten(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as (dotted name, text) pairs in its own order; lists of plain values on one line."""
    if isinstance(value, Mapping):
        return [pair for key, item in value.items() for pair in flatten(item, f"{prefix}.{key}" if prefix else str(key))]
    if isinstance(value, (list, tuple)) and any(isinstance(item, (Mapping, list, tuple)) for item in value):
        return [pair for index, item in enumerate(value) for pair in flatten(item, f"{prefix}[{index}]")]
    if isinstance(value, (list, tuple)):
        return [(prefix, ", ".join(map(rows.short, value)) or "none")]
    return [(prefix, rows.short(value))]
