"""Every method from a spec to its summary row, through real Ray, Optuna and MLflow, on few real digits."""

from __future__ import annotations

import math

import pytest
from conftest import overrides, run

from trainables.files import read_json
from trainables.methods import get_method, method_names

pytestmark = pytest.mark.slow

SMALL = [
    "name=every", "search.trials=1", "data.limit=40", "training.epochs=2", "selection.folds=0",
    "selection.scorer_rule=all_mean", "resources.address=local",
    *(f"training.{name}.epochs=2" for name in ("csi", "csi_unlabelled", "deep_ensemble", "svgd_ensemble", "jem")),
    "search.space.deep_ensemble.ensemble_size=2", "search.space.svgd_ensemble.ensemble_size=2",
    # those that look at what only some methods have: layers, members, own scores, no linear head
    "analysis.questions=['roc', 'per_class', 'layers', 'latent_map', 'operating_points', 'scorer_rules']",
]


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("every")
    done = run("launch", "digits-all", *overrides(*SMALL), cwd=cwd)
    assert done.returncode == 0, done.stderr + done.stdout
    return cwd / "runs" / "every"


def test_every_method_is_trained_selected_and_revealed(every):
    rows = read_json(every / "report" / "summary.json")["rows"]
    assert {row["method"] for row in rows} == set(method_names())
    for row in rows:
        assert row["state"] == "completed" and row["selected"], row["reason"]
        measured = [row[key] for key in ("closed_set_accuracy", "scorer_auroc", "oracle_detector_auroc",
                                         "linear_oracle_auroc", "oracle_representation_auroc", "extraction_gap",
                                         "representation_gap", "regret", "signal_value")]
        assert all(math.isfinite(value) for value in [*measured, *row["signals"].values()]), row
        assert set(get_method(row["method"]).own_scorers) <= set(row["scorers"])
        assert all(0 <= value <= 1 for value in row["scorers"].values())


def test_every_question_asked_has_an_answer(every):
    answers = read_json(every / "report" / "summary.json")["questions"]
    assert len(answers) == 6 and not [name for name, found in answers.items() if "error" in found or "not_applicable" in found]
    assert set(answers["layers"]["methods"]) == set(answers["operating_points"]["methods"]) == set(method_names())


def test_an_ensemble_has_an_oracle_for_each_member(every):
    rows = {row["method"]: row for row in read_json(every / "report" / "summary.json")["rows"]}
    assert rows["classifier"]["member_oracle_aurocs"] is None
    for name in ("deep_ensemble", "svgd_ensemble"):
        members = rows[name]["member_oracle_aurocs"]
        assert len(members) == 2 and all(0.5 < value <= 1 for value in members)


@pytest.mark.parametrize("method", ["csi", "jem"])
def test_what_a_method_keeps_beside_its_weights_is_exported_with_them(every, method):
    from safetensors.numpy import load_file

    done = run("export", every, "--method", method, cwd=every.parent.parent)
    assert done.returncode == 0, done.stderr
    names = set(load_file(every / "export" / method / "model.safetensors"))
    assert not names & get_method(method).training_only
