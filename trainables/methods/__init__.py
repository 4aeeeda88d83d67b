"""One file a system. Listing the names imports none of them.

A method from elsewhere is a plug-in (``analysis.plugins``): a ``Method`` whose ``search_space()`` gives its space.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from analysis import plugins

if TYPE_CHECKING:
    from trainables.methods.base import Method

FIRST = ("classifier", "hybrid")  # the order in which methods are listed; the others follow by name
PLUGINS: dict[str, Method] = {}


def built_in() -> list[str]:
    """Names of the methods of this folder."""
    found = {p.stem for p in Path(__file__).parent.glob("*.py") if p.stem != "base" and not p.stem.startswith("_")}
    return [name for name in FIRST if name in found] + sorted(found - set(FIRST))


def method_names() -> list[str]:
    """Names of all methods: those of this folder, then plug-ins."""
    return [*built_in(), *(name for name in plugins.names("method") if name not in built_in())]


def register(method: Method) -> Method:
    """Enters a plug-in's method under its own name. ValueError for a name already taken, or without a search space."""
    name = method.info.name
    if name in built_in() or name in PLUGINS:
        raise ValueError(f"a method named {name!r} exists already")
    if not callable(getattr(method, "search_space", None)):
        raise ValueError("a method from outside needs search_space(), which gives its search_spaces.Space")
    PLUGINS[name] = method
    return method


def get_method(name: str | Method) -> Method:
    """The method of a name, or the method itself; ValueError naming the nearest for an unknown name."""
    import difflib
    import importlib

    if not isinstance(name, str):
        return name
    if name in built_in():
        method = importlib.import_module(f"trainables.methods.{name}").METHOD
        if method.info.name != name:
            raise ValueError(f"trainables/methods/{name}.py holds {method.info.name!r}")
        return method
    if name in PLUGINS or plugins.seek("method", name):
        return PLUGINS[name]
    close = difflib.get_close_matches(str(name), method_names(), n=1)
    hint = f", did you mean {close[0]!r}?" if close else f"; known are {', '.join(method_names())}"
    raise ValueError(f"no method {name!r}{hint}")
