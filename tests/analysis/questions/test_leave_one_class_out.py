"""A class left out: an oracle of one direction fails on the other, one of the surroundings does not."""

import dataclasses

import numpy as np
import oracle_cases
import pytest

from analysis.metrics import auroc
from analysis.questions import get_question, leave_one_class_out
from analysis.uncertainty import paired_delong

QUESTION = get_question("leave_one_class_out")


@pytest.fixture(scope="module")
def opposite():
    return oracle_cases.placed({"left": (-3, 0), "right": (3, 0), "up": (0, 3), "down": (0, -3)})


def test_what_lies_the_other_way_is_below_chance_for_a_line(opposite):
    result, card = oracle_cases.answered(QUESTION, [opposite])
    for name in ("left", "right", "up", "down"):
        found = result["classes"]["classifier"]["0"][name]
        assert found["linear"]["unseen"][0] < 0.2 < 0.9 < found["frozen_rule"][0] and found["forest"]["shown"][0] > 0.8
    assert result["verdicts"]["classifier"]["linear"] == "behind" and "is worse than the frozen rule" in card.headline
    assert "Below chance" not in " ".join(card.sentences)  # the forest, which is spoken of, is not


def test_below_chance_is_said():
    _, card = oracle_cases.answered(QUESTION, [oracle_cases.placed({"left": (-1.5,), "right": (1.5,)}, images=100)])
    assert "Below chance on " in " ".join(card.sentences)


def test_what_lies_the_same_way_is_known_without_being_shown():
    same = oracle_cases.placed({"a": (0, 2.5, 0.3), "b": (0, 2.5, -0.3), "c": (0.3, 2.5, 0)}, rule=0)
    result, card = oracle_cases.answered(QUESTION, [same])
    assert result["verdicts"]["classifier"] == {"linear": "ahead", "forest": "ahead"} and "still beats" in card.headline
    assert abs(result["mean"]["linear"]["unseen_minus_shown"]["mean"]) < 0.05


def test_numbers_are_those_of_the_class_against_all_nominal_images(opposite):
    found = QUESTION.measure(opposite)["classes"]["right"]
    kept = (opposite.test_anomaly_class == 1) | ~opposite.is_anomaly
    mask = (opposite.test_anomaly_class == 1)[kept]
    rule = opposite.stored["frozen_rule"][kept]
    assert found["images"] == 60 and found["frozen_rule"][0] == auroc(rule, mask)
    others = opposite.outliers.z[opposite.outlier_class != 1]
    score = leave_one_class_out.small_oracle_scores("linear", opposite.validation.z, others, opposite.test.z, seed=0,
                                                    threads=1)[kept]
    assert found["linear"]["unseen"][0] == auroc(score, mask)
    assert found["linear"]["unseen_minus_rule"] == list(paired_delong(score, rule, mask)[:3])
    assert found["linear"]["unseen_minus_shown"][0] == pytest.approx(
        found["linear"]["unseen"][0] - found["linear"]["shown"][0])


def test_means_over_classes_and_splits(opposite):
    trials = [oracle_cases.placed({"left": (-2, 0, 0), "right": (2, 1, 0)}, seed=s, split=s, method=m)
              for s in (0, 1) for m in ("classifier", "hybrid")]
    result, card = oracle_cases.answered(QUESTION, trials)
    each = [found["forest"]["unseen_minus_rule"][0] for by_split in result["classes"].values()
            for classes in by_split.values() for found in classes.values()]
    assert result["mean"]["forest"]["unseen_minus_rule"]["mean"] == pytest.approx(np.mean(each)) and len(each) == 8
    assert "mean over 2 methods" in card.headline
    assert leave_one_class_out._over_classes([[0.1, 0, 0.2], None]) == [0.1, 0, 0.2]
    assert leave_one_class_out._over_classes([None]) is None


def test_one_class_cannot_be_left_out(opposite):
    outliers = opposite.outliers.select(slice(0, 60))
    alone = dataclasses.replace(opposite, outliers=outliers, outlier_class=np.zeros(60, int))
    assert QUESTION.measure(alone) is None
    oracle_cases.check_nothing_measured(QUESTION)


def test_a_class_that_only_validation_has_is_left_alone(opposite):
    kept = opposite.test_anomaly_class != 1
    part = dataclasses.replace(
        opposite, test=opposite.test.select(kept), test_labels=opposite.test_labels[kept],
        test_anomaly_class=opposite.test_anomaly_class[kept], stored={k: v[kept] for k, v in opposite.stored.items()})
    assert list(QUESTION.measure(part)["classes"]) == ["left", "up", "down"]
