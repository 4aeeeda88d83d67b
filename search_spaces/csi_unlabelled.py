"""Search space of ``trainables/methods/csi_unlabelled.py``: the labelled form's, and the weight of telling shifts."""

from __future__ import annotations

from search_spaces.base import Float, Space
from search_spaces.classifier import POSITIVE
from search_spaces.csi import contrastive_parameters


def space() -> Space:
    return Space(
        "csi_unlabelled",
        {
            "shift_weight": Float(low=0.1, high=10.0, log=True, default=1.0, legal=POSITIVE, role="scientific",
                                  why="of the shift classifier against the contrastive loss; paper 1"),
            **contrastive_parameters(),
        },
        note="No label reaches the encoder: what do z and the detector know without them?",
    )
