"""What would it cost to reject: how many anomalies pass, how wrong is what is accepted, and does a threshold hold?

Everything is of the selected trials. A threshold can only be set on nominal validation images; whether as many nominal test
images are accepted as was aimed at is judged against what chance allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis import metrics, selective
from analysis.evidence import StudyEvidence, TrialEvidence
from analysis.fusion import FrozenRule
from analysis.gaps import FROZEN_RULE
from analysis.oracle_means import score_or_none, selected_of
from analysis.over_splits import mean_of
from analysis.questions import Question
from analysis.questions.operating_points_card import MEASURES, SCORES, TITLE, card

ACCEPTANCES = (0.9, 0.95, 0.99)
CURVES = (FROZEN_RULE, "oracle_detector")  # and the ideal: more lines than these cannot be told apart


# -------------------------------------------------------------------------------------------------- measurement
def measure(evidence: TrialEvidence) -> dict[str, Any] | None:
    """{"scores": {score: {key of ``MEASURES``: number}}, "curves": {"closed", "open": {score, or "ideal": {"coverage",
    "risk"}}}, "transfer": [{"aimed", "accepted": share of nominal test images, "low", "high": where it should lie, "missed":
    share of anomalies accepted there}], "validation", "nominal": how many images}. None without the frozen rule's scores
    or without images of either kind."""
    mask = evidence.is_anomaly
    scores = {name: score_or_none(evidence, name) for name in SCORES}
    scores = {name: score for name, score in scores.items() if score is not None}
    if FROZEN_RULE not in scores or mask.all() or not mask.any():
        return None
    nominal, correct = ~mask, evidence.correct
    wrong, wrong_open = ~correct[nominal], selective.open_set_errors(mask, correct)
    curves: dict[str, dict[str, Any]] = {"closed": {}, "open": {}}
    for name in (name for name in CURVES if name in scores):
        curves["closed"][name] = _curve(scores[name][nominal], wrong)
        curves["open"][name] = _curve(scores[name], wrong_open)
    for kind, errors in (("closed", wrong), ("open", wrong_open)):
        curves[kind]["ideal"] = _curve(errors.astype(float), errors)
    return {
        "scores": {name: _numbers(score, mask, correct, wrong, wrong_open) for name, score in scores.items()},
        "curves": curves, "transfer": _transfer(evidence, scores[FROZEN_RULE]),
        "validation": len(evidence.validation), "nominal": int(nominal.sum()),
    }


def _curve(score: np.ndarray, errors: np.ndarray) -> dict[str, list[float]]:
    return selective.thinned(*selective.risk_coverage_curve(score, errors))


def _numbers(score, mask, correct, wrong, wrong_open) -> dict[str, float]:
    return {
        "equal_error_rate": metrics.equal_error_rate(score, mask), "fpr_at_95_tpr": metrics.fpr_at_95_tpr(score, mask),
        "missed": metrics.anomalies_missed_at_95_acceptance(score, mask), "oscr": metrics.oscr(score, mask, correct),
        "aurc_closed": selective.aurc(score[~mask], wrong), "aurc_open": selective.aurc(score, wrong_open),
    }


def _transfer(evidence: TrialEvidence, score: np.ndarray) -> list[dict[str, float]]:
    """What thresholds do on test images that were set on nominal validation images."""
    rule = evidence.rule
    known = {name: evidence.score(name, "validation") for name in rule["members"]}
    fitted = FrozenRule(rule["scorer"], rule["members"], rule["parameters"], own=evidence.own).fit_scores(known)
    mask, found = evidence.is_anomaly, []
    for aimed in ACCEPTANCES:
        threshold = fitted.threshold(aimed)
        low, high = selective.acceptance_interval(aimed, len(evidence.validation), int((~mask).sum()))
        found.append({"aimed": aimed, "accepted": float(np.mean(score[~mask] <= threshold)), "low": low, "high": high,
                      "missed": float(np.mean(score[mask] <= threshold))})
    return found


# ------------------------------------------------------------------------------------------------------ the study
def applicable(study: StudyEvidence) -> str:
    return "" if selected_of(study, "operating_points") else "There are no anomalies whose rejection could be measured."


def compute(study: StudyEvidence) -> dict[str, Any]:
    """Keys: ``methods``: {method: {score of ``operating_points_card.SCORES``: {key of ``MEASURES``: {"value", "error" over
    splits or None, "splits"}}}}; ``transfer``: {method: {aimed acceptance as text: {"accepted", "missed": mean over splits,
    "splits", "within": in how many of them the accepted share lies where chance puts it with probability 0.95, "by_split":
    {split: [accepted, low, high]}}}}; ``curves``: {method: {"split", "closed", "open": {score or "ideal": {"coverage",
    "risk"}}}} of each method's first split; ``images``: {method: [validation, nominal test] images of that split}."""
    selected = selected_of(study, "operating_points")
    methods: dict[str, Any] = {}
    transfer: dict[str, Any] = {}
    for method, by_split in selected.items():
        names = [name for name in SCORES if any(name in value["scores"] for value in by_split.values())]
        methods[method] = {name: {key: _mean(study, by_split, name, key) for key in MEASURES} for name in names}
        transfer[method] = {f"{aimed:g}": _over_splits(by_split, index) for index, aimed in enumerate(ACCEPTANCES)}
    first = {method: next(iter(by_split.items())) for method, by_split in selected.items()}
    return {
        "methods": methods, "transfer": transfer,
        "curves": {method: {"split": str(split), **value["curves"]} for method, (split, value) in first.items()},
        "images": {method: [value["validation"], value["nominal"]] for method, (_, value) in first.items()},
    }


def _mean(study: StudyEvidence, by_split: Mapping[Any, Mapping[str, Any]], name: str, key: str) -> dict[str, Any]:
    found = mean_of(study.summary, {split: value["scores"].get(name, {}).get(key) for split, value in by_split.items()})
    return {"value": found.value, "error": found.error, "splits": found.n}


def _over_splits(by_split: Mapping[Any, Mapping[str, Any]], index: int) -> dict[str, Any]:
    found = {split: value["transfer"][index] for split, value in by_split.items()}
    return {
        **{key: float(np.mean([one[key] for one in found.values()])) for key in ("accepted", "missed")},
        "splits": len(found), "within": sum(_within(one) for one in found.values()),
        "by_split": {str(split): [one["accepted"], one["low"], one["high"]] for split, one in found.items()},
    }


def _within(one: Mapping[str, float]) -> bool:
    return one["low"] <= one["accepted"] <= one["high"]


QUESTION = Question(name="operating_points", title=TITLE, measure=measure, compute=compute, card=card, applicable=applicable,
                    scope="selected")
