"""One file a system. Listing the names imports none of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainables.methods.base import Method

FIRST = ("classifier", "hybrid")  # the order in which methods are listed; the others follow by name


def method_names() -> list[str]:
    """Names of all methods, found in this folder."""
    found = {p.stem for p in Path(__file__).parent.glob("*.py") if p.stem != "base" and not p.stem.startswith("_")}
    return [name for name in FIRST if name in found] + sorted(found - set(FIRST))


def get_method(name: str) -> Method:
    """The method; ValueError naming the nearest for an unknown one."""
    import difflib
    import importlib

    if name not in method_names():
        close = difflib.get_close_matches(str(name), method_names(), n=1)
        hint = f", did you mean {close[0]!r}?" if close else f"; known are {', '.join(method_names())}"
        raise ValueError(f"no method {name!r}{hint}")
    method = importlib.import_module(f"trainables.methods.{name}").METHOD
    if method.info.name != name:
        raise ValueError(f"trainables/methods/{name}.py holds {method.info.name!r}")
    return method
