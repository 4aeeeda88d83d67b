"""Two-level tuning: every choice made from nominal features, measured once on test images, and told with its noise."""

import dataclasses
import json

import fake_evidence
import fake_summaries
import numpy as np
import oracle_cases
import pytest
from scipy.stats import ttest_1samp

from analysis.holm import holm
from analysis.metrics import auroc
from analysis.posthoc_search import search
from analysis.questions import answer
from analysis.questions.posthoc_tuning import QUESTION
from analysis.scorers import get_scorer
from analysis.uncertainty import paired_delong


@pytest.fixture(scope="module")
def trial():
    e = fake_evidence.trial_evidence(images=16, distance=2.5, selected=True)
    return dataclasses.replace(e, settled={"msp": {"temperature": 3.0}, "knn": {"k": 10}})


@pytest.fixture(scope="module")
def measured(trial):
    return QUESTION.measure(trial)


def test_choices_are_the_search_s_and_their_areas_are_of_the_test_images(trial, measured):
    json.dumps(measured, allow_nan=False)
    assert {"msp", "energy", "knn", "gmm", "vim", "openmax"} <= set(measured["scorers"])
    for name, objective in (("knn", "feature_mixup_auroc"), ("energy", "class_dropout_auroc"), ("energy", "val_nll")):
        one = measured["scorers"][name]["searches"][objective]
        found = search(name, trial, objective)
        assert one["settings"] == found.settings and one["after"] == pytest.approx(found.value, rel=1e-4)
        score, default = (get_scorer(name).fit(trial.train, parameters).score(trial.test)
                          for parameters in (found.parameters, found.default))
        assert one["auroc"] == pytest.approx(auroc(score, trial.is_anomaly), rel=1e-4)
        exact = paired_delong(score, default, trial.is_anomaly)[:3]
        assert one["difference"] == pytest.approx(list(exact), rel=1e-3, abs=1e-9)
    msp = measured["scorers"]["msp"]
    assert msp["settled"]["parameters"] == {"temperature": 3.0} and msp["settled"]["auroc"] != msp["default"]["auroc"]
    assert measured["scorers"]["knn"]["settled"]["difference"] == [0, 0, 0]
    assert measured["scorers"]["gmm"]["settled"] is None and "val_nll" not in measured["scorers"]["gmm"]["searches"]
    assert set(measured["rule"]) == {"feature_mixup_auroc", "class_dropout_auroc"}  # of knn alone


def test_test_images_change_no_choice(trial, measured):
    noise = np.random.default_rng(1).permutation(len(trial.test))
    other = dataclasses.replace(trial, test=trial.test.select(noise), linear_head=False)
    found = QUESTION.measure(other)["scorers"]
    assert "vim" not in found and {"msp", "gmm"} <= set(found)
    for name, one in found.items():
        for objective, choice in one["searches"].items():
            assert choice["parameters"] == measured["scorers"][name]["searches"][objective]["parameters"]
    assert found["knn"]["default"]["auroc"] != measured["scorers"]["knn"]["default"]["auroc"]


def test_card_of_one_trial(trial, measured):
    study = oracle_cases.study_of(dataclasses.replace(QUESTION, measure=lambda e: measured), [trial])
    result = QUESTION.compute(study)
    card = QUESTION.card(json.loads(json.dumps(result, allow_nan=False)))
    assert "scorers on nominal features alone" in card.headline and card.headline.endswith(".")
    assert f"{result['settings']:,} settings" in card.sentences[1] and "a second" in card.sentences[1]
    assert result["scorers"]["knn"]["choices"]["feature_mixup_auroc"]["difference"]["basis"] == "images"
    assert "nan" not in "".join([card.headline, *card.sentences])
    assert len(card.tables[0].cells) == len(result["scorers"])
    for width in (9.6, 4.0):
        assert card.figures[0].draw(card.figures[0].data, width=width).axes


def planted(gains):
    """{method: {split: [difference of scorer a, of b]}}, each with an interval of ±0.02."""
    def one(gain):
        search = {"settings": 10, "seconds": 0.5, "before": 0.7, "after": 0.8, "parameters": {"k": 2},
                  "auroc": 0.8 + gain, "difference": [gain, gain - 0.02, gain + 0.02]}
        return {"range": "k 1 … 9", "default": {"parameters": {"k": 1}, "auroc": 0.8}, "settled": None,
                "searches": {"feature_mixup_auroc": search}}

    made = fake_summaries.summary(methods=tuple(gains), splits=tuple(next(iter(gains.values()))), trials=2)
    trials = {(row["method"], row["split"]): row["trial"] for row in made["rows"] if row["selected"]}
    measured = {(m, s, trials[m, s]): {"scorers": {"knn": one(a), "gmm": one(b)}, "rule": {"feature_mixup_auroc": None}}
                for m, by_split in gains.items() for s, (a, b) in by_split.items()}
    return fake_evidence.study_evidence(made, {"posthoc_tuning": measured})


def test_numbers_over_methods_and_splits():
    random = np.random.default_rng(0)
    gains = {m: {s: [0.05 + random.normal(0, 0.004), random.normal(0, 0.004)] for s in range(4)} for m in ("a", "b")}
    result = QUESTION.compute(planted(gains))
    naive = {name: np.array([np.mean([gains[m][s][i] for m in gains]) for s in range(4)])
             for i, name in enumerate(("knn", "gmm"))}
    raw = {name: ttest_1samp(values, 0.0) for name, values in naive.items()}
    adjusted = holm({name: test.pvalue for name, test in raw.items()})
    for name, values in naive.items():
        choice = result["scorers"][name]["choices"]["feature_mixup_auroc"]
        interval = raw[name].confidence_interval(0.95)
        assert choice["difference"]["mean"] == pytest.approx(values.mean())
        assert [choice["difference"]["low"], choice["difference"]["high"]] == pytest.approx(list(interval))
        assert [choice["p_value"], choice["p_adjusted"]] == pytest.approx([raw[name].pvalue, adjusted[name]])
        assert (choice["trials"], choice["changed"]) == (8, 8)
    one = result["objectives"]["feature_mixup_auroc"]
    assert one["found"] == [1, 0]
    assert one["difference"]["mean"] == pytest.approx((naive["knn"] + naive["gmm"]).mean() / 2)
    assert result["settings"] == 160 and result["seconds"] == 8.0
    card = QUESTION.card(result)
    assert card.headline.startswith("It pays beyond noise when chosen by mixed latents")
    assert "20 a second" in card.sentences[1]
    assert card.tables[0].cells[0][2].endswith(" *") and not card.tables[0].cells[1][2].endswith("*")


def test_noise_and_loss_are_said_as_such():
    noisy = QUESTION.compute(planted({"a": {0: [0.05, -0.04], 1: [-0.05, 0.05], 2: [0.01, 0.0]}}))
    assert QUESTION.card(noisy).headline.startswith("It does not pay beyond noise")
    worse = QUESTION.card(QUESTION.compute(planted({"a": {0: [-0.05, -0.04], 1: [-0.05, -0.05], 2: [-0.051, -0.04]}})))
    assert worse.headline.startswith("It does not pay, and costs")
    same = QUESTION.compute(planted({"a": {0: [0.0, 0.0], 1: [0.0, 0.0]}}))
    assert same["scorers"]["knn"]["choices"]["feature_mixup_auroc"]["p_value"] == 1
    alone = QUESTION.compute(planted({"a": {0: [0.05, 0.0]}}))["scorers"]["knn"]["choices"]["feature_mixup_auroc"]
    assert alone["difference"]["basis"] == "images" and alone["p_value"] == pytest.approx(9.6e-7, rel=0.1)  # z = 4.9


def test_nothing_measured(trial):
    reason = answer(QUESTION, fake_evidence.study_evidence(fake_summaries.summary(), {}))
    assert reason["not_applicable"].endswith(".")
    none = np.zeros(len(trial.test), int)
    assert QUESTION.measure(dataclasses.replace(trial, test_labels=none)) is None
    assert QUESTION.measure(dataclasses.replace(trial, test_labels=none - 1)) is None
