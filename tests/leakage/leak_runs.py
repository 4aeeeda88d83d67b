"""Small studies of digits to their freeze, whose anomalies were changed; what they chose, and who opened their vault."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conftest import TINY, digits_npz, overrides, run
from transforms import NOMINAL

from study.selection import selection_digest

#: Sequential, one thread: the same numbers to the last bit.
SEQUENTIAL = ["data.source=npz", f"data.nominal_classes={list(NOMINAL)}", "search.max_concurrent=1",
              'resources.address="local"', "analysis.questions=[]"]
SETTINGS = [*TINY, *SEQUENTIAL, 'methods=["classifier"]', "data.path=digits.npz", "search.sampler=tpe", "training.epochs=2"]
HOOK = Path(__file__).parent / "vault_hook"
ENDED, SOME_TRIALS_FAILED = 0, 4


def listening(folder: Path) -> dict[str, str]:
    """Environment variables by which a launch, and all that it starts, leaves in ``folder`` who read a vault or the data set."""
    return {"PYTHONPATH": os.pathsep.join([str(HOOK), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "VAULT_OPENS": str(folder / "opens"), "VAULT_SOURCE": "digits.npz"}


def selection_of(folder: Path, change: Callable, *more: str) -> dict[str, Any]:
    """selection.json of a study that ``oraclegap launch`` ran to its freeze in ``folder``."""
    folder.mkdir(exist_ok=True)
    digits_npz(folder / "digits.npz", change=change)
    command("launch", "digits", "--offline", "--stop-after", "freeze", *overrides(*SETTINGS, *more), cwd=folder)
    return json.loads((folder / "runs" / "tiny" / "selection.json").read_text())


def command(*words: str, cwd: Path) -> None:
    """``oraclegap`` with the hook; LEAK_VAULT tells planted leaks where to look."""
    done = run(*words, cwd=cwd, timeout=900, LEAK_VAULT=str(cwd / "runs" / "tiny" / "vault" / "0"), **listening(cwd))
    assert done.returncode in (ENDED, SOME_TRIALS_FAILED), done.stderr + done.stdout


def opens(folder: Path) -> list[dict[str, Any]]:
    """Each time that any process but prepare read a file of the vault or of the data set, or imported the vault's module."""
    lines = [json.loads(line) for line in (folder / "opens").read_text().splitlines()]
    assert {"prepare", "driver", "worker"} <= {line["role"] for line in lines if "listens" in line}, "the hook was not there"
    assert any(line["role"] == "prepare" for line in lines if "opened" in line), "the hook does not hear"
    return [line for line in lines if "opened" in line and line["role"] != "prepare"]


def entry_digests(selection: dict[str, Any]) -> dict[str, str]:
    """For each method the digest of what was chosen of it alone."""
    return {entry["method"]: selection_digest({"rule": selection["rule"], "selections": [entry]})
            for entry in selection["selections"]}
