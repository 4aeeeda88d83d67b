"""One file a method: ranges, default, scale, role and why. Pure Python."""

from __future__ import annotations

from pathlib import Path

from search_spaces.base import Choice, Fixed, Float, Int, Parameter, Space

__all__ = ["Choice", "Fixed", "Float", "Int", "Parameter", "Space", "get_space", "space_names"]

FIRST = ("classifier", "hybrid")  # the order in which methods are listed; the others follow by name


def space_names() -> list[str]:
    """Names of all spaces, found in this folder."""
    found = {p.stem for p in Path(__file__).parent.glob("*.py") if p.stem != "base" and not p.stem.startswith("_")}
    return [name for name in FIRST if name in found] + sorted(found - set(FIRST))


def get_space(name: str) -> Space:
    """The space of a method; ValueError naming the nearest for an unknown one."""
    import difflib
    import importlib

    if name not in space_names():
        close = difflib.get_close_matches(str(name), space_names(), n=1)
        hint = f", did you mean {close[0]!r}?" if close else f"; known are {', '.join(space_names())}"
        raise ValueError(f"no search space for a method {name!r}{hint}")
    space = importlib.import_module(f"search_spaces.{name}").space()
    if space.method != name:
        raise ValueError(f"search_spaces/{name}.py describes {space.method!r}")
    return space
