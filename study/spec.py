"""StudySpec: the strict model of a study's TOML file.

Every mistake is one line that names the file, the key, what is wrong and what to do. Nothing is written and nothing
heavy is imported while a spec is read, so a bad one costs little; plug-ins import what they need.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from search_spaces import get_space, space_names
from study.errors import UserError, nearest, one_line
from study.spec_analysis import AnalysisSpec
from study.spec_checks import check_address, check_ledger, check_scorers, distinct
from study.spec_data import SOURCES, DataSpec
from study.spec_enqueue import check_enqueue, enqueued
from study.spec_file import find_spec, first_error, flat, put, split_override, too_much, with_plugins
from study.spec_samplers import check_spaces
from study.spec_search import SearchSpec
from study.spec_table import Fraction, Positive, Table, known
from study.spec_training import NETWORKS, TrainingSpec

__all__ = ["NETWORKS", "SOURCES", "DataSpec", "ResourcesSpec", "SearchSpec", "SelectionSpec", "StudySpec", "TrainingSpec"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
#: Signals that are known at every epoch, so that a pruner can go by one.
EPOCH_SIGNALS = ("val_accuracy", "val_nll")
#: What may differ between two launches of one study: how much is run and on what, never what is asked.
MAY_CHANGE = re.compile(r"search\.(trials|max_concurrent)|resources\.(cpus_per_trial|gpus_per_trial|address)"
                        r"|analysis\..+")


class SelectionSpec(Table):
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

        return known(value, trial_signal_names())

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


class ResourcesSpec(Table):
    """What a trial takes of the cluster, and where the cluster and the ledger are."""

    cpus_per_trial: Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)] = 1
    gpus_per_trial: Fraction | Literal["auto"] = Field(0.25, description="a number from 0 to 1, or 'auto'")
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


class StudySpec(Table):
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

    @model_validator(mode="after")
    def _sampler_has_what_it_needs(self) -> StudySpec:
        spaces = [self.space(method) for method in self.methods]
        check_spaces(self.search.sampler, spaces, self.search.trials)
        check_enqueue(self.search.enqueue, spaces, self.search.trials)
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

    def first_configurations(self, method: str) -> list[dict[str, Any]]:
        """What is tried before a sampler is asked, searched parameters only: the default, then ``[[search.enqueue]]``."""
        space = self.space(method)
        return [space.searched_part(space.default()), *enqueued(self.search.enqueue, space)]

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
