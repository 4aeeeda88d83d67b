"""Where a study stands, from its files alone: nothing is started, and nothing of the vault is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from study.reveal_log import contaminated
from trainables.files import read_json

if TYPE_CHECKING:
    from study.api import Study

STATES = ("completed", "failed", "pruned", "running")


def status(study: Study) -> dict[str, Any]:
    """``stage`` is prepared, searching, searched, frozen or revealed; ``next`` is the command that continues;
    ``nothing_to_reveal``: the study holds no anomalies, and was found so at its end."""
    study.require_begun()
    spec, folder = study.spec, study.folder
    trials = study.ledger().trials() if study.has_ledger() else []
    rows = []
    for method, split in [(m, s) for s in spec.data.splits for m in spec.methods]:
        mine = [t for t in trials if (t.method, t.split) == (method, split)]
        counts = {state: sum(t.state == state for t in mine) for state in STATES}
        rows.append({"method": method, "split": split, "trials": spec.search.trials, **counts,
                     "best": _best(mine, spec)})
    ended = sum(row["completed"] + row["failed"] + row["pruned"] for row in rows)
    total = spec.search.trials * len(rows)
    selection = read_json(folder / "selection.json")
    summary = read_json(folder / "report" / "summary.json") or {}
    reported = bool(selection) and summary.get("digest") == selection["digest"]
    revealed, nothing_to_reveal = (reported and summary.get(key, False) for key in ("revealed", "nominal_only"))
    stage = "searching" if trials else "prepared"
    if total and ended >= total:
        stage = "revealed" if revealed else "frozen" if selection else "searched"
    command = f"oraclegap launch {folder}"
    return {
        "study": spec.name, "folder": str(folder), "stage": stage, "ended": ended, "total": total, "rows": rows,
        "failures": [{"trial": t.key, "reason": t.reason} for t in trials if t.state == "failed"],
        "digest": selection["digest"] if selection else None, "nothing_to_reveal": bool(nothing_to_reveal),
        "contaminated": bool(selection) and contaminated(folder, selection["digest"]),
        "next": f"oraclegap export {folder}" if stage == "revealed" or nothing_to_reveal else command,
    }


def _best(trials: list, spec) -> dict[str, Any] | None:
    """The trial that the cheap signal would pick now."""
    from study.ranking import order_of

    ended = [t for t in trials if t.state == "completed"]
    if not ended:
        return None
    best = min(ended, key=lambda t: order_of(t, spec.selection.signal))
    return {"trial": best.number, spec.selection.signal: best.signals[spec.selection.signal]}
