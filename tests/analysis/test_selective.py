"""Risk and coverage against a loop over every order of the ties, closed forms, and simulation."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import selective


def naive(scores, errors) -> float:
    """Mean over all orders that the scores allow of the mean risk."""
    found = []
    for order in permutations(range(len(scores))):
        if all(scores[a] <= scores[b] for a, b in pairwise(order)):
            wrong = np.cumsum([errors[i] for i in order])
            found.append(np.mean(wrong / np.arange(1, len(scores) + 1)))
    return float(np.mean(found))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=6))
def test_every_order_of_tied_images_counts_alike(pairs):
    scores, errors = zip(*pairs)
    assert selective.aurc(scores, errors) == pytest.approx(naive(scores, errors), abs=1e-12)
    assert selective.excess_aurc(scores, errors) >= -1e-12


def test_a_plain_loop_without_ties():
    random = np.random.default_rng(0)
    scores, errors = random.normal(size=500), random.random(500) < 0.2
    order, wrong, risks = np.argsort(scores), 0, []
    for k, image in enumerate(order, 1):
        wrong += errors[image]
        risks.append(wrong / k)
    coverage, risk = selective.risk_coverage_curve(scores, errors)
    assert risk == pytest.approx(risks, abs=1e-12) and coverage == pytest.approx(np.arange(1, 501) / 500)
    assert selective.aurc(scores, errors) == pytest.approx(np.mean(risks), abs=1e-12)


def test_closed_forms():
    errors = np.repeat([False, True], [90, 10])
    assert selective.aurc(np.zeros(100), errors) == pytest.approx(0.1)  # a score that says nothing: the error rate
    best = sum((k - 90) / k for k in range(91, 101)) / 100
    assert selective.best_aurc(errors) == pytest.approx(best) and selective.aurc(np.arange(100), errors) == pytest.approx(best)
    assert selective.excess_aurc(np.arange(100), errors) == pytest.approx(0)
    r = 0.1  # Geifman et al. 2019: the best is about r + (1 − r) ln(1 − r)
    assert selective.best_aurc(np.repeat([0, 1], [9000, 1000])) == pytest.approx(r + (1 - r) * np.log(1 - r), abs=1e-3)
    assert selective.risk_coverage_curve([1.0], [True])[1].tolist() == [1.0]


def test_anomalies_are_errors_whatever_they_are_called():
    assert selective.open_set_errors([0, 0, 1, 1], [1, 0, 1, 0]).tolist() == [False, True, True, True]


def test_thinning_keeps_the_end_and_few_points():
    coverage, risk = selective.risk_coverage_curve(np.arange(1000), np.arange(1000) % 7 == 0)
    found = selective.thinned(coverage, risk, points=40)
    assert len(found["coverage"]) == 40 and found["coverage"][-1] == 1 and found["risk"][-1] == pytest.approx(risk[-1], abs=1e-5)
    few = selective.thinned(coverage[:3], risk[:3])
    assert len(few["coverage"]) == 3


@pytest.mark.parametrize(("aimed", "validation", "test"), [(0.95, 216, 216), (0.9, 50, 400), (0.99, 80, 100)])
def test_acceptance_lies_where_it_should(aimed, validation, test):
    """Thresholds of random scores, 4,000 times: the interval holds at least 95 % of them, and not nearly all."""
    random = np.random.default_rng(1)
    k = int(np.ceil(aimed * validation - 1e-9))
    threshold = np.sort(random.random((4000, validation)), axis=1)[:, k - 1]
    accepted = (random.random((4000, test)) <= threshold[:, None]).mean(axis=1)
    low, high = selective.acceptance_interval(aimed, validation, test)
    inside = np.mean((accepted >= low - 1e-9) & (accepted <= high + 1e-9))
    assert 0.945 <= inside <= 0.99


@pytest.mark.parametrize(("scores", "errors"), [([], []), ([1.0, np.nan], [0, 1]), ([1.0], [0, 1]), ([[1.0]], [[0]])])
def test_what_is_no_curve_is_refused(scores, errors):
    with pytest.raises(ValueError):
        selective.aurc(scores, errors)
