"""What every figure of the report shares: colours, layout, and its three forms (two inlined sizes, files).

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

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9"
INK, GRID = "#1b2a36", "#c9d2da"  # replaced by the page's colours when a figure is inlined
WIDE, NARROW = 9.6, 4.0  # inches
TITLE_WIDTH = 95  # letters of a file's title that fit beside each other


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


def finish(name: str, data: Mapping[str, Any], draw: Callable[..., Figure], alt: str, caption: str) -> Drawn:
    """Draws `data` with `draw(data, width=inches)` in every form; `data["title"]` becomes the title."""
    import textwrap
    import warnings

    import matplotlib

    settings = {
        "svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"],
        "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
        "hatch.linewidth": 0.7, "font.size": 9, "text.parse_math": False, "path.simplify": True,
    }
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # a notebook's own style is not the report's, and helpers do not have it
        matplotlib.rcParams.update(settings)
        # a class or method name in another script: the page's own fonts will have its glyphs, the layout can do without
        warnings.filterwarnings("ignore", message="Glyph")
        wide, narrow = draw(data, width=WIDE), draw(data, width=NARROW)
        inline = [_inline(_svg(figure), f"{name}-{size}", alt) for figure, size in ((wide, "w"), (narrow, "n"))]
        title = str(data.get("title", name))
        wide.suptitle(textwrap.fill(title, TITLE_WIDTH), x=0.01, ha="left", fontsize=11, fontweight="bold")
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


def grid(count: int, columns: int, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    lines = -(-count // columns)
    figure = Figure(figsize=(width, lines * height + 0.35), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06, hspace=0.04, wspace=0.04)
    return figure, [figure.add_subplot(lines, columns, index + 1) for index in range(count)]


def plain(axis: Axes, *, lines: str) -> None:
    axis.grid(axis=lines, color=GRID, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
