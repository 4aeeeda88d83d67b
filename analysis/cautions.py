"""Reasons to doubt a study, found from its summary alone: one check a function, the most serious first."""
from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from analysis import caution_checks as checks
from analysis import summary_rows as rows
from analysis.caution_checks import Caution, place, span, where

__all__ = ["CHECKS", "Caution", "edge_side", "find", "where"]

FEW_TRIALS = 10  # below this TPE has hardly left its random start, and a best of few is mostly luck
LOST = 0.05  # AUROC; less is seed noise
EDGE = 0.02  # share of a range (on its own scale) that counts as its edge
LEVELS = ("stop", "care", "note")


def find(summary: Mapping[str, Any], *, spec: Mapping[str, Any] | None = None) -> list[Caution]:
    """Every caution that holds, by level, then in the order of the checks."""
    found = [caution for check in CHECKS for caution in check(summary, spec or {})]
    return sorted(found, key=lambda caution: LEVELS.index(caution.level))


def _contaminated(summary: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[Caution]:
    if summary.get("contaminated"):
        yield Caution("stop", "This study is marked contaminated: anomalies may have influenced the selection.")


def _revealed_before(summary: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[Caution]:
    count = int(rows.finite(summary.get("prior_reveals")) or 0)
    if count > 0:
        times = "once" if count == 1 else f"{count} times"
        yield Caution("care", f"These test labels had been revealed {times} before: later choices may have used them.")


def _pretrained(summary: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[Caution]:
    known = {row["method"]: row["pretrained"] for row in rows.rows_of(summary) if row.get("pretrained")}
    if known:
        told = rows.listed(f"{method} ({name})" for method, name in known.items())
        yield Caution("care", f"Pretrained weights: {told}. They may have been trained on the anomaly classes: such numbers are "
                              "not those of classes never seen.")


def _unselected(summary: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[Caution]:
    chosen = {(row["method"], row.get("split", 0)) for row in rows.selected_rows(summary)}
    lost = [group for group in rows.groups(summary) if group not in chosen]
    if lost:
        yield Caution("care", f"No trial was selected for {where(lost)}.")


def _few_trials(summary: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[Caution]:
    counts: dict[str, int] = {}
    for method, split in rows.groups(summary):
        done = sum(map(rows.is_completed, rows.trial_rows(summary, method, split)))
        counts[method] = min(done, counts.get(method, done))
    few = [f"{method} {count}" for method, count in counts.items() if count < FEW_TRIALS]
    if few:
        yield Caution("care", f"Few completed trials per split ({', '.join(few)}): the search has hardly begun.")


def _lost_trials(summary: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[Caution]:
    trials = rows.trial_rows(summary)
    failed = [row for row in trials if row.get("state") == "failed"]
    if failed:
        by_method = {m: sum(row["method"] == m for row in failed) for m in dict.fromkeys(r["method"] for r in failed)}
        whose = ", ".join(f"{method} {count}" for method, count in by_method.items())
        level = "care" if len(failed) * 5 >= len(trials) else "note"
        yield Caution(level, f"{len(failed)} of {rows.plural(len(trials), 'trial')} failed ({whose}).")
    pruned = sum(row.get("state") == "pruned" for row in trials)
    if pruned:
        yield Caution("note", f"{rows.plural(pruned, 'trial')} stopped early by the pruner, so never measured.")


def _worse_than_chance(summary: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[Caution]:
    found = {place(row): auroc for row in rows.selected_rows(summary)
             if (auroc := rows.finite(row.get("scorer_auroc"))) is not None and auroc < 0.5}
    if found:
        yield Caution("care", f"{where(found)}: the frozen rule is worse than chance ({span(found.values())}).")


def _lost_representation(summary: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[Caution]:
    """A network that was shown the anomalous classes should hold no less about them: else its training went wrong."""
    found = {place(row): row.get("oracle_representation_auroc") for row in rows.selected_rows(summary)
             if (gap := rows.finite(row.get("representation_gap"))) is not None and gap < -LOST}
    if found:
        text = f"{where(found)}: the network trained on all classes holds less ({span(found.values())})"
        yield Caution("care", f"{text} than the one that never saw the anomalies; that oracle cannot be trusted.")


def _at_the_edge(summary: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[Caution]:
    """Ranges come from summary["spaces"] (what was searched) and, failing that, from the spec's own narrowing."""
    narrowed = ((spec.get("search") or {}).get("space") or {}) if isinstance(spec.get("search"), Mapping) else {}
    found: dict[tuple[str, str], dict[tuple[str, Any], float]] = {}
    for row in rows.selected_rows(summary):
        ranges = {**(narrowed.get(row["method"]) or {}), **((summary.get("spaces") or {}).get(row["method"]) or {})}
        for name, value in (row.get("params") or {}).items():
            side = edge_side(value, ranges.get(name))
            if side:
                found.setdefault((name, side), {})[place(row)] = value
    for (name, side), places in found.items():
        values = " to ".join(dict.fromkeys(rows.short(value) for value in (min(places.values()), max(places.values()))))
        text = f"{where(places)}: the selected {name} ({values}) lies at the {side} edge of its range"
        yield Caution("care", f"{text}; a wider range may hold better.")


def edge_side(value: object, limits: object) -> str | None:
    """"lower", "upper" or None; `limits` = {"low", "high", "log", "natural": edges that cannot be widened}."""
    if not isinstance(limits, Mapping):
        return None
    low, high, here = (rows.finite(item) for item in (limits.get("low"), limits.get("high"), value))
    if low is None or high is None or here is None or not low < high:
        return None
    if limits.get("log"):
        if low <= 0 or here <= 0:
            return None
        low, high, here = math.log(low), math.log(high), math.log(here)
    place = (here - low) / (high - low)
    side = "lower" if place <= EDGE else "upper" if place >= 1 - EDGE else None
    return None if side in (limits.get("natural") or ()) else side


def _duplicates(summary: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[Caution]:
    raw = summary.get("duplicates")
    found = raw if isinstance(raw, Mapping) else {"": raw}
    skipped = int(rows.finite(found.get("skipped_files")) or 0)
    if skipped:
        yield Caution("note", f"{rows.plural(skipped, 'file')} could not be read as an image and was left out.")
    count = int(sum(rows.finite(value) or 0 for key, value in found.items() if key != "skipped_files"))
    if count:
        found_words = f"{rows.plural(count, 'image')} found more than once in the data"
        text = f"{found_words}; copies were kept from straddling parts."
        yield Caution("note", text)


def _no_representation(summary: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[Caution]:
    """Reasons that differ in a number alone are one reason."""
    found: dict[str, list[tuple[str, tuple[str, Any]]]] = {}
    for row in rows.selected_rows(summary):
        reason = str(row.get("representation_reason") or "")
        if reason:
            found.setdefault(re.sub(r"-?\d[\d.]*(e[+-]?\d+)?", "…", reason), []).append((reason, place(row)))
    for shape, items in found.items():
        reason = shape if len({reason for reason, _ in items}) > 1 else items[0][0]
        places = where(at for _, at in items)
        yield Caution("note", f"{places}: no oracle representation, its training failed ({reason}).")


CHECKS = (
    _contaminated, _revealed_before, _pretrained, checks.nothing_learnt, _unselected, _few_trials, checks.wide_intervals,
    checks.noisy_seeds, _worse_than_chance, _lost_representation, _no_representation, checks.fallback_rule,
    checks.blind_signal, checks.tied, checks.saturated, checks.no_better_than_default, _at_the_edge, _lost_trials,
    checks.failing_methods, _duplicates, checks.unanswered,
)
