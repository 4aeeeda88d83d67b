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


def test_a_claim_is_judged_by_its_sign_and_its_error(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import claims

    rows = [
        {"method": method, "split": split, "trial": trial, "state": "completed", "scorer_auroc": 0.9,
         "scorers": {"msp": auroc + 0.01 * split}, "signals": {"val_nll": nll}, "oracle_detector_auroc": 0.95}
        for split in (0, 1, 2) for trial in (0, 1)
        for method, auroc, nll in (("classifier", 0.8, 0.3), ("deep_ensemble", 0.85 + trial, 0.4 + 0.1 * split))
    ]
    splits = claims.defaults_by_split({"rows": rows})
    assert sorted(splits) == [0, 1, 2]
    nll, msp = claims.CLAIMS[:2]
    assert claims.differences(msp, splits) == pytest.approx([0.05] * 3), "trial 0 alone counts"
    assert claims.line(msp, [0.05, 0.05, 0.05001]).endswith("| 3 | as claimed |")
    assert claims.line(nll, claims.differences(nll, splits)).endswith("+0.200 ± 0.058 | 3 | not so |")
    assert claims.line(msp, [0.05, -0.06]).endswith("| 2 | within two standard errors of nothing |")
    missing = next(claim for claim in claims.CLAIMS if claim.source.startswith("Grathwohl"))
    assert claims.differences(missing, splits) == [] and "not measured" in claims.line(missing, [])
