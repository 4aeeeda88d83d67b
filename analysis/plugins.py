"""A user's own method, network, scorer, signal, oracle or data source, from any module that can be imported.

A plug-in is written ``kind=module:name``, such as ``network=my_pkg.nets:tiny``. Where the object tells its kind (a
``Method``, ``Scorer`` or ``Oracle`` class, a ``SignalInfo``) the kind may be left out; a function could be a network or
a source, so there it is needed. Loading one enters it into its registry under its own plain name, which may hide
neither a built-in one nor another plug-in. The current folder is searched last, after Python's own path.

Packages offer theirs by entry points of the groups ``oraclegap.methods``, ``.networks``, ``.scorers``, ``.signals``,
``.oracles`` and ``.sources``, each named like the object it points to, and imported only when it is asked for.

Pure Python, at the bottom of all imports: the registries are named here, not imported.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from operator import attrgetter
from pathlib import Path
from typing import Any

#: Tells other processes (Ray's workers, ``study.prepare``) which plug-ins a study has and where they were found.
VARIABLE = "ORACLEGAP_PLUGINS"
REFERENCE = re.compile(r"(?:(?P<kind>\w+)=)?(?P<module>\w+(?:\.\w+)*):(?P<attribute>\w+(?:\.\w+)*)")
#: Names of methods and scorers become names of folders and files.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class PluginError(ValueError):
    """A plug-in cannot be used; one line that names it and says why."""


@dataclass(frozen=True)
class Kind:
    """``home``: the module with ``register`` and the registry; ``complete``: imported first, so that every built-in
    name is taken. ``base``: the class that it must be or be of, empty for a callable; ``form``: class, instance or
    either."""

    home: str
    registry: str
    complete: str = ""
    base: str = ""
    form: str = "class"


KINDS = {
    "method": Kind("trainables.methods", "PLUGINS", base="trainables.methods.base:Method", form="either"),
    "network": Kind("trainables.networks", "NETWORKS"),
    "scorer": Kind("analysis.scorer_base", "REGISTRY", complete="analysis.scorers", base="analysis.scorer_base:Scorer"),
    "signal": Kind("analysis.signals", "_REGISTRY", base="analysis.signals:SignalInfo", form="instance"),
    "oracle": Kind("analysis.oracles", "_REGISTRY", base="analysis.oracles:Oracle"),
    "source": Kind("study.sources", "LOADERS", complete="study.folder_source"),
}


@dataclass(frozen=True)
class Plugin:
    """One that is loaded; ``reference`` in full, ``offered`` what the module holds under that name, ``thing`` what
    the registry holds: the same but for a method's class, of which it holds an instance."""

    kind: str
    name: str
    reference: str
    offered: Any
    thing: Any


_loaded: dict[tuple[str, str], Plugin] = {}
_followed: set[tuple[str, str]] = set()  # (value of the variable, kind) that is loaded


def load(reference: str, kind: str = "") -> Plugin:
    """Imports a plug-in and enters it into its registry; the same one twice is fine.

    ``kind``: what is expected where the reference leaves it out. PluginError with one line for one that cannot be
    imported, is not what it should be, or has a name that is taken.
    """
    match = REFERENCE.fullmatch(reference)
    if match is None:
        raise PluginError(f"{reference!r} is no plug-in: write module:name, such as my_pkg.mine:MyMethod")
    if (top := match["module"].partition(".")[0]) in sys.stdlib_module_names:  # os:system has the form of a network
        raise PluginError(f"{reference}: {top} is a module of Python itself and holds no plug-in")
    given = match["kind"] or ""
    if given and given not in KINDS:
        raise PluginError(f"{reference}: no kind {given!r}; known are {', '.join(KINDS)}")
    if given and kind and given != kind:
        raise PluginError(f"{reference}: a {kind} is needed here, not a {given}")
    offered = _imported(reference, match["module"], match["attribute"])
    kind = given or kind or _kind_of(offered, reference)
    thing = _checked(offered, kind, reference)
    full = f"{kind}={match['module']}:{match['attribute']}"
    plugin = Plugin(kind, _name_of(thing, reference), full, offered, thing)
    known = _loaded.get((kind, plugin.name))
    if known is None or known.offered is not offered:
        _register(plugin)
        _loaded[kind, plugin.name] = plugin
    return _loaded[kind, plugin.name]


def seek(kind: str, name: str) -> bool:
    """Whether ``name`` is a plug-in's, loaded now if need be: one that the environment or an entry point names."""
    _follow_environment(kind)
    if (kind, name) not in _loaded and name in installed(kind):
        load_installed(kind, name)
    return (kind, name) in _loaded


def load_installed(kind: str, name: str) -> Plugin:
    """The plug-in of an entry point. PluginError where the two names differ."""
    plugin = load(installed(kind)[name])
    if plugin.name != name:
        raise PluginError(f"{plugin.reference}: is called {plugin.name!r}, but its entry point {name!r}")
    return plugin


def names(kind: str) -> list[str]:
    """Names of the plug-ins of one kind, loaded ones first; imports none of them."""
    found = [name for of, name in _loaded if of == kind]
    return [*found, *(name for name in installed(kind) if name not in found)]


def installed(kind: str) -> dict[str, str]:
    """Reference by name of what installed packages offer; imports none of them."""
    return _entry_points().get(f"oraclegap.{kind}s", {})


def reference_of(kind: str, name: str) -> str | None:
    """The full reference of a plug-in, loaded or installed."""
    plugin = _loaded.get((kind, name))
    return plugin.reference if plugin else installed(kind).get(name)


def loaded(kind: str, name: str) -> Any:
    """What the registry holds of a plug-in; KeyError unless it is loaded."""
    return _loaded[kind, name].thing


# -- other processes ----------------------------------------------------------------------------------------------


def environment(references: Iterable[str]) -> dict[str, str]:
    """The variables by which another process finds these plug-ins: none for none."""
    references = sorted(references)
    if not references:
        return {}
    folders = sorted({str(Path(place).parent) for place in places(references)})
    return {VARIABLE: json.dumps({"plugins": references, "path": folders})}


def places(references: Iterable[str]) -> list[str]:
    """Top-level module files and package folders of these plug-ins, those of installed packages aside."""
    found = set()
    for reference in references:
        top = sys.modules.get(REFERENCE.fullmatch(reference)["module"].partition(".")[0])
        file = getattr(top, "__file__", None)
        if file:
            found.add(Path(file).parent if Path(file).stem == "__init__" else Path(file))
        else:
            found |= {Path(folder) for folder in getattr(top, "__path__", ())}  # a package without __init__
    return sorted(str(path.resolve()) for path in found if not {"site-packages", "dist-packages"} & set(path.parts))


def _follow_environment(kind: str) -> None:
    value = os.environ.get(VARIABLE, "")
    if not value or (value, kind) in _followed:
        return
    told = json.loads(value)
    for folder in told["path"]:
        if folder not in sys.path and Path(folder).is_dir():
            sys.path.append(folder)
    for reference in told["plugins"]:
        if reference.startswith(f"{kind}="):
            load(reference)
    _followed.add((value, kind))


# -- inside -------------------------------------------------------------------------------------------------------


@cache
def _entry_points() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for kind in KINDS:
        group = f"oraclegap.{kind}s"
        for point in metadata.entry_points(group=group):
            reference, table = f"{kind}={point.value}", found.setdefault(group, {})
            if table.setdefault(point.name, reference) != reference:
                raise PluginError(f"{reference}: {table[point.name]} is installed under the same name, {point.name!r}")
    return {group: dict(sorted(table.items())) for group, table in found.items()}


def _imported(reference: str, module: str, attribute: str) -> Any:
    if module == "__main__":
        raise PluginError(f"{reference}: other processes cannot import __main__; put it into a module of its own")
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())
    importlib.invalidate_caches()  # a file written a moment ago counts
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and f"{module}.".startswith(f"{error.name}."):
            raise PluginError(f"{reference}: no module {error.name!r} here ({os.getcwd()}) or on Python's path") from error
        raise PluginError(f"{reference}: cannot be imported: {error}") from error
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split())[:200]
        raise PluginError(f"{reference}: cannot be imported: {type(error).__name__}: {text}") from error
    try:
        return attrgetter(attribute)(found)
    except AttributeError:
        raise PluginError(f"{reference}: the module {module} has no {attribute!r}") from None


def _kind_of(thing: Any, reference: str) -> str:
    lineage = {f"{c.__module__}:{c.__qualname__}" for c in _class_of(thing).__mro__}
    for name, kind in KINDS.items():
        if kind.base in lineage:
            return name
    if callable(thing):
        raise PluginError(f"{reference}: is it a network or a source? Write network={reference} or source={reference}")
    raise PluginError(f"{reference}: is no {', '.join(KINDS)}, but {_article(thing)}")


def _checked(thing: Any, kind: str, reference: str) -> Any:
    """What the registry takes. PluginError unless it is what its kind asks for."""
    wanted = KINDS[kind]
    if not wanted.base:
        if not callable(thing):
            raise PluginError(f"{reference}: a {kind} is a function, not {_article(thing)}")
        return thing
    base = _get(wanted.base)
    is_class = isinstance(thing, type)
    if not issubclass(_class_of(thing), base) or wanted.form == ("instance" if is_class else "class"):
        what = "an instance" if wanted.form == "instance" else "a class" if wanted.form == "class" else "one"
        raise PluginError(f"{reference}: a {kind} is {what} of {wanted.base.replace(':', '.')}, not {_article(thing)}")
    if wanted.form == "either" and is_class:
        try:
            thing = thing()
        except Exception as error:  # abstract methods are left, or it takes arguments, or fails by itself
            raise PluginError(f"{reference}: {' '.join(str(error).split())}") from error
    if kind != "signal" and not hasattr(thing, "info"):
        raise PluginError(f"{reference}: has no record; give the class an `info`")
    return thing


def _name_of(thing: Any, reference: str) -> str:
    record = getattr(thing, "info", thing)
    name = getattr(record, "name", None) or getattr(record, "__name__", None)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise PluginError(f"{reference}: its name {name!r} must be letters, digits, '.', '_' or '-'")
    return name


def _register(plugin: Plugin) -> None:
    kind = KINDS[plugin.kind]
    if kind.complete:
        importlib.import_module(kind.complete)
    home = importlib.import_module(kind.home)
    if getattr(home, kind.registry).get(plugin.name) is plugin.thing:
        return  # its module has entered it
    try:
        home.register(plugin.thing) if kind.base else home.register(plugin.name)(plugin.thing)
    except (ValueError, RuntimeError) as error:
        raise PluginError(f"{plugin.reference}: {error}") from error


def _get(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _class_of(thing: Any) -> type:
    return thing if isinstance(thing, type) else type(thing)


def _article(thing: Any) -> str:
    return f"the class {thing.__qualname__}" if isinstance(thing, type) else f"a {type(thing).__name__}"
