"""What is said to MLflow, before it is said: curves, parameters, the leaderboard."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from test_tracking import rows

from study.mlflow_store import Changes, curve_points
from study.mlflow_view import leaderboard
from study.tracking import flatten


@given(st.lists(st.integers(0, 6), max_size=12), st.integers(-1, 6))
def test_curves_have_one_point_an_epoch_and_none_that_is_there(epochs, after):
    told_rows = [rows(range(e, e + 1), late=i)[0] for i, e in enumerate(epochs)]
    points, _ = curve_points(told_rows, after=after)
    steps = [step for name, _, _, step in points if name == "val/nll"]
    assert steps == sorted(set(steps))
    assert all(step > after for step in steps)
    assert max([after, *epochs]) == max([after, *steps])


def test_changes_put_back_keep_the_later_word_and_the_order_of_rows():
    early = Changes(tags={"state": "running", "a": "1"}, rows=[{"epoch": 0}], status="RUNNING", started_at=1.0)
    both = early.then(Changes(tags={"state": "failed"}, rows=[{"epoch": 1}], status="FAILED", started_at=2.0))
    assert (both.tags, both.status, both.started_at) == ({"state": "failed", "a": "1"}, "FAILED", 1.0)
    assert [row["epoch"] for row in both.rows] == [0, 1]


def test_nested_tables_become_dotted_parameters():
    assert flatten({"a": {"b": {"c": 1}, "d": []}, "e": {}}) == {"a.b.c": 1, "a.d": [], "e": {}}


def test_the_leaderboard_starts_with_the_selected_and_stays_within_mlflow_s_limit():
    rows_ = [
        {"method": "m", "split": 0, "trial": i, "state": "completed", "selected": i == 5, "scorer_auroc": i / 1000}
        for i in range(200)
    ]
    board = leaderboard(rows_, experiment_id="1", run_ids={f"m/0/{i}": "a" * 32 for i in range(200)})
    first, second = board.splitlines()[2:4]
    assert "m/0/5]" in first
    assert "m/0/199]" in second
    assert len(board) < 8000
