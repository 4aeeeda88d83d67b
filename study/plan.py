"""What a launch would run: trials, jobs, first configurations, cost and disk. Starts nothing and writes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from study.spec import StudySpec

#: Images, height, width, channels and classes of the sources whose size is known before they are read.
KNOWN_SIZES = {
    "digits": (1797, 8, 8, 1, 10), "cifar10": (60000, 32, 32, 3, 10), "cifar100": (60000, 32, 32, 3, 100),
    "fashion_mnist": (70000, 28, 28, 1, 10),
}
SHOWN_CONFIGURATIONS = 3


def plan(spec: StudySpec, folder: Path) -> dict[str, Any]:
    """The plan as plain values; ``cost`` counts trainings in units of one classifier training."""
    from study.warm_start import check_source

    check_source(spec, folder)
    names = [(method, split) for split in spec.data.splits for method in spec.methods]
    folded = {method: spec.search.trials if spec.selection.folds_every_trial(method) else spec.selection.finalists
              for method in spec.methods}
    anomalies = spec.data.anomaly_classes != [] or spec.data.rare == "anomaly"
    per_name = {
        "trials": spec.search.trials, "retrained seeds": (len(spec.data.seeds) - 1) * anomalies,
        "oracle representations": int(anomalies),
    }
    counts = {kind: number * len(names) for kind, number in per_name.items()}
    folds = _folds(spec)
    counts["fold models"] = sum(folded[method] * folds for method, _ in names)
    counts["reveals"] = (spec.search.trials + len(spec.data.seeds) - 1) * len(names) * anomalies
    each = relative_costs(spec)
    cost = sum(each[method] * (sum(per_name.values()) + folded[method] * folds) for method, _ in names)
    return {
        "study": spec.name, "folder": str(folder), "begun": (folder / "spec.toml").exists(), "jobs": counts,
        "cost_in_classifier_trainings": round(cost, 1), **_measured(spec, folder, each, cost),
        "disk_bytes": _disk(spec), "first_configurations": first_configurations(spec, SHOWN_CONFIGURATIONS, folder),
        "enqueued": {f"{method}/{split}": len(spec.first_configurations(method)) - 1 for method, split in names},
        "spaces": {method: _describe(spec, method) for method in spec.methods},
    }


def _folds(spec: StudySpec) -> int:
    """Fold models of a trial: none where the nominal classes are too few to hold some out."""
    from study.folds import deal_folds
    from study.splits import OSR_SPLITS

    classes = spec.data.nominal_classes
    count = classes if isinstance(classes, int) else len(classes) if isinstance(classes, list) else len(OSR_SPLITS[0])
    return len(deal_folds([str(number) for number in range(count)], spec.selection.folds, 0))


def relative_costs(spec: StudySpec) -> dict[str, float]:
    """What one training of each method costs, in trainings of the classifier with the study's epochs."""
    from trainables.methods import get_method

    return {method: get_method(method).info.relative_cost * spec.training.for_method(method)["epochs"] / spec.training.epochs
            for method in spec.methods}


def first_configurations(spec: StudySpec, count: int, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What will be tried first for each (method, split): the default, what is enqueued, then random draws of the sampler's start.

    Exact: a suggestion depends on (study seed, trial number) and history alone, and only those are given on which no history
    has a say. Where ``search.warm_start`` brings one, or the sampler begins to reason sooner, there are fewer.
    """
    import optuna

    from study.ledger import Ledger

    random_at_first = 0 if spec.search.warm_start else spec.search.sampler_options.get("n_startup_trials", count)
    if spec.search.warm_start:
        spec = spec.changed({"search.warm_start": ""})
    ledger = Ledger(spec, folder, storage=optuna.storages.InMemoryStorage())
    proposed = {}
    for method, split in ledger.names():
        certain = max(random_at_first, len(spec.first_configurations(method)))
        trials = [ledger.ask(method, split) for _ in range(min(count, certain, spec.search.trials))]
        proposed[f"{method}/{split}"] = [ledger.record(method, split, trial).params for trial in trials]
    return proposed


def _measured(spec: StudySpec, folder: Path, each: dict[str, float], cost: float) -> dict[str, float | None]:
    """What the trials so far say: mean seconds of a classifier's training, and core- and GPU-hours of the whole study by them
    and by what each method costs beside a classifier; all ``None`` before the first. Oracles and reveals come on top."""
    unknown = {"seconds_per_training": None, "core_hours": None, "gpu_hours": None}
    if not (folder / "ledger.db").exists() and not (spec.resources.ledger and (folder / "spec.toml").exists()):
        return unknown
    from study.gpu_share import known_share
    from study.ledger import Ledger
    from trainables.files import read_json

    trained = [trial for trial in Ledger(spec, folder).trials() if trial.train_seconds]
    if not trained:
        return unknown
    seconds = sum(trial.train_seconds / each[trial.method] for trial in trained) / len(trained)
    devices = [(read_json(folder / "trials" / trial.key / "result.json") or {}).get("device", "") for trial in trained]
    on_gpu = any(device.startswith("cuda") for device in devices)
    share = spec.resources.gpus_per_trial
    if share == "auto":
        share = known_share(folder) or 1.0
    hours = seconds * cost / 3600
    return {"seconds_per_training": seconds, "core_hours": round(hours * spec.resources.cpus_per_trial, 3),
            "gpu_hours": round(hours * share, 3) if on_gpu else 0.0}


def _disk(spec: StudySpec) -> int | None:
    """Bytes that a finished study will hold: the data once for each split, weights and cached features of each model.

    ``None`` for a source whose size only reading tells.
    """
    known = KNOWN_SIZES.get(spec.data.source)
    if known is None:
        return None
    import torch

    from trainables.methods import get_method

    images, height, width, channels, classes = known
    if spec.data.limit:
        images = min(images, spec.data.limit * classes)
    total, folds = len(spec.data.splits) * images * height * width * channels, _folds(spec)
    for method in spec.methods:
        folded = spec.search.trials if spec.selection.folds_every_trial(method) else spec.selection.finalists
        network = spec.training.for_method(method)["network"]
        with torch.random.fork_rng(devices=[]):
            model = get_method(method).build((height, width, channels), classes, network, spec.space(method).default())
        weights = 4 * sum(p.numel() for p in model.parameters())
        with torch.inference_mode():
            z = get_method(method).embed(model.eval(), torch.zeros(1, channels, height, width))["z"].shape[1]
        models = spec.search.trials + folds * folded + 1 + len(spec.data.seeds) - 1
        total += len(spec.data.splits) * models * (weights + 4 * images * (z + classes))
    return total


def _describe(spec: StudySpec, method: str) -> dict[str, str]:
    """One line a parameter: its range or fixed value, and its default."""
    from search_spaces.base import Choice, Fixed

    lines = {}
    for name, parameter in spec.space(method).parameters.items():
        match parameter:
            case Fixed():
                lines[name] = f"{parameter.value} (fixed)"
            case Choice():
                lines[name] = f"one of {list(parameter.options)}, default {parameter.default}"
            case _:
                scale = ", log" if parameter.log else ""
                lines[name] = f"{parameter.low:g} … {parameter.high:g}{scale}, default {parameter.default:g}"
    return lines
