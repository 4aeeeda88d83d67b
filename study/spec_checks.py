"""What a spec says about scorers, checked against their registry and the methods'. Raises ValueError, one line."""

from __future__ import annotations

import math
from typing import Any

from analysis import plugins
from analysis.gaps import RESERVED
from study.errors import nearest


def check_posthoc(ranges: dict[str, dict[str, dict[str, Any]]]) -> None:
    """``[search.posthoc]``: known scorers and parameters, and ranges within what the parameter can be."""
    from analysis.scorers import get_scorer

    for scorer, table in ranges.items():
        info = get_scorer(scorer).info
        for parameter, bounds in table.items():
            where = f"{scorer}.{parameter}"
            if parameter not in info.parameters:
                raise ValueError(
                    f"{where}: unknown parameter{nearest(parameter, info.parameters)}; known: {sorted(info.parameters)}"
                )
            numbers = isinstance(bounds, dict) and all(isinstance(v, int | float) for v in bounds.values())
            if not numbers or not {"low", "high"} <= set(bounds) <= {"low", "high", "log"}:
                raise ValueError(f"{where}: give {{ low = …, high = …, log = true|false }}")
            if not 0 < bounds["low"] <= bounds["high"] < math.inf:
                raise ValueError(f"{where}: 0 < low <= high must hold")
            if bounds["high"] > (most := info.at_most.get(parameter, math.inf)):
                raise ValueError(f"{where}: high must be at most {most:g}")


def check_scorers(methods: list[str], chosen: list[str], rule: str) -> None:
    """``[selection]``: every scorer is known, and the one that is the rule can be computed for every method."""
    from analysis.fusion import RULES
    from analysis.scorers import needs_head, scorer_names, usable_scorers

    known, taken = scorer_names(), {*RULES, *RESERVED}
    if hidden := taken & set(known):
        raise ValueError(f"a scorer may not be called {min(hidden)!r}, which has a meaning of its own")
    foreign = plugins.names("scorer") or any(method in plugins.names("method") for method in methods)
    plain = rule in RULES or (rule in known and not needs_head(rule))
    if not foreign and set(chosen) <= set(known) and plain and (not chosen or not all(map(needs_head, chosen))):
        return
    from trainables.methods import get_method  # torch, only where the answer depends on the methods

    built = {method: get_method(method) for method in methods}
    for name, method in built.items():
        if twice := {*known, *taken} & set(method.own_scorers):
            raise ValueError(f"{name} has a score of its own called {min(twice)!r}, and so is a scorer; rename one")
    known = [*known, *dict.fromkeys(name for method in built.values() for name in method.own_scorers)]
    for name in chosen:
        if name not in known:
            raise ValueError(f"selection.scorers: unknown scorer {name!r}{nearest(name, known)}")
    if rule not in (*RULES, *known):
        raise ValueError(f"selection.scorer_rule: unknown {rule!r}{nearest(rule, [*RULES, *known])}")
    for name, method in built.items():
        usable = usable_scorers(method.own_scorers, linear_head=method.linear_head)
        if rule not in (*RULES, *usable):
            if rule in scorer_names():
                raise ValueError(f"selection.scorer_rule: {rule!r} reads a linear head, which {name} does not have")
            raise ValueError(f"selection.scorer_rule: {name} has no scorer {rule!r}")
        if chosen and not set(chosen) & set(usable):
            raise ValueError(f"selection.scorers: {name} can use none of {', '.join(chosen)}; add one that it can")
