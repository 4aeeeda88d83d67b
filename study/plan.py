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
    from trainables.methods import get_method

    names = [(method, split) for split in spec.data.splits for method in spec.methods]
    folded = {method: spec.search.trials if spec.selection.folds_every_trial(method) else spec.selection.finalists
              for method in spec.methods}
    anomalies = spec.data.anomaly_classes != []
    per_name = {
        "trials": spec.search.trials, "retrained seeds": (len(spec.data.seeds) - 1) * anomalies,
        "oracle representations": int(anomalies),
    }
    counts = {kind: number * len(names) for kind, number in per_name.items()}
    counts["fold models"] = sum(folded[method] * spec.selection.folds for method, _ in names)
    counts["reveals"] = (spec.search.trials + len(spec.data.seeds) - 1) * len(names) * anomalies
    epochs = {method: spec.training.for_method(method)["epochs"] / spec.training.epochs for method in spec.methods}
    each = {method: get_method(method).info.relative_cost * epochs[method] for method in spec.methods}
    cost = sum(each[method] * (sum(per_name.values()) + folded[method] * spec.selection.folds) for method, _ in names)
    return {
        "study": spec.name, "folder": str(folder), "begun": (folder / "spec.toml").exists(), "jobs": counts,
        "cost_in_classifier_trainings": round(cost, 1), "seconds_per_training": _measured_seconds(spec, folder, each),
        "disk_bytes": _disk(spec), "first_configurations": first_configurations(spec, SHOWN_CONFIGURATIONS),
        "spaces": {method: _describe(spec, method) for method in spec.methods},
    }


def first_configurations(spec: StudySpec, count: int) -> dict[str, list[dict[str, Any]]]:
    """What the sampler will propose first for each (method, split): the default, then random draws of its start.

    Exact, since a suggestion depends on (study seed, trial number) and history alone, and no history matters yet.
    """
    import optuna

    from study.ledger import Ledger

    ledger = Ledger(spec, Path("."), storage=optuna.storages.InMemoryStorage())
    proposed = {}
    for method, split in ledger.names():
        trials = [ledger.ask(method, split) for _ in range(min(count, spec.search.trials))]
        proposed[f"{method}/{split}"] = [ledger.record(method, split, trial).params for trial in trials]
    return proposed


def _measured_seconds(spec: StudySpec, folder: Path, cost: dict[str, float]) -> float | None:
    """Mean seconds of a classifier's training, by the trials that this study has behind it and what each method costs
    beside a classifier; ``None`` before the first."""
    if not (folder / "ledger.db").exists():
        return None
    from study.ledger import Ledger

    seconds = [t.train_seconds / cost[t.method] for t in Ledger(spec, folder).trials() if t.train_seconds]
    return sum(seconds) / len(seconds) if seconds else None


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
    total = len(spec.data.splits) * images * height * width * channels
    for method in spec.methods:
        folded = spec.search.trials if spec.selection.folds_every_trial(method) else spec.selection.finalists
        network = spec.training.for_method(method)["network"]
        with torch.random.fork_rng(devices=[]):
            model = get_method(method).build((height, width, channels), classes, network, spec.space(method).default())
        weights = 4 * sum(p.numel() for p in model.parameters())
        with torch.inference_mode():
            z = get_method(method).embed(model.eval(), torch.zeros(1, channels, height, width))["z"].shape[1]
        models = spec.search.trials + spec.selection.folds * folded + 1
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
