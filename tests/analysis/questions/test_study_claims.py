"""The study's claims: what is planted is found with the right number and sign, what is not there is not claimed."""

import json

import fake_evidence
import fake_summaries
import numpy as np
import pytest

from analysis import paired_tests as tests
from analysis.comparison import compare, mean_interval
from analysis.gaps import evaluate_scores
from analysis.holm import holm
from analysis.paired_tests import Gap
from analysis.plot_base import NARROW, WIDE, finish
from analysis.questions import answer
from analysis.questions import study_claims as question
from analysis.uncertainty import paired_delong, placements

SPLITS = (0, 1, 2, 3, 4, 5)


def distinct(made):
    return made | {"nominal_classes": {str(s): ["a", str(s)] for s in {row["split"] for row in made["rows"]}}}


def planted(moves=None, *, methods=("classifier", "hybrid"), splits=SPLITS, noise=0.002, seed=0):
    """Splits of unlike difficulty; the gaps are ``moves`` and normal noise."""
    moves = {"extraction": 0.05, "representation": 0.0, "reconstruction": 0.0, **(moves or {})}
    made = distinct(fake_summaries.summary(methods=methods, splits=splits, trials=2, seed=seed))
    random = np.random.default_rng(seed)
    hard = {split: 0.8 + 0.02 * split for split in splits}
    for row in made["rows"]:
        shift = lambda: float(random.normal(0, noise))  # noqa: E731
        rule = hard[row["split"]] + shift()
        oracle = rule + moves["extraction"] + moves["reconstruction"] * (row["method"] == "hybrid") + shift()
        row.update(scorer_auroc=rule, oracle_detector_auroc=oracle, scorer_auroc_ci=[rule - 0.03, rule + 0.03],
                   oracle_detector_ci=[oracle - 0.02, oracle + 0.02], extraction_gap_ci=[oracle - rule - 0.02, oracle - rule + 0.02])
        if row["selected"]:
            row.update(oracle_representation_auroc=oracle + moves["representation"] + shift(), representation_gap_ci=None)
    return made


def result_of(made, measured=None):
    return question.compute(fake_evidence.study_evidence(made, {"study_claims": measured or {}}))


def named(result, name, part="questions"):
    return next(line for line in result[part] if line["name"] == name)


def test_a_planted_gap_is_found_and_none_where_there_is_none():
    result = result_of(planted())
    assert named(result, "extraction")["verdict"] == "yes"
    assert named(result, "extraction")["low"] < 0.05 < named(result, "extraction")["high"]
    assert named(result, "representation")["verdict"] == "no difference beyond noise"
    assert named(result, "reconstruction")["verdict"] == "no difference beyond noise"
    assert [line["verdict"] for line in result["methods"]["extraction"]] == ["yes", "yes"]
    assert result["pairs"][0]["verdict"] == "no difference beyond noise"


@pytest.mark.parametrize("move, verdict", [(0.03, "yes"), (-0.03, "the other way")])
def test_reconstruction_either_way(move, verdict):
    result = result_of(planted({"reconstruction": move}))
    assert named(result, "reconstruction")["verdict"] == verdict
    assert named(result, "reconstruction")["difference"] == pytest.approx(move, abs=0.003)
    assert named(result, "reconstruction_scorer")["verdict"] == "no difference beyond noise"


def test_numbers_are_the_t_test_of_the_splits_and_holm_over_the_family():
    from scipy.stats import ttest_rel

    made = planted({"extraction": 0.004, "reconstruction": 0.002}, noise=0.004, seed=3)
    result = result_of(made)
    chosen = {(row["method"], row["split"]): row for row in made["rows"] if row["selected"]}
    oracle = {m: [chosen[m, s]["oracle_detector_auroc"] for s in SPLITS] for m in ("classifier", "hybrid")}
    rule = {m: [chosen[m, s]["scorer_auroc"] for s in SPLITS] for m in ("classifier", "hybrid")}
    for line in result["methods"]["extraction"]:
        assert line["p_value"] == pytest.approx(ttest_rel(oracle[line["method"]], rule[line["method"]]).pvalue)
    found = named(result, "reconstruction")
    assert found["p_value"] == pytest.approx(ttest_rel(oracle["hybrid"], oracle["classifier"]).pvalue)
    differences = [a - b for a, b in zip(oracle["hybrid"], oracle["classifier"], strict=True)]
    assert (found["low"], found["high"]) == pytest.approx(mean_interval(differences))
    pooled = (np.array(oracle["hybrid"]) - rule["hybrid"] + np.array(oracle["classifier"]) - rule["classifier"]) / 2
    assert named(result, "extraction")["difference"] == pytest.approx(pooled.mean())
    assert named(result, "extraction")["p_value"] == pytest.approx(ttest_rel(pooled, 0 * pooled).pvalue)
    main = [line for line in result["questions"] if line["name"] in question.MAIN]
    beside = [line for line in result["questions"] if line["name"] not in question.MAIN]
    assert [line["name"] for line in main] == list(question.MAIN) and len(beside) == 2
    for family in (main, beside, result["methods"]["extraction"], result["observations"], result["pairs"]):
        assert [line["p_adjusted"] for line in family] == holm([line["p_value"] for line in family])


def evidence(method, *, move=0.0, split=0, seed=0):
    """Evidence whose oracle score is a true score plus noise; ``move`` lifts its anomalies."""
    made = fake_evidence.trial_evidence(method=method, split=split, selected=True, distance=1.5, layers=False)
    random = np.random.default_rng([seed, split, len(method)])
    common = np.random.default_rng([9, split]).normal(size=len(made.is_anomaly)) + made.is_anomaly
    made.stored["frozen_rule"] = made.stored["frozen_rule"] + 0.2 * random.normal(size=len(common))
    made.stored["oracle_detector"] = common + move * made.is_anomaly + 0.3 * random.normal(size=len(common))
    made.stored["oracle_representation"] = made.stored["oracle_detector"] + 0.2 * made.is_anomaly
    return made


def revealed(found):
    """The rows that a reveal would write for this evidence."""
    made = {"rows": [], "nominal_classes": {}}
    for one in found:
        row = evaluate_scores(is_anomaly=one.is_anomaly, scorers={name: one.stored[name] for name in one.scorers},
                              frozen=one.stored["frozen_rule"], oracle_detector=one.stored["oracle_detector"],
                              oracle_representation=one.stored["oracle_representation"])
        made["rows"].append({**row, "method": one.method, "split": one.split, "trial": one.trial, "seed": 0,
                             "state": "completed", "selected": True, "params": {}})
        made["nominal_classes"][str(one.split)] = list(one.nominal_classes)
    return made, {one.key: json.loads(json.dumps(question.measure(one), allow_nan=False)) for one in found}


def test_on_one_split_the_intervals_are_paired_delong():
    one, other = evidence("classifier"), evidence("hybrid", move=0.5)
    made, measured = revealed([one, other])
    result = result_of(made, measured)
    for name, pair in {"reconstruction": (other, one, "oracle_detector"), "reconstruction_scorer": (other, one, "frozen_rule")}.items():
        a, b, score = pair
        exact = paired_delong(a.stored[score], b.stored[score], a.is_anomaly)
        found = named(result, name)
        assert (found["difference"], found["low"], found["high"]) == pytest.approx(exact[:3], abs=1e-5)
        assert found["p_value"] == pytest.approx(exact.p_value, rel=0.01) and found["basis"] == "images"
    assert named(result, "reconstruction")["verdict"] == "yes"
    for line, found in zip(result["methods"]["representation"], (one, other), strict=True):
        exact = paired_delong(found.stored["oracle_representation"], found.stored["oracle_detector"], found.is_anomaly)
        assert (line["low"], line["high"]) == pytest.approx((exact.low, exact.high))
    assert result["errors_needed"]["questions"] is None and result["class_sets"] == 1


def test_without_measured_arrays_the_cautious_interval_of_the_rows_is_used():
    made, measured = revealed([evidence("classifier"), evidence("hybrid")])
    paired, cautious = (named(result_of(made, found), "reconstruction") for found in (measured, None))
    assert paired["difference"] == cautious["difference"] and cautious["basis"] == "images"
    assert cautious["low"] < paired["low"] < paired["high"] < cautious["high"]
    other = json.loads(json.dumps([[*key, value] for key, value in measured.items()]))
    strange = {tuple(key): {**value, "images": str(key)} for *key, value in other}  # not the same test images
    assert named(result_of(made, strange), "reconstruction")["low"] == cautious["low"]
    assert named(result_of(made, strange), "extraction")["low"] == named(result_of(made, measured), "extraction")["low"]


def test_placements_survive_packing():
    random = np.random.default_rng(0)
    mask = random.random(300) < 0.3
    found = placements(np.round(random.normal(size=300), 1), mask)
    back = question.unpacked(json.loads(json.dumps(question._packed(found))), int(mask.sum()))
    assert back.area == found.area
    np.testing.assert_allclose(back.of_anomalies, found.of_anomalies, atol=0.5 / question.STEPS)
    np.testing.assert_allclose(back.of_nominal, found.of_nominal, atol=0.5 / question.STEPS)


def test_observations_of_generalised_odin():
    one, other = evidence("classifier"), evidence("generalized_odin")
    base, random = other.stored["oracle_detector"], np.random.default_rng(1)
    own = {"max_logit": base, "godin_h": base, "godin_h_perturbed": base + 30 * random.normal(size=len(base)), "odin": base.copy(), "godin_g": -base}
    other.stored.update(own)
    object.__setattr__(other, "scorers", (*other.scorers, *list(own)[1:]))
    result = result_of(*revealed([one, other]))
    moved = named(result, "odin_perturbation", "observations")
    exact = paired_delong(own["godin_h_perturbed"], own["godin_h"], other.is_anomaly)
    assert (moved["difference"], moved["low"], moved["high"]) == pytest.approx(exact[:3])
    assert moved["verdict"] == "the other way" and moved["agrees"] == "yes"
    same = named(result, "odin_and_max_logit", "observations")
    assert (same["difference"], same["low"], same["high"], same["p_value"]) == (0, 0, 0, 1)
    assert same["verdict"] == "no difference beyond noise" and same["agrees"] == "yes"
    godin = named(result, "godin_own", "observations")
    exact = paired_delong(own["godin_h"], one.stored["max_logit"], one.is_anomaly)
    assert (godin["low"], godin["high"]) == pytest.approx((exact.low, exact.high), abs=1e-5)


@pytest.mark.parametrize("low, high, agrees", [(0.001, 0.015, "yes"), (0.03, 0.05, "no"), (-0.05, -0.01, "no"),
                                               (-0.01, 0.015, "open"), (0.01, 0.03, "open"), (None, None, "open")])
def test_agreement_is_all_or_nothing_of_the_interval(low, high, agrees):
    assert question._agrees({"low": low, "high": high}, (0.0, 0.02)) == agrees
    assert question._agrees({"low": low, "high": high}, None) is None


def test_splits_of_one_class_set_are_one_draw():
    gaps = {split: Gap(d, d - 0.01, d + 0.03) for split, d in enumerate([0.02, 0.04, 0.06])}
    found = tests.over_splits({"nominal_classes": {str(s): ["a"] for s in gaps}}, gaps)
    assert (found["difference"], found["low"], found["high"], found["basis"]) == (
        pytest.approx(0.04), pytest.approx(0.03), pytest.approx(0.07), "images")
    assert found["p_value"] == pytest.approx(4.6e-15, rel=1)  # 0.04 is four reaches of 0.01 from 0
    without = tests.over_splits({"nominal_classes": {str(s): ["a"] for s in gaps}}, {**gaps, 1: Gap(0.04)})
    assert (without["low"], without["p_value"], without["basis"]) == (None, None, "none")
    assert tests.judged([without])[0]["verdict"] == "not known"
    mixed = {"nominal_classes": {"0": ["a"], "1": ["a"], "2": ["b"]}}
    shared, drawn = tests.over_splits(mixed, gaps), mean_interval([0.03, 0.06])
    assert shared["draws"] == 2 and shared["basis"] == "splits"
    assert shared["high"] - shared["low"] == pytest.approx(drawn[1] - drawn[0])


@pytest.mark.parametrize("move", [0.03, -0.03])
def test_a_difference_smaller_than_another_seed_makes_is_noise(move):
    made = planted({"extraction": 0.05})
    for row in made["rows"]:
        row["scorer_auroc"] += move * (row["method"] == "hybrid")
    assert result_of(made)["pairs"][0]["verdict"] == "yes"
    again = fake_summaries.retrained(made, seeds=4, move=0.2)
    pair = result_of(again)["pairs"][0]
    assert pair["seed_noise"] and pair["verdict"] == "no difference beyond noise" and pair["p_adjusted"] < 0.05
    result = result_of(again)
    assert result["repeated_seeds"] and not (pair["low"] < 0 < pair["high"])
    words = [cell for table in question.card(result).tables for row in table.cells for cell in row]
    assert "no difference beyond noise (another training seed makes as much)" in words
    result["questions"][0].update({**pair, "on_these_images": "no difference beyond noise"})
    assert ", p " not in question.card(result).headline


def test_pairs_agree_with_the_comparison_of_methods():
    made = distinct(fake_summaries.summary(methods=("a", "b", "c"), splits=SPLITS, trials=3, seed=5))
    for line in result_of(made)["pairs"]:
        found = compare(made, line["first"], line["second"])
        assert (line["difference"], line["low"], line["high"]) == pytest.approx((found.difference, found.low, found.high))
        assert line["difference"] >= 0


def test_too_few_splits_is_said():
    few, many = (result_of(planted(splits=tuple(range(n)))) for n in (3, 12))
    assert few["errors_needed"]["questions"] == pytest.approx(7.6488, abs=1e-3) and many["errors_needed"]["questions"] < 4
    assert any("too few splits" in text and "p = 0.25" in text for text in question.card(few).sentences)
    assert not any("too few" in text for text in question.card(many).sentences)
    one = question.card(result_of(planted(splits=(0,)))).sentences
    assert any("run more splits" in text for text in one)
    assert tests.errors_needed(1, 5) is None and tests.errors_needed(31, 1) == pytest.approx(2.042, abs=1e-3)


def test_the_headline_names_no_winner_within_noise():
    headline = question.card(result_of(planted())).headline
    assert headline.startswith("More in the latent space than the frozen rule reads: yes (+0.0")
    assert "more through reconstruction: no difference beyond noise (" in headline


CASES = {
    "one trial": fake_summaries.summary(methods=("classifier",), trials=1),
    "one method": fake_summaries.summary(methods=("jem",), splits=(0, 1)),
    "nine": distinct(fake_summaries.nine(trials=3)),
    "failed": fake_summaries.summary(trials=2, splits=(0, 1), failed={"hybrid": 2}),
    "bare": {"rows": [{"method": "a", "split": 0, "trial": 0, "state": "completed", "selected": True, "scorer_auroc": 0.8}]},
}


@pytest.mark.parametrize("made", CASES.values(), ids=list(CASES))
def test_whatever_is_missing_there_is_an_answer_and_a_card(made):
    result = answer(question.QUESTION, fake_evidence.study_evidence(made))
    json.dumps(result, allow_nan=False)
    card = question.card(json.loads(json.dumps(result)))
    assert card.headline and all(card.sentences)
    for figure in card.figures:
        figure.draw(figure.data, width=NARROW)


def test_without_a_revealed_trial_the_reason_is_said():
    made = fake_summaries.nominal_only()
    assert "revealed" in answer(question.QUESTION, fake_evidence.study_evidence(made))["not_applicable"]


def test_what_cannot_be_scored_is_left_out_of_what_is_measured():
    one = evidence("classifier")
    one.stored["oracle_detector"] = np.full(len(one.is_anomaly), np.nan)
    del one.stored["oracle_representation"]
    found = question.measure(one)
    assert found["gaps"] == [] and set(found["placements"]) == {"frozen_rule", "max_logit"}


def test_figures_mark_noise_without_colour():
    figures = question.card(result_of(*revealed([evidence("classifier"), evidence("hybrid", move=1.0)]))).figures
    axes = figures[0].draw(figures[0].data, width=WIDE).axes
    faces = {line.get_markerfacecolor() for axis in axes for line in axis.lines if line.get_marker() in ("o", "s")}
    assert "white" in faces and len(faces) > 1
    assert all(axis.get_xlabel() for axis in axes)
    drawn = finish("study_claims", figures[0].data, figures[0].draw, figures[0].alt, "")
    assert "NaN" not in drawn.wide and drawn.files["study_claims.png"][:4] == b"\x89PNG"


@pytest.mark.parametrize("turned", [False, True])
def test_recorded_comparisons_are_used_whichever_way_they_were_written(turned):
    made = planted(splits=(0,))
    first, second, ci = ("classifier", "hybrid", [-0.02, -0.05]) if turned else ("hybrid", "classifier", [0.02, 0.05])
    made["comparisons"] = [{"first": first, "second": second, "split": 0, "ci": sorted(ci)}]
    found = named(result_of(made), "reconstruction_scorer")
    assert (found["low"], found["high"], found["basis"]) == (0.02, 0.05, "images")


def test_a_method_that_failed_on_a_split_takes_it_from_no_other():
    made = planted({"extraction": 0.05})
    for row in made["rows"]:
        if row["method"] == "hybrid" and row["split"] == 0:
            row.update(state="failed", selected=False, scorer_auroc=None)
        elif row["method"] == "hybrid":
            row["oracle_detector_auroc"] += 0.2
    found = named(result_of(made), "extraction")
    assert found["splits"] == len(SPLITS) and (found["methods"], found["of_methods"]) == (1, 2)
    assert found["difference"] == pytest.approx(0.05, abs=0.005)
    assert "(1 of 2 methods)" in question.card(result_of(made)).tables[0].cells[0][0]


def test_what_the_images_show_and_the_splits_do_not_is_worded_so():
    gaps = {0: Gap(0.02, 0.015, 0.025), 1: Gap(0.08, 0.075, 0.085)}
    line = tests.judged([tests.over_splits({}, gaps)])[0]
    assert line["verdict"] == "no difference beyond noise" and line["on_these_images"] == "yes"
    result = result_of(planted())
    result["questions"][0].update(line)
    assert "reads: yes on these splits, not shown for others (+0.050 [−" in question.card(result).headline
    p_values = [0.03, 0.04, 0.2]
    lines = tests.judged({**line, "images": {"low": 0, "high": 1, "p_value": p}} for p in p_values)
    assert [one["on_these_images"] for one in lines] == ["no difference beyond noise"] * 3  # Holm: 0.09 at best


def test_what_only_the_number_of_tests_makes_noise_is_worded_so():
    lines = [tests.over_splits({}, {0: Gap(0.02, 0.001, 0.039)}) for _ in range(3)]
    result = result_of(planted())
    result["questions"][0].update(tests.judged(lines)[0])
    assert question.card(result).headline.startswith(
        "More in the latent space than the frozen rule reads: no difference beyond noise after Holm (+0.020 [+0.001, +0.039], p 0.1")
