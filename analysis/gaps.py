"""The numbers of a summary row: AUROCs of scorers and oracles, the gaps between them, and selection regret.

extraction gap = oracle detector - scorer; representation gap = oracle representation - oracle detector. All on the
same test images, so gaps carry paired DeLong intervals. A negative gap stays negative.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from analysis import metrics
from analysis.uncertainty import delong_interval, paired_delong

FROZEN_RULE = "frozen_rule"  # the frozen rule's name beside the scorers'
#: Names beside the scorers' in a reveal's arrays, which no scorer may take.
RESERVED = (FROZEN_RULE, "oracle_detector", "linear_oracle", "oracle_representation")
HALVES_SEED = 0


def finite_or_none(value: Any) -> Any:
    """A JSON-ready copy: numpy scalars and arrays become Python's, NaN and infinity None, at any depth."""
    if isinstance(value, Mapping):
        return {key: finite_or_none(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return finite_or_none(value.tolist())
    if isinstance(value, (list, tuple)):
        return [finite_or_none(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def evaluate_scores(*, is_anomaly, scorers: Mapping[str, np.ndarray], frozen, oracle_detector=None,
                    linear_oracle=None, oracle_representation=None, correct=None, halves_seed: int = HALVES_SEED,
                    level: float = 0.95) -> dict[str, Any]:
    """The measured part of a trial's summary row, JSON-ready, from scores of the same N test images.

    ``scorers``: raw scores (N,) by name; ``frozen``: the frozen rule's score; oracles: their scores, or None;
    ``correct`` (N,): whether the predicted class is right (ignored at anomalies), for accuracy and OSCR. What cannot
    be computed is None, all keys are always there. ``half_aurocs`` feeds ``regret_from_halves``.
    A scorer whose scores hold NaN gets None. ValueError for shapes that differ or a missing class.
    """
    frozen, mask = metrics.check_scores(frozen, is_anomaly)
    area, low, high = delong_interval(frozen, mask, level)
    row: dict[str, Any] = {"scorer_auroc": area, "scorer_auroc_ci": [low, high],
                           "scorers": {name: _auroc_or_none(score, mask) for name, score in scorers.items()}}
    for name in ("aupr_anomaly", "aupr_nominal", "fpr_at_95_tpr", "equal_error_rate",
                 "anomalies_missed_at_95_acceptance"):
        row[name] = getattr(metrics, name)(frozen, mask)
    row["closed_set_accuracy"] = None if correct is None else float(np.asarray(correct)[~mask].mean())
    row["oscr"] = None if correct is None else metrics.oscr(frozen, mask, correct)
    row.update(_oracle_part(mask, frozen, oracle_detector, oracle_representation, level))
    row["linear_oracle_auroc"] = None if linear_oracle is None else metrics.auroc(linear_oracle, mask)
    max_logit = row["scorers"].get("max_logit")
    oracle = row["oracle_detector_auroc"]
    row["extraction_gap_max_logit"] = None if None in (max_logit, oracle) else oracle - max_logit
    row["half_aurocs"] = half_aurocs({**scorers, FROZEN_RULE: frozen}, mask, seed=halves_seed)
    return finite_or_none(row)


def _auroc_or_none(score, mask: np.ndarray) -> float | None:
    values = np.asarray(score, dtype=np.float64)
    return None if np.isnan(values).any() else metrics.auroc(values, mask)


def _oracle_part(mask: np.ndarray, frozen: np.ndarray, detector, representation, level: float) -> dict[str, Any]:
    part: dict[str, Any] = {}
    for name, score in (("oracle_detector", detector), ("oracle_representation", representation)):
        area, low, high = (None, None, None) if score is None else delong_interval(score, mask, level)
        part[f"{name}_auroc"] = area
        part[f"{name}_ci"] = None if area is None else [low, high]
    for name, above, below in (("extraction_gap", detector, frozen),
                               ("representation_gap", representation, detector)):
        gap = None if above is None or below is None else paired_delong(above, below, mask, level)
        part[name] = None if gap is None else gap.difference
        part[f"{name}_ci"] = None if gap is None else [gap.low, gap.high]
        part[f"{name}_p_value"] = None if gap is None else gap.p_value
    return part


def regret(aurocs: Mapping[Any, Mapping[str, float | None]], selected: Any, *, rule: str = FROZEN_RULE) -> float:
    """Best AUROC of (completed trials x (scorers and the frozen rule)) minus the selected trial's with the rule.

    ``aurocs``: {trial: {scorer or rule: AUROC or None}}. Never negative, since the selected pair is among them.
    KeyError when the selected pair is missing.
    """
    best = max(value for row in aurocs.values() for value in row.values() if value is not None)
    return float(best - aurocs[selected][rule])


def split_halves(is_anomaly, *, seed: int = HALVES_SEED) -> tuple[np.ndarray, np.ndarray]:
    """Two disjoint halves of the test images (sorted indices), anomalies and nominal images each cut in two.

    Depends on the mask and the seed alone, so every trial of a split is cut alike. ValueError when a half would lack
    one of the two.
    """
    mask = np.asarray(is_anomaly).astype(bool)
    generator = np.random.default_rng(seed)
    halves: tuple[list, list] = ([], [])
    for rows in (np.flatnonzero(mask), np.flatnonzero(~mask)):
        if len(rows) < 2:
            raise ValueError("halves need at least two anomalies and two nominal images")
        shuffled = generator.permutation(rows)
        for half, part in zip(halves, np.array_split(shuffled, 2), strict=True):
            half.append(part)
    return np.sort(np.concatenate(halves[0])), np.sort(np.concatenate(halves[1]))


def half_aurocs(scores: Mapping[str, np.ndarray], is_anomaly, *, seed: int = HALVES_SEED
                ) -> dict[str, list[float | None]] | None:
    """{scorer: [AUROC on half A, on half B]} of one trial, None where scores hold NaN. None when a class has one
    image only and cannot be halved."""
    mask = np.asarray(is_anomaly).astype(bool)
    if min(int(mask.sum()), int((~mask).sum())) < 2:
        return None
    halves = split_halves(mask, seed=seed)
    return {name: [_auroc_or_none(np.asarray(score)[half], mask[half]) for half in halves]
            for name, score in scores.items()}


def regret_from_halves(halves: Mapping[Any, Mapping[str, Sequence[float | None]] | None], selected: Any, *,
                       rule: str = FROZEN_RULE) -> float | None:
    """Cross-fit regret from every trial's ``half_aurocs``: the best pair found on one half and measured on the other,
    both ways averaged, minus the selected pair's mean over the halves. May be negative (the best on one half need not
    be good on the other). Ties go to the selected pair, then to the first. None where halves do not exist.
    """
    if not halves.get(selected) or None in halves[selected][rule]:
        return None
    chosen = halves[selected][rule]
    pairs = [chosen, *(pair for row in halves.values() if row for pair in row.values() if None not in pair)]
    lost = [max(pairs, key=lambda pair, half=half: pair[half])[1 - half] - chosen[1 - half] for half in (0, 1)]
    return float(sum(lost) / 2)


def regret_crossfit(scores: Mapping[Any, Mapping[str, np.ndarray]], is_anomaly, selected: Any, *,
                    rule: str = FROZEN_RULE, seed: int = HALVES_SEED) -> float | None:
    """``regret_from_halves`` from per-image scores {trial: {scorer or rule: (N,)}} of the same N test images."""
    return regret_from_halves({trial: half_aurocs(row, is_anomaly, seed=seed) for trial, row in scores.items()},
                              selected, rule=rule)


class Halves(NamedTuple):
    """The best pair found on each half: its AUROC there, and on the other half."""

    inside: tuple[float, float]
    outside: tuple[float, float]


def best_of_halves(pairs: Iterable[Sequence[float | None]]) -> Halves | None:
    """From [AUROC on half A, on half B] of every (trial, scorer) pair; the first of equal ones. None without a pair."""
    known = [pair for pair in pairs if None not in pair]
    if not known:
        return None
    first, second = max(known, key=lambda pair: pair[0]), max(known, key=lambda pair: pair[1])
    return Halves((first[0], second[1]), (first[1], second[0]))


def crossfit_gain(best: Halves, chosen: Sequence[float]) -> tuple[float, float]:
    """(apparent, honest) gain of the best pairs over the chosen one, [AUROC on half A, on half B], mean over both ways:
    measured on the half that they were found on, and on the other. Where the chosen pair is as good as the best it is
    kept, and nothing gained. Negative where it is better than every pair, of which it then is none. With the chosen
    pair among the pairs the honest gain is ``regret_from_halves``."""
    ways = [(best.inside[half] - chosen[half], best.outside[half] - chosen[1 - half])
            if best.inside[half] != chosen[half] else (0.0, 0.0) for half in (0, 1)]
    return sum(way[0] for way in ways) / 2, sum(way[1] for way in ways) / 2


def class_divisions(classes: int, *, at_most: int = 20, seed: int = HALVES_SEED) -> list[np.ndarray]:
    """Ways to cut that many classes into halves as equal as can be, each a mask (classes,) of the half without the last
    class or, for an odd number, the smaller one. All of them where they are few, else ``at_most`` different ones drawn
    by the seed. Empty for fewer than two classes."""
    if classes < 2:
        return []
    small, even = classes // 2, classes % 2 == 0
    pool = classes - 1 if even else classes  # the mirror image of a division is the same division
    if math.comb(pool, small) <= at_most:
        chosen = list(itertools.combinations(range(pool), small))
    else:
        generator, drawn = np.random.default_rng(seed), {}
        while len(drawn) < at_most:
            drawn[tuple(sorted(generator.permutation(pool)[:small].tolist()))] = None
        chosen = list(drawn)
    return [np.isin(np.arange(classes), part) for part in chosen]


def class_halves(anomaly_class, *, at_most: int = 20, seed: int = HALVES_SEED) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of disjoint halves (sorted indices) of N test images: the anomalies of some classes with half of the
    nominal images, those of the others with the other half, one pair for each of ``class_divisions``.

    ``anomaly_class`` (N,): class of each anomaly, -1 for nominal images. Every trial of a split is cut alike. Empty for
    fewer than two classes or nominal images.
    """
    labels = np.asarray(anomaly_class)
    nominal, present = np.flatnonzero(labels < 0), np.unique(labels[labels >= 0])
    if len(nominal) < 2:
        return []
    pairs = []
    for number, part in enumerate(class_divisions(len(present), at_most=at_most, seed=seed)):
        shuffled = np.random.default_rng([seed, number]).permutation(nominal)
        cut = np.array_split(shuffled, 2)
        sides = (np.flatnonzero(np.isin(labels, present[part])), np.flatnonzero(np.isin(labels, present[~part])))
        pairs.append(tuple(np.sort(np.concatenate(both)) for both in zip(sides, cut, strict=True)))
    return pairs
