"""Means and standard errors over splits, and the README's table."""
from __future__ import annotations

from statistics import mean, stdev

import fake_summaries as fake
import pytest

from analysis import over_splits


def line_of(made, method):
    return next(line for line in over_splits.over_splits(made) if line["method"] == method)


def test_mean_and_standard_error_of_the_selected_trials():
    made = fake.summary(splits=(0, 1, 2))
    line = line_of(made, "hybrid")
    chosen = [row for row in made["rows"] if row["method"] == "hybrid" and row["selected"]]
    for key, field in (("scorer", "scorer_auroc"), ("linear_oracle", "linear_oracle_auroc"), ("regret", "regret")):
        values = [row[field] for row in chosen]
        assert line[key] == pytest.approx((mean(values), stdev(values) / 3**0.5, 3))
    assert line["splits"] == line["of_splits"] == 3


def test_splits_of_the_same_classes_are_one_draw_in_the_error_and_two_in_the_mean():
    made = fake.summary(splits=(0, 1, 2))
    made["nominal_classes"] = {"0": ["a", "b"], "1": ["b", "a"], "2": ["a", "c"]}
    values = [row["scorer_auroc"] for row in made["rows"] if row["method"] == "hybrid" and row["selected"]]
    found = line_of(made, "hybrid")["scorer"]
    assert found.value == pytest.approx(mean(values))
    assert found.error == pytest.approx(abs((values[0] + values[1]) / 2 - values[2]) / 2)  # stdev of two is |a − b|/√2
    made["nominal_classes"]["2"] = ["a", "b"]
    assert line_of(made, "hybrid")["scorer"].error is None


def test_one_split_has_no_error():
    assert line_of(fake.summary(), "hybrid")["scorer"].error is None
    assert " ± " not in over_splits.markdown(fake.summary())


def test_retrained_seeds_count_neither_as_splits_nor_in_means():
    made = fake.summary(splits=(0, 1))
    assert over_splits.over_splits(fake.retrained(made)) == over_splits.over_splits(made)


def test_a_method_that_failed_keeps_its_line():
    made = fake.nine(methods=("hybrid", "jem"), trials=3, failed={"jem": 3, "hybrid": 1})
    line = line_of(made, "jem")
    assert (line["splits"], line["of_splits"], line["failed"], line["trials"], line["scorer"].value) == (0, 3, 9, 9, None)
    text = over_splits.markdown(made).splitlines()
    assert text[3] == "| jem |" + " – |" * 9 + " 0 of 3 | 9 of 9 |"
    assert text[2].endswith("| 3 | 3 of 9 |")


def test_a_split_without_a_selected_trial_is_left_out_and_told():
    made = fake.summary(splits=(0, 1))
    for row in made["rows"]:
        if row["method"] == "hybrid" and row["split"] == 1:
            row.update(state="failed", selected=False, scorer_auroc=None)
    line = line_of(made, "hybrid")
    assert (line["splits"], line["of_splits"], line["scorer"].n, line["scorer"].error) == (1, 2, 1, None)
    assert "| 1 of 2 |" in over_splits.markdown(made)


def test_the_readmes_table_holds_the_numbers():
    made = fake.summary(methods=("classifier",))
    row = next(row for row in made["rows"] if row["selected"])
    head, rule, line = over_splits.markdown(made).splitlines()
    assert head.count("|") == rule.count("|") == line.count("|")
    assert line == (
        f"| classifier | {row['closed_set_accuracy']:.3f} | {row['scorer_auroc']:.3f} | {row['scorers']['max_logit']:.3f} | "
        f"{row['oracle_detector_auroc']:.3f} | {row['linear_oracle_auroc']:.3f} | {row['oracle_representation_auroc']:.3f} | "
        f"{row['extraction_gap']:+.3f} | {row['representation_gap']:+.3f} | {row['regret']:.3f} ({row['regret_crossfit']:.3f}) | "
        "1 | 0 of 12 |")


def test_nothing_revealed_is_dashes():
    text = over_splits.markdown(fake.nominal_only())
    assert "nan" not in text.lower() and "None" not in text and text.count("–") >= 18
