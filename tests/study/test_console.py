"""What a launch shows, as text: the table on a terminal, one line a trial elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console as RichConsole

from study.console import Console, duration
from study.jobs import Job
from study.ledger import TrialRecord


def trial(number: int, state: str = "completed", accuracy: float = 0.95, **more) -> TrialRecord:
    signals = {"val_accuracy": accuracy, "val_nll": 0.2} if state == "completed" else {}
    return TrialRecord("hybrid", 0, number, state, {}, signals, train_seconds=2.0, **more)


@pytest.fixture
def console():
    made = Console(file=io.StringIO(), live=False)
    made.search_begins([trial(0)], 4, {"hybrid": 30})
    return made


def lines(console) -> list[str]:
    return console.console.file.getvalue().splitlines()


def test_away_from_a_terminal_at_most_one_line_a_trial(console):
    console.trial_started(trial(1, "running"))
    for epoch in range(1, 31):
        console.trial_progressed(trial(1, "running"), [{"epoch": epoch}])
    console.trial_ended(trial(1))
    console.trial_ended(trial(2, "failed", reason="diverged: training loss is nan in epoch 3"))
    console.trial_ended(trial(3, "pruned"))
    assert lines(console)[0] == "search: 4 trials, 1 of them done earlier"
    assert len(lines(console)) == 4
    assert lines(console)[1].startswith("[2/4] hybrid/0/1 completed in 2.0 s  val_accuracy 0.9500  val_nll 0.2000  ETA ")
    assert lines(console)[2].startswith("[3/4] hybrid/0/2 failed: diverged: training loss is nan in epoch 3  ETA ")
    assert lines(console)[3] == "[4/4] hybrid/0/3 pruned"


def test_a_resumed_study_with_nothing_to_search_says_nothing():
    console = Console(file=io.StringIO(), live=False)
    console.search_begins([trial(n) for n in range(4)], 4, {"hybrid": 30})
    console.search_ends()
    assert lines(console) == []


def test_the_live_table_shows_counts_the_best_and_what_runs(console):
    console.trial_ended(trial(1, accuracy=0.99))
    console.trial_started(trial(2, "running"))
    console.trial_progressed(trial(2, "running"), [{"epoch": 7}])
    out = io.StringIO()
    RichConsole(file=out, width=100).print(console._table())
    text = out.getvalue()
    assert "2 of 4 trials" in text and "ETA" in text
    row = next(line for line in text.splitlines() if "hybrid" in line)
    assert "0.9900 (trial 1)" in row and "2: epoch 7/30" in row


def test_the_eta_counts_the_epochs_of_what_runs():
    console = Console(file=io.StringIO(), live=False)
    console.search_begins([], 4, {"hybrid": 30})
    console.started -= 60  # a minute ago
    assert console._eta() == ""
    console.trial_progressed(trial(0, "running"), [{"epoch": 15}])
    assert console._eta() == "ETA 7 min 00 s"  # half a trial in one minute, three and a half to go
    console.trial_ended(trial(0)), console.trial_progressed(trial(1, "running"), [{"epoch": 30}])
    assert console._eta() == "ETA 1 min 00 s"


def test_quiet_shows_what_went_wrong_and_nothing_else():
    quiet = Console(file=io.StringIO(), quiet=True)
    quiet.search_begins([], 3, {"hybrid": 30})
    quiet.trial_ended(trial(0)), quiet.say("a note"), quiet.search_ends()
    quiet.job_done(Job(kind="retrain", inputs={}, run=print, label="the job"), {})
    assert lines(quiet) == [] and not quiet.live_wanted
    quiet.trial_ended(trial(1, "failed", reason="diverged"))
    quiet.warn("MLflow: down"), quiet.job_done(Job(kind="fold", inputs={}, run=print, label="a fold"), {"reason": "oom"})
    assert [line.split("  ETA")[0] for line in lines(quiet)] == ["[2/3] hybrid/0/1 failed: diverged", "MLflow: down", "a fold: failed: oom"]


def test_no_color_is_honoured_by_the_live_table(monkeypatch):
    import re

    monkeypatch.setenv("NO_COLOR", "1"), monkeypatch.setenv("FORCE_COLOR", "1"), monkeypatch.setenv("TERM", "xterm-256color")
    shown = Console(file=io.StringIO(), live=True)
    shown.search_begins([], 2, {"hybrid": 30})
    shown.trial_started(trial(0, "running")), shown.trial_ended(trial(0)), shown.search_ends()
    text = shown.console.file.getvalue()
    assert "hybrid" in text and "\x1b" in text  # it is a terminal
    assert not re.search(r"\x1b\[[0-9;]*\b(3[0-8]|4[0-8]|9[0-7])[0-9;]*m", text)


def test_a_markup_like_reason_is_printed_as_it_is(console):
    console.trial_ended(trial(1, "failed", reason="ValueError: [bold]x[/bold]"))
    assert "[bold]x[/bold]" in lines(console)[-1]


@pytest.mark.parametrize(("kind", "result", "words"), [
    ("fold", {"held_out": ["a", "b"], "auroc": {"msp": 0.7, "knn": 0.9}}, "held out a, b; best scorer knn 0.900"),
    ("representation", {"auroc": 0.987}, "oracle representation 0.987"),
    ("reveal", {"scorer_auroc": 0.8, "oracle_detector_auroc": 0.9, "extraction_gap": 0.1}, "gap +0.100"),
    ("fold", {"reason": "diverged: nan"}, "failed: diverged: nan"),
])
def test_a_job_is_one_line(console, kind, result, words):
    console.job_done(Job(kind=kind, inputs={}, run=print, label="the job"), result)
    assert lines(console)[-1].startswith("the job: ") and words in lines(console)[-1]


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (65, "1 min 05 s"), (7265, "2 h 01 min")])
def test_durations(seconds, text):
    assert duration(seconds) == text
