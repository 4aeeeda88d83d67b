"""Does an oracle know anomalies of classes that it was not shown, or only those it was?

An oracle that beats the scorer by knowing the very classes that it is tested on says nothing about open space. Here it
learns from nominal validation images and the anomalies of all classes but one, and is tested on that one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis import summary_rows as rows
from analysis.card import Card, Table
from analysis.comparison import mean_interval
from analysis.evidence import StudyEvidence, TrialEvidence
from analysis.oracle_means import (
    SMALL_FOREST,
    ahead,
    all_methods,
    area,
    difference_words,
    mean_words,
    over,
    score_or_none,
    selected_of,
    sign_of,
    small_oracle_scores,
)
from analysis.questions import Question

CHIEF, ORACLES = "forest", ("linear", "forest")
KEYS = ("unseen", "shown", "unseen_minus_rule", "shown_minus_rule", "unseen_minus_shown")
TITLES = {"linear": "linear probe", "forest": f"forest of {SMALL_FOREST} trees"}


def measure(evidence: TrialEvidence) -> dict[str, Any] | None:
    """{"classes": {anomaly class: {"images", "frozen_rule", "max_logit": [AUROC, low, high], and for each of
    ``ORACLES`` {"unseen", "shown": [AUROC, low, high], "unseen_minus_rule", "shown_minus_rule", "unseen_minus_shown":
    [difference, low, high]}}}}: the class's test images against all nominal ones. "unseen": the oracle was not shown
    the class, "shown": it was shown all. None with fewer than two anomaly classes to learn from."""
    learnt = [c for c in np.unique(evidence.outlier_class) if c >= 0]
    rule = score_or_none(evidence, "frozen_rule")
    if len(learnt) < 2 or rule is None:
        return None
    max_logit = score_or_none(evidence, "max_logit")
    every = {name: _scores(evidence, name, np.ones(len(evidence.outliers), bool)) for name in ORACLES}
    classes: dict[str, Any] = {}
    for index in learnt:
        of_class = evidence.test_anomaly_class == index
        if not of_class.any():
            continue
        rows_in = of_class | ~evidence.is_anomaly
        mask = of_class[rows_in]
        found: dict[str, Any] = {"images": int(of_class.sum()), "frozen_rule": area(rule[rows_in], mask)}
        found["max_logit"] = None if max_logit is None else area(max_logit[rows_in], mask)
        for name in ORACLES:
            unseen = _scores(evidence, name, evidence.outlier_class != index)[rows_in]
            shown = every[name][rows_in]
            found[name] = {"unseen": area(unseen, mask), "shown": area(shown, mask),
                           "unseen_minus_rule": ahead(unseen, rule[rows_in], mask),
                           "shown_minus_rule": ahead(shown, rule[rows_in], mask),
                           "unseen_minus_shown": ahead(unseen, shown, mask)}
        classes[evidence.anomaly_classes[index]] = found
    return {"classes": classes} if classes else None


def _scores(evidence: TrialEvidence, name: str, outliers: np.ndarray) -> np.ndarray:
    """Test scores of an oracle that learnt from nominal validation images and these outliers."""
    return small_oracle_scores(name, evidence.validation.z, evidence.outliers.z[outliers], evidence.test.z,
                               seed=evidence.seed, threads=evidence.threads)


def applicable(study: StudyEvidence) -> str:
    if not selected_of(study, "leave_one_class_out"):
        return "An anomaly class can only be left out where there are at least two to learn from."
    return ""


def compute(study: StudyEvidence) -> dict[str, Any]:
    """Keys: ``methods``: {method: {"frozen_rule", "max_logit": mean over classes of the AUROC, then over splits; for
    each of ``linear`` and ``forest`` {"unseen", "shown", "unseen_minus_rule", "shown_minus_rule",
    "unseen_minus_shown"}}}, each as ``oracle_means.over`` gives it: over splits with different nominal classes, else
    an interval over the anomaly classes of a split, at 0.95 divided among methods and oracles; ``mean``: {oracle: the
    same keys, as a mean over methods, at 0.95 divided among the oracles}; ``verdicts``: {method: {oracle: "ahead",
    "behind" or "not told apart" from the rule on unseen classes}}; ``classes``: {method: {split: what was measured by
    class}}."""
    selected = selected_of(study, "leave_one_class_out")
    methods: dict[str, Any] = {}
    for method, by_split in selected.items():
        tables = {split: list(found["classes"].values()) for split, found in by_split.items()}
        methods[method] = {name: over(study, {s: _over_classes([found[name] for found in table])
                                              for s, table in tables.items()}) for name in ("frozen_rule", "max_logit")}
        for oracle in ORACLES:
            methods[method][oracle] = {
                key: over(study, {s: _over_classes([found[oracle][key] for found in table])
                                  for s, table in tables.items()}, rivals=len(selected) * len(ORACLES))
                for key in KEYS}
    words = {1: "ahead", -1: "behind", 0: "not told apart"}
    return {
        "methods": methods, "mean": {oracle: _mean(study, selected, oracle) for oracle in ORACLES},
        "verdicts": {method: {oracle: words[sign_of(found[oracle]["unseen_minus_rule"])] for oracle in ORACLES}
                     for method, found in methods.items()},
        "classes": {method: {str(split): found["classes"] for split, found in by_split.items()}
                    for method, by_split in selected.items()},
    }


def _mean(study: StudyEvidence, selected: Mapping[str, Mapping[Any, Mapping[str, Any]]], oracle: str) -> dict[str, Any]:
    """Class by class the mean over methods, then over classes and splits."""
    found: dict[str, Any] = {}
    for key in KEYS:
        by_split: dict[Any, dict[str, list[list[float]]]] = {}
        for tables in selected.values():
            for split, table in tables.items():
                for name, value in table["classes"].items():
                    by_split.setdefault(split, {}).setdefault(name, []).append(value[oracle][key])
        found[key] = over(study, {split: _over_classes([np.mean(np.asarray(values), axis=0).tolist()
                                                        for values in classes.values()])
                                  for split, classes in by_split.items()}, rivals=len(ORACLES))
    return found


def _over_classes(values: list[list[float] | None]) -> list[float] | None:
    """[mean, low, high] over the classes of one split: Student's t, since other classes might have been held out; of
    one class its own interval."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return known[0] if known else None
    means = [value[0] for value in known]
    return [sum(means) / len(means), *mean_interval(means)]


def card(result: Mapping[str, Any]) -> Card:
    methods = result["methods"]
    header = ("method", "frozen rule", *(f"{TITLES[o]}, class {w}" for o in ORACLES for w in ("shown", "not shown")),
              *(f"{TITLES[o]}, not shown − rule" for o in ORACLES))
    lines = [(m, mean_words(found["frozen_rule"]),
              *(mean_words(found[o][key]) for o in ORACLES for key in ("shown", "unseen")),
              *(difference_words(found[o]["unseen_minus_rule"]) for o in ORACLES)) for m, found in methods.items()]
    over_splits = all(found["forest"]["unseen"]["basis"] == "splits" for found in methods.values())
    units = "splits" if over_splits else "the classes that were left out"
    note = (f"Means over anomaly classes. Intervals over {units} at the level 0.95 divided among the methods and the "
            "two oracles. Leaving a class out also leaves fewer anomalies.")
    table = Table(header, tuple(lines), "AUROC of one anomaly class against all nominal images", note)
    tables = (table, _by_class(result))
    return Card("leave_one_class_out", QUESTION.title, _headline(result), _sentences(result), tables)


def _headline(result: Mapping[str, Any]) -> str:
    found, count = result["mean"][CHIEF]["unseen_minus_rule"], len(result["methods"])
    words = {1: "still beats", -1: "is worse than", 0: "is not told apart from"}[sign_of(found)]
    return (f"On anomaly classes that it was not shown, an oracle {words} the frozen rule, which needs no label: "
            f"{difference_words(found)} in AUROC by the {TITLES[CHIEF]}{all_methods(count)}.")


def _sentences(result: Mapping[str, Any]) -> tuple[str, ...]:
    mean, verdicts = result["mean"], result["verdicts"]
    each = rows.listed(f"{difference_words(mean[o]['unseen_minus_shown'])} by the {TITLES[o]}" for o in ORACLES)
    worst = _worst(result)
    sentences = [f"Not being shown a class costs an oracle, on that class: {each}.",
                 "The linear probe against the frozen rule on unseen classes: "
                 f"{difference_words(mean['linear']['unseen_minus_rule'])}."]
    certain = [f"{m} ({word})" for m, table in verdicts.items() for o, word in table.items()
               if o == CHIEF and word != "not told apart"]
    if len(verdicts) > 1:
        sentences.append(f"Method by method beyond noise: {rows.listed(certain)}." if certain else
                         "For no method by itself is the difference beyond noise.")
    if worst is not None and worst[1][2] < 0.5:
        name, (area_, *limits) = worst
        sentences.append(f"Below chance on {name!r}, unseen ({rows.number(area_)} {rows.bounds(limits)}, mean over methods "
                         "and splits): what it learnt of the other anomalies told it that these are nominal.")
    return tuple(sentences)


def _worst(result: Mapping[str, Any]) -> tuple[str, list[float]] | None:
    """The class with the lowest AUROC, unseen, by the chief oracle: the mean over methods and splits, with its limits."""
    areas: dict[str, list[list[float]]] = {}
    for by_split in result["classes"].values():
        for classes in by_split.values():
            for name, found in classes.items():
                areas.setdefault(name, []).append(found[CHIEF]["unseen"])
    means = {name: np.mean(np.asarray(values), axis=0).tolist() for name, values in areas.items()}
    return min(means.items(), key=lambda item: item[1][0]) if means else None


def _by_class(result: Mapping[str, Any]) -> Table:
    lines = [(f"{method} · {split} · {name}", str(found["images"]), rows.number(found["frozen_rule"][0]),
              *(rows.number(found[o][key][0]) for o in ORACLES for key in ("shown", "unseen")),
              *(_words(found[o]["unseen_minus_rule"]) for o in ORACLES))
             for method, by_split in result["classes"].items() for split, classes in by_split.items()
             for name, found in classes.items()]
    header = ("method · split · class", "images", "frozen rule", "linear, shown", "linear, not shown", "forest, shown",
              "forest, not shown", "linear, not shown − rule", "forest, not shown − rule")
    return Table(header, tuple(lines), "Class by class", "Paired DeLong intervals at 0.95, one by one: among many "
                 "classes some exclude 0 by chance.", folded=True)


def _words(difference: list[float]) -> str:
    return f"{rows.signed(difference[0])} {rows.bounds(difference[1:], sign=True)}"


QUESTION = Question(
    name="leave_one_class_out", title="Does an oracle know anomalies of classes that it was not shown?",
    measure=measure, compute=compute, card=card, applicable=applicable, scope="selected",
)
