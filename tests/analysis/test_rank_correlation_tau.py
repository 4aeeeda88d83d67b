"""Mean Kendall τ over splits and what its interval holds for."""

import math

import numpy as np
import pytest

from analysis.rank_correlation import Tau, kendall_tau, mean_tau

CLASSES = {"nominal_classes": {str(split): [str(split), "x"] for split in range(9)}}


def test_three_sets_of_classes_give_a_t_interval():
    taus = {0: 0.2, 1: 0.4, 2: 0.3, 3: None}
    found = mean_tau(CLASSES, taus, dict.fromkeys(taus, 12))
    reach = 4.302652729911275 * 0.1 / math.sqrt(3)  # t(0.975, 2), standard deviation 0.1
    assert found[:3] == pytest.approx((0.3, 0.3 - reach, 0.3 + reach))
    assert found[3:] == ("splits", 3) and found.sign == 1


def test_splits_of_one_class_set_are_one_draw():
    alike = {"nominal_classes": {"0": ["a"], "1": ["a"], "2": ["a"], "3": ["b"]}}
    found = mean_tau(alike, {0: 0.1, 1: 0.2, 2: 0.3, 3: 0.4}, dict.fromkeys(range(4), 12))
    assert found.basis == "trials" and found.value == pytest.approx(0.25) and found.splits == 4


def test_few_splits_give_fishers_interval_over_trials():
    found = mean_tau(CLASSES, {0: 0.5}, {0: 24})
    reach = 1.959963984540054 * math.sqrt(0.437 / 20)
    assert found.basis == "trials" and found.value == 0.5
    middle = math.atanh(0.5)
    assert (found.low, found.high) == pytest.approx((math.tanh(middle - reach), math.tanh(middle + reach)))
    two = mean_tau(CLASSES, {0: 0.5, 1: 0.5}, {0: 24, 1: 24})
    assert math.atanh(two.high) - math.atanh(0.5) == pytest.approx(reach / math.sqrt(2))


def test_no_number_and_no_interval():
    assert mean_tau(CLASSES, {0: None}, {0: 20}) is None and mean_tau(CLASSES, {}, {}) is None
    found = mean_tau(CLASSES, {0: 0.5, 1: 0.1}, {})
    assert found == Tau(pytest.approx(0.3), None, None, "none", 2) and found.sign == 0
    assert mean_tau(CLASSES, {0: 1.0}, {0: 12}).high < 1


def test_intervals_stay_within_one():
    found = mean_tau(CLASSES, {0: -0.9, 1: 0.9, 2: 0.8}, {})
    assert found.low == -1.0 and found.high == 1.0 and found.sign == 0


def test_the_interval_over_trials_covers():
    """Bivariate normal with τ = 0.5, 24 trials, one split: 95 % within simulation's noise."""
    random, hits, rounds = np.random.default_rng(0), 0, 400
    rho = math.sin(math.pi / 4)
    for _ in range(rounds):
        x = random.normal(size=24)
        y = rho * x + math.sqrt(1 - rho**2) * random.normal(size=24)
        found = mean_tau(CLASSES, {0: kendall_tau(list(x), list(y))}, {0: 24})
        hits += found.low <= 0.5 <= found.high
    assert 0.92 <= hits / rounds <= 0.98


def test_the_interval_lies_about_the_mean_of_all_splits():
    alike = {"nominal_classes": {"0": ["a"], "1": ["a"], "2": ["b"], "3": ["c"]}}
    found = mean_tau(alike, {0: 0.5, 1: 0.5, 2: 0.3, 3: 0.2}, {})
    assert found.basis == "splits" and found.value == pytest.approx(0.375)  # the mean of the three sets is 1/3
    assert (found.low + found.high) / 2 == pytest.approx(0.375)
