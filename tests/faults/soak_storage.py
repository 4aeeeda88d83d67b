"""Takes the disk away from running studies: full at any write, read-only, gone, its ledger locked.

    python tests/faults/soak_storage.py [--sizes 12]

The disk is a tmpfs of its own, so it takes a user who may mount one. Each study must end with exit 3 and one line, and come out,
once there is room, as the one that nobody disturbed. `make soak` runs it; prints a line for each study and a table, and exits 1
where anything differs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from soak_services import Soak

PAIRS = ("methods=['classifier']", "search.trials=2", "training.epochs=3", "search.max_concurrent=1", 'resources.address="local"')
ROOM = "256m"
LOCKED_SECONDS = 15


@contextlib.contextmanager
def disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of ``size`` at ``folder``/runs, where the studies of that folder lie."""
    place = folder / "runs"
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)
        place.rmdir()


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)


def said_why(soak: Soak, name: str, code: int, word: str) -> None:
    """A launch that could not go on: exit 3, and its last line says what was wrong."""
    lines = (soak.folder / f"{name}.log").read_text().strip().splitlines()
    told = [line for line in lines if line.startswith("oraclegap: ")]
    if code != 3 or len(told) != 1 or word not in told[0] or any("Traceback" in line for line in lines):
        soak.problems.append(f"{name}: exit {code}, said {told or lines[-3:]}")


def full(soak: Soak, sizes: int) -> None:
    """Disks of sizes from nothing to what the study needs, so that each is full at another write."""
    needed = sum(path.stat().st_size for path in (soak.folder / "runs").rglob("*") if path.is_file())
    shutil.rmtree(soak.folder / "runs")
    base = soak.folder
    for count in range(1, sizes + 1):
        soak.folder = base / f"full-{count}"
        name, size = "study", int(needed * count / (sizes + 1))
        with disk(soak.folder, f"{size // 1024 + 4}k") as place:
            code = soak.launch(name, *PAIRS).wait()
            log = (soak.folder / f"{name}.log").read_text()
            if code == 0:  # MLflow's file alone had no room, and says so
                soak.counts["full for MLflow alone"] += "MLflow" in log
            else:
                said_why(soak, name, code, "space")
            soak.counts["full disks"] += 1
            remount(place, f"size={ROOM}")
            again = soak.launch(name, *PAIRS).wait()
            print(f"full at {size / 1e6:.1f} of {needed / 1e6:.1f} MB: exit {code}: {log.strip().splitlines()[-1][:150]}")
            soak.judge(name, again)
    soak.folder = base


def others(soak: Soak) -> None:
    """The folder is made read-only, or moved away, or the ledger is held by somebody, while trials run."""
    pattern = "trials/classifier/0/0/result.json"
    driver = soak.launch("vanished", *PAIRS)
    soak.when("vanished", pattern, driver)
    soak.path("vanished").rename(soak.folder / "elsewhere")
    said_why(soak, "vanished", driver.wait(), "")
    shutil.rmtree(soak.path("vanished"), ignore_errors=True)
    (soak.folder / "elsewhere").rename(soak.path("vanished"))
    soak.judge("vanished", soak.launch("vanished", *PAIRS).wait())
    driver = soak.launch("locked", *PAIRS)
    soak.when("locked", pattern, driver)
    with contextlib.closing(sqlite3.connect(soak.path("locked") / "ledger.db", timeout=30, isolation_level=None)) as ledger:
        ledger.execute("BEGIN EXCLUSIVE")
        time.sleep(LOCKED_SECONDS)
        soak.counts["ledger locked, s"] += LOCKED_SECONDS
        ledger.execute("ROLLBACK")
    soak.judge("locked", driver.wait())
    base, soak.folder = soak.folder, soak.folder / "read-only"
    with disk(soak.folder, ROOM) as place:
        soak.launch("study", *PAIRS, "search.trials=1").wait()
        remount(place, "ro")
        said_why(soak, "study", soak.launch("study", *PAIRS).wait(), "ead-only")
        remount(place, "rw")
        soak.judge("study", soak.launch("study", *PAIRS).wait())
    soak.folder = base


def main() -> int:
    """Everything at the size of the committed table unless told otherwise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", help="where the studies go (default: a temporary folder)")
    parser.add_argument("--sizes", type=int, default=12)
    options = parser.parse_args()
    began, soak = time.monotonic(), Soak(Path(options.folder or tempfile.mkdtemp()), 0)
    soak.folder.mkdir(parents=True, exist_ok=True)
    soak.judge("study", soak.launch("study", *PAIRS).wait())
    full(soak, options.sizes)
    others(soak)
    print(json.dumps({**soak.counts, "problems": len(soak.problems), "minutes": round((time.monotonic() - began) / 60, 1)}))
    print("\n".join(soak.problems))
    return 1 if soak.problems else 0


if __name__ == "__main__":
    sys.exit(main())
