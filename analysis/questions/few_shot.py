"""From how many labelled anomalies on does labelling beat the label-free score?

An oracle learns from all nominal validation images and the first n of the anomalies in a random order; ``DRAWS``
orders, the same for every method and trial of a split. Both classes weigh the same in its loss, which one labelled
anomaly among hundreds of nominal images needs. The linear probe was named the chief oracle here before anything was
measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis import summary_rows as rows
from analysis.card import Card, Figure, Table
from analysis.evidence import StudyEvidence, TrialEvidence
from analysis.oracle_means import (
    LEVEL_Z,
    SMALL_FOREST,
    ahead,
    all_methods,
    difference_words,
    over,
    over_methods,
    score_or_none,
    selected_of,
    small_oracle_scores,
)
from analysis.plot_questions_oracles import draw_few_shot
from analysis.questions import Question

COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
DRAWS = 5
CHIEF, ORACLES = "linear", ("linear", "forest")
TITLES = {"linear": "linear probe", "forest": f"forest of {SMALL_FOREST} trees"}
LINES = {"frozen_rule": "frozen rule", "max_logit": "max logit"}
ALL = "all"


def measure(evidence: TrialEvidence) -> dict[str, Any] | None:
    """{"counts": labelled anomalies, the last of them all, "lines": {"frozen_rule", "max_logit": AUROC or None}, for
    each of ``ORACLES`` {"auroc": one list of draws per count, "minus_rule": [mean over draws of oracle − frozen rule,
    low, high] per count, "crossing": per draw the least count from which on the oracle is above the rule, or None}}.

    ``minus_rule`` is for a mean draw: the images' part of its error is the mean of the paired DeLong errors, the
    draws' part their standard error."""
    rule = score_or_none(evidence, "frozen_rule")
    total = len(evidence.outliers)
    if rule is None or not total:
        return None
    from analysis.metrics import auroc

    mask = evidence.is_anomaly
    counts = [*(count for count in COUNTS if count < total), total]
    orders = [np.random.default_rng([evidence.seed, draw]).permutation(total) for draw in range(DRAWS)]
    found: dict[str, Any] = {"counts": counts, "lines": {}}
    for name in LINES:
        score = score_or_none(evidence, name)
        found["lines"][name] = None if score is None else auroc(score, mask)
    for oracle in ORACLES:
        areas, differences = [], []
        for count in counts:
            draws = [_scores(evidence, oracle, order[:count]) for order in (orders if count < total else orders[:1])]
            areas.append([auroc(score, mask) for score in draws])
            differences.append(_mean_draw([ahead(score, rule, mask) for score in draws]))
        found[oracle] = {"auroc": areas, "minus_rule": differences,
                         "crossing": _crossings(counts, areas, found["lines"]["frozen_rule"])}
    return found


def _scores(evidence: TrialEvidence, oracle: str, labelled: np.ndarray) -> np.ndarray:
    return small_oracle_scores(oracle, evidence.validation.z, evidence.outliers.z[np.sort(labelled)], evidence.test.z,
                               seed=evidence.seed, threads=evidence.threads, balanced=True)


def _mean_draw(differences: Sequence[Sequence[float]]) -> list[float]:
    """[mean, low, high] from each draw's [difference, low, high]."""
    values = np.asarray(differences)
    mean = float(values[:, 0].mean())
    images = float((values[:, 2] - values[:, 1]).mean()) / (2 * LEVEL_Z)
    draws = float(values[:, 0].std(ddof=1)) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    reach = LEVEL_Z * float(np.hypot(images, draws))
    return [mean, mean - reach, mean + reach]


def _crossings(counts: Sequence[int], areas: Sequence[Sequence[float]], level: float) -> list[int | None]:
    """Per draw the least count from which on, at it and all larger ones, the oracle is above the level."""
    found: list[int | None] = []
    for draw in range(len(areas[0])):
        crossing = None
        for count, values in zip(reversed(counts), reversed(areas), strict=True):
            if not values[min(draw, len(values) - 1)] > level:
                break
            crossing = count
        found.append(crossing)
    return found


def applicable(study: StudyEvidence) -> str:
    return "" if selected_of(study, "few_shot") else "There are no labelled anomalies to learn from."


def compute(study: StudyEvidence) -> dict[str, Any]:
    """Keys: ``methods``: {method: {"lines": {"frozen_rule", "max_logit": mean over splits or None}, for each of
    ``linear`` and ``forest`` {"points": [{"count": of labelled anomalies ("all" in the last; then "images", their
    mean number), "images", "auroc", "sd": over draws (mean over splits), "minus_rule": as ``oracle_means.over``}],
    "crossing": {"median", "least", "most": over draws and splits of the least count from which on the oracle is above
    the frozen rule, None where that is never, "never": in how many of the "draws"}, "sure": the least count from
    which on the interval of ``minus_rule`` lies above 0, or None}}}; ``mean``: {oracle: {"points": [{"count",
    "minus_rule": as a mean over methods}], "crossing", "sure"}}. Points are of counts that every split (for ``mean``,
    of every method) has."""
    methods: dict[str, Any] = {}
    selected = selected_of(study, "few_shot")
    for method, by_split in selected.items():
        lines = {name: rows.mean(found["lines"][name] for found in by_split.values()) for name in LINES}
        methods[method] = {"lines": lines, **{oracle: _curve(study, by_split, oracle) for oracle in ORACLES}}
    return {"methods": methods, "mean": {oracle: _mean(study, selected, oracle) for oracle in ORACLES}}


def _shared(found: Sequence[Mapping[str, Any]]) -> list[int | str]:
    """The counts that all of these have, and "all" of each."""
    return [*(count for count in COUNTS if all(count in one["counts"][:-1] for one in found)), ALL]


def _at(found: Mapping[str, Any], count: int | str) -> int:
    return len(found["counts"]) - 1 if count == ALL else found["counts"].index(count)


def _mean(study: StudyEvidence, selected: Mapping[str, Mapping[Any, Mapping[str, Any]]], oracle: str) -> dict[str, Any]:
    every = [found for by_split in selected.values() for found in by_split.values()]
    points = [{"count": count, "minus_rule": over_methods(
        study, {m: {s: found[oracle]["minus_rule"][_at(found, count)] for s, found in by_split.items()}
                for m, by_split in selected.items()})} for count in _shared(every)]
    return {"points": points, "crossing": _spread([c for found in every for c in found[oracle]["crossing"]]),
            "sure": _sure_from(points)}


def _sure_from(points: Sequence[Mapping[str, Any]]) -> int | str | None:
    sure = None
    for point in reversed(points):
        if point["minus_rule"]["low"] <= 0:
            break
        sure = point["count"]
    return sure


def _curve(study: StudyEvidence, by_split: Mapping[Any, Mapping[str, Any]], oracle: str) -> dict[str, Any]:
    points = []
    for count in _shared(list(by_split.values())):
        at = {s: _at(found, count) for s, found in by_split.items()}
        areas = {s: found[oracle]["auroc"][at[s]] for s, found in by_split.items()}
        points.append({
            "count": count, "images": rows.mean(found["counts"][at[s]] for s, found in by_split.items()),
            "auroc": rows.mean(float(np.mean(values)) for values in areas.values()),
            "sd": rows.mean(float(np.std(v, ddof=1)) if len(v) > 1 else None for v in areas.values()),
            "minus_rule": over(study, {s: found[oracle]["minus_rule"][at[s]] for s, found in by_split.items()}),
        })
    return {"points": points, "crossing": _spread([c for f in by_split.values() for c in f[oracle]["crossing"]]),
            "sure": _sure_from(points)}


def _spread(crossings: Sequence[int | None]) -> dict[str, Any]:
    ordered = sorted(float("inf") if crossing is None else crossing for crossing in crossings)
    middle = ordered[(len(ordered) - 1) // 2]
    whole = [None if value == float("inf") else int(value) for value in (middle, ordered[0], ordered[-1])]
    return {"median": whole[0], "least": whole[1], "most": whole[2],
            "never": sum(crossing is None for crossing in crossings), "draws": len(ordered)}


def figure_data(result: Mapping[str, Any]) -> dict[str, Any]:
    """{"title", "panels": [{"label", "lines": {title: AUROC}, "series": {oracle's title: {"images", "mean",
    "sd"}}}]}."""
    panels = []
    for method, found in result["methods"].items():
        series = {TITLES[o]: {"images": [p["images"] for p in found[o]["points"]],
                              "mean": [p["auroc"] for p in found[o]["points"]],
                              "sd": [p["sd"] or 0.0 for p in found[o]["points"]]} for o in ORACLES}
        panels.append({"label": method, "series": series,
                       "lines": {LINES[name]: level for name, level in found["lines"].items() if level is not None}})
    return {"title": "AUROC of an oracle against the number of labelled anomalies", "panels": panels}


def card(result: Mapping[str, Any]) -> Card:
    methods = result["methods"]
    counts = list(dict.fromkeys(str(p["count"]) for found in methods.values() for p in found[CHIEF]["points"]))
    counts = [*(count for count in counts if count != ALL), ALL]
    lines = []
    for method, found in methods.items():
        for oracle in ORACLES:
            points = {str(point["count"]): point for point in found[oracle]["points"]}
            lines.append((f"{method} · {TITLES[oracle]}", *(_point(points.get(count)) for count in counts),
                          rows.number(found["lines"]["frozen_rule"]), _crossing(found[oracle]["crossing"]),
                          _sure(found[oracle]["sure"])))
    table = Table(("method · oracle", *counts, "frozen rule", "above it from", "beyond noise from"), tuple(lines),
                  "AUROC with so many labelled anomalies, selected trials",
                  f"± standard deviation over {DRAWS} draws of the labelled anomalies, mean over splits. Above it "
                  "from: median over draws and splits, and their range, of the least number from which on the oracle "
                  "is above the frozen rule.",
                  folded=len(lines) > 12)
    alt = "For each method, oracle AUROC rising with the number of labelled anomalies, the scorers' levels as lines."
    return Card("few_shot", QUESTION.title, _headline(result), _sentences(result), (table,),
                (Figure("few-shot", figure_data(result), draw_few_shot, alt,
                        "Bands: standard deviation over draws. Lines: AUROC of scores that need no label."),))


def _point(point: Mapping[str, Any] | None) -> str:
    if point is None:
        return rows.MISSING
    return rows.number(point["auroc"]) + ("" if point["sd"] is None else f" ± {rows.number(point['sd'])}")


def _crossing(crossing: Mapping[str, Any]) -> str:
    if crossing["median"] is None:
        return f"never in {crossing['never']} of {crossing['draws']}"
    most = "never" if crossing["most"] is None else str(crossing["most"])
    return f"{crossing['median']} ({crossing['least']} to {most})"


def _sure(count: int | str | None) -> str:
    return rows.MISSING if count is None else str(count)


def _headline(result: Mapping[str, Any]) -> str:
    mean, count = result["mean"][CHIEF], len(result["methods"])
    last = mean["points"][-1]
    images = next(iter(result["methods"].values()))[CHIEF]["points"][-1]["images"]
    everything = f"all {images:.0f} give {difference_words(last['minus_rule'])}"
    if mean["sure"] == ALL:
        return (f"Only with all of about {images:.0f} labelled anomalies does a linear probe beat the frozen rule "
                f"beyond noise{all_methods(count)} ({everything}).")
    if mean["sure"] is not None:
        return (f"From {mean['sure']} labelled anomalies on, a linear probe beats the frozen rule beyond noise"
                f"{all_methods(count)} ({everything}).")
    return (f"With the labelled anomalies there are, a linear probe does not beat the frozen rule beyond noise"
            f"{all_methods(count)} ({everything}).")


def _sentences(result: Mapping[str, Any]) -> tuple[str, ...]:
    mean, sentences = result["mean"], []
    for oracle in ORACLES:
        crossing = mean[oracle]["crossing"]
        never = f", never in {crossing['never']} of {crossing['draws']}" if crossing["never"] else ""
        if crossing["median"] is None:
            sentences.append(f"In most draws no number of labels takes the {TITLES[oracle]} above the rule{never}.")
        else:
            sentences.append(f"The {TITLES[oracle]} is above the frozen rule from {crossing['median']} labelled "
                             f"anomalies on in the median draw (least {crossing['least']}{never}).")
    other = mean["forest"]
    sentences.append("The forest is so beyond noise for no number there is." if other["sure"] is None else
                     f"The forest is so beyond noise from {other['sure']} on." if other["sure"] != ALL else
                     "The forest is so beyond noise with all of them only.")
    behind = [p["count"] for p in mean[CHIEF]["points"] if p["minus_rule"]["high"] < 0]
    if behind:
        sentences.append(f"With up to {behind[-1]} labels it is worse than the score that needs none, beyond noise.")
    sentences.append("The labelled anomalies are of the same classes as those tested: this is what labels gain where "
                     "the novel is known.")
    return tuple(sentences)


QUESTION = Question(
    name="few_shot", title="From how many labelled anomalies on does labelling beat the label-free score?",
    measure=measure, compute=compute, card=card, applicable=applicable, scope="selected",
)
