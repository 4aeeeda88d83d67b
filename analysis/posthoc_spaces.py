"""Where a scorer's own parameters are searched: pytorch-ood's ``hyperparameter_space`` where the library declares one
of a detector that we wrap, values of our own beside it or instead."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from analysis.posthoc import TEMPERATURE_BOUNDS
from analysis.scorer_base import Features, scorer_class

#: scorer → its detector in pytorch-ood, and for each parameter of ours the library's name. "d" counts directions where
#: ours is a share of the latents; OpenMax's euclid_weight is none of ours.
LIBRARY = {
    "knn": ("KNN", {"k": "k"}), "gen": ("GEN", {"gamma": "gamma", "largest": "M"}),
    "openmax": ("OpenMax", {"tail_size": "tailsize", "revised_classes": "alpha"}),
    "react": ("ReAct", {"percentile": "percentile"}), "ash": ("ASH", {"percentile": "percentile"}),
    "scale": ("SCALE", {"percentile": "percentile"}), "dice": ("DICE", {"sparsity": "p"}),
    "vra": ("VRA", {"lower": "lower_percentile", "upper": "upper_percentile"}),
    "vim": ("ViM", {"share": "d"}), "nci": ("NCI", {"norm_weight": "alpha"}),
}
#: Values beside the library's, which are made for ImageNet's number of images and classes; alone where it has none.
MORE = {
    "knn": {"k": (1, 2, 5, 10, 20)}, "nnguide": {"k": (1, 2, 5, 10, 20, 50, 100, 200, 500)},
    "gen": {"largest": (2, 3, 5)}, "vim": {"share": (0.25, 0.5, 0.75, 0.9)},
    "lts": {"largest": (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.35, 0.5)},
}
_TEMPERATURE = {"low": TEMPERATURE_BOUNDS[0], "high": TEMPERATURE_BOUNDS[1], "log": True}
RANGES = {
    **{name: {"temperature": _TEMPERATURE} for name in ("msp", "entropy", "energy", "gradnorm")},
    "gmm": {"regularisation": {"low": 1e-8, "high": 1.0, "log": True}},
}
#: Parameters that count training images: on a part of them they are cut in proportion.
COUNTED = {"knn": ("k",), "nnguide": ("k",), "openmax": ("tail_size",)}
TENFOLD = 10.0


def library_space(scorer: str) -> dict[str, list]:
    """Our parameter → the values that pytorch-ood's ``hyperparameter_space`` lists of it, as the library means them; {}
    where there are none."""
    if scorer not in LIBRARY:
        return {}
    from analysis.scorer_pytorch_ood_base import detectors

    detector, names = LIBRARY[scorer]
    space = getattr(detectors(), detector).hyperparameter_space
    return {ours: list(space[theirs]) for ours, theirs in names.items() if theirs in space}


def space_of(scorer: str, train: Features, own: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
    """{parameter: {"options": values, ascending} or {"low", "high", "log": True}} for a model of these training images.

    Of values at or beyond what makes sense (more neighbours than a class has images, more classes than there are) one
    is kept, the default where it is among them. A parameter that no table names, of a plug-in say, is searched from a
    tenth to ten times its default. ValueError for an unknown scorer.
    """
    info = scorer_class(scorer, own).info
    listed = library_space(scorer)
    space: dict[str, dict[str, Any]] = {}
    for name, default in info.parameters.items():
        most = info.at_most.get(name, math.inf)
        limits = RANGES.get(scorer, {}).get(name)
        options = [*listed.get(name, ()), *MORE.get(scorer, {}).get(name, ())]
        if limits:
            space[name] = dict(limits)
        elif options:
            if scorer == "vim":
                width = train.z.shape[1]
                options = [value / width if value >= 1 else value for value in options if value < width]
            options = [type(default)(value) for value in options if 0 < value <= most]
            space[name] = {"options": _apart({default, *options}, default, _ceiling(scorer, name, train))}
        else:
            space[name] = _about(default, most)
    return space


def _ceiling(scorer: str, name: str, train: Features) -> float:
    """The value beyond which a parameter changes nothing, or reaches into other classes."""
    classes = train.logits.shape[1]
    if name == "k" and scorer in COUNTED:
        return max(1, len(train) // classes)
    return classes if (scorer, name) in (("gen", "largest"), ("openmax", "revised_classes")) else math.inf


def _apart(options: Iterable[Any], default: Any, ceiling: float) -> list[Any]:
    beyond = sorted(value for value in options if value >= ceiling)
    kept = [default] if default in beyond else beyond[:1]
    return sorted(value for value in options if value < ceiling) + kept


def _about(default: Any, most: float) -> dict[str, Any]:
    low, high = default / TENFOLD, min(default * TENFOLD, most)
    if isinstance(default, int):
        low, high = max(1, round(low)), max(1, math.floor(high))
    return {"low": low, "high": high, "log": True}


def words(space: Mapping[str, Mapping[str, Any]]) -> str:
    """k 1 … 500 (9 values), temperature 0.05 … 100."""
    parts = []
    for name, limits in space.items():
        options = limits.get("options")
        low, high = (options[0], options[-1]) if options else (limits["low"], limits["high"])
        count = f" ({len(options)} values)" if options else ""
        parts.append(f"{name.replace('_', ' ')} {low:.3g} … {high:.3g}{count}")
    return ", ".join(parts)
