"""The comparison of studies in words and tables: for the terminal, and for its page."""
from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis import over_splits
from analysis import summary_rows as rows
from analysis.card import Table

NAMED = 3  # more findings than this are counted
NARROWEST, WIDEST = 80, 120
TITLES = {"accuracy": "accu-\nracy", "scorer": "scorer\nAUROC", "max_logit": "max\nlogit", "oracle": "oracle\nAUROC",
          "representation": "oracle\nrepr.", "extraction_gap": "extrac-\ntion gap", "representation_gap": "repr.\ngap",
          "regret": "regret"}
LONG = {"accuracy": "closed-set accuracy", "scorer": "scorer AUROC (frozen rule)", "max_logit": "max logit",
        "oracle": "oracle detector", "representation": "oracle representation", "extraction_gap": "extraction gap",
        "representation_gap": "representation gap", "regret": "regret"}
BASES = {"splits": "t interval over splits, paired", "paired": "paired, same test images",
         "unpaired splits": "Welch's t over the splits of each", "images": "test images only, taken as independent",
         "none": rows.MISSING}
WHOLE = ("difference", "95 % interval", "key", "finding")  # columns that are never folded
FINDINGS = {"noise": "within noise", "unknown": "no interval"}


def headline(data: Mapping[str, Any]) -> str:
    """The finding in one sentence; never more than the adjusted intervals bear."""
    first, found = data["studies"][0]["label"], data["differences"]
    if not found:
        shown = [study["label"] for study in data["studies"] if study["nominal_only"]]
        if shown:
            verb = "holds" if len(shown) == 1 else "hold"
            return f"No detection to compare: {rows.listed(shown)} {verb} no anomalies."
        return f"Nothing to compare: no method of {first} was measured in another study."
    clear = [line for line in found if line["verdict"] in ("higher", "lower")]
    if clear:
        clear.sort(key=lambda line: -abs(line["measures"]["scorer"]["difference"]))
        told = "; ".join(_finding_sentence(line, first) for line in clear[:NAMED])
        more = f"; {len(clear) - NAMED} more" if len(clear) > NAMED else ""
        return f"{told}{more}."
    if all(line["verdict"] == "unknown" for line in found):
        return f"No difference from {first} can be judged: there is no interval for it."
    count = sum(line["verdict"] == "noise" for line in found)
    return f"No difference from {first} beyond noise ({rows.plural(count, 'comparison')})."


def _finding_sentence(line: Mapping[str, Any], first: str) -> str:
    scorer, worse = line["measures"]["scorer"], line["verdict"] == "lower"
    whose = f"{line['against']} of {first}" if line["against"] != line["method"] else f"that of {first}"
    doubts = ["other test images"] if scorer["basis"] in ("unpaired splits", "images") else []
    doubts += ["a lead: one set of classes"] if line["sure"] == "lead" else []
    lead = f" ({'; '.join(doubts)})" if doubts else ""
    return (f"{line['method']} of {line['label']} scores {'lower' if worse else 'higher'} than {whose} by "
            f"{rows.number(abs(scorer['difference']))} {_bounds(scorer)}{lead}")


def sentences(data: Mapping[str, Any]) -> list[str]:
    """What the test images are, then every caveat."""
    first, said = data["studies"][0]["label"], []
    for entry in data["data"]:
        label, shared = entry["label"], len(entry["shared_splits"])
        if any(study["nominal_only"] for study in data["studies"] if study["label"] in (first, label)):
            continue
        if not shared:
            said.append(f"{label} was measured on other test images than {first}: a difference may come from the data "
                        "alone.")
            lines = [line["measures"].get("scorer") for line in data["differences"] if line["label"] == label]
            if any(scorer and scorer["basis"] == "none" for scorer in lines):
                said.append(f"{label} and {first} need several sets of nominal classes each, or one each, for an "
                            "interval.")
            continue
        ours, theirs = entry["splits"]
        part = "" if shared == ours == theirs else f", of {ours} and {theirs}; the rest is left out of the differences"
        trained = "" if entry["same_nominal"] else " They were trained on different nominal images."
        said.append(f"{label} and {first} were measured on the same test images "
                    f"({rows.plural(shared, 'split')}{part}): their differences are paired.{trained}")
    if any(line["drowned_by_seeds"] for line in data["differences"]):
        names = rows.listed(f"{line['method']} of {line['label']}" for line in data["differences"]
                            if line["drowned_by_seeds"])
        said.append(f"Training again with another seed moves AUROC by more than the difference: {names}.")
    return [*said, *data["caveats"]]


def tables(data: Mapping[str, Any]) -> list[Table]:
    """Differences, means, specs and versions, each only where it has rows."""
    made = [difference_table(data), means_table(data), *(secondary_tables(data)), spec_table(data), version_table(data)]
    return [table for table in made if table.cells]


def difference_table(data: Mapping[str, Any]) -> Table:
    """The frozen rule's AUROC in each study minus the first's."""
    first, cells = data["studies"][0]["label"], []
    for line in data["differences"]:
        scorer = line["measures"].get("scorer")
        if scorer is None:
            continue
        cells.append((_who(line), line["label"], rows.signed(scorer["difference"]), _bounds(scorer) or rows.MISSING,
                      _p_value(line["p_adjusted"]), _finding(line), BASES[scorer["basis"]]))
    tested = sum(line["p_adjusted"] is not None for line in data["differences"])
    corrected = f" p adjusted for {tested} comparisons (Holm)." if tested > 1 else ""
    crossed = any(line["method"] != line["against"] for line in data["differences"])
    words = " One method against another: those that each study ranked first without labels." if crossed else ""
    return Table(
        ("method", "study", "difference", "95 % interval", "p (Holm)" if tested > 1 else "p", "finding",
         "interval from"), tuple(cells), caption=f"AUROC of the frozen rule, minus that of {first}",
        note=f"Finding: by p below 0.05.{corrected} A lead: measured on one set of classes; another may turn it "
             f"round.{words}",
        left=frozenset({1, 5, 6}))


def _who(line: Mapping[str, Any]) -> str:
    if line["method"] == line["against"]:
        return line["method"]
    return f"{line['method']} against {line['against']}"


def _finding(line: Mapping[str, Any]) -> str:
    if line["verdict"] == "noise" and line["drowned_by_seeds"]:
        return "within seeds' noise"
    if line["verdict"] in FINDINGS:
        return FINDINGS[line["verdict"]]
    return line["verdict"] + (" (a lead)" if line["sure"] == "lead" else "")


def _p_value(value: float | None) -> str:
    return rows.MISSING if value is None else "< 0.001" if value < 0.001 else rows.number(value)


def _bounds(item: Mapping[str, Any]) -> str:
    return rows.bounds([item["low"], item["high"]], sign=True)


def means_table(data: Mapping[str, Any]) -> Table:
    """Methods × studies: means over each study's own splits."""
    cells = []
    for entry in data["methods"]:
        for study, found in zip(data["studies"], entry["studies"], strict=True):
            if found is not None:
                cells.append((entry["method"], study["label"], str(found["splits"]),
                              *(_mean_words(found, key) for key in TITLES)))
    return Table(("method", "study", "splits", *LONG.values()), tuple(cells), caption="What each reached",
                 note="Mean over each study's own splits ± standard error over those with different nominal classes.",
                 left=frozenset({1}))


def _mean_words(found: Mapping[str, Any], key: str) -> str:
    return over_splits.words(over_splits.Mean(**found[key]), sign=key in over_splits.GAPS)


def secondary_tables(data: Mapping[str, Any]) -> list[Table]:
    """Differences in everything else that was measured, unjudged."""
    keys = [key for key in LONG if key not in ("scorer", "regret")]
    cells = [(_who(line), line["label"], *(
        _difference_words(line["measures"].get(key)) for key in keys)) for line in data["differences"]]
    first = data["studies"][0]["label"]
    return [Table(("method", "study", *(LONG[key] for key in keys)), tuple(cells),
                  caption=f"Everything else, minus that of {first}", left=frozenset({1}), folded=True,
                  note="95 % intervals, not adjusted for their number: no finding by themselves.")]


def _difference_words(item: Mapping[str, Any] | None) -> str:
    return f"{rows.signed(item['difference'])} {_bounds(item)}".strip() if item else rows.MISSING


def spec_table(data: Mapping[str, Any]) -> Table:
    """Keys of the specs that differ, studies as columns."""
    return _keys_table(data, "spec", "What differs in their specs", "An en dash: not set there.")


def version_table(data: Mapping[str, Any]) -> Table:
    """Versions and commits that differ."""
    return _keys_table(data, "versions", "Made with different versions", "")


def _keys_table(data: Mapping[str, Any], part: str, caption: str, note: str) -> Table:
    labels = [study["label"] for study in data["studies"]]
    cells = tuple((item["key"], *map(_value, item["values"])) for item in data[part])
    return Table(("key", *labels), cells, caption=caption, note=note, left=frozenset(range(1, len(labels) + 1)))


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value)) or "none"
    text = rows.short(value) if value != "" else "empty"
    return text[:12] if len(text) == 40 and set(text) <= set("0123456789abcdef") else text  # a commit's name


# ------------------------------------------------------------------------------------------------- terminal
def terminal_text(data: Mapping[str, Any], *, width: int | None = None) -> str:
    """Everything but the secondary differences, ``width`` columns wide (default: the terminal's, from 80 to 120)."""
    from rich.console import Console

    if width is None:
        width = min(WIDEST, max(NARROWEST, shutil.get_terminal_size((100, 24)).columns))
    sink = io.StringIO()
    console = Console(file=sink, width=width, force_terminal=False, force_jupyter=False, color_system=None, no_color=True, highlight=False,
                      emoji=False, markup=False, legacy_windows=False, _environ={})
    _say(console, headline(data))
    for sentence in sentences(data):
        _say(console, sentence, hang="  ")
    found, differ = difference_table(data), [table for table in (spec_table(data), version_table(data)) if table.cells]
    if found.cells:
        # the last column says what the one before it rests on; there is room for it on a wide terminal only
        _print_table(console, found if width >= 110 else _without(found, len(found.header) - 1))
    if data["methods"]:
        _print_means(console, data)
    for table in differ:
        _print_table(console, _short_keys(table, width))
    if not spec_table(data).cells:
        _say(console, "Their specs are alike but for the name.")
    return "\n".join(line.rstrip() for line in sink.getvalue().splitlines()) + "\n"


def _short_keys(table: Table, width: int) -> Table:
    """Long dotted keys go on two lines: before their last part."""
    longest = max(24, width // 3)

    def cut(key: str) -> str:
        head, dot, tail = key.rpartition(".")
        return f"{head}{dot}\n  {tail}" if len(key) > longest and dot else key

    cells = tuple((cut(key), *rest) for key, *rest in table.cells)
    return Table(table.header, cells, table.caption, table.note, table.left)


def _without(table: Table, column: int) -> Table:
    def cut(cells):
        return (*cells[:column], *cells[column + 1:])

    return Table(cut(table.header), tuple(map(cut, table.cells)), table.caption, table.note, table.left - {column})


def _new_table(caption: str, note: str) -> Any:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    return RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=Text(caption), title_justify="left",
                     caption=Text(note) if note else None, caption_justify="left", pad_edge=False, show_edge=False,
                     collapse_padding=True)


def _print_table(console: Any, table: Table) -> None:
    made = _new_table(table.caption, table.note)
    for index, title in enumerate(table.header):
        whole = title in WHOLE or (title == "study" and max(len(cells[index]) for cells in table.cells) <= 20)
        made.add_column(title, justify="left" if index in table.left or index == 0 else "right", overflow="fold",
                        no_wrap=whole)
    for cells in table.cells:
        made.add_row(*cells)
    console.print()
    console.print(made)


def _print_means(console: Any, data: Mapping[str, Any]) -> None:
    made = _new_table("What each reached", "Means over each study's splits, below ± standard error. "
                                           "Regret: AUROC lost by not seeing labels.")
    made.add_column("method\n  study (splits)", overflow="fold")
    for title in TITLES.values():
        made.add_column(title, justify="right", no_wrap=True)
    shared = [entry for entry in data["methods"] if sum(found is not None for found in entry["studies"]) > 1]
    for entry in shared or data["methods"]:
        made.add_row(entry["method"])
        for study, found in zip(data["studies"], entry["studies"], strict=True):
            if found is None:
                continue
            cells = [_mean_words(found, key).partition(" ± ")[::2] for key in TITLES]
            made.add_row(f"  {study['label']} ({found['splits']})",
                         *(f"{value}\n±{error.removeprefix('0')}" if error else value for value, error in cells))
    console.print()
    console.print(made)
    for place, study in enumerate(data["studies"]) if shared else ():
        alone = [entry["method"] for entry in data["methods"] if entry not in shared and entry["studies"][place]]
        if alone:
            _say(console, f"Only in {study['label']}: {rows.listed(alone)}.", hang="  ")


def _say(console: Any, sentence: str, *, hang: str = "") -> None:
    import re
    import textwrap

    glued = re.sub(r"(?<=,) (?=[^\[\]]*\])", "\N{NO-BREAK SPACE}", sentence)  # an interval stays on one line
    wrapped = textwrap.fill(glued, console.width, subsequent_indent=hang, break_on_hyphens=False)
    console.print(wrapped.replace("\N{NO-BREAK SPACE}", " "), no_wrap=True, soft_wrap=True)


# ----------------------------------------------------------------------------------------------------- page
def page(data: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    """The self-contained HTML page; looks like the report, whose style it takes."""
    import jinja2

    folder = Path(__file__).parent / "templates"
    report = (folder / "report.html").read_text(encoding="utf-8")
    style = report[report.index("<style>"):report.index("</style>") + len("</style>")]
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(folder), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    return environment.get_template("compare.html").render(
        data=data, headline=headline(data), sentences=sentences(data), tables=tables(data), figures=figures,
        style=style)
