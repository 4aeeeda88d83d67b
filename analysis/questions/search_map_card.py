"""The words, tables and figure data of ``search_map``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis import summary_rows as rows
from analysis.card import Card, Figure, Table
from analysis.plot_questions_maps import draw_coordinates, draw_importance

TITLE = "Which hyperparameters mattered?"
ENOUGH = 20  # trials, below which Optuna's importances are unreliable
TARGETS = {"signal": "selection signal", "auroc": "revealed AUROC"}
SHOWN = 8  # hyperparameters in a figure, the most important ones


def card(result: Mapping[str, Any]) -> Card:
    bars, coordinates = importance_data(result), coordinates_data(result)
    told = "; ".join(f"{panel['label']}: " + ", ".join(
        f"{name} {panel['series'][next(iter(panel['series']))]['share'][place]:.0%}"
        for place, name in enumerate(panel["parameters"][:3])) for panel in bars["panels"])
    figures = [Figure("search-importance", bars, draw_importance, f"Dots with whiskers by hyperparameter. {told}.",
                      "Share of the importance of reaching the best quarter (PED-ANOVA); whiskers: 5–95 % over "
                      "bootstrapped trials; filled: beyond what shuffled values give."),
               Figure("search-coordinates", coordinates, draw_coordinates,
                      "A line for each trial over its hyperparameters, to its revealed AUROC.",
                      "Thick: the best quarter by the last axis; dotted and ending in a cross: trials that did not "
                      "complete. Axes run from the lowest value of the space at the bottom to the highest.")]
    return Card("search_map", TITLE, headline(result), sentences(result), tuple(
        importance_table(method, one, folded=len(result["methods"]) > 2) for method, one in result["methods"].items()),
        tuple(figures))


def _mattered(one: Mapping[str, Any], target: str) -> list[str]:
    parameters = one["targets"].get(target, {"parameters": {}})["parameters"]
    return [name for name, found in parameters.items() if found["mattered"]]


def _found(result: Mapping[str, Any]) -> dict[str, str]:
    """By target's title the hyperparameters that mattered, in words."""
    told = {}
    for target, title in TARGETS.items():
        asked = [method for method, one in result["methods"].items() if target in one["targets"]]
        named = [f"{rows.listed(map(_title, names))}{f' ({method})' if len(asked) > 1 else ''}"
                 for method in asked if (names := _mattered(result["methods"][method], target))]
        if asked:
            told[title] = rows.listed(named) if named else "none"
    return told


def headline(result: Mapping[str, Any]) -> str:
    """What mattered beyond shuffled values, for both targets."""
    told = [f"for the {title} {found}" for title, found in _found(result).items()]
    note = ""
    if result["few"]:
        whose = "" if len(result["few"]) == len(result["methods"]) else f" ({rows.listed(result['few'])})"
        note = f"; importances of fewer than {ENOUGH} trials are unreliable{whose}"
    return f"Hyperparameters that mattered beyond what shuffled values show: {', '.join(told)}{note}."


def _title(name: str) -> str:
    return name.replace("_", " ")


def sentences(result: Mapping[str, Any]) -> tuple[str, ...]:
    said = []
    for method, one in result["methods"].items():
        both = [next(iter(one["targets"][t]["parameters"])) for t in TARGETS if t in one["targets"]]
        text = f"{method}: {rows.plural(one['trials'], 'completed trial')} of {rows.plural(one['splits'], 'split')}"
        others = {state: count for state, count in one["states"].items() if state not in ("completed", "complete")}
        if others:
            text += ", " + ", ".join(f"{count} {state}" for state, count in others.items())
            reasons = rows.listed(_reason(*item) for item in list(one["reasons"].items())[:3])
            text += f" ({reasons})" if reasons else ""
        same = "first for both" if len(both) == 2 and both[0] == both[1] else ""
        if same:
            text += f"; {_title(both[0])} is {same}"
        elif len(both) == 2:
            text += f"; {_title(both[0])} is first for the signal, {_title(both[1])} for the AUROC"
        said.append(f"{text}.")
    said.append("Importance is of reaching the best quarter, each hyperparameter alone; a sampler that learns looks "
                "longer where values were good, which importances of its trials reflect.")
    return tuple(said)


def _reason(reason: str, count: int) -> str:
    return f"{reason} ×{count}" if count > 1 else reason


def importance_table(method: str, one: Mapping[str, Any], *, folded: bool) -> Table:
    """A line for each hyperparameter, by its share for the AUROC."""
    targets = [t for t in TARGETS if t in one["targets"]]
    lines = []
    for name in one["targets"][targets[-1]]["parameters"]:
        cells = [_title(name)]
        for target in targets:
            found = one["targets"][target]["parameters"][name]
            spread = rows.bounds([found["low"], found["high"]], 2)
            cells += [f"{rows.number(found['share'], 2)} {spread}{' *' if found['mattered'] else ''}",
                      rows.number(found["p_value"])]
        lines.append(tuple(cells))
    header = [title for t in targets for title in (f"{TARGETS[t]}: share [5 %, 95 %]", "p")]
    names = rows.listed(f"{one['targets'][t]['trials']} trials with {one['targets'][t]['name']}" for t in targets)
    few = "" if method_enough(one) else f" Fewer than {ENOUGH}: unreliable."
    return Table(("hyperparameter", *header), tuple(lines), f"{method}: importance of hyperparameters",
                 f"From {names}.{few} * p ≤ 0.05: chance of so large an importance of any hyperparameter when values "
                 "are shuffled among trials of a split (19 times). In brackets: of trials drawn anew, where copies flatten the "
                 "shares, so that the share itself may lie outside.", folded=folded)


def method_enough(one: Mapping[str, Any]) -> bool:
    return max(target["trials"] for target in one["targets"].values()) >= ENOUGH


def importance_data(result: Mapping[str, Any]) -> dict[str, Any]:
    """{"title", "panels": [{"label", "parameters": from the top, "series": {target's title: {"share", "low", "high",
    "mattered"} lists}}]}, the ``SHOWN`` largest by the last target."""
    panels = []
    for method, one in result["methods"].items():
        targets = {TARGETS[t]: one["targets"][t]["parameters"] for t in TARGETS if t in one["targets"]}
        names = list(list(targets.values())[-1])[:SHOWN]
        series = {title: {key: [found[name][key] for name in names] for key in ("share", "low", "high", "mattered")}
                  for title, found in targets.items()}
        few = "" if method_enough(one) else f" (< {ENOUGH} trials)"
        panels.append({"label": f"{method}{few}", "parameters": [_title(name) for name in names], "series": series})
    return {"title": "Share of importance of each hyperparameter, filled where beyond shuffled values", "panels": panels}


def coordinates_data(result: Mapping[str, Any]) -> dict[str, Any]:
    """{"title", "panels": [{"label", "axes": [{"title", "low", "high"} as text], "value": the last axis' {"title",
    "low", "high"}, "lines": [{"at", "place", "state", "best"}]}]}, the ``SHOWN`` most important axes."""
    panels = []
    for method, one in result["methods"].items():
        known = sorted((line["value"] for line in one["lines"] if line["value"] is not None), reverse=True)
        limit = known[max(0, -(-len(known) // 4) - 1)]
        lines = [{"at": line["at"], "place": line["place"], "state": line["state"],
                  "best": line["value"] is not None and line["value"] >= limit} for line in one["lines"]]
        name = "AUROC" if "auroc" in one["targets"] else one["targets"]["signal"]["name"].replace("_", " ")
        word = rows.signed if one["of_split_mean"] else rows.number
        panels.append({
            "label": method, "axes": [_axis(axis) for axis in one["axes"]], "lines": lines,
            "value": {"title": f"{name} − split's mean" if one["of_split_mean"] else name,
                      "low": word(one["value_range"][0]), "high": word(one["value_range"][1])}})
    return {"title": "Trials over their hyperparameters, the most important on the left", "panels": panels}


def _axis(axis: Mapping[str, Any]) -> dict[str, str]:
    ends = (axis["options"][0], axis["options"][-1]) if axis["options"] else (axis["low"], axis["high"])
    return {"title": _title(axis["name"]) + (" (log)" if axis["log"] else ""),
            "low": rows.short(ends[0]), "high": rows.short(ends[1])}
