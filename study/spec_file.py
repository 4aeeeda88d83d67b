"""Finding a spec, overriding its keys, and saying in one line what is wrong with it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from study.errors import UserError, nearest

SPECS = Path(__file__).with_name("specs")


def ready_specs() -> list[str]:
    """Names of the specs that come with the package."""
    return sorted(path.stem for path in SPECS.glob("*.toml"))


def find_spec(spec: str | Path) -> Path:
    """The file of a spec given as a path or as a ready spec's name."""
    path = Path(spec)
    if path.suffix == ".toml" or (path.exists() and str(spec) not in ready_specs()):
        if path.is_file():
            return path
        what = "is a folder, not a spec file" if path.is_dir() else "no such file"
        raise UserError(f"{path}: {what}; give a .toml file or one of the ready specs: {', '.join(ready_specs())}")
    if str(spec) in ready_specs():
        return SPECS / f"{spec}.toml"
    raise UserError(
        f"{spec}: no such file and no ready spec{nearest(str(spec), ready_specs())}; ready specs: "
        f"{', '.join(ready_specs())}"
    )


def split_override(text: str) -> tuple[str, Any]:
    """``key=value`` of a command line: a TOML value, or a bare word as a string."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"-o {text}: must be key=value, such as -o search.trials=4")
    try:
        return key.strip(), tomllib.loads(f"value = {value.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()  # a bare word is a string


def put(table: dict[str, Any], dotted: str, value: Any) -> None:
    """Sets ``a.b.c`` in nested tables."""
    *parents, last = dotted.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise UserError(f"-o {dotted}: {parent} is not a table")
    table[last] = value


def flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"search": {"trials": 4}}`` → ``{"search.trials": 4}``."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = value
    return found


def first_error(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem as ``key: what``, with the nearest known key for a misspelt one."""
    problems = error.errors()
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    location = [str(part) for part in first["loc"]]
    # A union's branches name themselves in the location; only keys and positions mean something to a reader.
    shown = [p for p in location if re.fullmatch(r"[\w-]+", p) and p not in ("int", "str", "constrained-int")]
    key = ".".join(shown) or "spec"
    if first["type"] == "extra_forbidden":
        fields = _fields_at(model, shown[:-1])
        what = f"unknown key{nearest(shown[-1], fields)}" + (f"; known: {', '.join(fields)}" if fields else "")
    elif first["type"] == "missing":
        what = "missing"
    else:
        what = str(first["msg"]).removeprefix("Value error, ")
        if first["type"] != "value_error":
            what = f"{what[0].lower()}{what[1:]}, not {first['input']!r}"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 and "[" not in "".join(location) else ""
    return f"{key}: {what}{more}".replace("\n", " ")


def _fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        field = model.model_fields.get(part)
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            return []
        model = field.annotation
    return [name for name in model.model_fields if name != "overrides"]
