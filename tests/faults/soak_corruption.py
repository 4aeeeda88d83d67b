"""Corrupts files that a study's numbers rest on, one at a time, and asks who notices.

    python tests/faults/soak_corruption.py [--count 300] [--seed 0] [STUDY]

Of a finished study (by default a small one that is run first): a bit flipped, a block zeroed, the end cut off, the file lost or
another of its kind in its place; ``oraclegap audit`` must name it. Of a checkpoint under way: a flipped bit or a cut, and the
generation before it must be taken. `make soak` runs it. Prints a table, exit 1 where something went unnoticed.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from study import Study
from study.audit_found import alike
from trainables import checkpoint

FILES = ("trials/*/*/*/config.json", "trials/*/*/*/result.json", "trials/*/*/*/model.safetensors",
         "trials/*/*/*/features.safetensors", "jobs/*/*/result.json", "jobs/*/*/scores.safetensors",
         "jobs/*/*/model/*.safetensors", "reveal/*/*/[0-9]*.json", "reveal/*/*/*.safetensors", "view/*/*", "vault/*/*",
         "selection.json", "report/summary.json")
#: What no number of a study rests on: a change of these alone is not counted.
TOLD_ONLY = ("train_seconds", "device", "parameters_count", "epochs", "identity", "frozen_at", "study", "stop_epoch")
KINDS = ("bit", "block", "cut", "lost", "other")


def corrupted(data: bytes, kind: str, dice: random.Random, other: bytes) -> bytes | None:
    """The damaged content; None: the file is gone."""
    if kind == "bit":
        changed = bytearray(data)
        changed[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        return bytes(changed)
    if kind == "block":
        at = dice.randrange(len(data))
        return data[:at] + bytes(min(64, len(data) - at)) + data[at + 64:]
    if kind == "cut":
        return data[:dice.randrange(len(data))]
    return None if kind == "lost" else other


def means_the_same(before: bytes, after: bytes | None, suffix: str) -> bool:
    """A JSON file may change in its spaces, or in what is only told."""
    if after == before:
        return True
    if after is None or suffix != ".json":
        return False
    try:
        old, new = json.loads(before), json.loads(after)
    except ValueError:
        return False
    if isinstance(old, dict) and isinstance(new, dict):
        old, new = ({key: value for key, value in table.items() if key not in TOLD_ONLY} for table in (old, new))
    return alike(old, new)


def studies_files(study: Path, count: int, dice: random.Random) -> tuple[Counter, list[str]]:
    """Counts by kind of damage, and what went unnoticed."""
    groups = [found for pattern in FILES if (found := sorted(
        p for p in study.glob(pattern) if p.is_file() and not p.name.endswith(".analysis.json")))]
    counts, missed = Counter(), []
    assert Study.open(study).audit()["believed"], "the study is not whole to begin with"
    while sum(counts.values()) < count:
        group = dice.choice(groups)
        path, kind = dice.choice(group), dice.choice(KINDS)
        data = path.read_bytes()
        damaged = corrupted(data, kind, dice, dice.choice(group).read_bytes())
        if means_the_same(data, damaged, path.suffix):
            continue
        path.unlink() if damaged is None else path.write_bytes(damaged)
        try:
            found = Study.open(study).audit()
            noticed = not found["believed"]
        finally:
            path.write_bytes(data)
        counts[kind] += 1
        if path.name == "summary.json" and damaged is None:
            noticed = True  # there is no report then, which `oraclegap report` writes anew
        if not noticed:
            missed.append(f"{kind}: {path.relative_to(study)}")
    assert Study.open(study).audit()["believed"], "the study was not put back"
    return counts, missed


def checkpoints(count: int, dice: random.Random) -> tuple[Counter, list[str]]:
    """The newest generation is damaged; the one before it must be found, whole."""
    import torch

    counts, missed = Counter(), []
    with tempfile.TemporaryDirectory() as name:
        folder, tensors = Path(name), {"weight": torch.arange(1000.0), "bias": torch.ones(10)}
        for number in range(count):
            checkpoint.delete_checkpoints(folder)
            checkpoint.save_checkpoint(folder, 1, tensors, {"epoch": 1})
            path = checkpoint.save_checkpoint(folder, 2, {key: value + 1 for key, value in tensors.items()}, {"epoch": 2})
            kind = dice.choice(("bit", "block", "cut"))
            data = path.read_bytes()
            while (damaged := corrupted(data, kind, dice, data)) == data:
                pass
            path.write_bytes(damaged)
            found = checkpoint.newest_checkpoint(folder)
            counts[kind] += 1
            if found is None or found[1]["epoch"] != 1 or not torch.equal(found[0]["weight"], tensors["weight"]):
                missed.append(f"checkpoint {number}: {kind}")
    return counts, missed


def main() -> int:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    dice = random.Random(options.seed)
    if options.study is None:
        cwd = tempfile.mkdtemp()
        pairs = ["name=small", "methods=['classifier', 'hybrid']", "search.trials=2", "training.epochs=4", "data.seeds=[0, 1]",
                 "analysis.questions=[]", 'resources.address="local"']
        subprocess.run([sys.executable, "-m", "study", "launch", "digits", "--offline",
                        *(word for pair in pairs for word in ("-o", pair))], cwd=cwd, check=True, stdout=subprocess.DEVNULL)
        options.study = f"{cwd}/runs/small"
    problems = []
    for what, (counts, missed) in (("a study's files, noticed by audit", studies_files(Path(options.study), options.count, dice)),
                                   ("checkpoints, the one before taken", checkpoints(options.count, dice))):
        total = sum(counts.values())
        kinds = ", ".join(f"{kind} {number}" for kind, number in sorted(counts.items()))
        print(f"{what}: {total - len(missed)} of {total} ({kinds})")
        problems += missed
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
