"""``oraclegap list``: the studies under a root, each in one line, from their files alone."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from study.errors import OracleGapError, UserError, one_line
from trainables.files import read_json


def studies(root: Path) -> list[dict[str, Any]]:
    """{"study", "folder", "state", "running", "ended", "total", "failed", "best", "bytes", "changed", "next", "problem"} of every
    study under ``root``, the last changed first.

    ``state`` is what ``status`` calls stage, or "unreadable" with the reason in ``problem``; ``best`` is {"method", "split",
    "trial", the signal, "selected": whether frozen} or None; ``changed`` ISO time, UTC. Raises UserError where no study lies.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; launch a study, or name the folder that holds them with --root")
    found = [_row(folder) for folder in sorted(root.iterdir()) if (folder / "spec.toml").is_file()]
    if not found:
        raise UserError(f"{root}: no study here; `oraclegap launch digits` makes one, --root names another folder")
    return sorted(found, key=lambda row: row["changed"], reverse=True)


def _row(folder: Path) -> dict[str, Any]:
    size, changed = measured(folder)
    row = {"study": folder.name, "folder": str(folder), "state": "unreadable", "running": is_driven(folder), "ended": 0, "total": 0,
           "failed": 0, "best": None, "bytes": size, "next": f"oraclegap doctor --root {folder.parent}", "problem": None,
           "changed": datetime.fromtimestamp(changed, UTC).isoformat(timespec="seconds")}
    try:
        from study.api import Study

        study = Study.open(folder)
        status = study.status()
    except (OracleGapError, OSError, ValueError) as problem:
        return {**row, "problem": one_line(problem, 200)}
    except Exception as problem:  # whatever a damaged ledger leads to; the other studies are shown all the same
        return {**row, "problem": one_line(f"{type(problem).__name__}: {problem}", 200)}
    return {**row, "study": status["study"], "state": status["stage"], "ended": status["ended"], "total": status["total"],
            "failed": len(status["failures"]), "best": _best(study, status), "next": status["next"]}


def _best(study, status: dict[str, Any]) -> dict[str, Any] | None:
    """The frozen choice that was ranked first; before the freeze, what leads by the signal so far."""
    signal = study.spec.selection.signal
    selection = read_json(study.folder / "selection.json") or {}
    if selection.get("method_ranking"):
        first = selection["method_ranking"][0]["method"]
        entry = next(e for e in selection["selections"] if e["method"] == first)
        return {"method": first, "split": entry["split"], "trial": entry["trial"], signal: entry["signals"].get(signal),
                "selected": True}
    from analysis.signals import get_signal

    known = [row for row in status["rows"] if row["best"]]
    if not known:
        return None
    choose = min if get_signal(signal).direction == "minimize" else max
    row = choose(known, key=lambda row: row["best"][signal])
    return {"method": row["method"], "split": row["split"], **row["best"], "selected": False}


def measured(folder: Path) -> tuple[int, float]:
    """Bytes of all files below a folder, and when the last of them changed (Unix seconds). Follows no link."""
    size, changed = 0, folder.stat().st_mtime
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                stat = os.lstat(os.path.join(place, name))
            except FileNotFoundError:
                continue  # a launch is at work
            size += stat.st_size
            if name != "lock":  # which is written by whoever looks whether it is free
                changed = max(changed, stat.st_mtime)
    return size, changed


def is_driven(folder: Path) -> bool | None:
    """Whether a launch on this machine holds the study's lock; None where that cannot be told.

    Looks into the kernel's list instead of trying the lock, which a launch that begins just then would find taken.
    """
    try:
        inode, locks = (folder / "lock").stat().st_ino, Path("/proc/locks").read_text(encoding="ascii")
    except FileNotFoundError:
        return False if Path("/proc/locks").exists() else None
    except OSError:
        return None
    held = (line.split() for line in locks.splitlines())
    return any(words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(inode) for words in held if len(words) > 5)


def text(rows: list[dict[str, Any]], *, width: int = 100, now: float | None = None) -> str:
    """A table of one line a study, and below it what is wrong with those that cannot be read."""
    from io import StringIO

    from rich.console import Console
    from rich.table import Table

    from study.console import size_text

    table = Table(box=None, pad_edge=False, header_style="")
    for column, side in (("study", "left"), ("state", "left"), ("trials", "right"), ("best", "left"), ("size", "right"),
                         ("changed", "right")):
        table.add_column(column, justify=side, no_wrap=column != "best", overflow="fold")
    for row in rows:
        state = row["state"] + (", running" if row["running"] else "")
        failed = f" ({row['failed']} failed)" if row["failed"] else ""
        changed = datetime.fromisoformat(row["changed"]).timestamp()
        table.add_row(row["study"], state, f"{row['ended']}/{row['total']}{failed}", _best_text(row["best"]),
                      size_text(row["bytes"]), _ago((now or time.time()) - changed))
    out = StringIO()
    Console(file=out, width=width, force_jupyter=False, no_color=True, highlight=False, markup=False).print(table)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    return "\n".join(lines + [f"{row['study']}: {row['problem']}" for row in rows if row["problem"]])


def _best_text(best: dict[str, Any] | None) -> str:
    if not best:
        return ""
    signal, value = next((k, v) for k, v in best.items() if k not in ("method", "split", "trial", "selected"))
    shown = "" if value is None else f" ({signal} {value:.4f})"
    return f"{best['method']}/{best['split']}/{best['trial']}{shown}" + ("" if best["selected"] else " so far")


def _ago(seconds: float) -> str:
    from study.console import duration

    return "now" if seconds < 5 else f"{duration(seconds)} ago" if seconds < 86400 else f"{seconds / 86400:.0f} d ago"
