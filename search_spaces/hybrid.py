"""Search space of ``trainables/methods/hybrid.py``: the classifier's, and how much to reconstruct."""

from __future__ import annotations

from search_spaces.base import Choice, Float, Space
from search_spaces.classifier import POSITIVE, classifier_parameters


def space() -> Space:
    return Space(
        "hybrid",
        {
            "reconstruction_weight": Float(
                low=1e-3, high=10.0, log=True, default=0.1, legal=POSITIVE, role="scientific",
                why="lambda, on the mean squared error per pixel; the original study took 0.9 and 0.005 from test labels"),
            "cross_entropy_weight": Choice(
                (1.0, 0.0), default=1.0, legal=(0.0, 100.0), role="scientific",
                why="0 is pure reconstruction with a linear probe: is the supervised head needed?"),
            **classifier_parameters(),
        },
        note="Does reconstruction put more information about anomalies into z than cross-entropy alone?",
    )
