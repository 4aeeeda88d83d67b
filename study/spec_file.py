"""Finding a spec, overriding its keys, loading its plug-ins, and saying in one line what is wrong with it."""

from __future__ import annotations

import contextlib
import copy
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from analysis import plugins
from search_spaces import built_in, get_space
from study.errors import UserError, nearest, one_line

SPECS = Path(__file__).with_name("specs")


def ready_specs() -> list[str]:
    """Names of the specs that come with the package."""
    return sorted(path.stem for path in SPECS.glob("*.toml"))


def find_spec(spec: str | Path) -> Path:
    """The file of a spec given as a path, as a study's folder or as a ready spec's name."""
    path = Path(spec)
    if folder := own_folder(spec):
        path = folder / "spec.toml"
    try:
        exists = path.exists()
    except OSError as error:
        raise UserError(f"{one_line(path, 80)}: {error.strerror}; give the path of a .toml file") from None
    if path.suffix == ".toml" or (exists and str(spec) not in ready_specs()):
        if path.is_file():
            return path
        other = "is a folder, not a spec file" if path.is_dir() else "is no regular file"
        what = other if exists else "no such file"
        raise UserError(f"{path}: {what}; give a .toml file or one of the ready specs: {', '.join(ready_specs())}")
    if str(spec) in ready_specs():
        return SPECS / f"{spec}.toml"
    raise UserError(
        f"{spec}: no such file and no ready spec{nearest(str(spec), ready_specs())}; ready specs: "
        f"{', '.join(ready_specs())}"
    )


def own_folder(spec: str | Path) -> Path | None:
    """The folder of the study that ``spec`` means, where it is a study's folder or the ``spec.toml`` in one; else None."""
    path = Path(spec)
    if str(spec) in ready_specs():
        return None
    folder = path.parent if path.name == "spec.toml" else path
    try:
        begun = (folder / "spec.toml").is_file() and (folder / "view").is_dir()
    except OSError:
        return None
    return folder if begun else None


def split_override(text: str) -> tuple[str, Any]:
    """``key=value`` of a command line: a TOML value, or a bare word as a string."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"-o {text}: must be key=value, such as -o search.trials=4")
    try:
        found = tomllib.loads(f"value = {value.strip()}")
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()  # a bare word is a string
    except (ValueError, RecursionError) as error:
        raise UserError(f"-o {one_line(key, 80)}: {too_much(error)}") from None
    if len(found) > 1:
        raise UserError(f"-o {one_line(text, 80)}: sets more than one key; give each its own -o")
    return key.strip(), found["value"]


def too_much(error: ValueError | RecursionError) -> str:
    """What Python's own limits say of a TOML value: of nesting, and of the digits of a number."""
    return "nested too deeply" if isinstance(error, RecursionError) else "a number of more digits than can be read"


def put(table: dict[str, Any], dotted: str, value: Any) -> None:
    """Sets ``a.b.c`` in nested tables."""
    *parents, last = dotted.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise UserError(f"-o {dotted}: {parent} is not a table")
    table[last] = value


def with_plugins(table: dict[str, Any], *, where: str) -> dict[str, Any]:
    """The table with plain names alone, and the plug-ins that they mean, loaded, listed under ``plugins``.

    A plug-in is written as ``module:name`` in place of a name, in the list ``plugins``, or by the name under which an
    installed package offers it. Raises ``UserError``.
    """
    table, used = copy.deepcopy(table), set()
    with _one_line(f"{where}: plugins"):
        listed = table.get("plugins")
        if not (listed is None or (isinstance(listed, list) and all(isinstance(r, str) for r in listed))):
            raise ValueError(f"must be a list of references such as 'my_pkg.mine:MyMethod', not {listed!r}")
        for reference in listed or []:
            used.add(plugins.load(reference).reference)
        if table.get("methods") == "all":
            table["methods"] = [*built_in(), *plugins.installed("method")]
    for key, kind, holder, index in _named(table):
        with _one_line(f"{where}: {key}"):
            name = holder[index]
            reference = name if ":" in name else plugins.reference_of(kind, name)
            if reference:
                by_name = ":" not in name and name in plugins.installed(kind)
                plugin = plugins.load_installed(kind, name) if by_name else plugins.load(reference, kind)
                used.add(plugin.reference)
                holder[index] = plugin.name
                if kind == "method":
                    get_space(plugin.name)  # says now what is wrong with it
    if used:
        table["plugins"] = sorted(used)
    return table


@contextlib.contextmanager
def _one_line(where: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a PluginError, or whatever a user's own code raises where its space is made
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise UserError(f"{where}: {kind}{' '.join(str(error).split())}") from error


def _named(table: dict[str, Any]) -> Iterator[tuple[str, str, Any, Any]]:
    """(key, kind, holder, index) of every place of a spec that names what may be a plug-in."""
    def texts(key: str, kind: str, holder: Any, indices) -> Iterator[tuple[str, str, Any, Any]]:
        for index in indices:
            if isinstance(holder[index], str):
                yield key, kind, holder, index

    def tables(*keys: str) -> dict:
        return {key: table[key] for key in keys if isinstance(table.get(key), dict)}

    if isinstance(table.get("methods"), list):
        yield from texts("methods", "method", table["methods"], range(len(table["methods"])))
    for data in tables("data").values():
        yield from texts("data.source", "source", data, {"source"} & set(data))
    for training in tables("training").values():
        yield from texts("training.network", "network", training, {"network"} & set(training))
        for method, own in training.items():
            if isinstance(own, dict):
                yield from texts(f"training.{method}.network", "network", own, {"network"} & set(own))
    for selection in tables("selection").values():
        yield from texts("selection.signal", "signal", selection, {"signal"} & set(selection))
        yield from texts("selection.scorer_rule", "scorer", selection, {"scorer_rule"} & set(selection))
        if isinstance(selection.get("scorers"), list):
            yield from texts("selection.scorers", "scorer", selection["scorers"], range(len(selection["scorers"])))


def flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"search": {"trials": 4}}`` → ``{"search.trials": 4}``."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = value
    return found


#: pydantic's words, and ours, for what somebody who writes TOML has got wrong.
PLAIN = (
    (re.compile(r"a valid dictionary(?: or instance of \w+)?"), "a table"), (re.compile("a valid integer"), "a whole number"),
    (re.compile("a valid boolean"), "true or false"), (re.compile("a valid string"), "a text in quotes"),
    (re.compile("a valid number"), "a number"), (re.compile("a valid list"), "a list"),
    (re.compile("^list should have at least 1 item.*"), "must not be empty"),
    (re.compile("^input should be"), "must be"),
)


def first_error(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem as ``key: what``, with the nearest known key for a misspelt one."""
    problems = error.errors()
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    keys, form, fields = _place(model, first["loc"])
    if first["type"] == "extra_forbidden":
        what = f"unknown key{nearest(str(first['loc'][-1]), fields)}" + (f"; known: {', '.join(fields)}" if fields else "")
    elif first["type"] == "missing":
        what = "missing"
    elif first["type"] == "value_error":
        what = str(first["msg"]).removeprefix("Value error, ")
        key, colon, rest = what.partition(": ")
        if colon and key in fields:  # found by a check of the whole table, which says the key itself
            keys, what = [*keys, key], rest
    elif form:
        what = f"must be {form}, not {one_line(repr(first['input']), 80)}"
    else:
        what = f"{first['msg'][0].lower()}{first['msg'][1:]}"
        for pattern, word in PLAIN:
            what = pattern.sub(word, what)
        what = f"{what}, not {one_line(repr(first['input']), 80)}"
    others = {tuple(_place(model, p["loc"])[0]) for p in problems} - {tuple(keys)}
    shown = ".".join(keys)
    more = f" (and {len(others)} more)" if others else ""
    return one_line(f"{shown}: {what}{more}" if shown else f"{what}{more}")


def _place(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[list[str], str, list[str]]:
    """The keys of a pydantic location as a reader writes them, the form of a value that may have several, and the known
    keys there. A union's branches name themselves in a location: of what lies below its key, nothing is kept.
    """
    keys, form, fields = [], "", [name for name in model.model_fields if name != "overrides"]
    for part in location:
        keys.append(str(part) if re.fullmatch(r"[\w-]+", str(part), re.ASCII) else repr(part))
        field = model.model_fields.get(part) if fields else None
        if field is None:
            continue
        if form := field.description or "":
            break
        nested = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        model = field.annotation if nested else model
        fields = [name for name in model.model_fields if name != "overrides"] if nested else []
    return keys, form, fields
