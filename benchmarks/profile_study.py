"""Where a digits study's time goes: py-spy on the driver and on every worker from its start, shares of busy samples.

    python benchmarks/profile_study.py [--top 25] [-o KEY=VALUE …]      (needs `pip install py-spy`)

The study is `digits` as it ships. Workers are found by looking for them five times a second, so that their first imports are
partly missed. A sample counts for the innermost of the named parts on its stack, and for "other" where there is none; samples
of a process that waits are not taken.
"""

from __future__ import annotations

import argparse
import collections
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from study.watchdog import command_of, family

HERE = Path(__file__).resolve().parent
#: A part of the work, and what a frame of its stack holds ("function (file:line)"); the first that fits counts.
PARTS = {
    "training: steps": ("_train_epoch",), "training: validation and signals": ("validate (", "features_and_signals", "embed_images"),
    "checkpoints and files": ("save_checkpoint", "write_atomic", "write_arrays"),
    "oracles": ("oracle_trees.py", "oracles.py", "oracle_boosting.py", "oracle_neighbours.py"),
    "questions: post-hoc tuning": ("posthoc_search.py",), "questions: others": ("measure_questions",),
    "scorers": ("scorer_base.py", "scorers.py"), "figures": ("plot_base.py",), "report": ("write_report", "report.py"),
    "intervals and metrics": ("uncertainty.py", "metrics.py"), "MLflow": ("mlflow",), "ledger": ("ledger.py", "optuna"),
    "imports": ("<frozen importlib", "_find_and_load"), "Ray and Tune": ("/ray/",),
}


def attached(pid: int, folder: Path) -> subprocess.Popen:
    """py-spy on one process until it ends."""
    out = folder / f"{pid}.raw"
    command = ["py-spy", "record", "--pid", str(pid), "--format", "raw", "--rate", "50", "--duration", "3600", "--nonblocking",
               "--full-filenames", "-o", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def profile(overrides: list[str], folder: Path) -> tuple[float, list[Path]]:
    """Seconds of the study, and py-spy's files."""
    began, spies = time.perf_counter(), {}
    command = [sys.executable, "-m", "study", "launch", "digits", "--root", str(folder / "runs"), *overrides]
    with open(folder / "log.txt", "w") as log:
        driver = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(HERE.parent)})
    while driver.poll() is None:
        for pid in family({driver.pid}):
            worker = b"default_worker.py" in command_of(pid) or command_of(pid).startswith(b"ray::")
            agent = b"Agent" in command_of(pid)
            if pid not in spies and (pid == driver.pid or (worker and not agent)):
                spies[pid] = attached(pid, folder)
        time.sleep(0.2)
    for spy in spies.values():
        spy.wait(timeout=60)
    if driver.returncode:
        raise SystemExit((folder / "log.txt").read_text()[-2000:])
    return time.perf_counter() - began, sorted(folder.glob("*.raw"))


def part_of(stack: list[str]) -> str:
    """The part of ``PARTS`` that the innermost frame with a name belongs to."""
    for frame in reversed(stack):
        for part, marks in PARTS.items():
            if part not in ("imports", "Ray and Tune", "MLflow", "ledger") and any(mark in frame for mark in marks):
                return part
    for part in ("imports", "MLflow", "ledger", "Ray and Tune"):
        if any(mark in frame for frame in stack for mark in PARTS[part]):
            return part
    return "other"


def main() -> None:
    """Prints the shares of the parts, and of the functions that most samples were in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--top", type=int, default=25)
    parser.add_argument("-o", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    if not shutil.which("py-spy"):
        raise SystemExit("py-spy is not there: pip install py-spy")
    parts, functions = collections.Counter(), collections.Counter()
    with tempfile.TemporaryDirectory() as name:
        seconds, files = profile([word for pair in options.overrides for word in ("-o", pair)], Path(name))
        for path in files:
            for line in path.read_text(errors="replace").splitlines():
                stack, _, count = line.rpartition(" ")
                frames = stack.split(";")
                parts[part_of(frames)] += int(count)
                functions[frames[-1].replace(str(HERE.parent) + "/", "").split("site-packages/")[-1]] += int(count)
    total = sum(parts.values())
    print(f"{seconds:.0f} s, {len(files)} processes, {total} busy samples (50 a second)\n\n| part | share |\n|---|--:|")
    for part, count in parts.most_common():
        print(f"| {part} | {count / total:.1%} |")
    print("\n| function | share |\n|---|--:|")
    for function, count in functions.most_common(options.top):
        print(f"| `{function[-90:]}` | {count / total:.1%} |")


if __name__ == "__main__":
    main()
