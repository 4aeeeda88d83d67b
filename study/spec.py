"""StudySpec: the strict model of a study's TOML file.

Every mistake is one line that names the file, the key, what is wrong and what to do. Nothing is written and nothing
heavy is imported while a spec is read, so a bad one costs less than a second.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from search_spaces import get_space, space_names
from study.errors import UserError, nearest

SPECS = Path(__file__).with_name("specs")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SOURCES = ("digits", "folder", "cifar10", "cifar100", "fashion_mnist", "npz")
NETWORKS = ("small_cnn", "resnet18", "resnet34")
#: Signals that every trial gives, so that one of them can pick the trial; pseudo_novel_auroc ranks scorers.
TRIAL_SIGNALS = ("val_accuracy", "val_nll", "val_ece", "synthetic_outlier_auroc")
EPOCH_SIGNALS = ("val_accuracy", "val_nll")
#: What may differ between two launches of one study: how much is run and on what, never what is asked.
MAY_CHANGE = re.compile(r"search\.(trials|max_concurrent)|resources\..*")

Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class DataSpec(_Table):
    """What is loaded and how it is divided; see DESIGN.md, "A spec"."""

    source: Literal[SOURCES] = "digits"
    path: str = ""
    nominal_classes: Annotated[int, Field(ge=2)] | list[int | str] | Literal["osr"] = 6
    anomaly_classes: list[int | str] | Literal["rest"] = "rest"
    partition: Literal["pooled", "official"] = "pooled"
    limit: NonNegative = 0
    download: bool = False
    image_size: NonNegative = 0
    flips_keep_labels: bool | None = None
    rotations_keep_labels: bool | None = None
    splits: Annotated[list[NonNegative], Field(min_length=1)] = [0]
    seeds: Annotated[list[NonNegative], Field(min_length=1)] = [0]

    @field_validator("splits", "seeds")
    @classmethod
    def _distinct(cls, value: list[int]) -> list[int]:
        if len(set(value)) != len(value):
            raise ValueError("the same number twice")
        return value

    @model_validator(mode="after")
    def _path_where_needed(self) -> DataSpec:
        if self.source != "digits" and not self.path:
            raise ValueError(f"source {self.source!r} needs `path`, where its files lie")
        return self


class TrainingSpec(_Table):
    """What is fixed for all trials; ``overrides`` holds the ``[training.<method>]`` tables."""

    network: Literal[NETWORKS] = "small_cnn"
    epochs: Positive = 30
    early_stopping: bool = False
    batch_size: Annotated[int, Field(ge=2)] = 128
    overrides: dict[str, dict[str, Any]] = {}

    @model_validator(mode="before")
    @classmethod
    def _gather_overrides(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "overrides" in value:
            return value
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
            TrainingSpec(**{**own, **table})
        return self

    def for_method(self, method: str) -> dict[str, Any]:
        """The training settings of one method, overrides applied."""
        own = {k: v for k, v in dict(self).items() if k != "overrides"}
        return {**own, **self.overrides.get(method, {})}


class SearchSpec(_Table):
    """How many configurations are tried, who proposes them and from where."""

    trials: Positive = 8
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
            except ValueError as error:
                raise ValueError(f"{method}: {error}") from None
        return value

    @field_validator("posthoc")
    @classmethod
    def _posthoc_is_valid(cls, value: dict) -> dict:
        from analysis.scorers import get_scorer

        for scorer, table in value.items():
            known = get_scorer(scorer).info.parameters
            for parameter, bounds in table.items():
                where = f"{scorer}.{parameter}"
                if parameter not in known:
                    raise ValueError(f"{where}: unknown parameter{nearest(parameter, known)}; known: {sorted(known)}")
                if not {"low", "high"} <= set(bounds) <= {"low", "high", "log"}:
                    raise ValueError(f"{where}: give {{ low = …, high = …, log = true|false }}")
                if not 0 < bounds["low"] <= bounds["high"] < float("inf"):
                    raise ValueError(f"{where}: 0 < low <= high must hold")
        return value


class SelectionSpec(_Table):
    """The nominal-only rule by which trial and scorer are chosen."""

    signal: Literal[TRIAL_SIGNALS] = "val_accuracy"
    finalists: Positive = 1
    folds: NonNegative = 3
    fold_trials: Literal["finalists", "all"] = "finalists"
    scorers: list[str] = []
    scorer_signal: Literal["pseudo_novel_auroc"] = "pseudo_novel_auroc"
    scorer_rule: str = "top_half_mean"

    @model_validator(mode="after")
    def _rule_is_possible(self) -> SelectionSpec:
        from analysis.fusion import RULES, rule_needs_folds
        from analysis.scorers import scorer_names

        if len(set(self.scorers)) != len(self.scorers):
            raise ValueError("scorers: the same scorer twice")
        known = [*RULES, *scorer_names()]
        if self.scorer_rule not in known and not NAME.fullmatch(self.scorer_rule):
            raise ValueError(f"scorer_rule: unknown {self.scorer_rule!r}{nearest(self.scorer_rule, known)}")
        if self.folds == 0 and (rule_needs_folds(self.scorer_rule) or self.finalists > 1):
            raise ValueError(
                "folds = 0 leaves nothing to rank scorers or finalists by: set scorer_rule to 'all_mean', "
                "'family_mean' or a scorer's name and finalists = 1, or folds >= 2"
            )
        if self.folds == 1:
            raise ValueError("folds = 1 would hold every class out: use 0 or at least 2")
        return self


class ResourcesSpec(_Table):
    """What a trial takes of the cluster, and where the cluster and the ledger are."""

    cpus_per_trial: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1
    gpus_per_trial: Fraction = 0.25
    address: str = "auto"
    ledger: str = ""


class StudySpec(_Table):
    """A whole study. ``StudySpec.load`` reads a file or a ready spec, ``to_toml`` writes one that loads the same."""

    name: str
    methods: Annotated[list[str], Field(min_length=1)]
    data: DataSpec = DataSpec()
    training: TrainingSpec = TrainingSpec()
    search: SearchSpec = SearchSpec()
    selection: SelectionSpec = SelectionSpec()
    resources: ResourcesSpec = ResourcesSpec()

    @field_validator("name")
    @classmethod
    def _name_is_safe(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError(f"{value!r} must be letters, digits, '.', '_' or '-' (64 at most, no path)")
        return value

    @field_validator("methods", mode="before")
    @classmethod
    def _methods_are_known(cls, value: Any) -> Any:
        if value == "all":
            return space_names()
        for method in value if isinstance(value, list) else []:
            if method not in space_names():
                raise ValueError(f"no method {method!r}{nearest(method, space_names())}; known: {space_names()}")
        if isinstance(value, list) and len(set(map(str, value))) != len(value):
            raise ValueError("the same method twice")
        return value

    @model_validator(mode="after")
    def _pruner_can_work(self) -> StudySpec:
        if self.search.pruner != "none" and self.selection.signal not in EPOCH_SIGNALS:
            raise ValueError(
                f"search.pruner needs a signal known at every epoch ({' or '.join(EPOCH_SIGNALS)}), "
                f"not selection.signal = {self.selection.signal!r}"
            )
        return self

    @classmethod
    def load(cls, spec: str | Path, overrides: list[str] | dict[str, Any] | None = None) -> StudySpec:
        """Reads a TOML path or the name of a ready spec; ``overrides`` are ``key=value`` strings or a flat mapping.

        Raises ``UserError`` with one line for anything that is not a valid spec.
        """
        path = find_spec(spec)
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: not valid TOML: {error}") from None
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from None
        pairs = overrides.items() if isinstance(overrides, dict) else map(_split_override, overrides or [])
        for key, value in pairs:
            _put(table, key, value)
        return cls.parse(table, where=str(path))

    @classmethod
    def parse(cls, table: dict[str, Any], *, where: str = "spec") -> StudySpec:
        """The spec in a plain mapping; ``where`` opens the line of an error."""
        try:
            return cls.model_validate(table)
        except ValidationError as error:
            raise UserError(f"{where}: {_first_error(error, cls)}") from None

    def space(self, method: str):
        """The search space of ``method`` as this spec narrows it."""
        return get_space(method).narrowed(self.search.space.get(method, {}))

    def to_table(self) -> dict[str, Any]:
        """The spec as nested plain values, the form that ``parse`` reads."""
        table = self.model_dump(exclude_none=True)
        table["training"].update(table["training"].pop("overrides"))
        return table

    def to_toml(self) -> str:
        """TOML text that loads to an equal spec."""
        import tomli_w

        return tomli_w.dumps(self.to_table())

    def changes(self, other: StudySpec) -> list[str]:
        """Keys by which ``other`` asks something else than this spec (budget, concurrency and resources aside)."""
        mine, theirs = _flat(self.to_table()), _flat(other.to_table())
        differing = sorted(k for k in mine.keys() | theirs.keys() if mine.get(k) != theirs.get(k))
        return [key for key in differing if not MAY_CHANGE.fullmatch(key)]


def ready_specs() -> list[str]:
    """Names of the specs that come with the package."""
    return sorted(path.stem for path in SPECS.glob("*.toml"))


def find_spec(spec: str | Path) -> Path:
    """The file of a spec given as a path or as a ready spec's name."""
    path = Path(spec)
    if path.suffix == ".toml" or path.exists():
        if path.is_file():
            return path
        what = "is a folder, not a spec file" if path.is_dir() else "no such file"
        raise UserError(f"{path}: {what}; give a .toml file or one of the ready specs: {', '.join(ready_specs())}")
    if str(spec) in ready_specs():
        return SPECS / f"{spec}.toml"
    raise UserError(
        f"{spec}: no such file and no ready spec{nearest(str(spec), ready_specs())}; ready specs: "
        f"{', '.join(ready_specs())}"
    )


def _split_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"-o {text}: must be key=value, such as -o search.trials=4")
    try:
        return key.strip(), tomllib.loads(f"value = {value.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()  # a bare word is a string


def _put(table: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise UserError(f"-o {dotted}: {parent} is not a table")
    table[last] = value


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _first_error(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem as ``key: what``, with the nearest known key for a misspelt one."""
    problems = error.errors()
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    location = [str(part) for part in first["loc"]]
    # A union's branches name themselves in the location; only keys and positions mean something to a reader.
    shown = [p for p in location if re.fullmatch(r"[\w-]+", p) and p not in ("int", "str", "constrained-int")]
    key = ".".join(shown) or "spec"
    if first["type"] == "extra_forbidden":
        fields = _fields_at(model, shown[:-1])
        what = f"unknown key{nearest(shown[-1], fields)}" + (f"; known: {', '.join(fields)}" if fields else "")
    elif first["type"] == "missing":
        what = "missing"
    else:
        what = str(first["msg"]).removeprefix("Value error, ")
        if first["type"] != "value_error":
            what = f"{what[0].lower()}{what[1:]}, not {first['input']!r}"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 and "[" not in "".join(location) else ""
    return f"{key}: {what}{more}".replace("\n", " ")


def _fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        field = model.model_fields.get(part)
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            return []
        model = field.annotation
    return [name for name in model.model_fields if name != "overrides"]
