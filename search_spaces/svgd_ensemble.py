"""Search space of ``trainables/methods/svgd_ensemble.py``: the ensemble's, and how the particles repel each other."""

from __future__ import annotations

from search_spaces.base import Choice, Float, Space
from search_spaces.classifier import classifier_parameters
from search_spaces.deep_ensemble import size_parameter


def space() -> Space:
    return Space(
        "svgd_ensemble",
        {
            "repulsion_weight": Float(
                low=1.0, high=1e5, log=True, default=100.0, legal=(0.0, 1e12), role="scientific",
                why="factor of the kernel's gradient, which acts divided by the number of training images; the paper's 1 is "
                    "hardly felt in a network's many dimensions; repulsion of functions needs about a hundredth"),
            "repulsion": Choice(
                ("weights", "function"), default="weights", role="scientific",
                why="what is kept apart: the particles' weights, or their predictions on the batch"),
            **size_parameter(),
            **classifier_parameters(),
        },
        note="Do members that are pushed apart know more of what they have not seen than members left to themselves?",
    )
