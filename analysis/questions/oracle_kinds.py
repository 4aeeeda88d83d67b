"""Which kind of oracle reads the latents best, and is what they know linearly available?

The study's two oracles, a forest of 1000 trees and a linear probe, were fitted by the reveal; further kinds are
fitted here on the same nominal validation images and anomalies. All are compared with the forest on the same test
images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis import summary_rows as rows
from analysis.card import Card, Table
from analysis.evidence import StudyEvidence, TrialEvidence
from analysis.oracle_means import (
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
)
from analysis.questions import Question

STORED = {"forest": "oracle_detector", "linear": "linear_oracle"}
TITLES = {"forest": "forest", "linear": "linear probe", "knn": "nearest neighbours", "boosted": "boosted trees"}


def measure(evidence: TrialEvidence, *, oracles: Sequence[str] = ("knn", "boosted")) -> dict[str, Any] | None:
    """{oracle: {"auroc": [value, low, high], "minus_forest": the same, paired; None for the forest itself}}; None where
    the reveal left no oracle."""
    from analysis.oracles import get_oracle

    scores = {name: evidence.stored[key] for name, key in STORED.items() if key in evidence.stored}
    if not scores or not len(evidence.outliers):
        return None
    for name in oracles:
        if name not in STORED:
            oracle = get_oracle(name, seed=evidence.seed, n_jobs=evidence.threads)
            scores[name] = oracle.fit(evidence.oracle_z, evidence.oracle_is_anomaly).anomaly_score(evidence.test.z)
    mask, forest = evidence.is_anomaly, scores.get("forest")
    return {name: {"auroc": area(score, mask),
                   "minus_forest": None if forest is None or name == "forest" else ahead(score, forest, mask)}
            for name, score in scores.items()}


def applicable(study: StudyEvidence) -> str:
    return "" if selected_of(study, "oracle_kinds") else "No oracle was measured: there are no anomalies to learn from."


def compute(study: StudyEvidence) -> dict[str, Any]:
    """Keys: ``oracles``: names; ``methods``: {method: {oracle: {"auroc", "minus_forest"}}}, each a mean over the
    splits' selected trials as ``oracle_means.over`` gives it (``minus_forest`` at the level divided among the oracles
    compared and the methods); ``minus_forest``: {oracle: the same as a mean over methods, at 0.95 divided among the
    oracles compared}; ``all_trials``: {oracle: {"auroc": mean over every measured trial, "highest": in how many of
    them it has the highest AUROC, a count within noise, "trials"}}; ``linear``: {method: "enough" (the probe is ahead
    of the forest or not told from it), "less" (it is behind), or "unknown"}; ``better``: {method: the oracles that
    are ahead of the forest beyond noise}."""
    selected = selected_of(study, "oracle_kinds")
    names = list(dict.fromkeys(name for found in study.of("oracle_kinds").values() for name in found))
    others = [name for name in names if name != "forest"]
    rivals = max(1, len(others) * len(selected))
    methods: dict[str, dict[str, Any]] = {}
    for method, by_split in selected.items():
        methods[method] = {
            name: {"auroc": over(study, {s: found[name]["auroc"] for s, found in by_split.items() if name in found}),
                   "minus_forest": over(study, {s: found[name]["minus_forest"] for s, found in by_split.items()
                                                if name in found}, rivals=rivals)}
            for name in names if any(name in found for found in by_split.values())}
    return {
        "oracles": names, "methods": methods,
        "minus_forest": {
            name: over_methods(
                study, {m: {s: found[name]["minus_forest"] for s, found in by_split.items() if name in found}
                        for m, by_split in selected.items()}, rivals=max(1, len(others))) for name in others},
        "all_trials": _all_trials(study, names),
        "linear": {method: _linear(found.get("linear")) for method, found in methods.items()},
        "better": {method: [name for name, value in found.items() if sign_of(value["minus_forest"]) > 0]
                   for method, found in methods.items()},
    }


def _linear(found: Mapping[str, Any] | None) -> str:
    if found is None or found["minus_forest"] is None:
        return "unknown"
    return "less" if sign_of(found["minus_forest"]) < 0 else "enough"


def _all_trials(study: StudyEvidence, names: Sequence[str]) -> dict[str, Any]:
    trials = list(study.of("oracle_kinds").values())
    best = [max(found, key=lambda name: found[name]["auroc"][0]) for found in trials]
    return {name: {"auroc": rows.mean(found[name]["auroc"][0] for found in trials if name in found),
                   "highest": best.count(name), "trials": sum(name in found for found in trials)} for name in names}


def card(result: Mapping[str, Any]) -> Card:
    methods, names = result["methods"], result["oracles"]
    title = {name: TITLES.get(name, rows.scorer_title(name)) for name in names}
    enough = [m for m, word in result["linear"].items() if word == "enough"]
    less = [m for m, word in result["linear"].items() if word == "less"]
    lines = [(m, *(mean_words((found.get(n) or {}).get("auroc")) for n in names)) for m, found in methods.items()]
    others = [n for n in names if n != "forest"]
    gaps = [(m, *(difference_words((found.get(n) or {}).get("minus_forest")) for n in others))
            for m, found in methods.items()]
    spread = [found[n]["minus_forest"] for found in methods.values() for n in others if n in found]
    total = result["all_trials"]
    everywhere = rows.listed(f"{title[n]} {rows.number(total[n]['auroc'])}" for n in names)
    return Card(
        "oracle_kinds", QUESTION.title, _headline(result),
        (*_sentences(result, title, enough, less), f"Means over every trial: {everywhere}."),
        (Table(("method", *(title[n] for n in names)), tuple(lines),
               "AUROC of oracles on the selected trials, mean ± standard error over splits"),
         Table(("method", *(title[n] for n in others)), tuple(gaps), "AUROC ahead of the forest",
               f"Intervals {basis_words(spread)}, at the level 0.95 divided among all comparisons of this table."
               if spread else "", folded=True)),
    )


def _headline(result: Mapping[str, Any]) -> str:
    found = result["minus_forest"].get("linear")
    if found is None:
        return "There is no linear probe and forest to compare."
    count = len(result["methods"])
    sign, words = sign_of(found), difference_words(found)
    if sign < 0:
        return (f"Part of the information is not linearly available: a linear probe is behind the forest "
                f"({words}{all_methods(count)}).")
    told = "reads more than" if sign > 0 else "is not told apart from"
    return f"Nothing shows that it takes more than a linear probe: it {told} the forest ({words}{all_methods(count)})."


def _sentences(
    result: Mapping[str, Any], title: Mapping[str, str], enough: list[str], less: list[str]
) -> tuple[str, ...]:
    sentences = [f"Method by method it is behind for {rows.listed(less)}, and not told apart for {len(enough)} of "
                 f"{len(enough) + len(less)}."] if less and len(enough) + len(less) > 1 else []
    each = [f"{title[name]} {difference_words(found)}" for name, found in result["minus_forest"].items()
            if name != "linear" and found is not None]
    if each:
        sentences.append(f"Against the forest{all_methods(len(result['methods']))}: {rows.listed(each)}.")
    ahead_of = [f"{rows.listed(title[n] for n in names)} for {m}" for m, names in result["better"].items() if names]
    sentences.append(f"Beyond noise ahead of the forest: {'; '.join(ahead_of)}." if ahead_of else
                     "For no method is any kind beyond noise ahead of the forest, by which the gaps are measured.")
    return tuple(sentences)


QUESTION = Question(
    name="oracle_kinds", title="Which oracle reads the latents best, and is a linear one enough?", measure=measure,
    compute=compute, card=card, applicable=applicable, scope="trial", options=("oracles",),
)
