"""What the checks of an audit look at, and how they compare it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.clean import cleaned
from study.ledger import TrialRecord
from study.selection import frozen_selection
from trainables.files import read_json, sha256_of_file

if TYPE_CHECKING:
    from study.api import Study
    from study.spec import StudySpec

TOLERANCE = 1e-9
LONGEST = 3  # of the things that failed a check, so many are named
#: (state, words)
Verdict = tuple[str, str]


@dataclass(frozen=True, eq=False)
class Found:
    """What lies in a study's folder. ``selection`` as the file says, its digest not yet checked."""

    spec: StudySpec
    folder: Path
    study: Study
    trials: list[TrialRecord]
    selection: dict[str, Any] | None

    @classmethod
    def of(cls, study: Study) -> Found:
        trials = study.ledger().trials() if study.has_ledger() else []
        return cls(study.spec, study.folder, study, trials, read_json(study.folder / "selection.json"))

    @cached_property
    def revealed(self) -> bool:
        return any((self.folder / "reveal").glob("*/*/*.json"))

    @cached_property
    def stamp(self) -> dict[str, Any]:
        return read_json(self.folder / "stamp.json") or {}

    @cached_property
    def log(self) -> list[dict[str, Any]]:
        """Lines of ``reveals.jsonl``; one cut short by a kill is left out."""
        path = self.folder.parent / "reveals.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    @property
    def completed(self) -> list[TrialRecord]:
        return [trial for trial in self.trials if trial.state == "completed"]

    def home(self, trial: TrialRecord) -> Path:
        from trainables.trial import trial_folder

        return trial_folder(self.folder, trial.method, trial.split, trial.number)

    @cached_property
    def cleaned(self) -> dict[str, str]:
        """{path within the study: SHA-256 it had} of what `oraclegap clean` removed."""
        return cleaned(self.folder)

    def is_whole(self, path: Path, digest: str) -> bool:
        """Whether the file is what was measured, or was, when `oraclegap clean` removed it."""
        return is_whole(path, digest) or (not path.exists() and self.cleaned.get(str(path.relative_to(self.folder))) == digest)

    def removed(self, part: str) -> str:
        """What to say of the removed files below ``part``, a folder of the study; "" where there are none."""
        number = sum(name.startswith(f"{part}/") and not (self.folder / name).exists() for name in self.cleaned)
        return f"{number} files were removed by `oraclegap clean` and cannot be checked any more" if number else ""

    def entries(self) -> list[dict[str, Any]]:
        return frozen_selection(self.folder)["selections"] if self.selection else []


def verdict(problems: list[str], well: str) -> Verdict:
    return ("failed", listed(problems)) if problems else ("ok", well)


def listed(problems: list[str]) -> str:
    """The first few, and how many more."""
    more = f" and {len(problems) - LONGEST} more" if len(problems) > LONGEST else ""
    return "; ".join(problems[:LONGEST]) + more


def is_whole(path: Path, digest: str) -> bool:
    return path.is_file() and sha256_of_file(path) == digest


def same(one: Any, other: Any) -> bool:
    """Equal numbers up to rounding; null is null, NaN is NaN."""
    if one is None or other is None:
        return one is other
    return (math.isnan(one) and math.isnan(other)) or abs(one - other) <= TOLERANCE


def alike(one: Any, other: Any) -> bool:
    """Equal JSON, numbers up to rounding."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, int | float) and not isinstance(other, bool):
        return same(one, other)
    return one == other
