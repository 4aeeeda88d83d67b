"""The documented form of summary.json: a real summary keeps to it, and neither can drift from the other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from study import summary_schema
from study.summary import REVEALED
from study.summary_schema import SCHEMA_VERSION, Row, Summary, json_schema, schema_markdown, validate
from trainables.files import read_json


@pytest.fixture
def summary(tiny):
    return read_json(tiny / "report" / "summary.json")


def test_a_real_summary_keeps_to_it(summary):
    found = validate(summary)
    assert found.schema_version == SCHEMA_VERSION and found.revealed
    assert {row.method for row in found.rows} == {"classifier", "hybrid"}
    assert any(row.retrained for row in found.rows)
    assert json.loads(found.model_dump_json(exclude_unset=True)) == summary  # nothing is dropped or turned into another type


def test_every_key_is_there_and_no_other(summary):
    assert set(Summary.model_fields) == set(summary)
    for row in summary["rows"]:
        assert set(Row.model_fields) == set(row)
    assert set(REVEALED) <= set(Row.model_fields)


@pytest.mark.parametrize("spot", [(), ("rows", 0), ("counts",), ("duplicates",), ("comparisons", 0),
                                  ("spaces", "classifier", "learning_rate")])
def test_an_unknown_key_is_refused(summary, spot):
    part = summary
    for step in spot:
        part = part[step]
    part["colour"] = 1
    with pytest.raises(ValidationError, match="colour"):
        validate(summary)


@pytest.mark.parametrize(("key", "value"), [
    ("scorer_auroc", 1.2), ("scorer_auroc", "0.8"), ("extraction_gap", -1.5), ("scorer_auroc_ci", [0.1]), ("state", "lost"),
    ("trial", -1), ("signals", {"val_accuracy": "high"}), ("selected", 1),
])
def test_a_wrong_value_is_refused(summary, key, value):
    summary["rows"][0][key] = value
    with pytest.raises(ValidationError, match=key):
        validate(summary)


@pytest.mark.parametrize("key", ["schema_version", "rows", "nominal_classes", "questions"])
def test_a_missing_key_is_refused(summary, key):
    del summary[key]
    with pytest.raises(ValidationError, match=key):
        validate(summary)


def test_answers_are_free_but_named(summary):
    summary["questions"] = {"roc": {"anything": [1, None]}, "few_shot": {"not_applicable": "too few"}, "layers": {"error": "x"}}
    assert validate(summary).questions["few_shot"].not_applicable == "too few"
    summary["questions"] = {"roc": 3}
    with pytest.raises(ValidationError, match="roc"):
        validate(summary)


def test_the_documentation_is_up_to_date():
    written = (Path(summary_schema.__file__).parent / "SUMMARY.md").read_text(encoding="utf-8")
    assert written == schema_markdown(), "run: python -m study.summary_schema"


def test_everything_is_described():
    for name, model in json_schema()["$defs"].items():
        assert model.get("description"), name
        for key, field in model["properties"].items():
            assert field.get("description"), f"{name}.{key}"
    text = schema_markdown()
    for key in (*Summary.model_fields, *Row.model_fields):
        assert f"| `{key}` |" in text
    assert "| `scorer_auroc` | number, 0 to 1 or null |" in text
    assert "| `scorer_auroc_ci` | list of 2: number or null |" in text
    assert "| `rows` | list: Row |" in text and "selection_regret" in text
    assert f"version {SCHEMA_VERSION}" in text
