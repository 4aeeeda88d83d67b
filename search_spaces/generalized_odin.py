"""Search space of ``trainables/methods/generalized_odin.py``: the classifier's, and the two parts of the quotient."""

from __future__ import annotations

from search_spaces.base import Choice, Fixed, Space
from search_spaces.classifier import classifier_parameters


def space() -> Space:
    return Space(
        "generalized_odin",
        {
            "similarity": Choice(
                ("cosine", "inner", "euclid"), default="cosine", role="scientific",
                why="h of the quotient h/g; paper and study prefer cosine; inner with its g is a classifier of learned "
                    "temperature"),
            "g_form": Choice(
                ("sigmoid_bn", "linear"), default="sigmoid_bn", role="scientific",
                why="g of the quotient: the paper's sigmoid of a batch norm, or the study's linear one, made positive"),
            "odin_temperature": Fixed(
                1000.0, legal=(1e-3, 1e6),
                why="of the score odin only, ODIN's value; training knows no temperature, so it costs no trials"),
            **classifier_parameters(),
        },
        note="Does a numerator of its own say more about anomalies than max logit, and does moving the input help?",
    )
