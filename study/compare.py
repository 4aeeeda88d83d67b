"""``oraclegap compare A B …``: finished studies beside each other. Reads what they left and changes nothing in them.

Opens no vault that is still sealed: a study with anomalies must be revealed under the selection that stands.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from analysis.compare_studies import Side, compare_studies
from study.errors import UserError
from study.selection import frozen_selection
from study.spec import StudySpec
from trainables.files import read_json, write_atomic, write_json

#: What is tested on the same images, and the name of its per-image scores beside the reveal.
SCORES = {"scorer": "frozen_rule", "max_logit": "max_logit", "oracle": "oracle_detector",
          "representation": "oracle_representation"}


@dataclass(frozen=True)
class Comparison:
    """``data``: everything that was found, as ``compare.json`` holds it; ``page``: the HTML page, if one was written."""

    data: Mapping[str, Any]
    sides: Sequence[Side] = field(repr=False)
    page: Path | None = None


def compare(folders: Iterable[str | Path], *, out: str | Path | None = None) -> Comparison:
    """Compares revealed studies, or studies without anomalies, with the first of them.

    With ``out``, a folder, writes ``index.html``, ``compare.json`` and the figures' SVG and PNG files there. Raises
    ``UserError`` for fewer than two, the same twice, and a folder without a finished study.
    """
    places = [Path(folder) for folder in folders]
    if len(places) < 2:
        raise UserError(f"compare: give two or more studies, the one to compare with first ({len(places)} given)")
    seen: dict[Path, Path] = {}
    for place in places:
        if place.resolve() in seen:
            raise UserError(f"{place}: given twice; give each study once")
        seen[place.resolve()] = place
    specs = [_spec(place) for place in places]
    labels = _labels(places, specs)
    sides = [_side(place, spec, label) for place, spec, label in zip(places, specs, labels, strict=True)]
    data = compare_studies(sides, pair=_Pairing(places, specs).differences)
    made = Comparison(data, sides)
    return made if out is None else Comparison(data, sides, _write(made, Path(out)))


def text(comparison: Comparison, *, width: int | None = None) -> str:
    """The comparison for a terminal ``width`` columns wide (default: this one's, between 80 and 120)."""
    from analysis.compare_words import terminal_text

    return terminal_text(comparison.data, width=width)


def as_json(comparison: Comparison) -> str:
    """The comparison as JSON text."""
    return json.dumps(comparison.data, indent=1, ensure_ascii=False, allow_nan=False)


def _spec(folder: Path) -> StudySpec:
    if not (folder / "spec.toml").is_file():
        raise UserError(f"{folder}: no study here (no spec.toml); `oraclegap list` shows those in runs/")
    return StudySpec.load(folder / "spec.toml")


def _side(folder: Path, spec: StudySpec, label: str) -> Side:
    digest = frozen_selection(folder)["digest"]
    summary, stamp = read_json(folder / "report" / "summary.json"), read_json(folder / "stamp.json") or {}
    if not isinstance(summary, dict) or not isinstance(summary.get("rows"), list):
        raise UserError(f"{folder}: there is no report/summary.json to read; run `oraclegap report {folder}` first")
    if summary.get("digest") != digest:
        raise UserError(f"{folder}: its summary is of another selection; run `oraclegap report {folder}` first")
    if not summary.get("nominal_only") and not any(row.get("scorer_auroc") is not None for row in summary["rows"]):
        raise UserError(f"{folder}: not revealed yet; run `oraclegap reveal {folder}` first")
    vaults = {} if summary.get("nominal_only") else _by_split(stamp.get("vaults"), spec)
    views = _by_split({split: sides.get("view") for split, sides in (stamp.get("data") or {}).items()}, spec)
    return Side(label, summary, str(folder), spec.to_table(), stamp, vaults, views)


def _by_split(digests: Mapping[str, Any] | None, spec: StudySpec) -> dict[int, str]:
    return {split: digests[str(split)] for split in spec.data.splits if (digests or {}).get(str(split))}


def _labels(folders: Sequence[Path], specs: Sequence[StudySpec]) -> list[str]:
    """Names of the studies; where two have one name, the ends of their paths by which they differ."""
    names = [spec.name for spec in specs]
    if len(set(names)) == len(names):
        return names
    parts = [folder.resolve().parts for folder in folders]
    for count in range(1, max(map(len, parts)) + 1):
        ends = ["/".join(part[-count:]) for part in parts]
        if len(set(ends)) == len(ends):
            return ends
    raise AssertionError("two different folders have one path")


class _Pairing:
    """Paired DeLong of the selected trials of two studies on the test images that both hold."""

    def __init__(self, folders: Sequence[Path], specs: Sequence[StudySpec]):
        self.folders, self.specs = folders, specs
        self._scores = cache(self._read)

    def differences(
        self, study: int, first: tuple[str, int], second: tuple[str, int]
    ) -> dict[str, tuple[float, float, float, float]]:
        """(difference, low, high, p) of each measure that both have, study ``study`` minus the first."""
        from analysis.uncertainty import paired_delong

        ours, is_anomaly = self._scores(0, *first)
        theirs, same = self._scores(study, *second)
        if not np.array_equal(is_anomaly, same):
            return {}
        found = {}
        for measure, name in SCORES.items():
            if name in ours and name in theirs:
                tested = paired_delong(theirs[name], ours[name], is_anomaly)
                found[measure] = (tested.difference, tested.low, tested.high, tested.p_value)
        return found

    def _read(self, study: int, method: str, split: int) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """Scores by name and which images are anomalies; nothing of a trial whose reveal failed."""
        from study.evidence import load_trial, reveal_record, selection_entry

        folder = self.folders[study]
        trial = selection_entry(folder, method, split)["trial"]
        if reveal_record(folder, method, split, str(trial)) is None:
            return {}, None
        evidence = load_trial(self.specs[study], folder, method, split, trial)
        wanted = {name: evidence.stored[name] for name in SCORES.values() if name in evidence.stored}
        return wanted, evidence.is_anomaly


def _write(comparison: Comparison, out: Path) -> Path:
    from analysis.compare_words import page
    from analysis.plot_compare import draw_all

    if (out / "spec.toml").exists():
        raise UserError(f"{out}: a study lies here; give another folder for the comparison")
    out.mkdir(parents=True, exist_ok=True)
    drawn = draw_all(comparison.data, [(side.label, side.summary) for side in comparison.sides])
    for figure in drawn.values():
        for name, content in figure.files.items():
            write_atomic(out / name, content)
    write_json(out / "compare.json", comparison.data)
    write_atomic(out / "index.html", page(comparison.data, drawn))
    return out / "index.html"
