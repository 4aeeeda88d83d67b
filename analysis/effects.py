"""Which hyperparameters move classification, and which detection: rank correlations over a method's completed trials.

Every searched numeric parameter against closed-set accuracy, the frozen rule's AUROC and the oracle detector's, within
each split and then over the splits. An effect counts only where its interval leaves out 0; the level is 0.95 divided
among the method's parameters (Bonferroni), since a dozen of them are looked at together. All parameters vary at once, so
these are effects on average over the rest of the space, and an adaptive sampler visits only part of it.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis import plot_data
from analysis import summary_rows as rows
from analysis.curves import AUGMENTATIONS
from analysis.rank_correlation import ENOUGH_FOR_RHO, Rho, pooled_spearman

MEASURES = {"accuracy": "closed_set_accuracy", "scorer": "scorer_auroc", "oracle": "oracle_detector_auroc"}


def effects(summary: Mapping[str, Any], *, spec: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """{"methods": [{"method", "level", "lines"}], "augmentations": {"methods", "lines"}, "biased": words or ""}.

    A line: {"parameter", "role", "accuracy", "scorer", "oracle": Rho or None, "finding"}. Methods without a split of
    six measured trials are left out. An augmentation's line: {"parameter", "cells": a finding or "" for each method}.
    """
    methods = []
    for method in rows.method_names(summary):
        names = parameters(summary, method)
        level = 1 - 0.05 / max(1, len(names))
        lines = [line for name in names if (line := _line(summary, method, name, level))]
        if lines:
            methods.append({"method": method, "level": level, "lines": lines})
    return {"methods": methods, "augmentations": _augmentations(methods), "biased": _bias(spec)}


def _bias(spec: Mapping[str, Any] | None) -> str:
    """Only a random sampler without pruner measures every part of the space alike."""
    return "biased by the sampler" if plot_data.bias_of(spec) else ""


def parameters(summary: Mapping[str, Any], method: str) -> list[str]:
    """The numeric parameters that were searched, in the space's order; without a record of it, those that vary."""
    done = _measured(summary, method)
    names = list((summary.get("spaces") or {}).get(method) or {}) or list(
        dict.fromkeys(name for row in done for name in row.get("params") or {}))
    return [name for name in names if len({rows.parameter(row, name) for row in done} - {None}) > 1]


def _measured(summary: Mapping[str, Any], method: str) -> list[rows.Row]:
    return [row for row in rows.trial_rows(summary, method)
            if rows.is_completed(row) and rows.finite(row.get("scorer_auroc")) is not None]


def _line(summary: Mapping[str, Any], method: str, name: str, level: float) -> dict[str, Any] | None:
    found = {measure: correlation(summary, method, name, field, level=level) for measure, field in MEASURES.items()}
    if all(rho is None for rho in found.values()):
        return None
    role = (((summary.get("spaces") or {}).get(method) or {}).get(name) or {}).get("role", "")
    return {"parameter": name, "role": role, **found, "finding": finding(found["accuracy"], found["scorer"])}


def correlation(
    summary: Mapping[str, Any], method: str, parameter: str, field: str, *, level: float = 0.95
) -> Rho | None:
    """Spearman's ρ of a parameter with a field of the rows, within splits and then over them; see `pooled_spearman`."""
    samples: dict[Any, tuple[list[float], list[float]]] = {}
    for row in _measured(summary, method):
        x, y = rows.parameter(row, parameter), rows.finite(row.get(field))
        if x is not None and y is not None:
            sample = samples.setdefault(row.get("split", 0), ([], []))
            sample[0].append(x)
            sample[1].append(y)
    return pooled_spearman(samples.values(), level=level)


def finding(accuracy: Rho | None, detection: Rho | None) -> str:
    """What more of a parameter does to classification and to detection, in words; "within noise" where neither
    interval leaves out 0."""
    moves = (accuracy.sign if accuracy else 0, detection.sign if detection else 0)
    return {
        (1, 1): "helps both", (1, -1): "helps classification, hurts detection",
        (-1, 1): "hurts classification, helps detection", (-1, -1): "hurts both",
        (1, 0): "helps classification", (-1, 0): "hurts classification",
        (0, 1): "helps detection", (0, -1): "hurts detection", (0, 0): "within noise",
    }[moves]


def _augmentations(methods: list[dict[str, Any]]) -> dict[str, Any]:
    """The findings on augmentation alone, methods side by side."""
    lines = []
    for name in AUGMENTATIONS:
        findings = [{line["parameter"]: line["finding"] for line in table["lines"]} for table in methods]
        cells = [found.get(name, "") for found in findings]
        if any(cells):
            lines.append({"parameter": name, "cells": cells})
    return {"methods": [table["method"] for table in methods], "lines": lines}


def sentence(found: Mapping[str, Any]) -> str:
    """The card's headline: which augmentations help classification and detection, and which one of the two only."""
    if not found["methods"]:
        return f"No method has {ENOUGH_FOR_RHO} measured trials of one split: too few to say what moves them."
    said: dict[str, list[str]] = {}
    for line in found["augmentations"]["lines"]:
        for method, cell in zip(found["augmentations"]["methods"], line["cells"], strict=True):
            if cell not in ("", "within noise"):
                said.setdefault(cell, []).append(f"{line['parameter']} ({method})")
    if not said:
        return "No augmentation moves classification or detection beyond noise."
    order = ("helps both", "helps classification, hurts detection", "hurts both")
    keys = sorted(said, key=lambda key: (order.index(key) if key in order else len(order), key))
    return "Augmentation beyond noise – " + "; ".join(f"{key}: {', '.join(said[key])}" for key in keys) + "."
