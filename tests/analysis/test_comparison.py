"""Comparison of methods over splits: splits of the same classes are one draw."""

from __future__ import annotations

import pytest

from analysis.comparison import compare, mean_interval


def summary(differences: list[float], classes: list[list[str]]) -> dict:
    rows = [
        {"method": method, "split": split, "trial": 0, "state": "completed", "selected": True,
         "scorer_auroc": 0.8 + (difference if method == "a" else 0.0), "scorer_auroc_ci": None}
        for split, difference in enumerate(differences) for method in ("a", "b")
    ]
    return {"rows": rows, "nominal_classes": {str(split): names for split, names in enumerate(classes)}}


def test_splits_of_one_class_set_count_once():
    differences = [0.05, 0.03, 0.02, 0.06, 0.01]
    found = compare(summary(differences, [["x", "y"], ["y", "x"], ["x", "z"], ["y", "z"], ["w", "x"]]), "a", "b")
    low, high = mean_interval([0.04, 0.02, 0.06, 0.01])
    shift = sum(differences) / 5 - 0.0325  # the mean stays that of all splits, and the interval lies about it
    assert (found.low, found.high) == (pytest.approx(low + shift), pytest.approx(high + shift))
    assert found.difference == pytest.approx(sum(differences) / 5)


@pytest.mark.parametrize("paired", [True, False])
def test_splits_that_all_have_the_same_classes_share_their_intervals(paired):
    """Their mean is judged by the uncertainty of each, not by the first one's about another's difference."""
    differences, reaches = [0.06, -0.05, 0.0], [0.01, 0.02, 0.03]
    made = summary(differences, [["x", "y"]] * 3)
    if paired:
        made["comparisons"] = [{"first": "a", "second": "b", "split": s, "ci": [d - r, d + r]}
                               for s, (d, r) in enumerate(zip(differences, reaches))]
    else:
        for row in made["rows"]:
            reach = reaches[row["split"]] / 2**0.5
            row["scorer_auroc_ci"] = [row["scorer_auroc"] - reach, row["scorer_auroc"] + reach]
    found = compare(made, "a", "b")
    assert found.difference == pytest.approx(0.01 / 3)
    assert (found.low, found.high) == (pytest.approx(0.01 / 3 - 0.02), pytest.approx(0.01 / 3 + 0.02))


def test_distinct_splits_all_count():
    differences = [0.05, 0.03, 0.02]
    found = compare(summary(differences, [["x", "y"], ["x", "z"], ["y", "z"]]), "a", "b")
    assert found.low == pytest.approx(mean_interval(differences)[0])
    without = compare({"rows": summary(differences, [])["rows"]}, "a", "b")
    assert (without.low, without.high) == (found.low, found.high)


def test_a_retrained_seed_that_failed_is_no_second_selected_trial():
    from analysis import summary_rows

    made = summary([0.05], [["x"]])
    made["rows"].append({**made["rows"][0], "seed": 1, "retrained": True, "state": "failed", "scorer_auroc": None})
    assert len(summary_rows.selected_rows(made)) == 2
    assert compare(made, "a", "b").difference == pytest.approx(0.05)
