"""How a method's chief scientific parameter moves detection: AUROC of scorers and oracles against it.

Numbers only; `plot_curves` draws them. A panel shows one split, since different nominal classes are different problems.
Which parameter is a method's chief one follows from summary["spaces"] (see `chief_parameter`).
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis import summary_rows as rows
from analysis.rank_correlation import kendall_tau

#: Whatever method they belong to: their effects have a table of their own (`effects`).
AUGMENTATIONS = ("crop_padding", "flip", "cutout", "mixup", "cutmix", "randaugment", "randaugment_ops", "colour_jitter",
                 "crop_scale", "jitter_strength", "grey")
SHARED = (*AUGMENTATIONS, "label_smoothing")  # scientific, but of every method: not what one method is about
OWN_SHOWN = 2  # a method's own scorers in one panel: more lines than six cannot be told apart
SYMBOLS = {"reconstruction_weight": "λ"}
FALLBACK = "reconstruction_weight"  # of summaries written before roles were


def chief_parameter(summary: Mapping[str, Any], method: str) -> str | None:
    """The searched numeric parameter that a method is about: the first scientific one of its space that not every
    method has, else label smoothing, else none. Constant in all its completed trials: not searched."""
    spaces = (summary.get("spaces") or {}).get(method) or {}
    scientific = [name for name, limits in spaces.items() if (limits or {}).get("role") == "scientific"]
    ordered = [name for name in scientific if name not in SHARED]
    ordered += ["label_smoothing"] * ("label_smoothing" in scientific)
    if not any("role" in (limits or {}) for limits in spaces.values()):
        ordered = [FALLBACK]
    for name in ordered:
        values = _values(summary, method, name)
        listed = "options" in (spaces.get(name) or {})  # two options make no curve
        if len(values) > (2 if listed else 1):
            return name
    return None


def _values(summary: Mapping[str, Any], method: str, name: str) -> set[float]:
    found = (rows.parameter(row, name) for row in rows.trial_rows(summary, method) if rows.is_completed(row))
    return {value for value in found if value is not None}


def parameter_curves(summary: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """`parameter_curve` of every method that has a chief parameter and two measured trials of one split; those whose
    parameter is their own first."""
    found = {}
    for method in rows.method_names(summary):
        parameter = chief_parameter(summary, method)
        data = parameter_curve(summary, method, parameter) if parameter else {"panels": []}
        if data["panels"]:
            found[method] = data
    return dict(sorted(found.items(), key=lambda item: item[1]["parameter"] in SHARED))


def parameter_curve(
    summary: Mapping[str, Any], method: str, parameter: str, *, split: object = None
) -> dict[str, Any]:
    """{"method", "parameter", "symbol", "log", "panels", "title", "note"}; one panel per split, or for `split` only.

    A panel: {"method", "split", "label", "trial", "value" (ascending), "series" {name: AUROCs, None where unknown},
    "other" (bool: another scientific option than the space's first), "other_words", "selected", "hindsight"}.
    "selected" = the trial chosen from nominal images alone, "hindsight" = the one that test labels would have chosen,
    by its best scorer (the frozen rule among them): {"trial", "value", "frozen", "best", "scorer"}.
    """
    limits = ((summary.get("spaces") or {}).get(method) or {}).get(parameter) or {}
    panels = []
    for name, number in rows.groups(summary):
        if name == method and split in (None, number):
            panel = _panel(summary, method, number, parameter)
            if panel:
                panels.append(panel)
    symbol = SYMBOLS.get(parameter, parameter.replace("_", " "))
    log = bool(limits.get("log", parameter == FALLBACK))
    return {"method": method, "parameter": parameter, "symbol": symbol, "log": log, "panels": panels,
            "title": _title(panels, method, symbol), "note": _note(panels, symbol)}


def side_by_side(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Curves of one parameter in several studies, by the studies' names, as one figure's data.

    ValueError when they do not show the same parameter, or show none.
    """
    shown = {name: data for name, data in found.items() if data["panels"]}
    if len({data["parameter"] for data in shown.values()}) != 1:
        names = [data["parameter"] for data in shown.values()]
        raise ValueError(f"one parameter in at least one study is needed, not {names or 'none'}")
    first = next(iter(shown.values()))
    panels = [{**panel, "label": f"{name} · {panel['label']}"}
              for name, data in shown.items() for panel in data["panels"]]
    hollow = next((panel["other_words"] for panel in panels if panel["other_words"]), "")
    return {**first, "log": any(data["log"] for data in shown.values()), "panels": panels,
            "title": f"{first['symbol']} against AUROC", "note": f"Hollow: trials with {hollow}." if hollow else ""}


def marks_table(data: Mapping[str, Any]) -> str:
    """The two choices of each panel as Markdown: what nominal images chose, and what test labels would have."""
    symbol = data["symbol"]
    titles = ("split", f"{symbol} selected without labels", "frozen rule", f"{symbol} by test labels", "frozen rule",
              "best scorer")
    lines = ["| " + " | ".join(titles) + " |", "|---|--:|--:|--:|--:|---|"]
    for panel in data["panels"]:
        chosen, best = panel["selected"], panel["hindsight"]
        cells = [rows.short(chosen["value"]), rows.number(chosen["frozen"])] if chosen else [rows.MISSING] * 2
        cells += [rows.short(best["value"]), rows.number(best["frozen"])]
        cells.append(f"{rows.number(best['best'])} ({best['scorer']})")
        lines.append(f"| {panel['label']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _panel(summary: Mapping[str, Any], method: str, split: object, parameter: str) -> dict[str, Any] | None:
    measured = [
        row for row in rows.trial_rows(summary, method, split)
        if rows.is_completed(row) and rows.parameter(row, parameter) is not None
        and rows.finite(row.get("scorer_auroc")) is not None
    ]
    if len(measured) < 2:
        return None
    measured.sort(key=lambda row: (rows.parameter(row, parameter), row.get("trial") or 0))
    series = _series(measured)
    chosen = next((row for row in measured if row.get("selected")), None)
    other, words = _other_option(summary, method, measured, parameter)
    return {
        "method": method, "split": split, "label": f"{method} · split {split}",
        "trial": [row.get("trial") for row in measured],
        "value": [rows.parameter(row, parameter) for row in measured],
        "series": {name: values for name, values in series.items() if any(v is not None for v in values)},
        "other": other, "other_words": words,
        "selected": _point(chosen, parameter) if chosen else None,
        "hindsight": max((_point(row, parameter) for row in measured), key=lambda point: point["best"]),
    }


def _series(measured: list[rows.Row]) -> dict[str, list[float | None]]:
    def of(field: str) -> list[float | None]:
        return [rows.finite(row.get(field)) for row in measured]

    found = {"frozen rule": of("scorer_auroc"), "max logit": [rows.max_logit_auroc(row) for row in measured]}
    for name in own_scorers(measured)[:OWN_SHOWN]:
        found[rows.scorer_title(name)] = [rows.finite((row.get("scorers") or {}).get(name)) for row in measured]
    return {**found, "oracle": of("oracle_detector_auroc"), "linear oracle": of("linear_oracle_auroc")}


def own_scorers(measured: list[rows.Row]) -> list[str]:
    """Scorers in the rows that are in no registry: scores that the method itself gives."""
    from analysis.scorers import scorer_names

    known = set(scorer_names())
    names = dict.fromkeys(name for row in measured for name in row.get("scorers") or {})
    return [name for name in names if name not in known]


def _point(row: rows.Row, parameter: str) -> dict[str, Any]:
    scorers = {name: rows.finite(value) for name, value in (row.get("scorers") or {}).items()}
    found = {name: auroc for name, auroc in scorers.items() if auroc is not None}
    frozen = float(row["scorer_auroc"])
    best = max(found, key=found.__getitem__, default=None)
    if best is None or found[best] <= frozen:
        best, found = "frozen rule", {"frozen rule": frozen}
    return {"trial": row.get("trial"), "value": rows.parameter(row, parameter), "frozen": frozen,
            "best": found[best], "scorer": best if best == "frozen rule" else rows.scorer_title(best)}


def _other_option(
    summary: Mapping[str, Any], method: str, measured: list[rows.Row], parameter: str
) -> tuple[list[bool], str]:
    """Trials with the other of two scientific options than the space names first (a cross-entropy weight of 0, say):
    another system, in effect, whose points must not be joined with the others'."""
    for name, limits in ((summary.get("spaces") or {}).get(method) or {}).items():
        options = (limits or {}).get("options") or []
        if name == parameter or len(options) != 2 or limits.get("role") != "scientific":
            continue
        other = [rows.parameter(row, name) == options[1] for row in measured]
        if any(other):
            return other, f"{name} = {rows.short(options[1])}"
    return [False] * len(measured), ""


def _title(panels: list[dict[str, Any]], method: str, symbol: str) -> str:
    known = [panel for panel in panels if panel["selected"]]
    if not known:
        return f"{method}: {symbol} against AUROC"
    losses = [panel["hindsight"]["best"] - panel["selected"]["frozen"] for panel in known]
    if len(known) == 1:
        chosen, best = known[0]["selected"], known[0]["hindsight"]
        if chosen["trial"] == best["trial"]:
            return (f"{method}: test labels would have picked the same {symbol} = {rows.short(chosen['value'])} "
                    f"(AUROC {rows.number(chosen['frozen'])}, at best {rows.number(best['best'])})")
        return (f"{method}: {symbol} = {rows.short(chosen['value'])} was selected "
                f"(AUROC {rows.number(chosen['frozen'])}); test labels would have picked {rows.short(best['value'])} ({rows.number(best['best'])})")
    return (f"{method}: {symbol} selected without labels loses {rows.number(min(losses))} to {rows.number(max(losses))} "
            "AUROC against tuning on test labels")


def _note(panels: list[dict[str, Any]], symbol: str) -> str:
    """Whether the oracle moves with the parameter: is there more information in z for it?"""
    found = []
    for panel in panels:
        kept = [index for index, other in enumerate(panel["other"]) if not other]
        oracle = panel["series"].get("oracle") or []
        tau = kendall_tau([panel["value"][i] for i in kept], [oracle[i] for i in kept]) if oracle else None
        if tau is not None:
            found.append(f"split {panel['split']}: {rows.signed(tau, 2)}")
    words = f"Other hyperparameters vary along with {symbol}."
    hollow = next((panel["other_words"] for panel in panels if panel["other_words"]), "")
    words += f" Hollow: trials with {hollow}." if hollow else ""
    return f"{words} Kendall τ of the oracle with {symbol} – {'; '.join(found)}." if found else words
