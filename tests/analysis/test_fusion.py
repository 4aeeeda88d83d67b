"""Scorer rules: members, ranking, standardising, thresholds and export."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.fusion import (
    RULES,
    FrozenRule,
    Standardiser,
    check_rule,
    fold_aurocs,
    fuse,
    fused_fold_auroc,
    members_of,
    rank_scorers,
    rule_needs_folds,
)
from analysis.fusion_rules import RULES_WITHOUT_FOLDS, ecdf, surprise
from analysis.metrics import auroc
from analysis.scorers import Features, default_scorers, fit_scorers, score_all, settle_parameters

OWN = ("reconstruction_error",)
MEANS = ("best", "top_half_mean", "top3_mean", "all_mean")
NAMES = default_scorers(OWN)


def features(seed, size=150, classes=4, width=10):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, size)
    z = generator.normal(size=(size, width))
    z[np.arange(size), labels] += 3
    logits = z[:, :classes] + generator.normal(size=(size, classes))
    return Features(logits.astype(np.float32), z.astype(np.float32), labels,
                    {"reconstruction_error": generator.random(size)})


TRAIN, VALIDATION, TEST = features(0), features(1), features(2, size=90)


@pytest.mark.parametrize("size, half", [(1, 1), (2, 1), (3, 2), (8, 4), (9, 5)])
def test_members_by_rule(size, half):
    ranking = NAMES[:size]
    assert members_of("best", ranking) == ranking[:1]
    assert members_of("top_half_mean", ranking) == ranking[:half]
    assert members_of("top3_mean", ranking) == ranking[:3]
    assert all(members_of(rule, ranking) == ranking for rule in RULES_WITHOUT_FOLDS)
    assert members_of(ranking[-1], ranking) == ranking[-1:]


def test_rules_that_need_folds():
    assert [rule for rule in RULES if rule_needs_folds(rule)] == ["best", "top_half_mean", "top3_mean"]
    assert not rule_needs_folds("max_logit")


def test_unknown_rules_and_bad_rankings_are_refused():
    with pytest.raises(ValueError, match="did you mean 'top_half_mean'"):
        check_rule("top_half", NAMES)
    with pytest.raises(ValueError, match="unknown scorer rule 'knn'"):
        members_of("knn", ["msp", "entropy"])
    for ranking in ([], ["msp", "msp"]):
        with pytest.raises(ValueError, match="ranking"):
            members_of("best", ranking)
    with pytest.raises(ValueError, match="at least one"):
        FrozenRule("all_mean", [])


def test_ranking_by_mean_over_folds_with_ties_in_registry_order():
    folds = [{"msp": 0.5, "entropy": 0.9, "knn": 0.7, "margin": 0.7},
             {"msp": 0.9, "entropy": 0.5, "knn": 0.9, "margin": 0.7}]
    assert rank_scorers(folds, ["msp", "entropy", "margin", "knn"]) == ["knn", "msp", "entropy", "margin"]
    assert rank_scorers(folds, ["entropy", "msp", "margin"]) == ["entropy", "msp", "margin"]
    with pytest.raises(ValueError, match="without folds"):
        rank_scorers([], NAMES)
    with pytest.raises(ValueError, match="fold 1 has no AUROC of scorer 'msp'"):
        rank_scorers([{"msp": 1.0}, {"knn": 1.0}], ["msp"])


def test_fold_aurocs_count_held_out_classes_as_positive():
    kept, held_out = {"a": np.array([0.0, 1.0, 2.0])}, {"a": np.array([1.0, 3.0])}
    assert fold_aurocs(kept, held_out) == {"a": pytest.approx((1.5 + 3) / 6)}


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30))
def test_standardised_scores_have_mean_0_and_sd_1(values):
    values = np.array(values)
    scaled = Standardiser.fit(values)(values)
    if values.std() > 1e-3:
        assert abs(scaled.mean()) < 1e-6 and scaled.std() == pytest.approx(1, abs=1e-6)
    assert np.all(np.diff(scaled[np.argsort(values, kind="stable")]) >= 0)


def test_standardiser_of_a_constant_divides_by_the_floor():
    fitted = Standardiser.fit(np.full(10, 3.0))
    assert (fitted.mean, fitted.sd) == (3.0, 0.0)
    np.testing.assert_allclose(fitted([3.0, 3.0 + 2**-30]), [0.0, 2**-30 * 1e12])
    assert Standardiser(0.0, 2e-12)([1e-12]) == pytest.approx([0.5])  # a floor, not a summand
    for scores in ([], [1.0, np.nan], [np.inf]):
        with pytest.raises(ValueError, match="finite"):
            Standardiser.fit(scores)


def test_family_mean_weighs_families_not_scorers():
    standardised = {"msp": np.array([3.0]), "entropy": np.array([0.0]), "margin": np.array([0.0]),
                    "knn": np.array([5.0])}
    families = {"msp": "probability", "entropy": "probability", "margin": "probability", "knn": "distance"}
    assert fuse("family_mean", standardised, families) == pytest.approx([3.0])  # mean of 1 and 5
    assert fuse("all_mean", standardised, families) == pytest.approx([2.0])


def test_families_of_the_default_set():
    assert FrozenRule("family_mean", NAMES, own=OWN).families == {
        "msp": "probability", "entropy": "probability", "margin": "probability", "max_logit": "logit",
        "energy": "logit", "knn": "distance", "mahalanobis": "mahalanobis", "relative_mahalanobis": "mahalanobis",
        "reconstruction_error": "own"}


def rule_for(rule):
    parameters = settle_parameters(VALIDATION, NAMES, own=OWN)
    return FrozenRule(rule, members_of(rule, NAMES), parameters, own=OWN).fit(TRAIN, VALIDATION)


@pytest.mark.parametrize("rule", [*MEANS, *NAMES])
def test_a_rule_is_the_mean_of_its_standardised_members(rule):
    fitted = rule_for(rule)
    expected = np.zeros(len(TEST))
    scorers = fit_scorers(fitted.members, TRAIN, parameters=fitted.parameters, own=OWN)
    for scorer in scorers.values():
        nominal = scorer.score(VALIDATION)
        expected += (scorer.score(TEST) - nominal.mean()) / nominal.std() / len(scorers)
    np.testing.assert_allclose(fitted.score(TEST), expected, atol=1e-10)


@pytest.mark.parametrize("rule", [*RULES, *NAMES])
def test_export_and_restore(rule, tmp_path):
    from safetensors.numpy import load_file, save_file

    fitted = rule_for(rule)
    description = json.loads(json.dumps(fitted.description(), allow_nan=False))
    state = fitted.state()
    assert bool(state) == bool({"knn", "mahalanobis", "relative_mahalanobis"} & set(fitted.members))
    assert any(key.endswith("/.ecdf") for key in state) == (rule == "ecdf_mean")
    if state:
        save_file({key: np.ascontiguousarray(values) for key, values in state.items()}, tmp_path / "d.safetensors")
        state = load_file(tmp_path / "d.safetensors")
    restored = FrozenRule.from_state(description, state)
    np.testing.assert_array_equal(restored.score(TEST), fitted.score(TEST))
    assert restored.threshold() == fitted.threshold()
    assert restored.description() == fitted.description()
    assert sorted(restored.state()) == sorted(fitted.state())
    assert not any(".ecdf" in scorer.arrays_ for scorer in restored.scorers_.values())
    with pytest.raises(RuntimeError, match="acceptance"):
        restored.threshold(0.5)


def test_fit_on_scores_equals_fit_on_features():
    fitted = rule_for("family_mean")
    scorers = fit_scorers(NAMES, TRAIN, parameters=fitted.parameters, own=OWN)
    light = FrozenRule("family_mean", NAMES, fitted.parameters, own=OWN).fit_scores(score_all(scorers, VALIDATION))
    np.testing.assert_array_equal(light.fuse_scores(score_all(scorers, TEST)), fitted.score(TEST))
    assert light.threshold() == fitted.threshold()
    with pytest.raises(RuntimeError, match="not fitted"):
        light.score(TEST)


@pytest.mark.parametrize("acceptance", [0.5, 0.95, 1.0])
def test_the_threshold_accepts_its_share_of_nominal_validation_images(acceptance):
    fitted = rule_for("top_half_mean")
    accepted = np.mean(fitted.score(VALIDATION) <= fitted.threshold(acceptance))
    assert acceptance <= accepted < acceptance + 2 / len(VALIDATION)


def test_a_single_scorer_keeps_its_auroc():
    fitted = rule_for("max_logit")
    mask = np.arange(len(TEST)) % 3 == 0
    assert auroc(fitted.score(TEST), mask) == pytest.approx(auroc(-TEST.logits.max(axis=1), mask), abs=1e-12)


def test_unfitted_rules_say_so():
    with pytest.raises(RuntimeError, match="not fitted"):
        FrozenRule("max_logit", ["max_logit"]).fuse_scores({"max_logit": np.zeros(2)})
    with pytest.raises(RuntimeError, match="no validation scores"):
        FrozenRule("max_logit", ["max_logit"]).threshold()


# ------------------------------------------------------------------------ empirical CDFs and Fisher's sum
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.lists(st.integers(-6, 6), min_size=1, max_size=8))
def test_the_ecdf_is_the_naive_midrank_with_ties_and_a_tail(nominal, scores):
    nominal, scores = np.sort(np.array(nominal, dtype=float)), np.array(scores, dtype=float)
    for score, found in zip(scores, ecdf(nominal, scores), strict=True):
        count = sum(1.0 if value < score else 0.5 if value == score else 0.0 for value in nominal)
        count += np.log(1 + score - nominal[-1]) if score > nominal[-1] else 0
        count -= np.log(1 + nominal[0] - score) if score < nominal[0] else 0
        assert found == pytest.approx(count / len(nominal), abs=1e-12)


def test_the_tail_of_the_ecdf_orders_whatever_lies_beyond_the_last_validation_score():
    nominal = np.linspace(-2, 2, 50)
    beyond = ecdf(nominal, np.array([2.0, 2.001, 3.0, 50.0, 1e6, 1e12, np.inf]))
    assert np.all(np.diff(beyond) > 0) and beyond[0] == 0.99
    assert beyond[3] < 1 + 4 / 50  # 48 deviations beyond weigh less than four images
    assert np.all(np.diff(ecdf(nominal, np.array([-np.inf, -9.0, -3.0, -2.0]))) > 0)


def test_the_ecdf_mean_is_the_mean_of_naive_cdfs_and_does_not_care_about_scale():
    fitted = rule_for("ecdf_mean")
    scorers = fit_scorers(NAMES, TRAIN, parameters=fitted.parameters, own=OWN)
    raw, test = score_all(scorers, VALIDATION), score_all(scorers, TEST)
    inside = np.all([(test[n] > raw[n].min()) & (test[n] < raw[n].max()) for n in NAMES], axis=0)
    expected = np.mean([[np.mean(raw[n] < s) + np.mean(raw[n] == s) / 2 for s in test[n]] for n in NAMES], axis=0)
    assert inside.sum() > 20
    np.testing.assert_allclose(fitted.score(TEST)[inside], expected[inside], atol=1e-12)
    bent = FrozenRule("ecdf_mean", NAMES, own=OWN).fit_scores({n: 3 * s - 7 for n, s in raw.items()})
    np.testing.assert_allclose(bent.fuse_scores({n: 3 * s - 7 for n, s in test.items()}), fitted.score(TEST), atol=1e-9)


def test_surprise_and_fishers_sum_against_scipy():
    from scipy.stats import combine_pvalues, norm

    z = {"msp": np.array([-1.0, 0.0, 2.5]), "margin": np.array([0.3, 0.0, 8.0]), "knn": np.array([1.0, -4.0, 3.0])}
    families = {"msp": "probability", "margin": "probability", "knn": "distance"}
    for place in range(3):
        p = norm.sf([score[place] for score in z.values()])
        assert 2 * fuse("fisher_sum", z, families)[place] == pytest.approx(combine_pvalues(p, "fisher").statistic)
        p = norm.sf([(z["msp"][place] + z["margin"][place]) / 2, z["knn"][place]])
        assert 2 * fuse("fisher_family", z, families)[place] == pytest.approx(combine_pvalues(p, "fisher").statistic)
    far = surprise(np.array([0.0, 50.0, 1e6, 1e12, np.inf]))  # where 1 - Φ is 0 in floats
    assert far[0] == pytest.approx(np.log(2)) and np.all(np.diff(far) > 0)
    assert far[2] == pytest.approx(5e11, rel=1e-6)


def test_a_fold_is_fused_as_the_frozen_rule_would_from_its_kept_images():
    """By every rule: standardised fold scores give what a rule fitted on the raw ones gives."""
    parameters = settle_parameters(VALIDATION, NAMES, own=OWN)
    scorers = fit_scorers(NAMES, TRAIN, parameters=parameters, own=OWN)
    kept, held_out = score_all(scorers, VALIDATION), score_all(scorers, TEST)
    mask = np.repeat([0, 1], [len(VALIDATION), len(TEST)]).astype(np.uint8)
    standardised = {n: Standardiser.fit(kept[n])(np.r_[kept[n], held_out[n]]) for n in NAMES}
    for rule in (*RULES, "knn"):
        fitted = FrozenRule(rule, members_of(rule, NAMES), own=OWN).fit_scores(kept)
        expected = auroc(np.r_[fitted.fuse_scores(kept), fitted.fuse_scores(held_out)], mask)
        ours = {name: standardised[name] for name in fitted.members}
        assert fused_fold_auroc(rule, ours, fitted.families, mask) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ValueError, match="nominal validation"):
        fuse("ecdf_mean", standardised, {})
