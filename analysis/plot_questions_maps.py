"""Figures of maps: importance of hyperparameters, trials over their hyperparameters, latents in a plane."""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from analysis.plot_base import BLUE, GREEN, GRID, INK, ORANGE, PURPLE, SKY, VERMILION, WIDE, grid, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TARGET_LOOKS = {"selection signal": (BLUE, "o"), "revealed AUROC": (VERMILION, "D")}
CLASS_LOOKS = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (PURPLE, "D"), (SKY, "v"), (INK, "P"), (BLUE, "*"),
               (ORANGE, "<"), (GREEN, ">"), (PURPLE, "h"))
NARROW_AXES = 4  # hyperparameters side by side on a narrow page


def draw_importance(data: Mapping[str, Any], *, width: float = WIDE) -> Figure:
    """``search_map_card.importance_data``: a row for each hyperparameter, a dot with its spread for each target."""
    from matplotlib.lines import Line2D

    panels = data["panels"]
    tallest = max(len(panel["parameters"]) for panel in panels)
    figure, axes = grid(len(panels), min(2 if width > 6 else 1, len(panels)), width=width, height=0.9 + 0.3 * tallest)
    for axis, panel in zip(axes, panels, strict=True):
        for step, (target, found) in enumerate(panel["series"].items()):
            colour, marker = TARGET_LOOKS[target]
            for row, share in enumerate(found["share"]):
                y = row + 0.3 * (step - (len(panel["series"]) - 1) / 2)
                axis.plot([found["low"][row], found["high"][row]], [y, y], color=colour, linewidth=1.4)
                axis.plot([share], [y], linestyle="", marker=marker, markersize=6, markeredgecolor=colour,
                          markeredgewidth=1.2, markerfacecolor=colour if found["mattered"][row] else "white")
        axis.set_yticks(range(len(panel["parameters"])), panel["parameters"])
        axis.set_ylim(tallest - 0.4, -0.6)
        axis.set_xlim(-0.02, 1.02)
        axis.set_xlabel("share of importance")
        axis.set_title(panel["label"], loc="left", fontweight="bold", fontsize=10)
        plain(axis, lines="both")
    shown = {target for panel in panels for target in panel["series"]}
    handles = [Line2D([], [], marker=marker, color=colour, markerfacecolor="white", label=target)
               for target, (colour, marker) in TARGET_LOOKS.items() if target in shown]
    handles.append(Line2D([], [], linestyle="", marker="o", color=INK, label="filled: beyond shuffled values"))
    figure.legend(handles=handles, loc="outside lower left", ncols=3 if width > 6 else 1, frameon=False, fontsize=8)
    return figure


def draw_coordinates(data: Mapping[str, Any], *, width: float = WIDE) -> Figure:
    """``search_map_card.coordinates_data``: parallel coordinates, the AUROC last."""
    from matplotlib.lines import Line2D

    panels = data["panels"]
    figure, axes = grid(len(panels), 1, width=width, height=2.9)
    for axis, panel in zip(axes, panels, strict=True):
        _coordinates(axis, panel, len(panel["axes"]) if width > 6 else NARROW_AXES)
        axis.set_title(panel["label"], loc="left", fontweight="bold", fontsize=10, pad=22)
    handles = [Line2D([], [], color=VERMILION, linewidth=2.0, label="best quarter"),
               Line2D([], [], color=BLUE, linewidth=0.8, linestyle="--", label="other trials"),
               Line2D([], [], color=INK, linewidth=0.8, linestyle=":", marker="x", label="did not complete")]
    figure.legend(handles=handles, loc="outside lower left", ncols=3 if width > 6 else 2, frameon=False, fontsize=8)
    return figure


def _coordinates(axis: Axes, panel: Mapping[str, Any], most: int) -> None:
    shown = [*panel["axes"][:most], panel["value"]]
    count = len(shown) - 1
    for line in sorted(panel["lines"], key=lambda line: line["best"]):
        points = [(x, y) for x, y in enumerate(line["at"][:count]) if y is not None]
        if line["place"] is not None:
            points.append((count, line["place"]))
            look = {"color": VERMILION, "linewidth": 2.0} if line["best"] else \
                {"color": BLUE, "linewidth": 0.8, "linestyle": "--", "alpha": 0.6}
            axis.plot(*zip(*points, strict=True), **look)
        elif points:
            axis.plot(*zip(*points, strict=True), color=INK, linewidth=0.8, linestyle=":")
            axis.plot(*points[-1], marker="x", color=INK, markersize=6)
    for x, one in enumerate(shown):
        axis.plot([x, x], [0, 1], color=GRID if x < count else INK, linewidth=1.2, zorder=0)
        axis.annotate(one["high"], (x, 1.0), (0, 3), textcoords="offset points", ha="center", fontsize=7.5)
        axis.annotate(one["low"], (x, 0.0), (0, -3), textcoords="offset points", ha="center", va="top", fontsize=7.5)
    axis.set_xticks(range(len(shown)), [_wrapped(one["title"]) for one in shown])
    axis.set_xlim(-0.35, count + 0.35)
    axis.set_ylim(-0.1, 1.1)
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    axis.tick_params(axis="x", length=0, labelsize=8)


def _wrapped(title: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(title, 13, break_long_words=False))


def draw_latents(data: Mapping[str, Any], *, width: float = WIDE) -> Figure:
    """``latent_map.figure_data``: images in the plane of two principal components. Nominal classes by marker,
    anomalies as crosses, names at the means of classes (nominal: bold, thick frame)."""
    from matplotlib.lines import Line2D

    panels = data["panels"]
    figure, axes = grid(len(panels), min(2 if width > 6 else 1, len(panels)), width=width, height=4.2)
    for axis, panel in zip(axes, panels, strict=True):
        for name, points in panel["anomalies"].items():
            axis.plot(*zip(*points, strict=True), linestyle="", marker="x", markersize=4, color=VERMILION, alpha=0.7,
                      markeredgewidth=0.9, label=name)
        for index, (name, points) in enumerate(panel["nominal"].items()):
            colour, marker = CLASS_LOOKS[index % len(CLASS_LOOKS)]
            axis.plot(*zip(*points, strict=True), linestyle="", marker=marker, markersize=4, markeredgecolor=colour,
                      markerfacecolor="none", alpha=0.8, label=name)
        for kind, (edge, weight) in {"anomalies": (VERMILION, "normal"), "nominal": (INK, "bold")}.items():
            for name, place in panel["means"][kind].items():
                axis.annotate(name, place, ha="center", va="center", fontsize=7.5, fontweight=weight, color=INK,
                              bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": edge,
                                    "alpha": 0.85, "linewidth": 0.8 if kind == "anomalies" else 1.4})
        axis.set_xlabel(panel["x"])
        axis.set_ylabel(panel["y"])
        axis.set_title(panel["label"], loc="left", fontweight="bold", fontsize=10)
        axis.set_aspect("equal", adjustable="datalim")
        plain(axis, lines="both")
    handles = [Line2D([], [], linestyle="", marker="o", markerfacecolor="none", color=BLUE,
                      label="nominal test images, a marker for each class"),
               Line2D([], [], linestyle="", marker="x", color=VERMILION, label="anomalies")]
    figure.legend(handles=handles, loc="outside lower left", ncols=2 if width > 6 else 1, frameon=False, fontsize=8)
    return figure
