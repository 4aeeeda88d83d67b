"""What does it cost to choose without labels, and what would tuning on test labels have won?

Plain regret takes the best of all trials and scorers in hindsight, and so counts luck: the maximum of equal, noisy
numbers lies above each of them. Cross-fitted, the best is found on half of the test images and measured on the other.
That still is a choice for *these* anomalies: found on half of the anomaly classes and measured on the others', what is
left is what labels of some anomalies tell about those not yet seen, and the difference is optimism.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from analysis import gaps
from analysis import summary_rows as rows
from analysis.comparison import mean_interval
from analysis.evidence import StudyEvidence, TrialEvidence
from analysis.fusion import FrozenRule
from analysis.metrics import auroc
from analysis.over_splits import mean_of
from analysis.questions import Question
from analysis.questions.selection_regret_card import ALL, RULES, SELECTION, TITLE, card
from analysis.signals import objective, signal_names

KNOWN_SHARE = 0.5  # a signal that fewer of a split's trials have (folds of the finalists only) chooses none of them
DIGITS = 6  # of a stored AUROC


# -------------------------------------------------------------------------------------------------- measurement
def measure(trials: Sequence[TrialEvidence]) -> dict[str, Any] | None:
    """Of a method and split, trials × (scorers in use and the frozen rule) being the pairs to choose from:

    {"selected": trial, "best": [trial, scorer, AUROC], "halves": {"inside", "outside"} as ``gaps.Halves`` of all pairs,
    "trials": {trial: {rule of ``selection_regret_card.RULES``: [AUROC, on half A, on half B]}}, "signals": {trial:
    signals}, "classes": number of anomaly classes, "divisions": [[apparent, honest] gain over the frozen selection,
    for each of ``gaps.class_halves``]}. One trial is held at a time. None without a selected trial.
    """
    found: dict[int, dict[str, list[float | None]]] = {}
    kept, signals, selected, cuts = {}, {}, None, None
    for trial in trials:
        mask = trial.is_anomaly
        if cuts is None:  # the same for every trial of a split
            by_class = gaps.class_halves(trial.test_anomaly_class)
            cuts = [*_image_halves(mask), *(half for pair in by_class for half in pair)]
            classes = len(np.unique(trial.test_anomaly_class[mask]))
        scores = {name: trial.score(name) for name in trial.scorers}
        scores[gaps.FROZEN_RULE] = trial.stored[gaps.FROZEN_RULE]
        table = {name: _areas(score, mask, cuts) for name, score in scores.items()}
        found[trial.trial] = {name: areas for name, areas in table.items() if areas}
        mean = _all_mean(trial)
        ruled = {**found[trial.trial], "all_mean": _areas(mean, mask, cuts) if mean is not None else None}
        kept[str(trial.trial)] = {name: ruled[name][:3] for name in RULES if ruled.get(name)}
        signals[str(trial.trial)] = {name: rows.finite(value) for name, value in trial.signals.items()}
        selected = trial.trial if trial.selected else selected
    if selected is None or gaps.FROZEN_RULE not in found[selected]:
        return None
    return gaps.finite_or_none({
        "selected": selected, "trials": kept, "signals": signals, "classes": classes,
        **_chosen_of(found, found[selected][gaps.FROZEN_RULE], halved=_can_halve(mask)),
    })


def _can_halve(mask: np.ndarray) -> bool:
    return min(int(mask.sum()), int((~mask).sum())) >= 2


def _image_halves(mask: np.ndarray) -> tuple[np.ndarray, ...]:
    return gaps.split_halves(mask) if _can_halve(mask) else ()


def _areas(score: np.ndarray, mask: np.ndarray, cuts: Sequence[np.ndarray]) -> list[float] | None:
    """AUROC on all images, then on each cut; None where scores are NaN."""
    if np.isnan(np.asarray(score, dtype=np.float64)).any():
        return None
    return [round(auroc(score, mask), DIGITS), *(round(auroc(score[cut], mask[cut]), DIGITS) for cut in cuts)]


def _all_mean(trial: TrialEvidence) -> np.ndarray | None:
    validation = {name: trial.score(name, "validation") for name in trial.scorers}
    names = [name for name, score in validation.items()
             if np.isfinite(score).all() and np.isfinite(trial.score(name)).all()]
    if not names:
        return None
    return FrozenRule("all_mean", names, own=trial.own).fit_scores(validation).fuse_scores(
        {name: trial.score(name) for name in names})


def _chosen_of(found: Mapping[int, Mapping[str, list]], frozen: list, *, halved: bool) -> dict[str, Any]:
    pairs = [(trial, name, areas) for trial, table in found.items() for name, areas in table.items()]
    best = max(pairs, key=lambda pair: pair[2][0])
    halves = gaps.best_of_halves(areas[1:3] for *_, areas in pairs) if halved else None
    first = 3 if halved else 1
    divisions = []
    for place in range(first, len(frozen), 2):
        both = gaps.best_of_halves(areas[place:place + 2] for *_, areas in pairs)
        divisions.append([round(gain, DIGITS) for gain in gaps.crossfit_gain(both, frozen[place:place + 2])])
    return {"best": [best[0], best[1], best[2][0]], "halves": halves and halves._asdict(), "divisions": divisions}


# --------------------------------------------------------------------------------------------------- computation
def applicable(study: StudyEvidence) -> str:
    found = study.of("selection_regret").values()
    if not found:
        return "No selected trial was revealed, so nothing tells what selecting without labels cost."
    return ""


def compute(study: StudyEvidence) -> dict[str, Any]:
    """{"signals", "class_sets", "methods": {method, or "all methods" for their mean: {"regret": {signal, or "frozen
    selection": {rule: {"plain", "crossfit"}}}, "tuning": {"won", "apparent", "honest", "optimism"}, "trials":
    [fewest, most], "classes": [fewest, most] anomaly classes, "divisions": the most of a split}}}, every number
    {"value", "error", "low", "high", "splits", "by_split"}: mean, standard error and 95 % t interval over splits with
    distinct classes, None where there are not two.

    Regret: the best pair's AUROC − that of the trial which the signal chooses (ties: validation NLL, then the lower
    number) with the rule. The mean of all scorers is none of the pairs, so its regret may be negative.
    """
    groups: dict[str, dict[Any, Mapping[str, Any]]] = {}
    for (method, split, _), found in study.of("selection_regret").items():
        groups.setdefault(method, {})[split] = found
    raw = {method: {split: _split_numbers(study, method, split, found) for split, found in table.items()}
           for method, table in groups.items()}
    methods = {method: _gathered(study, table, groups[method].values()) for method, table in raw.items()}
    if len(raw) > 1:
        whole_table = _together(list(raw.values()))
        methods[ALL] = _gathered(study, whole_table, [f for table in groups.values() for f in table.values()])
    names = list(dict.fromkeys(name for one in methods.values() for name in one["regret"] if name != SELECTION))
    splits = {split for table in raw.values() for split in table}
    sets = len(rows.over_distinct_classes(study.summary, dict.fromkeys(splits, 0.0)))
    return gaps.finite_or_none({"signals": names, "class_sets": sets, "methods": methods})


def _signals(study: StudyEvidence, method: str, split: Any, found: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """By trial: what was measured, what rows know beside it (fold signals), and signals that came after the trial."""
    later = study.of("signal_leaderboard")
    known = {row["trial"]: row.get("signals") or {} for row in rows.trial_rows(study.summary, method, split)}
    return {int(trial): {**(later.get((method, split, int(trial))) or {}).get("signals", {}), **signals,
                         **known.get(int(trial), {})} for trial, signals in found["signals"].items()}


def _choices(study: StudyEvidence, method: str, split: Any, found: Mapping[str, Any]) -> dict[str, int]:
    """{signal: the trial it chooses}, and the frozen selection."""
    signals = _signals(study, method, split, found)
    chosen = {SELECTION: found["selected"]}
    for name in signal_names():
        known = {trial: objective(rows.finite(values.get(name)), name) for trial, values in signals.items()
                 if rows.finite(values.get(name)) is not None}
        if known and len(known) >= KNOWN_SHARE * len(signals):
            def order(trial: int, known=known) -> tuple:
                nll = rows.finite(signals[trial].get("val_nll"))
                return -known[trial], float("inf") if nll is None else nll, trial
            chosen[name] = min(known, key=order)
    return chosen


def _split_numbers(study: StudyEvidence, method: str, split: Any, found: Mapping[str, Any]) -> dict[tuple, float]:
    """{("regret", signal, rule, "plain" or "crossfit") or ("tuning", kind): number}."""
    numbers: dict[tuple, float] = {}
    halves = found["halves"] and gaps.Halves(*(tuple(found["halves"][key]) for key in gaps.Halves._fields))
    for name, trial in _choices(study, method, split, found).items():
        for rule, areas in found["trials"].get(str(trial), {}).items():
            numbers["regret", name, rule, "plain"] = found["best"][2] - areas[0]
            if halves:
                numbers["regret", name, rule, "crossfit"] = gaps.crossfit_gain(halves, areas[1:3])[1]
    numbers["tuning", "won"] = numbers["regret", SELECTION, gaps.FROZEN_RULE, "plain"]
    if found["divisions"]:
        apparent, honest = (float(np.mean(column)) for column in zip(*found["divisions"], strict=True))
        found_gains = {"apparent": apparent, "honest": honest, "optimism": apparent - honest}
        numbers |= {("tuning", kind): gain for kind, gain in found_gains.items()}
    return numbers


def _together(tables: Sequence[Mapping[Any, Mapping[tuple, float]]]) -> dict[Any, dict[tuple, float]]:
    """Means over methods, of the splits and the numbers that all of them have."""
    shared = [split for split in tables[0] if all(split in table for table in tables)]
    return {split: {key: sum(table[split][key] for table in tables) / len(tables) for key in tables[0][split]
                    if all(key in table[split] for table in tables)} for split in shared}


def _gathered(
    study: StudyEvidence, table: Mapping[Any, Mapping[tuple, float]], found: Iterable[Mapping]
) -> dict[str, Any]:
    found = list(found)
    regret: dict[str, dict[str, dict[str, Any]]] = {}
    tuning: dict[str, Any] = {}
    for key in dict.fromkeys(key for numbers in table.values() for key in numbers):
        number = _over(study, {split: numbers[key] for split, numbers in table.items() if key in numbers})
        if key[0] == "tuning":
            tuning[key[1]] = number
        else:
            regret.setdefault(key[1], {}).setdefault(key[2], {})[key[3]] = number
    sizes, classes = [len(one["trials"]) for one in found], [one["classes"] for one in found]
    return {"regret": regret, "tuning": tuning, "trials": [min(sizes), max(sizes)],
            "classes": [min(classes), max(classes)], "divisions": max(len(one["divisions"]) for one in found)}


def _over(study: StudyEvidence, by_split: Mapping[Any, float]) -> dict[str, Any]:
    mean = mean_of(study.summary, by_split)
    draws, low, high = rows.over_distinct_classes(study.summary, by_split), None, None
    if len(draws) > 1:
        shift = mean.value - sum(draws) / len(draws)  # splits of one class set count once there, each here
        low, high = (limit + shift for limit in mean_interval(draws))
    return {"value": mean.value, "error": mean.error, "low": low, "high": high, "splits": mean.n,
            "by_split": {str(split): value for split, value in by_split.items()}}


QUESTION = Question(
    name="selection_regret", title=TITLE, measure=measure, compute=compute, card=card, applicable=applicable,
    scope="group",
)
