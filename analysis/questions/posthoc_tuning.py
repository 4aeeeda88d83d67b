"""Does it pay to tune the scorers' own parameters after training, on nominal features alone?

A search of ``posthoc_search`` chooses each scorer's parameters; only then is its AUROC on the test images taken, once,
and compared with that at the default. Nothing goes back: the frozen selection stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis import summary_rows as rows
from analysis.evidence import StudyEvidence, TrialEvidence
from analysis.holm import holm
from analysis.metrics import auroc
from analysis.oracle_means import LEVEL_Z, ahead, over_methods, selected_of
from analysis.posthoc_search import NLL, OBJECTIVES, UNUSABLE, Found, Nominal, search
from analysis.posthoc_spaces import space_of, words
from analysis.questions import Question
from analysis.questions.posthoc_tuning_card import SETTLED, TITLE, card

DIGITS = 5  # significant, of a stored number


# -------------------------------------------------------------------------------------------------- measurement
def measure(evidence: TrialEvidence) -> dict[str, Any] | None:
    """{"scorers": {scorer: {"range": in words, "default": {"parameters", "auroc"}, "settled": {"parameters", "auroc",
    "difference": [settled − default, low, high] by paired DeLong} where it was settled, "searches": {objective:
    {"settings", "seconds", "before", "after": the objective at the default and at its best, "parameters", "auroc",
    "difference"}}}}, "rule": {objective: [frozen rule with its members' tuned parameters − frozen rule, low, high]}}.

    Every search ends before the first test image is scored. A scorer that cannot be computed is left out; None where
    no scorer is left, or without anomalies or nominal images.
    """
    from analysis.oracles import native_threads
    from analysis.scorers import scorer_class

    if evidence.is_anomaly.all() or not evidence.is_anomaly.any():
        return None
    nominal = Nominal(evidence.train, evidence.validation, tuple(evidence.own))
    found: dict[str, dict[str, Found]] = {}
    with native_threads(evidence.threads):
        for name in _searched(evidence):
            parameters = scorer_class(name, evidence.own).info.parameters
            objectives = [o for o in OBJECTIVES if o != NLL or "temperature" in parameters]
            searches = {o: search(name, nominal, o, seed=evidence.seed) for o in objectives}
            found[name] = {o: one for o, one in searches.items() if one.value is not None}
        scorers = {}
        for name, searches in found.items():
            revealed = _revealed(evidence, name, searches) if searches else None
            if revealed:
                scorers[name] = {"range": words(space_of(name, evidence.train, evidence.own)), **revealed}
        return {"scorers": scorers, "rule": _ruled(evidence, found)} if scorers else None


def _searched(evidence: TrialEvidence) -> list[str]:
    """The scorers in use, then all others that this method can use, that have parameters."""
    from analysis.scorers import scorer_class, usable_scorers

    usable = usable_scorers(evidence.own, linear_head=evidence.linear_head)
    names = dict.fromkeys([*(name for name in evidence.scorers if name in usable), *usable])
    return [name for name in names if scorer_class(name, evidence.own).info.parameters]


def _revealed(evidence: TrialEvidence, name: str, searches: Mapping[str, Any]) -> dict[str, Any] | None:
    """Test AUROC at the default, settled and chosen parameters; None where the default cannot be computed."""
    scores: dict[tuple, np.ndarray | None] = {}

    def scored(parameters: Mapping[str, Any]) -> np.ndarray | None:
        key = tuple(parameters[parameter] for parameter in default)
        if key not in scores:
            scores[key] = _test_score(evidence, name, parameters)
        return scores[key]

    default = dict(next(iter(searches.values())).default)
    basis, mask = scored(default), evidence.is_anomaly
    if basis is None:
        return None

    def compared(parameters: Mapping[str, Any]) -> dict[str, Any]:
        score = scored(parameters)
        if score is None:
            return {"parameters": _short(parameters), "auroc": None, "difference": None}
        return {"parameters": _short(parameters), "auroc": _short(auroc(score, mask)),
                "difference": _short(ahead(score, basis, mask))}

    settled = {**default, **evidence.settled[name]} if name in evidence.settled else None
    return {
        "default": {"parameters": _short(default), "auroc": _short(auroc(basis, mask))},
        "settled": settled and compared(settled),
        "searches": {objective: {"settings": one.settings, "seconds": round(one.seconds, 3),
                                 "before": _short(one.default_value), "after": _short(one.value),
                                 **compared(one.parameters)} for objective, one in searches.items()},
    }


def _test_score(evidence: TrialEvidence, name: str, parameters: Mapping[str, Any]) -> np.ndarray | None:
    from analysis.scorers import get_scorer

    try:
        with np.errstate(all="ignore"):
            score = get_scorer(name, evidence.own).fit(evidence.train, parameters).score(evidence.test)
    except UNUSABLE:
        return None
    return score if np.isfinite(score).all() else None


def _ruled(evidence: TrialEvidence, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The frozen rule anew, with the parameters that each search chose for its members, against itself."""
    from analysis.fusion import FrozenRule

    members, frozen = evidence.rule.get("members") or (), evidence.stored.get("frozen_rule")
    compared: dict[str, Any] = {}
    for objective in dict.fromkeys(objective for searches in found.values() for objective in searches):
        tuned = {name: found[name][objective].parameters for name in members if objective in found.get(name, {})}
        if not tuned or frozen is None or not np.isfinite(frozen).all():
            continue
        try:
            rule = FrozenRule(evidence.rule["scorer"], members, {**evidence.settled, **tuned}, own=evidence.own)
            score = rule.fit(evidence.train, evidence.validation).score(evidence.test)
            compared[objective] = _short(ahead(score, frozen, evidence.is_anomaly))
        except UNUSABLE:
            continue
    return compared


def _short(value: Any) -> Any:
    """Numbers to ``DIGITS`` significant digits, so that answers stay small."""
    if isinstance(value, Mapping):
        return {name: _short(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_short(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    return value


# -------------------------------------------------------------------------------------------------- computation
def applicable(study: StudyEvidence) -> str:
    if not selected_of(study, "posthoc_tuning"):
        return "No scorer with parameters of its own could be measured on a selected trial."
    return ""


def compute(study: StudyEvidence) -> dict[str, Any]:
    """Keys: ``scorers``: {scorer: {"range": what was searched, "auroc": test AUROC at the default, mean over method ×
    split; "choices": {objective, or "settled": {"difference": as ``oracle_means.over_methods`` (test AUROC − that at
    the default, 0.95), "p_value", "p_adjusted" (Holm over all scorers and choices but "settled"), "trials", "changed":
    trials whose choice is not the default, "rose", "fell": trials whose test AUROC it moved up, or down, "before",
    "after": mean of the objective, "settings", "seconds": sums, "parameters": {"method/split": chosen}}}}};
    ``objectives``: {objective: {"difference": of the mean over scorers (0.95 divided among the objectives), "found":
    scorers ahead and behind beyond noise (adjusted p ≤ 0.05) as [ahead, behind], "scorers"}}; ``rule``: {objective:
    frozen rule with its members tuned − frozen rule, likewise}; ``settings``, ``seconds``: of all searches; ``trials``:
    selected trials measured; ``methods``.

    p-values: Student's t over splits with distinct nominal classes, where there are two; else from the test images."""
    selected = selected_of(study, "posthoc_tuning")
    scorers = {name: _of_scorer(study, name, selected) for name in _names(selected)}
    objectives = list(dict.fromkeys(o for one in scorers.values() for o in one["choices"] if o != SETTLED))
    tests = {(name, o): one["choices"][o]["p_value"] for name, one in scorers.items() for o in objectives
             if o in one["choices"]}
    for (name, objective), adjusted in holm(tests).items():
        scorers[name]["choices"][objective]["p_adjusted"] = adjusted
    searches = [search for found in _each(selected) for one in found["scorers"].values()
                for search in one["searches"].values()]
    return {
        "scorers": scorers, "objectives": {o: _of_objective(study, o, scorers, selected, len(objectives))
                                           for o in objectives},
        "rule": {o: over_methods(study, {m: {s: found["rule"].get(o) for s, found in by_split.items()}
                                         for m, by_split in selected.items()}, rivals=len(objectives))
                 for o in objectives},
        "settings": sum(one["settings"] for one in searches), "seconds": sum(one["seconds"] for one in searches),
        "trials": len(list(_each(selected))), "methods": list(selected),
    }


def _each(selected: Mapping[str, Mapping[Any, Mapping[str, Any]]]):
    return (found for by_split in selected.values() for found in by_split.values())


def _names(selected: Mapping[str, Mapping[Any, Mapping[str, Any]]]) -> list[str]:
    return list(dict.fromkeys(name for found in _each(selected) for name in found["scorers"]))


def _of_scorer(study: StudyEvidence, name: str, selected: Mapping[str, Mapping[Any, Mapping]]) -> dict[str, Any]:
    measured = {(method, split): found["scorers"][name] for method, by_split in selected.items()
                for split, found in by_split.items() if name in found["scorers"]}
    choices = {}
    for choice in dict.fromkeys([SETTLED, *(o for one in measured.values() for o in one["searches"])]):
        found = {key: one[SETTLED] if choice == SETTLED else one["searches"].get(choice)
                 for key, one in measured.items()}
        found = {key: value for key, value in found.items() if value and value["difference"]}
        if found:
            default = {key: measured[key]["default"]["parameters"] for key in found}
            choices[choice] = _of_choice(study, found, default)
    return {"range": next(iter(measured.values()))["range"],
            "auroc": rows.mean(one["default"]["auroc"] for one in measured.values()), "choices": choices}


def _of_choice(
    study: StudyEvidence, found: Mapping[tuple[str, Any], Mapping[str, Any]], default: Mapping[tuple, Mapping]
) -> dict[str, Any]:
    by_method: dict[str, dict[Any, list[float]]] = {}
    for (method, split), one in found.items():
        by_method.setdefault(method, {})[split] = one["difference"]
    difference, moves = over_methods(study, by_method), [one["difference"][0] for one in found.values()]
    splits = dict.fromkeys((split for _, split in found), 0.0)
    return {
        "difference": difference,
        "p_value": _p_value(difference, len(rows.over_distinct_classes(study.summary, splits))),
        "trials": len(found), "changed": sum(one["parameters"] != default[key] for key, one in found.items()),
        "rose": sum(move > 0 for move in moves), "fell": sum(move < 0 for move in moves),
        **{key: rows.mean(one.get(key) for one in found.values()) for key in ("before", "after")},
        **{key: sum(one.get(key, 0) for one in found.values()) for key in ("settings", "seconds")},
        "parameters": {f"{method}/{split}": dict(one["parameters"]) for (method, split), one in found.items()},
    }


def _p_value(difference: Mapping[str, Any], draws: int) -> float:
    """Two-sided p of "no difference", from the interval's own error; 1 where nothing differs anywhere."""
    from scipy.stats import norm, t

    over_splits = difference["basis"] == "splits"
    error = difference["standard_error"] if over_splits else (difference["high"] - difference["low"]) / 2 / LEVEL_Z
    if error <= 1e-12:
        return 1.0
    size = abs(difference["mean"]) / error
    return float(2 * (t.sf(size, draws - 1) if over_splits else norm.sf(size)))


def _of_objective(
    study: StudyEvidence, objective: str, scorers: Mapping[str, Any], selected: Mapping[str, Mapping[Any, Mapping]],
    rivals: int
) -> dict[str, Any]:
    """Of a trial's scorers the mean difference, its limits theirs, averaged: cautious with images alone."""
    means: dict[str, dict[Any, Any]] = {}
    for method, by_split in selected.items():
        for split, found in by_split.items():
            known = [one["searches"][objective]["difference"] for one in found["scorers"].values()
                     if objective in one["searches"] and one["searches"][objective]["difference"]]
            means.setdefault(method, {})[split] = np.mean(known, axis=0).tolist() if known else None
    sure = [one["choices"][objective]["difference"]["mean"] for one in scorers.values()
            if objective in one["choices"] and one["choices"][objective]["p_adjusted"] <= 0.05]
    return {"difference": over_methods(study, means, rivals=rivals),
            "found": [sum(mean > 0 for mean in sure), sum(mean < 0 for mean in sure)],
            "scorers": sum(objective in one["choices"] for one in scorers.values())}


QUESTION = Question(
    name="posthoc_tuning", title=TITLE, measure=measure, compute=compute, card=card, applicable=applicable,
    scope="selected",
)
