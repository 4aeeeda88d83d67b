"""Figures of points against a number: a method's chief parameter, the signal that selected, and any further curve."""
from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from analysis import summary_rows as rows
from analysis.plot_base import BLUE, GREEN, INK, ORANGE, PURPLE, SKY, VERMILION, WIDE, grid, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOOKS = {  # line colour, marker, dash of each series; a method's own scores take the OWN_LOOKS in turn
    "frozen rule": (BLUE, "o", "-"),
    "max logit": (VERMILION, "D", "--"),
    "oracle": (ORANGE, "s", "-"),
    "linear oracle": (GREEN, "P", "-."),
}
OWN_LOOKS = ((PURPLE, "v", ":"), (SKY, "^", ":"))
SIGNS = {"o": "●", "D": "◆", "s": "■", "v": "▼", "^": "▲", "P": "✚"}
FEW_POINTS = 24  # a line helps the eye along so many and is a thicket among more
FEW_PANELS = 6  # more panels of single splits than this, and a method's splits share one
SPLIT_LOOKS = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (VERMILION, "D"), (PURPLE, "v"), (SKY, "P"))


def draw_parameter(data: Mapping[str, Any], *, width: float = WIDE) -> Figure:
    """`curves.parameter_curve`: a panel for each split; on a logarithmic axis 0 stands at the left end, named."""
    panels = data["panels"]
    alone = len(panels) == 1
    columns = min(3 if width > 6 else 1, len(panels))
    figure, axes = grid(len(panels), columns, width=width, height=3.5 if alone else 3.1)
    looks = _looks([name for panel in panels for name in panel["series"]])
    for index, (axis, panel) in enumerate(zip(axes, panels, strict=True)):
        place = _scale(axis, panel["value"], log=data["log"])
        for name, values in panel["series"].items():
            _draw_series(axis, [place(value) for value in panel["value"]], values, panel["other"], looks[name])
        lines = _mark_choices(axis, panel, place, data["symbol"], roomy=alone and width > 6)
        if alone:
            _end_labels(axis, panel, looks, width)
        axis.set_title(panel["label"], loc="left", fontweight="bold", fontsize=10, pad=6 + 12 * lines)
        axis.set_xlabel(f"{data['symbol']}{' (log)' if data['log'] else ''}")
        axis.set_ylabel("AUROC" if index % columns == 0 else "")
        plain(axis, lines="y")
    if not alone:
        handles = [_handle(name, *look[:2]) for name, look in looks.items()]
        figure.legend(handles=handles, loc="outside lower left", ncols=7 if width > 6 else 2, frameon=False, fontsize=8)
    return figure


def _handle(label: str, colour: str, marker: str) -> Any:
    """A legend's entry."""
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="", marker=marker, color=colour, markeredgecolor=INK, markeredgewidth=0.5,
                  label=label)


def _looks(names: list[str]) -> dict[str, tuple[str, str, str]]:
    """A look for each name, the same in every panel."""
    own = [name for name in dict.fromkeys(names) if name not in LOOKS]
    given = {**LOOKS, **{name: OWN_LOOKS[index % len(OWN_LOOKS)] for index, name in enumerate(own)}}
    return {name: given[name] for name in dict.fromkeys(names)}


def _scale(axis: Axes, values: list[float], *, log: bool) -> Any:
    """Scale, limits and ticks of the x axis; returns where a value stands on it."""
    if not log:
        axis.margins(x=0.06)
        axis.locator_params(axis="x", nbins=5)
        return lambda value: value
    positive = [value for value in values if value > 0] or [1.0]
    floor = min(positive) / 4
    low, high = (floor if min(values) <= 0 else min(values)), max(*positive, floor)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.xaxis.set_minor_formatter("")
    if 1 < high / low < 12:  # too narrow for two powers of ten
        axis.set_xticks([low, (low * high) ** 0.5, high])
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:.2g}")
    axis.set_xlim(low / 1.4, high * 1.4 if high > low else low * 10)
    if min(values) <= 0:
        axis.text(floor, 0.0, "0", transform=axis.get_xaxis_transform(), ha="center", va="bottom")
    return lambda value: max(value, floor)


def _draw_series(
    axis: Axes, x: list[float], y: list[float | None], other: list[bool], look: tuple[str, str, str]
) -> None:
    """Points, hollow where `other`; those that are not are joined while they are few."""
    colour, marker, dash = look
    for hollow in (False, True):
        known = [(a, b) for a, b, differs in zip(x, y, other, strict=True) if b is not None and differs == hollow]
        if not known:
            continue
        if len(known) <= FEW_POINTS and not hollow:
            axis.plot(*zip(*known, strict=True), color=colour, linestyle=dash, linewidth=0.9, alpha=0.4)
        axis.plot(*zip(*known, strict=True), color=colour, linestyle="", marker=marker, markersize=5.5,
                  markerfacecolor="none" if hollow else colour, markeredgecolor=colour if hollow else INK,
                  markeredgewidth=1.0 if hollow else 0.5)


def _mark_choices(axis: Axes, panel: Mapping[str, Any], place: Any, symbol: str, *, roomy: bool) -> int:
    """Vertical lines at the two choices, named above the axes; returns how many lines of text that took."""
    chosen, best = panel["selected"], panel["hindsight"]
    same = chosen is not None and chosen["trial"] == best["trial"]
    picked = rows.number(best["best"]) + ("" if best["scorer"] == "frozen rule" else f" by {best['scorer']}")
    what = "same trial" if same else f"{symbol} = {rows.short(best['value'])}"
    marks = [(best, f"test labels: {what}, {picked}", "--")]
    if chosen is not None:
        words = f"nominal-only: {symbol} = {rows.short(chosen['value'])}, {rows.number(chosen['frozen'])}"
        marks.insert(0, (chosen, words, "-"))
    for index, (point, text, dash) in enumerate(marks):
        x, height = place(point["value"]), 1.02 + 0.07 * index
        axis.axvline(x, color=INK, linewidth=1.1, linestyle=dash, zorder=0)
        if not roomy:  # beside its line the label would run out of the panel
            sign = "│" if dash == "-" else "┊"
            axis.text(0, height, f"{sign} {text}", transform=axis.transAxes, fontsize=7, in_layout=False)
            continue
        right = axis.transAxes.inverted().transform(axis.transData.transform((x, 0.5)))[0] > 0.5
        axis.text(x, height, text, ha="right" if right else "left", transform=axis.get_xaxis_transform(), fontsize=8,
                  in_layout=False)
    return len(marks)


def _end_labels(axis: Axes, panel: Mapping[str, Any], looks: Mapping[str, Any], width: float) -> None:
    """Names beside the last point of each series, pushed apart where they would overlap."""
    last = {name: next(value for value in reversed(values) if value is not None)
            for name, values in panel["series"].items()}
    low, high = axis.get_ylim()
    names = {name: textwrap.fill(name, 15) for name in last}
    step = (high - low) * 0.078
    tall = sum(step * (1 + names[name].count("\n")) for name in last)
    placed = min(min(last.values()), high - tall) - step / 2  # begin low enough that the topmost stays inside
    for name, value in sorted(last.items(), key=lambda item: item[1]):
        half = step * (1 + names[name].count("\n")) / 2
        middle = max(value, placed + half)
        colour, marker, _ = looks[name]
        where = {"transform": axis.get_yaxis_transform(), "va": "center", "fontsize": 8}
        axis.text(1.03, middle, SIGNS[marker], color=colour, **where)
        axis.text(1.03 + 0.2 / width, middle, names[name], **where)
        placed = middle + half
    axis.set_ylim(low, high)


def draw_signal(data: Mapping[str, Any], *, width: float = WIDE) -> Figure:
    """The signal that selected against revealed AUROC: a panel for each method and split, or, where these are many, for
    each method with its splits told apart by marker."""
    shared = len(data["panels"]) > FEW_PANELS
    together: dict[Any, list[Mapping[str, Any]]] = {}
    for panel in data["panels"]:
        together.setdefault(panel["method"] if shared else (panel["method"], panel["split"]), []).append(panel)
    columns = min(3 if width > 6 else 1, len(together))
    figure, axes = grid(len(together), columns, width=width, height=2.5 if shared else 2.7)
    splits = list(dict.fromkeys(panel["split"] for panel in data["panels"]))
    for axis, panels in zip(axes, together.values(), strict=True):
        for panel in panels:
            _signal_points(axis, panel, SPLIT_LOOKS[splits.index(panel["split"]) % len(SPLIT_LOOKS) if shared else 0])
        first = panels[0]
        axis.margins(0.12)
        title = first["method"] if shared else f"{first['method']} · split {first['split']}"
        axis.set_title(title, loc="left", fontweight="bold", fontsize=10, pad=17)
        axis.text(0, 1.03, _tau_words(panels, biased=bool(data["biased"])), transform=axis.transAxes, fontsize=8)
        if not shared or axis in axes[-columns:]:
            axis.set_xlabel(f"{first['signal']} ({'lower' if first['lower_is_better'] else 'higher'} is better)")
        if not shared or axis in axes[::columns]:
            axis.set_ylabel("AUROC of the frozen rule" if not shared else "AUROC")
        axis.locator_params(axis="x", nbins=5)
        plain(axis, lines="both")
    if shared:
        handles = [_handle(f"split {split}", *SPLIT_LOOKS[i % len(SPLIT_LOOKS)]) for i, split in enumerate(splits)]
        figure.legend(handles=handles, loc="outside lower left", ncols=len(splits), frameon=False, fontsize=8)
    return figure


def _signal_points(axis: Axes, panel: Mapping[str, Any], look: tuple[str, str]) -> None:
    colour, marker = look
    axis.plot(panel["x"], panel["y"], linestyle="", marker=marker, color=colour, markersize=5, alpha=0.75,
              markeredgecolor=INK, markeredgewidth=0.5)
    best, chosen = panel["best"], panel["selected"]
    axis.plot(panel["x"][best], panel["y"][best], marker="o", markersize=13, markerfacecolor="none",
              markeredgecolor=VERMILION, markeredgewidth=1.6)
    if chosen is not None:
        axis.plot(panel["x"][chosen], panel["y"][chosen], marker="*", markersize=13, color=ORANGE,
                  markeredgecolor=INK, markeredgewidth=0.8)


def _tau_words(panels: list[Mapping[str, Any]], *, biased: bool) -> str:
    taus = [panel["tau"] for panel in panels if panel["tau"] is not None]
    trials = rows.plural(sum(len(panel["x"]) for panel in panels), "trial")
    if not taus:
        return f"too few trials for τ · {trials}"
    value = ", ".join(rows.signed(tau, 2) for tau in taus) if len(taus) <= 3 else (
        f"{rows.signed(min(taus), 2)} to {rows.signed(max(taus), 2)}")
    return f"{'Kendall ' if len(taus) == 1 else ''}τ {value}{', biased' if biased else ''} · {trials}"


def draw_curve(data: Mapping[str, Any], *, width: float = WIDE) -> Figure:
    """Any further curve: {"x_label", "y_label", "log_x", "series": [{"label", "x", "y", "low"?, "high"?}]}."""
    figure, (axis,) = grid(1, 1, width=width, height=3.2)
    looks = [(BLUE, "-"), (VERMILION, "--"), (GREEN, "-."), (PURPLE, ":"), (ORANGE, "-")]
    for index, line in enumerate(data.get("series", ())):
        colour, dash = looks[index % len(looks)]
        axis.plot(line["x"], line["y"], color=colour, linestyle=dash, linewidth=1.6, label=line.get("label"))
        if line.get("low") is not None and line.get("high") is not None:
            axis.fill_between(line["x"], line["low"], line["high"], color=colour, alpha=0.15, linewidth=0)
    if data.get("log_x"):
        axis.set_xscale("log")
    axis.set_xlabel(data.get("x_label", ""))
    axis.set_ylabel(data.get("y_label", ""))
    if any(line.get("label") for line in data.get("series", ())):
        axis.legend(frameon=False, fontsize=8)
    plain(axis, lines="both")
    return figure
