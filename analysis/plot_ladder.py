"""The gap figures: what the scorer reads, what the oracle reads, what the architecture could hold."""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from analysis import summary_rows as rows
from analysis.plot_base import BLUE, GREEN, INK, ORANGE, VERMILION, WIDE, grid, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BARS = {"scorer": (BLUE, ""), "oracle": (ORANGE, "////"), "representation": (GREEN, "\\\\\\\\")}
DOTS = {"scorer": (BLUE, "o"), "oracle": (ORANGE, "s"), "representation": (GREEN, "^")}
FEW = 6  # bars with their numbers beside them; more panels than this become lines of dots


def draw_gaps(data: Mapping[str, Any], *, width: float = WIDE) -> Figure:
    """Bars for a few panels, a line of dots for each of many."""
    return (draw_ladder if len(data["panels"]) <= FEW else draw_dots)(data, width=width)


def draw_ladder(data: Mapping[str, Any], *, width: float = WIDE) -> Figure:
    """Gap bars: each step begins where the one above it ends, so that its hatched part is the gap."""
    panels = data["panels"]
    columns = min(2 if width > 6 else 1, len(panels))
    figure, axes = grid(len(panels), columns, width=width, height=1.95)
    ends = [end for p in panels for bar in p["bars"] for end in (bar["value"], *(bar["ci"] or ()), *bar["spread"])]
    left = axis_start([*ends, *(p["max_logit"] for p in panels if p["max_logit"] is not None)])
    for axis, panel in zip(axes, panels, strict=True):
        _ladder_panel(axis, panel, left, brief=width < 6)
        axis.set_title(f"{panel['method']} · {panel['label']}", loc="left", fontweight="bold", fontsize=10)
    for axis in axes[-columns:]:
        axis.set_xlabel("AUROC (0.5 = chance)" if left <= 0.5 else f"AUROC (the axis begins at {left:g})")
    return figure


def axis_start(values: list[float]) -> float:
    """Where the ladder begins: at chance, nearer when every value is high (a gap of 0.01 could not be seen from 0.5),
    below chance when a value is."""
    lowest = min(values)
    if lowest < 0.5:
        return max(0.0, lowest - 0.03)
    return next(start for start in (0.9, 0.8, 0.5) if lowest - start >= 0.02 or start == 0.5)


def _ladder_panel(axis: Axes, panel: Mapping[str, Any], left: float, *, brief: bool) -> None:
    """`brief` leaves out the gaps' intervals, for which a phone has no room."""
    before: float | None = None
    for index, bar in enumerate(panel["bars"]):
        y, value = -index, bar["value"]
        colour, hatch = BARS[bar["name"]]
        start = left if before is None or bar["gap"] is None else min(before, value)
        axis.barh(y, start - left, left=left, height=0.36, color=colour, alpha=0.3, linewidth=0)
        lost = before is not None and bar["gap"] is not None and value < before
        end = before if lost else value
        axis.barh(y, end - start, left=start, height=0.36, facecolor="none" if lost else colour, edgecolor=INK,
                  hatch="xxxx" if lost else hatch, linewidth=0.8)
        if bar["ci"]:
            axis.plot(bar["ci"], [y, y], color=INK, linewidth=1.2, marker="|", markersize=6, clip_on=False)
        if bar["spread"]:
            axis.plot(bar["spread"], [y] * len(bar["spread"]), linestyle="", marker="o", markersize=4.5,
                      markerfacecolor="white", markeredgecolor=INK, markeredgewidth=0.9, clip_on=False)
        if before is not None:
            axis.plot([before, before], [y + 0.82, y + 0.56], color=INK, linewidth=0.7, linestyle=":")
        axis.text(left, y + 0.25, f"{bar['name']} {rows.number(value)} {rows.bounds(bar['ci'], 2)}".rstrip(),
                  va="bottom", fontweight="bold", fontsize=8.5)
        if bar["gap"] is not None:
            limits = "" if brief else rows.bounds(bar["gap_ci"], 2, sign=True)
            name = "gap" if brief or limits else "representation gap"
            name = "extraction" if bar["name"] == "oracle" and not brief else name
            text = f"{name} {rows.signed(bar['gap'])} {limits}".rstrip()
            axis.text(1.0, y + 0.25, text, va="bottom", ha="right", fontsize=8.5)
        before = value
    if panel["max_logit"] is not None and panel["bars"][0]["name"] == "scorer":
        axis.plot([panel["max_logit"]], [0], marker="D", markersize=6, markerfacecolor="white", markeredgecolor=INK,
                  clip_on=False)
        axis.text(1.0, 0.25, f"◇ max logit {rows.number(panel['max_logit'])}", va="bottom", ha="right", fontsize=8.5)
    axis.set(xlim=(left, 1.0), ylim=(-len(panel["bars"]) + 0.65, 0.75), yticks=[])
    plain(axis, lines="x")
    axis.spines["left"].set_visible(False)


def draw_dots(data: Mapping[str, Any], *, width: float = WIDE) -> Figure:
    """One axis for each label (a split, or the mean of all), in it a line for each method: max logit, scorer, oracle and
    representation on one scale, joined where the gaps are. Methods stand in the order of their mean scorer AUROC."""
    labels = list(dict.fromkeys(panel["label"] for panel in data["panels"]))
    order = _by_scorer(data["panels"])
    columns = min(3 if width > 6 else 1, len(labels))
    figure, axes = grid(len(labels), columns, width=width, height=0.33 * len(order) + 0.8)
    values = [v for p in data["panels"] for b in p["bars"] for v in (b["value"], *b["spread"])]
    left = axis_start([*values, *(p["max_logit"] for p in data["panels"] if p["max_logit"] is not None)])
    for index, (axis, label) in enumerate(zip(axes, labels, strict=True)):
        for panel in (panel for panel in data["panels"] if panel["label"] == label):
            _dotted_line(axis, panel, -order.index(panel["method"]), words=columns == len(labels) == 1 and width > 6)
        names = order if index % columns == 0 else [""] * len(order)
        axis.set(xlim=(left, 1.005), ylim=(0.6 - len(order), 0.6))
        axis.set_yticks([-place for place in range(len(order))], names)
        axis.set_title(label, loc="left", fontweight="bold", fontsize=10)
        axis.set_xlabel("AUROC (0.5 = chance)" if left <= 0.5 else f"AUROC (from {left:g})")
        plain(axis, lines="both")
        axis.spines["left"].set_visible(False)
        axis.tick_params(axis="y", length=0)
    figure.legend(handles=_dot_legend(), loc="outside lower left", ncols=4 if width > 6 else 2, frameon=False, fontsize=8)
    return figure


def _by_scorer(panels: list[Mapping[str, Any]]) -> list[str]:
    """Methods, the best mean scorer AUROC first."""
    found: dict[str, list[float]] = {}
    for panel in panels:
        found.setdefault(panel["method"], []).extend(b["value"] for b in panel["bars"] if b["name"] == "scorer")
    return sorted(found, key=lambda method: -(rows.mean(found[method]) or 0))


def _dotted_line(axis: Axes, panel: Mapping[str, Any], y: float, *, words: bool) -> None:
    before = None
    for bar in panel["bars"]:
        colour, marker = DOTS[bar["name"]]
        if before is not None:
            axis.plot([before, bar["value"]], [y, y], color=colour, linewidth=3.5, alpha=0.45, zorder=1,
                      solid_capstyle="butt")
        if bar["name"] == "scorer":
            if bar["ci"]:
                axis.plot(bar["ci"], [y, y], color=INK, linewidth=1, marker="|", markersize=5, zorder=2)
            axis.plot(bar["spread"], [y - 0.3] * len(bar["spread"]), linestyle="", marker=".", markersize=3.5, color=INK)
        axis.plot([bar["value"]], [y], marker=marker, color=colour, markersize=7, markeredgecolor=INK,
                  markeredgewidth=0.6, zorder=3)
        before = bar["value"]
    if panel["max_logit"] is not None:
        axis.plot([panel["max_logit"]], [y], marker="D", markersize=5, markerfacecolor="white", markeredgecolor=VERMILION,
                  markeredgewidth=1.2, zorder=4)
    if words:
        text = " → ".join(rows.number(bar["value"]) for bar in panel["bars"])
        axis.text(1.01, y, text, transform=axis.get_yaxis_transform(), va="center", fontsize=8)


def _dot_legend() -> list[Any]:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], linestyle="", marker=marker, color=colour, markersize=7, markeredgecolor=INK,
                      markeredgewidth=0.6, label=name) for name, (colour, marker) in DOTS.items()]
    return [Line2D([], [], linestyle="", marker="D", markersize=5, markerfacecolor="white", markeredgecolor=VERMILION,
                   markeredgewidth=1.2, label="max logit"), *handles]
