"""Oracles of every kind: measured as they are, compared with the forest, which is never fitted again."""

import fake_evidence
import numpy as np
import oracle_cases
import pytest

from analysis import oracle_means
from analysis.metrics import auroc
from analysis.oracles import ForestOracle, get_oracle
from analysis.questions import get_question
from analysis.uncertainty import paired_delong

QUESTION = get_question("oracle_kinds")


def test_each_oracle_is_measured_and_the_forest_is_not_fitted_again(monkeypatch):
    monkeypatch.setattr(ForestOracle, "_fit", lambda *_: pytest.fail("fitted again"))
    e = fake_evidence.trial_evidence(distance=2.0)
    e.stored["linear_oracle"] = e.stored["oracle_detector"] + 0.5 * np.random.default_rng(0).normal(size=len(e.test))
    found = QUESTION.measure(e, oracles=("knn", "forest"))
    assert list(found) == ["forest", "linear", "knn"]
    assert found["forest"]["auroc"][0] == auroc(e.stored["oracle_detector"], e.is_anomaly)
    assert found["forest"]["minus_forest"] is None
    score = get_oracle("knn").fit(e.oracle_z, e.oracle_is_anomaly).anomaly_score(e.test.z)
    assert found["knn"]["auroc"][0] == auroc(score, e.is_anomaly)
    assert found["knn"]["minus_forest"] == list(paired_delong(score, e.stored["oracle_detector"], e.is_anomaly)[:3])
    assert found["linear"]["minus_forest"][0] < 0


def test_a_trial_without_oracles_has_no_answer():
    e = fake_evidence.trial_evidence()
    e.stored.clear()
    assert QUESTION.measure(e) is None
    oracle_cases.check_nothing_measured(QUESTION)


def trial(*, linear_noise: float, method="classifier", split=0, number=0):
    e = fake_evidence.trial_evidence(method=method, split=split, trial=number, selected=number == 0, distance=2.5)
    noise = np.random.default_rng([split, number]).normal(size=len(e.test))
    e.stored["linear_oracle"] = e.stored["oracle_detector"] + linear_noise * noise
    return e


def test_a_probe_that_is_behind_is_said_to_be():
    result, card = oracle_cases.answered(QUESTION, [trial(linear_noise=1.0)], oracles=())
    assert result["linear"] == {"classifier": "less"} and "not linearly available" in card.headline
    again, card = oracle_cases.answered(QUESTION, [trial(linear_noise=0.02)], oracles=())
    assert again["linear"] == {"classifier": "enough"} and "not told apart" in card.headline


def test_only_selected_trials_make_the_means_and_all_trials_the_counts():
    trials = [trial(linear_noise=0.0), trial(linear_noise=2.0, number=1)]
    result, _ = oracle_cases.answered(QUESTION, trials, oracles=())
    assert result["methods"]["classifier"]["linear"]["minus_forest"]["mean"] == 0
    assert result["all_trials"]["linear"]["trials"] == 2 and result["all_trials"]["forest"]["highest"] == 2
    assert result["all_trials"]["linear"]["auroc"] < result["all_trials"]["forest"]["auroc"]


def test_means_over_splits_and_methods():
    trials = [trial(linear_noise=0.6, method=m, split=s) for m in ("classifier", "hybrid") for s in (0, 1, 2)]
    result, card = oracle_cases.answered(QUESTION, trials, oracles=("knn",))
    study = oracle_cases.study_of(QUESTION, trials, oracles=())
    each = {m: {s: study.measured["oracle_kinds"][m, s, 0]["linear"]["minus_forest"][0] for s in (0, 1, 2)}
            for m in ("classifier", "hybrid")}
    found = result["minus_forest"]["linear"]
    assert found["mean"] == pytest.approx(np.mean([list(v.values()) for v in each.values()]))
    assert found["basis"] == "splits" and found["splits"] == 3 and found["low"] < found["mean"] < found["high"]
    assert "mean over 2 methods" in card.headline and len(card.tables[0].cells) == 2


def test_over_is_students_interval_or_the_images():
    from scipy import stats

    study = fake_evidence.study_evidence({"nominal_classes": {"0": ["a"], "1": ["b"], "2": ["c"]}})
    values = {0: [0.1, 0.0, 0.2], 1: [0.2, 0.1, 0.3], 2: [0.6, 0.4, 0.8]}
    found = oracle_means.over(study, values, rivals=2)
    low, high = stats.t.interval(1 - 0.05 / 2, 2, loc=0.3, scale=stats.sem([0.1, 0.2, 0.6]))
    assert (found["low"], found["high"]) == (pytest.approx(max(low, -1)), pytest.approx(min(high, 1)))
    images = oracle_means.over(study, values, images=True)
    assert (images["low"], images["high"]) == (pytest.approx(0.3 - 0.4 / 3), pytest.approx(0.3 + 0.4 / 3))
    assert oracle_means.over(study, {0: values[0]}, rivals=2)["high"] == pytest.approx(
        0.1 + 0.1 * stats.norm.ppf(1 - 0.0125) / stats.norm.ppf(0.975))
    assert oracle_means.over(study, {0: None}) is None and oracle_means.sign_of(None) == 0
    wide = oracle_means.over(study, {0: [0.9, 0, 1], 1: [-0.9, -1, 0]})
    assert (wide["low"], wide["high"]) == (-1.0, 1.0)
    same = fake_evidence.study_evidence({"nominal_classes": {"0": ["a"], "1": ["a"]}})
    assert oracle_means.over(same, {0: values[0], 1: values[1]})["basis"] == "images"
