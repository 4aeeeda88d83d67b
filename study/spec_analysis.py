"""``[analysis]``: what is asked of a study once it is revealed. Decides nothing, so it may change at any time."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from analysis.questions import NAMES
from study.errors import nearest
from study.spec_checks import distinct


class AnalysisSpec(BaseModel):
    """Everything but ``course`` reads what trials and reveals left on the disk, and trains nothing."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    questions: list[str] | Literal["all"] = Field("all", description="a list of names, or 'all'")
    #: Measured beside those in use; no rule and no regret knows them.
    scorers: list[str] | Literal["all"] = Field([], description="a list of names, or 'all'")
    oracles: list[str] = ["knn", "boosted"]  # beside forest and linear, which every reveal measures
    course: Annotated[int, Field(ge=0, le=100)] = 0  # points along a repeated training of each selected configuration

    @field_validator("questions")
    @classmethod
    def _questions_are_known(cls, value: list[str] | str) -> list[str] | str:
        return _all_known(value, list(NAMES))

    @field_validator("oracles")
    @classmethod
    def _oracles_are_known(cls, value: list[str]) -> list[str]:
        from analysis.oracles import oracle_names

        return _all_known(value, oracle_names())

    @field_validator("scorers")
    @classmethod
    def _scorers_are_known(cls, value: list[str] | str) -> list[str] | str:
        if value in ("all", []):
            return value
        from analysis.scorers import scorer_names

        return _all_known(value, scorer_names())

    def asked(self) -> list[str]:
        """Names of the questions, in the order of the report."""
        return [name for name in NAMES if self.questions == "all" or name in self.questions]


def _all_known(value, names: list[str]):
    distinct(value if isinstance(value, list) else [], "name")
    for name in value if isinstance(value, list) else []:
        if name not in names:
            raise ValueError(f"unknown {name!r}{nearest(name, names)}; known: {', '.join(names)}")
    return value
