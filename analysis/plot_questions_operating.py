"""Figures of the questions about operating points and about accuracy. Readable without colour."""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from analysis.plot_base import BLUE, GREEN, INK, ORANGE, PURPLE, SKY, VERMILION, WIDE, grid, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINE_LOOKS = {"frozen rule": (BLUE, "-", 2.0), "oracle detector": (ORANGE, "--", 1.7), "best order": (INK, ":", 1.4)}
MARKS = (("o", BLUE), ("s", ORANGE), ("^", GREEN), ("D", VERMILION), ("v", PURPLE), ("P", SKY), ("X", INK), ("<", BLUE),
         (">", ORANGE))


def draw_risk_coverage(data: Mapping[str, Any], *, width: float = WIDE) -> Figure:
    """``operating_points_card.curves_data``."""
    panels = data["panels"]
    columns = 2 if width == WIDE else 1
    figure, axes = grid(len(panels), columns, width=width, height=2.5)
    for index, (axis, panel) in enumerate(zip(axes, panels, strict=True)):
        for name, line in panel["lines"].items():
            colour, dash, weight = LINE_LOOKS[name]
            axis.plot(line["coverage"], line["risk"], color=colour, linestyle=dash, linewidth=weight, label=name)
        axis.set_title(panel["label"], fontsize=9, loc="left")
        axis.set_xlim(0, 1)
        axis.set_ylim(bottom=0)
        axis.set_xlabel("coverage: share of images accepted")
        axis.set_ylabel("share of errors" if index % columns == 0 else "")
        plain(axis, lines="both")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3 if width == WIDE else 2,
                  frameon=False, fontsize=8)
    return figure


def draw_transfer(data: Mapping[str, Any], *, width: float = WIDE) -> Figure:
    """``operating_points_card.transfer_data``: a panel for each aim, a line for each method and split."""
    aims = sorted({line["aimed"] for line in data["lines"]})
    most = max(sum(line["aimed"] == aim for line in data["lines"]) for aim in aims)
    columns = len(aims) if width == WIDE else 1
    figure, axes = grid(len(aims), columns, width=width, height=0.9 + 0.2 * most)
    for index, (axis, aim) in enumerate(zip(axes, aims, strict=True)):
        lines = [line for line in data["lines"] if line["aimed"] == aim]
        for place, line in enumerate(lines):
            axis.plot([line["low"], line["high"]], [place, place], color=SKY, linewidth=5, solid_capstyle="butt", alpha=0.7)
            inside = line["low"] <= line["accepted"] <= line["high"]
            axis.plot(line["accepted"], place, "o", color=BLUE if inside else VERMILION, markersize=5,
                      markerfacecolor=BLUE if inside else "none", markeredgewidth=1.4)
        axis.axvline(aim, color=INK, linestyle="--", linewidth=0.9)
        shown = index % columns == 0
        axis.set_yticks(range(len(lines)), [line["label"] for line in lines] if shown else [""] * len(lines), fontsize=7.5)
        axis.invert_yaxis()
        axis.set_title(f"aimed at {100 * aim:.0f} %", fontsize=9, loc="left")
        axis.set_xlabel("nominal test images accepted")
        plain(axis, lines="both")
    return figure


def draw_accuracy(data: Mapping[str, Any], *, width: float = WIDE) -> Figure:
    """``accuracy_and_auroc.figure_data``: a panel for each target, a marker for each method, a dot for each trial."""
    panels = data["panels"]
    columns = len(panels) if width == WIDE else 1
    figure, axes = grid(len(panels), columns, width=width, height=3.0)
    methods = list(dict.fromkeys(method for panel in panels for method in panel["points"]))
    handles: dict[str, Any] = {}
    for index, (axis, panel) in enumerate(zip(axes, panels, strict=True)):
        for method, points in panel["points"].items():
            number = methods.index(method)  # one marker in all panels, also where a panel lacks a method
            marker, colour = MARKS[number % len(MARKS)]
            (handles[method],) = axis.plot(
                [x for x, _ in points], [y for _, y in points], marker, color=colour, markersize=4.5, alpha=0.75,
                markerfacecolor="none" if number % 2 else colour, linestyle="none")
        axis.set_title(panel["label"], fontsize=9, loc="left")
        axis.set_xlabel("closed-set accuracy")
        axis.set_ylabel("AUROC" if index % columns == 0 else "")
        plain(axis, lines="both")
    figure.legend([handles[method] for method in methods], methods, loc="outside lower center", ncols=4 if width == WIDE else 2,
                  frameon=False, fontsize=8)
    return figure
