"""A disk that is full: one line and exit 3, and with room again the study goes on. ``soak_storage.py`` has all sizes."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from conftest import overrides, run

from trainables.files import write_atomic

PAIRS = ["name=full", "methods=['classifier']", "search.trials=2", "training.epochs=3", "search.max_concurrent=1",
         'resources.address="local"', "analysis.questions=[]"]


@pytest.fixture
def disk(tmp_path):
    """A small disk at ``runs``, and what gives it room."""
    place = tmp_path / "runs"
    place.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", place], check=False).returncode:
        pytest.skip("needs a user who may mount a disk")
    yield lambda: subprocess.run(["mount", "-o", "remount,size=64m", place], check=True)
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.long
@pytest.mark.slow
def test_a_full_disk_is_told_and_costs_nothing(disk, tmp_path):
    full = run("launch", "digits", "--offline", *overrides(*PAIRS), "--stop-after", "freeze", cwd=tmp_path)
    assert full.returncode == 3, full.stdout + full.stderr
    (line,) = full.stderr.strip().splitlines()
    assert line.startswith("oraclegap: ") and "No space left on device" in line and "/runs" in line
    disk()
    done = run("launch", "digits", "--offline", *overrides(*PAIRS), "--stop-after", "freeze", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "runs" / "full" / "selection.json").read_text())["selections"]


def test_a_write_that_fails_names_its_file_and_leaves_the_old_one(disk, tmp_path):
    path = tmp_path / "runs" / "a.json"
    write_atomic(path, "old")
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_atomic(path, b"\0" * 2**20)
    assert caught.value.filename == str(path)
    assert path.read_text() == "old" and [p.name for p in path.parent.iterdir()] == ["a.json"]
