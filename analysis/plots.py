"""The report's figures: drawing only, what they show is computed in `plot_data`.

Every figure is drawn twice, for a wide and for a narrow page, since a shrunken figure cannot be read on a phone. They
are readable without colour (hatches, markers, labels beside the data), their text stays text, and ink and grid take the
page's own colours when inlined. Colours: Okabe & Ito, "Color Universal Design", 2008.
"""
from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis import plot_data
from analysis import summary_rows as rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILION, PURPLE = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7"
INK, GRID = "#1b2a36", "#c9d2da"  # replaced by the page's colours when a figure is inlined
LOOKS = {  # line colour, marker, dash of each series of the λ figure
    "frozen rule": (BLUE, "o", "-"),
    "max logit": (VERMILION, "D", "--"),
    "oracle": (ORANGE, "s", "-"),
    "reconstruction error": (PURPLE, "v", ":"),
}
BARS = {"scorer": (BLUE, ""), "oracle": (ORANGE, "////"), "representation": (GREEN, "\\\\\\\\")}
WIDE, NARROW = 9.6, 4.0  # inches


@dataclass(frozen=True)
class Drawn:
    """A finished figure: `title` says the finding, `alt` says in words what can be seen."""

    name: str
    title: str
    alt: str
    caption: str
    wide: str = field(repr=False)  # inline SVG
    narrow: str = field(repr=False)
    files: dict[str, bytes] = field(repr=False)  # file name → content: the SVG with its title, and a PNG


def draw_all(
    summary: Mapping[str, Any], *, spec: Mapping[str, Any] | None = None, curves: Mapping[str, Any] | None = None
) -> dict[str, Drawn]:
    """Every figure that the summary has numbers for, by name: "gaps" (with several splits their mean, and then
    "gaps-by-split"), "lambda", "signal", and "curve-…" for each of `curves`, see `draw_curve`."""
    found: dict[str, Drawn] = {}
    ladder = plot_data.ladder(summary)
    if ladder["panels"]:
        words = "Bars: AUROC on the same test images. Hatched: what the step adds. Diamond: max logit alone."
        if len(rows.split_names(summary)) > 1:
            means = plot_data.ladder_means(ladder)
            found["gaps"] = _finish("gaps", means, draw_ladder, _ladder_alt(means), f"{words} Dots: single splits.")
            ladder = {**ladder, "title": plot_data.ladder_range(ladder)}
        name = "gaps-by-split" if found else "gaps"
        found[name] = _finish(name, ladder, draw_ladder, _ladder_alt(ladder), f"{words} Whiskers: 95 % intervals.")
    weights = plot_data.lambda_curve(summary)
    if weights["panels"]:
        found["lambda"] = _finish("lambda", weights, draw_lambda, _lambda_alt(weights), weights["note"])
    signal = plot_data.signal_scatter(summary, spec=spec)
    if signal["panels"]:
        caption = f"Biased: {signal['biased']}. " if signal["biased"] else ""
        found["signal"] = _finish("signal", signal, draw_signal, _signal_alt(signal), (
            caption + "Star: the trial selected without labels. Ring: the best in hindsight."))
    for name, curve in (curves or {}).items():
        safe = re.sub(r"[^a-z0-9]+", "-", str(name).lower()).strip("-") or "curve"
        found[f"curve-{safe}"] = _finish(f"curve-{safe}", curve, draw_curve, _curve_alt(curve), curve.get("note", ""))
    return found


def _finish(name: str, data: Mapping[str, Any], draw: Callable[..., Figure], alt: str, caption: str) -> Drawn:
    import warnings

    import matplotlib

    settings = {
        "svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"],
        "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
        "hatch.linewidth": 0.7, "font.size": 9, "text.parse_math": False, "path.simplify": True,
    }
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # a class or method name in another script: the page's own fonts will have its glyphs, the layout can do without
        warnings.filterwarnings("ignore", message="Glyph")
        wide, narrow = draw(data, width=WIDE), draw(data, width=NARROW)
        inline = [_inline(_svg(figure), f"{name}-{size}", alt) for figure, size in ((wide, "w"), (narrow, "n"))]
        title = str(data.get("title", name))
        wide.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        titled = _svg(wide).encode()
        wide.set_layout_engine("none")  # laid out by now, and once more would take as long as the drawing
        png = io.BytesIO()
        wide.savefig(png, format="png", dpi=130, facecolor="white")
    files = {f"{name}.svg": titled, f"{name}.png": png.getvalue()}
    return Drawn(name, title, alt, caption, *inline, files)


def save(drawn: Drawn, folder: Path) -> list[Path]:
    """Writes the figure's SVG and PNG into an existing folder."""
    paths = []
    for name, content in drawn.files.items():
        path = folder / name
        path.write_bytes(content)
        paths.append(path)
    return paths


def _svg(figure: Figure) -> str:
    sink = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(sink, format="svg", transparent=True, metadata=nothing)
    return sink.getvalue()


def _inline(svg: str, prefix: str, alt: str) -> str:
    """An SVG file as part of a page: unique ids, the page's font, ink and grid, a name for screen readers."""
    from html import escape

    svg = svg[svg.index("<svg"):]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'((?:xlink:)?href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*?sans-serif", "system-ui, sans-serif", svg)
    svg = svg.replace(INK, "currentColor").replace(GRID, "var(--line)")
    svg = re.sub(r'(<svg[^>]*?) (?:height|width)="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) (?:height|width)="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(alt, quote=True)}"', 1)


# -------------------------------------------------------------------------------------------------- figures
def draw_ladder(data: Mapping[str, Any], *, width: float = WIDE) -> Figure:
    """Gap bars: each step begins where the one above it ends, so that its hatched part is the gap."""
    panels = data["panels"]
    columns = min(2 if width > 6 else 1, len(panels))
    figure, axes = _grid(len(panels), columns, width=width, height=1.95)
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
    _plain(axis, grid="x")
    axis.spines["left"].set_visible(False)


def draw_lambda(data: Mapping[str, Any], *, width: float = WIDE) -> Figure:
    """λ on a logarithmic axis against AUROC; λ = 0 stands at the left end, named."""
    panels = data["panels"]
    columns = min(2 if width > 6 else 1, len(panels))
    figure, axes = _grid(len(panels), columns, width=width, height=3.3)
    for axis, panel in zip(axes, panels, strict=True):
        positive = [weight for weight in panel["weight"] if weight > 0] or [1.0]
        floor = min(positive) / 4
        x = [weight if weight > 0 else floor for weight in panel["weight"]]
        axis.set_xscale("log")
        low, high = min(x), max(x)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.xaxis.set_minor_formatter("")
        if 1 < high / low < 12:  # too narrow for two powers of ten
            axis.set_xticks([low, (low * high) ** 0.5, high])
            axis.xaxis.set_major_formatter(lambda value, _: f"{value:.2g}")
        axis.set_xlim(low / 1.4, high * 1.4 if high > low else low * 10)
        last = {}
        for name, values in panel["series"].items():
            colour, marker, dash = LOOKS[name]
            known = [(a, b) for a, b in zip(x, values, strict=True) if b is not None]
            if len(known) <= 24:  # a line helps the eye along few points and is a thicket among many
                axis.plot(*zip(*known, strict=True), color=colour, linestyle=dash, linewidth=0.9, alpha=0.4)
            axis.plot(*zip(*known, strict=True), color=colour, linestyle="", marker=marker, markersize=5.5,
                      markeredgecolor=INK, markeredgewidth=0.5)
            last[name] = known[-1][1]
        lines = _mark_weights(axis, panel, floor, roomy=width / columns > 6)
        _end_labels(axis, last, width / columns)
        if min(panel["weight"]) <= 0:
            axis.text(floor, 0.0, "0", transform=axis.get_xaxis_transform(), ha="center", va="bottom")
        axis.set_title(f"{panel['method']} · split {panel['split']}", loc="left", fontweight="bold", fontsize=10,
                       pad=6 + 12 * lines)
        axis.set_xlabel("λ, weight of reconstruction (log)")
        axis.set_ylabel("AUROC")
        _plain(axis, grid="y")
    return figure


def _mark_weights(axis: Axes, panel: Mapping[str, Any], floor: float, *, roomy: bool) -> int:
    """Vertical lines at the two λ, named above the axes; returns how many lines of text that took."""
    marks = [("selected", "selected without labels", "-", 1.02), ("hindsight", "test labels would pick", "--", 1.09)]
    if panel["selected"] and panel["selected"]["trial"] == panel["hindsight"]["trial"]:
        marks = [("selected", "selected without labels, and best in hindsight:", "-", 1.02)]
    for key, words, dash, height in marks:
        if not panel[key]:
            continue
        x = max(panel[key]["weight"], floor)
        axis.axvline(x, color=INK, linewidth=1.1, linestyle=dash, zorder=0)
        label = f"{words} λ = {rows.short(panel[key]['weight'])}"
        if not roomy:  # beside its line the label would run out of the panel
            sign = "│" if dash == "-" else "┊"
            axis.text(0, height, f"{sign} {label}", transform=axis.transAxes, fontsize=8, in_layout=False)
            continue
        middle = axis.transAxes.inverted().transform(axis.transData.transform((x, 0.5)))[0] > 0.5
        axis.text(x, height, label, ha="right" if middle else "left", transform=axis.get_xaxis_transform(), fontsize=8,
                  in_layout=False)
    return len(marks)


def _end_labels(axis: Axes, last: Mapping[str, float], width: float) -> None:
    """Names beside the last point of each series, pushed apart where they would overlap."""
    low, high = axis.get_ylim()
    step, placed = (high - low) * 0.075, -float("inf")
    for name, value in sorted(last.items(), key=lambda item: item[1]):
        placed = max(value, placed + step)
        colour, marker, _ = LOOKS[name]
        sign = {"o": "●", "D": "◆", "s": "■", "v": "▼"}[marker]
        place = {"transform": axis.get_yaxis_transform(), "va": "center", "fontsize": 8}
        axis.text(1.03, placed, sign, color=colour, **place)
        axis.text(1.03 + 0.2 / width, placed, name.replace(" error", "\nerror"), **place)
        placed += step * ("error" in name)
    axis.set_ylim(low, high)


def draw_signal(data: Mapping[str, Any], *, width: float = WIDE) -> Figure:
    """Small multiples: the signal that selected against revealed AUROC, one panel per method and split."""
    panels = data["panels"]
    columns = min(3 if width > 6 else 1, len(panels))
    figure, axes = _grid(len(panels), columns, width=width, height=2.7)
    for axis, panel in zip(axes, panels, strict=True):
        axis.plot(panel["x"], panel["y"], linestyle="", marker="o", color=BLUE, markersize=5, alpha=0.75,
                  markeredgecolor=INK, markeredgewidth=0.5)
        best, chosen = panel["best"], panel["selected"]
        axis.plot(panel["x"][best], panel["y"][best], marker="o", markersize=13, markerfacecolor="none",
                  markeredgecolor=VERMILION, markeredgewidth=1.6)
        if chosen is not None:
            axis.plot(panel["x"][chosen], panel["y"][chosen], marker="*", markersize=13, color=ORANGE,
                      markeredgecolor=INK, markeredgewidth=0.8)
        axis.margins(0.12)
        axis.set_title(f"{panel['method']} · split {panel['split']}", loc="left", fontweight="bold", fontsize=10, pad=17)
        tau = "too few trials for τ" if panel["tau"] is None else f"Kendall τ {rows.signed(panel['tau'], 2)}"
        words = f"{tau}{', biased' if data['biased'] and panel['tau'] is not None else ''} · {len(panel['x'])} trials"
        axis.text(0, 1.03, words, transform=axis.transAxes, fontsize=8)
        axis.set_xlabel(f"{panel['signal']} ({'lower' if panel['lower_is_better'] else 'higher'} is better)")
        axis.set_ylabel("AUROC of the frozen rule")
        axis.locator_params(axis="x", nbins=5)
        _plain(axis, grid="both")
    return figure


def draw_curve(data: Mapping[str, Any], *, width: float = WIDE) -> Figure:
    """Any further curve: {"x_label", "y_label", "log_x", "series": [{"label", "x", "y", "low"?, "high"?}]}."""
    figure, (axis,) = _grid(1, 1, width=width, height=3.2)
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
    _plain(axis, grid="both")
    return figure


# -------------------------------------------------------------------------------------------------- helpers
def _grid(count: int, columns: int, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    lines = -(-count // columns)
    figure = Figure(figsize=(width, lines * height + 0.35), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06, hspace=0.04, wspace=0.04)
    return figure, [figure.add_subplot(lines, columns, index + 1) for index in range(count)]


def _plain(axis: Axes, *, grid: str) -> None:
    axis.grid(axis=grid, color=GRID, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)


def _ladder_alt(data: Mapping[str, Any]) -> str:
    parts = [
        f"{p['method']}, {p['label']}: " + ", ".join(f"{b['name']} {rows.number(b['value'])}" for b in p["bars"])
        for p in data["panels"]
    ]
    return f"Bar chart. {data['title']}. {'; '.join(parts)}."


def _lambda_alt(data: Mapping[str, Any]) -> str:
    return f"Scatter plot of AUROC against lambda for {rows.plural(len(data['panels']), 'panel')}. {data['title']}."


def _signal_alt(data: Mapping[str, Any]) -> str:
    return f"Scatter plots of the selecting signal against revealed AUROC. {data['title']}."


def _curve_alt(data: Mapping[str, Any]) -> str:
    return f"Line chart. {data.get('title', '')}. {data.get('y_label', '')} against {data.get('x_label', '')}."
