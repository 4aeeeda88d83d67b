"""Kills drivers, workers and raylets of real studies, launches again, and checks that nothing was lost.

    python tests/faults/soak_kills.py [--drivers 50] [--points [NAME …]] [--workers 20] [--raylets 5] [--interrupts 20] [--seed 0]

Every study is sequential, so that whatever was killed it must come out as the one that nobody disturbed: same trials, weights,
signals and selection, each trial once in ledger, files and MLflow. Not a test of `make test`; `make soak` runs it. Prints a
line for each study and a table at the end; exit 1 where anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from check_study import check_every_trial_once

from study.watchdog import command_of, family, processes

METHODS, TRIALS, EPOCHS = ["classifier", "hybrid"], 3, 6
PAIRS = ["name=soak", f"methods={METHODS}", f"search.trials={TRIALS}", f"training.epochs={EPOCHS}", "search.max_concurrent=1",
         "training.batch_size=64", "data.seeds=[0, 1]", 'resources.address="local"', "analysis.questions=[]"]
LAUNCH = [sys.executable, "-m", "study", "launch", "digits", *(word for pair in PAIRS for word in ("-o", pair))]
#: Files that a study commits by renaming, in the order in which they first appear.
POINTS = ("0", "spec.toml", "stamp.json", "mlflow.db", "config.json", "checkpoint-000003-*", "model.safetensors",
          "features.safetensors", "result.json", "scores.safetensors", "folds.json", "selection.json", "selections.json",
          "[0-2].safetensors", "[0-2].json", "[0-2]-1.json", "summary.json", "index.html")  # "0": a side of the prepared data
HOOK = Path(__file__).parent / "kill_hook"  # its sitecustomize kills whoever renames a file to the name that is asked for
ORPHANS_SECONDS = 15


class Launch:
    """One driver and all that it started."""

    def __init__(self, cwd: Path, **environment: str):
        self.log = open(cwd / "launch.log", "a")  # noqa: SIM115  (the process owns it)
        self.driver = subprocess.Popen(LAUNCH, cwd=cwd, stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True,
                                       env={**os.environ, **environment})

    def below(self, *words: bytes) -> list[int]:
        """Processes that it started and whose command line holds one of the words; all without words."""
        found = set(family({self.driver.pid})) - {self.driver.pid}
        return [pid for pid in found if not words or any(word in command_of(pid) for word in words)]

    def alive(self) -> bool:
        return self.driver.poll() is None

    def end(self, number: int) -> list[int]:
        """Sends a signal to the driver, waits, and returns whoever it left behind."""
        below = self.below()
        if self.alive():
            os.kill(self.driver.pid, number)
        self.driver.wait()
        deadline = time.monotonic() + ORPHANS_SECONDS
        while (left := sorted(set(below) & processes().keys())) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left


class Soak:
    """Counts what happened, and compares every finished study with the one that nobody disturbed."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.random, self.counts, self.problems = folder, random.Random(seed), Counter(), []
        self.reference, self.studies = None, 0

    def study(self) -> Path:
        """The empty folder of a next study."""
        self.studies += 1
        cwd = self.folder / f"{self.studies:03d}"
        cwd.mkdir(parents=True)
        return cwd

    def finish(self, cwd: Path, what: str) -> None:
        """Launches until it ends and checks it."""
        began, code = time.monotonic(), Launch(cwd).driver.wait()
        try:
            assert code == 0, f"exit {code}: {(cwd / 'launch.log').read_text()[-400:]}"
            check_every_trial_once(cwd / "runs" / "soak", methods=METHODS, trials=TRIALS, epochs=EPOCHS)
            found = fingerprint(cwd / "runs" / "soak")
            self.reference = self.reference or found
            differ = [key for key in self.reference if found.get(key) != self.reference[key]]
            assert not differ and found.keys() == self.reference.keys(), f"differs in {differ[:3]}"
            self.counts["studies whole"] += 1
        except (AssertionError, OSError, ValueError, KeyError) as error:
            self.problems.append(f"{cwd.name} ({what}): {' '.join(str(error).split())[:500]}")
        print(f"{cwd.name}: {what}; then one launch of {time.monotonic() - began:.0f} s: "
              f"{'FAILED' if self.problems and self.problems[-1].startswith(cwd.name) else 'whole'}", flush=True)

    def left(self, pids: list[int], what: str) -> None:
        if pids:
            self.problems.append(f"{what} left {[command_of(pid)[:60] for pid in pids]}")
            self.counts["orphans"] += len(pids)

    # ------------------------------------------------------------------------------------------------- what is killed
    def drivers(self, kills: int) -> None:
        """SIGKILL to the driver at random moments of its life, one to five times a study."""
        while kills:
            cwd, moments = self.study(), []
            for _ in range(min(kills, self.random.randint(1, 5))):
                launch, moment = Launch(cwd), self.random.uniform(1, 16)
                time.sleep(moment)
                self.counts["drivers killed"] += launch.alive()
                moments.append(f"{moment:.1f}")
                self.left(launch.end(signal.SIGKILL), "a killed driver")
                kills -= 1
            self.finish(cwd, f"driver killed after {', '.join(moments)} s")

    def points(self, names: Sequence[str]) -> None:
        """Whoever commits a file dies just before or just after the rename, once each."""
        for name in names:
            for when in ("before", "after"):
                cwd = self.study()
                environment = {"PYTHONPATH": os.pathsep.join([str(HOOK), *filter(None, [os.environ.get("PYTHONPATH")])]),
                               "SOAK_KILL": f"{when}:{name}", "SOAK_KILLED": str(cwd / "killed")}
                launch = Launch(cwd, **environment)
                launch.driver.wait()
                hit = (cwd / "killed").exists()
                self.counts["commit points hit" if hit else "commit points not met"] += 1
                self.finish(cwd, f"killed {when} {name} was in place" if hit else f"{name} was never written")

    def workers(self, kills: int) -> None:
        """SIGKILL to a worker that trains or measures, twice a study; the same launch goes on."""
        while kills:
            cwd = self.study()
            launch, done = Launch(cwd), 0
            while launch.alive() and done < min(2, kills):
                time.sleep(self.random.uniform(2, 5))
                workers = launch.below(b"ray::Trainable", b"ray::_run_and_store", b"ray::TrialTrainable", b".train()")
                if workers:
                    os.kill(self.random.choice(workers), signal.SIGKILL)
                    done += 1
            kills -= done
            self.counts["workers killed"] += done
            code = launch.driver.wait()
            if code:
                self.problems.append(f"{cwd.name}: the launch whose workers died ended with {code}")
            self.finish(cwd, f"{done} workers killed")

    def raylets(self, kills: int) -> None:
        """SIGKILL to the raylet: Ray is gone, and the launch must end by itself with a word."""
        for _ in range(kills):
            cwd = self.study()
            launch = Launch(cwd)
            time.sleep(self.random.uniform(6, 14))
            raylets = launch.below(b"raylet/raylet")
            for pid in raylets:
                os.kill(pid, signal.SIGKILL)
            self.counts["raylets killed"] += len(raylets)
            try:
                launch.driver.wait(timeout=120)
            except subprocess.TimeoutExpired:
                self.problems.append(f"{cwd.name}: the driver hung after its raylet died")
            self.left(launch.end(signal.SIGKILL), "a dead raylet")
            self.finish(cwd, "raylet killed")

    def interrupts(self, number: int) -> None:
        """SIGINT at random moments: over within 10 s, exit 130, nobody left; continued to the end every fourth time."""
        cwd = self.study()
        for count in range(1, number + 1):
            launch = Launch(cwd)
            time.sleep(self.random.uniform(1, 12))
            alive, began = launch.alive(), time.monotonic()
            self.left(launch.end(signal.SIGINT), "Ctrl-C")
            seconds, code = time.monotonic() - began, launch.driver.returncode
            if alive:
                self.counts["interrupts"] += 1
                if code not in (130, 0) or seconds > 10 + 2:
                    self.problems.append(f"{cwd.name}: Ctrl-C ended after {seconds:.1f} s with {code}")
            if count % 4 == 0 or count == number:
                self.finish(cwd, f"{count} interrupts so far")
                cwd = self.study() if count < number else cwd


def fingerprint(study: Path) -> dict[str, str]:
    """What must not depend on who was killed: weights, signals, configuration and number of every trial, the selection."""
    found = {"selection": json.loads((study / "selection.json").read_text())["digest"]}
    for path in sorted(study.glob("trials/*/*/*/result.json")):
        result = json.loads(path.read_text())
        key = "/".join(path.parts[-4:-1])
        found[key] = result["weights_sha256"] + json.dumps(result["signals"], sort_keys=True)
        found[f"{key} config"] = (path.parent / "config.json").read_text()
    for path in sorted(study.glob("reveal/*/*/*.json")):
        stored = json.loads(path.read_text())
        numbers = {k: v for k, v in stored["result"].items() if k not in ("train_seconds", "files")}
        found["/".join(path.parts[-4:])] = json.dumps(numbers, sort_keys=True)
    return found


def main() -> int:
    """Runs what is asked for; without any number, everything at the size of the committed table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", help="where the studies go (default: a temporary folder)")
    for name in ("drivers", "workers", "raylets", "interrupts"):
        parser.add_argument(f"--{name}", type=int, default=0)
    parser.add_argument("--points", nargs="*", metavar="NAME", help="these commit points, or all")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not (options.drivers or options.workers or options.raylets or options.interrupts or options.points is not None):
        options.drivers, options.workers, options.raylets, options.interrupts, options.points = 50, 20, 5, 20, []
    began = time.monotonic()
    soak = Soak(Path(options.folder or tempfile.mkdtemp()), options.seed)
    soak.finish(soak.study(), "nobody killed: the reference")
    soak.drivers(options.drivers)
    if options.points is not None:
        soak.points(options.points or POINTS)
    soak.workers(options.workers)
    soak.raylets(options.raylets)
    if options.interrupts:
        soak.interrupts(options.interrupts)
    print(json.dumps({**soak.counts, "studies": soak.studies, "problems": len(soak.problems),
                      "minutes": round((time.monotonic() - began) / 60, 1)}))
    print("\n".join(soak.problems))
    return 1 if soak.problems else 0


if __name__ == "__main__":
    sys.exit(main())
