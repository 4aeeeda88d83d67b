"""How should scorers become one detector? Every rule and every scorer alone, on the selected trial, and across trials.

A rule is judged against the best single scorer of the same trial, which only test labels can name; a fused score may
beat it. Rules that rank the scorers by fold models are rebuilt from the frozen rule's members, which stand in ranking
order: what needs more of the ranking than the members show is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis import summary_rows as rows
from analysis.evidence import StudyEvidence, TrialEvidence
from analysis.fusion import RULES, RULES_WITHOUT_FOLDS, FrozenRule, members_of, rule_needs_folds
from analysis.gaps import FROZEN_RULE, finite_or_none
from analysis.metrics import auroc
from analysis.over_splits import mean_of
from analysis.paired_tests import Gap, averaged, judged, over_splits
from analysis.questions import Question
from analysis.questions.scorer_rules_card import ACROSS, ALL, FINALISTS, TITLE, card, kind_of
from analysis.uncertainty import paired_delong


# -------------------------------------------------------------------------------------------------- measurement
def measure(trials: Sequence[TrialEvidence]) -> dict[str, Any] | None:
    """Of the selected trial of a method and split: {"rule": the frozen rule's name, "aurocs": {"frozen_rule", rule or
    scorer: test AUROC}, "against": {the same names but the frozen rule's: [its AUROC − the frozen rule's, low, high]
    (paired DeLong)}, "finalists": trial numbers}. None where the selected trial is not among them.

    Finalists are the selected trial and the next best by validation accuracy, then NLL, then number; each one's score
    is standardised on its own nominal validation images, and the mean taken. Two passes, one trial held at a time.
    """
    order = finalists(trials)
    if not order:
        return None
    chosen = trials[order[0]]
    mask, names, scores = chosen.is_anomaly, usable(chosen), {}
    scores = {name: chosen.score(name) for name in names}
    scores |= {rule: _fused(chosen, rule, members) for rule, members in rules_of(chosen, names).items()}
    frozen, numbers = _frozen(chosen), [chosen.trial]
    across = _across(trials, order)
    if across is not None:
        scores |= across[0]
        numbers = across[1]
    against = {name: paired_delong(score, frozen, mask) for name, score in scores.items()}
    return finite_or_none({
        "rule": chosen.rule.get("scorer"), "finalists": numbers,
        "aurocs": {FROZEN_RULE: auroc(frozen, mask), **{name: auroc(score, mask) for name, score in scores.items()}},
        "against": {name: [found.difference, found.low, found.high] for name, found in against.items()},
    })


def finalists(trials: Sequence[TrialEvidence]) -> list[int]:
    """Positions of the selected trial and of the next best by validation accuracy; empty without a selected one."""
    keys, selected = [], None
    for place, trial in enumerate(trials):
        accuracy, nll = (rows.finite(trial.signals.get(name)) for name in ("val_accuracy", "val_nll"))
        keys.append((math.inf if accuracy is None else -accuracy, math.inf if nll is None else nll, trial.trial, place))
        selected = place if trial.selected else selected
    if selected is None:
        return []
    return [selected, *(key[-1] for key in sorted(keys) if key[-1] != selected)][:FINALISTS]


def usable(trial: TrialEvidence) -> list[str]:
    """The scorers in use whose scores are finite, on validation and on test images."""
    return [name for name in trial.scorers
            if all(np.isfinite(trial.score(name, part)).all() for part in ("validation", "test"))]


def rules_of(trial: TrialEvidence, names: Sequence[str]) -> dict[str, list[str]]:
    """Members by rule, of the rules that can be rebuilt from what the trial knows."""
    head = ranking_head(trial)
    found = {}
    for rule in RULES if names else ():
        if rule_needs_folds(rule):  # only as many as the rule takes matter, and the rest of the ranking is any
            members = members_of(rule, [*head, *(name for name in trial.scorers if name not in head)])
            if members != head[:len(members)] or any(name not in names for name in members):
                continue
            found[rule] = members
        else:
            found[rule] = list(names)
    return found


def ranking_head(trial: TrialEvidence) -> list[str]:
    """The first scorers of the fold models' ranking, as far as the frozen rule's members show it. A rule of all scorers
    shows the whole ranking, unless they stand in the registry's order, as they also do where there were no folds."""
    rule, members = trial.rule.get("scorer"), list(trial.rule.get("members") or ())
    if rule in RULES_WITHOUT_FOLDS:
        return members if members != list(trial.scorers) else []
    return members if rule in RULES else []


def _fused(trial: TrialEvidence, rule: str, members: Sequence[str], part: str = "test") -> np.ndarray:
    fitted = FrozenRule(rule, members, own=trial.own).fit_scores({n: trial.score(n, "validation") for n in members})
    return fitted.fuse_scores({name: trial.score(name, part) for name in members})


def _frozen(trial: TrialEvidence) -> np.ndarray:
    if FROZEN_RULE in trial.stored:
        return trial.stored[FROZEN_RULE]
    return _fused(trial, trial.rule["scorer"], trial.rule["members"])


def _across(trials: Sequence[TrialEvidence], order: Sequence[int]) -> tuple[dict[str, np.ndarray], list[int]] | None:
    """({rule across finalists: score (N,)}, trial numbers); None for fewer than ``FINALISTS`` usable trials."""
    numbers: list[int] = []
    sums: dict[str, list[np.ndarray]] = {name: [] for name in ACROSS}
    for place in order:
        trial = trials[place]
        names = usable(trial)
        members = list(trial.rule.get("members") or ())
        if not names or not members or any(name not in names for name in members):
            continue
        for key, rule, parts in zip(ACROSS, (trial.rule["scorer"], "all_mean"), (members, names), strict=True):
            nominal = _fused(trial, rule, parts, "validation")
            sums[key].append((_fused(trial, rule, parts) - nominal.mean()) / max(nominal.std(), 1e-12))
        numbers.append(trial.trial)
    if len(numbers) < FINALISTS:
        return None
    return {name: np.mean(parts, axis=0) for name, parts in sums.items()}, numbers


# --------------------------------------------------------------------------------------------------- computation
def applicable(study: StudyEvidence) -> str:
    return "" if study.of("scorer_rules") else "No selected trial was revealed, so no rule can be measured."


def compute(study: StudyEvidence) -> dict[str, Any]:
    """{"rule": the frozen rules' names, "kinds": {rule or scorer: key of ``scorer_rules_card.KINDS``}, "finalists":
    {"method/split": trial numbers}, "methods": {method, or "all methods" for their mean: {"best_single": {"auroc",
    "standard_error", "splits", "names": {split: scorer}}, "rules": {name: {"auroc", "standard_error", "loss" (the best
    single scorer's AUROC − its own; negative: ahead of it), "loss_error", "splits", "by_split": {split: loss},
    "against": None for the frozen rule (also under its own name), else as ``paired_tests.judged``: its AUROC − the
    frozen rule's}}}}}.

    Holm's adjustment runs over one method's rules together, and over its single scorers together.
    """
    tables: dict[str, dict[Any, Mapping[str, Any]]] = {}
    for (method, split, _), found in study.of("scorer_rules").items():
        tables.setdefault(method, {})[split] = found
    methods = {method: _method(study, by_split) for method, by_split in tables.items()}
    if len(tables) > 1:
        methods[ALL] = _together(study, tables)
    names = list(dict.fromkeys(name for one in methods.values() for name in one["rules"]))
    return finite_or_none({
        "rule": sorted({str(found["rule"]) for table in tables.values() for found in table.values()}),
        "kinds": {name: kind_of(name) for name in names}, "methods": methods,
        "finalists": {f"{m}/{s}": found["finalists"] for m, table in tables.items() for s, found in table.items()},
    })


def best_single(aurocs: Mapping[str, float | None]) -> tuple[str, float] | None:
    """The scorer of the highest AUROC; the first of equal ones."""
    known = {name: value for name, value in aurocs.items() if kind_of(name) == "scorer" and value is not None}
    return max(known.items(), key=lambda item: item[1]) if known else None


def _losses(by_split: Mapping[Any, Mapping[str, Any]]) -> tuple[dict[str, dict], dict[str, dict], dict[Any, float]]:
    """({name: {split: AUROC}}, {name: {split: loss}}, {split: best single scorer's AUROC})."""
    areas: dict[str, dict[Any, float]] = {}
    losses: dict[str, dict[Any, float]] = {}
    tops: dict[Any, float] = {}
    for split, found in by_split.items():
        best = best_single(found["aurocs"])
        if best:
            tops[split] = best[1]
        for name, value in found["aurocs"].items():
            if value is not None and best:
                areas.setdefault(name, {})[split] = value
                losses.setdefault(name, {})[split] = best[1] - value
    return areas, losses, tops


def _gaps(by_split: Mapping[Any, Mapping[str, Any]]) -> dict[str, dict[Any, Gap]]:
    found: dict[str, dict[Any, Gap]] = {}
    for split, one in by_split.items():
        for name, numbers in one["against"].items():
            if numbers[0] is not None and name != one["rule"]:  # the frozen rule under its own name is no test
                found.setdefault(name, {})[split] = Gap(*numbers)
    return found


def _method(study: StudyEvidence, by_split: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
    best = {str(split): (best_single(found["aurocs"]) or (None,))[0] for split, found in by_split.items()}
    return _entry(study, *_losses(by_split), _gaps(by_split), best)


def _together(study: StudyEvidence, tables: Mapping[str, Mapping[Any, Mapping[str, Any]]]) -> dict[str, Any]:
    """The mean over methods, of what all of them have, on the splits that all of them have."""
    parts = [(*_losses(by_split), _gaps(by_split)) for by_split in tables.values()]

    def mean(index: int) -> dict[str, dict[Any, float]]:
        shared = [name for name in parts[0][index] if all(name in part[index] for part in parts)]
        return {name: _mean_of([part[index][name] for part in parts]) for name in shared}

    shared = [name for name in parts[0][3] if all(name in part[3] for part in parts)]
    gaps = {name: averaged([part[3][name] for part in parts]) for name in shared}
    return _entry(study, mean(0), mean(1), _mean_of([part[2] for part in parts]), gaps, {})


def _mean_of(tables: Sequence[Mapping[Any, float]]) -> dict[Any, float]:
    shared = [split for split in tables[0] if all(split in table for table in tables)]
    return {split: sum(table[split] for table in tables) / len(tables) for split in shared}


def _entry(study: StudyEvidence, areas, losses, tops, gaps, best) -> dict[str, Any]:
    tests = {name: over_splits(study.summary, gap) for name, gap in gaps.items() if gap}
    verdicts: dict[str, Any] = {}
    for alone in (False, True):  # two families: what is fused, and what a single scorer does
        family = [name for name in tests if (kind_of(name) == "scorer") == alone]
        verdicts |= dict(zip(family, judged(tests[name] for name in family), strict=True))
    found: dict[str, Any] = {}
    for name in areas:
        area, loss = mean_of(study.summary, areas[name]), mean_of(study.summary, losses[name])
        found[name] = {"auroc": area.value, "standard_error": area.error, "loss": loss.value, "loss_error": loss.error,
                       "splits": area.n, "by_split": {str(split): value for split, value in losses[name].items()},
                       "against": verdicts.get(name)}
    top = mean_of(study.summary, tops)
    return {"best_single": {"auroc": top.value, "standard_error": top.error, "splits": top.n, "names": best},
            "rules": found}


QUESTION = Question(
    name="scorer_rules", title=TITLE, measure=measure, compute=compute,
    card=card, applicable=applicable, scope="group",
)
