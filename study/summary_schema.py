"""What ``report/summary.json`` holds, key by key: the documented, stable form that other programs may read.

Every key of a summary is described here and no other is allowed, so that neither can change without the other. A change
that could break a reader (a key removed or renamed, another meaning or unit) raises ``SCHEMA_VERSION``; a new key does
not.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1

Share = Annotated[float, Field(ge=0, le=1)]
Area = Annotated[float, Field(ge=0, le=1)]
Gap = Annotated[float, Field(ge=-1, le=1)]
Interval = Annotated[list[float], Field(min_length=2, max_length=2)]
Count = Annotated[int, Field(ge=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _is(text: str, **more: Any) -> Any:
    return Field(description=text, **more)


class Counts(_Strict):
    """Trials by how they ended, over all methods and splits."""

    completed: Count = _is("trained and measured by nominal signals")
    failed: Count = _is("diverged or lost; the row says why")
    pruned: Count = _is("stopped early by the pruner")


class Duplicates(_Strict):
    """What was found in the data when it was prepared, summed over the splits."""

    nominal_moved: Count = _is("exact copies of nominal images, kept from lying in two parts")
    anomalous_copies_dropped: Count = _is("anomalies that were copies of nominal images, left out")
    skipped_files: Count = _is("files that could not be read as images (--skip-bad)")


class Ranked(BaseModel):
    """A method in the order in which the freeze ranked them. Beside these keys: the selecting signal's own name with
    its mean over splits."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    method: str = _is("the method")
    splits: Count = _is("splits for which it has a trial to show")
    pseudo_novel_auroc: Area | None = _is("mean over splits, which breaks ties; null without fold models")


class Range(_Strict):
    """What was searched of a numeric parameter: a range, or options."""

    low: float | None = _is("lower end of the range", default=None)
    high: float | None = _is("upper end of the range", default=None)
    log: bool | None = _is("whether it was drawn on a logarithmic scale", default=None)
    options: list[float] | None = _is("the values to choose from, instead of a range", default=None)
    role: str = _is("scientific (asked about) or nuisance (tuned away)")
    natural: list[Literal["lower", "upper"]] | None = _is("ends beyond which there is nothing", default=None)


class MethodComparison(_Strict):
    """Two methods' selected trials on the same test images of one split: paired DeLong of the frozen rules' AUROC."""

    first: str = _is("a method")
    second: str = _is("another")
    split: int = _is("the split")
    difference: Gap = _is("AUROC of first minus that of second")
    ci: Interval = _is("95 % interval of the difference, [low, high]")
    p_value: Share = _is("two-sided p of no difference, not adjusted for the number of comparisons")


class Row(_Strict):
    """One trial, or the selected configuration trained again with another seed. Numbers that a reveal measures are null
    for a failed trial, before the reveal and without anomalies. AUROC: anomaly = positive, on the test images."""

    method: str = _is("the method")
    split: int = _is("the split")
    seed: int = _is("the training seed")
    trial: Count = _is("number of the trial in its method and split; 0 is the default configuration")
    state: Literal["completed", "failed", "pruned", "retrained"] = _is("how it ended")
    pretrained: str | None = _is("file of the weights that the encoder started from; null where they were random", default=None)
    retrained: bool = _is("whether this is the selected configuration with another seed: neither searched nor ranked")
    reason: str | None = _is("why it failed or was pruned")
    selected: bool = _is("whether the freeze chose it, by nominal images alone")
    scorer: str | None = _is("the frozen rule: best, top_half_mean, all_mean … or a scorer's name")
    members: list[str] | None = _is("the scorers that the frozen rule averages")
    signal: str = _is("the signal that selected")
    signal_value: float | None = _is("its value for this trial")
    signals: dict[str, float | None] = _is("every nominal-only signal, by name")
    params: dict[str, Any] = _is("the configuration, fixed parameters too")
    train_seconds: float | None = _is("seconds of training, without waiting")
    closed_set_accuracy: Share | None = _is("share of nominal test images whose class is right")
    scorer_auroc: Area | None = _is("AUROC of the frozen rule: the study's chief number")
    scorer_auroc_ci: Interval | None = _is("95 % DeLong interval of scorer_auroc")
    scorers: dict[str, Area | None] = _is("AUROC of every scorer in use, by name")
    oracle_detector_auroc: Area | None = _is("AUROC of a forest that learnt from labelled anomalies on the same z")
    oracle_detector_ci: Interval | None = _is("95 % DeLong interval of oracle_detector_auroc")
    linear_oracle_auroc: Area | None = _is("AUROC of a logistic regression on the same z and labels")
    member_oracle_aurocs: list[Area] | None = _is("the forest on each member's own z; null for a single network")
    oracle_representation_auroc: Area | None = _is("AUROC of a forest on the z of a network trained on all classes")
    oracle_representation_ci: Interval | None = _is("95 % DeLong interval of oracle_representation_auroc")
    representation_reason: str | None = _is("why there is no oracle representation")
    extraction_gap: Gap | None = _is("oracle_detector_auroc minus scorer_auroc; may be negative")
    extraction_gap_ci: Interval | None = _is("95 % paired DeLong interval of extraction_gap")
    extraction_gap_p_value: Share | None = _is("two-sided p of no extraction gap")
    extraction_gap_max_logit: Gap | None = _is("oracle_detector_auroc minus the AUROC of max logit")
    representation_gap: Gap | None = _is("oracle_representation_auroc minus oracle_detector_auroc; may be negative")
    representation_gap_ci: Interval | None = _is("95 % paired DeLong interval of representation_gap")
    representation_gap_p_value: Share | None = _is("two-sided p of no representation gap")
    aupr_anomaly: Share | None = _is("area under precision-recall of the frozen rule, anomaly = positive")
    aupr_nominal: Share | None = _is("the same, nominal = positive")
    fpr_at_95_tpr: Share | None = _is("share of nominal images flagged where 95 % of anomalies are")
    equal_error_rate: Share | None = _is("error where both kinds are equally often wrong")
    anomalies_missed_at_95_acceptance: Share | None = _is("share of anomalies accepted where 95 % of nominal are")
    oscr: Share | None = _is("open-set classification rate: area of correct classification against false acceptance")
    regret: float | None = _is("best AUROC of any completed trial with any scorer minus the selected trial's frozen "
                               "rule; one number a method and split, repeated in its rows")
    regret_crossfit: float | None = _is("the same, the best found on half of the test images, measured on the others")


class NotAnswered(_Strict):
    """Instead of an answer."""

    not_applicable: str | None = _is("why the question has no answer here", default=None)
    error: str | None = _is("why it could not be computed", default=None)


class Summary(_Strict):
    """``report/summary.json`` of a frozen study."""

    schema_version: Literal[1] = _is("version of this form")
    study: str = _is("the study's name")
    digest: str = _is("SHA-256 of the frozen selection: of what was chosen, not when or where")
    frozen_at: str = _is("when it was frozen, ISO 8601, UTC")
    prior_reveals: Count = _is("other selections, of any study beside this one, that had opened one of its vaults")
    contaminated: bool = _is("whether another selection of this study was revealed: this one may know the answer")
    nominal_only: bool = _is("whether the data holds no anomalies")
    revealed: bool = _is("whether any row holds a revealed number")
    counts: Counts = _is("trials by how they ended")
    duplicates: Duplicates = _is("copies and unreadable files")
    method_ranking: list[Ranked] = _is("methods as the freeze ranked them, best first")
    nominal_classes: dict[str, list[str]] = _is("names of the nominal classes, by split")
    spaces: dict[str, dict[str, Range]] = _is("searched numeric parameters, by method and name")
    comparisons: list[MethodComparison] = _is("every two methods of a split")
    rows: list[Row] = _is("ended trials and retrained seeds")
    questions: dict[str, NotAnswered | dict[str, Any]] = _is(
        "answers, by question; their keys are documented at `compute` in analysis/questions/<name>.py")


def validate(summary: dict[str, Any]) -> Summary:
    """The summary as models. ``ValidationError`` names every key that is missing, unknown or not in its range."""
    return Summary.model_validate(summary)


def json_schema() -> dict[str, Any]:
    """The same as JSON Schema (draft 2020-12)."""
    return Summary.model_json_schema()


def schema_markdown() -> str:
    """study/SUMMARY.md: a table for each part of the file, and of every question what its answer holds."""
    from analysis.questions import all_questions

    text = [f"# summary.json, schema version {SCHEMA_VERSION}", " ".join((__doc__ or "").split("\n\n")[1].split())]
    for model in (Summary, Counts, Duplicates, Ranked, Range, MethodComparison, Row, NotAnswered):
        title = "The file" if model is Summary else model.__name__
        text.append(f"## {title}\n\n{' '.join((model.__doc__ or '').split())}")
        lines = [f"| `{name}` | {_type_words(model, name)} | {field.description} |"
                 for name, field in model.model_fields.items()]
        text.append("\n".join(["| key | type | meaning |", "|---|---|---|", *lines]))
    text.append("## Questions\n\nEach answer lies under `questions/<name>`. In the order of the report:")
    text += [f"### `{question.name}`: {question.title}\n\n{inspect.cleandoc(question.compute.__doc__ or '')}"
             for question in all_questions()]
    return "\n\n".join(text) + "\n"


def _type_words(model: type[BaseModel], name: str) -> str:
    """integer, number or null, list of Row …: from the JSON schema of the key."""
    return _schema_words(model.model_json_schema()["properties"][name])


def _schema_words(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_schema_words, schema["anyOf"])))
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    kind = schema.get("type", "any")
    if kind == "array":
        size = f" of {schema['minItems']}" if schema.get("minItems") == schema.get("maxItems", 0) else ""
        return f"list{size}: {_schema_words(schema.get('items', {}))}"
    if kind == "object":
        inner = schema.get("additionalProperties")
        return f"object: {_schema_words(inner)}" if isinstance(inner, dict) and inner else "object"
    return f"{kind}, {schema['minimum']:g} to {schema['maximum']:g}" if {"minimum", "maximum"} <= set(schema) else kind


if __name__ == "__main__":  # python -m study.summary_schema: writes the documentation anew
    Path(__file__).with_name("SUMMARY.md").write_text(schema_markdown(), encoding="utf-8")
