"""One file a method: ranges, default, scale, role and why. Pure Python."""

from __future__ import annotations

from pathlib import Path

from analysis import plugins
from search_spaces.base import Choice, Fixed, Float, Int, Parameter, Space

__all__ = ["Choice", "Fixed", "Float", "Int", "Parameter", "Space", "built_in", "get_space", "space_names"]

FIRST = ("classifier", "hybrid")  # the order in which methods are listed; the others follow by name


def built_in() -> list[str]:
    """Names of the spaces of this folder."""
    found = {p.stem for p in Path(__file__).parent.glob("*.py") if p.stem != "base" and not p.stem.startswith("_")}
    return [name for name in FIRST if name in found] + sorted(found - set(FIRST))


def space_names() -> list[str]:
    """Names of all spaces: those of this folder, then those that plug-in methods bring."""
    return [*built_in(), *(name for name in plugins.names("method") if name not in built_in())]


def get_space(name: str) -> Space:
    """The space of a method; ValueError naming the nearest for an unknown one."""
    import difflib
    import importlib

    if name in built_in():
        space, where = importlib.import_module(f"search_spaces.{name}").space(), f"search_spaces/{name}.py"
    elif plugins.seek("method", name):
        space, where = plugins.loaded("method", name).search_space(), plugins.reference_of("method", name)
        if not isinstance(space, Space):
            raise ValueError(f"{where}: search_space() gives a {type(space).__name__}, not a search_spaces.Space")
    else:
        close = difflib.get_close_matches(str(name), space_names(), n=1)
        hint = f", did you mean {close[0]!r}?" if close else f"; known are {', '.join(space_names())}"
        raise ValueError(f"no search space for a method {name!r}{hint}")
    if space.method != name:
        raise ValueError(f"{where} describes {space.method!r}, not {name!r}")
    return space
