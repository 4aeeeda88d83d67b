"""The course of a training, on demand and after the reveal: each selected configuration trained once more, its weights
at some epochs kept, and scorer and oracles measured at each.

Two jobs for a method and split: the first trains and is given the view alone; the second reads the vault. What was measured
lies in ``reveal/<method>/<split>/course.json``; the weights go once it does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from study.evidence import reveal_record
from study.folds import features_of
from study.jobs import Job, run_jobs, settings_of
from study.selection import frozen_rule, frozen_selection
from study.spec import StudySpec
from trainables.course import train_course, weights_name
from trainables.data import View, read_manifest
from trainables.files import derive_seed, read_json

if TYPE_CHECKING:
    from study.runtime import Cluster

QUESTION = "training_course"
SCORERS = ("max_logit",)  # beside the frozen rule: what needs no choice at all


def run_course(
    spec: StudySpec, folder: Path, cluster: Cluster, *, on_job: Callable[[Job, dict], None] | None = None
) -> list[dict[str, Any]]:
    """Trains and measures what ``[analysis] course`` asks and is not there yet; returns the results of all jobs."""
    open_jobs = [(train, measure) for train, measure in _pairs(spec, folder, cluster) if measure.result(folder) is None]
    trained = run_jobs([train for train, _ in open_jobs], folder, cluster, on_done=on_job)
    whole = [pair for pair, result in zip(open_jobs, trained, strict=True) if "reason" not in result]
    measured = run_jobs([measure for _, measure in whole], folder, cluster, on_done=on_job)
    for (train, _), result in zip(whole, measured, strict=True):
        if "reason" not in result:
            for path in train.folder(folder).glob("weights-*.safetensors"):
                path.unlink()
    return trained + measured


def measured_course(spec: StudySpec, folder: Path) -> dict[tuple[str, int, int], dict[str, Any]]:
    """What was measured under this selection and at so many points, by (method, split, trial)."""
    found = {}
    for _, measure in _pairs(spec, folder, None):
        result = measure.result(folder)
        if result is not None and "reason" not in result:
            found[(measure.inputs["method"], measure.inputs["split"], measure.inputs["trial"])] = result
    return found


def _pairs(spec: StudySpec, folder: Path, cluster: Cluster | None) -> list[tuple[Job, Job]]:
    """(training, measuring) of every selected trial that was revealed; without a cluster only to be looked up."""
    pairs = []
    for entry in frozen_selection(folder)["selections"] if spec.analysis.course else []:
        record = reveal_record(folder, entry["method"], entry["split"], str(entry["trial"]))
        if record is not None:
            pairs.append(_pair(spec, folder, cluster, entry, record))
    return pairs


def _pair(
    spec: StudySpec, folder: Path, cluster: Cluster | None, entry: dict[str, Any], record: dict[str, Any]
) -> tuple[Job, Job]:
    method, split, trial = entry["method"], entry["split"], entry["trial"]
    view, vault = (folder.resolve() / side / str(split) for side in ("view", "vault"))
    params, seed = record["inputs"]["params"], derive_seed("trial", spec.data.seeds[0], method, split, trial)
    settings = settings_of(spec, folder, cluster, method) if cluster else None
    plain = {"method": method, "params": params, "seed": seed, "points": spec.analysis.course}
    train = Job(
        kind="course", run=train_on_view, label=f"course of {method}/{split}/{trial}",
        inputs={**plain, "training": spec.training.for_method(method), "view": read_manifest(view)["digest"]},
        arguments={**plain, "view_folder": view, "settings": settings},
    )
    rule = frozen_rule(entry)
    measure = Job(
        kind="course", run=measure_course, label=f"measured course of {method}/{split}/{trial}",
        inputs={**train.inputs, "split": split, "trial": trial, "rule": rule, "vault": read_manifest(vault)["digest"],
                "weights": entry["weights_sha256"]},
        arguments={"method": method, "params": params, "settings": settings, "rule": rule, "view_folder": view,
                   "vault_folder": vault, "course_folder": train.folder(folder).resolve(), "weights": entry["weights_sha256"]},
        result_path=folder / "reveal" / method / str(split) / "course.json",
    )
    return train, measure


def train_on_view(*, folder: Path, view_folder: Path, **arguments: Any) -> dict[str, Any]:
    """Job: ``trainables.course.train_course`` on a view, all that a trial is given."""
    return train_course(folder=folder, view=View.load(view_folder), **arguments)


def measure_course(
    *, folder: Path, method: str, params: dict[str, Any], settings, rule: dict[str, Any], view_folder: Path, vault_folder: Path,
    course_folder: Path, weights: str,
) -> dict[str, Any]:
    """Job: {"epochs": what the training told, "points": [{"epoch", "frozen_rule", "max_logit", "linear", "forest": AUROC,
    "accuracy": closed-set, on test images}], "best_minus_last": {score: [AUROC at its best point − at the last, low, high]
    (paired DeLong, not allowing for the choice)}, "reproduced": whether the last weights are the trial's}."""
    from analysis.gaps import finite_or_none
    from analysis.uncertainty import paired_delong
    from study.vault import Vault

    trained = read_json(course_folder / "result.json")["result"]
    view, vault = View.load(view_folder), Vault.load(vault_folder)
    mask = np.repeat([False, True], [len(vault.test_nominal), len(vault.test_anomaly)])
    points, scores = [], []
    for epoch in trained["kept"]:
        parts = _embedded(course_folder / weights_name(epoch), trained["files"][weights_name(epoch)], method, params, settings,
                          view, vault)
        found = _scores(parts, rule, method, settings)
        right = parts["test"].logits[~mask].argmax(1) == vault.test_nominal.labels
        points.append({"epoch": epoch, **{name: _auroc(score, mask) for name, score in found.items()},
                       "accuracy": float(np.mean(right))})
        scores.append(found)
    best = {name: max(range(len(points)), key=lambda i: points[i][name] or 0.0) for name in scores[-1]}
    usable = [name for name in best if all(point[name] is not None for point in points)]
    gain = {name: list(paired_delong(scores[best[name]][name], scores[-1][name], mask)[:3]) for name in usable}
    return finite_or_none({
        "epochs": trained["epochs"], "points": points, "best_minus_last": gain,
        "reproduced": trained["weights_sha256"] == weights,
    })


def _auroc(score: np.ndarray, mask: np.ndarray) -> float | None:
    from analysis.metrics import auroc

    return auroc(score, mask) if np.isfinite(score).all() else None


def _embedded(path: Path, digest: str, method: str, params: dict, settings, view: View, vault) -> dict[str, Any]:
    """Features of training, validation, outlier and test images by the weights in a file."""
    import torch

    from trainables.checkpoint import read_tensors
    from trainables.fit import embed_images, pick_device
    from trainables.methods import get_method

    built, device = get_method(method), pick_device(settings)
    with torch.random.fork_rng(devices=[]):
        model = built.build(view.image_shape, len(view.classes), settings.network, params)
    model.load_state_dict(read_tensors(path, digest), strict=False)
    model.to(memory_format=torch.channels_last).eval()
    head = tuple(part.detach().cpu().float().numpy() for part in built.head(model)) if built.linear_head else None
    images = {"train": (view.train_images, view.train_labels), "validation": (view.validation_images, view.validation_labels),
              "outliers": (vault.validation.images, None),
              "test": (np.concatenate([vault.test_nominal.images, vault.test_anomaly.images]), None)}
    found = {}
    for name, (part, labels) in images.items():
        found[name] = features_of(embed_images(model, method, part, view, device=device), built.own_scorers, labels,
                                  head if name == "train" else None)
    return found


def _scores(parts: dict[str, Any], rule: dict[str, Any], method: str, settings) -> dict[str, np.ndarray]:
    """Test scores of the frozen rule, refitted to these weights, of max logit and of two small oracles."""
    from analysis.fusion import FrozenRule
    from analysis.oracle_means import small_oracle_scores
    from analysis.scorers import fit_scorers
    from trainables.methods import get_method

    own = get_method(method).own_scorers
    frozen = FrozenRule(rule["scorer"], rule["members"], rule["parameters"], own=own).fit(parts["train"], parts["validation"])
    found = {"frozen_rule": frozen.score(parts["test"])}
    fitted = fit_scorers(SCORERS, parts["train"], parameters=rule["settled"], own=own)
    found |= {name: scorer.score(parts["test"]) for name, scorer in fitted.items()}
    for name in ("linear", "forest"):
        found[name] = small_oracle_scores(name, parts["validation"].z, parts["outliers"].z, parts["test"].z, seed=0,
                                          threads=settings.threads)
    return found
