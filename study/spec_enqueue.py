"""``[[search.enqueue]]``: known configurations, tried right after the default one. Raises ValueError, one line."""

from __future__ import annotations

from typing import Any

from search_spaces.base import Space
from study.errors import nearest, one_line


def check_enqueue(entries: list[dict[str, Any]], spaces: list[Space], trials: int) -> None:
    """Every entry fits the space of its method, or of each method that has its parameters, and the budget holds them all."""
    for number, entry in enumerate(entries, 1):
        where = f"search.enqueue: number {number}"
        try:
            mine = _spaces_of(entry, spaces)
            for space in mine:
                space.part(_parameters(entry))
        except ValueError as error:
            raise ValueError(f"{where}: {one_line(error, 250)}") from None
    for space in spaces:
        found = enqueued(entries, space)
        default = space.searched_part(space.default())
        for one in found:
            if one == default or found.count(one) > 1:
                what = "the default configuration, which is tried first anyhow" if one == default else "there twice"
                raise ValueError(f"search.enqueue: {one_line(one, 120)} of {space.method} is {what}")
        if len(found) >= trials:
            raise ValueError(
                f"search.enqueue: the default configuration and {len(found)} of {space.method} need search.trials of at least "
                f"{len(found) + 1}, not {trials}"
            )


def enqueued(entries: list[dict[str, Any]], space: Space) -> list[dict[str, Any]]:
    """The entries that are meant for this method, in order: their searched parameters as the space writes them."""
    mine = [entry for entry in entries if entry.get("method", space.method) == space.method and _has(space, entry)]
    return [space.searched_part(_parameters(entry)) for entry in mine]


def _spaces_of(entry: dict[str, Any], spaces: list[Space]) -> list[Space]:
    parameters = _parameters(entry)
    if not parameters:
        raise ValueError("holds no parameter")
    if "method" in entry:
        if named := [space for space in spaces if space.method == entry["method"]]:
            return named
        names = [space.method for space in spaces]
        hint = nearest(str(entry["method"]), names)
        raise ValueError(f"{one_line(repr(entry['method']), 80)} is none of this study's methods{hint}")
    if found := [space for space in spaces if _has(space, entry)]:
        return found
    known = {name for space in spaces for name in space.parameters}
    for name in parameters:
        if name not in known:
            raise ValueError(f"no method of this study has a parameter {one_line(name, 80)!r}{nearest(name, sorted(known))}")
    raise ValueError(f"no method of this study has all of {', '.join(parameters)}")


def _parameters(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != "method"}


def _has(space: Space, entry: dict[str, Any]) -> bool:
    return entry.get("method") == space.method or set(_parameters(entry)) <= set(space.parameters)
