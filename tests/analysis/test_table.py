from __future__ import annotations

import os
from pathlib import Path

import fake_summaries as fake
import pytest

from analysis.table import render_table

SNAPSHOTS = Path(__file__).parents[1] / "snapshots"


def check(name: str, text: str) -> None:
    """Compares with tests/snapshots/<name>.txt; UPDATE_SNAPSHOTS=1 writes it anew (then read the difference)."""
    path = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


CASES = {
    "table_plain": lambda: fake.summary(),
    "table_three_splits": lambda: fake.summary(splits=(0, 1, 2), failed={"hybrid": 3}),
    "table_nominal_only": fake.nominal_only,
    "table_all_failed": lambda: fake.summary(failed={"classifier": 12, "hybrid": 12}),
}


CASES["table_nine_methods"] = lambda: fake.nine(failed={"jem": 12, "csi": 3})


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("name", CASES)
def test_snapshot(name, width):
    made = CASES[name]()
    text = render_table(made, width=width, color=False, selection=fake.selection(made), spec=fake.spec())
    check(f"{name}_{width}", text)


@pytest.mark.parametrize("width", [80, 100])
def test_every_number_fits(width):
    made = fake.summary(methods=("generalized_odin", "csi_unlabelled", "svgd_ensemble"), splits=(0, 10))
    text = render_table(made, width=width, color=False)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text


def test_colour_only_on_request_or_on_a_terminal(monkeypatch):
    made = fake.summary()
    assert "\x1b[" in render_table(made, width=80, color=True)
    plain = render_table(made, width=80, color=False)
    assert "\x1b[" not in plain
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in render_table(made, width=80)
    monkeypatch.setenv("NO_COLOR", "1")
    assert render_table(made, width=80) == plain


def test_names_are_text_not_markup():
    made = fake.summary(methods=("[red]x[/red]",))
    assert "[red]x[/red]" in render_table(made, width=100, color=False)


def test_intervals_stay_on_one_line():
    made = fake.summary()
    for width in range(60, 100, 3):
        text = render_table(made, width=width, color=False)
        assert all(line.count("[") == line.count("]") for line in text.splitlines())


def test_missing_numbers_are_dashes():
    made = fake.summary(trials=1)
    for row in made["rows"]:
        row.update(oracle_representation_auroc=None, representation_gap=float("nan"), regret=None, scorers={})
    text = render_table(made, width=100, color=False)
    assert "nan" not in text.lower()
    assert "None" not in text
    assert text.count(" –") >= 6
