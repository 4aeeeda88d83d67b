"""Figures of a comparison: the gap ladders of the studies side by side, and the differences with their intervals."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from analysis import plot_data
from analysis import summary_rows as rows
from analysis.plot_base import BLUE, INK, VERMILION, WIDE, Drawn, finish, grid, plain
from analysis.plot_ladder import FEW, draw_gaps

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_all(data: Mapping[str, Any], studies: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Drawn]:
    """The figures that there are numbers for, by name. ``data``: what `compare_studies` found; ``studies``: (label,
    summary) of each."""
    found, moved, ladders = {}, difference_data(data), ladder_data(studies)
    if moved["lines"]:
        found["differences"] = finish("differences", moved, draw_differences, _difference_alt(moved), (
            "Whiskers: 95 % intervals. Filled: beyond noise after adjustment for the number of comparisons. "
            "Without whiskers: no interval is known."))
    if ladders["panels"]:
        few = len(ladders["panels"]) <= FEW
        words = ("Bars: AUROC; hatched: what the step adds. Diamond: max logit alone." if few else
                 "Orange line: extraction gap; green line: representation gap.")
        found["ladders"] = finish("ladders", ladders, draw_gaps, _ladder_alt(ladders),
                                  f"{words} Means over each study's splits.")
    return found


def ladder_data(studies: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """The ladders of the methods that several studies have (else of all), as `plot_ladder.draw_gaps` takes them."""
    panels = []
    for label, summary in studies:
        made = plot_data.ladder(summary)
        if len({panel["label"] for panel in made["panels"]}) > 1:
            made = plot_data.ladder_means(made)
        panels += [{**panel, "label": label} for panel in made["panels"]]
    order = list(dict.fromkeys(panel["method"] for panel in panels))
    several = [method for method in order if sum(panel["method"] == method for panel in panels) > 1]
    panels = [panel for panel in panels if panel["method"] in (several or order)]
    panels.sort(key=lambda panel: order.index(panel["method"]))  # stable: the studies keep their order
    return {"panels": panels, "title": "What scorers read, and what is there to read, in each study"}


def difference_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """{"lines": [{"label", "value", "low", "high", "clear"}], "title", "first"}: the frozen rule's differences."""
    lines = []
    for line in data["differences"]:
        scorer = line["measures"].get("scorer")
        if scorer is not None:
            who = line["method"] if line["method"] == line["against"] else f"{line['method']} against {line['against']}"
            lines.append({"label": f"{who} · {line['label']}", "value": scorer["difference"], "low": scorer["low"],
                          "high": scorer["high"], "clear": line["verdict"] in ("higher", "lower")})
    first = data["studies"][0]["label"]
    clear = sum(line["clear"] for line in lines)
    told = f"{clear} of {rows.plural(len(lines), 'difference')} from {first} beyond noise"
    if all(line["low"] is None for line in lines):
        told = f"Differences from {first}, none with an interval"
    return {"lines": lines, "first": first, "title": told}


def draw_differences(data: Mapping[str, Any], *, width: float = WIDE) -> Figure:
    """A line for each comparison, the zero marked."""
    lines = data["lines"]
    figure, (axis,) = grid(1, 1, width=width, height=0.34 * len(lines) + 0.9)
    brief = width < 6
    for place, line in enumerate(lines):
        colour = VERMILION if line["clear"] else BLUE
        if line["low"] is not None:
            axis.plot([line["low"], line["high"]], [-place] * 2, color=INK, linewidth=1.2, marker="|", markersize=6)
        axis.plot([line["value"]], [-place], linestyle="", marker="D" if line["clear"] else "o", markersize=7,
                  markerfacecolor=colour if line["clear"] else "white", markeredgecolor=colour, markeredgewidth=1.5)
        if brief:
            axis.text(0, -place + 0.28, line["label"], transform=axis.get_yaxis_transform(), fontsize=8, va="bottom")
        else:
            words = f"{rows.signed(line['value'])} {rows.bounds([line['low'], line['high']], sign=True)}".rstrip()
            axis.text(1.01, -place, words, transform=axis.get_yaxis_transform(), fontsize=8, va="center")
    axis.axvline(0, color=INK, linewidth=1, linestyle="--")
    axis.set(ylim=(0.6 - len(lines), 0.95 if brief else 0.6))
    axis.set_yticks([] if brief else [-place for place in range(len(lines))],
                    None if brief else [line["label"] for line in lines])
    axis.set_xlabel(f"AUROC of the frozen rule minus that of {data['first']}")
    plain(axis, lines="x")
    axis.spines["left"].set_visible(False)
    axis.tick_params(axis="y", length=0)
    return figure


def _difference_alt(data: Mapping[str, Any]) -> str:
    parts = "; ".join(f"{line['label']} {rows.signed(line['value'])}" for line in data["lines"])
    return f"Differences with intervals. {data['title']}. {parts}."


def _ladder_alt(data: Mapping[str, Any]) -> str:
    parts = "; ".join(
        f"{p['method']}, {p['label']}: " + ", ".join(f"{b['name']} {rows.number(b['value'])}" for b in p["bars"])
        for p in data["panels"])
    return f"Bar chart. {data['title']}. {parts}."
