"""How a method's chief parameter moves detection: which parameter, which points, which marks."""
from __future__ import annotations

import fake_summaries as fake
import pytest
from scipy.stats import kendalltau

from analysis import curves


def rows_of(made, method, split=0):
    return [r for r in made["rows"] if r["method"] == method and r["split"] == split and r["state"] == "completed"]


@pytest.mark.parametrize("method", fake.CHIEF)
def test_the_chief_parameter_is_the_methods_own(method):
    assert curves.chief_parameter(fake.nine(methods=(method,), trials=6), method) == fake.CHIEF[method][0]


def test_without_a_parameter_of_its_own_it_is_label_smoothing_and_never_augmentation():
    made = fake.nine(methods=("classifier",), trials=6)
    assert curves.chief_parameter(made, "classifier") == "label_smoothing"
    del made["spaces"]["classifier"]["label_smoothing"]
    assert curves.chief_parameter(made, "classifier") is None
    assert curves.parameter_curves(made) == {}


def test_nuisances_fixed_parameters_and_two_options_are_no_chief_parameter():
    made = fake.nine(methods=("hybrid",), trials=6)
    space = made["spaces"]["hybrid"]
    space["reconstruction_weight"]["role"] = "nuisance"
    assert curves.chief_parameter(made, "hybrid") == "label_smoothing"  # not the two options of cross_entropy_weight
    space["reconstruction_weight"]["role"] = "scientific"
    for row in made["rows"]:
        row["params"]["reconstruction_weight"] = 0.1
    assert curves.chief_parameter(made, "hybrid") == "label_smoothing"


def test_summaries_without_roles_show_lambda():
    assert curves.chief_parameter(fake.summary(), "hybrid") == "reconstruction_weight"
    assert curves.chief_parameter(fake.summary(), "classifier") is None


def test_points_are_the_rows_in_the_parameters_order():
    made = fake.summary()
    (panel,) = curves.parameter_curves(made)["hybrid"]["panels"]
    assert panel["value"] == sorted(panel["value"])
    by_trial = {row["trial"]: row for row in rows_of(made, "hybrid")}
    assert len(panel["trial"]) == len(by_trial)
    for index, trial in enumerate(panel["trial"]):
        row = by_trial[trial]
        assert panel["value"][index] == row["params"]["reconstruction_weight"]
        assert {name: values[index] for name, values in panel["series"].items()} == {
            "frozen rule": row["scorer_auroc"], "max logit": row["scorers"]["max_logit"],
            "reconstruction error": row["scorers"]["reconstruction_error"], "oracle": row["oracle_detector_auroc"],
            "linear oracle": row["linear_oracle_auroc"]}


def test_marks_are_the_nominal_choice_and_the_one_of_test_labels():
    made = fake.summary()
    done = rows_of(made, "hybrid")
    done[3]["scorers"]["knn"] = 0.9999  # the best of any scorer, though its frozen rule is not
    (panel,) = curves.parameter_curve(made, "hybrid", "reconstruction_weight")["panels"]
    assert panel["selected"]["trial"] == next(r["trial"] for r in done if r["selected"])
    assert panel["hindsight"] == {"trial": done[3]["trial"], "value": done[3]["params"]["reconstruction_weight"],
                                  "frozen": done[3]["scorer_auroc"], "best": 0.9999, "scorer": "kNN"}
    done[5]["scorer_auroc"] = 0.99995
    (panel,) = curves.parameter_curve(made, "hybrid", "reconstruction_weight")["panels"]
    assert (panel["hindsight"]["trial"], panel["hindsight"]["scorer"]) == (done[5]["trial"], "frozen rule")


def test_the_loss_in_the_title_is_the_regret():
    made = fake.summary()
    chosen = next(row for row in rows_of(made, "hybrid") if row["selected"])
    (panel,) = curves.parameter_curve(made, "hybrid", "reconstruction_weight")["panels"]
    assert panel["hindsight"]["best"] - panel["selected"]["frozen"] == pytest.approx(chosen["regret"])


def test_one_panel_for_each_split_or_for_the_one_asked_for():
    made = fake.summary(splits=(0, 1, 2))
    assert [p["split"] for p in curves.parameter_curve(made, "hybrid", "reconstruction_weight")["panels"]] == [0, 1, 2]
    (panel,) = curves.parameter_curve(made, "hybrid", "reconstruction_weight", split=1)["panels"]
    assert set(panel["series"]["frozen rule"]) == {row["scorer_auroc"] for row in rows_of(made, "hybrid", 1)}


def test_two_measured_trials_are_needed_and_failed_ones_left_out():
    assert curves.parameter_curves(fake.summary(trials=1)) == {}
    assert curves.parameter_curves(fake.summary(failed={"hybrid": 12})) == {}
    assert curves.parameter_curves(fake.nominal_only()) == {}
    (panel,) = curves.parameter_curves(fake.summary(trials=12, failed={"hybrid": 10}))["hybrid"]["panels"]
    assert len(panel["value"]) == 2


def test_trials_without_the_supervised_head_stand_apart():
    made = fake.nine(methods=("hybrid",), splits=(0,))
    data = curves.parameter_curve(made, "hybrid", "reconstruction_weight")
    (panel,) = data["panels"]
    by_trial = {row["trial"]: row for row in rows_of(made, "hybrid")}
    assert panel["other"] == [by_trial[t]["params"]["cross_entropy_weight"] == 0.0 for t in panel["trial"]]
    assert any(panel["other"]) and "Hollow: trials with cross_entropy_weight = 0." in data["note"]


def test_the_note_says_how_the_oracle_moves():
    made = fake.summary()
    done = rows_of(made, "hybrid")
    tau = kendalltau([r["params"]["reconstruction_weight"] for r in done], [r["oracle_detector_auroc"] for r in done]).statistic
    assert f"split 0: {tau:+.2f}".replace("-", "−") in curves.parameter_curve(made, "hybrid", "reconstruction_weight")["note"]


def test_a_methods_own_scores_are_those_in_no_registry_two_at_most():
    made = fake.nine(methods=("jem",), splits=(0,), trials=3)
    for row in made["rows"]:
        row["scorers"]["third_score"] = 0.5
    (panel,) = curves.parameter_curves(made)["jem"]["panels"]
    assert set(panel["series"]) == {"frozen rule", "max logit", "negative gradient norm", "approximate mass", "oracle", "linear oracle"}


def test_studies_side_by_side_and_their_marks():
    first, second = fake.summary(), fake.summary(seed=5)
    data = curves.side_by_side({name: curves.parameter_curve(made, "hybrid", "reconstruction_weight")
                                for name, made in (("digits", first), ("cifar10", second), ("empty", {"rows": []}))})
    assert [panel["label"] for panel in data["panels"]] == ["digits · hybrid · split 0", "cifar10 · hybrid · split 0"]
    table = curves.marks_table(data).splitlines()
    chosen = next(row for row in rows_of(second, "hybrid") if row["selected"])
    assert table[3].startswith(f"| cifar10 · hybrid · split 0 | {chosen['params']['reconstruction_weight']:.3g} | "
                               f"{chosen['scorer_auroc']:.3f} | ")
    assert len({line.count("|") for line in table}) == 1
    with pytest.raises(ValueError, match="one parameter"):
        curves.side_by_side({"empty": curves.parameter_curve({"rows": []}, "hybrid", "reconstruction_weight")})
