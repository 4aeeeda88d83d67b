"""A finished study is asked its questions anew: from what lies on the disk, without training, and only what is new."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import run

from analysis.questions import NAMES
from study.analyse import analyse, analysis_jobs, measure_questions, measured, summarise_with_answers
from study.errors import UserError
from study.evidence import load_trial, reveal_record, revealed_trials
from study.ledger import Ledger
from study.spec import StudySpec
from trainables.files import read_json, write_json


@pytest.fixture
def study(tiny, tmp_path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(tiny, tmp_path / "runs" / "tiny"))


def summary_of(folder: Path) -> dict:
    return json.loads((folder / "report" / "summary.json").read_text())


def test_a_launch_answers_every_question_or_says_why_not(tiny):
    answers = summary_of(tiny)["questions"]
    assert list(answers) == list(NAMES)
    for name, found in answers.items():
        assert "error" not in found, (name, found)
        assert "not_applicable" not in found or len(found["not_applicable"].split()) > 3, name
    answered = [name for name, found in answers.items() if "not_applicable" not in found]
    assert {"study_claims", "roc", "oracle_kinds", "few_shot", "layers"} <= set(answered)
    page = (tiny / "report" / "index.html").read_text()
    for name in answered:
        assert f'id="question-{name}"' in page
    tables = list((tiny / "report").glob("*.csv"))
    assert tables and all(len(list(csv.reader(path.open()))) > 1 for path in tables)


def test_every_question_was_measured_for_every_trial_it_concerns(tiny):
    spec = StudySpec.load(tiny / "spec.toml")
    found = measured(spec, tiny)
    assert {key[:2] for key in found["oracle_kinds"]} == {("classifier", 0), ("hybrid", 0)}
    assert len(found["oracle_kinds"]) == 4, "two trials of each method"
    assert len(found["few_shot"]) == 2, "the selected ones"
    files = sorted((tiny / "reveal" / "classifier" / "0").glob("*.analysis.json"))
    assert not any((read_json(path)["result"]["failed"]) for path in files)


def test_evidence_is_what_the_reveal_measured(tiny):
    from analysis.metrics import auroc

    spec = StudySpec.load(tiny / "spec.toml")
    for method in spec.methods:
        (first, *_) = revealed_trials(tiny, method, 0)
        trial = load_trial(spec, tiny, method, 0, first)
        row = reveal_record(tiny, method, 0, str(first))["result"]
        assert auroc(trial.stored["frozen_rule"], trial.is_anomaly) == pytest.approx(row["scorer_auroc"], abs=1e-12)
        assert trial.correct[~trial.is_anomaly].mean() == pytest.approx(row["closed_set_accuracy"], abs=1e-12)
        for name in ("max_logit", "knn"):  # computed anew from features, as the reveal did
            stored, trial.stored[name] = trial.stored[name], None
            del trial.stored[name]
            assert auroc(trial.score(name), trial.is_anomaly) == pytest.approx(row["scorers"][name], abs=1e-12)
            trial.stored[name] = stored
        layers = trial.layers()
        assert [len(part) for part in layers["z"]] == [len(trial.validation), len(trial.outliers), len(trial.test)]


def test_what_holds_is_kept_and_only_what_is_new_is_computed(study, monkeypatch):
    spec = StudySpec.load(study / "spec.toml")
    job = next(j for j in analysis_jobs(spec, study) if j.arguments["name"] == "0")
    assert job.result(study) is not None, "the launch did it"
    asked = spec.changed({"analysis.scorers": ["vim", "gen"]})
    job = next(j for j in analysis_jobs(asked, study) if j.arguments["group"] == ("classifier", 0))
    assert job.result(study) is None
    (study / "spec.toml").write_text(asked.to_toml())

    from analysis.questions import oracle_kinds

    def again(*args, **kwargs):
        raise AssertionError("measured twice")

    monkeypatch.setattr(oracle_kinds, "QUESTION", type(oracle_kinds.QUESTION)(
        **{**vars(oracle_kinds.QUESTION), "measure": again}))
    result = measure_questions(folder=study, **job.arguments)
    assert result["failed"] == {}
    assert set(result["questions"]["more_scorers"]["value"]) == {"vim", "gen"}
    assert result["questions"]["oracle_kinds"]["digest"] == job.inputs["questions"]["oracle_kinds"]


def test_one_questions_mistake_takes_no_others_answer_with_it(study, monkeypatch):
    from analysis.questions import few_shot

    def broken(evidence, **options):
        raise ValueError("no\nluck")

    path = next((study / "reveal" / "classifier" / "0").glob("[0-9]*.analysis.json"))
    monkeypatch.setattr(few_shot, "QUESTION", type(few_shot.QUESTION)(**{**vars(few_shot.QUESTION), "measure": broken}))
    spec = StudySpec.load(study / "spec.toml")
    for job in analysis_jobs(spec, study):
        if "few_shot" in job.inputs["questions"] and job.arguments["group"] == ("classifier", 0):
            job.path(study).unlink()
            result = measure_questions(folder=study, **job.arguments)
            assert result["failed"] == {"few_shot": "ValueError: no luck"}
            assert "layers" in result["questions"]
            break
    else:
        pytest.fail(f"no trial of {path} was selected")


def test_another_selection_makes_the_answers_stale(study):
    spec = StudySpec.load(study / "spec.toml")
    before = measured(spec, study)
    assert before["few_shot"]
    for path in (study / "reveal" / "hybrid" / "0").glob("*.json"):
        if path.stem.isdigit():  # as a reveal of other weights would leave it
            stored = read_json(path)
            write_json(path, {**stored, "inputs": {**stored["inputs"], "weights": "other"}})
    after = measured(spec, study)
    assert {key[0] for key in after["few_shot"]} == {"classifier"}
    answers = summarise_with_answers(Ledger(spec, study), study)["questions"]
    assert all("error" not in found for found in answers.values())


def test_a_question_that_cannot_be_computed_leaves_the_table_alone(study, monkeypatch):
    from analysis.questions import layers

    def broken(evidence):
        raise KeyError("gone")

    monkeypatch.setattr(layers, "QUESTION", type(layers.QUESTION)(
        **{**vars(layers.QUESTION), "compute": broken, "applicable": lambda study: ""}))
    spec = StudySpec.load(study / "spec.toml")
    summary = summarise_with_answers(Ledger(spec, study), study)
    assert summary["questions"]["layers"] == {"error": "KeyError: 'gone'"}
    assert summary["rows"] == summary_of(study)["rows"]


def test_no_question_is_a_choice_and_no_reveal_a_mistake(study):
    asked = StudySpec.load(study / "spec.toml").changed({"analysis.questions": []})
    cluster = SimpleNamespace(cpus_per_trial=1, gpus_per_trial=0)
    assert analyse(asked, study, cluster) == []
    shutil.rmtree(study / "reveal")
    with pytest.raises(UserError, match="nothing is revealed"):
        analyse(asked, study, cluster)


def test_nothing_is_told_of_a_trial_that_was_not_revealed(study):
    spec = StudySpec.load(study / "spec.toml")
    with pytest.raises(UserError, match="was not revealed"):
        load_trial(spec, study, "classifier", 0, 99)


@pytest.mark.slow
def test_scorers_are_added_to_a_finished_study_from_the_shell(study):
    weights = {path: path.stat().st_mtime_ns for path in study.glob("trials/**/*.safetensors")}
    done = run("analyse", "runs/tiny", "--offline", "--scorers", "vim,gen", "--questions", "all", cwd=study.parent.parent)
    assert done.returncode == 0, done.stderr + done.stdout
    found = summary_of(study)["questions"]["more_scorers"]
    assert set(found["scorers"]) == {"vim", "gen"} and 0 <= found["scorers"]["gen"]["hybrid"]["auroc"] <= 1
    assert weights == {path: path.stat().st_mtime_ns for path in study.glob("trials/**/*.safetensors")}
    assert StudySpec.load(study / "spec.toml").analysis.scorers == ["vim", "gen"]


@pytest.mark.parametrize("words, said", [
    (["--scorers", "vym"], "did you mean 'vim'"), (["--questions", "rock"], "did you mean 'roc'"),
    (["--oracles", "forrest"], "did you mean 'forest'"), (["--course", "-1"], "course"),
])
def test_a_mistake_is_one_line(tiny, words, said):
    done = run("analyse", str(tiny), "--offline", *words, cwd=tiny.parent)
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
