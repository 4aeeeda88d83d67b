"""Which layer holds what there is to know of anomalies: is it in the latents, or was it lost on the way there?

The same oracle learns from the mean of each stage's feature map. Wider layers have more features: what an oracle
finds in a layer is what it holds and how well so many labelled images bring it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis import summary_rows as rows
from analysis.card import Card, Figure, Table
from analysis.evidence import StudyEvidence, TrialEvidence
from analysis.oracle_means import (
    SMALL_FOREST,
    ahead,
    all_methods,
    area,
    basis_words,
    difference_words,
    mean_words,
    over,
    over_methods,
    selected_of,
    sign_of,
    small_oracle_scores,
)
from analysis.plot_questions_oracles import draw_layers
from analysis.questions import Question

ORACLES = ("linear", "forest")
TITLES = {"linear": "linear probe", "forest": f"forest of {SMALL_FOREST} trees"}
LATENTS = "z"


def measure(evidence: TrialEvidence) -> dict[str, Any] | None:
    """{"layers": names, first to last, "widths": {layer: features}, for each of ``ORACLES`` {layer: {"auroc": [value,
    low, high], "minus_z": [difference, low, high], None for z}}}; None without checkpoint, without a layer beside z
    or without anomalies. A layer whose features are z itself (the mean of a small network's last map) is left out."""
    layers = evidence.layers()
    if not layers or LATENTS not in layers or not len(evidence.outliers):
        return None
    layers = {name: parts for name, parts in layers.items() if name == LATENTS or not _same(parts, layers[LATENTS])}
    if len(layers) < 2:
        return None
    mask = evidence.is_anomaly
    found: dict[str, Any] = {"layers": list(layers),
                             "widths": {name: int(parts[2].shape[1]) for name, parts in layers.items()}}
    for oracle in ORACLES:
        scores = {name: small_oracle_scores(oracle, *parts, seed=evidence.seed, threads=evidence.threads)
                  for name, parts in layers.items()}
        found[oracle] = {name: {"auroc": area(score, mask),
                                "minus_z": None if name == LATENTS else ahead(score, scores[LATENTS], mask)}
                         for name, score in scores.items()}
    return found


def _same(parts: tuple[np.ndarray, ...], others: tuple[np.ndarray, ...]) -> bool:
    return all(a.shape == b.shape and np.allclose(a, b, rtol=1e-4, atol=1e-5)
               for a, b in zip(parts, others, strict=True))


def applicable(study: StudyEvidence) -> str:
    if not selected_of(study, "layers"):
        return "No trial could be read layer by layer: its weights are gone, or its network has no stages."
    return ""


def compute(study: StudyEvidence) -> dict[str, Any]:
    """Keys: ``methods``: {method: {"layers": names, "widths", and for each of ``linear`` and ``forest`` {layer:
    {"auroc", "minus_z"}}}}, each as ``oracle_means.over`` (``minus_z`` at 0.95 divided among a method's layers and
    oracles, None for z); ``best``: {method: {"oracle", "layer": the one with the highest AUROC, "verdict": "earlier"
    (a layer before z is ahead of it beyond noise by the better oracle of the two on z), "latents" (every layer before
    is behind) or "not told apart"}}; ``mean``: {oracle: {layer: "minus_z" as a mean over the methods that have it, at
    0.95 divided among layers and oracles}}; ``unread``: selected methods whose layers could not be read."""
    methods: dict[str, Any] = {}
    selected = selected_of(study, "layers")
    for method, by_split in selected.items():
        names = list(dict.fromkeys(name for found in by_split.values() for name in found["layers"] if name != LATENTS))
        rivals = len(names) * len(ORACLES)
        methods[method] = {"layers": [*names, LATENTS],
                           "widths": {n: w for found in by_split.values() for n, w in found["widths"].items()}}
        for oracle in ORACLES:
            methods[method][oracle] = {
                name: {key: over(study, {s: found[oracle][name][key] for s, found in by_split.items()
                                         if name in found[oracle]}, rivals=rivals if key == "minus_z" else 1)
                       for key in ("auroc", "minus_z")} for name in methods[method]["layers"]}
    return {"methods": methods, "best": {method: _best(found) for method, found in methods.items()},
            "mean": {oracle: _mean(study, selected, oracle) for oracle in ORACLES},
            "unread": [method for method in dict.fromkeys(row["method"] for row in rows.selected_rows(study.summary))
                       if method not in methods]}


def _mean(study: StudyEvidence, selected: Mapping[str, Mapping[Any, Mapping[str, Any]]], oracle: str) -> dict[str, Any]:
    names = list(dict.fromkeys(name for tables in selected.values() for found in tables.values()
                               for name in found["layers"] if name != LATENTS))
    return {name: over_methods(study, {m: {s: found[oracle][name]["minus_z"] for s, found in tables.items()
                                           if name in found[oracle]} for m, tables in selected.items()},
                               rivals=len(names) * len(ORACLES)) for name in names}


def _best(found: Mapping[str, Any]) -> dict[str, Any]:
    oracle = max(ORACLES, key=lambda name: found[name][LATENTS]["auroc"]["mean"])
    table = found[oracle]
    best = max(found["layers"], key=lambda name: table[name]["auroc"]["mean"])
    signs = [sign_of(table[name]["minus_z"]) for name in found["layers"] if name != LATENTS]
    verdict = "earlier" if max(signs) > 0 else "latents" if max(signs) < 0 else "not told apart"
    return {"oracle": oracle, "layer": best, "verdict": verdict}


def figure_data(result: Mapping[str, Any]) -> dict[str, Any]:
    """{"title", "panels": [{"label", "layers", "series": {oracle's title: {"mean", "low", "high": lists}}}]}."""
    panels = []
    for method, found in result["methods"].items():
        series = {}
        for oracle in ORACLES:
            areas = [found[oracle][name]["auroc"] for name in found["layers"]]
            series[TITLES[oracle]] = {key: [area[key] for area in areas] for key in ("mean", "low", "high")}
        panels.append({"label": method, "layers": found["layers"], "series": series})
    return {"title": "What an oracle reads from each layer", "panels": panels}


def card(result: Mapping[str, Any]) -> Card:
    lines, spread = [], []
    for method, found in result["methods"].items():
        for name in found["layers"]:
            cells = [part for oracle in ORACLES for part in (mean_words(found[oracle][name]["auroc"]),
                                                             difference_words(found[oracle][name]["minus_z"]))]
            spread += [found[oracle][name]["minus_z"] for oracle in ORACLES]
            lines.append((f"{method} · {name}", str(found["widths"][name]), *cells))
    header = ("method · layer", "features", *(part for o in ORACLES for part in (TITLES[o], "minus z")))
    note = (f"Intervals {basis_words(spread)}, at the level 0.95 divided among a method's layers and the two oracles. "
            "A stage whose mean map is z itself is left out.")
    alt = "For each method a line of oracle AUROC from the first stage of the network to its latents, with bands."
    return Card("layers", QUESTION.title, _headline(result), _sentences(result),
                (Table(header, tuple(lines), "AUROC of an oracle on each layer, selected trials", note,
                       folded=len(lines) > 24),),
                (Figure("layers", figure_data(result), draw_layers, alt, "Bands: 95 % intervals."),))


def _headline(result: Mapping[str, Any]) -> str:
    count = len(result["methods"])
    oracle, table = _chief(result)
    name = max(table, key=lambda layer: table[layer]["mean"])  # the stage that comes nearest to z, or passes it
    where = f"({name} against z: {difference_words(table[name])} for the {TITLES[oracle]}{all_methods(count)})"
    over_z = [layer for layer, found in table.items() if sign_of(found) > 0]
    if over_z:
        return f"The latents have lost something: an oracle reads more of anomalies from an earlier stage {where}."
    if sign_of(table[name]) < 0:
        return f"The latents hold the most: even the nearest stage before z is behind it {where}."
    return f"The latents have lost nothing that shows: the best stage before z is not told apart from it {where}."


def _chief(result: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The oracle that reads more from z, as a mean over methods, and its line of ``mean``."""
    def on_z(oracle: str) -> float:
        return rows.mean(found[oracle][LATENTS]["auroc"]["mean"] for found in result["methods"].values()) or 0.0
    oracle = max(ORACLES, key=on_z)
    return oracle, result["mean"][oracle]


def _sentences(result: Mapping[str, Any]) -> tuple[str, ...]:
    best = result["best"]
    by_verdict = {word: [m for m, found in best.items() if found["verdict"] == word]
                  for word in ("earlier", "latents", "not told apart")}
    unread = (f"Not read, for want of weights or stages: {rows.listed(result['unread'])}.",) if result["unread"] else ()
    if len(best) == 1:
        return unread
    words = {"earlier": "an earlier stage is ahead of z", "latents": "z is ahead of every stage before it",
             "not told apart": "z and the best stage before it are not told apart"}
    each = [f"{words[word]} for {rows.listed(names)}" for word, names in by_verdict.items() if names]
    return (f"Method by method: {'; '.join(each)}.", *unread)


QUESTION = Question(
    name="layers", title="Which layer holds what there is to know of anomalies?", measure=measure, compute=compute,
    card=card, applicable=applicable, scope="selected",
)
