"""The ``[training]`` table of a spec, and a table of its own for each method that differs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from analysis import plugins
from search_spaces import space_names
from study.errors import nearest, one_line
from study.spec_file import first_error
from study.spec_table import Table, known

#: Built-in names, so that reading a spec does not import torch.
NETWORKS = ("small_cnn", "resnet18", "resnet34", "resnet18_torchvision", "resnet34_torchvision", "resnet50_torchvision")
#: Keys that came later, and what they are where a spec does not name them: left out of what names trials and jobs, so that
#: studies from before there were any stay what they are.
LATER = {"sampler": "uniform", "precision": "auto", "pretrained": "", "freeze_backbone": False}


class TrainingSpec(Table):
    """What is fixed for all trials; ``overrides`` holds the ``[training.<method>]`` tables."""

    network: str = "small_cnn"
    epochs: Annotated[int, Field(ge=1, le=10**6)] = 30
    early_stopping: bool = False
    batch_size: Annotated[int, Field(ge=2, le=2**20)] = 128
    sampler: Literal["uniform", "balanced"] = "uniform"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    pretrained: str = ""
    freeze_backbone: bool = False
    overrides: dict[str, dict[str, Any]] = {}

    @field_validator("network")
    @classmethod
    def _network_is_known(cls, value: str) -> str:
        return known(value, [*NETWORKS, *plugins.names("network")])

    @field_validator("pretrained")
    @classmethod
    def _pretrained_is_absolute(cls, value: str) -> str:
        """As seen from where the spec is read: a worker stands elsewhere, and so may the next launch."""
        try:
            return str(Path(value).expanduser().absolute()) if value else value
        except RuntimeError:
            raise ValueError(f"{one_line(value, 80)}: there is no such user's home") from None

    @model_validator(mode="after")
    def _frozen_weights_are_somebodys(self) -> TrainingSpec:
        if self.freeze_backbone and not self.pretrained:
            raise ValueError("freeze_backbone = true would keep random weights: name a file of weights as `pretrained`")
        return self

    @model_validator(mode="before")
    @classmethod
    def _gather_overrides(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if "overrides" in value:
            raise ValueError("overrides: unknown key; a method's own settings are written as [training.<method>]")
        tables = {k: v for k, v in value.items() if isinstance(v, dict)}
        for method in tables:
            if method not in space_names():
                raise ValueError(f"[training.{method}]: no such method{nearest(method, space_names())}")
        return {**{k: v for k, v in value.items() if k not in tables}, "overrides": tables}

    @model_validator(mode="after")
    def _overrides_are_valid(self) -> TrainingSpec:
        own = {k: v for k, v in dict(self).items() if k != "overrides"}
        for method, table in self.overrides.items():
            if unknown := [k for k in table if k not in own]:
                raise ValueError(f"[training.{method}] {unknown[0]}: unknown key{nearest(unknown[0], own)}")
            try:
                checked = TrainingSpec(**{**own, **table})
            except ValidationError as error:
                raise ValueError(f"[training.{method}] {first_error(error, TrainingSpec)}") from None
            table.update({key: getattr(checked, key) for key in table})  # paths as absolute as the study's own
        return self

    def for_method(self, method: str) -> dict[str, Any]:
        """The training settings of one method, overrides applied, as trials and jobs are named by them."""
        own = {k: v for k, v in dict(self).items() if k != "overrides"} | self.overrides.get(method, {})
        return {k: v for k, v in own.items() if k not in LATER or v != LATER[k]}

    def pretrained_of(self, method: str) -> str:
        """The file of weights that a method starts from, or ""."""
        return self.for_method(method).get("pretrained", "")
