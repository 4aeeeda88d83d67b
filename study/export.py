"""Export: the frozen best of a method as a folder that can be launched again, and read by a detector."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from study.detector import VALIDATION_KEY
from study.errors import UserError, nearest
from study.folds import cached_features
from study.groups import as_seen_from_anywhere
from study.reveal_log import contaminated
from study.spec import StudySpec
from trainables.files import (
    canonical_json,
    digest_of,
    read_json,
    write_arrays,
    write_atomic,
    write_json,
)

FORMAT = 2


def export(
    spec: StudySpec, folder: Path, selection: dict[str, Any], *, method: str | None = None, split: int | None = None,
    onnx: bool = False,
) -> Path:
    """Writes ``export/<method>/`` and returns it.

    Without ``method``, the one that freeze ranked first: never one chosen by test labels. Without ``split``, the
    first of the study's. Holds ``config.toml``, ``model.safetensors``, ``detector.json``, ``detector.safetensors`` (what the
    scorers fitted, and the rule's scores of the nominal validation images) and ``MODEL_CARD.md``; ``study.OpenSetDetector``
    reads it. ``onnx``: the same as one graph, ``model.onnx``, too (``study.onnx_export``).
    """
    from trainables.trial import trial_folder

    if onnx:
        from study.onnx_export import require_onnx

        require_onnx()  # before anything is done
    entry = _entry(spec, selection, method, split)
    method, split = entry["method"], entry["split"]
    trial = trial_folder(folder, method, split, entry["trial"])
    target = folder / "export" / (method if split == spec.data.splits[0] else f"{method}-split{split}")
    config = read_json(trial / "config.json")
    made = target.with_name(f".{target.name}.tmp")  # an earlier export stands until this one is whole
    if any(path.is_symlink() for path in (target.parent, target, made)):
        raise UserError(f"{target} is a link to another place; an export is written inside its study alone")
    detector, arrays = _detector(spec, folder, entry, trial, config, selection["digest"])
    weights = (trial / "model.safetensors").read_bytes()
    if hashlib.sha256(weights).hexdigest() != entry["weights_sha256"]:
        raise UserError(f"{trial}/model.safetensors is not the one that was frozen (its SHA-256 differs); `oraclegap audit {folder}` "
                        "says what else was changed")
    shutil.rmtree(made, ignore_errors=True)
    write_atomic(made / "config.toml", one_trial_spec(spec, entry, config["params"]).to_toml())
    write_atomic(made / "model.safetensors", weights)
    detector["arrays_sha256"] = write_arrays(made / "detector.safetensors", arrays)
    write_json(made / "detector.json", detector)
    if onnx:
        detector["onnx"] = _add_onnx(spec, folder, split, made)
        write_json(made / "detector.json", detector)
    write_atomic(made / "MODEL_CARD.md", model_card(spec, folder, selection, entry, detector))
    shutil.rmtree(target, ignore_errors=True)
    made.rename(target)
    return target


def _add_onnx(spec: StudySpec, folder: Path, split: int, made: Path) -> dict[str, Any]:
    from study.onnx_export import write_onnx
    from trainables.data import View

    images = np.asarray(View.load(folder / "view" / str(split)).validation_images)
    return json.loads(canonical_json(write_onnx(made, images, allowed_plugins=spec.plugins)))


def one_trial_spec(spec: StudySpec, entry: dict[str, Any], params: dict[str, Any]) -> StudySpec:
    """The study of the exported configuration alone: every parameter fixed, one trial."""
    from study.selection import scorers_in_use
    from trainables.methods import get_method

    table = spec.to_table()
    method = entry["method"]
    table["name"] = f"{spec.name[:36]}-{method[:20]}-{entry['split']}"
    table.pop("resources")  # those of whoever launches it
    table["methods"] = [method]
    table["data"]["splits"] = [entry["split"]]
    if table["data"]["path"]:
        table["data"]["path"] = str(Path(table["data"]["path"]).expanduser().resolve())
    table["data"]["group"] = as_seen_from_anywhere(table["data"]["group"])
    table["training"] = {**spec.training.for_method(method)}
    if isinstance(spec.selection.fold_trials, list):  # there are no others of which all were to be folded
        table["selection"]["fold_trials"] = "finalists"
    if spec.selection.scorers:  # those of other methods would be unknown there
        built = get_method(method)
        table["selection"]["scorers"] = scorers_in_use(spec, built.own_scorers, linear_head=built.linear_head)
    # nothing is searched any more: no other configuration, no history and no sampler has a say
    table["search"].update(trials=1, pruner="none", sampler="random", sampler_options={}, enqueue=[], warm_start="",
                           space={method: params})
    return StudySpec.parse(table, where="export")


def _entry(spec: StudySpec, selection: dict[str, Any], method: str | None, split: int | None) -> dict[str, Any]:
    if not selection["method_ranking"]:
        raise UserError(f"{spec.name}: no trial completed, so there is nothing to export")
    method = method or selection["method_ranking"][0]["method"]
    if method not in spec.methods:
        raise UserError(f"--method {method}: not in this study{nearest(method, spec.methods)}; it has "
                        f"{', '.join(spec.methods)}")
    splits = [e["split"] for e in selection["selections"] if e["method"] == method]
    split = split if split is not None else min(splits, key=spec.data.splits.index, default=None)
    for entry in selection["selections"]:
        if (entry["method"], entry["split"]) == (method, split):
            return entry
    raise UserError(f"{method}, split {split}: nothing was selected there; splits with a selection: {splits}")


def _detector(
    spec: StudySpec, folder: Path, entry: dict, trial: Path, config: dict, digest: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """``detector.json`` and the scorers' fitted arrays, from nominal features alone."""
    from analysis.fusion import FrozenRule
    from trainables.data import View
    from trainables.fit import read_features
    from trainables.methods import get_method

    method = entry["method"]
    own = get_method(method).own_scorers
    view = View.load(folder / "view" / str(entry["split"]))
    cached = read_features(trial)
    rule = FrozenRule(entry["scorer"], entry["members"], entry["parameters"], own=own).fit(
        cached_features(cached, "train", own, view.train_labels),
        cached_features(cached, "validation", own, view.validation_labels),
    )
    record = {
        "format": FORMAT, "study": spec.name, "method": method,
        "trial": f"{method}/{entry['split']}/{entry['trial']}", "classes": list(view.classes),
        "image_shape": list(view.image_shape), "mean": list(view.mean), "std": list(view.std),
        "image_size": spec.data.image_size, "network": config["training"]["network"], "params": config["params"],
        "plugins": list(spec.plugins), "scorer": rule.description(),
        "threshold": rule.threshold(), "nominal_acceptance": 0.95,
        "threshold_chosen_on": "nominal validation images of the study; score > threshold is an anomaly",
        "weights_sha256": entry["weights_sha256"], "selection": digest, "contaminated": contaminated(folder, digest),
    }
    return json.loads(canonical_json(record)), rule.state() | {VALIDATION_KEY: np.asarray(rule.validation_score_)}


def _warning(folder: Path, digest: str) -> str:
    """What a reader must know before believing the numbers."""
    if contaminated(folder, digest):
        return "**Contaminated: this was selected after anomalies of the same study had been revealed.**\n\n"
    return ""


def model_card(
    spec: StudySpec, folder: Path, selection: dict, entry: dict[str, Any], detector: dict[str, Any]
) -> str:
    """A short card in the usual sections; measured numbers only, and after a reveal only."""
    from analysis.summary_rows import rule_title

    row = _revealed_row(folder, entry, selection["digest"])
    signals = ", ".join(f"{name} {value:.4f}" for name, value in entry["signals"].items())
    params = "\n".join(f"| {name} | {value} |" for name, value in detector["params"].items())
    measured = "Not revealed yet: nothing was measured on anomalies."
    if row:
        low, high = row["scorer_auroc_ci"] or (float("nan"), float("nan"))
        measured = (
            "On the study's test images (anomaly = positive), for information:\n\n"
            f"| closed-set accuracy | AUROC of this detector | oracle detector | AUPR | FPR at 95 % TPR |\n"
            f"|--:|--:|--:|--:|--:|\n| {row['closed_set_accuracy']:.3f} | {row['scorer_auroc']:.3f} "
            f"[{low:.3f}, {high:.3f}] | {row['oracle_detector_auroc']:.3f} | {row['aupr_anomaly']:.3f} | "
            f"{row['fpr_at_95_tpr']:.3f} |"
        )
    return f"""# {spec.name}: {entry['method']}, trial {entry['trial']}, split {entry['split']}

An open-set detector: it names one of {len(detector['classes'])} classes, or says that an image belongs to none of them.
Made by oraclegap; selection digest `{selection['digest'][:16]}`, frozen {selection['frozen_at']}.

## What it is

- Method `{entry['method']}`, network `{detector['network']}`, images {' × '.join(map(str, detector['image_shape']))}.
- Classes: {', '.join(detector['classes'])}.
- Anomaly score: rule `{entry['scorer']}` ({rule_title(entry)}) over {', '.join(f'`{m}`' for m in entry['members'])},
  each standardised on nominal validation images. Higher = more anomalous.
- Threshold {detector['threshold']:.6g}: 95 % of the nominal validation images lie at or below it.
{_onnx_line(detector)}
## How it was chosen

Without any anomaly: trial {entry['trial']} of {spec.search.trials} by `{spec.selection.signal}`; {signals}.

## What was measured

{_warning(folder, selection["digest"])}{measured}

## Limits

It was measured on anomalies like those of its study. An image that is unlike both may get any score. The threshold
holds for images from where the validation images came from.

## Configuration

| parameter | value |
|---|---|
{params}

`oraclegap launch config.toml` trains this configuration again. Weights SHA-256 `{entry['weights_sha256']}`; detector
digest `{digest_of(detector)[:16]}`.
"""


def _onnx_line(detector: dict[str, Any]) -> str:
    made = detector.get("onnx")
    if not made:
        return ""
    without = f" No anomaly_score in it: {made['without_score']}." if made["without_score"] else ""
    return (f"- `{made['file']}`: images (N × H × W × C, uint8, not normalised) to {', '.join(f'`{o}`' for o in made['outputs'])};"
            f" ONNX Runtime and PyTorch agree to {made['tolerance']:g}.{without}\n")


def _revealed_row(folder: Path, entry: dict, digest: str) -> dict[str, Any] | None:
    """The selected trial's row of a summary made under this selection."""
    summary = read_json(folder / "report" / "summary.json")
    if not summary or summary["digest"] != digest:
        return None
    for row in summary["rows"]:
        same = (row["method"], row["split"], row["trial"]) == (entry["method"], entry["split"], entry["trial"])
        if same and row["state"] == "completed" and row["scorer_auroc"] is not None:
            return row
    return None
