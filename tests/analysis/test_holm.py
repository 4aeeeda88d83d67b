"""Holm's adjustment against its definition, and Student's paired p against scipy."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.holm import holm, paired_t_p_value

P_VALUES = st.lists(st.one_of(st.none(), st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.05, 1.0])), max_size=9)


def closed_testing(p_values):
    """Holm as the closure of Bonferroni: a test is adjusted to the largest Bonferroni p of all families that hold it."""
    adjusted = []
    for index, p in enumerate(p_values):
        others = [q for place, q in enumerate(p_values) if place != index]
        families = (extra for size in range(len(others) + 1) for extra in itertools.combinations(others, size))
        adjusted.append(max(min(1.0, (1 + len(extra)) * min(p, *extra, 1.0)) for extra in families))
    return adjusted


def stepwise_rejections(p_values, alpha):
    """Holm's own words: from the smallest up, stop at the first that is above alpha over those left."""
    found = set()
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] > alpha / (len(p_values) - rank):
            break
        found.add(index)
    return found


def test_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm({"b": 0.5, "a": None, "c": 0.02}) == {"b": 0.5, "a": None, "c": 0.04}
    assert holm([]) == [] and holm({}) == {} and holm([None, None]) == [None, None] and holm([0.7]) == [0.7]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_is_the_closure_of_bonferroni(p_values):
    assert holm(p_values) == pytest.approx(closed_testing(p_values), abs=1e-12)


@given(st.lists(st.integers(0, 1000).map(lambda n: n / 1000), min_size=1, max_size=8), st.sampled_from([0.0137, 0.0503, 0.2003]))
def test_rejects_what_holm_rejects_step_by_step(p_values, alpha):
    assert {i for i, p in enumerate(holm(p_values)) if p <= alpha} == stepwise_rejections(p_values, alpha)


@given(P_VALUES)
def test_order_bounds_and_missing(p_values):
    adjusted = holm(p_values)
    known = [(p, q) for p, q in zip(p_values, adjusted, strict=True) if p is not None]
    assert [q is None for q in adjusted] == [p is None for p in p_values]
    assert all(p <= q <= min(1, p * len(known)) + 1e-15 for p, q in known)
    ordered = [q for _, q in sorted(known)]
    assert ordered == sorted(ordered)
    assert holm(p_values[::-1]) == adjusted[::-1]
    assert list(holm(dict(enumerate(p_values))).values()) == adjusted


@pytest.mark.parametrize("wrong", [float("nan"), -0.1, 1.2])
def test_what_is_no_p_value_is_refused(wrong):
    with pytest.raises(ValueError, match="p-value"):
        holm([0.1, wrong])


def test_family_wise_error_is_kept():
    """Ten true hypotheses of correlated statistics: even one false finding in at most 5 % of studies."""
    from scipy.stats import norm

    random = np.random.default_rng(0)
    z = (random.normal(size=(4000, 1)) + random.normal(size=(4000, 10))) / np.sqrt(2)
    false = np.mean([min(holm(list(row))) <= 0.05 for row in 2 * norm.sf(np.abs(z))])
    assert 0.02 < false <= 0.055


@pytest.mark.parametrize("size", [2, 3, 10])
def test_paired_t_against_scipy(size):
    from scipy.stats import ttest_1samp

    differences = list(np.random.default_rng(size).normal(0.5, 1, size))
    assert paired_t_p_value(differences) == pytest.approx(ttest_1samp(differences, 0).pvalue, rel=1e-10)
    assert paired_t_p_value([-d for d in differences]) == pytest.approx(paired_t_p_value(differences))


def test_without_noise_nothing_is_claimed():
    assert paired_t_p_value([0.1]) is None and paired_t_p_value([]) is None
    assert paired_t_p_value([0.1, 0.1, 0.1]) == 1.0 and paired_t_p_value([0.0, 0.0]) == 1.0
