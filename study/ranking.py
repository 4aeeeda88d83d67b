"""Who is best by nominal-only signals: the order of trials, the finalists, the ranking of methods."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from study.ledger import TrialRecord
from study.spec import StudySpec

#: Floats in selection.json keep this many digits: beyond it they say how sums were ordered, not what was measured.
DIGITS = 10


def order_of(trial: TrialRecord, signal: str) -> tuple:
    """Sorts trials best first: by the signal, then by validation NLL, then the lower number."""
    from analysis.signals import objective

    nll = trial.signals.get("val_nll", math.inf)
    return (-objective(trial.signals[signal], signal), nll if math.isfinite(nll) else math.inf, trial.number)


def best_trials(trials: list[TrialRecord], spec: StudySpec, *, validation_images: int) -> list[TrialRecord]:
    """The finalists, best first: the best trial by the signal and, where more are asked for, others that are within
    one standard error of it and as far from the chosen ones in the search space as can be."""
    signal = spec.selection.signal
    ended = sorted((t for t in trials if t.state == "completed"), key=lambda t: order_of(t, signal))
    if not ended:
        return []
    best, *others = ended
    if spec.selection.finalists == 1:
        return [best]
    bound = _within_one_standard_error(best, signal, validation_images)
    candidates = [trial for trial in others if bound(trial)]
    chosen = [best]
    while candidates and len(chosen) < spec.selection.finalists:
        far = max(candidates, key=lambda t: (min(_distance(spec, t, c) for c in chosen), -t.number))
        chosen.append(far)
        candidates.remove(far)
    return chosen


def finalists_of(entry: dict[str, Any]) -> list[int]:
    """The numbers of an entry's finalists in ``selection.json``, best first; early studies hold the bare numbers."""
    return [found["trial"] if isinstance(found, dict) else found for found in entry["finalists"]]


def rank_methods(chosen: list[dict[str, Any]], spec: StudySpec) -> list[dict[str, Any]]:
    """Methods by their mean cheap signal over splits; pseudo-novel AUROC on the common folds breaks ties.

    A method that has no trial to show for some split comes after those that have: it was not asked the hard question.
    """
    from analysis.signals import objective

    signal, rows = spec.selection.signal, []
    for method in spec.methods:
        mine = [entry["signals"] for entry in chosen if entry["method"] == method]
        if not mine:
            continue
        novel = [signals.get("pseudo_novel_auroc") for signals in mine]
        rows.append({
            "method": method, "splits": len(mine), signal: rounded(np.mean([signals[signal] for signals in mine])),
            "pseudo_novel_auroc": None if None in novel else rounded(np.mean(novel)),
        })
    return sorted(
        rows, key=lambda row: (-row["splits"], -objective(row[signal], signal), -(row["pseudo_novel_auroc"] or 0.0))
    )


def _within_one_standard_error(best: TrialRecord, signal: str, n: int) -> Callable[[TrialRecord], bool]:
    """The binomial standard error of an accuracy; the spec allows finalists by no other signal."""
    value = best.signals[signal]
    error = math.sqrt(max(value * (1 - value), 0.0) / n)
    return lambda trial: abs(trial.signals[signal] - value) <= error


def _distance(spec: StudySpec, a: TrialRecord, b: TrialRecord) -> float:
    """Euclidean distance in the unit cube of the searched parameters; a different choice counts 1."""
    total = 0.0
    for name, parameter in spec.space(a.method).searched().items():
        x, y = a.params[name], b.params[name]
        if hasattr(parameter, "low"):
            low, high = parameter.low, parameter.high
            scale = math.log if parameter.log else float
            total += ((scale(x) - scale(y)) / (scale(high) - scale(low))) ** 2
        else:
            total += x != y
    return math.sqrt(total)


def rounded(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float | np.floating) else value
