"""The figure of ``training_course``: AUROC, and below it the training, over one axis of epochs."""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from analysis.plot_base import BLUE, GREEN, ORANGE, PURPLE, VERMILION, WIDE, grid, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOOKS = {"frozen rule": (BLUE, "o", "-"), "max logit": (VERMILION, "D", ":"), "linear probe": (GREEN, "P", "-."),
         "small forest": (ORANGE, "s", "--")}
TRAINING_LOOKS = {"training loss": (PURPLE, "-"), "gradient norm": (GREEN, "--")}


def draw_course(data: Mapping[str, Any], *, width: float = WIDE) -> Figure:
    """``training_course.figure_data``: for each method two panels, one above the other."""
    panels = data["panels"]
    columns = min(len(panels), 3 if width == WIDE else 1)
    lines = -(-len(panels) // columns)
    figure, axes = grid(2 * lines * columns, columns, width=width, height=2.3)
    for index, panel in enumerate(panels):
        place = 2 * columns * (index // columns) + index % columns
        _areas(axes[place], panel, first=index % columns == 0)
        _training(axes[place + columns], panel, first=index % columns == 0)
    for axis in axes:
        axis.set_visible(bool(axis.lines))
    for axis in (axes[0], axes[columns]):
        axis.legend(fontsize=7, frameon=False, ncols=2)
    return figure


def _areas(axis: Axes, panel: Mapping[str, Any], *, first: bool) -> None:
    for name, values in panel["curves"].items():
        colour, marker, dash = LOOKS[name]
        points = [(x, y) for x, y in zip(panel["epochs"], values, strict=True) if y is not None]
        axis.plot([x for x, _ in points], [y for _, y in points], color=colour, marker=marker, linestyle=dash, linewidth=1.5,
                  markersize=4, label=name)
    axis.set_title(panel["label"], fontsize=9, loc="left")
    axis.set_ylabel("AUROC" if first else "")
    plain(axis, lines="both")


def _training(axis: Axes, panel: Mapping[str, Any], *, first: bool) -> None:
    for name, (colour, dash) in TRAINING_LOOKS.items():
        axis.plot(panel["training"]["epoch"], panel["training"][name], color=colour, linestyle=dash, linewidth=1.5, label=name)
    if all(value and value > 0 for name in TRAINING_LOOKS for value in panel["training"][name]):
        _logarithmic(axis)  # JEM's loss is a difference of energies, which may be negative
    axis.set_xlabel("epoch")
    axis.set_ylabel("loss, norm" if first else "")
    plain(axis, lines="both")


def _logarithmic(axis: Axes) -> None:
    """Labels as plain numbers: the powers of ten that matplotlib writes are mathematics, which no figure here parses."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
