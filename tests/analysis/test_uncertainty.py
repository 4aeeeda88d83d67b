"""DeLong's intervals against the quadratic definition, their coverage, and what happens where variance vanishes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.metrics import auroc, equal_error_rate
from analysis.uncertainty import (
    bootstrap_interval,
    delong_interval,
    mean_and_standard_error,
    paired_delong,
)


def two_scores(seed, anomalies=60, nominal=90, lift=1.0, ties=False):
    generator = np.random.default_rng(seed)
    mask = np.repeat([True, False], [anomalies, nominal])
    common = generator.normal(size=mask.size) + lift * mask
    a, b = common + generator.normal(size=mask.size), common + 0.5 * generator.normal(size=mask.size)
    return (np.round(a), np.round(b), mask) if ties else (a, b, mask)


def naive_covariance(a, b, mask):
    """DeLong's covariance of (AUROC(a), AUROC(b)) from all pairs, as the paper writes it."""
    def placements(score):
        wins = (score[mask][:, None] > score[~mask][None]) + 0.5 * (score[mask][:, None] == score[~mask][None])
        return wins.mean(axis=1), wins.mean(axis=0)

    (a10, a01), (b10, b01) = placements(a), placements(b)
    return np.cov(a10, b10) / mask.sum() + np.cov(a01, b01) / (~mask).sum()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_intervals_against_the_quadratic_definition(seed, ties):
    a, b, mask = two_scores(seed, ties=ties)
    covariance = naive_covariance(a, b, mask)
    area, low, high = delong_interval(a, mask)
    assert area == auroc(a, mask)
    logit = np.log(area / (1 - area))
    reach = 1.959963984540054 * np.sqrt(covariance[0, 0]) / (area * (1 - area))
    expected = 1 / (1 + np.exp(-np.array([logit - reach, logit + reach])))
    np.testing.assert_allclose([low, high], expected, atol=1e-10)

    paired = paired_delong(a, b, mask)
    error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert paired.difference == pytest.approx(auroc(a, mask) - auroc(b, mask), abs=1e-12)
    assert paired.z == pytest.approx(paired.difference / error, abs=1e-8)
    assert paired.high - paired.low == pytest.approx(2 * 1.959963984540054 * error, abs=1e-10)


@pytest.mark.parametrize("lift, anomalies, nominal", [(0.5, 40, 60), (2.0, 40, 60), (3.0, 12, 20)])
def test_coverage_is_near_its_level(lift, anomalies, nominal):
    from scipy.stats import norm

    truth = norm.cdf(lift / np.sqrt(2))
    generator = np.random.default_rng(1)
    mask = np.repeat([True, False], [anomalies, nominal])
    inside = 0
    for _ in range(1000):
        _, low, high = delong_interval(generator.normal(size=mask.size) + lift * mask, mask)
        inside += low <= truth <= high
    assert 0.92 <= inside / 1000 <= 0.995


def test_paired_coverage_and_false_alarms():
    generator = np.random.default_rng(2)
    mask = np.repeat([True, False], [50, 70])
    rejected = 0
    for _ in range(600):
        common = generator.normal(size=mask.size) + mask
        noise = generator.normal(size=(2, mask.size))
        rejected += paired_delong(common + noise[0], common + noise[1], mask).p_value < 0.05
    assert 0.025 <= rejected / 600 <= 0.08


@given(st.integers(1, 30), st.integers(1, 30), st.integers(-4, 4), st.integers(0, 10_000))
def test_intervals_hold_the_estimate_and_stay_inside(anomalies, nominal, lift, seed):
    a, b, mask = two_scores(seed, anomalies, nominal, lift, ties=seed % 2 == 0)
    area, low, high = delong_interval(a, mask)
    assert 0 <= low <= area <= high <= 1
    paired = paired_delong(a, b, mask)
    assert -1 <= paired.low <= paired.difference <= paired.high <= 1
    assert 0 <= paired.p_value <= 1 and np.isfinite(paired.z)
    mirrored = paired_delong(b, a, mask)
    np.testing.assert_allclose(mirrored, (-paired.difference, -paired.high, -paired.low, paired.p_value, -paired.z),
                               atol=1e-12)


def test_perfect_separation_gives_the_exact_one_sided_bound():
    mask = np.repeat([True, False], [30, 50])
    area, low, high = delong_interval(mask.astype(float), mask)
    assert (area, high) == (1.0, 1.0)
    assert low == pytest.approx(0.05 ** (1 / 30))
    assert delong_interval(-mask.astype(float), mask) == pytest.approx((0.0, 0.0, 1 - 0.05 ** (1 / 30)))


def test_the_bound_at_one_covers():
    """Among draws that come out at AUROC 1, a true value below the bound appears in at most 5 % of all draws."""
    from scipy.stats import norm

    generator = np.random.default_rng(3)
    mask = np.repeat([True, False], 20)
    bound = 0.05 ** (1 / 20)
    lift = np.sqrt(2) * norm.ppf(bound - 1e-6)
    missed = sum(delong_interval(generator.normal(size=40) + lift * mask, mask)[0] == 1.0 for _ in range(1000))
    assert missed / 1000 <= 0.05


@pytest.mark.parametrize("scores, mask", [
    (np.zeros(20), np.arange(20) < 8), ([1.0, 1.0], [0, 1]), ([0.0, 1.0, 2.0], [0, 1, 0])])
def test_without_a_variance_the_interval_is_wide_not_empty(scores, mask):
    area, low, high = delong_interval(scores, mask)
    assert area == 0.5 and low < 0.3 and high > 0.7


def test_two_perfect_scores_may_still_differ():
    mask = np.repeat([True, False], [30, 30])
    generator = np.random.default_rng(0)
    a, b = 10 * mask + generator.random((2, 60))
    paired = paired_delong(a, b, mask)
    assert (paired.difference, paired.p_value, paired.z) == (0.0, 1.0, 0.0)
    assert paired.high == pytest.approx(1 - 0.025 ** (1 / 30))  # half the error to each of the two intervals
    assert paired.low == -paired.high
    assert paired_delong(a, np.exp(a), mask) == (0.0, 0.0, 0.0, 1.0, 0.0)


def test_a_perfect_against_a_constant_score():
    mask = np.repeat([True, False], [200, 200])
    paired = paired_delong(mask.astype(float), np.zeros(400), mask)
    assert paired.difference == 0.5 and paired.low > 0.3 and paired.p_value < 1e-6 and paired.z > 4


@pytest.mark.parametrize("level", [0, 1, 95])
def test_a_level_outside_is_refused(level):
    with pytest.raises(ValueError, match="level"):
        delong_interval([0.0, 1.0], [0, 1], level)


def test_bootstrap_agrees_with_delong_and_repeats():
    a, _, mask = two_scores(5, 150, 150)
    _, low, high = delong_interval(a, mask)
    value, boot_low, boot_high = bootstrap_interval(auroc, a, mask, resamples=400, seed=1)
    assert value == auroc(a, mask)
    assert abs(boot_low - low) < 0.02 and abs(boot_high - high) < 0.02
    assert bootstrap_interval(equal_error_rate, a, mask, resamples=20, seed=1) == bootstrap_interval(
        equal_error_rate, a, mask, resamples=20, seed=1)


def test_mean_and_standard_error():
    assert mean_and_standard_error([1.0, 2.0, 3.0]) == pytest.approx((2.0, 1 / np.sqrt(3)))
    assert mean_and_standard_error([4.0]) == (4.0, None)
    with pytest.raises(ValueError, match="no values"):
        mean_and_standard_error([])
