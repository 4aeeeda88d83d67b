"""The course of a real study: trained again from the view alone, measured at each point, and asked for once."""

from __future__ import annotations

import json
import shutil

import pytest
from conftest import run

from study.course import _pairs, measured_course
from study.spec import StudySpec
from trainables.files import read_json, write_json

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def analysed(tiny, tmp_path_factory):
    cwd = tmp_path_factory.mktemp("course")
    study = shutil.copytree(tiny, cwd / "runs" / "tiny")
    done = run("analyse", study, "--offline", "--course", "3", "--questions", "training_course", cwd=cwd)
    assert done.returncode == 0, done.stderr + done.stdout
    return study


def test_the_last_point_is_the_trial_itself(analysed):
    spec = StudySpec.load(analysed / "spec.toml").changed({"analysis.course": 3})
    found = measured_course(spec, analysed)
    assert {key[0] for key in found} == {"classifier", "hybrid"}
    for (method, split, trial), value in found.items():
        row = read_json(analysed / "reveal" / method / str(split) / f"{trial}.json")["result"]
        assert value["reproduced"] is True and [point["epoch"] for point in value["points"]] == [1, 3, 4]
        last = value["points"][-1]
        assert last["frozen_rule"] == pytest.approx(row["scorer_auroc"], abs=1e-6)
        assert last["accuracy"] == pytest.approx(row["closed_set_accuracy"])
        assert last["linear"] == pytest.approx(row["linear_oracle_auroc"], abs=0.02)
        assert value["points"][0]["accuracy"] < last["accuracy"] + 0.05 and len(value["epochs"]) == 4


def test_it_is_in_the_report_and_its_weights_are_gone(analysed):
    answer = json.loads((analysed / "report" / "summary.json").read_text())["questions"]["training_course"]
    assert set(answer["methods"]) == {"classifier", "hybrid"}
    assert 'id="question-training_course"' in (analysed / "report" / "index.html").read_text()
    assert not list(analysed.glob("jobs/course/*/weights-*")) and list(analysed.glob("jobs/course/*/result.json"))


def test_asked_again_nothing_is_trained(analysed):
    before = {path: path.stat().st_mtime_ns for path in analysed.glob("jobs/course/*/*")}
    done = run("analyse", analysed, "--offline", "--course", "3", "--questions", "training_course", cwd=analysed.parent.parent)
    assert done.returncode == 0 and before == {path: path.stat().st_mtime_ns for path in analysed.glob("jobs/course/*/*")}


def test_whoever_trains_is_given_no_way_to_the_vault(analysed):
    from types import SimpleNamespace

    spec = StudySpec.load(analysed / "spec.toml").changed({"analysis.course": 3})
    for train, measure in _pairs(spec, analysed, SimpleNamespace(cpus_per_trial=1, gpus_per_trial=0)):
        assert "vault" not in f"{train.arguments} {train.inputs}" and "vault" in f"{measure.arguments}"
        assert train.run.__module__ == "study.course" and train.key != measure.key


def test_a_damaged_measurement_is_made_again_and_not_shown(analysed, tmp_path):
    copy = shutil.copytree(analysed, tmp_path / "tiny")
    spec = StudySpec.load(copy / "spec.toml").changed({"analysis.course": 3})
    path = copy / "reveal" / "hybrid" / "0" / "course.json"
    stored = read_json(path)
    stored["result"]["points"][0]["frozen_rule"] = 0.999
    write_json(path, stored)
    assert {key[0] for key in measured_course(spec, copy)} == {"classifier"}
    assert measured_course(spec.changed({"analysis.course": 2}), copy) == {}
