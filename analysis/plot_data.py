"""What the report's figures show, as plain dicts of numbers: no drawing, no matplotlib, nothing but the summary."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis import signals
from analysis import summary_rows as rows
from analysis.rank_correlation import kendall_tau
from analysis.summary_rows import UNADAPTIVE


def ladder(summary: Mapping[str, Any]) -> dict[str, Any]:
    """{"panels": [{"method", "label", "bars", "max_logit"}], "title"}: scorer → oracle → representation.

    One panel per method and split, split by split. A bar: {"name", "value", "ci", "gap", "gap_ci", "spread"}; only numbers that exist
    become bars.
    """
    panels = []
    for row in rows.selected_rows(summary):
        bars = [
            _bar("scorer", row.get("scorer_auroc"), row.get("scorer_auroc_ci")),
            _bar("oracle", row.get("oracle_detector_auroc"), row.get("oracle_detector_ci"),
                 row.get("extraction_gap"), row.get("extraction_gap_ci")),
            _bar("representation", row.get("oracle_representation_auroc"), row.get("oracle_representation_ci"),
                 row.get("representation_gap"), row.get("representation_gap_ci")),
        ]
        known = [bar for bar in bars if bar["value"] is not None]
        if known:
            panels.append({"method": str(row["method"]), "label": f"split {row.get('split', 0)}", "bars": known,
                           "max_logit": rows.max_logit_auroc(row)})
    order = [str(split) for split in rows.split_names(summary)]
    panels.sort(key=lambda panel: order.index(panel["label"].removeprefix("split ")))  # stable: methods side by side
    return {"panels": panels, "title": _ladder_title(panels)}


def ladder_range(data: Mapping[str, Any]) -> str:
    """How far the extraction gap moves between the panels, in words."""
    gaps = [bar["gap"] for panel in data["panels"] for bar in panel["bars"] if bar["name"] == "oracle"]
    known = [gap for gap in gaps if gap is not None]
    if not known:
        return "Each split by itself"
    return f"Each split by itself: extraction gaps from {rows.signed(min(known))} to {rows.signed(max(known))}"


def ladder_means(data: Mapping[str, Any]) -> dict[str, Any]:
    """The ladder of every method averaged over its splits; each bar's "spread" holds the splits' own values."""
    panels = []
    for method in dict.fromkeys(panel["method"] for panel in data["panels"]):
        mine = [panel for panel in data["panels"] if panel["method"] == method]
        bars = []
        for name in ("scorer", "oracle", "representation"):
            same = [bar for panel in mine for bar in panel["bars"] if bar["name"] == name]
            if same:
                values = [bar["value"] for bar in same]
                bars.append({**_bar(name, rows.mean(values), None, rows.mean(bar["gap"] for bar in same)),
                             "spread": values})
        panels.append({"method": method, "label": f"mean of {rows.plural(len(mine), 'split')}", "bars": bars,
                       "max_logit": rows.mean(panel["max_logit"] for panel in mine)})
    return {"panels": panels, "title": _ladder_title(data["panels"])}


def _bar(name: str, value: object, ci: object, gap: object = None, gap_ci: object = None) -> dict[str, Any]:
    return {"name": name, "value": rows.finite(value), "ci": rows.interval(ci), "gap": rows.finite(gap),
            "gap_ci": rows.interval(gap_ci), "spread": []}


def _ladder_title(panels: list[dict[str, Any]]) -> str:
    gaps = [bar for panel in panels for bar in panel["bars"] if bar["name"] == "oracle" and bar["gap"] is not None]
    if not gaps:
        return "What each scorer reads from its network"
    unsure = [bar for bar in gaps if bar["gap_ci"] and bar["gap_ci"][0] <= 0 <= bar["gap_ci"][1]]
    values = sorted(bar["gap"] for bar in gaps)
    if len(unsure) == len(gaps):
        return "Labelled anomalies read no more from z than the scorer does, within noise"
    if values[-1] <= 0:
        return "The scorers read as much from z as a forest with labelled anomalies"
    span = rows.number(values[0]) if rows.number(values[0]) == rows.number(values[-1]) else (
        f"{rows.number(values[0])} to {rows.number(values[-1])}")
    return f"With labelled anomalies {span} more AUROC can be read from the same z"


def signal_scatter(summary: Mapping[str, Any], *, spec: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """{"panels": [{"method", "split", "signal", "trial", "x", "y", "selected", "best", "tau", "lower_is_better"}],
    "biased": reason or "", "title"}: each completed trial's signal against its revealed AUROC (frozen rule).

    "selected", "best": positions in x and y, or None. "tau" is Kendall's τ-b, turned so that positive means that the
    signal orders trials rightly; None for fewer than eight trials. An adaptive sampler or a pruner makes it biased.
    """
    panels = []
    for method, split in rows.groups(summary):
        measured = [
            row for row in rows.trial_rows(summary, method, split)
            if rows.finite(row.get("signal_value")) is not None and rows.finite(row.get("scorer_auroc")) is not None
        ]
        if len(measured) < 2:
            continue
        x = [float(row["signal_value"]) for row in measured]
        y = [float(row["scorer_auroc"]) for row in measured]
        name = str(measured[0].get("signal"))
        lower = lower_is_better(name)
        tau = kendall_tau([-value for value in x] if lower else x, y)
        panels.append({
            "method": method, "split": split, "signal": name, "lower_is_better": lower, "x": x, "y": y, "tau": tau,
            "trial": [row.get("trial") for row in measured],
            "selected": next((i for i, row in enumerate(measured) if row.get("selected")), None),
            "best": max(range(len(y)), key=y.__getitem__),
        })
    biased = bias_of(spec)
    return {"panels": panels, "biased": biased, "title": _signal_title(panels, biased)}


def lower_is_better(signal: str) -> bool:
    """By the signal's own record; a signal that has none (an older study's) counts as higher is better."""
    try:
        return signals.get_signal(signal).direction == "minimize"
    except ValueError:
        return False


def bias_of(spec: Mapping[str, Any] | None) -> str:
    """Why τ of this study's trials is biased, or "" for a random search without pruner."""
    search = (spec or {}).get("search")
    search = search if isinstance(search, Mapping) else {}
    sampler, pruner = str(search.get("sampler", "tpe")), str(search.get("pruner", "none"))
    reasons = [] if sampler in UNADAPTIVE else [f"the {sampler} sampler chose trials by this signal"]
    reasons += [f"the {pruner} pruner left trials out"] if pruner != "none" else []
    return " and ".join(reasons)


def _signal_title(panels: list[dict[str, Any]], biased: str) -> str:
    taus = [panel["tau"] for panel in panels if panel["tau"] is not None]
    if not taus:
        return "Signal against revealed AUROC: too few trials to say how well it orders them"
    name = panels[0]["signal"]
    span = rows.signed(taus[0], 2) if len(taus) == 1 else f"{rows.signed(min(taus), 2)} to {rows.signed(max(taus), 2)}"
    return f"{name} orders trials with Kendall τ {span}{' (biased)' if biased else ''}"
