"""Operating points against loops over images; thresholds that are set on validation images."""

from __future__ import annotations

import dataclasses

import numpy as np
import oracle_cases
import pytest
from fake_evidence import study_evidence, trial_evidence

from analysis.fusion import FrozenRule
from analysis.plot_base import NARROW, WIDE
from analysis.questions import get_question

QUESTION = get_question("operating_points")


@pytest.fixture(scope="module")
def evidence():
    return trial_evidence(selected=True, distance=2.0)


@pytest.fixture(scope="module")
def found(evidence):
    return QUESTION.measure(evidence)


def test_numbers_are_what_counting_gives(evidence, found):
    score, mask = evidence.stored["frozen_rule"], evidence.is_anomaly
    numbers = found["scores"]["frozen_rule"]
    threshold = np.sort(score[~mask])[int(np.ceil(0.95 * (~mask).sum())) - 1]
    assert numbers["missed"] == pytest.approx(np.mean(score[mask] <= threshold))
    wrong = ~evidence.correct[~mask]
    order = np.argsort(score[~mask])
    risks = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    assert 0 < wrong.mean() < 1 and numbers["aurc_closed"] == pytest.approx(risks.mean(), abs=1e-12)
    order = np.argsort(score)
    risks = np.cumsum((mask | ~evidence.correct)[order]) / np.arange(1, len(order) + 1)
    assert numbers["aurc_open"] == pytest.approx(risks.mean(), abs=1e-12)
    assert found["scores"].keys() == {"frozen_rule", "max_logit", "msp", "oracle_detector"}


def test_thresholds_come_from_validation_images_alone(evidence, found):
    rule = evidence.rule
    fitted = FrozenRule(rule["scorer"], rule["members"]).fit_scores(
        {name: evidence.score(name, "validation") for name in rule["members"]})
    score, nominal = evidence.stored["frozen_rule"], ~evidence.is_anomaly
    for one in found["transfer"]:
        threshold = np.sort(fitted.validation_score_)[int(np.ceil(one["aimed"] * len(evidence.validation) - 1e-9)) - 1]
        assert one["accepted"] == np.mean(score[nominal] <= threshold)
        assert one["missed"] == np.mean(score[~nominal] <= threshold)
        assert one["low"] < one["aimed"] < one["high"] or one["aimed"] == 0.99


def test_a_shifted_test_set_is_told(evidence):
    moved = evidence.stored["frozen_rule"] + 1.0 * ~evidence.is_anomaly
    result, card = oracle_cases.answered(QUESTION, [dataclasses.replace(
        evidence, stored={**evidence.stored, "frozen_rule": moved})])
    assert result["transfer"]["classifier"]["0.95"]["within"] == 0 and "allows in 0 of 1" in card.headline
    assert "no anomalies" in QUESTION.applicable(study_evidence({"rows": []}))


def test_the_card_over_splits_and_methods():
    trials = [trial_evidence(method=method, split=split, selected=True, distance=2.0)
              for method in ("classifier", "hybrid") for split in (0, 1)]
    result, card = oracle_cases.answered(QUESTION, trials)
    rule = result["methods"]["hybrid"]["frozen_rule"]["missed"]
    each = [QUESTION.measure(e)["scores"]["frozen_rule"]["missed"] for e in trials[2:]]
    assert rule["value"] == pytest.approx(np.mean(each)) and rule["splits"] == 2
    assert rule["error"] == pytest.approx(np.std(each, ddof=1) / np.sqrt(2))
    assert "95 % of nominal images are accepted" in card.headline and "oracle detector" in card.headline
    assert result["transfer"]["hybrid"]["0.95"]["splits"] == 2
    assert len(card.tables[0].cells) == 8 and len(card.tables[1].cells) == 6
    for figure in card.figures:
        for width in (WIDE, NARROW):
            assert figure.draw(figure.data, width=width).axes


def test_nothing_to_reject_is_no_answer(evidence):
    nominal = np.flatnonzero(~evidence.is_anomaly)
    kept = dataclasses.replace(evidence, test_labels=evidence.test_labels[nominal],
                               stored={name: score[nominal] for name, score in evidence.stored.items()})
    assert QUESTION.measure(kept) is None
    broken = dataclasses.replace(evidence, stored={**evidence.stored, "frozen_rule": np.full(len(evidence.test), np.nan)})
    assert QUESTION.measure(broken) is None
