"""What a spec says about scorers, checked against their registry and the methods'. Raises ValueError, one line."""

from __future__ import annotations

import math
import re
import sys
from typing import Any

from analysis import plugins
from analysis.gaps import RESERVED
from study.errors import nearest, one_line

#: The environment variable that holds the password of ``resources.ledger``.
LEDGER_PASSWORD = "ORACLEGAP_LEDGER_PASSWORD"
ADDRESS = re.compile(r"auto|local|(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):\d{1,5}")


def distinct(values: list, what: str, *, key: str = "") -> list:
    """``values``, which hold nothing twice; ``key`` opens the line where pydantic does not."""
    seen: list = []
    for value in values:
        if value in seen:
            raise ValueError(f"{key}the same {what} twice: {one_line(repr(value), 80)}")
        seen.append(value)
    return values


def check_path(text: str) -> None:
    """``data.path``: one that can be looked up; what lies there is no matter of the spec, which may travel without it."""
    if "\0" in text:
        raise ValueError("holds a NUL character, which no path has")
    if text and not text.strip():
        raise ValueError("is blank; give the place where the files lie")


def check_class_lists(nominal: Any, anomaly: Any) -> None:
    """``[data]``: what is wrong with classes whatever the data set; of the rest, ``study.splits`` knows more."""
    for key, wanted in (("nominal_classes", nominal), ("anomaly_classes", anomaly)):
        if isinstance(wanted, list):
            distinct(wanted, "class", key=f"{key}: ")
    if isinstance(nominal, list) and len(nominal) < 2:
        raise ValueError(f"nominal_classes: a classifier needs at least 2 classes, not {one_line(repr(nominal), 80)}")
    lists = isinstance(nominal, list) and isinstance(anomaly, list)
    if both := [name for name in anomaly if name in nominal] if lists else []:
        raise ValueError(f"anomaly_classes: {one_line(repr(both[0]), 80)} is a nominal class, too")


def check_address(text: str) -> None:
    """``resources.address``: the form of one; whether a cluster is there is found when it is joined.

    Not Ray's client: Tune would copy searcher and scheduler, and with them the ledger, to the other side.
    """
    if text.startswith("ray://"):
        raise ValueError(f"Ray's client ({one_line(text, 80)}) cannot run a search: launch on a node of the cluster, with the head's "
                         "host:port (6379 unless it was started otherwise)")
    if not ADDRESS.fullmatch(text):
        raise ValueError(f"must be 'auto', 'local' or 'host:port', not {one_line(repr(text), 80)}")


def check_ledger(text: str) -> None:
    """``resources.ledger``: empty, or the URL of a database that SQLAlchemy knows, without a password."""
    if not text:
        return
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ValueError("not a storage URL, such as postgresql://user@host/database") from None
    if url.password is not None or "password" in url.query:
        raise ValueError(f"leave the password out, it would be written down; set {LEDGER_PASSWORD} instead")
    try:
        url.get_dialect()
    except ArgumentError:  # NoSuchModuleError is one
        raise ValueError(f"no kind of database is called {one_line(url.drivername, 80)!r}, such as postgresql") from None
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise ValueError("a database in memory ends with its process; leave ledger empty for a file in the study's folder")


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
            if not _is_range(bounds):
                raise ValueError(f"{where}: give {{ low = …, high = …, log = true|false }}")
            if not 0 < bounds["low"] <= bounds["high"] <= sys.float_info.max:
                raise ValueError(f"{where}: 0 < low <= high must hold, and high be finite")
            if bounds["high"] > (most := info.at_most.get(parameter, math.inf)):
                raise ValueError(f"{where}: high must be at most {most:g}")


def _is_range(bounds: Any) -> bool:
    if not isinstance(bounds, dict) or not {"low", "high"} <= set(bounds) <= {"low", "high", "log"}:
        return False
    return type(bounds.get("log", False)) is bool and all(type(bounds[end]) in (int, float) for end in ("low", "high"))


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
