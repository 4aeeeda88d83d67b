"""Figures of how scorers are joined, and of what choosing without labels costs: dot plots with spread over splits."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from analysis.plot_base import BLUE, GREEN, INK, ORANGE, PURPLE, VERMILION, WIDE, grid, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KIND_LOOKS = {"frozen": (VERMILION, "*"), "means": (BLUE, "o"), "folds": (ORANGE, "s"), "finalists": (GREEN, "D"),
              "scorer": (PURPLE, "^")}
RULE_LOOKS = {"frozen_rule": (BLUE, "o"), "max_logit": (ORANGE, "s"), "all_mean": (GREEN, "D")}
GAIN_LOOKS = {"won": (INK, "o"), "apparent": (BLUE, "s"), "honest": (GREEN, "D"), "optimism": (VERMILION, "^")}
LINE_HEIGHT = 0.23  # inches a line
STEP = 0.26  # of a line, between the dots that share one


def draw_rules(data: Mapping[str, Any], *, width: float = WIDE) -> Figure:
    """``scorer_rules_card.rules_data``: each rule's loss against the best single scorer; left of 0 it is ahead."""
    figure, axis = _axis([line["title"] for line in data["lines"]], width, legend=len(data["kinds"]) + 2)
    for place, line in enumerate(data["lines"]):
        colour, marker = KIND_LOOKS[line["kind"]]
        _line(axis, place, line["value"], line["error"], line["by_split"], colour, marker,
              filled=line["sure"] or line["kind"] == "frozen")
    if data["frozen"] is not None:
        axis.axvline(data["frozen"], color=VERMILION, linestyle="--", linewidth=1.2, zorder=0)
    axis.set_xlabel("AUROC below the best single scorer" + (" in hindsight" if width > 6 else ""))
    kinds = [kind for kind in KIND_LOOKS if any(line["kind"] == kind for line in data["lines"])]
    _legend(figure, [(data["kinds"][kind], *KIND_LOOKS[kind]) for kind in kinds], width)
    return figure


def draw_regret(data: Mapping[str, Any], *, width: float = WIDE) -> Figure:
    """``selection_regret_card.regret_data``: plain regret filled, cross-fitted hollow, a line for each signal, its
    rules one below the other."""
    names = list(dict.fromkeys(line["name"] for line in data["lines"]))
    figure, axis = _axis([name.replace("_", " ") for name in names], width, legend=5, height=2.2 * LINE_HEIGHT)
    for line in data["lines"]:
        colour, marker = RULE_LOOKS[line["rule"]]
        place = names.index(line["name"]) + STEP * (list(RULE_LOOKS).index(line["rule"]) - 1)
        _line(axis, place, line["plain"], line["error"], line["by_split"], colour, marker, filled=True)
        if line["crossfit"] is not None:
            _dot(axis, line["crossfit"], place, colour, marker, filled=False)
    axis.set_xlabel(("regret: " if width > 6 else "") + "AUROC below the best trial and scorer")
    looks = [(f"{data['rules'][rule]}, plain", *look) for rule, look in RULE_LOOKS.items() if rule in data["rules"]]
    _legend(figure, looks, width, hollow="cross-fitted")
    return figure


def draw_optimism(data: Mapping[str, Any], *, width: float = WIDE) -> Figure:
    """``selection_regret_card.optimism_data``: per method what tuning on labels seems to win, and what it wins."""
    figure, axis = _axis(data["methods"], width, legend=5, height=2.8 * LINE_HEIGHT)
    for line in data["lines"]:
        colour, marker = GAIN_LOOKS[line["kind"]]
        place = data["methods"].index(line["method"]) + 0.8 * STEP * (list(GAIN_LOOKS).index(line["kind"]) - 1.5)
        _line(axis, place, line["value"], line["error"], line["by_split"], colour, marker, filled=True)
    axis.set_xlabel("AUROC gained over the frozen selection")
    _legend(figure, [(data["kinds"][kind], *look) for kind, look in GAIN_LOOKS.items()], width)
    return figure


def _line(axis: Axes, y: float, value: float, error: float | None, by_split: Sequence[float], colour: str,
          marker: str, *, filled: bool) -> None:
    axis.plot(by_split, [y] * len(by_split), linestyle="", marker="|", markersize=5, color=colour, alpha=0.6)
    if error is not None:
        axis.plot([value - error, value + error], [y, y], color=colour, linewidth=1.6)
    _dot(axis, value, y, colour, marker, filled=filled)


def _dot(axis: Axes, x: float, y: float, colour: str, marker: str, *, filled: bool) -> None:
    axis.plot([x], [y], linestyle="", marker=marker, markersize=9 if marker == "*" else 5.5, markeredgecolor=colour,
              markeredgewidth=1.2, markerfacecolor=colour if filled else "white")


def _axis(names: Sequence[str], width: float, *, legend: int, height: float = LINE_HEIGHT) -> tuple[Figure, Axes]:
    room = 0.75 + 0.19 * -(-legend // _columns(width))
    figure, axes = grid(1, 1, width=width, height=room + height * len(names))
    axis = axes[0]
    axis.set_yticks(range(len(names)), list(names))
    axis.set_ylim(len(names) - 0.4, -0.6)
    plain(axis, lines="both")
    axis.axvline(0, color=INK, linewidth=1.0)
    return figure, axis


def _columns(width: float) -> int:
    return 3 if width > 6 else 1


def _legend(figure: Figure, looks: Sequence[tuple[str, str, str]], width: float, *, hollow: str = "") -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], linestyle="", marker=marker, color=colour, label=title)
               for title, colour, marker in looks]
    if hollow:
        handles.append(Line2D([], [], linestyle="", marker="o", color=INK, markerfacecolor="white", label=hollow))
    handles.append(Line2D([], [], linestyle="", marker="|", color=INK, label="one split"))
    figure.legend(handles=handles, loc="outside lower left", ncols=_columns(width), frameon=False, fontsize=8)
