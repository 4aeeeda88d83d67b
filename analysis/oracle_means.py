"""Oracle measurements of selected trials over the splits: means and intervals that several questions share.

A measurement is ``[value, low, high]`` at level 0.95, of one method on one split. Over splits with distinct nominal
classes the interval is Student's over the splits; with one set of classes it is the mean of the splits' own, from
their images. A few splits say little about each of many methods, but more about the mean over methods: so headlines
speak of that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from analysis import summary_rows as rows
from analysis.comparison import mean_interval
from analysis.evidence import StudyEvidence
from analysis.over_splits import mean_of

#: Trees of forests that are fitted many times over: a tenth of the time, a little less AUROC than the study's own.
SMALL_FOREST = 100
LEVEL_Z = 1.959963984540054


def small_oracle_scores(
    name: str, nominal: np.ndarray, anomalies: np.ndarray, test: np.ndarray, *, seed: int, threads: int,
    balanced: bool = False,
) -> np.ndarray:
    """Scores of ``test`` (N×D) by a linear probe ("linear") or a forest of ``SMALL_FOREST`` trees ("forest") that
    learnt from these features; ``balanced``: both kinds weigh the same. ValueError for another name."""
    from analysis.oracles import forest_oracle, linear_oracle, native_threads

    if name not in ("linear", "forest"):
        raise ValueError(f"no small oracle {name!r}")
    if name == "linear":
        oracle = linear_oracle(seed=seed, n_jobs=threads, balanced=balanced)
    else:
        oracle = forest_oracle(seed=seed, n_jobs=threads, trees=SMALL_FOREST, balanced=balanced)
    mask = np.repeat([False, True], [len(nominal), len(anomalies)])
    with native_threads(threads):
        return oracle.fit(np.concatenate([nominal, anomalies]), mask).anomaly_score(test)


def area(score: np.ndarray, is_anomaly: np.ndarray) -> list[float]:
    """[AUROC, low, high] by DeLong."""
    from analysis.uncertainty import delong_interval

    return [float(value) for value in delong_interval(score, is_anomaly)]


def ahead(score: np.ndarray, other: np.ndarray, is_anomaly: np.ndarray) -> list[float]:
    """[AUROC(score) − AUROC(other), low, high] by paired DeLong."""
    from analysis.uncertainty import paired_delong

    return [float(value) for value in paired_delong(score, other, is_anomaly)[:3]]


def score_or_none(evidence: Any, name: str) -> np.ndarray | None:
    """Test scores by name: one that is stored or a scorer that this method can use, None otherwise or where not
    finite."""
    if name not in evidence.stored and not evidence.usable(name):
        return None
    scores = np.asarray(evidence.score(name), dtype=np.float64)
    return scores if np.isfinite(scores).all() else None


def selected_of(study: StudyEvidence, question: str) -> dict[str, dict[Any, Mapping[str, Any]]]:
    """{method: {split: measured}} of selected trials, methods in the order of the rows."""
    chosen = {(row["method"], row.get("split", 0), row.get("trial")) for row in rows.selected_rows(study.summary)}
    found: dict[str, dict[Any, Mapping[str, Any]]] = {}
    for (method, split, trial), value in study.of(question).items():
        if (method, split, trial) in chosen:
            found.setdefault(method, {})[split] = value
    order = {method: index for index, method in enumerate(rows.method_names(study.summary))}
    return dict(sorted(found.items(), key=lambda item: order[item[0]]))


def over(
    study: StudyEvidence, values: Mapping[Any, Sequence[float] | None], *, rivals: int = 1, images: bool = False
) -> dict[str, Any] | None:
    """{"mean", "standard_error" or None, "low", "high", "splits", "basis": "splits" or "images"} of measurements by
    split, at level 0.95 divided among ``rivals`` (Bonferroni); None where there are none. ``images``: an interval
    from the images also where there are several splits, which is about these splits and says nothing of others.
    Limits are cut to −1..1."""
    known = {split: [float(v) for v in value] for split, value in values.items() if value is not None}
    if not known:
        return None
    mean = mean_of(study.summary, {split: value[0] for split, value in known.items()})
    draws = rows.over_distinct_classes(study.summary, {split: value[0] for split, value in known.items()})
    if len(draws) > 1 and not images:
        low, high = mean_interval(draws, rivals=rivals)
        shift = mean.value - sum(draws) / len(draws)  # splits of one class set count once there, each here
        low, high, basis = low + shift, high + shift, "splits"
    else:
        wide, basis = widening(rivals), "images"
        low = mean.value - wide * sum(v[0] - v[1] for v in known.values()) / len(known)
        high = mean.value + wide * sum(v[2] - v[0] for v in known.values()) / len(known)
    return {"mean": mean.value, "standard_error": mean.error, "low": max(low, -1.0), "high": min(high, 1.0),
            "splits": mean.n, "basis": basis}


def over_methods(
    study: StudyEvidence, values: Mapping[str, Mapping[Any, Sequence[float] | None]], *, rivals: int = 1
) -> dict[str, Any] | None:
    """``over`` of the mean over methods, from {method: {split: measurement}}; each split's mean is over the methods
    that have it.

    Without splits to compare, the limits are the methods' own, averaged: cautious, since errors of methods on the
    same images go together at most."""
    by_split: dict[Any, list[Sequence[float]]] = {}
    for found in values.values():
        for split, value in found.items():
            if value is not None:
                by_split.setdefault(split, []).append(value)
    means = {split: np.mean(np.asarray(found, float), axis=0).tolist() for split, found in by_split.items()}
    return over(study, means, rivals=rivals)


def widening(rivals: int) -> float:
    """How much wider a normal interval is at the level divided among the rivals than at 0.95."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(1 - 0.025 / rivals) / LEVEL_Z


def sign_of(found: Mapping[str, Any] | None) -> int:
    """1 or −1 where the interval lies above or below 0, 0 where it does not or there is none."""
    if found is None:
        return 0
    return 1 if found["low"] > 0 else -1 if found["high"] < 0 else 0


def mean_words(found: Mapping[str, Any] | None, *, sign: bool = False) -> str:
    """0.902 ± 0.004 over splits, 0.902 alone, an en dash for None."""
    if found is None:
        return rows.MISSING
    text = (rows.signed if sign else rows.number)(found["mean"])
    return text if found["standard_error"] is None else f"{text} ± {rows.number(found['standard_error'])}"


def difference_words(found: Mapping[str, Any] | None) -> str:
    """+0.021 [+0.010, +0.032]."""
    if found is None:
        return rows.MISSING
    return f"{rows.signed(found['mean'])} {rows.bounds([found['low'], found['high']], sign=True)}"


def all_methods(count: int) -> str:
    """" as a mean over 9 methods", nothing for one."""
    return f" as a mean over {count} methods" if count > 1 else ""


def basis_words(found: Iterable[Mapping[str, Any] | None]) -> str:
    """Where the intervals come from, for a table's note."""
    bases = {item["basis"] for item in found if item is not None}
    words = {"splits": "over splits with different nominal classes (Student's t)",
             "images": "from the test images of the splits there are (paired DeLong)"}
    return rows.listed(words[basis] for basis in sorted(bases, reverse=True))
