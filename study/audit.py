"""Audit: can the numbers of a study be believed? Files against digests, records against each other, sums done again.

Reads and writes nothing but what it is asked about; trains nothing. A failed check means that some number is not what the
study measured, or that something was chosen after looking: exit 1. A doubt is a thing to know that explains itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from study.errors import UserError

if TYPE_CHECKING:
    from study.api import Study

MARKS = {"ok": "✓", "doubt": "?", "failed": "✗", "open": "–"}


@dataclass(frozen=True)
class Check:
    """``state``: "ok", "doubt" (to be known), "failed" (not to be believed), "open" (nothing to check yet)."""

    name: str
    state: str
    words: str


def audit(study: Study) -> dict[str, Any]:
    """{"study", "believed": whether no check failed, "stage": "searching", "frozen" or "revealed", "checks": [{"name",
    "state", "words"}]}. Raises ``UserError`` where there is no study."""
    from study.audit_checks import CHECKS
    from study.audit_found import Found

    study.require_begun()
    found = Found.of(study)
    rows = [_checked(name, check, found) for name, check in CHECKS.items()]
    stage = "revealed" if found.revealed else "frozen" if found.selection else "searching"
    return {"study": study.spec.name, "stage": stage, "believed": all(row.state != "failed" for row in rows),
            "checks": [{"name": row.name, "state": row.state, "words": row.words} for row in rows]}


def _checked(name: str, check: Callable[[Any], tuple[str, str]], found: Any) -> Check:
    try:
        return Check(name, *check(found))
    except Exception as error:  # a damaged file may lead anywhere, and that a check could not be made is what it found
        text = " ".join(str(error).split())[:200]
        return Check(name, "failed", text if isinstance(error, UserError | ValueError) else f"{type(error).__name__}: {text}")


def audit_text(found: dict[str, Any], *, width: int = 100) -> str:
    """One screen: a line or two for each check, and the verdict last."""
    import textwrap

    column = max(len(check["name"]) for check in found["checks"])
    lines = [f"audit of {found['study']} ({found['stage']})"]
    for check in found["checks"]:
        lines.append(textwrap.fill(check["words"], width, break_on_hyphens=False, break_long_words=False,
                                   initial_indent=f"  {MARKS[check['state']]} {check['name']:<{column}}  ",
                                   subsequent_indent=" " * (column + 6)))
    failed = [check["name"] for check in found["checks"] if check["state"] == "failed"]
    doubts = [check["name"] for check in found["checks"] if check["state"] == "doubt"]
    if failed:
        lines.append(f"These numbers cannot be believed: {', '.join(failed)} failed.")
    elif found["stage"] != "revealed":
        lines.append("Nothing is wrong so far; anomalies are sealed.")
    else:
        lines.append("These numbers are what the study measured, and were chosen without an anomaly."
                     + (f" To be known: {', '.join(doubts)}." if doubts else ""))
    return "\n".join(lines)

