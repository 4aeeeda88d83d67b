"""Class by class: AUROC against all nominal images, and what a class is taken for."""

import dataclasses

import numpy as np
import oracle_cases
import pytest

from analysis.metrics import auroc
from analysis.questions import get_question
from analysis.scorers import Features
from analysis.uncertainty import paired_delong

QUESTION = get_question("per_class")
PLACES = {"far": (6.0, 0, 0), "near": (0.5, 0, 0), "mid": (2.0, 0, 0)}


def planted(**more):
    e = oracle_cases.placed(PLACES, rule=0, **more)
    logits = np.zeros((len(e.test), 3), np.float32)
    logits[:, 1] = 1
    near = np.flatnonzero(e.test_anomaly_class == 1)
    logits[near[:45], 2] = 2  # three quarters of "near" are taken for the third class, all else for the second
    oracle = e.stored["frozen_rule"] + 4 * (e.test_anomaly_class == 1)
    return dataclasses.replace(e, test=Features(logits, e.test.z, None), stored={**e.stored, "oracle_detector": oracle})


def test_numbers_are_those_of_the_class_against_all_nominal_images():
    e = planted()
    found = QUESTION.measure(e)["classes"]["near"]
    kept = (e.test_anomaly_class == 1) | ~e.is_anomaly
    mask, rule, oracle = e.is_anomaly[kept], e.stored["frozen_rule"][kept], e.stored["oracle_detector"][kept]
    assert found["frozen_rule"][0] == auroc(rule, mask) and found["oracle_detector"][0] == auroc(oracle, mask)
    assert found["gap"] == list(paired_delong(oracle, rule, mask)[:3]) and found["gap"][1] > 0
    assert (found["taken_for"], found["share"], found["images"]) == ("cat", 0.75, 60)
    assert found["oracle_representation"] is None
    assert QUESTION.measure(e)["classes"]["far"]["taken_for"] == "bee" and QUESTION.measure(e)["usual_share"] == 1


def test_the_hardest_comes_first_and_beyond_noise():
    result, card = oracle_cases.answered(QUESTION, [planted()])
    assert list(result["methods"]["classifier"]) == ["near", "mid", "far"]
    assert result["hardest"]["classifier"]["beyond_noise"] and "'near' is the hardest" in card.headline
    assert "not told apart" not in card.headline and "cat 75%" in " ".join(card.sentences)
    assert card.figures[0].data["panels"][0]["classes"] == ["near", "mid", "far"]
    assert "oracle representation" not in card.figures[0].data["panels"][0]["series"]


def test_two_classes_alike_are_not_told_apart():
    e = oracle_cases.placed({"a": (1.0, 0), "b": (1.05, 0)}, rule=0)
    result, card = oracle_cases.answered(QUESTION, [e])
    assert not result["hardest"]["classifier"]["beyond_noise"] and "not told apart" in card.headline


def test_classes_of_several_splits_and_methods():
    trials = [planted(seed=s, split=s, method=m) for s in (0, 1) for m in ("classifier", "hybrid")]
    result, card = oracle_cases.answered(QUESTION, trials)
    found = result["methods"]["hybrid"]["near"]
    assert found["splits"] == 2 and found["images"] == 120 and set(found["taken_for"]) == {"0", "1"}
    assert found["gap"]["basis"] == "images" and found["gap"]["low"] > 0  # of two splits Student's would say nothing
    each = [QUESTION.measure(planted(seed=s))["classes"]["near"]["frozen_rule"][0] for s in (0, 1)]
    assert found["frozen_rule"]["mean"] == pytest.approx(np.mean(each))
    assert "for all 2 methods" in card.headline and "4 of 6" not in card.headline


def test_many_classes_show_the_hardest_twelve():
    e = oracle_cases.placed({f"class {i}": (0.2 * i, 0.0) for i in range(20)}, rule=0, images=20)
    _, card = oracle_cases.answered(QUESTION, [e])
    assert len(card.figures[0].data["panels"][0]["classes"]) == 12 and len(card.tables[0].cells) == 20


def test_nothing_measured():
    oracle_cases.check_nothing_measured(QUESTION)
    e = planted()
    e.stored["frozen_rule"][:] = np.nan
    assert QUESTION.measure(e) is None
