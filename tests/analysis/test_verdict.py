from __future__ import annotations

import math

import fake_summaries as fake
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from analysis import cautions, comparison
from analysis.verdict import gap_sentences, verdict


def two(a: float, b: float, *, half: float = 0.02, **over):
    """One split, one trial each: methods "a" and "b" with these AUROCs and intervals of ± half."""
    rows = []
    for method, auroc in (("a", a), ("b", b)):
        row = fake.trial_row(method, 0, 0, 0.8, fake.np.random.default_rng(0))
        rows.append(row | {"scorer_auroc": auroc, "scorer_auroc_ci": [auroc - half, auroc + half], "selected": True})
    return {"study": "s", "prior_reveals": 0, "rows": rows, **over}


def many(a: list[float], b: list[float]):
    rows = []
    for split, pair in enumerate(zip(a, b, strict=True)):
        for row in two(*pair)["rows"]:
            rows.append(row | {"split": split})
    return {"study": "s", "rows": rows}


def test_one_split_beyond_noise_is_a_lead_not_a_win():
    found = verdict(two(0.90, 0.80), selection={"method_ranking": ["a", "b"]})
    assert (found.kind, found.trust, found.revealed_winner, found.frozen_winner) == ("lead", "lead", "a", "a")
    assert found.headline == "a leads by 0.100 AUROC"
    assert "a lead, not a result" in found.trust_text
    assert "also ranked a first" in " ".join(found.sentences)


def test_overlap_is_never_a_winner():
    found = verdict(two(0.82, 0.80))
    assert found.kind == "noise"
    assert found.headline.startswith("No winner")
    assert "within noise" in found.headline


def test_selection_that_chose_the_worse_method_is_told():
    found = verdict(two(0.90, 0.80), selection={"method_ranking": [{"method": "b"}, {"method": "a"}]})
    assert "although the selection ranked b first" in found.headline
    assert "it chose the method that detects worse" in " ".join(found.sentences)


def test_selection_that_differs_within_noise_is_not_blamed():
    found = verdict(two(0.81, 0.80), selection={"method_ranking": ["b", "a"]})
    assert "the difference is within noise" in " ".join(found.sentences)
    assert "worse" not in " ".join(found.sentences)


def test_several_splits_can_win():
    found = verdict(many([0.90, 0.88, 0.91, 0.89], [0.85, 0.84, 0.855, 0.84]))
    assert found.kind == "winner"
    assert found.headline.startswith("a wins by 0.0")
    assert "four splits, one seed" in found.trust_text


def test_split_interval_is_the_paired_t_interval():
    a, b = [0.90, 0.88, 0.93], [0.85, 0.86, 0.84]
    found = comparison.compare(many(a, b), "a", "b")
    expected = ttest_rel(a, b).confidence_interval(0.95)
    assert found.basis == "splits"
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_one_split_interval_adds_variances_and_is_widened_for_more_rivals():
    found = comparison.compare(two(0.9, 0.8, half=0.03), "a", "b")
    assert found.difference - found.low == pytest.approx(math.hypot(0.03, 0.03))
    wider = comparison.compare(two(0.9, 0.8, half=0.03), "a", "b", rivals=5)
    assert (wider.difference - wider.low) / (found.difference - found.low) == pytest.approx(2.5758 / 1.95996, abs=1e-3)


@given(st.floats(0.5, 1), st.floats(0.5, 1), st.floats(0.001, 0.2))
@settings(max_examples=60, deadline=None)
def test_comparison_is_antisymmetric_and_noise_is_never_announced(a, b, half):
    made = two(a, b, half=half)
    one, other = comparison.compare(made, "a", "b"), comparison.compare(made, "b", "a")
    assert one.difference == pytest.approx(-other.difference)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert not (one.beyond_noise and other.beyond_noise)
    if abs(a - b) <= half:
        assert verdict(made).kind == "noise"


def test_recorded_paired_interval_is_preferred_in_either_order():
    made = two(0.82, 0.80) | {"comparisons": [{"first": "b", "second": "a", "split": 0, "ci": [-0.03, -0.01]}]}
    found = comparison.compare(made, "a", "b")
    assert (found.basis, found.low, found.high) == ("paired", pytest.approx(0.01), pytest.approx(0.03))
    assert verdict(made).kind == "lead"


def test_seeds_that_differ_by_more_drown_the_difference():
    made = two(0.90, 0.80)
    assert verdict(fake.retrained(made, seeds=4, move=0.002)).kind == "lead"
    found = verdict(fake.retrained(made, seeds=4, move=0.09))
    assert found.kind == "noise"
    assert "another seed" in " ".join(found.sentences)


def test_single_method_has_nothing_to_win():
    found = verdict(fake.summary(methods=("classifier",)))
    assert found.kind == "single"
    assert "no other method" in found.headline


def test_nominal_only_says_what_was_selected():
    made = fake.nominal_only()
    found = verdict(made, selection=fake.selection(made))
    assert found.kind == "nominal_only"
    assert found.headline == "hybrid was selected; there is nothing to reveal"
    assert len(found.sentences) == 2
    assert "val_accuracy" in found.sentences[0]
    assert not found.gaps


def test_everything_failed():
    found = verdict(fake.summary(failed={"classifier": 12, "hybrid": 12}))
    assert found.kind == "nothing"
    assert any("24 of 24 trials failed" in item.text for item in found.cautions)


def test_contamination_comes_first_and_is_not_softened():
    found = verdict(many([0.90, 0.88, 0.91], [0.80, 0.78, 0.81]) | {"contaminated": True, "prior_reveals": 2})
    assert found.trust == "doubt"
    assert "Do not believe" in found.trust_text
    assert found.cautions[0].level == "stop"
    assert any("revealed 2 times before" in item.text for item in found.cautions)


@pytest.mark.parametrize("missing", [None, float("nan"), float("inf"), "n/a"])
def test_missing_numbers_never_raise_and_never_show(missing):
    made = fake.summary()
    for row in made["rows"]:
        row.update(regret=missing, extraction_gap=missing, oracle_representation_auroc=missing, scorer_auroc_ci=missing)
    found = verdict(made, selection=fake.selection(made))
    words = " ".join((found.headline, *found.sentences, *found.gaps, found.trust_text))
    assert "nan" not in words
    assert "None" not in words
    assert found.kind == "noise"  # without intervals nothing can be shown to be more than noise


def test_gaps_in_words():
    def words(gap, ci, representation=0.1):
        made = two(0.8, 0.7)
        made["rows"][0].update(oracle_detector_auroc=0.8 + gap, extraction_gap=gap, extraction_gap_ci=ci,
                               oracle_representation_auroc=0.8 + gap + representation, representation_gap=representation)
        return gap_sentences(made)[0]

    assert "at least 0.050 is in z but not extracted" in words(0.05, [0.02, 0.08])
    assert "most is lost in the representation" in words(0.05, [0.02, 0.08])
    assert "most is lost by the scorer" in words(0.05, [0.02, 0.08], representation=0.01)
    assert "no extraction gap beyond noise" in words(0.01, [-0.02, 0.04])
    assert "the scorer beats this oracle by 0.050" in words(-0.05, [-0.08, -0.02])
    assert "no representation gap (−0.020)" in words(0.05, [0.02, 0.08], representation=-0.02)


def test_few_and_failed_trials_are_cautions_by_weight():
    texts = {c.text: c.level for c in cautions.find(fake.summary(trials=12, failed={"hybrid": 1}))}
    assert texts == {"1 of 24 trials failed (hybrid 1).": "note"}
    texts = {c.text: c.level for c in cautions.find(fake.summary(trials=8, failed={"hybrid": 4}))}
    assert texts["4 of 16 trials failed (hybrid 4)."] == "care"
    assert any("classifier 8, hybrid 4" in text for text in texts)


def test_a_method_without_a_selected_trial_is_named():
    texts = [c.text for c in cautions.find(fake.summary(failed={"hybrid": 12}))]
    assert "No trial was selected for hybrid (split 0)." in texts


@pytest.mark.parametrize(("value", "limits", "side"), [
    (0.001, {"low": 0.001, "high": 10, "log": True}, "lower"),
    (9.9, {"low": 0.001, "high": 10, "log": True}, "upper"),
    (0.1, {"low": 0.001, "high": 10, "log": True}, None),
    (0.1, {"low": 0.0, "high": 10}, "lower"),
    (0.0, {"low": 0.0, "high": 10, "log": True}, None),
    (5, {"low": 5, "high": 5}, None),
    ("crop", {"low": 0, "high": 1}, None),
    (0.5, ["crop"], None),
])
def test_edge_of_a_range(value, limits, side):
    assert cautions.edge_side(value, limits) == side


def test_edge_is_reported_from_the_spec_and_from_the_searched_space():
    made = fake.summary()
    chosen = next(row for row in made["rows"] if row["selected"] and row["method"] == "hybrid")
    chosen["params"]["reconstruction_weight"] = 0.00101
    assert any("lower edge" in c.text for c in cautions.find(made, spec=fake.spec()))
    wide = made | {"spaces": {"hybrid": {"reconstruction_weight": {"low": 1e-6, "high": 10, "log": True}}}}
    assert not any("edge" in c.text for c in cautions.find(wide, spec=fake.spec()))


def test_a_signal_without_relation_is_told_only_for_random_search():
    made = fake.summary(methods=("classifier",))
    for row in made["rows"]:
        row["signal_value"] = -row["scorer_auroc"]

    def told(spec):
        return any("hardly orders the trials" in c.text for c in cautions.find(made, spec=spec))

    assert told(fake.spec(sampler="random"))
    assert not told(fake.spec(sampler="tpe"))
    assert not any("hardly orders" in c.text for c in cautions.find(fake.summary(), spec=fake.spec(sampler="random")))


def test_what_the_search_gained_over_the_default():
    made = fake.summary(methods=("classifier",))
    start, chosen = made["rows"][0], next(row for row in made["rows"] if row["selected"])
    assert chosen["trial"] != 0
    words = " ".join(verdict(made).sentences)
    assert f"AUROC by +{chosen['scorer_auroc'] - start['scorer_auroc']:.3f}" in words
    chosen["selected"], start["selected"] = False, True
    assert "preferred no other" in " ".join(verdict(made).sentences)


def test_frozen_but_not_yet_revealed_is_said_so():
    made = fake.nominal_only() | {"nominal_only": False, "revealed": False}
    found = verdict(made, selection=fake.selection(made))
    assert found.kind == "nothing"
    assert "not revealed yet" in found.headline
    assert found.sentences[0].startswith("classifier, split 0: trial ")


def test_duplicates_and_unreadable_files_are_counted_apart():
    made = fake.summary(duplicates={"nominal_moved": 3, "anomalous_copies_dropped": 1, "skipped_files": 2})
    texts = [c.text for c in cautions.find(made)]
    assert any(text.startswith("4 images found more than once") for text in texts)
    assert any(text.startswith("2 files could not be read") for text in texts)
    assert cautions.find(fake.summary(duplicates={"nominal_moved": 0, "skipped_files": 0})) == []


def test_a_representation_below_the_oracle_is_doubted_not_called_closed():
    made = fake.summary(methods=("classifier",))
    row = next(row for row in made["rows"] if row["selected"])
    row.update(oracle_representation_auroc=0.5, representation_gap=0.5 - row["oracle_detector_auroc"])
    assert any("cannot be trusted" in c.text for c in cautions.find(made))
    assert "it did not work" in gap_sentences(made)[0]
    row.update(representation_gap=-0.01)
    assert not any("cannot be trusted" in c.text for c in cautions.find(made))
    assert "no representation gap" in gap_sentences(made)[0]


def test_gap_over_several_splits_is_judged_over_the_splits():
    def words(gaps):
        made = many([0.8] * len(gaps), [0.7] * len(gaps))
        for row, gap in zip([r for r in made["rows"] if r["method"] == "a"], gaps, strict=True):
            row.update(extraction_gap=gap, extraction_gap_ci=[gap - 0.06, gap + 0.06])
        return gap_sentences(made)[0]

    assert "not extracted" in words([0.05, 0.055, 0.045])  # each split alone would be noise, together they are not
    assert "no extraction gap beyond noise" in words([0.15, -0.05, 0.05])


def test_an_edge_that_cannot_be_widened_is_no_caution():
    limits = {"low": 0.0, "high": 0.5, "log": False, "natural": ["lower"]}
    assert cautions.edge_side(0.001, limits) is None and cautions.edge_side(0.499, limits) == "upper"
