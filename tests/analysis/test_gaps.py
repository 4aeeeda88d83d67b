"""Rows of a summary: gaps, their intervals, and selection regret by brute force."""

import json

import numpy as np
import pytest

from analysis import metrics
from analysis.gaps import (
    FROZEN_RULE,
    best_of_halves,
    class_divisions,
    class_halves,
    crossfit_gain,
    evaluate_scores,
    finite_or_none,
    half_aurocs,
    regret,
    regret_crossfit,
    regret_from_halves,
    split_halves,
)
from analysis.uncertainty import delong_interval, paired_delong

MASK = np.arange(300) % 5 < 2
KEYS = {"scorer_auroc", "scorer_auroc_ci", "scorers", "oracle_detector_auroc", "oracle_detector_ci",
        "linear_oracle_auroc", "oracle_representation_auroc", "oracle_representation_ci", "extraction_gap",
        "extraction_gap_ci", "extraction_gap_p_value", "extraction_gap_max_logit", "representation_gap",
        "representation_gap_ci", "representation_gap_p_value", "aupr_anomaly", "aupr_nominal", "fpr_at_95_tpr",
        "equal_error_rate", "anomalies_missed_at_95_acceptance", "closed_set_accuracy", "oscr", "half_aurocs"}


def score(seed, lift=1.0, mask=MASK):
    return np.random.default_rng(seed).normal(size=len(mask)) + lift * mask


def row(**changes):
    given = {"is_anomaly": MASK, "scorers": {"max_logit": score(1), "knn": score(2, 0.5)}, "frozen": score(3),
             "oracle_detector": score(4, 2), "linear_oracle": score(5, 1.5), "oracle_representation": score(6, 3),
             "correct": np.arange(300) % 10 != 0}
    return evaluate_scores(**{**given, **changes})


def test_a_full_row():
    full = row()
    assert set(full) == KEYS
    assert full["scorers"] == {"max_logit": metrics.auroc(score(1), MASK), "knn": metrics.auroc(score(2, 0.5), MASK)}
    assert (full["scorer_auroc"], *full["scorer_auroc_ci"]) == delong_interval(score(3), MASK)
    assert (full["oracle_detector_auroc"], *full["oracle_detector_ci"]) == delong_interval(score(4, 2), MASK)
    gap = paired_delong(score(4, 2), score(3), MASK)
    assert (full["extraction_gap"], full["extraction_gap_ci"]) == (gap.difference, [gap.low, gap.high])
    assert full["extraction_gap"] == pytest.approx(full["oracle_detector_auroc"] - full["scorer_auroc"])
    assert full["extraction_gap_max_logit"] == full["oracle_detector_auroc"] - full["scorers"]["max_logit"]
    assert full["representation_gap"] == pytest.approx(
        full["oracle_representation_auroc"] - full["oracle_detector_auroc"])
    assert full["linear_oracle_auroc"] == metrics.auroc(score(5, 1.5), MASK)
    assert full["closed_set_accuracy"] == np.mean((np.arange(300) % 10 != 0)[~MASK])
    assert full["oscr"] == metrics.oscr(score(3), MASK, np.arange(300) % 10 != 0)
    for name in ("aupr_anomaly", "fpr_at_95_tpr", "equal_error_rate"):
        assert full[name] == getattr(metrics, name)(score(3), MASK)
    assert json.loads(json.dumps(full, allow_nan=False)) == full


def test_what_is_missing_is_none_and_every_key_is_there():
    bare = row(scorers={"knn": np.full(300, np.nan)}, oracle_detector=None, linear_oracle=None,
               oracle_representation=None, correct=None)
    assert set(bare) == KEYS
    assert bare["scorers"] == {"knn": None}
    none = [key for key in KEYS if bare[key] is None]
    assert set(none) == {key for key in KEYS if "oracle" in key or "gap" in key} | {"closed_set_accuracy", "oscr"}
    assert json.loads(json.dumps(bare, allow_nan=False)) == bare


def test_a_negative_gap_stays_negative():
    assert row(frozen=score(3, 4), oracle_detector=score(4, 0.1))["extraction_gap"] < -0.3


def test_one_anomaly_has_no_halves_but_a_row():
    mask = np.arange(300) == 7
    lone = row(is_anomaly=mask)
    assert lone["half_aurocs"] is None and lone["scorer_auroc_ci"][0] >= 0


def test_finite_or_none():
    given = {"a": np.float32(np.nan), "b": [np.inf, -np.inf, 1.5], "c": np.arange(2), "d": (np.bool_(True), None, "x"),
             "e": {"f": np.array([[np.nan, 2.0]])}, "g": np.int64(3)}
    assert finite_or_none(given) == {"a": None, "b": [None, None, 1.5], "c": [0, 1], "d": [True, None, "x"],
                                     "e": {"f": [[None, 2.0]]}, "g": 3}
    json.dumps(finite_or_none(given), allow_nan=False)


def test_regret():
    table = {0: {"max_logit": 0.7, "knn": None, FROZEN_RULE: 0.75}, 1: {"max_logit": 0.9, FROZEN_RULE: 0.8}}
    assert regret(table, 0) == pytest.approx(0.15)
    assert regret(table, 1) == pytest.approx(0.1)
    assert regret({3: {FROZEN_RULE: 0.8, "knn": 0.4}}, 3) == 0.0
    with pytest.raises(KeyError):
        regret(table, 5)


def test_halves_are_disjoint_stratified_and_seeded():
    first, second = split_halves(MASK, seed=4)
    assert sorted([*first, *second]) == list(range(300))
    assert MASK[first].sum() == MASK[second].sum() == 60 and len(first) == len(second)
    again, _ = split_halves(MASK.astype(int), seed=4)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, split_halves(MASK, seed=5)[0])
    with pytest.raises(ValueError, match="two"):
        split_halves([1, 0, 0])


def test_crossfit_regret_by_brute_force():
    trials = {number: {"max_logit": score(number, 0.6), "knn": score(number + 50, 0.7), FROZEN_RULE: score(number + 90)}
              for number in range(6)}
    halves = split_halves(MASK, seed=9)

    def area(pair, half):
        return metrics.auroc(trials[pair[0]][pair[1]][half], MASK[half])

    pairs = [(trial, name) for trial in trials for name in trials[trial]]
    measured = [area(max(pairs, key=lambda pair, here=here: area(pair, here)), there)
                for here, there in (halves, halves[::-1])]
    expected = np.mean(measured) - np.mean([area((2, FROZEN_RULE), half) for half in halves])
    assert regret_crossfit(trials, MASK, 2, seed=9) == pytest.approx(expected, abs=1e-12)
    stored = {trial: half_aurocs(scores, MASK, seed=9) for trial, scores in trials.items()}
    stored = {trial: json.loads(json.dumps(halves)) for trial, halves in stored.items()}  # as reveal keeps them
    assert regret_from_halves(stored, 2) == regret_crossfit(trials, MASK, 2, seed=9)


def test_crossfit_regret_ignores_the_maximum_of_noise():
    """Forty equally good trials: plain regret is the luck of the best, cross-fit regret is about 0."""
    plain, crossfit = [], []
    for study in range(8):
        trials = {number: {FROZEN_RULE: score(1000 * study + number, 1.0)} for number in range(40)}
        table = {number: {FROZEN_RULE: metrics.auroc(scores[FROZEN_RULE], MASK)} for number, scores in trials.items()}
        plain.append(regret(table, 0))
        crossfit.append(regret_crossfit(trials, MASK, 0))
    assert np.mean(plain) > 0.03
    assert abs(np.mean(crossfit)) < 0.02


def test_crossfit_regret_sees_a_better_trial_and_ties_go_to_the_selected():
    trials = {0: {FROZEN_RULE: score(0, 0.5)}, 1: {FROZEN_RULE: score(1, 3.0)}}
    assert regret_crossfit(trials, MASK, 0) > 0.2
    assert regret_crossfit(trials, MASK, 1) == 0.0
    assert regret_from_halves({0: {"knn": [0.9, 0.5], FROZEN_RULE: [0.9, 0.8]}}, 0) == 0.0


def test_crossfit_regret_without_halves_is_none():
    assert regret_crossfit({0: {FROZEN_RULE: np.arange(4.0)}}, [1, 0, 0, 0], 0) is None


def test_trials_whose_scores_are_nan_are_left_out():
    trials = {0: {FROZEN_RULE: score(0)}, 1: {FROZEN_RULE: np.full(300, np.nan)}}
    assert regret_crossfit(trials, MASK, 0) == 0.0
    assert regret_crossfit(trials, MASK, 1) is None


def test_the_gain_over_the_chosen_is_the_crossfit_regret():
    for seed in range(20):
        table = np.random.default_rng(seed).integers(50, 60, (5, 2)) / 100  # with ties
        halves = {trial: {FROZEN_RULE: list(pair)} for trial, pair in enumerate(table)}
        best = best_of_halves(row[FROZEN_RULE] for row in halves.values())
        for trial in halves:
            apparent, honest = crossfit_gain(best, halves[trial][FROZEN_RULE])
            assert apparent == pytest.approx(np.mean(table.max(axis=0) - table[trial]))
            assert honest == pytest.approx(regret_from_halves(halves, trial), abs=1e-12)
    assert best_of_halves([[0.5, None], [None, 0.9]]) is None
    assert best_of_halves([[0.5, None], [0.1, 0.2]]).inside == (0.1, 0.2)
    assert crossfit_gain(best_of_halves([[0.5, 0.6], [0.4, 0.7]]), [0.6, 0.65]) == pytest.approx((-0.025, -0.125))


@pytest.mark.parametrize(
    "classes, count", [(0, 0), (1, 0), (2, 1), (3, 3), (4, 3), (5, 10), (6, 10), (7, 20), (40, 20)]
)
def test_divisions_of_classes_are_balanced_and_different(classes, count):
    found = class_divisions(classes, seed=3)
    assert len(found) == count
    assert all(part.sum() == classes // 2 for part in found)
    unordered = {frozenset([frozenset(np.flatnonzero(part)), frozenset(np.flatnonzero(~part))]) for part in found}
    assert len(unordered) == count
    assert all(np.array_equal(a, b) for a, b in zip(found, class_divisions(classes, seed=3), strict=True))


def test_halves_of_classes_share_no_class_and_no_image():
    labels = np.r_[np.full(11, -1), np.repeat([0, 2, 3, 7], 5)]
    pairs = class_halves(labels)
    assert len(pairs) == 3
    for first, second in pairs:
        assert sorted([*first, *second]) == list(range(31))
        ours, theirs = set(labels[first]) - {-1}, set(labels[second]) - {-1}
        assert len(ours) == len(theirs) == 2 and not ours & theirs
        assert {int((labels[half] < 0).sum()) for half in (first, second)} == {5, 6}
    assert not np.array_equal(pairs[0][0][:6], np.arange(6))  # drawn, not the first ones
    assert not np.array_equal(pairs[0][0][:5], pairs[1][0][:5])  # other nominal halves each time
    assert class_halves([-1, -1, 3, 3]) == [] == class_halves([-1, 0, 1])
