"""What the harness costs: beside a plain loop over the same trials, and as a share of a real search.

    python benchmarks/harness_cost.py [--runs N] [--trials 40]

1. Trivial trials (one epoch of the digits, one at a time) through `oraclegap launch` with ledger, files and MLflow,
   against `fit` called on the same configurations in a plain loop in one process: seconds a trial beyond that work.
   Counted from the end of the first trial to the end of the last, since starting Ray and importing torch is paid once.
2. The digits study: pure training seconds of all trials / (wall seconds of the search × cores), starting included.

Prints one line a run, and minimum, median and maximum.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path


class Clock:
    """A ``study.launch.Progress`` that notes when things happen."""

    def __init__(self):
        self.ended, self.params, self.train_seconds = [], [], []
        self.begun = self.done = 0.0

    def search_begins(self, ended, total, epochs):
        self.begun = time.perf_counter()

    def search_ends(self):
        self.done = time.perf_counter()

    def trial_ended(self, trial):
        self.ended.append(time.perf_counter())
        self.params.append(trial.params)
        self.train_seconds.append(trial.train_seconds)

    def __getattr__(self, name):
        return lambda *args, **kwargs: None


def search(folder: Path, **overrides) -> Clock:
    """Runs the search of a digits study and returns when what happened."""
    from study import Study

    clock = Clock()
    Study.from_spec("digits", overrides=overrides, root=folder / "runs").launch(stop_after="search", progress=clock)
    return clock


def loop(folder: Path, params: list[dict]) -> float:
    """Seconds a trial of ``fit`` in a plain loop, files included; the first warms up and is not counted."""
    from trainables.data import View
    from trainables.fit import TrainSettings, fit

    view = View.load(folder / "runs" / "digits" / "view" / "0")
    settings = TrainSettings(epochs=1, batch_size=128, threads=1, device="cpu")
    moments = []
    for number, configuration in enumerate(params):
        fit(method="classifier", view=view, params=configuration, settings=settings, seed=number,
            folder=folder / "loop" / str(number))
        moments.append(time.perf_counter())
    return (moments[-1] - moments[0]) / (len(moments) - 1)


def trivial(trials: int) -> tuple[float, float]:
    """(seconds a trial through the harness, seconds a trial in a plain loop)."""
    with tempfile.TemporaryDirectory() as name:
        clock = search(Path(name), **{
            "methods": ["classifier"], "search.trials": trials, "search.sampler": "random", "search.max_concurrent": 1,
            "training.epochs": 1, "training.batch_size": 128, "resources.address": "local",
        })
        harness = (clock.ended[-1] - clock.ended[0]) / (len(clock.ended) - 1)
        return harness, loop(Path(name), clock.params)


def share() -> tuple[float, float, float]:
    """(pure training seconds, wall seconds of the search, share of the cores) of the digits study."""
    with tempfile.TemporaryDirectory() as name:
        clock = search(Path(name), **{"resources.address": "local"})
        pure, wall = sum(s for s in clock.train_seconds if s), clock.done - clock.begun
        return pure, wall, pure / (wall * os.cpu_count())


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--trials", type=int, default=40)
    options = parser.parse_args()
    costs, shares = [], []
    for run in range(options.runs):
        harness, plain = trivial(options.trials)
        costs.append(harness - plain)
        print(f"run {run}: {options.trials} trivial trials: {harness:.3f} s a trial, plain loop {plain:.3f} s, "
              f"ratio {harness / plain:.2f}, harness {harness - plain:.3f} s", flush=True)
        pure, wall, part = share()
        shares.append(part)
        print(f"run {run}: digits search: {pure:.1f} s of training in {wall:.1f} s × {os.cpu_count()} cores = {part:.2f}",
              flush=True)
    for name, values in (("harness seconds a trial", costs), ("training share of the digits search", shares)):
        print(f"{name}: min {min(values):.3f}, median {statistics.median(values):.3f}, max {max(values):.3f} (n = {len(values)})")


if __name__ == "__main__":
    main()
