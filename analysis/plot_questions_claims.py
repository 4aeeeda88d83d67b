"""Figures of the study's claims: differences with their intervals, and ROC curves with bands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from analysis.plot_base import BLUE, GREEN, GRID, INK, ORANGE, PURPLE, VERMILION, WIDE, grid, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOOKS = {  # verdict: colour, marker, filled
    "yes": (BLUE, "o", True), "the other way": (VERMILION, "s", True), "no difference beyond noise": (INK, "o", False),
    "not known": (INK, "x", False),
}
CURVES = {  # colour, line, hatch of the band
    "frozen_rule": (BLUE, "-", ""), "max_logit": (PURPLE, ":", ""), "oracle_detector": (ORANGE, "--", "////"),
    "oracle_representation": (GREEN, "-.", ""),
}
LINE_HEIGHT = 0.24  # inches a line of a forest plot


def draw_forest(data: Mapping[str, Any], *, width: float = WIDE) -> Figure:
    """``study_claims_card.forest_data``: a line a difference, 0 marked; intervals that leave the axis end in an arrow."""
    panels, columns = data["panels"], min(data["columns"] if width > 6 else 1, len(data["panels"]))
    letters = 26 if width < 6 else 60
    wraps = any(len(line["name"]) > letters for panel in panels for line in panel["lines"])
    tall = LINE_HEIGHT * (1.4 if wraps else 1.0)
    per_row = [max(len(p["lines"]) for p in panels[i:i + columns]) for i in range(0, len(panels), columns)]
    total = sum(0.75 + tall * n for n in per_row)
    figure, axes = grid(len(panels), columns, width=width, height=total / len(per_row))
    specification = axes[0].get_gridspec()
    specification.set_height_ratios([0.75 + tall * n for n in per_row])
    for axis, panel in zip(axes, panels, strict=True):
        lines = panel["lines"]
        for place, line in enumerate(lines):
            _difference(axis, line, place, data["limits"])
        axis.axvline(0, color=INK, linewidth=1.0, zorder=0)
        names = [_wrapped(line["name"].replace("_", " "), letters) for line in lines]
        axis.set_yticks(range(len(lines)), names)
        axis.set(xlim=data["limits"], ylim=(len(lines) - 0.4, -0.6), xlabel="difference in AUROC")
        plain(axis, lines="x")
        axis.locator_params(axis="x", nbins=5 if width < 6 or columns > 1 else 9)
        if panel["title"]:
            axis.set_title(_wrapped(panel["title"], 60 if width > 6 else 36), loc="left", fontsize=9, fontweight="bold")
    _forest_legend(figure, panels, width)
    return figure


def _wrapped(text: str, length: int) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, length))


def _difference(axis: Axes, line: Mapping[str, Any], y: int, limits: list[float]) -> None:
    colour, marker, filled = LOOKS[line["verdict"]]
    if line["low"] is not None:
        low, high = max(line["low"], limits[0]), min(line["high"], limits[1])
        axis.plot([low, high], [y, y], color=colour, linewidth=1.0)
        for end, cut, arrow in ((low, line["low"] < limits[0], "<"), (high, line["high"] > limits[1], ">")):
            if cut:
                axis.plot([end], [y], marker=arrow, color=colour, markersize=5, clip_on=False)
    if line["images"]:
        axis.plot(line["images"], [y, y], color=colour, linewidth=3.2, solid_capstyle="butt", alpha=0.55)
    axis.plot(line["points"], [y] * len(line["points"]), linestyle="", marker="|", markersize=8, color=INK, alpha=0.7)
    axis.plot([line["value"]], [y], linestyle="", marker=marker, markersize=6.5, markeredgecolor=colour, markeredgewidth=1.3,
              markerfacecolor=colour if filled else "white", zorder=3)


def _forest_legend(figure: Figure, panels: list[Mapping[str, Any]], width: float) -> None:
    from matplotlib.lines import Line2D

    seen = {line["verdict"] for panel in panels for line in panel["lines"]}
    words = {"yes": "yes: above 0", "the other way": "the other way: below 0"}
    handles = [Line2D([], [], linestyle="", marker=marker, color=colour, markerfacecolor=colour if filled else "white",
                      label=words.get(verdict, verdict)) for verdict, (colour, marker, filled) in LOOKS.items() if verdict in seen]
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles) if width > 6 else 1, frameon=False, fontsize=8)


def draw_roc(data: Mapping[str, Any], *, width: float = WIDE) -> Figure:
    """``roc.roc_data``: a panel a method, its curves with their bands."""
    panels, until = data["panels"], data["fpr"][-1]
    columns = min(len(panels), 3 if width > 6 else 2)
    figure, axes = grid(len(panels), columns, width=width, height=0.25 + 0.95 * width / max(columns, 2))
    for number, (axis, panel) in enumerate(zip(axes, panels, strict=True)):
        axis.plot([0, 1], [0, 1], color=GRID, linewidth=1.0)
        for curve in panel["curves"]:
            colour, line, hatch = CURVES[curve["name"]]
            axis.fill_between(data["fpr"], curve["low"], curve["high"], facecolor=colour, alpha=0.22, linewidth=0)
            if hatch:
                axis.fill_between(data["fpr"], curve["low"], curve["high"], facecolor="none", edgecolor=colour, hatch=hatch,
                                  linewidth=0, alpha=0.5)
            axis.plot(data["fpr"], curve["tpr"], color=colour, linestyle=line, linewidth=1.6)
        axis.set(xlim=(0, until), ylim=(0, 1.005), xticks=[0, until / 2, until], yticks=[0, 0.5, 1])
        axis.set_box_aspect(1)
        axis.set_title(panel["method"].replace("_", " "), loc="left", fontsize=9, fontweight="bold")
        if number % columns == 0:
            axis.set_ylabel("anomalies found" if width > 6 else "found", fontsize=8)
        if number >= len(panels) - columns:
            axis.set_xlabel("false alarms", fontsize=8)
        plain(axis, lines="both")
    _roc_legend(figure, panels, data["titles"], width)
    return figure


def _roc_legend(figure: Figure, panels: list[Mapping[str, Any]], titles: Mapping[str, str], width: float) -> None:
    from matplotlib.lines import Line2D

    seen = [name for name in CURVES if any(curve["name"] == name for panel in panels for curve in panel["curves"])]
    handles = [Line2D([], [], color=CURVES[name][0], linestyle=CURVES[name][1], linewidth=1.8, label=titles[name])
               for name in seen]
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles) if width > 6 else 2, frameon=False, fontsize=8,
                  handlelength=3.2)
