"""Which of Optuna's samplers a spec may name, and what it may set of them. Raises ValueError, one line.

The options are listed here instead of being read from Optuna, so that a spec is read without importing it, a number has a
range, and nothing is offered that was not tried: every sampler here continues bit for bit after a kill
(``tests/study/test_ledger.py``), and a test compares the lists with Optuna's own signatures.
"""

from __future__ import annotations

import math
from typing import Any

from analysis.summary_rows import UNADAPTIVE
from search_spaces.base import Choice, Float, Int, Space
from study.errors import nearest, one_line

#: Names of this project's own; a spec may write the class as well, and is remembered by the short name.
SHORT = {"tpe": "TPESampler", "random": "RandomSampler", "gp": "GPSampler", "cmaes": "CmaEsSampler"}
_COUNT, _RATE = ("a whole number from 1 up", 1, 10**6), ("a number from 0 to 1", 0.0, 1.0)
#: {sampler: {option: kind}}; a kind is bool, a tuple of words, or (words, least, most) of a number of the bounds' type.
OPTIONS: dict[str, dict[str, Any]] = {
    "tpe": {"n_startup_trials": _COUNT, "n_ei_candidates": _COUNT, "multivariate": bool, "group": bool, "constant_liar": bool},
    "random": {},
    "gp": {"n_startup_trials": _COUNT, "deterministic_objective": bool},
    "cmaes": {"n_startup_trials": _COUNT, "popsize": ("a whole number from 4 up", 4, 10**6), "use_separable_cma": bool,
              "with_margin": bool, "lr_adapt": bool, "consider_pruned_trials": bool},
    "QMCSampler": {"qmc_type": ("sobol", "halton"), "scramble": bool},
    "NSGAIISampler": {"population_size": ("a whole number from 2 up", 2, 10**6), "mutation_prob": _RATE,
                      "crossover_prob": _RATE, "swapping_prob": _RATE},
    "BruteForceSampler": {"avoid_premature_stop": bool},
}
SAMPLERS = tuple(OPTIONS)
BLIND = UNADAPTIVE  # nothing that was learned elsewhere can help them
REFUSED = {
    "GridSampler": "wants a grid of its own: list the values under search.space and use BruteForceSampler",
    "PartialFixedSampler": "wraps another sampler: fix parameters under search.space instead",
    "NSGAIIISampler": "is for several objectives at once, and a study has one: use NSGAIISampler",
    "BaseSampler": "is no sampler by itself", "BaseGASampler": "is no sampler by itself",
}
#: Options that need an object, and what to do instead.
OBJECTS = {
    "seed": "is derived from data.seeds: set that", "source_trials": "is what search.warm_start is for",
    "x0": "is what [[search.enqueue]] is for",
}


def sampler_name(value: Any) -> Any:
    """The name under which ``value``, a short name or a class of ``optuna.samplers``, is remembered."""
    if not isinstance(value, str):
        return value
    name = next((short for short, cls in SHORT.items() if value == cls), value)
    if name in REFUSED:
        raise ValueError(f"{name} {REFUSED[name]}")
    if name not in SAMPLERS:
        names = [*SAMPLERS, *SHORT.values()]
        raise ValueError(f"unknown {one_line(name, 80)!r}{nearest(name, names)}; known: {', '.join(SAMPLERS)}")
    return name


def check_options(sampler: str, options: dict[str, Any]) -> None:
    """``[search.sampler_options]``: known to the sampler, of the right kind, within bounds, and possible together."""
    known = OPTIONS[sampler]
    for key, value in options.items():
        where = f"sampler_options: {one_line(key, 80)}"
        if key in OBJECTS:
            raise ValueError(f"{where} {OBJECTS[key]}")
        if key not in known:
            has = f"; known: {', '.join(known)}" if known else f"; {sampler} has none"
            raise ValueError(f"{where}: {sampler} has no such option{nearest(key, known)}{has}")
        if wanted := _amiss(known[key], value):
            raise ValueError(f"{where} must be {wanted}, not {one_line(repr(value), 80)}")
    together = (
        ("group", "multivariate", False), ("lr_adapt", "use_separable_cma", True), ("lr_adapt", "with_margin", True),
        ("use_separable_cma", "with_margin", True),
    )
    for one, other, forbidden in together:
        if options.get(one) and options.get(other) is forbidden:
            raise ValueError(f"sampler_options: {one} = true does not go with {other} = {str(forbidden).lower()}")


def check_warm_start(source: str, sampler: str, options: dict[str, Any]) -> None:
    """``search.warm_start``: whether the sampler can make anything of another study's trials."""
    if not source:
        return
    if "\0" in source or not source.strip():
        raise ValueError("warm_start: must be the folder of a study, such as 'runs/digits'")
    if sampler in BLIND:
        raise ValueError(f"warm_start: {sampler} proposes without looking at results, so there is nothing to warm; use tpe, gp or cmaes")
    if sampler == "NSGAIISampler":
        raise ValueError("warm_start: NSGAIISampler breeds from its own trials alone; use tpe, gp or cmaes")
    if options.get("use_separable_cma"):
        raise ValueError("warm_start: does not go with sampler_options.use_separable_cma = true")


def _amiss(kind: Any, value: Any) -> str:
    """What ``value`` should have been, or ""."""
    if kind is bool:
        return "" if type(value) is bool else "true or false"
    if isinstance(kind[-1], str):
        return "" if value in kind else " or ".join(repr(word) for word in kind)
    words, least, most = kind
    number = type(value) in ((int,) if type(least) is int else (int, float))
    return "" if number and abs(value) != math.inf and least <= value <= most else words


def check_spaces(sampler: str, spaces: list[Space], trials: int) -> None:
    """Whether ``sampler`` can propose in these spaces: trying everything needs an end."""
    if sampler != "BruteForceSampler":
        return
    for space in spaces:
        for name, parameter in space.searched().items():
            if isinstance(parameter, Float):
                raise ValueError(
                    f"search.sampler: BruteForceSampler tries every value, and {space.method}.{name} has no end of them; "
                    f"list some under search.space.{space.method}, or fix it"
                )
        number = math.prod(_values(p) for p in space.searched().values())
        if trials > number:
            raise ValueError(f"search.trials: {space.method} has {number} configurations in all, and {trials} are asked for")


def _values(parameter: Choice | Int) -> int:
    return len(parameter.options) if isinstance(parameter, Choice) else parameter.high - parameter.low + 1
