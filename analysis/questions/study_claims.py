"""The original study's questions, a verdict each: extraction, representation, reconstruction, and its other observations.

The study: T. Dietterich, R. Garrepalli & A. Guyer, "A Representation Analysis of Image Anomaly Detection". Every number is
a difference of two AUROCs of selected trials on the same test images (``paired_tests``).

Two methods are trained apart and measured apart, so ``measure`` leaves what DeLong's paired variance needs of the few scores
that are compared across methods: their placements, rounded to 1/65535, 2.7 bytes an image. The difference itself is exact.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from analysis import paired_tests as tests
from analysis import summary_rows as rows
from analysis.comparison import by_split, recovered_interval, revealed_order, seed_spread
from analysis.evidence import StudyEvidence, TrialEvidence
from analysis.gaps import FROZEN_RULE, finite_or_none
from analysis.paired_tests import Gap
from analysis.questions import Question
from analysis.questions.study_claims_card import card
from analysis.uncertainty import Placements, paired_delong, paired_placements, placements

NAME, TITLE = "study_claims", "What the original study asked: extraction, representation, reconstruction"
BASELINE, RECONSTRUCTING = "classifier", "hybrid"
ORACLE, REPRESENTATION, MAX_LOGIT = "oracle_detector", "oracle_representation", "max_logit"
ACROSS = (FROZEN_RULE, ORACLE, MAX_LOGIT)  # scores compared between methods
STEPS = 65535  # of a rounded placement
FIELDS = {  # score: its AUROC, the AUROC's interval, in a summary row
    FROZEN_RULE: ("scorer_auroc", "scorer_auroc_ci"),
    ORACLE: ("oracle_detector_auroc", "oracle_detector_ci"),
    REPRESENTATION: ("oracle_representation_auroc", "oracle_representation_ci"),
}


class Side(NamedTuple):
    """One side of a difference: a score of a method's selected trials."""

    method: str
    score: str


@dataclass(frozen=True)
class Claim:
    """``text``: the question that ``first`` − ``second`` answers, ``label`` the same for a figure. ``said``: what the original
    study found, in words, and ``range``: the differences that agree with it."""

    name: str
    text: str
    label: str
    first: Side
    second: Side
    said: str = ""
    range: tuple[float, float] | None = None


def _rules(name: str, text: str) -> Claim:
    """A method's frozen rule against the baseline's."""
    return Claim(name, text, f"{name} − {BASELINE}", Side(name, FROZEN_RULE), Side(BASELINE, FROZEN_RULE))


OF_NO_USE, NO_USE = (-1.0, 0.005), "of no use (at most half a point)"
POINT, ONE_POINT = (0.0, 0.02), "about one point ahead"
GODIN, LARGEST = "generalized_odin", "classifier's max logit"
OBSERVATIONS = (
    Claim("odin_perturbation", "Does moving the input by ODIN's ε help? (GODIN's −max h, moved − not moved)",
          "GODIN: moved by ε − not moved", Side(GODIN, "godin_h_perturbed"), Side(GODIN, "godin_h"), NO_USE, OF_NO_USE),
    Claim("odin_and_msp", "Do ODIN's ε and temperature help? (ODIN − softmax confidence)",
          "ODIN − softmax confidence", Side(GODIN, "odin"), Side(GODIN, "msp"), NO_USE, OF_NO_USE),
    Claim("odin_and_max_logit", "Does ODIN beat the largest logit of the same network?",
          "ODIN − max logit", Side(GODIN, "odin"), Side(GODIN, MAX_LOGIT), NO_USE, OF_NO_USE),
    Claim("godin", f"Is GODIN (frozen rule) ahead of a {LARGEST}?", f"GODIN's rule − {LARGEST}",
          Side(GODIN, FROZEN_RULE), Side(BASELINE, MAX_LOGIT), ONE_POINT, POINT),
    Claim("godin_own", f"Is GODIN's own score −max h ahead of a {LARGEST}?", f"GODIN's −max h − {LARGEST}",
          Side(GODIN, "godin_h"), Side(BASELINE, MAX_LOGIT), ONE_POINT, POINT),
    _rules("auxiliary", "Do self-supervised auxiliary tasks help?"),
    Claim("auxiliary_oracle", "Do auxiliary tasks put more into the latent space? (oracle detectors)",
          f"auxiliary − {BASELINE}, oracles", Side("auxiliary", ORACLE), Side(BASELINE, ORACLE)),
    Claim("reconstruction_error", "Is the reconstruction error a better scorer than max logit?",
          "reconstruction error − max logit", Side(RECONSTRUCTING, "reconstruction_error"), Side(RECONSTRUCTING, MAX_LOGIT)),
    _rules("deep_ensemble", "Does a deep ensemble help?"),
    _rules("svgd_ensemble", "Does a repulsive (SVGD) ensemble help?"),
    _rules("csi", "Does contrastive learning with labels (CSI) help?"),
    _rules("csi_unlabelled", "Does contrastive learning without labels (CSI) help?"),
    _rules("jem", "Does a joint energy model help?"),
)
QUESTIONS = {  # those asked of every method: text, first score, second score
    "extraction": ("Is there more in the latent space than the frozen rule reads?", ORACLE, FROZEN_RULE),
    "extraction_max_logit": ("Is there more in it than max logit reads?", ORACLE, MAX_LOGIT),
    "representation": ("Could this network hold more than its latent space does?", REPRESENTATION, ORACLE),
}
RECONSTRUCTION = (
    Claim("reconstruction", "Does reconstruction add information to the latent space? (hybrid − classifier, oracle detectors)",
          "oracle detectors", Side(RECONSTRUCTING, ORACLE), Side(BASELINE, ORACLE)),
    Claim("reconstruction_scorer", "Does a scorer find what reconstruction adds? (hybrid − classifier, frozen rules)",
          "frozen rules", Side(RECONSTRUCTING, FROZEN_RULE), Side(BASELINE, FROZEN_RULE)),
)
MAIN = ("extraction", "representation", "reconstruction")  # the study's three; what else is asked with them is adjusted apart


# ---------------------------------------------------------------------------------------------------- measure
def measure(evidence: TrialEvidence) -> dict[str, Any] | None:
    """{"gaps": [[first, second, difference, low, high], …] of scores of this trial, "placements": {score: {"area",
    "values"}} of scores compared across methods, "anomalies", "nominal", "images": which images these are}."""
    mask = evidence.is_anomaly
    wanted = [(ORACLE, FROZEN_RULE), (ORACLE, MAX_LOGIT), (REPRESENTATION, ORACLE)]
    wanted += [(claim.first.score, claim.second.score) for claim in OBSERVATIONS
               if claim.first.method == claim.second.method == evidence.method]
    sides = [side for claim in OBSERVATIONS for side in (claim.first, claim.second) if claim.first.method != claim.second.method]
    across = list(dict.fromkeys([*ACROSS, *(side.score for side in sides if side.method == evidence.method)]))
    scores = {name: _scores(evidence, name) for name in dict.fromkeys([*across, *(name for pair in wanted for name in pair)])}
    known = {name: values for name, values in scores.items() if values is not None}
    gaps = [[a, b, *paired_delong(known[a], known[b], mask)[:3]] for a, b in wanted if a in known and b in known]
    packed = {name: _packed(placements(known[name], mask)) for name in across if name in known}
    return finite_or_none({"gaps": gaps, "placements": packed, "anomalies": int(mask.sum()), "nominal": int((~mask).sum()),
                           "images": hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()[:16]})


def _scores(evidence: TrialEvidence, name: str) -> np.ndarray | None:
    if name not in evidence.stored and not evidence.usable(name):
        return None
    try:
        values = np.asarray(evidence.score(name), dtype=np.float64)
    except ValueError:  # features that are not numbers
        return None
    return None if np.isnan(values).any() else values


def _packed(found: Placements) -> dict[str, Any]:
    shares = np.concatenate(found[1:])
    return {"area": found.area, "values": base64.b64encode(np.rint(shares * STEPS).astype("<u2").tobytes()).decode()}


def unpacked(packed: Mapping[str, Any], anomalies: int) -> Placements:
    """The placements of a measured score, each within 1/131070 of what it was."""
    shares = np.frombuffer(base64.b64decode(packed["values"]), dtype="<u2") / STEPS
    return Placements(packed["area"], shares[:anomalies], shares[anomalies:])


# ---------------------------------------------------------------------------------------------------- compute
class Study:
    """Differences between scores of the selected trials, each with the best interval that is known."""

    def __init__(self, study: StudyEvidence):
        self.summary = study.summary
        self.methods = {method: by_split(study.summary, method) for method in rows.method_names(study.summary)}
        self.methods = {method: found for method, found in self.methods.items() if found}
        measured = study.of(NAME)
        self.measured = {(method, split): measured.get((method, split, row.get("trial")))
                         for method, found in self.methods.items() for split, row in found.items()}

    def gaps(self, first: Side, second: Side) -> dict[Any, Gap | None]:
        """By split, where both methods were revealed; None where a score is missing."""
        ours, theirs = self.methods.get(first.method, {}), self.methods.get(second.method, {})
        return {split: self._gap(first, second, split) for split in ours if split in theirs}

    def _gap(self, first: Side, second: Side, split: Any) -> Gap | None:
        a, b = self.methods[first.method][split], self.methods[second.method][split]
        x, y = auroc_of(a, first.score), auroc_of(b, second.score)
        if x is None or y is None:
            return None
        within = first.method == second.method
        limits = self._within(first, second, split, a) if within else self._between(first, second, split, a, b)
        return Gap(x - y, *(limits or ()))

    def _within(self, first: Side, second: Side, split: Any, row: rows.Row) -> tuple[float, float] | None:
        for a, b, _, low, high in (self.measured.get((first.method, split)) or {}).get("gaps", ()):
            if (a, b) == (first.score, second.score):
                return rows.interval([low, high])
        stored = {(ORACLE, FROZEN_RULE): "extraction_gap_ci", (REPRESENTATION, ORACLE): "representation_gap_ci"}
        return rows.interval(row.get(stored.get((first.score, second.score), "")))

    def _between(self, first: Side, second: Side, split: Any, a: rows.Row, b: rows.Row) -> tuple[float, float] | None:
        """Paired, from placements or the comparisons of the summary; else from the two AUROCs' own intervals."""
        ours, theirs = self.measured.get((first.method, split)) or {}, self.measured.get((second.method, split)) or {}
        one = (ours.get("placements") or {}).get(first.score)
        other = (theirs.get("placements") or {}).get(second.score)
        if one and other and ours["images"] == theirs["images"]:
            found = paired_placements(unpacked(one, ours["anomalies"]), unpacked(other, theirs["anomalies"]))
            return found.low, found.high
        if (first.score, second.score) == (FROZEN_RULE, FROZEN_RULE):
            recorded = self._recorded(first.method, second.method, split)
            if recorded:
                return recorded
        if first.score in FIELDS and second.score in FIELDS:
            pair = [{"scorer_auroc": row.get(FIELDS[side.score][0]), "scorer_auroc_ci": row.get(FIELDS[side.score][1])}
                    for row, side in ((a, first), (b, second))]
            return recovered_interval(*pair)
        return None

    def _recorded(self, first: str, second: str, split: Any) -> tuple[float, float] | None:
        if not hasattr(self, "_comparisons"):
            self._comparisons = {(item.get("first"), item.get("second"), item.get("split", 0)): rows.interval(item.get("ci"))
                                 for item in self.summary.get("comparisons") or []}
        if (first, second, split) in self._comparisons:
            return self._comparisons[first, second, split]
        turned = self._comparisons.get((second, first, split))
        return (-turned[1], -turned[0]) if turned else None

    def test(self, first: Side, second: Side) -> dict[str, Any]:
        gaps = self.gaps(first, second)
        spread = 0.0
        if first.method != second.method and first.score == second.score == FROZEN_RULE and gaps:
            spread = seed_spread(self.summary, first.method, second.method, list(gaps))
        return tests.over_splits(self.summary, gaps, seed_spread=spread)


def auroc_of(row: rows.Row, score: str) -> float | None:
    """A score's AUROC in a summary row: the frozen rule's, an oracle's, or a scorer's."""
    return rows.finite(row.get(FIELDS[score][0]) if score in FIELDS else (row.get("scorers") or {}).get(score))


def compute(study: StudyEvidence) -> dict[str, Any]:
    """Every test is {"difference", "low", "high", "p_value", "basis", "splits", "draws", "images", "by_split",
    "seed_noise"} (``paired_tests.over_splits``) with "p_adjusted", "verdict" and "on_these_images" (``paired_tests.judged``), and more:

    "questions": {"name", "text", "label", "methods"} – the three of MAIN, one family, then what is asked beside them, another;
    of the mean over methods (the number of them; "of_methods" is how many the study has) or, for reconstruction, of
    hybrid − classifier;
    "methods": {question: [{"method", …}]} – a family a question;
    "observations": {"name", "text", "label", "said", "agrees"} – one family; "agrees" with what the original study said: "yes"
    (the whole 95 % interval does), "no" (none of it does), "open", or null where it said nothing;
    "pairs": {"first", "second"} – one family: every two methods, frozen rules, better mean first;
    "errors_needed": {family: standard errors from 0 that its clearest test needs, or null};
    "splits", "class_sets": how many splits, and sets of nominal classes, the study has; "repeated_seeds": whether any
    frozen configuration was trained again."""
    found = Study(study)
    asked, each = _questions(found)
    observations = [{**_named(claim), "said": claim.said or None, **found.test(claim.first, claim.second)}
                    for claim in OBSERVATIONS]
    observations = tests.judged(line for line in observations if line["splits"])
    for line in observations:
        line["agrees"] = _agrees(line, next(claim.range for claim in OBSERVATIONS if claim.name == line["name"]))
    pairs = [{"first": a, "second": b, **found.test(Side(a, FROZEN_RULE), Side(b, FROZEN_RULE))}
             for a, b in combinations(revealed_order(study.summary), 2)]
    result = {"questions": asked, "methods": each, "observations": observations,
              "pairs": tests.judged(line for line in pairs if line["splits"])}
    families = {"questions": [line for line in asked if line["name"] in MAIN], **{f"methods/{name}": lines for name, lines in each.items()},
                "observations": observations, "pairs": result["pairs"]}
    splits = {split: 0.0 for rows_of in found.methods.values() for split in rows_of}
    repeated = any(rows.retrained_rows(study.summary, *key) for key in rows.groups(study.summary))
    return finite_or_none({
        **result, "errors_needed": {name: _errors_needed(lines) for name, lines in families.items() if lines},
        "splits": len(splits), "class_sets": len(rows.over_distinct_classes(study.summary, splits)),
        "repeated_seeds": repeated,
    })


def _named(claim: Claim) -> dict[str, Any]:
    return {"name": claim.name, "text": claim.text, "label": claim.label}


def _questions(found: Study) -> tuple[list[dict[str, Any]], dict[str, list[dict[str, Any]]]]:
    asked: list[dict[str, Any]] = []
    each: dict[str, list[dict[str, Any]]] = {}
    for name, (text, first, second) in QUESTIONS.items():
        tables = {method: found.gaps(Side(method, first), Side(method, second)) for method in found.methods}
        tables = {method: {s: gap for s, gap in table.items() if gap} for method, table in tables.items()}
        tables = {method: table for method, table in tables.items() if table}
        if not tables:
            continue
        each[name] = tests.judged({"method": method, **tests.over_splits(found.summary, table)}
                                  for method, table in tables.items())
        most = max(map(len, tables.values()))  # a method that failed on a split would take it from all others
        whole = [table for table in tables.values() if len(table) == most]
        asked.append({"name": name, "text": text, "label": "mean of methods", "methods": len(whole), "of_methods": len(found.methods),
                      **tests.over_splits(found.summary, tests.averaged(whole))})
    for claim in RECONSTRUCTION:
        test = found.test(claim.first, claim.second)
        if test["splits"]:
            asked.append({**_named(claim), "methods": 2, "of_methods": len(found.methods), **test})
    main = tests.judged(line for line in asked if line["name"] in MAIN)
    return [*main, *tests.judged(line for line in asked if line["name"] not in MAIN)], each


def _agrees(test: Mapping[str, Any], wanted: tuple[float, float] | None) -> str | None:
    if wanted is None:
        return None
    if test["low"] is None:
        return "open"
    if wanted[0] <= test["low"] and test["high"] <= wanted[1]:
        return "yes"
    return "no" if test["high"] < wanted[0] or test["low"] > wanted[1] else "open"


def _errors_needed(lines: Sequence[Mapping[str, Any]]) -> float | None:
    tested = [line["draws"] for line in lines if line["basis"] == "splits"]
    return tests.errors_needed(max(tested), sum(line["p_value"] is not None for line in lines)) if tested else None


def applicable(study: StudyEvidence) -> str:
    if any(rows.finite(row.get("scorer_auroc")) is not None for row in rows.selected_rows(study.summary)):
        return ""
    return "No selected trial was revealed, so there are no differences to judge."


QUESTION = Question(name=NAME, title=TITLE, measure=measure, compute=compute, card=card, applicable=applicable,
                    scope="selected")
