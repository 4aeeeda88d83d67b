"""Which nominal-only signal orders the trials of a search as anomalies later would, and what choosing by it costs.

A *rule* ranks the trials of one method and split: a signal, a mean of the ranks of several, or a combination learned on
the other splits. Its τ and regret are measured against a *target*, the revealed AUROC of one way to score. A rule earns
its place only if it chooses better than a *baseline* does, beyond noise over splits. Pure functions over summary rows.
"""
from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import stdev
from typing import Any

import numpy as np

from analysis import signals as registry
from analysis import summary_rows as rows
from analysis.comparison import mean_interval
from analysis.metrics import midranks
from analysis.over_splits import mean_of
from analysis.rank_correlation import ENOUGH_SPLITS, kendall_tau, mean_tau

TARGETS = {"frozen_rule": "frozen rule", "max_logit": "max logit", "best_fixed": "best fixed scorer in hindsight",
           "oracle_detector": "oracle detector"}
BASELINES = {"default": "default configuration (trial 0)", "random": "random trial",
             "hindsight": "best fixed scorer in hindsight, trial by the study's signal"}
FOLD_SIGNAL = "pseudo_novel_auroc"
BORDA = {"borda": ("val_accuracy", "val_nll", "synthetic_outlier_auroc"),
         "borda_folds": ("val_accuracy", "val_nll", "synthetic_outlier_auroc", FOLD_SIGNAL)}
LEARNED = ("best_elsewhere", "ridge", "ridge_folds")
RIDGE_PENALTY = 10.0  # on standardised signals, which mostly say the same; not tuned
ALL = "all methods"
KNOWN_SHARE = 0.5  # a signal that fewer of a split's trials have (folds of the finalists only) ranks none of them
ALPHA = 0.05
NO_TAU = {"value": None, "low": None, "high": None, "basis": "none", "splits": 0}


@dataclass(frozen=True, eq=False)
class Sweep:
    """The n completed and measured trials of one method and split, by number. ``signals``: (n,) by name, turned so that
    higher is better, NaN where unknown; ``aurocs``: (n,) by target and by scorer, NaN where unknown."""

    numbers: tuple[int, ...]
    signals: Mapping[str, np.ndarray]
    aurocs: Mapping[str, np.ndarray]
    nll: np.ndarray
    params: tuple[Mapping[str, Any], ...]

    @cached_property
    def standardised(self) -> dict[str, np.ndarray]:
        """Signals with mean 0 and standard deviation 1 over the trials; 0 where unknown or all equal."""
        return {name: _standardised(values) for name, values in self.signals.items()}

    def pick(self, scores: np.ndarray) -> int | None:
        """Position of the best trial: by score, then by validation NLL, then the lower number, as the study ranks."""
        known = np.flatnonzero(np.isfinite(scores))
        return min(known, key=lambda i: (-scores[i], self.nll[i], self.numbers[i])) if len(known) else None


def _standardised(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    spread = values[known].std() if known.any() else 0.0
    # equal values differ in their last digits once a mean was taken
    if not spread > 1e-12 * max(1.0, float(np.abs(values[known]).max(initial=0.0))):
        return np.zeros(len(values))
    return np.where(known, (values - values[known].mean()) / spread, 0.0)


def sweeps(
    summary: Mapping[str, Any], measured: Mapping[tuple[str, int, int], Mapping[str, Any]], splits: Any = None
) -> dict[str, dict[Any, Sweep]]:
    """{method: {split: Sweep}} of the splits asked for (all of them by default) that have two measured trials."""
    found: dict[str, dict[Any, Sweep]] = {}
    for method, split in rows.groups(summary):
        done = sorted((row for row in rows.trial_rows(summary, method, split)
                       if rows.is_completed(row) and rows.finite(row.get("scorer_auroc")) is not None),
                      key=lambda row: row["trial"])
        if len(done) < 2 or (splits is not None and split not in splits):
            continue
        more = [(measured.get((method, split, row["trial"])) or {}).get("signals") or {} for row in done]
        known = [{**later, **(row.get("signals") or {})} for later, row in zip(more, done, strict=True)]
        found.setdefault(method, {})[split] = _sweep(done, known)
    return {method: _with_best_fixed(by_split) for method, by_split in found.items()}


def _sweep(done: list[rows.Row], known: list[dict[str, Any]]) -> Sweep:
    names = [name for name in registry.signal_names() if any(name in signals for signals in known)]
    values = {name: np.array([_turned(signals.get(name), name) for signals in known]) for name in names}
    enough = {name: v for name, v in values.items() if np.isfinite(v).mean() >= KNOWN_SHARE}
    scorers = list(dict.fromkeys(name for row in done for name in row.get("scorers") or {}))
    aurocs = {f"scorer/{name}": _array((row.get("scorers") or {}).get(name) for row in done) for name in scorers}
    aurocs["frozen_rule"] = _array(row.get("scorer_auroc") for row in done)
    aurocs["oracle_detector"] = _array(row.get("oracle_detector_auroc") for row in done)
    if "max_logit" in scorers:
        aurocs["max_logit"] = aurocs["scorer/max_logit"]
    nll = _array(signals.get("val_nll") for signals in known)
    return Sweep(tuple(row["trial"] for row in done), enough, aurocs, np.where(np.isfinite(nll), nll, np.inf),
                 tuple(row.get("params") or {} for row in done))


def _turned(value: Any, name: str) -> float:
    found = registry.objective(rows.finite(value), name)
    return found if math.isfinite(found) else math.nan


def _array(values: Any) -> np.ndarray:
    found = (rows.finite(value) for value in values)
    return np.array([math.nan if value is None else value for value in found])


def best_fixed(by_split: Mapping[Any, Sweep]) -> str | None:
    """The scorer whose AUROC is highest on average over all trials and splits: known by test labels alone."""
    names = set.intersection(*({name for name, values in sweep.aurocs.items() if name.startswith("scorer/")
                                and np.isfinite(values).all()} for sweep in by_split.values()))
    means = {name: np.mean([sweep.aurocs[name].mean() for sweep in by_split.values()]) for name in sorted(names)}
    return max(means, key=means.__getitem__).removeprefix("scorer/") if means else None


def _with_best_fixed(by_split: dict[Any, Sweep]) -> dict[Any, Sweep]:
    name = best_fixed(by_split)
    return {split: Sweep(s.numbers, s.signals, {**s.aurocs, "best_fixed": s.aurocs[f"scorer/{name}"]}, s.nll, s.params)
            if name else s for split, s in by_split.items()}


# ------------------------------------------------------------------------------------------------------ rules
def borda(sweep: Sweep, names: tuple[str, ...]) -> np.ndarray | None:
    """Mean rank of each trial over the signals, ties at their mean rank (Borda); None where a signal is missing."""
    if any(name not in sweep.signals for name in names):
        return None
    worst_first = [midranks(np.where(np.isfinite(v), v, -np.inf)) for v in (sweep.signals[name] for name in names)]
    return np.mean(worst_first, axis=0)


def ridge(train: list[Sweep], held_out: Sweep, target: str, names: list[str]) -> np.ndarray | None:
    """Scores of the held-out trials by a ridge regression, fitted on other splits, of the standardised rank of the
    target's AUROC on the standardised signals. Nothing of the held-out split but its signals is used."""
    usable = [sweep for sweep in train if target in sweep.aurocs and np.isfinite(sweep.aurocs[target]).all()]
    names = [name for name in names if all(name in sweep.signals for sweep in (*usable, held_out))]
    if not usable or not names:
        return None
    x = np.concatenate([np.stack([sweep.standardised[name] for name in names], axis=1) for sweep in usable])
    y = np.concatenate([_standardised(midranks(sweep.aurocs[target])) for sweep in usable])
    weights = np.linalg.solve(x.T @ x + RIDGE_PENALTY * np.eye(len(names)), x.T @ y)
    return np.stack([held_out.standardised[name] for name in names], axis=1) @ weights


def ranked(
    by_split: Mapping[Any, Sweep], classes: Mapping[Any, Any], target: str,
    taus: Mapping[str, Mapping[Any, float | None]],
) -> dict[str, dict[Any, np.ndarray]]:
    """{rule: {split: scores (n,)}}, higher is better. Learned rules see splits of other nominal classes only."""
    found: dict[str, dict[Any, np.ndarray]] = {}
    for split, sweep in by_split.items():
        others = [other for other in by_split if classes[other] != classes[split]]
        scored = {**sweep.signals, **{name: borda(sweep, parts) for name, parts in BORDA.items()}}
        if others:
            cheap = [name for name in sweep.signals if name != FOLD_SIGNAL]
            training = [by_split[other] for other in others]
            scored["best_elsewhere"] = sweep.signals.get(_best_elsewhere(taus, others, sweep) or "")
            scored["ridge"] = ridge(training, sweep, target, cheap)
            if FOLD_SIGNAL in sweep.signals:
                scored["ridge_folds"] = ridge(training, sweep, target, [*cheap, FOLD_SIGNAL])
        for name, scores in scored.items():
            if scores is not None:
                found.setdefault(name, {})[split] = scores
    return found


def _best_elsewhere(taus: Mapping[str, Mapping[Any, float | None]], others: list[Any], sweep: Sweep) -> str | None:
    """The signal of the highest mean τ on the other splits; the registry's first where several are alike."""
    means = {name: rows.mean(taus[name].get(split) for split in others) for name in taus if name in sweep.signals}
    known = {name: value for name, value in means.items() if value is not None}
    return max(known, key=known.__getitem__) if known else None


# ------------------------------------------------------------------------------------------------- measurement
def tau_of(scores: np.ndarray, aurocs: np.ndarray) -> float | None:
    def listed(values: np.ndarray) -> list[float | None]:
        return [rows.finite(value) for value in values]

    return kendall_tau(listed(scores), listed(aurocs))


def measure_target(
    by_split: Mapping[Any, Sweep], classes: Mapping[Any, Any], target: str, selecting: str
) -> dict[str, Any]:
    """Of one method: {"tau", "regret": {rule: {split: number or None}}, "baseline": {name: {split: regret}}, "best",
    "spread", "trials": {split: …}}, "learned": {split: signal of "best_elsewhere"}."""
    usable = {split: sweep for split, sweep in by_split.items() if np.isfinite(sweep.aurocs.get(target, np.nan)).all()}
    names = [name for name in registry.signal_names() if any(name in sweep.signals for sweep in usable.values())]
    single = {name: {split: tau_of(sweep.signals[name], sweep.aurocs[target]) for split, sweep in usable.items()
                     if name in sweep.signals} for name in names}
    found: dict[str, Any] = {part: {} for part in ("tau", "regret", "best", "spread", "trials", "learned")}
    found["baseline"] = {name: {} for name in BASELINES}
    for name, scores in ranked(usable, classes, target, single).items():
        found["tau"][name] = single[name] if name in single else {
            split: tau_of(values, usable[split].aurocs[target]) for split, values in scores.items()}
        found["regret"][name] = {split: _regret(usable[split], values, target) for split, values in scores.items()}
    for split, sweep in usable.items():
        aurocs, best = sweep.aurocs[target], float(sweep.aurocs[target].max())
        others = [other for other in usable if classes[other] != classes[split]]
        found["best"][split], found["spread"][split] = best, best - float(aurocs.min())
        found["trials"][split], found["learned"][split] = len(aurocs), _best_elsewhere(single, others, sweep)
        if 0 in sweep.numbers:
            found["baseline"]["default"][split] = best - float(aurocs[sweep.numbers.index(0)])
        found["baseline"]["random"][split] = best - float(aurocs.mean())
        chosen = sweep.pick(sweep.signals[selecting]) if selecting in sweep.signals else None
        if chosen is not None and "best_fixed" in sweep.aurocs and target != "oracle_detector":
            found["baseline"]["hindsight"][split] = best - float(sweep.aurocs["best_fixed"][chosen])
    return found


def _regret(sweep: Sweep, scores: np.ndarray, target: str) -> float | None:
    chosen = sweep.pick(scores)
    return None if chosen is None else float(sweep.aurocs[target].max() - sweep.aurocs[target][chosen])


def averaged(measured: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean over methods of what ``measure_target`` found, of splits and rules that every method has: methods of one
    split share its images and classes, so that splits remain the draws."""
    def mean(tables: list[Mapping[Any, float | None]]) -> dict[Any, float | None]:
        shared = [split for split in tables[0] if all(table.get(split) is not None for table in tables)]
        return {split: sum(table[split] for table in tables) / len(tables) for split in shared}

    def each(part: str) -> dict[str, Any]:
        names = [name for name in measured[0][part] if all(name in one[part] for one in measured)]
        return {name: mean([one[part][name] for one in measured]) for name in names}

    return {**{part: each(part) for part in ("tau", "regret", "baseline")}, "trials": {}, "learned": {},
            "best": mean([one["best"] for one in measured]), "spread": mean([one["spread"] for one in measured])}


# ---------------------------------------------------------------------------------------------------- judgement
def paired(
    summary: Mapping[str, Any], above: Mapping[Any, float | None], below: Mapping[Any, float | None]
) -> dict[str, Any]:
    """Mean of above − below over the splits that have both: {"difference", "low", "high", "p_value", "splits"}, paired
    t over distinct sets of nominal classes. Fewer than three of them give neither interval nor p-value."""
    found = {s: above[s] - below[s] for s in above if above[s] is not None and below.get(s) is not None}
    result = {"difference": rows.mean(found.values()), "low": None, "high": None, "p_value": None, "splits": len(found)}
    draws = rows.over_distinct_classes(summary, found)
    if len(draws) < ENOUGH_SPLITS:
        return result
    error, centre = stdev(draws) / math.sqrt(len(draws)), sum(draws) / len(draws)
    if error < 1e-12:  # the same everywhere: nothing is known about noise, so nothing is claimed
        return {**result, "p_value": 1.0}
    from scipy.stats import t

    low, high = (limit + result["difference"] - centre for limit in mean_interval(draws))
    return {**result, "low": low, "high": high, "p_value": float(2 * t.sf(abs(centre) / error, len(draws) - 1))}


def holm_adjusted(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same with "adjusted" p-values (Holm over all of them) and "verdict": "better", "worse", "within noise" or,
    where there are too few splits, "not known"."""
    from analysis.holm import holm

    asked = [name for name, one in found.items() if one["p_value"] is not None]
    adjusted = dict(zip(asked, holm([found[name]["p_value"] for name in asked]), strict=True)) if asked else {}
    return {name: {**one, "adjusted": adjusted.get(name), "verdict": _verdict(one["difference"], adjusted.get(name))}
            for name, one in found.items()}


def _verdict(difference: float | None, p_value: float | None) -> str:
    if p_value is None or difference is None:
        return "not known"
    return "within noise" if p_value >= ALPHA else "better" if difference > 0 else "worse"


def judged(summary: Mapping[str, Any], raw: Mapping[str, Any]) -> dict[str, Any]:
    """What ``measure_target`` found, over splits: {"trials", "best", "spread", "rules": {rule: {"tau", "regret",
    "against"}}, "baselines": {name: {"regret"}}, "learned"}."""
    against = {
        name: holm_adjusted({rule: paired(summary, table, regret) for rule, regret in raw["regret"].items()})
        for name, table in raw["baseline"].items() if table
    }
    ordering = holm_adjusted({rule: paired(summary, taus, dict.fromkeys(taus, 0.0))
                              for rule, taus in raw["tau"].items()})
    rules = {}
    for rule, regret in raw["regret"].items():
        tau = mean_tau(summary, raw["tau"][rule], raw["trials"])
        rules[rule] = {
            "tau": {"by_split": _by_split(raw["tau"][rule]), **(tau._asdict() if tau else NO_TAU),
                    **{key: ordering[rule][key] for key in ("p_value", "adjusted", "verdict")}},
            "regret": _over(summary, regret), "against": {name: found[rule] for name, found in against.items()},
        }
    return {"trials": _by_split(raw["trials"]), "best": _over(summary, raw["best"]),
            "spread": _over(summary, raw["spread"]), "rules": rules, "learned": _by_split(raw["learned"]),
            "baselines": {name: {"regret": _over(summary, table)} for name, table in raw["baseline"].items() if table}}


def _over(summary: Mapping[str, Any], by_split: Mapping[Any, float | None]) -> dict[str, Any]:
    mean = mean_of(summary, by_split)
    return {"value": mean.value, "error": mean.error, "splits": mean.n, "by_split": _by_split(by_split)}


def _by_split(table: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(split): value for split, value in table.items()}
