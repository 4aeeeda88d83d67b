"""Differences of two AUROCs on the same test images, judged over the splits of a study and adjusted for their number.

A claim about splits not yet seen needs several: Student's t of the paired differences over sets of nominal classes. Where
there is one set, the images speak (paired DeLong), and the claim holds for these classes only. Both are told apart by
``basis``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

from analysis import summary_rows as rows
from analysis.comparison import mean_interval
from analysis.holm import holm, paired_t_p_value

ALPHA = 0.05
YES, NOISE, OTHER_WAY, UNKNOWN = "yes", "no difference beyond noise", "the other way", "not known"


class Gap(NamedTuple):
    """One split's difference with its 95 % interval over images, where there is one."""

    difference: float
    low: float | None = None
    high: float | None = None


def over_splits(summary: Mapping[str, Any], gaps: Mapping[Any, Gap | None], *, seed_spread: float = 0.0) -> dict[str, Any]:
    """The mean difference over splits, {"difference", "low", "high", "p_value", "basis", "splits", "draws", "images",
    "by_split", "seed_noise"}.

    ``basis``: "splits" (t interval over ``draws`` sets of nominal classes), "images" (one set; the mean of the splits' own
    limits, cautious since their test images overlap) or "none" (neither interval nor p-value). ``images``: {"low",
    "high", "p_value"} from the images alone, which holds for the classes of these splits. ``by_split``: {split:
    difference}. ``seed_noise``: the difference is smaller than what another training seed makes of it (1.96 ``seed_spread``).
    """
    known = {split: gap for split, gap in gaps.items() if gap is not None}
    result: dict[str, Any] = {
        "difference": rows.mean(gap.difference for gap in known.values()), "low": None, "high": None, "p_value": None,
        "basis": "none", "splits": len(known), "draws": 0, "images": None, "seed_noise": False,
        "by_split": {str(split): gap.difference for split, gap in known.items()},
    }
    if not known:
        return result
    draws = rows.over_distinct_classes(summary, {split: gap.difference for split, gap in known.items()})
    images = _over_images(list(known.values()))
    result.update(draws=len(draws), images=images, seed_noise=abs(result["difference"]) < 1.96 * seed_spread)
    if len(draws) > 1:
        low, high = mean_interval(draws)
        shift = result["difference"] - sum(draws) / len(draws)  # splits of one class set count once there, each here
        p_value = paired_t_p_value([draw + shift for draw in draws])
        result.update(low=low + shift, high=high + shift, p_value=p_value, basis="splits")
    elif images:
        result.update(images, basis="images")
    return result


def _over_images(gaps: list[Gap]) -> dict[str, float] | None:
    if any(gap.low is None or gap.high is None for gap in gaps):
        return None
    centre, low, high = (sum(getattr(gap, name) for gap in gaps) / len(gaps) for name in Gap._fields)
    return {"low": low, "high": high, "p_value": p_of_interval(centre, low, high)}


def p_of_interval(difference: float, low: float, high: float) -> float:
    """Two-sided p of "no difference" that a 95 % interval amounts to, by the limit on the side of 0."""
    reach = difference - low if difference > 0 else high - difference
    if difference == 0 or reach <= 0:  # no width: nothing is known about noise, and nothing is claimed
        return 1.0
    return math.erfc(abs(difference) / reach * NormalDist().inv_cdf(0.975) / math.sqrt(2))


def averaged(tables: Sequence[Mapping[Any, Gap | None]]) -> dict[Any, Gap]:
    """By split the mean over several tables (methods, say), of the splits that all of them have. Limits are averaged too,
    which is cautious whatever the methods have in common."""
    shared = [s for s in tables[0] if all(table.get(s) is not None for table in tables)] if tables else []
    found = {}
    for split in shared:
        gaps = [table[split] for table in tables]
        whole = all(gap.low is not None and gap.high is not None for gap in gaps)
        limits = [sum(getattr(gap, name) for gap in gaps) / len(gaps) for name in Gap._fields[1:]] if whole else []
        found[split] = Gap(sum(gap.difference for gap in gaps) / len(gaps), *limits)
    return found


def judged(tests: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The tests of one family with "p_adjusted" (Holm over those that have a p-value) and "verdict": "yes" (the first is
    ahead), "the other way", "no difference beyond noise", or "not known" without an interval; "on_these_images": the
    same from the images alone, adjusted too. A difference that another training seed could make is noise whatever its p."""
    tests = list(tests)
    adjusted = holm([test["p_value"] for test in tests])
    on_images = holm([(test["images"] or {}).get("p_value") for test in tests])
    return [{**test, "p_adjusted": p, "verdict": _verdict(test, p), "on_these_images": _verdict(test, images)}
            for test, p, images in zip(tests, adjusted, on_images, strict=True)]


def _verdict(test: Mapping[str, Any], p_value: float | None) -> str:
    if p_value is None:
        return UNKNOWN
    if p_value > ALPHA or test["seed_noise"]:
        return NOISE
    return YES if test["difference"] > 0 else OTHER_WAY


def errors_needed(draws: int, tests: int) -> float | None:
    """How many standard errors from 0 the mean over ``draws`` sets of classes must lie, for the clearest of ``tests`` to be
    found by Holm at 5 %; None for fewer than two sets."""
    if draws < 2 or tests < 1:
        return None
    from scipy.stats import t

    return float(t.isf(ALPHA / 2 / tests, draws - 1))
