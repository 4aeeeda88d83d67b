"""Evidence of a revealed study for the questions of ``analysis``: arrays that trials and reveals left, nothing computed.

Reads the vault (labels, and images where layers are asked for), so it may only run after the reveal: it refuses a trial
that was not revealed under the selection that stands.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.evidence import StudyEvidence, TrialEvidence
from study.errors import UserError
from study.folds import cached_features, features_of
from study.selection import frozen_rule, frozen_selection
from study.vault import Vault
from trainables.data import View
from trainables.files import read_arrays, read_json

if TYPE_CHECKING:
    from study.spec import StudySpec


def reveal_record(folder: Path, method: str, split: int, name: str) -> dict[str, Any] | None:
    """What ``reveal`` stored of a trial ("3") or a retrained seed ("3-1"), with its ``inputs`` and ``result``; None where
    there is nothing that was measured under the selection that stands."""
    stored = read_json(folder / "reveal" / method / str(split) / f"{name}.json") or {}
    entry = selection_entry(folder, method, split)
    stands = entry is not None and stored.get("inputs", {}).get("rule") == frozen_rule(entry)
    return stored if stands and "scorer_auroc" in (stored.get("result") or {}) else None


def selection_entry(folder: Path, method: str, split: int) -> dict[str, Any] | None:
    """The entry of the frozen selection for a method and split."""
    entries = frozen_selection(folder)["selections"]
    return next((e for e in entries if (e["method"], e["split"]) == (method, split)), None)


def revealed_trials(folder: Path, method: str, split: int) -> list[int]:
    """Numbers of the trials (not the retrained seeds) that were measured, in order."""
    names = (path.stem for path in (folder / "reveal" / method / str(split)).glob("*.json"))
    return sorted(int(name) for name in names if name.isdigit() and reveal_record(folder, method, split, name))


def load_trial(spec: StudySpec, folder: Path, method: str, split: int, trial: int, *, threads: int = 1) -> TrialEvidence:
    """The evidence of one revealed trial. Raises ``UserError`` where it was not revealed or a file is missing."""
    from study.selection import scorers_in_use
    from trainables.fit import read_features
    from trainables.methods import get_method
    from trainables.trial import trial_folder

    entry, record = selection_entry(folder, method, split), reveal_record(folder, method, split, str(trial))
    if entry is None or record is None:
        raise UserError(f"{folder}: {method}/{split}/{trial} was not revealed; run `oraclegap reveal {folder}` first")
    built, home = get_method(method), trial_folder(folder, method, split, trial)
    try:
        view, vault = View.load(folder / "view" / str(split)), Vault.load(folder / "vault" / str(split))
        cached = read_features(home)
        revealed = read_arrays(folder / "reveal" / method / str(split) / f"{trial}.safetensors")
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from None
    own = built.own_scorers
    stored = {name.removeprefix("score/"): values for name, values in revealed.items() if name.startswith("score/")}
    stored |= _representation_scores(folder, record)
    nominal, anomalous = vault.test_nominal.labels, vault.test_anomaly.labels
    return TrialEvidence(
        method=method, split=split, trial=trial, selected=entry["trial"] == trial, params=record["inputs"]["params"],
        signals=record["result"]["signals"], train=cached_features(cached, "train", own, view.train_labels),
        validation=cached_features(cached, "validation", own, view.validation_labels),
        outliers=features_of(_part(revealed, "validation_anomaly"), own), test=features_of(_part(revealed, "test"), own),
        test_labels=np.concatenate([nominal, np.full(len(anomalous), -1)]),
        test_anomaly_class=np.concatenate([np.full(len(nominal), -1), anomalous]),
        outlier_class=np.asarray(vault.validation.labels), nominal_classes=tuple(view.classes),
        anomaly_classes=vault.anomaly_classes, scorers=tuple(scorers_in_use(spec, own, linear_head=built.linear_head)),
        own=own, linear_head=built.linear_head, settled=entry["settled"], rule=frozen_rule(entry), stored=stored,
        layers=partial(_layers, spec, home, method, record["inputs"]["params"], view, vault, threads), seed=0,
        threads=threads,
    )


def load_study(summary: dict[str, Any], spec: StudySpec, folder: Path, measured: dict[str, Any]) -> StudyEvidence:
    """What the questions gather from."""
    return StudyEvidence(summary=summary, spec=spec.to_table(), selection=frozen_selection(folder), measured=measured)


def _part(arrays: dict[str, np.ndarray], part: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(f"{part}/"): values for name, values in arrays.items() if name.startswith(f"{part}/")}


def _representation_scores(folder: Path, record: dict[str, Any]) -> dict[str, np.ndarray]:
    """The oracle representation's scores of the same test images, which lie with the job that trained it."""
    wanted = record["inputs"].get("representation")
    for path in sorted((folder / "jobs" / "representation").glob("*/result.json")) if wanted else []:
        result = (read_json(path) or {}).get("result") or {}
        if result.get("weights_sha256") == wanted:
            return read_arrays(path.parent / "scores.safetensors")
    return {}


def _layers(
    spec: StudySpec, home: Path, method: str, params: dict[str, Any], view: View, vault: Vault, threads: int
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] | None:
    """Pooled features of every layer, for nominal validation images, outliers and test images."""
    import torch

    from trainables.fit import load_model
    from trainables.layers import embed_layers

    torch.set_num_threads(threads)
    try:
        model = load_model(home, view_shape=view.image_shape, num_classes=len(view.classes), method=method,
                           network=spec.training.for_method(method)["network"], params=params)
    except (OSError, ValueError):
        return None
    test = np.concatenate([vault.test_nominal.images, vault.test_anomaly.images])
    parts = [embed_layers(model, method, images, view)
             for images in (view.validation_images, vault.validation.images, test)]
    return {name: tuple(part[name] for part in parts) for name in parts[0]}
