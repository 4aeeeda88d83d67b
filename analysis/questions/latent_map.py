"""Where do anomalies lie among the classes? A map of the selected model's latents, and distances in all directions.

The plane is that of the first two principal components of nominal *validation* latents, so that no anomaly shapes it:
what is special about anomalies may lie outside. Distances are Euclidean, in the whole latent space.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis import summary_rows as rows
from analysis.card import Card, Figure, Table
from analysis.evidence import StudyEvidence, TrialEvidence
from analysis.oracle_means import area, mean_words, over, over_methods, selected_of
from analysis.plot_questions_maps import draw_latents
from analysis.questions import Question

POINTS = 400  # in a map, of nominal images and anomalies together
FULL_MAPS = 4  # methods whose points are all drawn: a page must stay small
DIGITS = 3  # of a coordinate, in standard deviations of the first component


def measure(evidence: TrialEvidence) -> dict[str, Any] | None:
    """{"variance": share of the validation latents' variance on each of the two components, "images": of each kind
    before thinning, "points": {"nominal", "anomalies": {class: [[x, y]]}} of at most ``POINTS`` test images, thinned
    alike in every class, in standard deviations of the first component, "means": the same of class means (nominal:
    validation images; anomalies: all test images), "classes": {anomaly class: {"images", "nearest": the nominal class
    whose mean its mean is nearest to, "distance": that distance over the mean distance of nominal test images to the
    nearest mean, "share": of its images, those that are nearest to that same mean}}, "distance", "plane": [AUROC, low,
    high] of the distance to the nearest class mean, in all directions and in the plane}.

    None for latents that are not finite, equal or one-dimensional, or without anomalies or nominal test images."""
    known, test = (np.asarray(part.z, dtype=np.float64) for part in (evidence.validation, evidence.test))
    mask, labels = evidence.is_anomaly, np.asarray(evidence.validation.labels)
    if known.ndim != 2 or known.shape[1] < 2 or mask.all() or not mask.any() or not np.isfinite(known).all() \
            or not np.isfinite(test).all():
        return None
    centre, axes, spread = _plane(known)
    if not spread[0] > 1e-6 * np.abs(known).max():
        return None
    present = np.unique(labels)
    means = np.stack([known[labels == label].mean(axis=0) for label in present])
    names = [evidence.nominal_classes[label] for label in present]
    flat, flat_means = (test - centre) @ axes.T / spread[0], (means - centre) @ axes.T / spread[0]
    away, unit = _distances(test, means), float(_distances(test[~mask], means).min(axis=1).mean())
    classes, places = {}, {}
    for index, name in enumerate(evidence.anomaly_classes):
        of_class = evidence.test_anomaly_class == index
        if of_class.any():
            mean = test[of_class].mean(axis=0)
            to_mean = _distances(mean[None], means)[0]
            nearest = int(to_mean.argmin())
            places[name] = _rounded((mean - centre) @ axes.T / spread[0])
            classes[name] = {"images": int(of_class.sum()), "nearest": names[nearest],
                             "distance": float(to_mean[nearest]) / unit if unit > 0 else None,
                             "share": float((away[of_class].argmin(axis=1) == nearest).mean())}
    total = float(((known - known.mean(axis=0)) ** 2).sum() / len(known))
    return {
        "variance": [float(one**2 / total) for one in spread], "images": [int((~mask).sum()), int(mask.sum())],
        "points": _thinned(evidence, flat),
        "means": {"nominal": {name: _rounded(mean) for name, mean in zip(names, flat_means, strict=True)},
                  "anomalies": places},
        "classes": classes, "distance": area(away.min(axis=1), mask),
        "plane": area(_distances(flat, flat_means).min(axis=1), mask),
    }


def _plane(known: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre (D,), axes (2, D) and standard deviations (2,) of the first two principal components; each axis points to
    where its largest coefficient is positive, so that the sign is no accident of the library."""
    centre = known.mean(axis=0)
    variances, directions = np.linalg.eigh((known - centre).T @ (known - centre) / len(known))
    axes = directions[:, [-1, -2]].T
    largest = axes[[0, 1], np.abs(axes).argmax(axis=1)]
    return centre, axes * np.sign(largest)[:, None], np.sqrt(np.maximum(variances[[-1, -2]], 0.0))


def _distances(z: np.ndarray, means: np.ndarray) -> np.ndarray:
    """(N, K) Euclidean."""
    return np.stack([np.linalg.norm(z - mean, axis=1) for mean in means], axis=1)


def _thinned(evidence: TrialEvidence, flat: np.ndarray) -> dict[str, dict[str, list]]:
    """Points by kind and class: of each as large a share as leaves ``POINTS``, spread evenly over its images."""
    keep = min(1.0, POINTS / len(flat))
    found: dict[str, dict[str, list]] = {"nominal": {}, "anomalies": {}}
    for kind, of_image, names in (("nominal", evidence.test_labels, evidence.nominal_classes),
                                  ("anomalies", evidence.test_anomaly_class, evidence.anomaly_classes)):
        for index, name in enumerate(names):
            places = np.flatnonzero(of_image == index)
            count = int(keep * len(places))
            if count:
                some = places[np.linspace(0, len(places) - 1, count).round().astype(int)]
                found[kind][name] = [_rounded(point) for point in flat[some]]
    return found


def _rounded(point: np.ndarray) -> list[float]:
    return [round(float(value), DIGITS) for value in point]


# -------------------------------------------------------------------------------------------------- computation
def applicable(study: StudyEvidence) -> str:
    return "" if selected_of(study, "latent_map") else "There are no anomalies, or no latents, to draw a map of."


def compute(study: StudyEvidence) -> dict[str, Any]:
    """Keys: ``methods``: {method: {"distance", "plane": AUROC of the distance to the nearest class mean in all
    directions and in the plane shown (``oracle_means.over``), "map": the first split's {"split", "variance", "images",
    "points", "means"} as measured, "classes": {anomaly class: {"images", "nearest": {split: nominal class}, "distance":
    mean over splits, of the mean of the class to the nearest nominal mean, 1 = as far as nominal images lie,
    "share"}}}}; ``distance``, ``plane``: means over methods (``oracle_means.over_methods``)."""
    selected, methods = selected_of(study, "latent_map"), {}
    for method, by_split in selected.items():
        names = dict.fromkeys(name for found in by_split.values() for name in found["classes"])
        first = next(iter(by_split))
        kept = {key: by_split[first][key] for key in ("variance", "images", "points", "means")}
        methods[method] = {
            **{key: over(study, {split: found[key] for split, found in by_split.items()})
               for key in ("distance", "plane")},
            "map": {"split": first, **kept},
            "classes": {name: _of_class({split: found["classes"][name] for split, found in by_split.items()
                                         if name in found["classes"]}) for name in names},
        }
    return {"methods": methods, **{key: over_methods(study, {m: {s: found[key] for s, found in by_split.items()}
                                                             for m, by_split in selected.items()})
                                   for key in ("distance", "plane")}}


def _of_class(by_split: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
    return {"images": sum(found["images"] for found in by_split.values()),
            "nearest": {str(split): found["nearest"] for split, found in by_split.items()},
            **{key: rows.mean(found[key] for found in by_split.values()) for key in ("distance", "share")}}


# --------------------------------------------------------------------------------------------------------- card
def card(result: Mapping[str, Any]) -> Card:
    lines = [(f"{method} · {name}", str(found["images"]), _nearest(found["nearest"]), rows.number(found["distance"], 2),
              rows.number(found["share"], 2)) for method, one in result["methods"].items()
             for name, found in sorted(one["classes"].items(), key=lambda item: item[1]["distance"] or 0.0)]
    table = Table(("method · anomaly class", "images", "nearest nominal class", "distance", "share"), tuple(lines),
                  "Nearest nominal class mean of each anomaly class, nearest first",
                  "Distance from the mean of the anomaly class to that mean, 1 = as far as nominal test images lie "
                  "from their nearest mean on average. Share: of its images, those nearest to that same mean. Means "
                  "over splits.",
                  left=frozenset({2}), folded=len(lines) > 24)
    areas = Table(("method", "all directions", "the plane shown", "variance in the plane"), tuple(
        (method, mean_words(one["distance"]), mean_words(one["plane"]), f"{sum(one['map']['variance']):.0%}")
        for method, one in result["methods"].items()),
        "AUROC of the distance to the nearest class mean",
        "Variance: share of nominal validation latents' variance, of the split that the map shows.")
    alt = "For each method a scatter plot: nominal classes as groups of markers with their names, anomalies as crosses."
    figure = Figure("latent-map", figure_data(result), draw_latents, alt,
                    f"At most {POINTS} test images. Principal components of nominal validation latents; names at class "
                    "means. What lies outside of this plane cannot be seen.")
    return Card("latent_map", QUESTION.title, _headline(result), _sentences(result), (areas, table), (figure,))


def _nearest(by_split: Mapping[str, str]) -> str:
    counted = {name: list(by_split.values()).count(name) for name in dict.fromkeys(by_split.values())}
    return ", ".join(f"{name} ({count} splits)" if count > 1 else name for name, count in counted.items())


def _headline(result: Mapping[str, Any]) -> str:
    found, methods = result["distance"], list(result["methods"])
    whom = f"mean over {len(methods)} methods" if len(methods) > 1 else methods[0]
    number = f"AUROC {rows.number(found['mean'])} {rows.bounds([found['low'], found['high']])}, {whom}"
    if found["low"] > 0.5:
        return f"Anomalies lie farther from the classes' means than nominal images do ({number})."
    if found["high"] < 0.5:
        return f"Anomalies lie nearer to the classes' means than nominal images do ({number})."
    return f"That anomalies lie farther from the classes' means than nominal images do is not beyond noise ({number})."


def _sentences(result: Mapping[str, Any]) -> tuple[str, ...]:
    plane, said = result["plane"], []
    said.append(f"In the plane of the map alone that AUROC is {rows.number(plane['mean'])} "
                f"{rows.bounds([plane['low'], plane['high']])}.")
    for method, one in result["methods"].items():
        name, found = min(one["classes"].items(), key=lambda item: item[1]["distance"] or 0.0)
        said.append(f"{method}: {name!r} lies nearest to a class, {_nearest(found['nearest'])}, at "
                    f"{rows.number(found['distance'], 2)} of the distance at which nominal images lie.")
    return tuple(said)


def figure_data(result: Mapping[str, Any]) -> dict[str, Any]:
    """{"title", "panels": [{"label", "x", "y": axis titles, "nominal", "anomalies": {class: [[x, y]]}, "means":
    {"nominal", "anomalies": {class: [x, y]}}}]}; of many methods every second, third … point."""
    step = -(-len(result["methods"]) // FULL_MAPS)
    panels = []
    for method, one in result["methods"].items():
        points = {kind: {name: found[::step] for name, found in of_kind.items()}
                  for kind, of_kind in one["map"]["points"].items()}
        panels.append({"label": f"{method} · split {one['map']['split']}", **points, "means": one["map"]["means"],
                       "x": f"component 1 ({one['map']['variance'][0]:.0%} of variance)",
                       "y": f"component 2 ({one['map']['variance'][1]:.0%})"})
    whole, plane = (rows.number(result[key]["mean"]) for key in ("distance", "plane"))
    return {"title": f"Distance to the nearest class tells anomalies with AUROC {whole}, in this plane with {plane}",
            "panels": panels}


QUESTION = Question(
    name="latent_map", title="Where do anomalies lie among the classes?", measure=measure, compute=compute, card=card,
    applicable=applicable, scope="selected",
)
