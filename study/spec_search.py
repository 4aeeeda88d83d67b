"""The ``[search]`` table of a spec."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from search_spaces import get_space, space_names
from study.errors import nearest
from study.spec_checks import check_posthoc
from study.spec_samplers import check_options, check_warm_start, sampler_name
from study.spec_table import NonNegative, Table


class SearchSpec(Table):
    """How many configurations are tried, who proposes them and from where."""

    trials: Annotated[int, Field(ge=1, le=10**6)] = 8
    sampler: str = "tpe"
    sampler_options: dict[str, Any] = {}
    pruner: Literal["none", "successive_halving", "median"] = "none"
    max_concurrent: NonNegative = 0
    warm_start: str = ""
    enqueue: list[dict[str, Any]] = []
    posthoc: dict[str, dict[str, dict[str, Any]]] = {}
    space: dict[str, dict[str, Any]] = {}

    @field_validator("sampler")
    @classmethod
    def _sampler_is_offered(cls, value: str) -> str:
        return sampler_name(value)

    @model_validator(mode="after")
    def _sampler_takes_its_options(self) -> SearchSpec:
        check_options(self.sampler, self.sampler_options)
        check_warm_start(self.warm_start, self.sampler, self.sampler_options)
        return self

    @field_validator("space")
    @classmethod
    def _space_is_valid(cls, value: dict) -> dict:
        for method, table in value.items():
            if method not in space_names():
                raise ValueError(f"{method}: no such method{nearest(method, space_names())}")
            try:
                get_space(method).narrowed(table)
            except (ValueError, OverflowError) as error:
                raise ValueError(str(error)) from None
        return value

    @field_validator("posthoc")
    @classmethod
    def _posthoc_is_valid(cls, value: dict) -> dict:
        check_posthoc(value)
        return value
