"""Rank correlations and what is said about them: right numbers, and no finding in noise."""
from __future__ import annotations

import math

import fake_summaries as fake
import numpy as np
import pytest
from scipy.stats import spearmanr

from analysis import effects
from analysis.rank_correlation import Rho, pooled_spearman


def lines_of(made, method="hybrid", **over):
    table = next(t for t in effects.effects(made, **over)["methods"] if t["method"] == method)
    return {line["parameter"]: line for line in table["lines"]}


def test_one_sample_is_spearmans_rho_with_bonett_and_wrights_interval():
    random = np.random.default_rng(0)
    x = random.normal(size=30)
    y = x + random.normal(size=30)
    found = pooled_spearman([(list(x), list(y))])
    rho = spearmanr(x, y).statistic
    reach = 1.959964 * math.sqrt((1 + rho**2 / 2) / 27)
    assert found.value == pytest.approx(rho)
    assert (found.low, found.high) == pytest.approx((math.tanh(math.atanh(rho) - reach), math.tanh(math.atanh(rho) + reach)), abs=1e-6)
    assert (found.n, found.splits) == (30, 1)


def test_samples_are_pooled_within_so_that_levels_of_splits_do_not_matter():
    x = list(range(10))
    up = [v + 0.1 * (-1) ** v for v in x]
    alone = pooled_spearman([(x, up)])
    both = pooled_spearman([(x, up), (x, [v - 100 for v in up])])
    assert both.value == pytest.approx(alone.value) and both.n == 20 and both.splits == 2
    assert both.low > alone.low
    assert pooled_spearman([(x, up), (x, [-v for v in up])]).value == pytest.approx(0, abs=1e-12)


def test_too_few_pairs_or_no_spread_say_nothing():
    assert pooled_spearman([([1, 2, 3, 4, 5], [1, 2, 3, 4, 5])]) is None
    assert pooled_spearman([([1] * 8, list(range(8)))]) is None
    assert pooled_spearman([]) is None
    few = pooled_spearman([([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]), (list(range(8)), list(range(8)))])
    assert (few.n, few.splits) == (8, 1) and few.high < 1


def test_intervals_hold_what_they_promise():
    """Under independence 0 lies outside of 95 % intervals in about 5 of 100 samples."""
    random = np.random.default_rng(1)
    wrong = sum(pooled_spearman([(list(random.normal(size=12)), list(random.normal(size=12))) for _ in range(3)]).sign != 0
                for _ in range(400))
    assert 5 <= wrong <= 38


def test_effects_that_are_there_are_found_and_no_others():
    found = effects.effects(fake.nine(trials=30))
    said = {(t["method"], line["parameter"]): line["finding"] for t in found["methods"] for line in t["lines"]}
    assert said.pop(("hybrid", "cutout")) == "helps both"
    assert said.pop(("hybrid", "mixup")) == "helps classification, hurts detection"
    assert sum(finding != "within noise" for finding in said.values()) <= 3  # of some sixty lines of pure noise
    sentence = effects.sentence(found)
    assert "helps both: cutout (hybrid)" in sentence and "helps classification, hurts detection: mixup (hybrid)" in sentence


def test_numbers_are_the_rows_own():
    made = fake.nine(methods=("hybrid",), splits=(0,), trials=15)
    line = lines_of(made)["mixup"]
    x = [row["params"]["mixup"] for row in made["rows"]]
    for key, field in (("accuracy", "closed_set_accuracy"), ("scorer", "scorer_auroc"), ("oracle", "oracle_detector_auroc")):
        assert line[key].value == pytest.approx(spearmanr(x, [row[field] for row in made["rows"]]).statistic)
        assert line[key].n == 15
    assert line["role"] == "scientific"


def test_the_level_is_divided_among_the_parameters():
    made = fake.nine(methods=("hybrid",), trials=12)
    (table,) = effects.effects(made)["methods"]
    assert table["level"] == pytest.approx(1 - 0.05 / len(table["lines"]))
    narrow = effects.correlation(made, "hybrid", "mixup", "scorer_auroc")
    wide = lines_of(made)["mixup"]["scorer"]
    assert wide.low < narrow.low < narrow.value == wide.value < narrow.high < wide.high


@pytest.mark.parametrize(("accuracy", "detection", "words"), [
    ((0.1, 0.9), (0.1, 0.9), "helps both"), ((0.1, 0.9), (-0.9, -0.1), "helps classification, hurts detection"),
    ((-0.1, 0.9), (-0.1, 0.9), "within noise"), ((0.1, 0.9), (-0.1, 0.9), "helps classification"),
    ((-0.9, -0.1), (-0.9, -0.1), "hurts both"), ((-0.1, 0.9), (-0.9, -0.1), "hurts detection"),
])
def test_only_intervals_without_zero_count(accuracy, detection, words):
    assert effects.finding(Rho(0.4, *accuracy, 30, 1), Rho(0.4, *detection, 30, 1)) == words


def test_failed_and_few_trials_are_left_out():
    made = fake.nine(methods=("hybrid", "jem"), splits=(0,), trials=7, failed={"jem": 7, "hybrid": 1})
    found = effects.effects(made)
    assert [table["method"] for table in found["methods"]] == ["hybrid"]
    assert all(line["scorer"].n == 6 for line in found["methods"][0]["lines"])
    few = effects.effects(fake.nine(methods=("hybrid",), splits=(0,), trials=5))
    assert few["methods"] == [] and "too few" in effects.sentence(few)
    assert effects.effects(fake.nominal_only())["methods"] == []
    assert effects.effects({"rows": []})["methods"] == []


def test_without_recorded_spaces_every_number_that_varies_is_looked_at():
    made = fake.summary()
    assert set(lines_of(made)) == {"learning_rate", "weight_decay", "label_smoothing", "reconstruction_weight"}


def test_only_a_random_search_is_not_biased():
    made = fake.nine(methods=("hybrid",), trials=6)
    assert effects.effects(made, spec=fake.spec())["biased"] == "biased by the sampler"
    assert effects.effects(made, spec=fake.spec(sampler="random"))["biased"] == ""


def test_augmentations_stand_side_by_side():
    found = effects.effects(fake.nine(methods=("classifier", "hybrid"), trials=30))["augmentations"]
    assert found["methods"] == ["classifier", "hybrid"]
    assert {line["parameter"]: line["cells"][1] for line in found["lines"]}["cutout"] == "helps both"
    assert "learning_rate" not in {line["parameter"] for line in found["lines"]}
