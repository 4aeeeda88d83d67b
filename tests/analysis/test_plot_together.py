"""Figures drawn by helpers are those drawn alone, and none is lost where a helper cannot draw."""

from __future__ import annotations

import sys

import matplotlib
import pytest

from analysis import plot_together
from analysis.card import Figure
from analysis.plot_curves import draw_curve
from analysis.plot_together import draw_figures

CURVE = {"x_label": "false positives", "y_label": "true positives",
         "series": [{"label": "scorer", "x": [0, 1], "y": [0, 1], "low": [0, 0.9], "high": [0.1, 1]}]}


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(plot_together, "cores", lambda: 2)


def figures(count, draw=draw_curve):
    return {f"f{i}": Figure(f"f{i}", {**CURVE, "title": f"Figure {i}"}, draw, f"alt {i}", "caption") for i in range(count)}


@pytest.mark.slow
def test_a_helpers_figures_are_those_drawn_alone_byte_for_byte(two_cores, monkeypatch):
    asked, here = figures(2 * plot_together.WORTH), []
    real = plot_together._drawn
    monkeypatch.setattr(plot_together, "_drawn", lambda figure: here.append(figure.name) or real(figure))
    with matplotlib.rc_context({"axes.labelsize": 30, "axes.linewidth": 5}):  # a notebook's own style, which no helper knows
        together = draw_figures(asked)
    assert here == list(asked)[::2]  # the others are the helper's work
    monkeypatch.setattr(plot_together, "cores", lambda: 1)
    alone = draw_figures(asked)
    assert list(together) == list(alone) == list(asked) and together == alone


def nobody(*_):
    raise AssertionError("no helper is wanted")


def test_few_figures_are_not_worth_a_helper(two_cores, monkeypatch):
    monkeypatch.setattr(plot_together, "_Helper", nobody)
    assert list(draw_figures(figures(2))) == ["f0", "f1"]
    assert draw_figures({}) == {}


def test_one_that_cannot_travel_is_drawn_here(two_cores):
    found = draw_figures(figures(2 * plot_together.WORTH, lambda data, width: draw_curve(data, width=width)))
    assert len(found) == 2 * plot_together.WORTH and all(drawn.wide for drawn in found.values())


@pytest.mark.parametrize("program", ["/bin/false", "/not/there"])
def test_a_helper_that_fails_loses_nothing(two_cores, monkeypatch, program):
    monkeypatch.setattr(sys, "executable", program)
    asked = figures(2 * plot_together.WORTH)
    assert list(draw_figures(asked)) == list(asked)


def fails(data, *, width):
    raise ValueError("no such thing can be drawn")


def test_what_else_a_helper_prints_does_not_matter(two_cores, monkeypatch, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("print('hello')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    here, real = [], plot_together._drawn
    monkeypatch.setattr(plot_together, "_drawn", lambda figure: here.append(figure.name) or real(figure))
    asked = figures(2 * plot_together.WORTH)
    assert list(draw_figures(asked)) == list(asked) and here == list(asked)[::2]


def test_a_mistake_in_a_drawing_is_told(two_cores):
    asked = figures(2 * plot_together.WORTH)
    asked["f1"] = figures(2, fails)["f1"]  # of a helper's share
    with pytest.raises(ValueError, match="no such thing can be drawn"):
        draw_figures(asked)
