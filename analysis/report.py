"""The report of a study: one self-contained HTML page, and each of its figures as SVG and PNG beside it.

The page needs no network, no script (a few lines make the table of trials sortable where scripts run) and no fonts of
its own; it follows the reader's light or dark setting. Everything taken from the study is escaped by the template.
"""
from __future__ import annotations

import json
import os
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis import effects, report_cards, report_tables
from analysis import summary_rows as rows
from analysis.card import Card
from analysis.verdict import verdict

GLOSSARY = {
    "nominal": "A class the network was trained on. Also: known, in-distribution (ID), closed set.",
    "anomaly": "An image of a class it never saw. Also: unknown, novel, out-of-distribution (OOD), open set.",
    "AUROC": "The chance that an anomaly gets a higher score than a nominal image: 0.5 is guessing, 1 is perfect.",
    "scorer": "Turns a network's output into an anomaly score, higher = more anomalous (max logit, energy, kNN …).",
    "frozen rule": "The scorer, or mean of several, that was fixed before any anomaly label was opened.",
    "signal": "A number from nominal data only, by which trials are chosen (validation accuracy, for example).",
    "oracle detector": (
        "A random forest that is given labelled anomalies and the network's latent z: a lower bound on what z holds."),
    "oracle representation": (
        "The same forest on the z of a network trained on all classes, the anomalies too: what this architecture can "
        "hold."),
    "extraction gap": "Oracle detector − scorer: information that is in z, but that the scorer does not read.",
    "representation gap": "Oracle representation − oracle detector: information that never reached z.",
    "regret": (
        "The best AUROC of any completed trial with any scorer, minus the selected one's: the cost of not looking. "
        "Cross-fitted: the best is found on one half of the test images and measured on the other."),
}


def write_report(
    folder: Path | str,
    summary: Mapping[str, Any],
    *,
    selection: Mapping[str, Any],
    spec: Mapping[str, Any],
    stamp: Mapping[str, Any],
    curves: Mapping[str, Any] | None = None,
) -> Path:
    """Writes `folder`/index.html and the figures' .svg and .png files; returns the path of index.html.

    Valid for every summary: nothing revealed, failed trials, one method, one trial, no representation. `curves`:
    further line charts by name, see `plots.draw_curve`. Raises OSError when the folder cannot be written.
    """
    from analysis import plots
    from analysis.plot_together import draw_figures

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    cards, unanswered = report_cards.cards_of(summary)
    drawn = draw_figures(plots.figures_of(summary, spec=spec, curves=curves) | report_cards.figures_of(cards))
    files = {name: content for figure in drawn.values() for name, content in figure.files.items()}
    for name, content in (files | report_cards.tables(cards)).items():
        _write(folder / name, content)
    data = page_data(summary, selection=selection, spec=spec, stamp=stamp)
    page = render(data, drawn, cards=cards, unanswered=unanswered)
    return _write(folder / "index.html", page.encode())


def render(
    data: Mapping[str, Any], drawn: Mapping[str, Any], *, cards: Sequence[Card] = (),
    unanswered: Sequence[tuple[str, str]] = (),
) -> str:
    """The page as text, from `page_data`, the drawn figures and `report_cards.cards_of`."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, trim_blocks=True,
        lstrip_blocks=True, undefined=jinja2.StrictUndefined,
    )
    environment.tests["beginning"] = lambda text, start: str(text).startswith(start)
    environment.filters.update(number=rows.number, signed=rows.signed, bounds=rows.bounds, short=rows.short,
                               scorer=rows.scorer_title)
    return environment.get_template("report.html").render(
        **data, figures=drawn, cards=cards, unanswered=unanswered)


def page_data(
    summary: Mapping[str, Any], *, selection: Mapping[str, Any], spec: Mapping[str, Any], stamp: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything the template shows, already ordered; plain dicts and lists."""
    found = verdict(summary, selection=selection, spec=spec)
    moved = effects.effects(summary, spec=spec)
    return {
        "study": str(summary.get("study", "")), "nominal_only": rows.unrevealed(summary), "verdict": found,
        "worries": [c for c in found.cautions if c.level != "note"], "notes": [c for c in found.cautions if c.level == "note"],
        "facts": _facts(summary, spec), "headline": report_tables.headline_table(summary, selection),
        "pretrained": any(row.get("pretrained") for row in rows.rows_of(summary)),
        "means": report_tables.means_table(summary), "trials": report_tables.trial_tables(summary),
        "scorers": report_tables.scorer_table(summary, selection), "choices": report_tables.choices(summary, selection),
        "effects": moved, "effects_words": effects.sentence(moved), "failures": report_tables.failures(summary),
        "rule": (selection or {}).get("rule"), "ranking": rows.frozen_ranking(summary, selection),
        "digest": summary.get("digest") or (selection or {}).get("digest"), "frozen_at": (selection or {}).get("frozen_at"),
        "command": command_of(stamp, summary), "stamp": report_tables.flatten(stamp or {}),
        "spec_toml": toml_of(spec), "glossary": GLOSSARY,
    }


def _facts(summary: Mapping[str, Any], spec: Mapping[str, Any]) -> list[str]:
    """The line under the title: what was run, in a few short facts."""
    data, training, search = ((spec or {}).get(key) or {} for key in ("data", "training", "search"))
    states = [row.get("state") for row in rows.trial_rows(summary)]
    counts = [f"{states.count(state)} {state}" for state in ("completed", "failed", "pruned") if state in states]
    facts = [f"data {data['source']}" if data.get("source") else "", rows.plural(len(rows.split_names(summary)), "split"),
             f"{rows.plural(len(states), 'trial')} ({', '.join(counts)})" if counts else "",
             f"network {training['network']}" if training.get("network") else "",
             f"sampler {search['sampler']}" if search.get("sampler") else "",
             f"warm-started from {search['warm_start']}" if search.get("warm_start") else ""]
    return [fact for fact in facts if fact]


def command_of(stamp: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """The exact command from the stamp; a list of words is quoted for a shell."""
    command = (stamp or {}).get("command")
    if isinstance(command, (list, tuple)):
        return shlex.join(map(str, command))
    return str(command) if command else f"oraclegap launch {shlex.quote(str(summary.get('study', '')))}"


def toml_of(spec: Mapping[str, Any], section: str = "") -> str:
    """The spec as TOML: plain values first, then a section for every mapping. Null values are left out."""
    plain = {key: value for key, value in (spec or {}).items() if value is not None and not isinstance(value, Mapping)}
    inner = {key: value for key, value in (spec or {}).items() if isinstance(value, Mapping) and value}
    lines = [f"[{section}]"] if section and plain else []
    lines += [f"{key} = {_toml_value(value)}" for key, value in plain.items()]
    parts = ["\n".join(lines)] if lines else []
    parts += [text for key, value in inner.items() if (text := toml_of(value, f"{section}.{key}" if section else key))]
    return "\n\n".join(parts)


def _toml_value(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml_value(item)}" for key, item in value.items()) + " }"
    return json.dumps(value if isinstance(value, (bool, int, float, str)) else str(value), ensure_ascii=False)


def _write(path: Path, content: bytes) -> Path:
    """Whole or not at all: temporary file beside it, fsync, rename."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)  # mkstemp makes files that only their owner can read, but a report is meant to be shared
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path

