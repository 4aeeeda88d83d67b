"""Post-hoc parameters of scorers, settled on cached nominal validation features instead of by retraining."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from analysis import scorer_latents, scorer_logits, scorer_pytorch_ood  # noqa: F401  (registers the scorers)
from analysis.metrics import check_logits, log_softmax
from analysis.scorer_base import Features, ScorerInfo, nearest, scorer_class

TEMPERATURE_BOUNDS = (0.05, 100.0)


def best_temperature(logits, labels, *, bounds: tuple[float, float] = TEMPERATURE_BOUNDS) -> float:
    """Temperature T that minimises the NLL of logits / T (Guo 2017), within bounds.

    NLL is convex in 1/T, so its derivative has at most one root: found to 1e-10 in log T (Brent), or the bound on its
    side. Where every image is classified correctly, as small validation sets can be, NLL falls for ever as T goes to
    0 and says nothing: then T = 1 (cut to the bounds). ValueError for logits that are not finite.
    """
    from scipy.optimize import brentq

    values, classes = check_logits(logits, labels)
    if not np.isfinite(values).all():
        raise ValueError("the temperature needs finite logits")
    low, high = bounds
    if not 0 < low <= high < math.inf:
        raise ValueError(f"temperature bounds must be positive and in order, not {bounds}")
    if (values.argmax(axis=1) == classes).all():
        return float(min(max(1.0, low), high))
    true_logit = values[np.arange(len(classes)), classes].mean()

    def slope(log_temperature: float) -> float:  # d NLL / d (1/T)
        probabilities = np.exp(log_softmax(values * math.exp(-log_temperature)))
        return float((probabilities * values).sum(axis=1).mean() - true_logit)

    # a positive slope at the lowest 1/T (highest T) asks for a still higher T, and the other way round
    if slope(math.log(high)) >= 0:
        return float(high)
    if slope(math.log(low)) <= 0:
        return float(low)
    return float(math.exp(brentq(slope, math.log(low), math.log(high), xtol=1e-10)))


def settle_parameters(validation: Features, names: Iterable[str], *, own: Iterable[str] = (),
                      ranges: Mapping[str, Mapping[str, Any]] | None = None,
                      objective: Callable[[str, dict], float] | None = None, points: int = 12) -> dict[str, dict]:
    """Post-hoc parameters of the named scorers, from nominal validation features alone.

    The temperature of ``msp`` and ``entropy`` minimises validation NLL (a range narrows its bounds). Others stay at
    the registry's defaults, or, where ``ranges[scorer][parameter]`` gives a list or {low, high, log, points}, are the
    grid point of highest ``objective(scorer, parameters)``; the default, when it lies in the range, is tried first and
    wins ties. Returns {scorer: {parameter: value}}, every parameter named. ValueError for unknown names, bad ranges,
    missing labels, or ranges without an objective.
    """
    names, own, ranges = list(names), tuple(own), dict(ranges or {})
    for name in ranges:
        scorer_class(name, own)
    shared: dict[tuple[float, float], float] = {}
    settled = {}
    for name in names:
        info = scorer_class(name, own).info
        grid = _grid(info, ranges.get(name, {}), points)
        if name in ("msp", "entropy"):
            options = grid.get("temperature", list(TEMPERATURE_BOUNDS))
            bounds = (min(options), max(options))
            if bounds not in shared:
                if validation.labels is None:
                    raise ValueError("a temperature needs validation labels")
                shared[bounds] = best_temperature(validation.logits, validation.labels, bounds=bounds)
            settled[name] = {"temperature": shared[bounds]}
        elif grid:
            if objective is None:
                raise ValueError(f"a range for scorer {name} needs an objective to choose by")
            candidates = [{**info.parameters, **dict(zip(grid, values, strict=True))}
                          for values in itertools.product(*grid.values())]
            settled[name] = max(candidates, key=lambda chosen, name=name: _worth(objective(name, chosen)))
        else:
            settled[name] = dict(info.parameters)
    return settled


def _worth(value: float) -> float:
    return -math.inf if value is None or math.isnan(value) else float(value)


def _grid(info: ScorerInfo, ranges: Mapping[str, Any], points: int) -> dict[str, list]:
    """Candidate values of each parameter that has a range, the default first where it lies inside."""
    grid = {}
    for parameter, given in ranges.items():
        where = f"posthoc range {info.name}.{parameter}"
        if parameter not in info.parameters:
            raise ValueError(f"{where}: no such parameter{nearest(parameter, list(info.parameters))}")
        default = info.parameters[parameter]
        if isinstance(given, Mapping):
            values = _spaced(where, given, points)
            inside = given["low"] <= default <= given["high"]
        else:
            values = list(given) if isinstance(given, (list, tuple)) else [given]
            inside = default in values
        if not values or not all(_is_number(value) and value > 0 for value in values):
            raise ValueError(f"{where}: needs one or more positive numbers, not {given!r}")
        values = [round(value) if isinstance(default, int) else float(value) for value in values]
        grid[parameter] = list(dict.fromkeys([default] * inside + values))
    return grid


def _spaced(where: str, given: Mapping[str, Any], points: int) -> list[float]:
    """Points from low to high, evenly or (log) geometrically; ValueError for a bad range."""
    low, high, points = given.get("low"), given.get("high"), given.get("points", points)
    unknown = set(given) - {"low", "high", "log", "points"}
    if unknown or not (_is_number(low) and _is_number(high) and 0 < low <= high and points >= 1):
        raise ValueError(f"{where}: needs 0 < low <= high, and log or points at most, not {dict(given)}")
    space = np.geomspace if given.get("log") else np.linspace
    return space(low, high, int(points)).clip(low, high).tolist()


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
