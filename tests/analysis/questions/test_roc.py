"""ROC curves against scikit-learn and a naive loop; do the bands hold what they say?"""

import json

import fake_evidence
import fake_summaries
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.metrics import auroc
from analysis.plot_base import NARROW, WIDE, finish
from analysis.questions import answer
from analysis.questions import roc as question


@st.composite
def scored(draw):
    size = draw(st.integers(2, 30))
    scores = draw(st.lists(st.one_of(st.integers(-3, 3).map(float), st.floats(-5, 5)), min_size=size, max_size=size))
    mask = draw(st.lists(st.booleans(), min_size=size, max_size=size).filter(lambda m: 0 < sum(m) < len(m)))
    return np.array(scores), np.array(mask)


def naive_rate(scores, mask, alarms):
    """Walks the curve threshold by threshold to the last one with at most so many false alarms, and on along a straight line."""
    points = [(0.0, 0.0)] + [(np.mean(scores[~mask] >= t), np.mean(scores[mask] >= t)) for t in sorted(set(scores), reverse=True)]
    x, y = [point for point in points if point[0] <= alarms][-1]
    if x == alarms:
        return y
    after = next(point for point in points if point[0] > alarms)
    return y + (after[1] - y) * (alarms - x) / (after[0] - x)


@given(scored())
def test_rates_are_the_naive_walk(case):
    scores, mask = case
    rates = question.true_positive_rates(scores, mask)
    assert rates == pytest.approx([naive_rate(scores, mask, x) for x in question.FPR], abs=1e-9)
    assert (np.diff(rates) >= -1e-12).all() and rates[-1] == 1


def test_rates_of_many_images_are_scikit_learns_curve_and_area():
    from sklearn.metrics import roc_curve

    random = np.random.default_rng(0)
    mask = random.random(4000) < 0.4
    scores = random.normal(size=4000) + mask
    alarms, found, _ = roc_curve(mask, scores)
    rates = question.true_positive_rates(scores, mask)
    assert rates == pytest.approx(np.interp(question.FPR, alarms, found), abs=1e-3)
    assert np.trapezoid(rates, question.FPR) == pytest.approx(auroc(scores, mask), abs=1e-3)


@given(scored(), st.integers(0, 99))
def test_weights_are_images_that_count_several_times(case, seed):
    scores, mask = case
    weights = np.random.default_rng(seed).integers(0, 3, (2, len(scores)))
    weights[:, [np.flatnonzero(mask)[0], np.flatnonzero(~mask)[0]]] = 1
    found = question.true_positive_rates(scores, mask, weights)
    for row, counts in zip(found, weights, strict=True):
        again = question.true_positive_rates(np.repeat(scores, counts), np.repeat(mask, counts))
        assert row == pytest.approx(again, abs=1e-12)


def test_draws_are_stratified_seeded_and_shared():
    random = np.random.default_rng(1)
    mask = np.repeat([True, False], [40, 60])
    one = random.normal(size=100) + mask
    found = question.resampled({"a": one, "b": np.exp(one), "c": -one}, mask, resamples=120, seed=4)
    assert found["a"].shape == (120, 101)
    np.testing.assert_array_equal(found["a"], found["b"])  # the same draws, and only the order of scores counts
    np.testing.assert_array_equal(found["a"], question.resampled({"a": one}, mask, resamples=120, seed=4)["a"])
    assert not np.array_equal(found["a"], question.resampled({"a": one}, mask, resamples=120, seed=5)["a"])
    assert len(np.unique(found["a"][:, 20])) > 10 and not np.array_equal(found["a"][:50], found["a"][50:100])
    alone = np.arange(6) == 2  # never a draw without the one anomaly
    assert np.isfinite(question.resampled({"a": np.arange(6.0)}, alone, resamples=60)["a"]).all()


def test_bands_hold_their_level_at_a_point():
    """Two Gaussians: at 20 % false alarms 1 − Φ(Φ⁻¹(0.8) − 1) of the anomalies are found."""
    from scipy.stats import norm

    random, truth, inside = np.random.default_rng(2), norm.sf(norm.isf(0.2) - 1), 0
    mask = np.repeat([True, False], 150)
    for seed in range(150):
        drawn = question.resampled({"a": random.normal(size=300) + mask}, mask, resamples=150, seed=seed)["a"][:, 20]
        low, high = np.quantile(drawn, [0.025, 0.975])
        inside += low <= truth <= high
    assert 0.89 <= inside / 150 <= 0.99


def studied(evidences, made=None):
    measured = {one.key: json.loads(json.dumps(question.measure(one), allow_nan=False)) for one in evidences}
    made = made or fake_summaries.summary(methods=tuple({e.method for e in evidences}), splits=tuple({e.split for e in evidences}))
    return fake_evidence.study_evidence(made, {"roc": measured})


def made_of(method="classifier", split=0, *, oracle=2.0, rule=1.0, seed=0):
    one = fake_evidence.trial_evidence(method=method, split=split, selected=True, layers=False)
    random = np.random.default_rng([seed, split])
    for name, lift in {"oracle_detector": oracle, "frozen_rule": rule}.items():
        one.stored[name] = random.normal(size=len(one.is_anomaly)) + lift * one.is_anomaly
    return one


def test_one_split_has_the_bootstrap_band_and_a_planted_gap_is_found():
    one = made_of(oracle=2.5, rule=1.0)
    result = question.compute(studied([one]))
    curve = result["methods"]["classifier"]["curves"]["frozen_rule"]
    assert result["methods"]["classifier"]["basis"] == "images" and curve["splits"] == 1
    assert curve["tpr"] == pytest.approx(question.true_positive_rates(one.stored["frozen_rule"], one.is_anomaly), abs=1e-5)
    assert all(low - 1e-9 <= value <= high + 1e-9 for low, value, high in list(zip(curve["low"], curve["tpr"], curve["high"]))[3:])
    assert max(high - low for low, high in zip(curve["low"], curve["high"], strict=True)) > 0.1
    assert set(result["methods"]["classifier"]["curves"]) == set(question.CURVES)
    gap = result["gap"]
    assert gap["verdict"] == "yes" and gap["low"] > 0.1 and gap["basis"] == "images"
    assert gap["difference"] == pytest.approx(result["found"]["oracle_detector"] - result["found"]["frozen_rule"], abs=1e-4)
    assert "the oracle finds more: +0." in question.card(result).headline


def test_no_gap_is_no_difference():
    result = question.compute(studied([made_of(oracle=1.0, rule=1.0)]))
    assert result["gap"]["verdict"] == "no difference beyond noise"
    assert "no difference beyond noise" in question.card(result).headline
    assert "within noise" in question.card(result).figures[0].data["title"]
    turned = question.compute(studied([made_of(oracle=0.2, rule=2.5)]))
    assert "the frozen rule finds more: −0." in question.card(turned).headline


def test_several_splits_are_averaged_vertically():
    evidences = [made_of(split=split, rule=0.5 + split) for split in (0, 1, 2)]
    made = fake_summaries.summary(methods=("classifier",), splits=(0, 1, 2))
    made["nominal_classes"] = {"0": ["a"], "1": ["b"], "2": ["c"]}
    result = question.compute(studied(evidences, made))
    found = result["methods"]["classifier"]
    rates = [question.true_positive_rates(one.stored["frozen_rule"], one.is_anomaly) for one in evidences]
    curve = found["curves"]["frozen_rule"]
    assert found["basis"] == "splits" and curve["splits"] == 3 and result["gap"]["basis"] == "splits"
    for key, value in {"tpr": np.mean(rates, axis=0), "low": np.min(rates, axis=0), "high": np.max(rates, axis=0)}.items():
        assert curve[key] == pytest.approx(value, abs=2e-5)
    areas = [auroc(one.stored["frozen_rule"], one.is_anomaly) for one in evidences]
    assert curve["auroc"] == pytest.approx(np.mean(areas))
    assert curve["standard_error"] == pytest.approx(np.std(areas, ddof=1) / np.sqrt(3))
    assert "from the lowest to the highest split" in question.card(result).sentences[0]


def test_what_is_missing_is_left_out():
    bare = made_of()
    for name in ("oracle_detector", "oracle_representation", "max_logit"):
        bare.stored.pop(name)
    object.__setattr__(bare, "linear_head", False)
    result = question.compute(studied([bare]))
    assert set(result["methods"]["classifier"]["curves"]) == {"frozen_rule", "max_logit"}  # which needs no stored scores
    assert result["gap"] is None
    assert question.card(result).headline.startswith("The frozen rule finds ")
    bare.stored["frozen_rule"] = np.full(len(bare.is_anomaly), np.nan)
    assert set(question.measure(bare)["curves"]) == {"max_logit"}
    nothing = fake_evidence.study_evidence(fake_summaries.summary())
    assert "no curve" in answer(question.QUESTION, nothing)["not_applicable"]


def test_the_figure_ends_where_nothing_more_happens_and_is_drawn_in_both_widths():
    easy = question.compute(studied([made_of(oracle=9.0, rule=8.0)]))
    for found in easy["methods"]["classifier"]["curves"].values():
        found["tpr"] = [1.0] * 101
    assert question.roc_data(easy)["fpr"][-1] == 0.2
    hard = question.compute(studied([made_of(m, rule=0.1) for m in ("classifier", "hybrid", "csi", "jem", "auxiliary")]))
    data = question.roc_data(hard)
    assert data["fpr"][-1] == 1.0 and len(data["fpr"]) == 51 and len(data["panels"][0]["curves"][0]["tpr"]) == 51
    figure = question.card(hard).figures[0]
    styles = {line.get_linestyle() for axis in figure.draw(figure.data, width=NARROW).axes for line in axis.lines}
    assert len(styles) >= 4  # told apart without colour
    assert figure.draw(figure.data, width=WIDE).axes[0].get_ylabel() and json.dumps(hard, allow_nan=False)
    assert finish("roc", figure.data, figure.draw, figure.alt, "").files["roc.png"][:4] == b"\x89PNG"
