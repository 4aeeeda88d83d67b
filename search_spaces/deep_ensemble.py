"""Search space of ``trainables/methods/deep_ensemble.py``: the classifier's, and the number of members."""

from __future__ import annotations

from search_spaces.base import Fixed, Parameter, Space
from search_spaces.classifier import classifier_parameters


def size_parameter() -> dict[str, Parameter]:
    return {
        "ensemble_size": Fixed(5, legal=(2, 64), why="cost grows in proportion; a spec that opens it better lists sizes: "
                                                     "of a range, fractions are rounded"),
    }


def space() -> Space:
    return Space("deep_ensemble", {**size_parameter(), **classifier_parameters()},
                 note="What is gained by several networks that no better setting of one can give?")
