"""Few labels: the curve rises, and crosses the label-free score where it should."""

import dataclasses

import numpy as np
import oracle_cases
import pytest

from analysis import oracle_means
from analysis.metrics import auroc
from analysis.questions import few_shot, get_question
from analysis.uncertainty import paired_delong

QUESTION = get_question("few_shot")
HIDDEN = {"a": (0, 0, 1.5, 1.5, 0, 0), "b": (0, 0, -1.5, 1.5, 0, 0)}


@pytest.fixture(autouse=True)
def small_forests(monkeypatch):
    monkeypatch.setattr(oracle_means, "SMALL_FOREST", 8)


@pytest.fixture(scope="module")
def hidden():
    """The scorer reads a coordinate that says nothing: labels win soon."""
    return oracle_cases.placed(HIDDEN, rule=0)


@pytest.fixture(scope="module")
def easy():
    """Two directions among many, and a scorer that reads one of them rightly: labels never win."""
    return oracle_cases.placed({"a": (3.5, *(0,) * 30)}, rule=0, images=30)


def test_the_curve_rises_and_crosses(hidden):
    result, card = oracle_cases.answered(QUESTION, [hidden])
    curve = result["methods"]["classifier"]["linear"]
    areas = [point["auroc"] for point in curve["points"]]
    assert areas[-1] > areas[0] + 0.1 and np.all(np.diff(areas) > -0.05) and curve["points"][-1]["images"] == 120
    assert curve["points"][0]["sd"] > curve["points"][-2]["sd"] and curve["points"][-1]["sd"] is None
    assert curve["sure"] in (1, 2, 5, 10) and curve["crossing"]["never"] == 0
    assert f"From {curve['sure']} labelled anomalies on" in card.headline


def test_where_the_score_is_better_labels_never_win(easy):
    result, card = oracle_cases.answered(QUESTION, [easy])
    assert result["methods"]["classifier"]["linear"]["sure"] is None and "does not beat" in card.headline
    assert "worse than the score that needs none" in " ".join(card.sentences)


def test_all_labels_are_the_balanced_oracle_on_everything(hidden):
    found = QUESTION.measure(hidden)
    score = few_shot.small_oracle_scores("linear", hidden.validation.z, hidden.outliers.z, hidden.test.z, seed=0,
                                         threads=1, balanced=True)
    assert found["counts"] == [1, 2, 5, 10, 20, 50, 100, 120]
    assert found["linear"]["auroc"][-1] == [auroc(score, hidden.is_anomaly)]
    expected = paired_delong(score, hidden.stored["frozen_rule"], hidden.is_anomaly)
    assert found["linear"]["minus_rule"][-1] == pytest.approx(expected[:3])
    assert found["lines"]["frozen_rule"] == auroc(hidden.stored["frozen_rule"], hidden.is_anomaly)
    assert [len(draws) for draws in found["forest"]["auroc"]] == [5] * 7 + [1]
    assert QUESTION.measure(hidden) == found


def test_draws_are_nested_and_only_of_outliers(hidden, monkeypatch):
    seen = []
    monkeypatch.setattr(few_shot, "small_oracle_scores", lambda name, nominal, anomalies, test, **more: seen.append(
        (name, nominal, anomalies, more)) or test[:, 0].astype(float))
    QUESTION.measure(hidden)
    linear = [(nominal, {row.tobytes() for row in anomalies})
              for name, nominal, anomalies, _ in seen if name == "linear"]
    assert all(nominal is hidden.validation.z for nominal, _ in linear)
    assert linear[0][1] < linear[5][1] < linear[10][1]  # one draw's first image, first two, first five
    assert len({frozenset(chosen) for _, chosen in linear[:5]}) > 1
    assert all(more["balanced"] for *_, more in seen)


def test_crossings_by_hand():
    areas = [[0.6, 0.9, 0.1], [0.8, 0.5, 0.2], [0.9, 0.8, 0.3], [0.9]]
    assert few_shot._crossings([1, 2, 5, 9], areas, 0.7) == [2, 5, 9]
    assert few_shot._crossings([1, 2, 5, 9], areas, 0.9) == [None] * 3
    assert few_shot._spread([1, 5, None]) == {"median": 5, "least": 1, "most": None, "never": 1, "draws": 3}
    assert few_shot._spread([None, None, 2])["median"] is None


def test_a_mean_draw_is_as_unsure_as_its_images_and_its_draws():
    low_high = few_shot._mean_draw([[0.1, 0.0, 0.2], [0.3, 0.2, 0.4]])
    reach = np.hypot(0.1, few_shot.LEVEL_Z * np.std([0.1, 0.3], ddof=1) / np.sqrt(2))
    assert low_high == pytest.approx([0.2, 0.2 - reach, 0.2 + reach])
    assert few_shot._mean_draw([[0.1, 0.0, 0.2]]) == pytest.approx([0.1, 0.0, 0.2])


def test_splits_of_other_sizes_share_what_they_have(hidden):
    fewer = dataclasses.replace(hidden, split=1, outliers=hidden.outliers.select(np.arange(0, 120, 4)),
                                outlier_class=hidden.outlier_class[::4])
    result, _ = oracle_cases.answered(QUESTION, [hidden, fewer])
    points = result["methods"]["classifier"]["linear"]["points"]
    assert [point["count"] for point in points] == [1, 2, 5, 10, 20, "all"] and points[-1]["images"] == 75


def test_nothing_to_learn_from(hidden):
    none = dataclasses.replace(hidden, outliers=hidden.outliers.select(slice(0, 0)), outlier_class=np.zeros(0, int))
    assert QUESTION.measure(none) is None
    oracle_cases.check_nothing_measured(QUESTION)
