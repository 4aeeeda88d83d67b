"""Do better classifiers detect better? Closed-set accuracy against AUROC over the trials of a study.

Within a method and split, between methods, and among good classifiers alone: a relation that only bad trials make (Vaze et
al., "Open-Set Recognition: a Good Closed-Set Classifier is All You Need?", 2022, compare whole methods) would be of no use to
whoever chooses between good ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from analysis import summary_rows as rows
from analysis.card import Card, Figure, Table
from analysis.comparison import mean_interval
from analysis.evidence import StudyEvidence
from analysis.plot_questions_operating import draw_accuracy
from analysis.questions import Question
from analysis.rank_correlation import ENOUGH_FOR_RHO, pooled_spearman

TARGETS: dict[str, tuple[str, Callable[[rows.Row], float | None]]] = {
    "frozen_rule": ("frozen rule", lambda row: rows.finite(row.get("scorer_auroc"))),
    "max_logit": ("max logit", rows.max_logit_auroc),
    "oracle_detector": ("oracle detector", lambda row: rows.finite(row.get("oracle_detector_auroc"))),
}
ALL = "all methods"
ENOUGH_FOR_THIRDS = 9  # trials of a method and split: three in a third


def _points(study: StudyEvidence, target: str) -> dict[tuple[str, Any], list[tuple[float, float]]]:
    """(accuracy, AUROC) of every measured trial, by method and split."""
    found: dict[tuple[str, Any], list[tuple[float, float]]] = {}
    for row in rows.trial_rows(study.summary):
        accuracy, area = rows.finite(row.get("closed_set_accuracy")), TARGETS[target][1](row)
        if accuracy is not None and area is not None:
            found.setdefault((str(row["method"]), row.get("split", 0)), []).append((accuracy, area))
    return found


def applicable(study: StudyEvidence) -> str:
    most = max((len(points) for points in _points(study, "frozen_rule").values()), default=0)
    return "" if most >= ENOUGH_FOR_RHO else (
        f"No method and split has {ENOUGH_FOR_RHO} measured trials, and a relation of fewer is luck.")


def compute(study: StudyEvidence) -> dict[str, Any]:
    """Keys: ``within``: {method, or "all methods": {target: {"rho", "low", "high" (95 %), "trials", "splits"} or None}}:
    Spearman's ρ of accuracy and AUROC over trials of one method and split, pooled (``pooled_spearman``); ``between``: {target:
    {"rho", "methods", "splits"} or None}: ρ of the methods' means, averaged over splits, without an interval; ``thirds``:
    {target: {"top_minus_middle", "low", "high" (t interval over splits, or None with one), "groups", "splits"} or None}: AUROC
    of a method and split's most accurate third of trials − that of its middle third; ``points``: {target: {method: [[accuracy,
    AUROC]]}}; ``biased``: why the trials are no random draw, or ""."""
    points = {target: _points(study, target) for target in TARGETS}
    methods = list(dict.fromkeys(method for method, _ in points["frozen_rule"]))
    within = {method: {target: _within(points[target], [method]) for target in TARGETS} for method in methods}
    if len(methods) > 1:
        within[ALL] = {target: _within(points[target], methods) for target in TARGETS}
    sampler = (study.spec.get("search") or {}).get("sampler", "random")
    return {
        "within": within, "between": {target: _between(points[target]) for target in TARGETS},
        "thirds": {target: _thirds(study, points[target]) for target in TARGETS},
        "points": {target: _by_method(points[target]) for target in TARGETS},
        "biased": "" if sampler in rows.UNADAPTIVE else f"the {sampler} sampler drew more trials where accuracy is high",
    }


def _by_method(points: Mapping[tuple[str, Any], list]) -> dict[str, list[list[float]]]:
    found: dict[str, list[list[float]]] = {}
    for (method, _), pairs in points.items():
        found.setdefault(method, []).extend([round(x, 5), round(y, 5)] for x, y in pairs)
    return found


def _within(points: Mapping[tuple[str, Any], list], methods: list[str]) -> dict[str, Any] | None:
    samples = [tuple(map(list, zip(*pairs))) for (method, _), pairs in points.items() if method in methods]
    rho = pooled_spearman(samples)
    return None if rho is None else {"rho": rho.value, "low": rho.low, "high": rho.high, "trials": rho.n, "splits": rho.splits}


def _between(points: Mapping[tuple[str, Any], list]) -> dict[str, Any] | None:
    from analysis.rank_correlation import spearman

    found, most = [], 0
    for split in dict.fromkeys(split for _, split in points):
        means = [(rows.mean(x for x, _ in pairs), rows.mean(y for _, y in pairs))
                 for (_, of), pairs in points.items() if of == split]
        rho = spearman(*map(list, zip(*means))) if len(means) >= ENOUGH_FOR_RHO else None
        if rho is not None:
            found.append(rho)
            most = max(most, len(means))
    return {"rho": rows.mean(found), "methods": most, "splits": len(found)} if found else None


def _thirds(study: StudyEvidence, points: Mapping[tuple[str, Any], list]) -> dict[str, Any] | None:
    by_split: dict[Any, list[float]] = {}
    for (_, split), pairs in points.items():
        if len(pairs) >= ENOUGH_FOR_THIRDS:
            ordered, third = sorted(pairs, key=lambda pair: -pair[0]), len(pairs) // 3
            top, middle = ordered[:third], ordered[third:len(pairs) - third]
            by_split.setdefault(split, []).append(rows.mean(y for _, y in top) - rows.mean(y for _, y in middle))
    if not by_split:
        return None
    means = {split: rows.mean(values) for split, values in by_split.items()}
    draws = rows.over_distinct_classes(study.summary, means)
    low, high = mean_interval(draws) if len(draws) > 1 else (None, None)
    return {"top_minus_middle": rows.mean(draws), "low": low, "high": high, "splits": len(means),
            "groups": sum(map(len, by_split.values()))}


# ------------------------------------------------------------------------------------------------------------- card
def _rho_words(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return rows.MISSING
    interval = f" {rows.bounds([found['low'], found['high']], 2, sign=True)}" if "low" in found else ""
    return f"{rows.signed(found['rho'], 2)}{interval}"


def _sign(found: Mapping[str, Any] | None) -> int:
    return 0 if found is None or found["low"] is None else (found["low"] > 0) - (found["high"] < 0)


def _whole(result: Mapping[str, Any]) -> Mapping[str, Any]:
    return result["within"].get(ALL) or next(iter(result["within"].values()))


def headline(result: Mapping[str, Any]) -> str:
    """The relation over trials for the frozen rule and the oracle."""
    whole = _whole(result)
    rule, oracle = whole["frozen_rule"], whole["oracle_detector"]
    if rule is None:
        return "Accuracy or AUROC does not vary over the trials, so that no relation can be seen."
    words = {1: "Trials that classify better detect better", -1: "Trials that classify better detect worse",
             0: "Whether trials that classify better detect better cannot be told from noise"}
    text = f"{words[_sign(rule)]}: ρ {_rho_words(rule)} over {rule['trials']} trials"
    if oracle is not None:
        text += f", for what an oracle finds in their latents {_rho_words(oracle)}"
    thirds = result["thirds"]["frozen_rule"]
    if thirds is not None and thirds["low"] is not None:
        told = {1: "and it holds among good ones", -1: "but among good ones it turns round", 0: "but not among good ones beyond noise"}
        if _sign(rule) > 0:
            text += f"; {told[_sign(thirds)]}: the best third has {_third_words(thirds)} over the middle third"
    return text + "."


def _third_words(found: Mapping[str, Any]) -> str:
    interval = "" if found["low"] is None else f" {rows.bounds([found['low'], found['high']], sign=True)}"
    return f"{rows.signed(found['top_minus_middle'])}{interval} AUROC"


def figure_data(result: Mapping[str, Any]) -> dict[str, Any]:
    """{"panels": [{"label", "points": {method: [[accuracy, AUROC]]}}], "title"}: frozen rule and oracle detector."""
    panels = [{"label": f"{TARGETS[target][0]} (ρ {_rho_words(_whole(result)[target])})", "points": result["points"][target]}
              for target in ("frozen_rule", "oracle_detector") if result["points"][target]]
    return {"panels": panels, "title": "AUROC of every trial against its closed-set accuracy"}


def card(result: Mapping[str, Any]) -> Card:
    titles = [title for title, _ in TARGETS.values()]
    lines = [(f"within {method}", *(_rho_words(found[target]) for target in TARGETS),
              str((found["frozen_rule"] or {}).get("trials", rows.MISSING))) for method, found in result["within"].items()]
    between = result["between"]
    if any(between.values()):
        lines.append(("between methods' means", *(_rho_words(between[target]) for target in TARGETS), rows.MISSING))
    table = Table(("relation", *titles, "trials"), tuple(lines), "Spearman's ρ of closed-set accuracy and AUROC",
                  "Within: trials of one method and split, pooled over splits, with a 95 % interval that takes trials as "
                  "independent. Between: no interval, since methods are few and no random draw.")
    sentences = [f"Of the most accurate third of each method and split's trials over the middle third: "
                 f"{rows.listed(f'{TARGETS[t][0]} {_third_words(found)}' for t, found in result['thirds'].items() if found)}."
                 ] if any(result["thirds"].values()) else []
    if result["biased"]:
        sentences.append(f"To be known: {result['biased']}, and a relation over such trials is not one over the search space.")
    data = figure_data(result)
    figure = Figure("accuracy-and-auroc", data, draw_accuracy, f"Dots. {'; '.join(panel['label'] for panel in data['panels'])}.",
                    "A dot a trial, a marker a method. All splits together, so that clusters may be splits.")
    return Card("accuracy_and_auroc", QUESTION.title, headline(result), tuple(sentences), (table,), (figure,))


QUESTION = Question(name="accuracy_and_auroc", title="Do better classifiers detect better?", compute=compute, card=card,
                    applicable=applicable)
