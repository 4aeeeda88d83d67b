"""Covering arrays: few rows in which every value of every factor meets every value of every other one.

Greedy, as AETG (Cohen, Dalal, Fredman & Patton, "The AETG System", 1997), but without chance: a row grows from each pair
that no row holds yet, and the one that holds most of such pairs is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, get_args

Row = dict[str, Any]
Pair = frozenset[tuple[str, Any]]  # of two (factor, value)


def pairs_of(row: Mapping[str, Any]) -> set[Pair]:
    return {frozenset(pair) for pair in combinations(row.items(), 2)}


def possible_pairs(factors: Mapping[str, Sequence], allowed: Callable[[Row], bool]) -> set[Pair]:
    """Every pair of values of two factors that ``allowed`` lets stand in one row."""
    return {frozenset(((one, a), (other, b))) for one, other in combinations(factors, 2)
            for a in factors[one] for b in factors[other] if allowed({one: a, other: b})}


def covering_array(
    factors: Mapping[str, Sequence], allowed: Callable[[Row], bool] = lambda row: True, among: Iterable[Row] = (),
) -> list[Row]:
    """Rows {factor: value} that hold every possible pair of values of two factors, none without need.

    ``allowed`` judges rows, whole or in part, pair by pair: what it lets through two by two must be right as a whole.
    ``among``: each row must extend one of these, such as an array over fewer factors. ValueError where that cannot be.
    """
    missing, rows, among = possible_pairs(factors, allowed), [], list(among)
    while missing:
        starts = among or [dict(pair) for pair in sorted(missing, key=lambda pair: _place(factors, pair))]
        grown = (_grown(start, factors, allowed, missing) for start in starts)
        best = max((row for row in grown if row), key=lambda row: len(pairs_of(row) & missing), default={})
        if not pairs_of(best) & missing:
            raise ValueError(f"no row can hold {sorted(map(sorted, missing))[0]}")
        missing -= pairs_of(best)
        rows.append(best)
    return rows


def _grown(start: Row, factors: Mapping[str, Sequence], allowed: Callable[[Row], bool], missing: set[Pair]) -> Row:
    """The row with a value for each factor, each time one that adds most of the missing pairs; {} at a dead end."""
    row = dict(start)
    for name, values in factors.items():
        if name not in row:
            fitting = [value for value in values if allowed({**row, name: value})]
            if not fitting:
                return {}
            row[name] = max(fitting, key=lambda value: sum(
                frozenset(((name, value), item)) in missing for item in row.items()))
    return {name: row[name] for name in factors}


def _place(factors: Mapping[str, Sequence], pair: Pair) -> list[tuple[int, int]]:
    names = list(factors)
    return sorted((names.index(name), list(factors[name]).index(value)) for name, value in pair)


# -- of studies ---------------------------------------------------------------------------------------------------------


def study_factors() -> dict[str, list]:
    """Everything built in that decides what a study chooses, and the changes of its anomalies."""
    from transforms import TRANSFORMS

    from analysis.signals import trial_signal_names
    from study.spec import SearchSpec
    from study.spec_samplers import SHORT
    from trainables.methods import built_in

    fields = SearchSpec.model_fields
    return {"sampler": list(SHORT), "pruner": list(get_args(fields["pruner"].annotation)),
            "signal": trial_signal_names(), "transform": list(TRANSFORMS), "method": built_in()}


def possible_study(row: Row) -> bool:
    """Leaves out what cannot be: a pruner by a signal that no epoch tells, and of a method whose early epochs do not tell
    late ones (which such a study trains to the end)."""
    from study.spec import EPOCH_SIGNALS
    from trainables.methods import get_method

    if row.get("pruner", "none") == "none":
        return True
    prunable = "method" not in row or get_method(row["method"]).info.pruning_safe
    return prunable and row.get("signal", EPOCH_SIGNALS[0]) in EPOCH_SIGNALS


def study_rows() -> list[Row]:
    """The covering array of all factors, grown in steps so that rows share studies: few settings, of each few transforms,
    of each few methods."""
    factors, rows = study_factors(), []
    for names in (["sampler", "pruner", "signal"], ["sampler", "pruner", "signal", "transform"], list(factors)):
        rows = covering_array({name: factors[name] for name in names}, possible_study, among=rows)
    return rows
