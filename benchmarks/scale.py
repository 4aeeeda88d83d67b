"""How a study grows with its trials: seconds, memory, files; and what a continuation and a report cost at the end.

    python benchmarks/scale.py [--trials 10 100 1000] [--sampler tpe] [--root DIR]

Each size is a study of trivial trials (classifier, one epoch on 20 digits a class, no fold models, no questions beyond the
table's), searched, frozen, revealed and reported in a process of its own, whose memory is read from /proc every half second.
Then it is launched once more (nothing is left to do: what a continuation costs before its first trial), and its report is
written anew. Last: straight lines through the sizes, and what they say of 10,000 trials, marked as modelled.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
PAGE = os.sysconf("SC_PAGE_SIZE")
CHILD = """
import json, sys, time
from study import Study
class Clock:
    def __init__(self): self.ended, self.jobs, self.begun, self.done = [], [], 0, 0
    def search_begins(self, *_): self.begun = time.perf_counter()
    def search_ends(self): self.done = time.perf_counter()
    def trial_ended(self, trial): self.ended.append(time.perf_counter())
    def job_done(self, job, result): self.jobs.append(time.perf_counter())
    def __getattr__(self, name): return lambda *a, **k: None
clock = Clock()
overrides, root = json.loads(sys.argv[1]), sys.argv[2]
Study.from_spec("digits", overrides=overrides, root=root).launch(progress=clock)
e = clock.ended
def pace(part): return (part[-1] - part[0]) / (len(part) - 1) if len(part) > 1 else None
print(json.dumps({"search": clock.done - clock.begun, "pace": pace(e), "first": pace(e[:max(2, len(e) // 5)]),
                  "last": pace(e[-max(2, len(e) // 5):]), "jobs": pace(clock.jobs)}))
"""


def spec(trials: int, sampler: str) -> dict:
    """Overrides of ``digits`` for trivial trials."""
    return {
        "methods": ["classifier"], "search.trials": trials, "search.sampler": sampler, "data.limit": 20,
        "training.epochs": 1, "training.batch_size": 64, "selection.folds": 0, "selection.scorer_rule": "max_logit",
        "analysis.questions": [], "resources.address": "local",
    }


def watched(arguments: list[str], log: Path) -> tuple[float, list[int], str]:
    """(seconds, resident bytes every half second, standard output) of a command."""
    began, memory = time.perf_counter(), []
    with open(log, "w") as errors:
        process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, stderr=errors, text=True,
                                   env={**os.environ, "PYTHONPATH": str(HERE.parent)}, cwd=log.parent)

    def watch() -> None:
        while process.poll() is None:
            try:
                memory.append(int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * PAGE)
            except (OSError, IndexError):
                return
            time.sleep(0.5)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    out = process.communicate()[0]
    if process.returncode:
        raise SystemExit(f"ended with {process.returncode}: {log.read_text()[-1500:]}")
    return time.perf_counter() - began, memory, out


def one_size(trials: int, sampler: str, root: Path) -> dict:
    """The row of one size."""
    log, arguments = root / "log.txt", json.dumps(spec(trials, sampler))
    whole, memory, out = watched(["-c", CHILD, arguments, str(root / "runs")], log)
    study = root / "runs" / "digits"
    told = json.loads(out.strip().splitlines()[-1])
    again, _, _ = watched(["-c", CHILD, arguments, str(root / "runs")], log)
    report, _, _ = watched(["-m", "study", "report", str(study)], log)
    files = [path for path in study.rglob("*") if path.is_file()]
    per_trial = [path for path in files if {"trials", "reveal", "jobs"} & set(path.relative_to(study).parts)]
    half = len(memory) // 2
    return {
        "trials": trials, "whole_s": whole, "search_s": told["search"], "pace_s": told["pace"], "first_fifth_s": told["first"],
        "last_fifth_s": told["last"], "reveal_pace_s": told["jobs"], "relaunch_s": again, "report_s": report,
        "driver_mb_half": max(memory[:half], default=0) / 2**20, "driver_mb_end": max(memory) / 2**20,
        "files_a_trial": len(per_trial) / trials, "disk_mb": sum(path.stat().st_size for path in files) / 1e6,
        "ledger_mb": (study / "ledger.db").stat().st_size / 1e6,
        "mlflow_mb": (root / "runs" / "mlflow.db").stat().st_size / 1e6,
        "report_mb": (study / "report" / "index.html").stat().st_size / 1e6,
    }


def model(rows: list[dict], trials: int) -> None:
    """Prints what straight lines through the measured sizes say of another one; no more of what did not grow."""
    if len(rows) < 2:
        return
    sizes = np.array([row["trials"] for row in rows], float)
    told = []
    for key in ("search_s", "whole_s", "relaunch_s", "report_s", "driver_mb_end", "disk_mb", "mlflow_mb"):
        values = [row[key] for row in rows]
        slope, start = np.polyfit(sizes, values, 1)
        told.append(f"{key} {start + slope * trials:,.0f}" if slope > 0 else f"{key} {max(values):,.0f} (did not grow)")
    print(f"modelled, straight lines, {trials:,} trials: " + ", ".join(told))


def main() -> None:
    """Prints a row a size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--root", help="keep the studies there, one folder a size")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for trials in options.trials:
            root = Path(options.root or name) / str(trials)
            root.mkdir(parents=True)
            rows.append(one_size(trials, options.sampler, root))
            print(", ".join(f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
                            for key, value in rows[-1].items()), flush=True)
    model(rows, 10_000)


if __name__ == "__main__":
    main()
