"""What a launch shows: a live table with ETA on a terminal, at most one line a trial elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from study.jobs import Job
    from study.ledger import TrialRecord

REFRESH_PER_SECOND = 4


class Console:
    """A ``study.launch.Progress`` that prints to ``file`` (standard output); ``quiet`` leaves nothing but warnings.
    Of a trial's signals it shows ``signal``, by which trials are chosen, and accuracy and loss."""

    def __init__(self, *, file=None, live: bool | None = None, quiet: bool = False, signal: str = "val_accuracy"):
        from rich.console import Console as RichConsole

        self.quiet, self.shown = quiet, tuple(dict.fromkeys((signal, "val_accuracy", "val_nll")))
        self.console = RichConsole(file=file or sys.stdout, highlight=False, soft_wrap=True, force_jupyter=False)
        self.live_wanted = not quiet and (self.console.is_terminal if live is None else live)
        self.live = None
        self.rows: dict[tuple[str, int], dict[str, Any]] = {}

    def say(self, line: str) -> None:
        """One line of its own."""
        if not self.quiet:
            self.console.print(line, markup=False)

    def warn(self, line: str) -> None:
        """One line that is shown whatever is kept quiet: something was not done, and the launch went on."""
        self.console.print(line, markup=False)

    def search_begins(self, ended: list[TrialRecord], total: int, epochs: dict[str, int]) -> None:
        """``ended`` are the trials of earlier launches, ``total`` the whole budget."""
        self.started, self.total, self.epochs = time.monotonic(), total, epochs
        self.before = self.ended = len(ended)
        self.running: dict[str, tuple[TrialRecord, dict[str, Any]]] = {}
        for trial in ended:
            self._count(trial)
        if self.ended >= total:
            return
        resumed = f", {self.before} of them done earlier" if self.before else ""
        self.say(f"search: {total} trials{resumed}")
        if self.live_wanted:
            from rich.live import Live

            self.live = Live(console=self.console, get_renderable=self._table, refresh_per_second=REFRESH_PER_SECOND)
            self.live.start()

    def search_ends(self) -> None:
        """Leaves the last table standing."""
        if self.live:
            self.live.stop()
            self.live = None

    def trial_started(self, trial: TrialRecord) -> None:
        self.running[trial.key] = (trial, {})

    def trial_progressed(self, trial: TrialRecord, rows: list[dict[str, Any]]) -> None:
        self.running[trial.key] = (trial, rows[-1])

    def trial_ended(self, trial: TrialRecord) -> None:
        self.running.pop(trial.key, None)
        self.ended += 1
        self._count(trial)
        if self.live is None:
            (self.warn if trial.state == "failed" else self.say)(self._line(trial))

    def job_done(self, job: Job, result: dict[str, Any]) -> None:
        """One line a job; a fold, a retraining and a representation cost as much as a trial, an analysis next to nothing."""
        if job.kind == "analysis" and "reason" not in result:
            return
        note = f"failed: {result['reason']}" if "reason" in result else _job_note(job.kind, result)
        (self.warn if "reason" in result else self.say)(f"{job.label}: {note}")

    def _count(self, trial: TrialRecord) -> None:
        row = self.rows.setdefault((trial.method, trial.split), {"completed": 0, "failed": 0, "pruned": 0, "best": None})
        row[trial.state] += 1
        accuracy = trial.signals.get("val_accuracy")
        if accuracy is not None and (row["best"] is None or accuracy > row["best"][1]):
            row["best"] = (trial.number, accuracy)

    def _line(self, trial: TrialRecord) -> str:
        head = f"[{self.ended}/{self.total}] {trial.key} {trial.state}"
        if trial.state == "completed":
            head += f" in {trial.train_seconds:.1f} s  " + "  ".join(
                f"{name} {trial.signals[name]:.4f}" for name in self.shown if name in trial.signals
            )
        elif trial.reason:
            head += f": {trial.reason}"
        return f"{head}  {self._eta()}".rstrip()

    def _eta(self) -> str:
        """By the trials that ended and the epochs of those that run; "" before the first epoch and after the last trial."""
        begun = sum(last.get("epoch", 0) / self.epochs[trial.method] for trial, last in list(self.running.values()))
        done = self.ended - self.before + begun
        if not done or self.ended >= self.total:
            return ""
        seconds = (time.monotonic() - self.started) / done * (self.total - self.before - done)
        return f"ETA {duration(seconds)}"

    def _table(self):
        from rich.table import Table

        title = f"{self.ended} of {self.total} trials, {duration(time.monotonic() - self.started)}  {self._eta()}"
        table = Table(title=title, title_justify="left", expand=False)
        for column in ("method", "split", "completed", "failed", "pruned", "best val_accuracy", "running"):
            table.add_column(column, justify="left" if column in ("method", "running") else "right")
        names = list(self.rows) + [
            (t.method, t.split) for t, _ in list(self.running.values()) if (t.method, t.split) not in self.rows
        ]
        for method, split in dict.fromkeys(names):
            row = self.rows.get((method, split), {"completed": 0, "failed": 0, "pruned": 0, "best": None})
            best = f"{row['best'][1]:.4f} (trial {row['best'][0]})" if row["best"] else ""
            going = [
                f"{t.number}: epoch {last.get('epoch', 0)}/{self.epochs[method]}"
                for t, last in list(self.running.values()) if (t.method, t.split) == (method, split)
            ]
            table.add_row(method, str(split), str(row["completed"]), str(row["failed"]), str(row["pruned"]), best,
                          ", ".join(going))
        return table


def duration(seconds: float) -> str:
    """``48 s``, ``3 min 05 s``, ``2 h 07 min``."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def size_text(size: int) -> str:
    """``900 B``, ``1.2 MB``."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"


def _job_note(kind: str, result: dict[str, Any]) -> str:
    if kind == "fold":
        best = max(result["auroc"], key=result["auroc"].get)
        return f"held out {', '.join(result['held_out'])}; best scorer {best} {result['auroc'][best]:.3f}"
    if kind == "representation":
        return f"oracle representation {result['auroc']:.3f}"
    if kind == "reveal":
        oracle = result["oracle_detector_auroc"]
        return f"scorer {result['scorer_auroc']:.3f}, oracle detector {oracle:.3f}, gap {result['extraction_gap']:+.3f}"
    return "done"
