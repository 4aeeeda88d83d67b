"""A card: what a question's answer looks like in the report. Words, tables of text, and data for figures."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """``cells``: rows of ready text (numbers worded by ``summary_rows``), the first cell the row's heading; ``note``
    says below what to know. ``left``: indices of columns of words, beside the first. ``folded``: shown on demand."""

    header: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    caption: str = ""
    note: str = ""
    left: frozenset[int] = frozenset()
    folded: bool = False

    def __post_init__(self):
        if any(len(row) != len(self.header) for row in self.cells):
            raise ValueError(f"{self.caption or 'table'}: every row needs {len(self.header)} cells")

    def csv(self) -> str:
        """The same as comma-separated text."""
        sink = io.StringIO()
        csv.writer(sink).writerows([self.header, *self.cells])
        return sink.getvalue()

    def markdown(self) -> str:
        """The same for a README."""
        line = ["---" if i == 0 or i in self.left else "--:" for i in range(len(self.header))]
        clean = [[cell.replace("|", "\\|") for cell in row] for row in (self.header, *self.cells)]
        return "\n".join("| " + " | ".join(row) + " |" for row in (clean[0], line, *clean[1:]))


@dataclass(frozen=True)
class Figure:
    """``draw(data, width=inches)`` gives a matplotlib figure; ``data["title"]`` states the finding; ``alt`` says in words
    what can be seen. ``name`` is the file's, unique in the report."""

    name: str
    data: Mapping[str, Any]
    draw: Callable[..., Any]
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Card:
    """``headline`` is the answer in one sentence, never a winner within noise; ``sentences`` say the rest."""

    name: str
    title: str
    headline: str
    sentences: tuple[str, ...] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
