"""Who has opened which vault: a number chosen after looking is worth less, so every reveal is written down.

Reads and writes the log alone, never a vault.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

from trainables.files import read_json, write_json

WARM_START = "warm_start.json"  # what study.warm_start leaves, the remembered study's reveals among it


def log_reveal(folder: Path, study: str, digest: str, vaults: list[str]) -> None:
    """Appends to ``runs/reveals.jsonl`` and to the study's own list, once for every selection that is revealed."""
    seen = read_json(folder / "reveal" / "selections.json") or []
    if digest in seen:
        return
    line = {"study": study, "selection": digest, "vaults": vaults, "at": datetime.now(UTC).isoformat(timespec="seconds")}
    path = folder.parent / "reveals.jsonl"
    torn = path.exists() and not path.read_bytes().endswith(b"\n")  # a kill cut the last line short: begin a new one
    with open(path, "a", encoding="utf-8") as file:
        file.write("\n" * torn + json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())
    write_json(folder / "reveal" / "selections.json", [*seen, digest])


def prior_reveals(folder: Path, digest: str, vaults: list[str]) -> int:
    """How many other selections had opened one of these vaults before this one did, in any study of this root or in the
    one that this study was warm-started from, as it stood then."""
    others = {entry["selection"] for entry in _remembered(folder) if set(entry["vaults"]) & set(vaults)}
    for entry in _log(folder.parent):
        if entry["selection"] == digest:
            break
        if set(entry["vaults"]) & set(vaults):
            others.add(entry["selection"])
    return len(others)


def reveals_of(folder: Path) -> list[dict]:
    """{"selection", "vaults"} of every reveal of the study in ``folder``, as the log of its root tells, or its stamp where it was
    moved away from there; and of those of the study that it remembers, in turn."""
    mine = read_json(folder / "reveal" / "selections.json") or []
    known = {entry["selection"]: entry["vaults"] for entry in _log(folder.parent)}
    stamped = list(((read_json(folder / "stamp.json") or {}).get("vaults") or {}).values())
    return [*_remembered(folder), *({"selection": selection, "vaults": known.get(selection, stamped)} for selection in mine)]


def _remembered(folder: Path) -> list[dict]:
    """The reveals of the study that this one was warm-started from, as ``study.warm_start`` wrote them down."""
    return (read_json(folder / WARM_START) or {}).get("reveals", [])


def _log(root: Path) -> list[dict]:
    """The lines of ``reveals.jsonl``; one that a kill cut short is left out: that reveal logs itself again."""
    path, found = root / "reveals.jsonl", []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def contaminated(folder: Path, digest: str) -> bool:
    """Whether another selection of this study was revealed already: this one may know the answer."""
    return any(seen != digest for seen in read_json(folder / "reveal" / "selections.json") or [])
