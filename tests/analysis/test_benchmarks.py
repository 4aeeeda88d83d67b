"""The scripts that make the README's table and figure, run on a finished study's summary."""
from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import fake_summaries as fake
import pytest

from analysis.over_splits import markdown

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def study(tmp_path, made):
    folder = tmp_path / made["study"]
    (folder / "report").mkdir(parents=True)
    (folder / "report" / "summary.json").write_text(json.dumps(made), encoding="utf-8")
    return str(folder)


def script(monkeypatch, name, *arguments):
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(BENCHMARKS / f"{name}.py"), run_name="__main__")


def test_study_table_prints_a_table_for_each_study(tmp_path, monkeypatch, capsys):
    first, second = fake.summary(splits=(0, 1)), fake.summary(study="cifar10", failed={"hybrid": 12})
    script(monkeypatch, "study_table", study(tmp_path, first), study(tmp_path, second))
    text = capsys.readouterr().out
    assert "### digits (48 completed" in text and "### cifar10 (12 completed, 12 failed" in text
    assert markdown(first) in text and markdown(second) in text


def test_lambda_curve_writes_both_files_and_prints_the_marks(tmp_path, monkeypatch, capsys):
    first, second = fake.summary(trials=4), fake.summary(study="cifar10", trials=4, seed=4)
    script(monkeypatch, "lambda_curve", study(tmp_path, first), study(tmp_path, second), "--out", tmp_path / "figures" / "lambda")
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["lambda.png", "lambda.svg"]
    text = capsys.readouterr().out
    for name, made in (("digits", first), ("cifar10", second)):
        chosen = next(row for row in made["rows"] if row["selected"] and row["method"] == "hybrid")
        assert f"| {name} · hybrid · split 0 | {chosen['params']['reconstruction_weight']:.3g} | {chosen['scorer_auroc']:.3f} |" in text


@pytest.mark.parametrize("name", ["study_table", "lambda_curve"])
def test_what_is_no_finished_study_is_told_in_a_line(name, tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="is this a finished study"):
        script(monkeypatch, name, tmp_path)


def test_lambda_curve_of_a_method_without_the_parameter_is_told(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="one parameter"):
        script(monkeypatch, "lambda_curve", study(tmp_path, fake.summary(trials=2)), "--method", "classifier")
