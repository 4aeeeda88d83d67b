"""Figures of the questions about oracles: few labels, anomaly classes, layers. A panel for each method."""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from analysis.plot_base import BLUE, GREEN, INK, ORANGE, PURPLE, VERMILION, WIDE, grid, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: colour, marker, dash
ORACLE_LOOKS = ((GREEN, "P", "-"), (ORANGE, "s", "--"))
LINE_LOOKS = {"frozen rule": (BLUE, "-"), "max logit": (VERMILION, ":")}
DOT_LOOKS = {"frozen rule": (BLUE, "o"), "max logit": (VERMILION, "D"), "oracle detector": (ORANGE, "s"),
             "oracle representation": (PURPLE, "^")}


def draw_few_shot(data: Mapping[str, Any], *, width: float = WIDE) -> Figure:
    """`few_shot.figure_data`: oracle AUROC against the number of labels, on a logarithmic axis, and the scorers'
    levels."""
    panels, columns = data["panels"], _columns(data, width)
    figure, axes = grid(len(panels), columns, width=width, height=2.6)
    for index, (axis, panel) in enumerate(zip(axes, panels, strict=True)):
        for (name, curve), look in zip(panel["series"].items(), ORACLE_LOOKS):
            low = [mean - sd for mean, sd in zip(curve["mean"], curve["sd"], strict=True)]
            high = [mean + sd for mean, sd in zip(curve["mean"], curve["sd"], strict=True)]
            _curve(axis, curve["images"], (curve["mean"], low, high), name, look)
        for name, level in panel["lines"].items():
            colour, dash = LINE_LOOKS[name]
            axis.axhline(level, color=colour, linestyle=dash, linewidth=1.6, label=name, zorder=1)
        axis.set_xscale("log")
        images = next(iter(panel["series"].values()))["images"]
        ticks = [n for n in (1, 10, 100, 1000, 10000) if n <= max(images)] + [round(max(images))]
        if len(ticks) > 1 and ticks[-1] < 2.5 * ticks[-2]:
            del ticks[-2]
        axis.set_xticks(ticks, [str(n) for n in ticks])
        axis.minorticks_off()
        axis.set_xlabel("labelled anomalies (log)")
        _finish(axis, panel["label"], "AUROC" if index % columns == 0 else "")
    _legend(figure, axes[0], width)
    return figure


def draw_layers(data: Mapping[str, Any], *, width: float = WIDE) -> Figure:
    """`layers.figure_data`: oracle AUROC from the first stage to z."""
    panels, columns = data["panels"], _columns(data, width)
    figure, axes = grid(len(panels), columns, width=width, height=2.5)
    for index, (axis, panel) in enumerate(zip(axes, panels, strict=True)):
        places = list(range(len(panel["layers"])))
        for (name, curve), look in zip(panel["series"].items(), ORACLE_LOOKS):
            _curve(axis, places, (curve["mean"], curve["low"], curve["high"]), name, look)
        axis.set_xticks(places, panel["layers"], rotation=0 if len(places) < 6 else 40)
        axis.margins(x=0.08)
        axis.set_xlabel("layer, first to last")
        _finish(axis, panel["label"], "AUROC" if index % columns == 0 else "")
    _legend(figure, axes[0], width)
    return figure


def draw_classes(data: Mapping[str, Any], *, width: float = WIDE) -> Figure:
    """`per_class.figure_data`: a row of dots for each anomaly class, hardest on top."""
    panels, columns = data["panels"], _columns(data, width)
    tallest = max(len(panel["classes"]) for panel in panels)
    figure, axes = grid(len(panels), columns, width=width, height=0.9 + 0.24 * tallest)
    for axis, panel in zip(axes, panels, strict=True):
        count = len(panel["classes"])
        for row in range(count):
            known = [values[row] for values in panel["series"].values() if values[row] is not None]
            axis.plot([min(known), max(known)], [row, row], color=INK, linewidth=0.7, alpha=0.5, zorder=1)
        for name, values in panel["series"].items():
            colour, marker = DOT_LOOKS[name]
            known = [(value, row) for row, value in enumerate(values) if value is not None]
            axis.plot(*zip(*known, strict=True), linestyle="", marker=marker, markersize=6, color=colour, label=name,
                      markeredgecolor=INK, markeredgewidth=0.5, alpha=0.9)
        axis.set_yticks(range(count), panel["classes"])
        axis.set_ylim(count - 0.5, -0.5)
        axis.set_xlabel("AUROC")
        axis.locator_params(axis="x", nbins=5)
        axis.set_title(panel["label"], loc="left", fontweight="bold", fontsize=10)
        plain(axis, lines="both")
    _legend(figure, axes[0], width)
    return figure


def _columns(data: Mapping[str, Any], width: float) -> int:
    return min(3 if width > 6 else 1, len(data["panels"]))


def _curve(
    axis: Axes, x: list[float], values: tuple[list[float], list[float], list[float]], name: str, look: tuple
) -> None:
    """A line with its band, edged so that it is seen without colour."""
    mean, low, high = values
    colour, marker, dash = look
    axis.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    axis.plot(x, mean, color=colour, marker=marker, linestyle=dash, markersize=5.5, linewidth=1.4, label=name,
              markeredgecolor=INK, markeredgewidth=0.5)


def _finish(axis: Axes, label: str, side: str) -> None:
    axis.set_title(label, loc="left", fontweight="bold", fontsize=10)
    axis.set_ylabel(side)
    axis.locator_params(axis="y", nbins=5)
    plain(axis, lines="y")


def _legend(figure: Figure, axis: Axes, width: float) -> None:
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=4 if width > 6 else 2, frameon=False, fontsize=8)
