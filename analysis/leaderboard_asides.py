"""Two questions beside the signal leaderboard: does a signal choose the hybrid's λ better than accuracy, and do the
strongest augmentations raise accuracy while they hurt detection? Over the trials of one search, within splits."""
from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis import effects
from analysis import leaderboard as board
from analysis import summary_rows as rows
from analysis.leaderboard import Sweep
from analysis.rank_correlation import Rho, mean_tau, pooled_spearman

LAMBDA = "reconstruction_weight"
ACCURACY = "val_accuracy"
STRONG = ("randaugment", "mixup", "cutmix", "cutout")


def lambda_choice(
    summary: Mapping[str, Any], method: str, by_split: Mapping[Any, Sweep], classes: Mapping[Any, Any], target: str
) -> dict[str, Any] | None:
    """Whether a rule loses less than ``val_accuracy`` in a method that has λ; None where λ was not searched.

    {"method", "target", "alone": only λ varied, "relation": Spearman's ρ of λ with AUROC or None, "accuracy": mean
    regret by accuracy, "rules": {rule: regret(accuracy) − regret(rule), paired, Holm over the rules, and "distance"}}.
    "distance" and "accuracy_distance": mean |log10| between the λ chosen and that of the best trial, in decades; where
    everything varies at once the best trial's λ is partly chance.
    """
    values = {split: [rows.finite(params.get(LAMBDA)) for params in sweep.params] for split, sweep in by_split.items()}
    if len({value for found in values.values() for value in found}) < 2:
        return None
    measured = board.measure_target(by_split, classes, target, ACCURACY)
    regrets, scores = measured["regret"], board.ranked(by_split, classes, target, measured["tau"])
    if ACCURACY not in regrets:
        return None
    found = board.holm_adjusted({rule: board.paired(summary, regrets[ACCURACY], table)
                                 for rule, table in regrets.items() if rule != ACCURACY})
    for rule in found:
        found[rule]["distance"] = _distance(by_split, values, scores[rule], target)
    vary = {name for sweep in by_split.values() for name in sweep.params[0]
            if len({repr(params.get(name)) for params in sweep.params}) > 1}
    field = {"oracle_detector": "oracle_detector_auroc"}.get(target, "scorer_auroc")
    return {"method": method, "target": target, "alone": vary == {LAMBDA},
            "relation": _rho(effects.correlation(summary, method, LAMBDA, field)),
            "accuracy": rows.mean(regrets[ACCURACY].values()), "rules": found,
            "accuracy_distance": _distance(by_split, values, scores[ACCURACY], target)}


def _distance(
    by_split: Mapping[Any, Sweep], values: Mapping[Any, list[float | None]], scores: Mapping[Any, np.ndarray],
    target: str,
) -> float | None:
    apart = []
    for split, given in scores.items():
        chosen, best = by_split[split].pick(given), int(by_split[split].aurocs[target].argmax())
        pair = (None if chosen is None else values[split][chosen], values[split][best])
        if all(value is not None and value > 0 for value in pair):
            apart.append(abs(math.log10(pair[0]) - math.log10(pair[1])))
    return rows.mean(apart)


def augmentation(summary: Mapping[str, Any], by_split: Mapping[Any, Sweep], target: str) -> dict[str, Any] | None:
    """How ``val_accuracy`` fares among strongly augmented trials; None where none of ``STRONG`` was searched.

    Strength: the sum of each of them over its largest value in the search. {"parameters", "accuracy", "detection",
    "oracle": Spearman's ρ of strength with validation accuracy and AUROCs, over all trials within splits, "finding" in
    words ("" where too few trials), "strong", "rest": {"tau", "regret", "trials"} of ``val_accuracy`` in the stronger
    and weaker half of each split's trials (ties by number), "tau_difference" (strong − rest), "regret_difference"
    (rest − strong), paired over splits}.
    """
    largest = {name: max((rows.finite(p.get(name)) or 0.0 for s in by_split.values() for p in s.params), default=0.0)
               for name in STRONG}
    names = [name for name in STRONG
             if largest[name] and len({p.get(name) for s in by_split.values() for p in s.params}) > 1]
    if not names:
        return None
    strengths = {split: np.array([sum((rows.finite(p.get(name)) or 0.0) / largest[name] for name in names)
                                  for p in sweep.params]) for split, sweep in by_split.items()}
    rhos = {
        "accuracy": _spearman(strengths, {s: sweep.signals.get(ACCURACY) for s, sweep in by_split.items()}),
        "detection": _spearman(strengths, {s: sweep.aurocs.get(target) for s, sweep in by_split.items()}),
        "oracle": _spearman(strengths, {s: sweep.aurocs.get("oracle_detector") for s, sweep in by_split.items()}),
    }
    halves = {"strong": {}, "rest": {}}
    for split, strength in strengths.items():
        order = np.argsort(-strength, kind="stable")
        halves["strong"][split] = np.sort(order[:len(order) // 2])
        halves["rest"][split] = np.sort(order[len(order) // 2:])
    found = {name: _within(by_split, chosen, target) for name, chosen in halves.items()}
    return {
        "parameters": names, **{name: _rho(rho) for name, rho in rhos.items()},
        "finding": effects.finding(rhos["accuracy"], rhos["detection"]) if None not in rhos.values() else "",
        **{name: _summed(summary, *tables) for name, tables in found.items()},
        "tau_difference": board.paired(summary, found["strong"][0], found["rest"][0]),
        "regret_difference": board.paired(summary, found["rest"][1], found["strong"][1]),
    }


def _within(
    by_split: Mapping[Any, Sweep], chosen: Mapping[Any, np.ndarray], target: str
) -> tuple[dict[Any, float | None], dict[Any, float | None], dict[Any, int]]:
    """τ and regret of ``val_accuracy`` among some trials of each split, and how many they are."""
    taus, regrets = {}, {}
    for split, sweep in by_split.items():
        scores, aurocs = sweep.signals.get(ACCURACY), sweep.aurocs.get(target)
        if scores is None or aurocs is None or not np.isfinite(aurocs).all():
            continue
        among = chosen[split]
        taus[split] = board.tau_of(scores[among], aurocs[among])
        only = np.full(len(scores), -np.inf)
        only[among] = scores[among]
        best = sweep.pick(only)
        regrets[split] = None if best is None else float(aurocs[among].max() - aurocs[best])
    return taus, regrets, {split: len(among) for split, among in chosen.items()}


def _summed(summary: Mapping[str, Any], taus: Any, regrets: Any, counts: Any) -> dict[str, Any]:
    tau = mean_tau(summary, taus, counts)
    return {"tau": tau._asdict() if tau else None, "regret": rows.mean(regrets.values()),
            "trials": sum(counts.values())}


def _spearman(strengths: Mapping[Any, np.ndarray], values: Mapping[Any, np.ndarray | None]) -> Rho | None:
    samples = []
    for split, strength in strengths.items():
        if values[split] is None:
            continue
        known = np.isfinite(values[split])
        samples.append((strength[known].tolist(), values[split][known].tolist()))
    return pooled_spearman(samples)


def _rho(rho: Rho | None) -> dict[str, Any] | None:
    return None if rho is None else rho._asdict()


# ------------------------------------------------------------------------------------------------------- words
def lambda_sentence(found: Mapping[str, Any]) -> str:
    """Does any signal choose λ better than accuracy does? In one sentence, or two."""
    better = [name for name, one in found["rules"].items() if one["verdict"] == "better"]
    worse = [name for name, one in found["rules"].items() if one["verdict"] == "worse"]
    lost = rows.number(found["accuracy"])
    known = any(one["verdict"] != "not known" for one in found["rules"].values())
    if better:
        best = max(better, key=lambda name: found["rules"][name]["difference"])
        one = found["rules"][best]
        text = (f"{rows.listed(better)} choose{'s' if len(better) == 1 else ''} {found['method']}'s trial better than "
                f"accuracy (regret {lost}) does: {best} by {rows.signed(one['difference'])} "
                f"{rows.bounds([one['low'], one['high']], sign=True)}")
    else:
        text = (f"No signal chooses {found['method']}'s trial, and with it λ, better than accuracy (regret {lost}) "
                "does, " + ("beyond noise" if known else "as far as so few splits can tell"))
    text += f"; worse: {rows.listed(worse)}." if worse else "."
    if found["alone"]:
        return text
    rho = found["relation"]
    if rho is None:
        return f"{text} All parameters varied at once, so this is not about λ alone."
    words = f"ρ {rows.signed(rho['value'], 2)} {rows.bounds([rho['low'], rho['high']], 2, sign=True)}"
    noise = "" if rho["low"] > 0 or rho["high"] < 0 else ", within noise"
    return f"{text} All parameters varied at once; λ's own rank correlation with AUROC: {words}{noise}."


def augmentation_sentence(method: str, found: Mapping[str, Any]) -> str:
    """Do the strongest augmentations raise accuracy and hurt detection, and is accuracy a worse guide among them?"""
    def rho(one: Mapping[str, Any] | None) -> str:
        return rows.MISSING if one is None else (
            f"{rows.signed(one['value'], 2)} {rows.bounds([one['low'], one['high']], 2, sign=True)}")

    what = f"Stronger augmentation ({rows.listed(found['parameters'])}; {method})"
    if not found["finding"]:
        return f"{what}: too few trials to say what it does."
    text = (f"{what}: {found['finding']}; ρ with validation accuracy {rho(found['accuracy'])}, with AUROC "
            f"{rho(found['detection'])}.")
    strong, rest, apart = found["strong"]["tau"], found["rest"]["tau"], found["tau_difference"]
    if strong is None or rest is None:
        return f"{text} Too few trials to compare accuracy as a guide among strongly and weakly augmented ones."
    text += (f" Among the stronger half val_accuracy orders trials with τ {rows.signed(strong['value'], 2)}, among the "
             f"rest with {rows.signed(rest['value'], 2)}")
    if apart["low"] is None:
        return f"{text}; too few splits to say whether that differs."
    differs = "a difference" if apart["low"] > 0 or apart["high"] < 0 else "no difference beyond noise"
    return (f"{text}: {differs}, {rows.signed(apart['difference'], 2)} "
            f"{rows.bounds([apart['low'], apart['high']], 2, sign=True)}.")
