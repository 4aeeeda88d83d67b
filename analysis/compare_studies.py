"""Two or more studies beside each other: what differs in how they were made, and by how much in what they measured."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis import over_splits
from analysis import summary_rows as rows
from analysis.compare_differences import Pairing, Side, differences, shared_splits

__all__ = ["SCHEMA_VERSION", "Pairing", "Side", "compare_studies"]
SCHEMA_VERSION = 1


def compare_studies(sides: Sequence[Side], *, pair: Pairing = lambda study, first, second: {}) -> dict[str, Any]:
    """Everything that is said about the studies, JSON-ready; the first is what the others are held against.

    "studies": [{"label", "study", "folder", "methods", "splits", "trials": {state: count}, "nominal_only",
    "contaminated", "prior_reveals", "commit", "made_at", "vaults"}]; "spec" and "versions": [{"key", "values": one a
    study, None where it has no such key}], only what differs; "data": for every study but the first {"label",
    "shared_splits": [[first's, its]], "splits": [number of the first's, of its], "same_nominal": whether those were
    trained on the same images};
    "methods": [{"method", "studies": for each {measure: {"value", "error", "n"}} or None}]; "differences": see
    `differences`; "caveats": sentences.
    """
    if len(sides) < 2:
        raise ValueError("a comparison needs two studies")
    found = differences(sides, pair=pair)
    return {
        "schema_version": SCHEMA_VERSION, "studies": [_study(side) for side in sides],
        "spec": spec_differences(sides), "versions": version_differences(sides),
        "data": [_shared_data(sides[0], side) for side in sides[1:]], "methods": _methods(sides), "differences": found,
        "caveats": caveats(sides),
    }


# ------------------------------------------------------------------------------------------ how they were made
def flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys of nested tables; an empty table is no key."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = value
    return found


def spec_differences(sides: Sequence[Side]) -> list[dict[str, Any]]:
    """Keys of the specs (but the name) that are not alike everywhere, then ranges that were searched and differ
    although the specs do not: another version of the tool may search elsewhere by default."""
    tables = [{key: value for key, value in flat(_with_ranges(side.spec)).items() if key != "name"} for side in sides]
    shared = [method for method in rows.method_names(sides[0].summary)
              if all(method in (side.summary.get("spaces") or {}) for side in sides)]
    spaces = [{f"searched.{method}.{name}": _range_words(limits)
               for method in shared for name, limits in side.summary["spaces"][method].items()} for side in sides]
    found = differing(tables)
    told = {item["key"].removeprefix("search.space.") for item in found}
    return found + [item for item in differing(spaces) if item["key"].removeprefix("searched.") not in told]


def _with_ranges(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with each narrowed range of ``search.space`` as one text."""
    search = spec.get("search") or {}
    space = {method: {name: _range_words(value) if isinstance(value, Mapping) else value
                      for name, value in table.items()} for method, table in (search.get("space") or {}).items()}
    return {**spec, "search": {**search, "space": space}} if space else dict(spec)


def version_differences(sides: Sequence[Side]) -> list[dict[str, Any]]:
    """Of stamp.json: packages, Python, platform, device and the commit, where they are not alike."""
    wanted = ("packages", "python", "platform", "device", "git")
    return differing([flat({key: side.stamp[key] for key in wanted if side.stamp.get(key) is not None})
                      for side in sides])


def differing(tables: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """[{"key", "values"}] of the keys whose values are not all equal; a missing key is None, and differs from any."""
    found = []
    for key in dict.fromkeys(key for table in tables for key in table):
        values = [table.get(key) for table in tables]
        if any(value != values[0] or type(value) is not type(values[0]) for value in values[1:]):
            found.append({"key": key, "values": values})
    return found


def _range_words(limits: Mapping[str, Any]) -> str:
    options = limits.get("options", limits.get("choices"))
    if options is not None:
        return ", ".join(map(rows.short, options))
    ends = [rows.short(limits.get(end)) for end in ("low", "high") if end in limits]
    return f"{' to '.join(ends)}{' (log)' if limits.get('log') else ''}"


def _study(side: Side) -> dict[str, Any]:
    summary, git = side.summary, side.stamp.get("git") or {}
    commit = git.get("commit")
    return {
        "label": side.label, "study": summary.get("study"), "folder": side.folder,
        "methods": rows.method_names(summary), "splits": len(rows.split_names(summary)),
        "trials": dict(summary.get("counts") or {}), "nominal_only": bool(summary.get("nominal_only")),
        "contaminated": bool(summary.get("contaminated")), "prior_reveals": int(summary.get("prior_reveals") or 0),
        "commit": f"{commit}{' (changed)' if git.get('dirty') else ''}" if commit else None,
        "made_at": side.stamp.get("made_at"), "vaults": {str(split): digest for split, digest in side.vaults.items()},
    }


def _shared_data(first: Side, second: Side) -> dict[str, Any]:
    shared = shared_splits(first, second)
    same = [first.views.get(a) is not None and first.views.get(a) == second.views.get(b) for a, b in shared]
    return {"label": second.label, "shared_splits": [list(pair) for pair in shared],
            "splits": [len(rows.split_names(side.summary)) for side in (first, second)],
            "same_nominal": bool(same) and all(same)}


def caveats(sides: Sequence[Side]) -> list[str]:
    """Reasons to doubt a whole study, or the use of the comparison, in words; the most serious first."""
    said = [f"{side.label} is marked contaminated: anomalies may have influenced its selection."
            for side in sides if side.summary.get("contaminated")]
    for side in sides:
        count = int(side.summary.get("prior_reveals") or 0)
        if count:
            times = "once" if count == 1 else f"{count} times"
            said.append(f"The test labels of {side.label} had been revealed {times} before: its design may have used "
                        "them.")
    said += [f"{side.label} holds no anomalies, so it has no detection numbers." for side in sides
             if side.summary.get("nominal_only")]
    if any(shared_splits(a, b) for i, a in enumerate(sides) for b in sides[:i]):
        said.append("Studies here share their test images: to keep the better one because of this table is to choose "
                    "on test labels; measure that choice on a split that neither has opened.")
    return said


# -------------------------------------------------------------------------------------- what they measured
def _methods(sides: Sequence[Side]) -> list[dict[str, Any]]:
    lines = [{line["method"]: line for line in over_splits.over_splits(side.summary)} for side in sides]
    measures = (*over_splits.MEASURES,)
    return [
        {"method": method, "studies": [
            None if method not in found else {
                "splits": found[method]["splits"], "failed": found[method]["failed"], "trials": found[method]["trials"],
                **{key: found[method][key]._asdict() for key in measures}}
            for found in lines]}
        for method in dict.fromkeys(method for found in lines for method in found)
    ]
