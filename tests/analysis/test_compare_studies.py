"""Studies beside each other: differences against scipy and by hand, words that never say more than the numbers bear."""
from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import fake_summaries as fake
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.compare_differences import Side, shared_splits, welch
from analysis.compare_studies import compare_studies, differing, flat, spec_differences, version_differences
from analysis.compare_words import headline, page, sentences, tables, terminal_text
from analysis.plot_compare import difference_data, draw_all, ladder_data


def study(label, aurocs, *, vault="v", classes=None, **over) -> Side:
    """A study whose selected trials have these AUROCs: {method: [one a split]}; vaults v0, v1 …"""
    splits = len(next(iter(aurocs.values())))
    rows = []
    for method, values in aurocs.items():
        for split, value in enumerate(values):
            row = fake.trial_row(method, split, 0, 0.8, np.random.default_rng(split))
            row.update(selected=True, scorer_auroc=value, scorer_auroc_ci=[value - 0.02, value + 0.02])
            rows.append(row)
    names = classes or [[f"c{split}", f"d{split}"] for split in range(splits)]
    summary = {"study": label, "rows": rows, "nominal_classes": {str(s): names[s] for s in range(splits)},
               "counts": {"completed": len(rows), "failed": 0, "pruned": 0}, "method_ranking": [{"method": next(iter(aurocs))}],
               "nominal_only": False, "contaminated": False, "prior_reveals": 0, **over}
    return Side(label, summary, f"runs/{label}", vaults={s: f"{vault}{s}" for s in range(splits)},
                views={s: f"view{s}" for s in range(splits)})


def scorer(data, number=0):
    return data["differences"][number]["measures"]["scorer"]


A, B = [0.80, 0.84, 0.78, 0.90], [0.83, 0.88, 0.80, 0.95]


def test_paired_over_splits_is_the_paired_t_test():
    from scipy.stats import ttest_rel

    found = compare_studies([study("a", {"m": A}), study("b", {"m": B})])
    test = ttest_rel(B, A)
    low, high = test.confidence_interval(0.95)
    item = scorer(found)
    assert item["basis"] == "splits" and item["splits"] == 4
    assert item["difference"] == pytest.approx(np.mean(B) - np.mean(A), abs=1e-12)
    assert (item["low"], item["high"]) == pytest.approx((low, high), abs=1e-12)
    assert item["p_value"] == pytest.approx(test.pvalue, rel=1e-9)
    assert item["means"] == pytest.approx([np.mean(A), np.mean(B)])
    assert found["differences"][0]["verdict"] == "higher" and found["differences"][0]["sure"] == "result"
    turned = compare_studies([study("b", {"m": B}), study("a", {"m": A})])
    assert turned["differences"][0]["verdict"] == "lower"
    assert scorer(turned)["low"] == pytest.approx(-high, abs=1e-12)


def test_unpaired_over_splits_is_welchs_test():
    from scipy.stats import ttest_ind

    theirs = [0.93, 0.97, 0.96]
    found = compare_studies([study("a", {"m": A}), study("b", {"m": theirs}, vault="w")])
    test = ttest_ind(theirs, A, equal_var=False)
    low, high = test.confidence_interval(0.95)
    item = scorer(found)
    assert item["basis"] == "unpaired splits" and item["p_value"] == pytest.approx(test.pvalue, rel=1e-9)
    assert (item["low"], item["high"]) == pytest.approx((low, high), abs=1e-12)
    assert headline(found).endswith("] (other test images).")
    assert welch([[0.5, 0.5], [0.5, 0.5]], 0.0) == (0.0, 1.0)
    assert welch([[0.5, 0.5], [0.6, 0.6]], 0.1)[1] is None


def test_splits_of_one_class_set_count_once():
    from scipy.stats import ttest_ind

    names = [["x", "y"], ["y", "x"], ["x", "z"], ["y", "z"]]
    theirs = [0.93, 0.97, 0.96]
    found = compare_studies([study("a", {"m": A}, classes=names), study("b", {"m": theirs}, vault="w")])
    draws = [(A[0] + A[1]) / 2, A[2], A[3]]
    test = ttest_ind(theirs, draws, equal_var=False)
    assert scorer(found)["high"] - scorer(found)["low"] == pytest.approx(np.diff(test.confidence_interval(0.95))[0], abs=1e-12)
    assert scorer(found)["difference"] == pytest.approx(np.mean(theirs) - np.mean(A), abs=1e-12)
    paired = compare_studies([study("a", {"m": A}, classes=names), study("b", {"m": B})])
    from scipy.stats import t, ttest_rel

    pairs = [[(v[0] + v[1]) / 2, v[2], v[3]] for v in (B, A)]
    error = np.std(np.subtract(*pairs), ddof=1) / math.sqrt(3)
    assert scorer(paired)["p_value"] == pytest.approx(2 * t.sf((np.mean(B) - np.mean(A)) / error, 2), rel=1e-9)
    low, high = ttest_rel(*pairs).confidence_interval(0.95)
    assert scorer(paired)["high"] - scorer(paired)["low"] == pytest.approx(high - low, abs=1e-12)


def test_one_split_of_the_same_images_takes_what_the_pairing_says():
    asked = []

    def pair(*key):
        asked.append(key)
        return {"scorer": (0.05, 0.01, 0.09, 0.012), "oracle": (0.01, -0.02, 0.04, 0.5)}

    found = compare_studies([study("a", {"m": [0.80]}), study("b", {"m": [0.85]})], pair=pair)
    line = found["differences"][0]
    assert asked == [(1, ("m", 0), ("m", 0))]
    assert line["measures"]["scorer"] == {
        "difference": pytest.approx(0.05), "low": pytest.approx(0.01), "high": pytest.approx(0.09), "p_value": 0.012,
        "basis": "paired", "splits": 1, "means": pytest.approx([0.80, 0.85])}
    assert (line["verdict"], line["sure"]) == ("higher", "lead")
    assert line["measures"]["accuracy"]["basis"] == "none"
    assert "a lead: one set of classes" in headline(found)


def test_single_studies_of_other_images_get_the_recovered_interval():
    found = compare_studies([study("a", {"m": [0.80]}), study("b", {"m": [0.85]}, vault="w")])
    item = scorer(found)
    reach = math.hypot(0.02, 0.02)
    assert item["basis"] == "images"
    assert (item["low"], item["high"]) == pytest.approx((0.05 - reach, 0.05 + reach), abs=1e-12)
    assert item["p_value"] == pytest.approx(math.erfc(0.05 / reach * 1.959964 / math.sqrt(2)), rel=1e-5)
    assert "may come from the data alone" in " ".join(sentences(found))


def test_one_class_set_against_several_of_other_images_has_no_interval():
    found = compare_studies([study("a", {"m": A}), study("b", {"m": [0.2]}, vault="w")])
    assert scorer(found)["basis"] == "none" and scorer(found)["low"] is None
    assert found["differences"][0]["verdict"] == "unknown"
    assert "can be judged" in headline(found)
    assert "for an interval" in " ".join(sentences(found))


def test_only_shared_splits_are_differenced_and_matched_by_their_digest():
    second = study("b", {"m": [0.5, 0.95, 0.80, 0.88, 0.83]})
    second = replace(second, vaults={0: "other", 1: "v3", 2: "v2", 3: "v1", 4: "v0"})
    first = study("a", {"m": A})
    assert shared_splits(first, second) == [(0, 4), (1, 3), (2, 2), (3, 1)]
    found = compare_studies([first, second])
    assert scorer(found) == scorer(compare_studies([first, study("b", {"m": B})]))
    assert found["data"][0]["splits"] == [4, 5] and not found["data"][0]["same_nominal"]
    assert "of 4 and 5; the rest is left out" in " ".join(sentences(found))
    assert "different nominal images" in " ".join(sentences(found))


def test_the_same_numbers_differ_by_nothing_and_a_constant_shift_proves_nothing():
    same = compare_studies([study("a", {"m": A}), study("b", {"m": A})])
    assert scorer(same)["p_value"] == 1.0 and same["differences"][0]["verdict"] == "noise"
    assert headline(same) == "No difference from a beyond noise (1 comparison)."
    shifted = compare_studies([study("a", {"m": [0.5, 0.5]}), study("b", {"m": [0.75, 0.75]})])
    assert scorer(shifted)["low"] is None and shifted["differences"][0]["verdict"] == "unknown"


def test_seeds_that_move_more_than_the_difference_drown_it():
    first, second = study("a", {"m": A}), study("b", {"m": B})
    sides = [replace(side, summary=fake.retrained(side.summary, seeds=2, move=move)) for side, move in
             ((first, 0.001), (second, 0.15))]
    found = compare_studies(sides)["differences"][0]
    assert found["drowned_by_seeds"] and found["verdict"] == "noise"
    calm = [replace(side, summary=fake.retrained(side.summary, seeds=2, move=0.001)) for side in (first, second)]
    assert compare_studies(calm)["differences"][0]["verdict"] == "higher"
    assert "another seed" in " ".join(sentences(compare_studies(sides)))


def test_many_comparisons_are_adjusted_together():
    names = [f"m{i}" for i in range(8)]
    # alone the first is a finding (p about 0.02); among eight it is not
    first = study("a", {name: A for name in names})
    second = study("b", {name: [a + d for a, d in zip(A, ((0.02, 0.05, 0.03, 0.06) if name == "m0" else (0.01, -0.01, 0.02, -0.03)))]
                         for name in names})
    found = compare_studies([first, second])["differences"]
    p_value = found[0]["measures"]["scorer"]["p_value"]
    assert p_value < 0.05 <= found[0]["p_adjusted"] and found[0]["verdict"] == "noise"
    assert found[0]["p_adjusted"] == pytest.approx(8 * p_value)
    alone = compare_studies([study("a", {"m0": A}), study("b", {"m0": [v + d for v, d in zip(A, (0.02, 0.05, 0.03, 0.06))]})])
    assert alone["differences"][0]["verdict"] == "higher"


def test_noise_is_seldom_called_a_difference():
    random = np.random.default_rng(5)
    wrong = 0
    for _ in range(250):
        hard = 0.8 + 0.05 * random.standard_normal(3)

        def noisy(hard=hard):
            return {name: (hard + 0.01 * random.standard_normal(3)).tolist() for name in ("m", "n")}

        wrong += any(line["verdict"] in ("higher", "lower") for line in compare_studies(
            [study("a", noisy()), study("b", noisy())])["differences"])
    assert wrong <= 22  # 5 % of 250 and three standard errors


def test_methods_ranked_first_are_compared_where_they_differ():
    first, second = study("a", {"m": A, "n": B}), study("b", {"n": B, "m": A})
    found = compare_studies([first, second])["differences"]
    assert [(line["against"], line["method"]) for line in found] == [("m", "m"), ("n", "n"), ("m", "n")]
    assert found[2]["measures"]["scorer"]["difference"] == pytest.approx(np.mean(B) - np.mean(A))
    apart = compare_studies([study("a", {"m": A}), study("b", {"n": B})])
    assert [(line["against"], line["method"]) for line in apart["differences"]] == [("m", "n")]
    assert "n of b scores higher than m of a by" in headline(apart)


def test_three_studies_are_each_held_against_the_first():
    data = compare_studies([study("a", {"m": A}), study("b", {"m": B}), study("c", {"m": A})])
    assert [(line["study"], line["label"], line["verdict"]) for line in data["differences"]] == [
        (1, "b", "higher"), (2, "c", "noise")]
    assert [entry["studies"][1]["scorer"]["value"] for entry in data["methods"]] == [pytest.approx(np.mean(B))]
    assert headline(data).startswith("m of b scores higher than that of a by 0.035 [")
    with pytest.raises(ValueError, match="two studies"):
        compare_studies([study("a", {"m": A})])


# ----------------------------------------------------------------------------------------- how they were made
def test_only_differing_keys_of_the_specs_are_told():
    spec = fake.spec()
    other = fake.spec(trials=20, space={"hybrid": {"reconstruction_weight": {"low": 1e-3, "high": 5.0, "log": True}}})
    sides = [replace(study("a", {"m": A}), spec=spec), replace(study("b", {"m": A}), spec={**other, "name": "b"})]
    assert spec_differences(sides) == [
        {"key": "search.trials", "values": [12, 20]},
        {"key": "search.space.hybrid.reconstruction_weight", "values": ["0.001 to 10 (log)", "0.001 to 5 (log)"]},
    ]
    ranges = [{"hybrid": {"reconstruction_weight": {"low": 1, "high": high}, "dropout": {"low": 0, "high": high}}}
              for high in (2, 3)]
    made = [replace(side, summary={**side.summary, "rows": [{**row, "method": "hybrid"} for row in side.summary["rows"]],
                                   "spaces": space}) for side, space in zip(sides, ranges)]
    # what the spec itself narrows is told once; what only the tool's defaults changed is told, too
    assert [item["key"] for item in spec_differences(made)] == [
        "search.trials", "search.space.hybrid.reconstruction_weight", "searched.hybrid.dropout"]


def test_versions_that_differ():
    stamps = [{"packages": {"torch": "2.1", "numpy": "2"}, "git": {"commit": "a" * 40, "dirty": False}, "made_at": "x"},
              {"packages": {"torch": "2.2", "numpy": "2"}, "git": None, "made_at": "y"}]
    sides = [replace(study(name, {"m": A}), stamp=stamp) for name, stamp in zip("ab", stamps)]
    assert version_differences(sides) == [
        {"key": "packages.torch", "values": ["2.1", "2.2"]}, {"key": "git.commit", "values": ["a" * 40, None]},
        {"key": "git.dirty", "values": [False, None]}]
    assert "aaaaaaaaaaaa " in terminal_text(compare_studies(sides), width=80)


values = st.one_of(st.integers(0, 2), st.booleans(), st.text("ab", max_size=1), st.lists(st.integers(0, 1), max_size=2))


@given(st.lists(st.dictionaries(st.sampled_from("pqr"), values), min_size=2, max_size=3))
def test_differing_keys_against_a_naive_loop(made):
    expected = {}
    for key in {key for table in made for key in table}:
        texts = {json.dumps(table.get(key)) for table in made}
        if len(texts) > 1:
            expected[key] = [table.get(key) for table in made]
    assert {item["key"]: item["values"] for item in differing(made)} == expected


def test_flat_keys():
    assert flat({"a": {"b": 1, "c": {"d": [2]}}, "e": {}}) == {"a.b": 1, "a.c.d": [2]}


# ------------------------------------------------------------------------------------------------------ words
def full():
    first = study("digits", {"classifier": A, "hybrid": B, "csi_unlabelled_with_a_long_name": A})
    second = study("a_study_with_quite_a_long_name", {"hybrid": A, "classifier": B}, contaminated=True, prior_reveals=2)
    return [replace(first, spec=fake.spec()), replace(second, spec=fake.spec(sampler="random", trials=100))]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_terminal_text_fits(width):
    text = terminal_text(compare_studies(full()), width=width)
    assert max(map(len, text.splitlines())) <= width
    assert not re.search(r"nan|None|\binf\b", text)
    for expected in ("search.sampler", "Only in digits: csi_unlabelled_with_a_long_name", "0.830 ", "higher"):
        assert expected in text


def test_caveats_are_told():
    said = " ".join(sentences(compare_studies(full())))
    assert "a_study_with_quite_a_long_name is marked contaminated" in said
    assert "had been revealed 2 times before" in said
    assert "to choose on test labels" in said
    apart = [study("a", {"m": A}), study("b", {"m": A}, vault="w")]
    assert "test labels" not in " ".join(sentences(compare_studies(apart)))


def test_a_study_without_anomalies_is_compared_in_words():
    made = fake.nominal_only()
    sides = [study("a", {"classifier": A}), Side("plain", {**made, "method_ranking": []})]
    data = compare_studies(sides)
    assert data["differences"] == []
    assert headline(data) == "No detection to compare: plain holds no anomalies."
    text = terminal_text(data, width=80)
    assert "plain holds no anomalies" in text and "nan" not in text
    json.dumps(data, allow_nan=False)


def test_nothing_in_common():
    sides = [study("a", {"m": A}, method_ranking=[]), study("b", {"n": A}, method_ranking=[])]
    assert headline(compare_studies(sides)) == "Nothing to compare: no method of a was measured in another study."


def test_missing_numbers_never_raise():
    first, second = full()
    for row in second.summary["rows"]:
        row.update(scorer_auroc=None, oracle_detector_auroc=float("nan"), scorers=None)
    data = compare_studies([first, second])
    assert data["differences"] and all(line["verdict"] == "unknown" for line in data["differences"])
    assert all("scorer" not in line["measures"] for line in data["differences"])
    assert not re.search(r"nan|None", terminal_text(data, width=80))


def test_the_page_is_self_contained_and_escapes():
    first, second = full()
    second = replace(second, label="<b>two</b>", summary={**second.summary, "study": "<b>two</b>"})
    sides = [first, second]
    data = compare_studies(sides)
    figures = draw_all(data, [(side.label, side.summary) for side in sides])
    text = page(data, figures)
    assert set(figures) == {"differences", "ladders"}
    assert "<b>two" not in text and "&lt;b&gt;two" in text
    assert not re.search(r'(src|href)="(https?:)?//', text)
    assert not re.search(r"\bnan\b|\bNone\b", re.sub(r'fill[^"]*none|"none"', "", text))
    for table in tables(data):
        assert table.caption in text


def test_figures_show_the_numbers_of_the_tables():
    data = compare_studies([study("a", {"m": A, "alone": A}), study("b", {"m": B})])
    moved = difference_data(data)
    assert [(line["label"], line["clear"]) for line in moved["lines"]] == [("m · b", True)]
    assert moved["lines"][0]["value"] == scorer(data)["difference"]
    assert moved["title"] == "1 of 1 difference from a beyond noise"
    ladders = ladder_data([(side.label, side.summary) for side in (study("a", {"m": A, "alone": A}), study("b", {"m": B}))])
    assert [(panel["method"], panel["label"]) for panel in ladders["panels"]] == [("m", "a"), ("m", "b")]
    assert ladders["panels"][1]["bars"][0]["value"] == pytest.approx(np.mean(B))
