"""Which figures a report has and what their captions say; `plot_data` and `curves` compute, `plot_ladder` and
`plot_curves` draw."""
from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from analysis import curves as curve_data
from analysis import plot_data
from analysis import summary_rows as rows
from analysis.card import Figure
from analysis.plot_curves import FEW_PANELS, draw_curve, draw_parameter, draw_signal
from analysis.plot_ladder import FEW, draw_gaps


def figures_of(
    summary: Mapping[str, Any], *, spec: Mapping[str, Any] | None = None, curves: Mapping[str, Any] | None = None
) -> dict[str, Figure]:
    """Every figure that the summary has numbers for, by name: "gaps" (with several splits their mean, and then
    "gaps-by-split"), "parameter-<method>", "signal", and "curve-…" for each of `curves`, see `draw_curve`."""
    found = _gaps(summary)
    for method, data in curve_data.parameter_curves(summary).items():
        name = _name("parameter", method, found)
        found[name] = Figure(name, data, draw_parameter, _parameter_alt(data), data["note"])
    signal = plot_data.signal_scatter(summary, spec=spec)
    if signal["panels"]:
        caption = f"Biased: {signal['biased']}. " if signal["biased"] else ""
        each = " of each split" if len(signal["panels"]) > FEW_PANELS else ""
        found["signal"] = Figure("signal", signal, draw_signal, _signal_alt(signal), (
            f"{caption}Star: the trial selected without labels. Ring: the best{each} in hindsight."))
    for name, curve in (curves or {}).items():
        safe = _name("curve", name, found)
        found[safe] = Figure(safe, curve, draw_curve, _curve_alt(curve), curve.get("note", ""))
    return found


def _gaps(summary: Mapping[str, Any]) -> dict[str, Figure]:
    ladder = plot_data.ladder(summary)
    if not ladder["panels"]:
        return {}
    found = {}
    if len(rows.split_names(summary)) > 1:
        means = plot_data.ladder_means(ladder)
        dots = "Small dots" if len(means["panels"]) > FEW else "Dots"
        words = f"{_gap_words(means)} {dots}: single splits{', of the scorer' if dots != 'Dots' else ''}."
        found["gaps"] = Figure("gaps", means, draw_gaps, _ladder_alt(means), words)
        ladder = {**ladder, "title": plot_data.ladder_range(ladder)}
    name = "gaps-by-split" if found else "gaps"
    found[name] = Figure(name, ladder, draw_gaps, _ladder_alt(ladder), f"{_gap_words(ladder)} Whiskers: 95 % intervals.")
    return found


def _gap_words(data: Mapping[str, Any]) -> str:
    if len(data["panels"]) <= FEW:
        return "Bars: AUROC on the same test images. Hatched: what the step adds. Diamond: max logit alone."
    return "AUROC on the same test images. Orange line: extraction gap; green line: representation gap."


def _name(kind: str, name: object, taken: Mapping[str, Any]) -> str:
    """A file's name of any text, different from those taken."""
    safe = f"{kind}-{re.sub(r'[^a-z0-9]+', '-', str(name).lower()).strip('-') or 'unnamed'}"
    return next(text for text in (safe, *(f"{safe}-{index}" for index in range(2, len(taken) + 3))) if text not in taken)


def _ladder_alt(data: Mapping[str, Any]) -> str:
    parts = [
        f"{p['method']}, {p['label']}: " + ", ".join(f"{b['name']} {rows.number(b['value'])}" for b in p["bars"])
        for p in data["panels"]
    ]
    return f"Bar chart. {data['title']}. {'; '.join(parts)}."


def _parameter_alt(data: Mapping[str, Any]) -> str:
    panels = rows.plural(len(data["panels"]), "panel")
    return f"Scatter plot of AUROC against {data['parameter']} in {panels}. {data['title']}."


def _signal_alt(data: Mapping[str, Any]) -> str:
    return f"Scatter plots of the selecting signal against revealed AUROC. {data['title']}."


def _curve_alt(data: Mapping[str, Any]) -> str:
    return f"Line chart. {data.get('title', '')}. {data.get('y_label', '')} against {data.get('x_label', '')}."
