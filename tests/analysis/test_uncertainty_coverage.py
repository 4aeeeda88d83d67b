"""Do the intervals hold what they say? Coverage in simulation at 200 + 200 images, and DeLong against a bootstrap of 10,000."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from analysis.metrics import auroc
from analysis.uncertainty import delong_interval, paired_delong, paired_placements, placements

NORMAL = NormalDist()


def lift(area):
    """Distance of two unit Gaussians whose AUROC this is."""
    return math.sqrt(2) * NORMAL.inv_cdf(area)


@pytest.mark.parametrize("area", [0.8, 0.95])
@pytest.mark.parametrize("rounded", [False, True])
def test_coverage_of_the_95_percent_interval(area, rounded):
    """Rounded scores have ties; their own true AUROC is taken from two discrete distributions."""
    random, runs = np.random.default_rng(5), 2000
    mask = np.repeat([True, False], 200)
    scores = random.normal(size=(runs, 400)) + lift(area) * mask
    if rounded:
        scores, area = np.round(scores), rounded_auroc(lift(area))
    inside = sum(low <= area <= high for _, low, high in (delong_interval(row, mask) for row in scores))
    assert 0.93 <= inside / runs <= 0.97


def rounded_auroc(distance):
    steps = np.arange(-8, 13)
    cuts = np.append(steps - 0.5, steps[-1] + 0.5)
    nominal = np.diff([NORMAL.cdf(cut) for cut in cuts])
    anomalous = np.diff([NORMAL.cdf(cut - distance) for cut in cuts])
    below = np.cumsum(nominal) - nominal / 2
    return float(anomalous @ below)


@pytest.mark.parametrize("areas", [(0.8, 0.8), (0.95, 0.9)])
def test_coverage_of_the_paired_interval(areas):
    random, runs = np.random.default_rng(6), 1500
    mask = np.repeat([True, False], 200)
    common = random.normal(size=(runs, 1, 400))
    own = random.normal(size=(runs, 2, 400))
    scores = (common + own) / math.sqrt(2) + np.array([lift(area) for area in areas])[:, None] * mask
    inside = sum(low <= areas[0] - areas[1] <= high for _, low, high, _, _ in (paired_delong(a, b, mask) for a, b in scores))
    assert 0.93 <= inside / runs <= 0.97


def resampled_areas(scores, mask, draws, random):
    """AUROC of every score in every bootstrap draw, (draws, scores), from the matrix of won pairs."""
    anomalies, nominal = (random.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float32)
                          for n in (mask.sum(), (~mask).sum()))
    found = []
    for score in scores:
        apart = score[mask][:, None] - score[~mask][None]
        wins = ((apart > 0) + 0.5 * (apart == 0)).astype(np.float32)
        found.append(((anomalies @ wins) * nominal).sum(axis=1) / wins.size)
    return np.stack(found, axis=1).astype(np.float64)


@pytest.mark.parametrize("ties", [False, True])
def test_delong_against_a_bootstrap_of_10000(ties):
    random = np.random.default_rng(7)
    mask = np.repeat([True, False], [200, 240])
    common = random.normal(size=mask.size) + 1.2 * mask
    scores = [common + random.normal(size=mask.size), common + 0.6 * random.normal(size=mask.size)]
    scores = [np.round(score, 0 if ties else 9) for score in scores]
    drawn = resampled_areas(scores, mask, 10_000, random)
    for score, areas in zip(scores, drawn.T, strict=True):
        area, low, high = delong_interval(score, mask)
        logits = np.log(areas / (1 - areas))
        ends = np.quantile(logits, [0.025, 0.975])
        assert areas.mean() == pytest.approx(area, abs=5e-4)
        # unbiased DeLong against a plug-in bootstrap: n/(n-1) apart, beside the draws' own noise of 0.7 %
        reach = [math.log(end / (1 - end)) for end in (low, high)]
        assert reach[1] - reach[0] == pytest.approx(2 * 1.96 * logits.std(), rel=0.03)
        assert [low, high] == pytest.approx(1 / (1 + np.exp(-ends)), abs=0.006)
    paired, apart = paired_delong(*scores, mask), drawn[:, 0] - drawn[:, 1]
    assert paired.high - paired.low == pytest.approx(2 * 1.96 * apart.std(), rel=0.03)
    assert [paired.low, paired.high] == pytest.approx(np.quantile(apart, [0.025, 0.975]), abs=0.003)


def test_placements_are_the_naive_shares_and_suffice_for_the_paired_test():
    random = np.random.default_rng(8)
    mask = random.random(60) < 0.4
    a, b = np.round(random.normal(size=(2, 60)) + mask, 1)
    found = placements(a, mask)
    wins = (a[mask][:, None] > a[~mask][None]) + 0.5 * (a[mask][:, None] == a[~mask][None])
    np.testing.assert_allclose(found.of_anomalies, wins.mean(axis=1), atol=1e-12)
    np.testing.assert_allclose(found.of_nominal, wins.mean(axis=0), atol=1e-12)
    assert found.area == auroc(a, mask)
    assert paired_placements(found, placements(b, mask)) == paired_delong(a, b, mask)
    assert paired_placements(found, placements(b, mask), 0.99).high > paired_delong(a, b, mask).high
    other = mask.copy()
    other[np.flatnonzero(~mask)[0]] = True
    with pytest.raises(ValueError, match="same anomalies"):
        paired_placements(found, placements(b, other))


def test_equal_placements_are_a_difference_of_zero_unless_both_are_perfect():
    scores, mask = np.array([1.0, 2.0, 3.0, 4.0, 0.0]), np.array([False, True, False, True, False])
    other = np.array([0.0, 2.0, 3.0, 4.0, 1.0])  # two nominal images change places below every anomaly
    assert paired_placements(placements(scores, mask), placements(other, mask)) == (0.0, 0.0, 0.0, 1.0, 0.0)
    assert paired_delong(scores, other, mask) == (0.0, 0.0, 0.0, 1.0, 0.0)
    perfect = placements(mask.astype(float), mask)
    assert paired_placements(perfect, perfect).high > 0.5
