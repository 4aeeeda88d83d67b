"""SIGKILLs the driver of the digits study at random moments, launches once more, and checks that nothing was lost.

    python tests/faults/soak_kills.py [--kills 5] [--seed 0] [FOLDER]

Not a test of `make test`: `make soak` runs it. Prints when it killed what, and the counts at the end.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from check_study import check_every_trial_once

LAUNCH = [sys.executable, "-m", "study", "launch", "digits", "-o", 'resources.address="local"']
EPOCHS, TRIALS = 30, 12


def main() -> None:
    """Runs the soak; an assertion fails where something does not agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    cwd = Path(options.folder or tempfile.mkdtemp())
    cwd.mkdir(parents=True, exist_ok=True)
    study = cwd / "runs" / "digits"
    for kill in range(1, options.kills + 1):
        driver = subprocess.Popen(LAUNCH, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seconds = moments.uniform(4, 30)
        time.sleep(seconds)
        alive = driver.poll() is None
        driver.kill()
        driver.wait()
        ended = len(list(study.glob("trials/*/0/*/result.json")))
        print(f"kill {kill} after {seconds:.1f} s ({'running' if alive else 'had ended'}): {ended} trials trained", flush=True)
        time.sleep(1)
    done = subprocess.run(LAUNCH, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = check_every_trial_once(study, methods=["classifier", "hybrid"], trials=TRIALS, epochs=EPOCHS)
    print(json.dumps({"kills": options.kills, **counts, "selection.json": (study / "selection.json").exists()}))


if __name__ == "__main__":
    main()
