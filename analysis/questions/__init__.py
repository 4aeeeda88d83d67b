"""The questions that a revealed study is asked, one file each: applicable? → measure → compute → card.

``measure`` looks at the arrays of one trial (or of all trials of a method and split) and runs as a job, on the cluster,
once; ``compute`` gathers what was measured over the study and is quick; ``card`` words it for the report. What ``compute``
returns lies in summary.json under ``questions/<name>``. To add one: a file with a ``QUESTION``, and its name below.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from analysis.card import Card
from analysis.evidence import StudyEvidence

#: Modules of this package, in the order of the report.
NAMES = (
    "study_claims", "roc", "selection_regret", "signal_leaderboard", "scorer_rules", "oracle_kinds", "few_shot",
    "leave_one_class_out", "per_class", "layers", "latent_map", "accuracy_and_auroc", "training_course", "search_map",
    "operating_points", "posthoc_tuning", "more_scorers",
)
SCOPES = ("trial", "selected", "group")


@dataclass(frozen=True)
class Question:
    """``title``: the question in plain words. ``scope``: what ``measure`` is given – "trial": every ``TrialEvidence``;
    "selected": those of selected trials; "group": the list of all trials of a method and split. It returns a JSON-ready
    dict, or None where the question does not apply. ``version`` rises when ``measure`` would return something else.
    ``applicable(study)``: "" or, in words, why there is no answer; ``compute`` is then not called. ``options``: names of the
    analysis options that ``measure`` takes as keywords."""

    name: str
    title: str
    compute: Callable[[StudyEvidence], dict[str, Any]]
    card: Callable[[Mapping[str, Any]], Card]
    applicable: Callable[[StudyEvidence], str] = lambda study: ""
    measure: Callable[..., dict[str, Any] | None] | None = None
    scope: str = "trial"
    version: int = 1
    options: tuple[str, ...] = ()

    def __post_init__(self):
        if self.scope not in SCOPES:
            raise ValueError(f"question {self.name}: scope must be one of {', '.join(SCOPES)}, not {self.scope!r}")


def get_question(name: str) -> Question:
    """ValueError for an unknown name."""
    if name not in NAMES:
        raise ValueError(f"unknown question {name!r}; known: {', '.join(NAMES)}")
    question = importlib.import_module(f"analysis.questions.{name}").QUESTION
    if question.name != name:
        raise ValueError(f"analysis/questions/{name}.py holds a question named {question.name!r}")
    return question


def all_questions() -> list[Question]:
    """Every question, in the order of the report."""
    return [get_question(name) for name in NAMES]


def answer(question: Question, study: StudyEvidence) -> dict[str, Any]:
    """The entry of summary.json: what ``compute`` found, or ``{"not_applicable": why}``."""
    reason = question.applicable(study)
    return {"not_applicable": reason} if reason else question.compute(study)
