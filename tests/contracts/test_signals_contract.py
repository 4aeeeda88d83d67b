"""Every registered signal keeps the same contract."""

import math

import pytest

from analysis.checks import check_signal
from analysis.signals import better, get_signal, objective, signal_names


@pytest.fixture(params=signal_names())
def name(request):
    return request.param


def test_the_record_is_whole(name):
    info = get_signal(name)
    assert info.name == name and info.title and info.cost and info.needs and info.paper
    assert info.direction in ("maximize", "minimize") and info.url.startswith("https://")


def test_the_public_check_passes(name):
    """Nothing anomalous is needed, and what is computed is a finite number of the nominal features."""
    check_signal(get_signal(name))


def test_objective_keeps_the_size_and_orders_by_direction(name):
    sign = 1 if get_signal(name).direction == "maximize" else -1
    assert objective(0.3, name) == sign * 0.3
    assert better(0.3, 0.2, name) == (sign == 1) and better(0.2, 0.3, name) == (sign == -1)


@pytest.mark.parametrize("missing", [None, math.nan])
def test_a_missing_value_is_never_best(name, missing):
    assert objective(missing, name) == -math.inf
    assert better(0.5, missing, name) and not better(missing, 0.5, name) and not better(missing, missing, name)
