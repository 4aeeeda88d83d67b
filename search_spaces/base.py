"""What may be searched, and how a spec narrows it. Pure Python: no torch, no ray, no optuna.

A parameter's role is that of the tuning playbook: *scientific* (its effect is what is asked), *nuisance* (must be
tuned so that the scientific ones are compared fairly) or *fixed* (one value, until a spec opens it).
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, replace
from typing import Any

ROLES = ("scientific", "nuisance", "fixed")
ANY_NUMBER = (-math.inf, math.inf)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_number(value: Any, legal: tuple[float, float], *, whole: bool = False) -> float | int:
    """``value`` as float (or int), or a ValueError that says what is wrong with it."""
    if not _is_number(value):
        raise ValueError(f"{value!r} is not a number")
    if not math.isfinite(value):
        raise ValueError(f"{value!r} is not finite")
    if not legal[0] <= value <= legal[1]:
        raise ValueError(f"{value!r} lies outside {legal[0]:g}..{legal[1]:g}")
    if whole and value != int(value):
        raise ValueError(f"{value!r} is not a whole number")
    return int(value) if whole else float(value)


@dataclass(frozen=True, kw_only=True)
class _Range:
    """Numbers from low to high, both included; ``legal`` bounds what a spec may widen it to."""

    low: float
    high: float
    default: float
    log: bool = False
    legal: tuple[float, float] = ANY_NUMBER
    role: str = "nuisance"
    why: str = ""

    whole = False  # class attribute, not a field

    def __post_init__(self) -> None:
        for end in ("low", "high", "default"):
            object.__setattr__(self, end, _check_number(getattr(self, end), self.legal, whole=self.whole))
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"a log range cannot start at {self.low:g}")
        if not self.low <= self.default <= self.high:
            raise ValueError(f"default {self.default:g} lies outside {self.low:g}..{self.high:g}")
        _check_role(self.role)

    def contains(self, value: Any) -> bool:
        return _is_number(value) and self.low <= value <= self.high and (not self.whole or value == int(value))

    def narrowed(self, override: Any) -> Parameter:
        if isinstance(override, dict):
            low, high, log = _range_of(override, low=self.low, high=self.high, log=self.log)
            low, high = (_check_number(end, self.legal, whole=self.whole) for end in (low, high))
            return replace(self, low=low, high=high, log=log, default=min(max(self.default, low), high))
        if isinstance(override, list):
            options = tuple(_check_number(v, self.legal, whole=self.whole) for v in _non_empty(override))
            return Choice(options, default=_closest(self.default, options), legal=self.legal, role=self.role,
                          why=self.why)
        return Fixed(_check_number(override, self.legal, whole=self.whole), legal=self.legal, why=self.why)


@dataclass(frozen=True, kw_only=True)
class Float(_Range):
    """Real numbers."""


@dataclass(frozen=True, kw_only=True)
class Int(_Range):
    """Whole numbers."""

    whole = True


@dataclass(frozen=True)
class Choice:
    """One of several options, all numbers, all strings or all booleans."""

    options: tuple
    default: Any = None
    legal: tuple[float, float] = ANY_NUMBER
    role: str = "nuisance"
    why: str = ""

    def __post_init__(self) -> None:
        options = tuple(_non_empty(self.options))
        if len(set(options)) != len(options):
            raise ValueError(f"options {list(options)} repeat a value")
        object.__setattr__(self, "options", options)
        if self.default is None:
            object.__setattr__(self, "default", options[0])
        if self.default not in options:
            raise ValueError(f"default {self.default!r} is not one of {list(options)}")
        _check_role(self.role)

    @property
    def numeric(self) -> bool:
        return all(_is_number(option) for option in self.options)

    def contains(self, value: Any) -> bool:
        return any((type(value) is type(o) and value == o) or (_is_number(value) and _is_number(o) and value == o)
                   for o in self.options)

    def narrowed(self, override: Any) -> Parameter:
        if isinstance(override, dict):
            if not self.numeric:
                raise ValueError(f"has the options {list(self.options)} and takes no range")
            low, high, log = _range_of(override, low=min(self.options), high=max(self.options), log=False)
            low, high = _check_number(low, self.legal), _check_number(high, self.legal)
            return Float(low=low, high=high, log=log, default=min(max(self.default, low), high), legal=self.legal,
                         role=self.role, why=self.why)
        if isinstance(override, list):
            options = tuple(self._option(value) for value in _non_empty(override))
            return replace(self, options=options, default=_closest(self.default, options))
        return Fixed(self._option(override), legal=self.legal, why=self.why)

    def _option(self, value: Any) -> Any:
        if self.numeric:
            return _check_number(value, self.legal)
        if not self.contains(value):
            raise ValueError(f"{value!r} is not one of {list(self.options)}")
        return value


@dataclass(frozen=True)
class Fixed:
    """One value. A spec may set another, or open it as a range or a list; of words only those in ``options``, where
    there are any."""

    value: Any
    legal: tuple[float, float] = ANY_NUMBER
    why: str = ""
    role: str = "fixed"
    options: tuple = ()

    @property
    def default(self) -> Any:
        return self.value

    def contains(self, value: Any) -> bool:
        return Choice((self.value,)).contains(value)

    def narrowed(self, override: Any) -> Parameter:
        opened = Choice((self.value,), legal=self.legal, why=self.why)
        if isinstance(override, dict) and opened.numeric:
            low, high, _ = _range_of(override, low=None, high=None, log=False)
            if low is None or high is None:
                raise ValueError("needs both low and high, since it is fixed by default")
        if isinstance(override, dict) or opened.numeric:
            return opened.narrowed(override)
        options = _non_empty(override) if isinstance(override, list) else [override]
        for option in options:
            if type(option) is not type(self.value):
                raise ValueError(f"{option!r} is not of the kind of {self.value!r}")
            if self.options and option not in self.options:
                raise ValueError(f"{option!r} is not one of {list(self.options)}")
        if isinstance(override, list):
            return Choice(tuple(options), default=_closest(self.value, tuple(options)), why=self.why)
        return replace(self, value=override)


Parameter = Float | Int | Choice | Fixed


@dataclass(frozen=True)
class Space:
    """The parameters of one method by name; ``note`` says in a sentence or two what is expected of the search."""

    method: str
    parameters: dict[str, Parameter]
    note: str = ""

    def default(self) -> dict[str, Any]:
        """The configuration of trial 0."""
        return {name: parameter.default for name, parameter in self.parameters.items()}

    def searched(self) -> dict[str, Parameter]:
        return {name: p for name, p in self.parameters.items() if not isinstance(p, Fixed)}

    def fixed(self) -> dict[str, Any]:
        return {name: p.value for name, p in self.parameters.items() if isinstance(p, Fixed)}

    def narrowed(self, overrides: dict[str, Any]) -> Space:
        """A scalar fixes a parameter, ``{low, high, log}`` sets its range, a list its choices.

        The default is clipped into the new range. Raises ValueError, one line that names method and parameter.
        """
        parameters = dict(self.parameters)
        for name, override in overrides.items():
            self._require(name)
            try:
                parameters[name] = parameters[name].narrowed(override)
            except ValueError as problem:
                raise ValueError(f"{self.method}.{name}: {problem}") from None
        return replace(self, parameters=parameters)

    def part(self, given: dict[str, Any]) -> dict[str, Any]:
        """Some parameters of a configuration as this space writes them (a whole number for an ``Int``, an option as listed).

        Raises ValueError, one line that names method and parameter, for one that is unknown, out of range, or fixed at
        another value.
        """
        found = {}
        for name, value in given.items():
            self._require(name)
            parameter = self.parameters[name]
            if not parameter.contains(value):
                raise ValueError(f"{self.method}.{name}: {value!r} is not {_described(parameter)}")
            options = (parameter.value,) if isinstance(parameter, Fixed) else getattr(parameter, "options", ())
            found[name] = next(option for option in options if option == value) if options else (
                int(value) if parameter.whole else float(value))
        return found

    def searched_part(self, given: dict[str, Any]) -> dict[str, Any]:
        """``part`` without what is fixed: what a sampler is told of a configuration. Raises ValueError as it does."""
        searched = self.searched()
        return {name: value for name, value in self.part(given).items() if name in searched}

    def _require(self, name: str) -> None:
        if name not in self.parameters:
            close = difflib.get_close_matches(name, list(self.parameters), n=1)
            hint = f", did you mean {close[0]!r}?" if close else f"; it has {', '.join(self.parameters)}"
            raise ValueError(f"{self.method} has no parameter {name!r}{hint}")

    def check(self, configuration: dict[str, Any]) -> None:
        """Raises ValueError unless ``configuration`` has exactly this space's names, each within its range."""
        unknown = sorted(set(configuration) - set(self.parameters))
        missing = sorted(set(self.parameters) - set(configuration))
        if unknown or missing:
            raise ValueError(f"{self.method}: unknown {unknown}, missing {missing}")
        for name, parameter in self.parameters.items():
            if not parameter.contains(configuration[name]):
                raise ValueError(f"{self.method}.{name}: {configuration[name]!r} is outside the space")


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise ValueError(f"role {role!r} is not one of {', '.join(ROLES)}")


def _described(parameter: Parameter) -> str:
    if isinstance(parameter, Fixed):
        return f"{parameter.value!r}, at which it is fixed"
    if isinstance(parameter, Choice):
        return f"one of {list(parameter.options)}"
    return f"within {parameter.low:g}..{parameter.high:g}" + (" and whole" if parameter.whole else "")


def _non_empty(options) -> list:
    if not options:
        raise ValueError("the list of choices is empty")
    return list(options)


def _closest(default: Any, options: tuple) -> Any:
    """The default if it is still offered, else the nearest number, else the first option."""
    if default in options:
        return default
    if _is_number(default) and all(_is_number(option) for option in options):
        return min(options, key=lambda option: abs(option - default))
    return options[0]


def _range_of(override: dict, *, low, high, log: bool) -> tuple:
    """low, high and log of a ``{low, high, log}`` table; what it leaves out stays as it was."""
    unknown = sorted(set(override) - {"low", "high", "log"})
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}; a range has low, high, log")
    if not isinstance(override.get("log", log), bool):
        raise ValueError(f"log is {override['log']!r}, not true or false")
    return override.get("low", low), override.get("high", high), override.get("log", log)
