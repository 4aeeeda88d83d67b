"""StudySpec: the strict model of a study's TOML file.

Every mistake is one line that names the file, the key, what is wrong and what to do. Nothing is written and nothing
heavy is imported while a spec is read, so a bad one costs less than a second; plug-ins import what they need.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from analysis import plugins
from search_spaces import get_space, space_names
from study.errors import UserError, nearest, one_line
from study.spec_analysis import AnalysisSpec
from study.spec_checks import (
    check_address,
    check_class_lists,
    check_ledger,
    check_path,
    check_posthoc,
    check_scorers,
    distinct,
)
from study.spec_file import find_spec, first_error, flat, put, split_override, too_much, with_plugins

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
#: Built-in names, so that reading a spec imports neither torch nor a data set's reader.
SOURCES = ("digits", "folder", "cifar10", "cifar100", "fashion_mnist", "npz")
NETWORKS = ("small_cnn", "resnet18", "resnet34")
#: Signals that are known at every epoch, so that a pruner can go by one.
EPOCH_SIGNALS = ("val_accuracy", "val_nll")
#: What may differ between two launches of one study: how much is run and on what, never what is asked.
MAY_CHANGE = re.compile(r"search\.(trials|max_concurrent)|resources\.(cpus_per_trial|gpus_per_trial|address)"
                        r"|analysis\..+")

MOST = 2**31 - 1  # of a seed that every library takes, and beyond any count that could end
Positive = Annotated[int, Field(ge=1, le=MOST)]
NonNegative = Annotated[int, Field(ge=0, le=MOST)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


def _known(name: str, names: list[str]) -> str:
    if name not in names:
        raise ValueError(f"unknown {one_line(name, 80)!r}{nearest(name, names)}; known: {', '.join(names)}")
    return name


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class DataSpec(_Table):
    """What is loaded and how it is divided; see DESIGN.md, "A spec"."""

    source: str = "digits"
    path: str = ""
    nominal_classes: Annotated[int, Field(ge=2, le=MOST)] | list[int | str] | Literal["osr"] = Field(
        6, description="a number of classes (2 at least), a list of names or indices, or 'osr'")
    anomaly_classes: list[int | str] | Literal["rest"] = Field("rest", description="a list of names or indices, or 'rest'")
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
        return _known(value, [*SOURCES, *plugins.names("source")])

    @field_validator("splits", "seeds")
    @classmethod
    def _distinct(cls, value: list[int]) -> list[int]:
        return distinct(value, "number")

    @field_validator("path")
    @classmethod
    def _path_is_possible(cls, value: str) -> str:
        check_path(value)
        return value

    @model_validator(mode="after")
    def _classes_and_path(self) -> DataSpec:
        check_class_lists(self.nominal_classes, self.anomaly_classes)
        if self.source in SOURCES and self.source != "digits" and not self.path:
            raise ValueError(f"source {self.source!r} needs `path`, where its files lie")
        return self


class TrainingSpec(_Table):
    """What is fixed for all trials; ``overrides`` holds the ``[training.<method>]`` tables."""

    network: str = "small_cnn"
    epochs: Annotated[int, Field(ge=1, le=10**6)] = 30
    early_stopping: bool = False
    batch_size: Annotated[int, Field(ge=2, le=2**20)] = 128
    overrides: dict[str, dict[str, Any]] = {}

    @field_validator("network")
    @classmethod
    def _network_is_known(cls, value: str) -> str:
        return _known(value, [*NETWORKS, *plugins.names("network")])

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
                TrainingSpec(**{**own, **table})
            except ValidationError as error:
                raise ValueError(f"[training.{method}] {first_error(error, TrainingSpec)}") from None
        return self

    def for_method(self, method: str) -> dict[str, Any]:
        """The training settings of one method, overrides applied."""
        own = {k: v for k, v in dict(self).items() if k != "overrides"}
        return {**own, **self.overrides.get(method, {})}


class SearchSpec(_Table):
    """How many configurations are tried, who proposes them and from where."""

    trials: Annotated[int, Field(ge=1, le=10**6)] = 8
    sampler: Literal["tpe", "random", "gp", "cmaes"] = "tpe"
    pruner: Literal["none", "successive_halving", "median"] = "none"
    max_concurrent: NonNegative = 0
    posthoc: dict[str, dict[str, dict[str, Any]]] = {}
    space: dict[str, dict[str, Any]] = {}

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


class SelectionSpec(_Table):
    """The nominal-only rule by which trial and scorer are chosen."""

    signal: str = "val_accuracy"
    finalists: Positive = 1
    folds: Annotated[int, Field(ge=0, le=1000)] = 3
    fold_trials: Literal["finalists", "all"] | list[str] = Field(  # a list: all trials of these methods
        "finalists", description="'finalists', 'all' or a list of methods")
    scorers: list[str] = []
    scorer_signal: Literal["pseudo_novel_auroc"] = "pseudo_novel_auroc"
    scorer_rule: str = "top_half_mean"

    @field_validator("signal")
    @classmethod
    def _every_trial_gives_it(cls, value: str) -> str:
        from analysis.signals import trial_signal_names

        return _known(value, trial_signal_names())

    def folds_every_trial(self, method: str) -> bool:
        """Whether fold models are trained for all of a method's trials, not only for its finalists."""
        return self.fold_trials == "all" or (isinstance(self.fold_trials, list) and method in self.fold_trials)

    @model_validator(mode="after")
    def _rule_is_possible(self) -> SelectionSpec:
        from analysis.fusion import rule_needs_folds
        from analysis.fusion_rules import RULES_WITHOUT_FOLDS

        distinct(self.scorers, "scorer", key="scorers: ")
        if isinstance(self.fold_trials, list):
            distinct(self.fold_trials, "method", key="fold_trials: ")
        if self.finalists > 1 and self.signal != "val_accuracy":
            raise ValueError("finalists above 1 are those within one standard error, which only val_accuracy has here")
        if self.folds == 0 and (rule_needs_folds(self.scorer_rule) or self.finalists > 1):
            raise ValueError(
                "folds = 0 leaves nothing to rank scorers or finalists by: set scorer_rule to a scorer's name or one of "
                f"{', '.join(RULES_WITHOUT_FOLDS)} and finalists = 1, or folds >= 2"
            )
        if self.folds == 1:
            raise ValueError("folds = 1 would hold every class out: use 0 or at least 2")
        return self


class ResourcesSpec(_Table):
    """What a trial takes of the cluster, and where the cluster and the ledger are."""

    cpus_per_trial: Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)] = 1
    gpus_per_trial: Fraction = 0.25
    address: str = "auto"
    ledger: str = ""

    @field_validator("address")
    @classmethod
    def _address_is_one(cls, value: str) -> str:
        check_address(value)
        return value

    @field_validator("ledger")
    @classmethod
    def _ledger_is_possible(cls, value: str) -> str:
        check_ledger(value)
        return value


class StudySpec(_Table):
    """A whole study. ``StudySpec.load`` reads a file or a ready spec, ``to_toml`` writes one that loads the same."""

    name: str
    methods: Annotated[list[str], Field(min_length=1)]
    plugins: list[str] = []
    data: DataSpec = DataSpec()
    training: TrainingSpec = TrainingSpec()
    search: SearchSpec = SearchSpec()
    selection: SelectionSpec = SelectionSpec()
    resources: ResourcesSpec = ResourcesSpec()
    analysis: AnalysisSpec = AnalysisSpec()

    @field_validator("name")
    @classmethod
    def _name_is_safe(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError(f"{one_line(value, 80)!r} must be letters, digits, '.', '_' or '-' (64 at most, no path)")
        return value

    @field_validator("methods", mode="before")
    @classmethod
    def _methods_are_known(cls, value: Any) -> Any:
        for method in value if isinstance(value, list) else []:
            if isinstance(method, str) and method not in space_names():
                raise ValueError(f"no method {one_line(method, 80)!r}{nearest(method, space_names())}; known: {space_names()}")
        return distinct(value, "method") if isinstance(value, list) else value

    @model_validator(mode="after")
    def _pruner_can_work(self) -> StudySpec:
        if self.search.pruner != "none" and self.selection.signal not in EPOCH_SIGNALS:
            raise ValueError(
                f"search.pruner needs a signal known at every epoch ({' or '.join(EPOCH_SIGNALS)}), "
                f"not selection.signal = {self.selection.signal!r}"
            )
        return self

    @model_validator(mode="after")
    def _scorers_are_known(self) -> StudySpec:
        check_scorers(self.methods, self.selection.scorers, self.selection.scorer_rule)
        folded = self.selection.fold_trials
        for method in folded if isinstance(folded, list) else []:
            if method not in self.methods:
                raise ValueError(f"selection.fold_trials: {method!r} is none of this study's methods")
        return self

    @model_validator(mode="after")
    def _no_pickles_in_a_shared_ledger(self) -> StudySpec:
        if self.search.sampler == "cmaes" and self.resources.ledger:
            raise ValueError(
                "search.sampler = 'cmaes' keeps its state as a pickle in the ledger, which is not safe in a database "
                "that others can write to; use another sampler or leave resources.ledger empty"
            )
        return self

    @classmethod
    def load(cls, spec: str | Path, overrides: list[str] | dict[str, Any] | None = None) -> StudySpec:
        """Reads a TOML path or the name of a ready spec; ``overrides`` are ``key=value`` strings or a flat mapping.

        Raises ``UserError`` with one line for anything that is not a valid spec.
        """
        path = find_spec(spec)
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: not valid TOML: {one_line(error, 200)}") from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: {too_much(error)}") from None
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from None
        pairs = overrides.items() if isinstance(overrides, dict) else map(split_override, overrides or [])
        for key, value in pairs:
            put(table, key, value)
        return cls.parse(table, where=str(path))

    @classmethod
    def parse(cls, table: dict[str, Any], *, where: str = "spec") -> StudySpec:
        """The spec in a plain mapping, its plug-ins loaded; ``where`` opens the line of an error."""
        try:
            return cls.model_validate(with_plugins(table, where=where))
        except ValidationError as error:
            raise UserError(f"{where}: {first_error(error, cls)}") from None
        except RecursionError as error:
            raise UserError(f"{where}: {too_much(error)}") from None

    def changed(self, overrides: dict[str, Any]) -> StudySpec:
        """The same spec but for ``overrides``, a flat mapping of dotted keys; ``UserError`` as ``parse``."""
        table = self.to_table()
        for key, value in overrides.items():
            put(table, key, value)
        return StudySpec.parse(table, where=self.name)

    def space(self, method: str):
        """The search space of ``method`` as this spec narrows it."""
        return get_space(method).narrowed(self.search.space.get(method, {}))

    def to_table(self) -> dict[str, Any]:
        """The spec as nested plain values, the form that ``parse`` reads."""
        table = self.model_dump(exclude_none=True)
        table["training"].update(table["training"].pop("overrides"))
        if not self.plugins:
            del table["plugins"]
        return table

    def to_toml(self) -> str:
        """TOML text that loads to an equal spec."""
        import tomli_w

        return tomli_w.dumps(self.to_table())

    def changes(self, other: StudySpec) -> list[str]:
        """Keys by which ``other`` asks something else than this spec (budget, concurrency and resources aside)."""
        mine, theirs = flat(self.to_table()), flat(other.to_table())
        differing = sorted(k for k in mine.keys() | theirs.keys() if mine.get(k) != theirs.get(k))
        return [key for key in differing if not MAY_CHANGE.fullmatch(key)]
