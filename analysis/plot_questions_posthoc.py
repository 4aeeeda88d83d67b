"""Figure of the question about tuning scorers after training."""
from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from analysis.plot_base import BLUE, GREEN, INK, VERMILION, WIDE, grid, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOOKS = ((BLUE, "o"), (VERMILION, "s"), (GREEN, "D"))
LINE_HEIGHT = 0.42  # inches a scorer


def draw_tuning(data: Mapping[str, Any], *, width: float = WIDE) -> Figure:
    """``posthoc_tuning_card.figure_data``: a row for each scorer, a dot and interval for each choice; filled: sure."""
    from matplotlib.lines import Line2D

    columns = len(data["choices"]) + 1 if width > 6 else 2
    room = 0.6 + 0.2 * -(-(len(data["choices"]) + 1) // columns)
    figure, (axis,) = grid(1, 1, width=width, height=room + LINE_HEIGHT * len(data["scorers"]))
    looks = dict(zip(data["choices"], LOOKS, strict=False))
    for line in data["lines"]:
        colour, marker = looks[line["choice"]]
        y = data["scorers"].index(line["scorer"]) + 0.26 * (data["choices"].index(line["choice"]) - 1)
        axis.plot([line["low"], line["high"]], [y, y], color=colour, linewidth=1.4)
        axis.plot([line["value"]], [y], linestyle="", marker=marker, markersize=5.5, markeredgecolor=colour,
                  markeredgewidth=1.2, markerfacecolor=colour if line["sure"] else "white")
    axis.axvline(0, color=INK, linewidth=1.0, zorder=1)
    axis.set_yticks(range(len(data["scorers"])), data["scorers"])
    axis.set_ylim(len(data["scorers"]) - 0.4, -0.6)
    plain(axis, lines="both")
    _limit(axis, data)
    axis.set_xlabel("test AUROC − that at the default" if width > 6 else "AUROC − default's")
    handles = [Line2D([], [], linestyle="-", marker=marker, color=colour, markerfacecolor="white",
                      label=f"by {choice}") for choice, (colour, marker) in looks.items()]
    handles.append(Line2D([], [], linestyle="", marker="o", color=INK, label="filled: beyond noise"))
    figure.legend(handles=handles, loc="outside lower left", ncols=columns, frameon=False, fontsize=8)
    return figure


def _limit(axis: Any, data: Mapping[str, Any]) -> None:
    """One wide interval (of two splits, say) must not flatten all others: the axis ends at twice the farthest dot,
    and arrows show what goes on."""
    farthest = max((abs(line["value"]) for line in data["lines"]), default=0.0)
    reach = max(abs(end) for line in data["lines"] for end in (line["low"], line["high"])) if data["lines"] else 0.0
    limit = min(1.05 * reach, max(2.0 * farthest, 0.02)) or 0.02
    axis.set_xlim(-limit, limit)
    for line in data["lines"]:
        y = data["scorers"].index(line["scorer"]) + 0.26 * (data["choices"].index(line["choice"]) - 1)
        for end, marker in ((line["low"], "<"), (line["high"], ">")):
            if abs(end) > limit:
                axis.plot([math.copysign(limit, end)], [y], linestyle="", marker=marker, markersize=4, color=INK,
                          clip_on=False, zorder=3)
