"""The answers of ``study_claims`` in words, tables and forest plots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from analysis import paired_tests as tests
from analysis import summary_rows as rows
from analysis.card import Card, Figure, Table
from analysis.plot_questions_claims import draw_forest

SHORT = {
    "extraction": "more in the latent space than the frozen rule reads", "representation": "more in the network than in "
    "its latent space", "reconstruction": "more through reconstruction",
}
PANELS = {"extraction": "oracle detector − frozen rule", "representation": "oracle representation − oracle detector"}
AGREES = {"yes": "agrees", "no": "contradicts", "open": "open"}
LARGE = 4.0  # standard errors: with so few splits most real differences stay below


def card(result: Mapping[str, Any]) -> Card:
    """Headline: the verdicts of the three questions with number and interval."""
    said = [f"{text}: {_finding(line)}" for name, text in SHORT.items() for line in _named(result["questions"], name)]
    headline = "; ".join(said)
    title = "What the original study asked: extraction, representation, reconstruction"
    figures = [figure for figure in (_figure(result), _observations_figure(result)) if figure]
    return Card("study_claims", title, f"{headline[:1].upper()}{headline[1:]}." if said else "No oracle was measured.",
                tuple(_sentences(result)), tuple(_tables(result)), tuple(figures))


def _named(lines: Iterable[Mapping[str, Any]], name: str) -> list[Mapping[str, Any]]:
    return [line for line in lines if line["name"] == name]


def _finding(test: Mapping[str, Any]) -> str:
    """yes (+0.063 [+0.041, +0.085]); "yes on these splits" where only their images say so; with p where the interval alone would say otherwise."""
    p_value = f", p {p_words(test['p_adjusted'])}" if _only_alone(test) else ""
    here = test["on_these_images"]
    if test["verdict"] == tests.NOISE and test["basis"] == "splits" and here in (tests.YES, tests.OTHER_WAY):
        return f"{here} on these splits, not shown for others ({rows.signed(test['difference'])}{_space(_limits(test))}{p_value})"
    return f"{_verdict(test)} ({rows.signed(test['difference'])}{_space(_limits(test))}{p_value})"


def _verdict(test: Mapping[str, Any]) -> str:
    if test["verdict"] == tests.NOISE and test["seed_noise"]:
        return f"{test['verdict']} (another training seed makes as much)"
    return test["verdict"] + (" after Holm" if _only_alone(test) else "")


def _only_alone(test: Mapping[str, Any]) -> bool:
    """Whether the 95 % interval leaves out 0 and only the number of tests makes noise of it."""
    alone = test["low"] is not None and not test["low"] <= 0 <= test["high"]
    return alone and test["verdict"] == tests.NOISE and not test["seed_noise"]


def _limits(test: Mapping[str, Any]) -> str:
    return rows.bounds([test["low"], test["high"]], sign=True)


def _space(text: str) -> str:
    return f" {text}" if text else ""


# ---------------------------------------------------------------------------------------------------- sentences
def _sentences(result: Mapping[str, Any]) -> list[str]:
    said = [_basis(result)]
    said.append(_too_few(result))
    said.append(_images_sentence(result))
    found = {verdict: [line for line in result["observations"] if line["agrees"] == verdict] for verdict in ("no", "yes")}
    where = " on its classes" if result["class_sets"] < 2 else ""
    for verdict, verb in (("no", "contradicts"), ("yes", "agrees with")):
        if found[verdict]:
            what = "; ".join(f"{line['label']} is {rows.signed(line['difference'])}, the original study said {line['said']}"
                             for line in found[verdict])
            said.append(f"This study {verb} the original one{where}: {what}.")
    said.append(_pairs_sentence(result["pairs"]))
    return [sentence for sentence in said if sentence]


def _basis(result: Mapping[str, Any]) -> str:
    sets, splits = result["class_sets"], result["splits"]
    tail = "" if result["repeated_seeds"] else " No configuration was trained with a second seed, so what the seed makes is not in them."
    if sets > 1:
        return (f"Intervals: Student's t of the paired differences over {rows.plural(sets, 'set')} of nominal classes; p "
                f"values are Holm-adjusted for the tests of a table.{tail}")
    more = f" ({splits} splits of the same classes)" if splits > 1 else ""
    return (f"One set of nominal classes{more}: intervals come from its test images (paired DeLong) and say nothing about "
            f"other classes; p values are Holm-adjusted for the tests of a table.{tail}")


def _too_few(result: Mapping[str, Any]) -> str:
    if result["class_sets"] < 2:
        return ("With one set of classes no finding can be claimed for classes not yet seen, however small its p: run more "
                "splits.")
    needed = {name: value for name, value in result["errors_needed"].items() if value is not None and value > LARGE}
    words = {"questions": "the questions", "observations": "the observations", "pairs": "the pairs of methods"}
    each = [f"{value:.0f} standard errors for {words[name]}" for name, value in needed.items() if name in words]
    if not each:
        return ""
    least = 2.0 ** (1 - result["class_sets"])
    flips = (f" A test that does not lean on normal differences (sign flips) cannot come below p = {least:.3g} here."
             if least > tests.ALPHA else "")
    return (f"With {result['class_sets']} sets of classes the clearest difference counts only from {rows.listed(each)}: too "
            f"few splits for most real differences, so “no difference beyond noise” and “not shown” do not mean absent.{flips}")


def _images_sentence(result: Mapping[str, Any]) -> str:
    """What the test images of these splits say by themselves, where the verdicts come from splits."""
    said = []
    for name, text in SHORT.items():
        for line in _named(result["questions"], name):
            if line["images"] and line["basis"] == "splits":
                images = {**line, **line["images"], "verdict": line["on_these_images"]}
                said.append(f"{text}: {_verdict(images)} {_limits(images)}")
    return f"By the test images of these very splits alone (cautious, as they overlap) – {'; '.join(said)}." if said else ""


def _pairs_sentence(pairs: list[Mapping[str, Any]]) -> str:
    if not pairs:
        return ""
    sure = [pair for pair in pairs if pair["verdict"] in (tests.YES, tests.OTHER_WAY)]
    if not sure:
        return (f"Of {rows.plural(len(pairs), 'pair')} of methods none differs beyond noise after Holm." if len(pairs) > 1
                else f"{pairs[0]['first']} and {pairs[0]['second']} do not differ beyond noise.")
    names = []
    for pair in sure[:4]:
        ahead, behind = ("first", "second") if pair["verdict"] == tests.YES else ("second", "first")
        names.append(f"{pair[ahead]} over {pair[behind]} ({rows.signed(abs(pair['difference']))})")
    more = f" and {len(sure) - 4} more" if len(sure) > 4 else ""
    verb = "differs" if len(sure) == 1 else "differ"
    return (f"Of {rows.plural(len(pairs), 'pair')} of methods {len(sure)} {verb} beyond noise after Holm: "
            f"{'; '.join(names)}{more}.")


# ---------------------------------------------------------------------------------------------------- tables
COLUMNS = ("difference", "95 % interval", "p (Holm)", "verdict")


def _table(first: str, lines: list[tuple[str, Mapping[str, Any]]], caption: str, note: str = "", *, folded: bool = False,
           more: Mapping[str, list[str]] | None = None) -> Table:
    """Headings with their tests; a column of what the images alone say, where the verdicts come from splits; and ``more``."""
    split = any(test["basis"] == "splits" for _, test in lines)
    header = [first, *COLUMNS, *(["these images"] if split else []), *(more or {})]
    cells = [(name, rows.signed(test["difference"]), _limits(test) or rows.MISSING, p_words(test["p_adjusted"]), _verdict(test),
              *([test["on_these_images"]] if split else []), *(words[i] for words in (more or {}).values()))
             for i, (name, test) in enumerate(lines)]
    alone = ("“These images”: the verdict of the test images of these splits alone, Holm-adjusted too, and cautious, "
             "since the splits' images overlap.") if split and not folded else ""
    return Table(tuple(header), tuple(cells), caption, " ".join(filter(None, (note, alone))),
                 frozenset(range(4, len(header))), folded)


def p_words(p_value: float | None) -> str:
    """0.012, < 0.001, or an en dash."""
    return "< 0.001" if p_value is not None and p_value < 0.001 else rows.number(p_value)


def _tables(result: Mapping[str, Any]) -> list[Table]:
    tables = []
    if result["questions"]:
        tables.append(_table("question", [(_asked(line), line) for line in result["questions"]],
                             "The study's questions, mean over methods; differences in AUROC",
                             "Holm adjusts the study's three questions together, and what is asked beside them together."))
    for name, title in (("extraction", "Oracle detector − frozen rule"), ("extraction_max_logit", "Oracle detector − max logit"),
                        ("representation", "Oracle representation − oracle detector")):
        lines = result["methods"].get(name) or []
        if len(lines) > 1:
            tables.append(_table("method", [(line["method"], line) for line in lines], f"{title}, each method", folded=True))
    seen = result["observations"]
    if seen:
        note = ("“Agrees”, “contradicts”: all or nothing of the 95 % interval (not adjusted) lies where the original study's "
                "finding puts it; “open”: some of it does.")
        more = {"the original study": [line["said"] or rows.MISSING for line in seen],
                "this one": [AGREES.get(line["agrees"], rows.MISSING) for line in seen]}
        tables.append(_table("question", [(line["text"], line) for line in seen],
                             "Its other observations; differences in AUROC", note, more=more))
    pairs = result["pairs"]
    if len(pairs) > 1:
        tables.append(_table("methods", [(f"{line['first']} − {line['second']}", line) for line in pairs],
                             "Every two methods, frozen rules", folded=True))
    return tables


def _asked(line: Mapping[str, Any]) -> str:
    some = line["methods"] < line["of_methods"] and not line["name"].startswith("reconstruction")
    return line["text"] + (f" ({line['methods']} of {line['of_methods']} methods)" if some else "")


# ---------------------------------------------------------------------------------------------------- figures
def forest_data(title: str, panels: list[dict[str, Any]], *, columns: int) -> dict[str, Any]:
    """Panels {"title", "lines": [{"name", "value", "low", "high", "images", "points", "verdict"}]} and the "limits" of
    their shared axis: every value and the images' intervals; longer intervals over splits are cut there."""
    lines = [line for panel in panels for line in panel["lines"]]
    ends = [0.0, *(end for line in lines for end in (line["value"], *line["points"], *(line["images"] or ())))]
    if not any(line["images"] for line in lines):
        ends += [end for line in lines for end in (line["low"], line["high"]) if end is not None]
    pad = 0.06 * (max(ends) - min(ends)) or 0.01
    return {"title": title, "panels": panels, "columns": columns, "limits": [min(ends) - pad, max(ends) + pad]}


def _line(name: str, test: Mapping[str, Any]) -> dict[str, Any]:
    images = test["images"] if test["basis"] == "splits" else None
    return {"name": name, "value": test["difference"], "low": test["low"], "high": test["high"], "verdict": test["verdict"],
            "images": [images["low"], images["high"]] if images else None,
            "points": list(test["by_split"].values()) if test["splits"] > 1 else []}


def _figure(result: Mapping[str, Any]) -> Figure | None:
    panels = []
    for name, title in PANELS.items():
        lines = result["methods"].get(name) or []
        overall = _named(result["questions"], name) if len(lines) > 1 else []
        if lines:
            panels.append({"title": title, "lines": [*(_line(line["label"], line) for line in overall),
                                                     *(_line(line["method"], line) for line in lines)]})
    found = [line for line in result["questions"] if line["name"].startswith("reconstruction")]
    if found:
        panels.append({"title": "hybrid − classifier", "lines": [_line(line["label"], line) for line in found]})
    if not panels:
        return None
    verdicts = [f"{PANELS.get(name, 'hybrid − classifier, oracle detectors')}: {_finding(line)}" for name in SHORT
                for line in _named(result["questions"], name)]
    alt = f"Differences in AUROC with 95 % intervals. {'; '.join(verdicts)}."
    title = "Where the information is: " + "; ".join(
        f"{name} {rows.signed(line['difference'])}" + (" (noise)" if line["verdict"] == tests.NOISE else "")
        for name in SHORT for line in _named(result["questions"], name))
    return Figure("study_claims", forest_data(title, panels, columns=2), draw_forest, alt, _caption(result))


def _observations_figure(result: Mapping[str, Any]) -> Figure | None:
    if not result["observations"]:
        return None
    lines = [_line(line["label"], line) for line in result["observations"]]
    sure = sum(line["verdict"] in (tests.YES, tests.OTHER_WAY) for line in lines)
    title = f"Other observations: {sure or 'none'} of {len(lines)} beyond noise"
    alt = "Differences in AUROC with 95 % intervals: " + "; ".join(f"{line['name']} {rows.signed(line['value'])}" for line in lines)
    data = forest_data(title, [{"title": "", "lines": lines}], columns=1)
    return Figure("study_observations", data, draw_forest, alt + ".", _caption(result))


def _caption(result: Mapping[str, Any]) -> str:
    if result["class_sets"] < 2:
        return "Filled: beyond noise after Holm. Intervals from the test images (paired DeLong)."
    return ("Filled: beyond noise after Holm. Thin: t interval over sets of classes (an arrow where it goes on); thick: from the "
            "images of these splits alone; ticks: single splits.")
