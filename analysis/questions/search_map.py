"""Which hyperparameters mattered, for the selection signal and for the revealed AUROC?

The trials become an Optuna study in memory again, and Optuna says how much each hyperparameter has to do with reaching
the better quarter (PED-ANOVA; Watanabe et al., IJCAI 2023). Any ranking of noise has a first place too: so the same is
asked of the same trials with their values shuffled, and of trials drawn anew from them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from analysis import summary_rows as rows
from analysis.evidence import StudyEvidence
from analysis.questions import Question
from analysis.questions.search_map_card import ENOUGH, TITLE, card
from analysis.signals import objective

FEWEST = 4  # trials with a value, below which nothing is computed
QUANTILE = 0.25  # the share of trials that counts as good: five of twenty, as Optuna asks for
SHUFFLES, DRAWS = 19, 20  # noise exceeds the largest of 19 shuffles once in 20 times
COPIES = 4  # how often a bootstrap draws a trial at most; it would draw 4 in 1000 more often
LINES, AXES = 80, 8  # in a figure of parallel coordinates; axes: the most important hyperparameters
DIGITS = 4  # of a place on an axis
Distributions = dict[str, Any]


def applicable(study: StudyEvidence) -> str:
    if not any(_targets(study, method) for method in rows.method_names(study.summary)):
        return f"No method has {FEWEST} completed trials that differ in a hyperparameter and in their signal or AUROC."
    return ""


def compute(study: StudyEvidence) -> dict[str, Any]:
    """Keys: ``methods``: {method: {"trials": completed, "splits", "states": {state: trials} of all, "reasons": {reason:
    trials} of those that failed, "targets": {"signal" or "auroc": {"name", "trials", "parameters": {hyperparameter:
    {"share": its importance, of 1, "low", "high": 5–95 % of it over bootstrapped trials, "p_value": of as large an
    unnormalised importance of any hyperparameter when the values are shuffled (family-wise), "mattered": p ≤ 0.05}}}},
    "axes": [{"name", "log", "low", "high", "options" or None}], "lines": [{"at": place 0..1 on each axis or None,
    "value": revealed AUROC or None, "place": its place 0..1, "state"}], "value_range", "of_split_mean": whether values
    are relative to the mean of their split}}; ``few``: methods of fewer than ``ENOUGH`` trials.

    Trials of all splits are pooled, each value less its split's mean. The signal is that which selected; higher is
    better for both. Importance is PED-ANOVA's of reaching the best quarter; it sees each hyperparameter alone."""
    wanted = {method: _targets(study, method) for method in rows.method_names(study.summary)}
    methods = {method: _of_method(study, method, targets) for method, targets in wanted.items() if targets}
    few = [m for m, one in methods.items() if max(t["trials"] for t in one["targets"].values()) < ENOUGH]
    return {"methods": methods, "few": few}


def _completed(summary: Mapping[str, Any], method: str) -> list[rows.Row]:
    return [row for row in rows.trial_rows(summary, method) if rows.is_completed(row) and row.get("params")]


def _targets(study: StudyEvidence, method: str) -> dict[str, dict[str, Any]]:
    """{"signal" or "auroc": {"name", "of": a row's value, higher is better, "known": (parameters, split, centred value)
    of the trials that have one}}, where enough of them differ."""
    completed = _completed(study.summary, method)
    if not distributions(study.summary, method, completed):
        return {}
    signal = (study.spec.get("selection") or {}).get("signal") or next(
        (row["signal"] for row in completed if row.get("signal")), None)
    wanted = {"signal": (signal, lambda row: _signal(row, signal)),
              "auroc": ("revealed AUROC", lambda row: rows.finite(row.get("scorer_auroc")))}
    targets = {}
    for key, (name, of) in wanted.items():
        known = [(row["params"], row.get("split", 0), value)
                 for row, value in zip(completed, centred(completed, of), strict=True) if value is not None]
        if len(known) >= FEWEST and len({value for *_, value in known}) > 1:
            targets[key] = {"name": name, "of": of, "known": known}
    return targets


def _of_method(study: StudyEvidence, method: str, wanted: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    every, completed = rows.trial_rows(study.summary, method), _completed(study.summary, method)
    ranges = distributions(study.summary, method, [row for row in every if row.get("params")])
    targets = {key: {"name": one["name"], "trials": len(one["known"]), "parameters": importances(one["known"], ranges)}
               for key, one in wanted.items()}
    last = list(targets)[-1]
    states = [str(row.get("state")) for row in every]
    reasons = [str(row.get("reason") or "no reason recorded") for row in every if row.get("state") == "failed"]
    return {"trials": len(completed), "splits": len({row.get("split", 0) for row in completed}),
            "states": {state: states.count(state) for state in dict.fromkeys(states)},
            "reasons": {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}, "targets": targets,
            **_coordinates(every, list(targets[last]["parameters"]), ranges, wanted[last]["of"])}


def _signal(row: rows.Row, name: str | None) -> float | None:
    """The signal with its sign such that higher is better."""
    if name is None:
        return None
    value = rows.finite((row.get("signals") or {}).get(name))
    value = rows.finite(row.get("signal_value")) if value is None and row.get("signal") == name else value
    return None if value is None else objective(value, name)


def centred(found: Sequence[rows.Row], of: Callable[[rows.Row], float | None]) -> list[float | None]:
    """The values less the mean of their split, so that a hard split is no property of its configurations."""
    values = [of(row) for row in found]
    means = {split: rows.mean(v for v, row in zip(values, found, strict=True) if row.get("split", 0) == split)
             for split in {row.get("split", 0) for row in found}}
    return [None if v is None else v - means[row.get("split", 0)] for v, row in zip(values, found, strict=True)]


# --------------------------------------------------------------------------------------------------- importance
def distributions(summary: Mapping[str, Any], method: str, found: Sequence[rows.Row]) -> Distributions:
    """Optuna's distribution of each hyperparameter that differs among these trials: from the recorded space, widened
    where a trial lies outside, or from the values (numbers: their range, logarithmic from a hundredfold on).

    A hyperparameter that some trials lack is left out: it has no value to compare there."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    spaces = (summary.get("spaces") or {}).get(method) or {}
    names = dict.fromkeys(name for row in found for name in row["params"])
    ranges: Distributions = {}
    for name in names:
        values = [row["params"].get(name) for row in found]
        distinct = list(dict.fromkeys(values))
        if None in values or len(distinct) < 2:
            continue
        limits = spaces.get(name) or {}
        if "options" in limits or not all(rows.finite(value) is not None for value in values):
            options = list(dict.fromkeys([*(limits.get("options") or ()), *distinct]))
            ranges[name] = CategoricalDistribution([_plain(option) for option in options])
            continue
        low, high = min([*values, limits.get("low", math.inf)]), max([*values, limits.get("high", -math.inf)])
        log = bool(limits["log"]) if "log" in limits else low > 0 and high / low >= 100
        whole = all(isinstance(value, int) for value in (*values, low, high))
        kind = IntDistribution if whole else FloatDistribution
        ranges[name] = kind(low, high, log=log and low > 0)
    return ranges


def _plain(option: Any) -> Any:
    return option if isinstance(option, (bool, int, float, str)) else str(option)


def importances(
    known: Sequence[tuple[Mapping[str, Any], Any, float]], ranges: Distributions, *, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """{hyperparameter: {"share", "low", "high", "p_value", "mattered"}}, largest share first, of (parameters, split,
    value) triples. Values are shuffled, and trials drawn, within their split."""
    random = np.random.default_rng(seed)
    splits = np.unique([str(split) for _, split, _ in known], return_inverse=True)[1]
    values, once = np.array([value for *_, value in known]), np.ones(len(known), int)
    evaluate = _ped_anova([parameters for parameters, *_ in known], ranges)
    found = evaluate(values, once)
    largest = [max(evaluate(values[_within(splits, random.permutation)], once).values()) for _ in range(SHUFFLES)]
    shares: dict[str, list[float]] = {name: [] for name in ranges}
    for _ in range(DRAWS):
        drawn = _within(splits, lambda places: random.choice(places, len(places)))
        for name, share in _shares(evaluate(values, np.bincount(drawn, minlength=len(values)))).items():
            shares[name].append(share)
    result = {}
    for name, share in sorted(_shares(found).items(), key=lambda item: -item[1]):
        low, high = (float(limit) for limit in np.quantile(shares[name], [0.05, 0.95]))
        p_value = (1 + sum(other >= found[name] for other in largest)) / (SHUFFLES + 1)
        result[name] = {"share": share, "low": low, "high": high, "p_value": p_value, "mattered": p_value <= 0.05}
    return result


def _within(splits: np.ndarray, rearrange: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Places 0..N-1 rearranged inside each split."""
    places = np.arange(len(splits))
    for split in np.unique(splits):
        places[splits == split] = rearrange(np.flatnonzero(splits == split))
    return places


def _shares(found: Mapping[str, float]) -> dict[str, float]:
    total = sum(found.values())
    return {name: value / total if total > 0 else 1 / len(found) for name, value in found.items()}


def _ped_anova(
    params: Sequence[Mapping[str, Any]], ranges: Distributions
) -> Callable[[np.ndarray, np.ndarray], dict[str, float]]:
    """A function of values (N,), higher is better, and how often each trial counts (N,), that gives Optuna's
    importances, not normalised, of reaching the best ``QUANTILE``.

    The study, which takes longer to build than to judge, is built once and holds every trial ``COPIES`` times: a value
    that is not finite takes a trial out."""
    import optuna
    from optuna.distributions import CategoricalDistribution

    kept = [{name: _plain(one[name]) if isinstance(limits, CategoricalDistribution) else one[name]
             for name, limits in ranges.items()} for one in params]
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=QUANTILE)
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study()
    finally:
        optuna.logging.set_verbosity(verbosity)
    study.add_trials([optuna.trial.create_trial(params=one, distributions=ranges, value=0.0)
                      for _ in range(COPIES) for one in kept])

    def evaluate(values: np.ndarray, counts: np.ndarray) -> dict[str, float]:
        def target(trial: Any) -> float:  # the evaluator minimises it
            copy, place = divmod(trial.number, len(kept))
            return -float(values[place]) if copy < counts[place] else math.nan

        with warnings.catch_warnings():  # that low targets are good, and that normalize is experimental
            warnings.simplefilter("ignore")
            found = optuna.importance.get_param_importances(
                study, evaluator=evaluator, params=list(ranges), target=target, normalize=False)
        return {name: max(float(found[name]), 0.0) for name in ranges}

    return evaluate


# ------------------------------------------------------------------------------------------ parallel coordinates
def _coordinates(
    every: Sequence[rows.Row], order: Sequence[str], ranges: Distributions, of: Callable[[rows.Row], float | None]
) -> dict[str, Any]:
    """``axes``, ``lines``, ``value_range`` and ``of_split_mean`` of ``compute``: what Optuna's own plot shows (its
    computation is private), trials that did not complete among them."""
    values = centred(every, lambda row: of(row) if rows.is_completed(row) else None)
    known = [value for value in values if value is not None]
    low, high = min(known), max(known)
    axes = [_axis(name, ranges[name]) for name in order[:AXES]]
    lines = [{"at": [_place(axis, (row.get("params") or {}).get(axis["name"])) for axis in axes],
              "value": value,
              "place": None if value is None else round((value - low) / (high - low or 1.0), DIGITS),
              "state": "completed" if rows.is_completed(row) else str(row.get("state"))}
             for row, value in zip(every, values, strict=True) if value is not None or not rows.is_completed(row)]
    kept = np.linspace(0, len(lines) - 1, min(LINES, len(lines))).round().astype(int)
    return {"axes": axes, "lines": [lines[place] for place in kept], "value_range": [low, high],
            "of_split_mean": len({row.get("split", 0) for row in every}) > 1}


def _axis(name: str, limits: Any) -> dict[str, Any]:
    if hasattr(limits, "choices"):
        options = list(limits.choices)
        numbers = all(rows.finite(option) is not None for option in options)
        return {"name": name, "log": False, "low": None, "high": None,
                "options": sorted(options) if numbers else options}
    return {"name": name, "log": limits.log, "low": limits.low, "high": limits.high, "options": None}


def _place(axis: Mapping[str, Any], value: Any) -> float | None:
    """Where a value lies on its axis, 0..1; None where the trial has none."""
    if value is None:
        return None
    if axis["options"] is not None:
        return round(axis["options"].index(_plain(value)) / max(len(axis["options"]) - 1, 1), DIGITS)
    scale = math.log if axis["log"] else float
    return round((scale(value) - scale(axis["low"])) / (scale(axis["high"]) - scale(axis["low"])), DIGITS)


QUESTION = Question(name="search_map", title=TITLE, compute=compute, card=card, applicable=applicable)
