"""ROC curves of what a scorer reads and of what an oracle reads from the same latent space, with 95 % bands.

A band is *pointwise*: at each rate of false alarms by itself, the share of anomalies found lies in it; a whole curve leaves
it more often. One split: percentiles of a stratified bootstrap (anomalies and nominal images drawn apart with replacement,
the same draws for all scores). Several splits: curves averaged vertically (Fawcett, Pattern Recognition Letters 2006), the band
from the lowest to the highest split.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis import paired_tests as tests
from analysis import summary_rows as rows
from analysis.card import Card, Figure, Table
from analysis.evidence import StudyEvidence, TrialEvidence
from analysis.gaps import FROZEN_RULE, finite_or_none
from analysis.metrics import auroc, check_scores
from analysis.over_splits import Mean, mean_of, words
from analysis.plot_questions_claims import draw_roc
from analysis.questions import Question

NAME, TITLE = "roc", "How many anomalies are found at how many false alarms?"
CURVES = {FROZEN_RULE: "frozen rule", "max_logit": "max logit", "oracle_detector": "oracle detector",
          "oracle_representation": "oracle representation"}
FPR = np.linspace(0, 1, 101)
SHOWN = (0.01, 0.05, 0.1, 0.2)  # false positive rates of the table
AT = 0.05  # that of the headline
RESAMPLES, LEVEL, AT_ONCE = 300, 0.95, 50
DIGITS = 5
NEARLY_ALL, MANY = 0.97, 4


# ---------------------------------------------------------------------------------------------------- measure
def measure(evidence: TrialEvidence) -> dict[str, Any] | None:
    """{"curves": {score: {"auroc", "tpr", "low", "high"}}, "gap": [difference, low, high] or None}: true positive rates on
    the grid FPR with the band of ``resampled``, and oracle detector − frozen rule at 5 % false alarms."""
    mask = evidence.is_anomaly
    scores = {name: found for name in CURVES if (found := _scores(evidence, name)) is not None}
    if not scores:
        return None
    drawn = resampled(scores, mask, seed=evidence.seed)
    curves = {}
    for name, values in scores.items():
        low, high = np.quantile(drawn[name], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
        tpr = true_positive_rates(values, mask)
        curves[name] = {"auroc": auroc(values, mask),
                        **{key: np.round(part, DIGITS) for key, part in (("tpr", tpr), ("low", low), ("high", high))}}
    gap = None
    if {FROZEN_RULE, "oracle_detector"} <= curves.keys():
        place = int(np.searchsorted(FPR, AT))
        apart = drawn["oracle_detector"][:, place] - drawn[FROZEN_RULE][:, place]
        found = curves["oracle_detector"]["tpr"][place] - curves[FROZEN_RULE]["tpr"][place]
        gap = [found, *np.quantile(apart, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])]
    return finite_or_none({"curves": curves, "gap": gap})


def _scores(evidence: TrialEvidence, name: str) -> np.ndarray | None:
    if name not in evidence.stored and not (name == "max_logit" and evidence.usable(name)):
        return None
    try:
        return check_scores(evidence.score(name), evidence.is_anomaly)[0]
    except ValueError:  # scores that are not numbers, or one kind of image only
        return None


def true_positive_rates(anomaly_score, is_anomaly, weights: np.ndarray | None = None) -> np.ndarray:
    """(101,) of scores (N,) at the rates FPR, linear between thresholds, the highest where the curve rises straight up; with
    ``weights`` (B, N), how often each image counts, (B, 101)."""
    scores, mask = check_scores(anomaly_score, is_anomaly)
    order = np.argsort(-scores, kind="stable")
    ordered, anomalous = scores[order], mask[order]
    last = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(scores) - 1)  # of images with one score
    counts = np.ones((1, len(scores))) if weights is None else weights[:, order]
    hits, alarms = ((np.cumsum(counts * part, axis=1)[:, last]) for part in (anomalous, ~anomalous))
    start = np.zeros((len(counts), 1))
    hits, alarms = np.hstack([start, hits]) / hits[:, -1:], np.hstack([start, alarms]) / alarms[:, -1:]
    rates = np.array([np.interp(FPR, x, y) for x, y in zip(alarms, hits, strict=True)])
    return rates[0] if weights is None else rates


def resampled(
    scores: Mapping[str, np.ndarray], is_anomaly: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, np.ndarray]:
    """{score: (resamples, 101)} true positive rates of the same bootstrap draws, stratified by kind of image."""
    random, kinds = np.random.default_rng(seed), (np.flatnonzero(is_anomaly), np.flatnonzero(~is_anomaly))
    parts: dict[str, list[np.ndarray]] = {name: [] for name in scores}
    for begin in range(0, resamples, AT_ONCE):  # a few at once: a weight for each image of each draw
        count = min(AT_ONCE, resamples - begin)
        weights = np.zeros((count, len(is_anomaly)))
        for images in kinds:
            cells = random.integers(0, len(images), (count, len(images))) + len(images) * np.arange(count)[:, None]
            weights[:, images] = np.bincount(cells.ravel(), minlength=count * len(images)).reshape(count, -1)
        for name, values in scores.items():
            parts[name].append(true_positive_rates(values, is_anomaly, weights))
    return {name: np.concatenate(part) for name, part in parts.items()}


# ---------------------------------------------------------------------------------------------------- compute
def applicable(study: StudyEvidence) -> str:
    return "" if study.of(NAME) else "No selected trial has scores of test images, so there is no curve to draw."


def compute(study: StudyEvidence) -> dict[str, Any]:
    """{"fpr": [101 rates], "methods": {method: {"curves": {score: {"tpr", "low", "high", "auroc", "standard_error",
    "splits"}}, "basis"}}, "at": 0.05, "gap", "found", "resamples"}.

    ``basis``: "images" (one split: pointwise 95 % bootstrap band) or "splits" (vertical mean, lowest and highest split).
    ``gap``: oracle detector − frozen rule in anomalies found at ``at`` false alarms, mean over methods, as
    ``paired_tests.over_splits`` with "verdict", "p_adjusted" (one test: the p itself) and "methods", or null; ``found``:
    {score: mean over the same methods (all, without a gap) of that share}."""
    by_method: dict[str, dict[int, Mapping[str, Any]]] = {}
    for (method, split), trials in study.groups(NAME).items():
        by_method.setdefault(method, {})[split] = next(iter(trials.values()))
    methods = {method: _method(study, found) for method, found in by_method.items()}
    gaps = {method: {split: tests.Gap(*one["gap"]) for split, one in found.items() if one.get("gap")}
            for method, found in by_method.items()}
    most = max(map(len, gaps.values()), default=0)
    whole = [method for method, table in gaps.items() if most and len(table) == most]
    gap = tests.over_splits(study.summary, tests.averaged([gaps[method] for method in whole]))
    place = int(np.searchsorted(FPR, AT))
    found = {name: rows.mean(methods[m]["curves"][name]["tpr"][place] for m in whole or methods if name in methods[m]["curves"])
             for name in CURVES}
    return finite_or_none({
        "fpr": np.round(FPR, 2), "methods": methods, "at": AT, "found": found, "resamples": RESAMPLES,
        "gap": {**tests.judged([gap])[0], "methods": len(whole)} if gap["splits"] else None,
    })


def _method(study: StudyEvidence, found: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    curves = {}
    for name in CURVES:
        own = {split: one["curves"][name] for split, one in found.items() if name in one["curves"]}
        if not own:
            continue
        rates = np.array([curve["tpr"] for curve in own.values()])
        band = (rates.min(axis=0), rates.max(axis=0))
        if len(own) == 1:
            (only,) = own.values()
            band = (np.array(only["low"]), np.array(only["high"]))
        mean = mean_of(study.summary, {split: curve["auroc"] for split, curve in own.items()})
        curves[name] = {"tpr": np.round(rates.mean(axis=0), DIGITS), "low": band[0], "high": band[1],
                        "auroc": mean.value, "standard_error": mean.error, "splits": mean.n}
    return {"curves": curves, "basis": "splits" if len(found) > 1 else "images"}


# ---------------------------------------------------------------------------------------------------- card
def roc_data(result: Mapping[str, Any]) -> dict[str, Any]:
    """{"title", "fpr", "titles", "panels": [{"method", "curves": [{"name", "tpr", "low", "high"}]}]}. The rates end where
    nothing more happens, and many panels of whole curves take every second one."""
    every = [curve["tpr"] for found in result["methods"].values() for curve in found["curves"].values()]
    until = next((i for i in (20, 50) if all(tpr[i] >= NEARLY_ALL for tpr in every)), len(FPR) - 1)
    kept = slice(0, until + 1, 2 if len(result["methods"]) > MANY and until > 50 else 1)
    panels = [{"method": method, "curves": [{"name": name, **{key: curve[key][kept] for key in ("tpr", "low", "high")}}
                                            for name, curve in found["curves"].items()]}
              for method, found in result["methods"].items()]
    return {"title": _short(result), "fpr": result["fpr"][kept], "titles": CURVES, "panels": panels}


def _short(result: Mapping[str, Any]) -> str:
    gap, found = result["gap"], result["found"]
    if not gap:
        return "Anomalies found against false alarms"
    noise = "" if gap["verdict"] in (tests.YES, tests.OTHER_WAY) else ", within noise"
    return (f"At {_share(result['at'])} false alarms: frozen rule finds {_share(found[FROZEN_RULE])}, oracle "
            f"{_share(found['oracle_detector'])} of the anomalies{noise}")


def _share(value: float | None) -> str:
    return rows.MISSING if value is None else f"{100 * value:.0f} %"


def _headline(result: Mapping[str, Any]) -> str:
    gap, found = result["gap"], result["found"]
    if not gap:
        name = next((name for name in CURVES if found.get(name) is not None), None)
        return f"The {CURVES[name]} finds {_share(found[name])} of the anomalies at {_share(result['at'])} false alarms." if name else (
            "No oracle was measured to compare a scorer with.")
    who = f"mean over {gap['methods']} methods" if gap["methods"] > 1 else next(iter(result["methods"]))
    limits = rows.bounds([gap["low"], gap["high"]], 2, sign=True)
    apart = f"{rows.signed(gap['difference'], 2)}{' ' + limits if limits else ''}"
    tail = {tests.YES: f"the oracle finds more: {apart}", tests.OTHER_WAY: f"the frozen rule finds more: {apart}",
            tests.NOISE: f"no difference beyond noise: {apart}"}.get(gap["verdict"], f"{apart}, no interval known")
    return (f"At {_share(result['at'])} false alarms the frozen rule finds {_share(found[FROZEN_RULE])} of the anomalies and the "
            f"oracle detector {_share(found['oracle_detector'])} ({who}); {tail}.")


def card(result: Mapping[str, Any]) -> Card:
    places = [int(np.searchsorted(FPR, rate)) for rate in SHOWN]
    header = ("method", "score", "AUROC", *(f"found at {_share(rate)} false alarms" for rate in SHOWN))
    cells = tuple(
        (method, CURVES[name], words(Mean(curve["auroc"], curve["standard_error"], curve["splits"])),
         *(f"{rows.number(curve['tpr'][i], 2)} {rows.bounds([curve['low'][i], curve['high'][i]], 2)}" for i in places))
        for method, found in result["methods"].items() for name, curve in found["curves"].items())
    several = any(found["basis"] == "splits" for found in result["methods"].values())
    band = ("Lines are means over splits, taken at each rate of false alarms; bands and brackets go from the lowest to the "
            "highest split." if several else
            f"Bands and brackets hold 95 % at each rate of false alarms by itself (pointwise; {result['resamples']} bootstrap "
            "draws of the test images, anomalies and nominal images apart).")
    shown = roc_data(result)
    alt = (f"ROC curves of {rows.listed(result['methods'])}, each with the frozen rule and, where measured, max logit, oracle "
           f"detector and oracle representation. {_headline(result)}")
    return Card(
        NAME, TITLE, _headline(result),
        (band, "The oracle learned from labelled anomalies of the validation share; the room between its curve and the "
               "frozen rule's is the extraction gap."),
        (Table(header, cells, "Share of anomalies found", left=frozenset({1}), folded=True),),
        (Figure("roc", shown, draw_roc, alt, band),),
    )


QUESTION = Question(name=NAME, title=TITLE, measure=measure, compute=compute, card=card, applicable=applicable,
                    scope="selected")
