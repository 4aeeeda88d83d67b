"""Figures of the signal leaderboard: how well each signal orders trials, and what choosing by it loses."""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from analysis.plot_base import BLUE, GREEN, INK, ORANGE, PURPLE, VERMILION, WIDE, grid, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KIND_LOOKS = {"signal": (BLUE, "o"), "mean of ranks": (ORANGE, "s"), "learned": (GREEN, "D")}
BASELINE_LOOKS = {"default": (VERMILION, "--"), "random": (PURPLE, ":"), "hindsight": (INK, "-.")}
LINE_HEIGHT = 0.23  # inches a rule


def draw_tau(data: Mapping[str, Any], *, width: float = WIDE) -> Figure:
    """``signal_leaderboard.tau_data``: Kendall's τ of each rule with its interval, ticks for single splits.
    Filled: beyond noise over splits, after Holm."""
    figure, axis = _axis(data, width)
    for place, line in enumerate(data["lines"]):
        colour, marker = KIND_LOOKS[line["kind"]]
        _ticks(axis, line["by_split"], place, colour)
        if line["low"] is not None:
            axis.plot([line["low"], line["high"]], [place, place], color=colour, linewidth=1.6)
        _dot(axis, line["value"], place, colour, marker, filled=line["sure"])
    axis.axvline(0, color=INK, linewidth=1.1)
    axis.set_xlabel("Kendall τ with revealed AUROC, turned so that + is right")
    _legend(figure, data, width, small="one split")
    return figure


def draw_regret(data: Mapping[str, Any], *, width: float = WIDE) -> Figure:
    """``signal_leaderboard.regret_data``: mean regret of each rule ± standard error, baselines as named lines; 0 is the
    trial that test labels would have picked. Filled: better than both default and random trial beyond noise."""
    figure, axis = _axis(data, width)
    for place, line in enumerate(data["lines"]):
        colour, marker = KIND_LOOKS[line["kind"]]
        _ticks(axis, line["by_split"], place, colour)
        if line["error"] is not None:
            axis.plot([line["value"] - line["error"], line["value"] + line["error"]], [place, place], color=colour,
                      linewidth=1.6)
        _dot(axis, line["value"], place, colour, marker, filled=line["beats"])
    for name, value in data["baselines"].items():
        colour, dash = BASELINE_LOOKS[name]
        axis.axvline(value, color=colour, linestyle=dash, linewidth=1.6, label=data["titles"][name], zorder=0)
    axis.axvline(0, color=INK, linewidth=1.0)
    axis.set_xlabel("regret: AUROC below the best trial's")
    _legend(figure, data, width, small="one split")
    return figure


def _dot(axis: Axes, x: float, y: int, colour: str, marker: str, *, filled: bool) -> None:
    axis.plot([x], [y], linestyle="", marker=marker, markersize=6, markeredgecolor=colour, markeredgewidth=1.2,
              markerfacecolor=colour if filled else "white")


def _ticks(axis: Axes, values: list[float], y: int, colour: str) -> None:
    axis.plot(values, [y] * len(values), linestyle="", marker="|", markersize=6, color=colour, alpha=0.6)


def _axis(data: Mapping[str, Any], width: float) -> tuple[Figure, Axes]:
    lines = data["lines"]
    figure, axes = grid(1, 1, width=width, height=1.0 + LINE_HEIGHT * len(lines))
    axis = axes[0]
    axis.set_yticks(range(len(lines)), [line["name"].replace("_", " ") for line in lines])
    axis.set_ylim(len(lines) - 0.4, -0.6)
    plain(axis, lines="both")
    return figure, axis


def _legend(figure: Figure, data: Mapping[str, Any], width: float, *, small: str) -> None:
    from matplotlib.lines import Line2D

    kinds = [kind for kind in KIND_LOOKS if any(line["kind"] == kind for line in data["lines"])]
    handles = [Line2D([], [], linestyle="", marker=KIND_LOOKS[kind][1], color=KIND_LOOKS[kind][0], label=kind)
               for kind in kinds]
    handles.append(Line2D([], [], linestyle="", marker="|", color=INK, label=small))
    for name in data.get("baselines") or {}:
        colour, dash = BASELINE_LOOKS[name]
        handles.append(Line2D([], [], color=colour, linestyle=dash, label=data["titles"][name]))
    figure.legend(handles=handles, loc="outside lower left", ncols=4 if width > 6 else 2, frameon=False, fontsize=8)
