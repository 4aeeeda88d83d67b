"""Who has opened which vault: a number chosen after looking is worth less, so every reveal is written down.

Reads and writes the log alone, never a vault.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

from trainables.files import read_json, write_json


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
    """How many other selections had opened one of these vaults before this one did, in any study of this root."""
    path = folder.parent / "reveals.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    others = set()
    for line in lines:
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue  # cut short by a kill: that reveal logs itself again
        if entry["selection"] == digest:
            break
        if set(entry["vaults"]) & set(vaults):
            others.add(entry["selection"])
    return len(others)


def contaminated(folder: Path, digest: str) -> bool:
    """Whether another selection of this study was revealed already: this one may know the answer."""
    return any(seen != digest for seen in read_json(folder / "reveal" / "selections.json") or [])
