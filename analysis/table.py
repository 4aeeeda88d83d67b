"""The result of a study as a table for the terminal, and under it the verdict in a few sentences."""
from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Mapping
from typing import Any

from analysis import over_splits
from analysis import summary_rows as rows

NARROWEST, ROOMY, WIDEST = 80, 96, 100
MANY = 6  # more rows than this fill a screen: then one a method, the means over its splits


def render_table(
    summary: Mapping[str, Any],
    *,
    width: int | None = None,
    color: bool | None = None,
    selection: Mapping[str, Any] | None = None,
    spec: Mapping[str, Any] | None = None,
) -> str:
    """One row per method and split: the trial selected without labels, what it scores, and what its gaps are.

    Below each AUROC stands its 95 % interval. More than six rows of several splits: a row per method, with means over
    its splits. `width` in columns: the terminal's, between 80 and 100, when None. `color`: ANSI styles; when None only on a
    terminal and never with NO_COLOR set.
    """
    from rich.console import Console

    if width is None:
        width = min(WIDEST, max(NARROWEST, shutil.get_terminal_size((WIDEST, 24)).columns))
    if color is None:
        color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    sink = io.StringIO()
    console = Console(
        file=sink, width=width, force_jupyter=False, force_terminal=color, color_system="standard" if color else None, no_color=not color,
        highlight=False, emoji=False, markup=False, legacy_windows=False, _environ={},
    )
    if rows.selected_rows(summary):
        many = len(rows.selected_rows(summary)) > MANY and len(rows.split_names(summary)) > 1
        revealed = _means_table if many else _gap_table
        console.print(_nominal_table(summary) if rows.unrevealed(summary) else revealed(summary, roomy=width >= ROOMY))
        console.print()
    _print_verdict(console, summary, selection, spec)
    return "\n".join(line.rstrip() for line in sink.getvalue().splitlines()) + "\n"


def _new_table(summary: Mapping[str, Any], caption: str, *, roomy: bool = True) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    return Table(
        box=box.SIMPLE_HEAD, padding=(0, 1 if roomy else 0, 0, 0), title=Text(f"Study {summary.get('study', '')}"), title_justify="left",
        caption=Text(caption), caption_justify="left", title_style="bold", caption_style="dim", header_style="bold",
        collapse_padding=True, pad_edge=False, show_edge=False,
    )


def _gap_table(summary: Mapping[str, Any], *, roomy: bool) -> Any:
    """`roomy`: three digits in the intervals and two columns between numbers; without it the table fits 80 columns."""
    digits = 3 if roomy else 2
    caption = "AUROC on test images, anomaly = positive; 95 % interval below. Regret: AUROC lost by not seeing labels."
    table = _new_table(summary, caption, roomy=roomy)
    table.add_column("method\nsplit", no_wrap=True)
    for title in ("trial", "accu-\nracy", "scorer\nAUROC", "max\nlogit", "oracle\nAUROC", "oracle\nrepr.",
                  "extrac-\ntion gap", "repr.\ngap", "regret"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows.selected_rows(summary):
        table.add_row(
            _two(_name(row, roomy), f"split {row.get('split', 0)}" + "\npretrained" * bool(row.get("pretrained")), strong=True),
            _two(row.get("trial")),
            _two(rows.number(row.get("closed_set_accuracy"))),
            _two(rows.number(row.get("scorer_auroc")), _span(row.get("scorer_auroc_ci"), digits), strong=True),
            _two(rows.number(rows.max_logit_auroc(row))),
            _two(rows.number(row.get("oracle_detector_auroc")), _span(row.get("oracle_detector_ci"), digits)),
            _two(rows.number(row.get("oracle_representation_auroc")), _span(row.get("oracle_representation_ci"), digits)),
            _two(rows.signed(row.get("extraction_gap")), _span(row.get("extraction_gap_ci"), sign=True)),
            _two(rows.signed(row.get("representation_gap")), _span(row.get("representation_gap_ci"), sign=True)),
            _two(rows.number(row.get("regret"))),
        )
    return table


def _means_table(summary: Mapping[str, Any], *, roomy: bool) -> Any:
    caption = ("AUROC on test images, anomaly = positive: means over splits, ± standard error. "
               "Regret: AUROC lost by not seeing labels.")
    table = _new_table(summary, caption, roomy=roomy)
    table.add_column("method\nsplits", no_wrap=True)
    titles = {"accuracy": "accu-\nracy", "scorer": "scorer\nAUROC", "max_logit": "max\nlogit", "oracle": "oracle\nAUROC",
              "representation": "oracle\nrepr.", "extraction_gap": "extrac-\ntion gap", "representation_gap": "repr.\ngap",
              "regret": "regret"}
    for title in (*titles.values(), "failed\ntrials"):
        table.add_column(title, justify="right", no_wrap=True)
    for line in over_splits.over_splits(summary):
        some = line["splits"] < line["of_splits"]
        splits = f"{line['splits']} of {line['of_splits']}" if some else str(line["splits"])
        cells = [over_splits.words(line[key], sign=key in over_splits.GAPS).partition(" ± ")[::2] for key in titles]
        table.add_row(
            _two(_name(line, roomy), splits, strong=True),
            *(_two(value, f"±{error.removeprefix('0')}" if error else "", strong=key == "scorer")
              for key, (value, error) in zip(titles, cells, strict=True)),
            _two(f"{line['failed']}/{line['trials']}"),
        )
    return table


def _nominal_table(summary: Mapping[str, Any]) -> Any:
    table = _new_table(summary, "Selected with nominal images only.")
    table.add_column("method\nsplit", no_wrap=True)
    for title in ("trial", "validation\naccuracy", "signal", "value", "scorer rule"):
        table.add_column(title, justify="left" if title in ("signal", "scorer rule") else "right")
    for row in rows.selected_rows(summary):
        table.add_row(
            _two(str(row["method"]), f"split {row.get('split', 0)}", strong=True),
            _two(row.get("trial")), _two(rows.number(rows.accuracy(row))), _two(row.get("signal")),
            _two(rows.number(row.get("signal_value"), 4)), _two(rows.rule_title(row)),
        )
    return table


def _two(value: object, below: str = "", *, strong: bool = False) -> Any:
    """A cell of a value and, dimmed under it, its interval."""
    from rich.text import Text

    cell = Text(rows.MISSING if value is None else str(value), style="bold" if strong else "")
    if below:
        cell.append("\n").append(below, style="dim not bold")
    return cell


def _name(row: rows.Row, roomy: bool) -> str:
    """Where columns are dear a long method name goes on two lines: eleven columns are what 80 leave for it."""
    name = str(row["method"])
    if roomy or len(name) <= 11:
        return name
    head, mark, tail = name.partition("_")
    lines = [head, mark + tail] if mark else [name]
    return "\n".join(line[start:start + 11] for line in lines for start in range(0, len(line), 11))


def _span(value: object, digits: int = 2, *, sign: bool = False) -> str:
    """An interval in as few columns as it can be read in: .810–.871, or +.03 +.09 for a gap."""
    pair = rows.interval(value)
    if pair is None:
        return ""
    if sign:
        return " ".join(rows.signed(end, 2).replace("0.", ".", 1) for end in pair)
    texts = [rows.number(end, digits).removeprefix("0") for end in pair]
    return rows.MISSING.join(text[:-1] if text.startswith("1") else text for text in texts)


def _print_verdict(
    console: Any, summary: Mapping[str, Any], selection: Mapping[str, Any] | None, spec: Mapping[str, Any] | None
) -> None:
    from analysis.verdict import verdict

    found = verdict(summary, selection=selection, spec=spec)
    _say(console, found.headline.rstrip(".") + ".", "bold")
    for sentence in () if rows.unrevealed(summary) else found.sentences[:2]:
        _say(console, sentence)
    _say(console, found.trust_text, {"doubt": "bold red", "believe": "green"}.get(found.trust, "yellow"))
    for caution in found.cautions:
        if caution.level == "care":
            _say(console, f"! {caution.text}", "dim", hang="  ")


def _say(console: Any, sentence: str, style: str = "", *, hang: str = "") -> None:
    """Prints a wrapped sentence; an interval such as [+0.008, +0.119] stays on one line."""
    import re
    import textwrap

    from rich.text import Text

    glued = re.sub(r"(?<=,) (?=[^\[\]]*\])|(?<=95) (?=%)", "\N{NO-BREAK SPACE}", sentence)
    wrapped = textwrap.fill(glued, console.width, subsequent_indent=hang, break_on_hyphens=False)
    console.print(Text(wrapped.replace("\N{NO-BREAK SPACE}", " "), style=style, no_wrap=True))
