"""Figures of these tests are drawn in the test's own process, where a warning of the layout is seen."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def figures_are_drawn_here(monkeypatch):
    monkeypatch.setattr("analysis.plot_together._cores", lambda: 1)
