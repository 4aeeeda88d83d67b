"""The ``[data]`` table of a spec."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from analysis import plugins
from study.groups import check_group
from study.spec_checks import check_class_lists, check_path, distinct
from study.spec_table import MOST, NonNegative, Table, known

#: Built-in names, so that reading a spec imports neither torch nor a data set's reader.
SOURCES = ("digits", "folder", "cifar10", "cifar100", "fashion_mnist", "npz")


class DataSpec(Table):
    """What is loaded and how it is divided."""

    source: str = "digits"
    path: str = ""
    nominal_classes: Annotated[int, Field(ge=2, le=MOST)] | list[int | str] | Literal["osr"] = Field(
        6, description="a number of classes (2 at least), a list of names or indices, or 'osr'")
    anomaly_classes: list[int | str] | Literal["rest"] = Field("rest", description="a list of names or indices, or 'rest'")
    rare: Literal["error", "drop", "anomaly"] = "error"
    rare_below: NonNegative = 0
    group: str = ""
    partition: Literal["pooled", "official"] = "pooled"
    limit: NonNegative = 0
    download: bool = False
    image_size: Annotated[int, Field(ge=0, le=4096)] = 0
    flips_keep_labels: bool | None = None
    rotations_keep_labels: bool | None = None
    splits: Annotated[list[NonNegative], Field(min_length=1)] = [0]
    seeds: Annotated[list[NonNegative], Field(min_length=1)] = [0]

    @field_validator("source")
    @classmethod
    def _source_is_known(cls, value: str) -> str:
        return known(value, [*SOURCES, *plugins.names("source")])

    @field_validator("splits", "seeds")
    @classmethod
    def _distinct(cls, value: list[int]) -> list[int]:
        return distinct(value, "number")

    @field_validator("path")
    @classmethod
    def _path_is_possible(cls, value: str) -> str:
        check_path(value)
        return value

    @field_validator("group")
    @classmethod
    def _group_is_possible(cls, value: str) -> str:
        check_path(value)
        check_group(value)
        return value

    @model_validator(mode="after")
    def _classes_and_path(self) -> DataSpec:
        check_class_lists(self.nominal_classes, self.anomaly_classes)
        if self.source in SOURCES and self.source != "digits" and not self.path:
            raise ValueError(f"source {self.source!r} needs `path`, where its files lie")
        if self.group and self.source in SOURCES and self.source != "folder":
            raise ValueError(f"group: source {self.source!r} has no file names to tell groups by; leave it empty")
        return self
