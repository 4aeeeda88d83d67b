"""Search space of ``trainables/methods/auxiliary.py``: the classifier's, and a weight for each self-supervised task."""

from __future__ import annotations

from search_spaces.base import Float, Space
from search_spaces.classifier import classifier_parameters

WEIGHT = (0.0, 1e12)


def space() -> Space:
    return Space(
        "auxiliary",
        {
            "rotation_weight": Float(
                low=0.01, high=2.0, log=True, default=0.5, legal=WEIGHT, role="scientific",
                why="on the cross-entropy of telling the turn, 0.5 in the paper; 0 leaves the encoder alone"),
            "recolouring_weight": Float(
                low=0.01, high=10.0, log=True, default=0.1, legal=WEIGHT, role="scientific",
                why="on the squared error per pixel of colours from grey, in normalised units; 0 as above"),
            "sobel_weight": Float(
                low=0.01, high=10.0, log=True, default=0.1, legal=WEIGHT, role="scientific",
                why="on the squared error per pixel of the edge map, in normalised units; 0 as above"),
            **classifier_parameters(),
        },
        note="Does a task without labels put more information about anomalies into z? A spec may set a weight to 0, "
             "alone or in a list; where classes are turns of each other (6 and 9) rotation may harm.",
    )
