"""Which anomaly class is hardest, for whom, and for what is it taken?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis import summary_rows as rows
from analysis.card import Card, Figure, Table
from analysis.evidence import StudyEvidence, TrialEvidence
from analysis.oracle_means import ahead, area, difference_words, mean_words, over, score_or_none, selected_of, widening
from analysis.plot_questions_oracles import draw_classes
from analysis.questions import Question

SCORES = {"frozen_rule": "frozen rule", "max_logit": "max logit", "oracle_detector": "oracle detector",
          "oracle_representation": "oracle representation"}
FIGURE_CLASSES = 12  # the hardest of more, in the figure


def measure(evidence: TrialEvidence) -> dict[str, Any] | None:
    """{"classes": {anomaly class: {"images", one of ``SCORES``: [AUROC, low, high] of the class against all nominal
    test images, or None, "gap": [oracle detector − frozen rule, low, high] or None, "taken_for": the nominal class
    that most of its images are predicted as, "share": how many}}, "usual_share": of correct and wrong nominal images
    alike, the largest share that one class has among predictions}."""
    rule = score_or_none(evidence, "frozen_rule")
    if rule is None:
        return None
    scores = {name: score_or_none(evidence, name) for name in SCORES}
    predicted = evidence.test.logits.argmax(axis=1)
    classes: dict[str, Any] = {}
    for index, name in enumerate(evidence.anomaly_classes):
        of_class = evidence.test_anomaly_class == index
        if not of_class.any() or evidence.is_anomaly.all():
            continue
        kept = of_class | ~evidence.is_anomaly
        mask, oracle = of_class[kept], scores["oracle_detector"]
        counts = np.bincount(predicted[of_class], minlength=len(evidence.nominal_classes))
        classes[name] = {
            "images": int(of_class.sum()),
            **{key: None if score is None else area(score[kept], mask) for key, score in scores.items()},
            "gap": None if oracle is None else ahead(oracle[kept], rule[kept], mask),
            "taken_for": evidence.nominal_classes[int(counts.argmax())], "share": float(counts.max() / counts.sum()),
        }
    nominal = np.bincount(predicted[~evidence.is_anomaly], minlength=len(evidence.nominal_classes))
    return {"classes": classes, "usual_share": float(nominal.max() / nominal.sum())} if classes else None


def applicable(study: StudyEvidence) -> str:
    return "" if selected_of(study, "per_class") else "There are no anomaly classes to tell apart."


def compute(study: StudyEvidence) -> dict[str, Any]:
    """Keys: ``methods``: {method: {anomaly class: {"images", "splits", each of ``SCORES`` and "gap" (None or as
    ``oracle_means.over``, over the splits where the class is anomalous), "taken_for": {split: [nominal class,
    share]}}}}, by the frozen rule's AUROC, hardest first; ``hardest``: {method: {"class", "auroc", "beyond_noise":
    whether it is harder than every other class beyond noise (Bonferroni over the others)}}; ``usual_share``: {method:
    mean of the largest share of a class among predictions of nominal images}. Intervals are from the test images: a
    class is anomalous in few splits, so they are about these models. The gap's are at 0.95 divided among a method's
    classes."""
    selected = selected_of(study, "per_class")
    methods: dict[str, Any] = {}
    for method, by_split in selected.items():
        names = list(dict.fromkeys(name for found in by_split.values() for name in found["classes"]))
        table = {name: _of_class(study, name, by_split, len(names)) for name in names}
        methods[method] = dict(sorted(table.items(), key=lambda item: item[1]["frozen_rule"]["mean"]))
    return {
        "methods": methods, "hardest": {method: _hardest(found) for method, found in methods.items()},
        "usual_share": {method: rows.mean(found["usual_share"] for found in by_split.values())
                        for method, by_split in selected.items()},
    }


def _of_class(
    study: StudyEvidence, name: str, by_split: Mapping[Any, Mapping[str, Any]], rivals: int
) -> dict[str, Any]:
    found = {split: value["classes"][name] for split, value in by_split.items() if name in value["classes"]}
    return {
        "images": sum(value["images"] for value in found.values()), "splits": len(found),
        **{key: over(study, {split: value[key] for split, value in found.items()}, images=True) for key in SCORES},
        "gap": over(study, {split: value["gap"] for split, value in found.items()}, rivals=rivals, images=True),
        "taken_for": {str(split): [value["taken_for"], value["share"]] for split, value in found.items()},
    }


def _hardest(classes: Mapping[str, Any]) -> dict[str, Any]:
    """The first class; intervals of two classes are combined as if independent (Zou & Donner 2008), which the shared
    nominal images make cautious."""
    first, *others = classes.values()
    wide = widening(max(1, len(others)))
    rule = first["frozen_rule"]
    beyond = bool(others)
    for other in others:
        theirs = other["frozen_rule"]
        reach = wide * float(np.hypot(rule["high"] - rule["mean"], theirs["mean"] - theirs["low"]))
        beyond = beyond and theirs["mean"] - rule["mean"] > reach
    return {"class": next(iter(classes)), "auroc": rule["mean"], "beyond_noise": beyond}


def figure_data(result: Mapping[str, Any]) -> dict[str, Any]:
    """{"title", "panels": [{"label", "classes": names, "series":
    {score's title: [AUROC or None]}}]} of the hardest ``FIGURE_CLASSES`` of each method."""
    panels = []
    for method, table in result["methods"].items():
        names = list(table)[:FIGURE_CLASSES]
        series = {title: [table[n][key]["mean"] if table[n][key] else None for n in names]
                  for key, title in SCORES.items()}
        known = {title: values for title, values in series.items() if any(v is not None for v in values)}
        panels.append({"label": method, "classes": names, "series": known})
    return {"title": "AUROC of each anomaly class, hardest for the frozen rule on top", "panels": panels}


def card(result: Mapping[str, Any]) -> Card:
    lines = []
    for method, table in result["methods"].items():
        for name, found in table.items():
            lines.append((f"{method} · {name}", str(found["images"]), *(mean_words(found[key]) for key in SCORES),
                          difference_words(found["gap"]), _confusion(found)))
    table = Table(("method · anomaly class", "images", *SCORES.values(), "gap", "taken for"), tuple(lines),
                  "AUROC of one anomaly class against all nominal images, selected trials",
                  "Gap: oracle detector − frozen rule, its interval from the test images, at the level 0.95 divided "
                  "among the method's classes. Taken for: the nominal class that most of its images are predicted as, "
                  "and their share, split by split.", left=frozenset({7}),
                  folded=len(lines) > 24)
    alt = "For each method, a row for each anomaly class with the AUROC of frozen rule, max logit and the two oracles."
    return Card("per_class", QUESTION.title, _headline(result), _sentences(result), (table,),
                (Figure("per-class", figure_data(result), draw_classes, alt,
                        "The further right, the easier. Dots of one row are scores of the same images."),))


def _confusion(found: Mapping[str, Any]) -> str:
    return "; ".join(f"{name} {share:.0%}" for name, share in found["taken_for"].values())


def _headline(result: Mapping[str, Any]) -> str:
    hardest = result["hardest"]
    classes = {found["class"] for found in hardest.values()}
    sure = [m for m, found in hardest.items() if found["beyond_noise"]]
    first = next(iter(hardest))
    number = f"AUROC {rows.number(hardest[first]['auroc'])} by the frozen rule"
    if len(classes) == 1:
        for_whom = f"for all {len(hardest)} methods" if len(hardest) > 1 else f"for {first}"
        doubt = "" if len(sure) == len(hardest) else (
            "; the next is not told apart from it" if not sure else f"; beyond noise for {len(sure)} of them")
        return f"{classes.pop()!r} is the hardest anomaly class {for_whom} ({first}: {number}{doubt})."
    counted = {name: sum(found["class"] == name for found in hardest.values()) for name in sorted(classes)}
    named = rows.listed(f"{name!r} for {count}" for name, count in counted.items())
    noise = f"for {len(sure)} of {len(hardest)} methods it is so beyond noise" if sure else "for none beyond noise"
    return (f"Methods differ in their hardest anomaly class ({named}), {noise}; for {first} it is "
            f"{hardest[first]['class']!r} ({number}).")


def _sentences(result: Mapping[str, Any]) -> tuple[str, ...]:
    first, table = next(iter(result["methods"].items()))
    name, found = next(iter(table.items()))
    shares = [share for _, share in found["taken_for"].values()]
    sentences = [f"{first} takes {name!r} for {_confusion(found)}; of nominal images the most frequent prediction has "
                 f"{rows.number(result['usual_share'][first], 2)} of all." if shares else ""]
    wide = [(m, n) for m, t in result["methods"].items() for n, f in t.items() if f["gap"] and f["gap"]["low"] > 0]
    closed = [(m, n) for m, t in result["methods"].items() for n, f in t.items() if f["gap"] and f["gap"]["high"] < 0]
    total = sum(len(t) for t in result["methods"].values())
    sentences.append(f"The oracle is beyond noise ahead of the frozen rule for {len(wide)} of {total} pairs of method "
                     f"and class, and behind for {len(closed)}.")
    return tuple(sentence for sentence in sentences if sentence)


QUESTION = Question(
    name="per_class", title="Which anomaly class is hardest, and for what is it taken?", measure=measure,
    compute=compute, card=card, applicable=applicable, scope="selected",
)
