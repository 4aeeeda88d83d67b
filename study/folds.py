"""Fold models: each holds some nominal classes out of training and tells how well every scorer notices them.

A pseudo-novel class is a nominal class, so nothing here has seen an anomaly.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from trainables.files import digest_of


def deal_folds(classes: list[str] | tuple[str, ...], folds: int, split: int) -> list[list[str]]:
    """Deals the nominal classes round-robin, in the order of SHA-256(split seed, name), to ``folds`` held-out groups.

    Empty where some fold would keep fewer than two classes, or have none to hold out: then no fold model is possible.
    """
    if not folds:
        return []
    order = sorted(classes, key=lambda name: digest_of([split, name]))
    held_out = [sorted(order[fold::folds]) for fold in range(folds)]
    possible = all(group and len(classes) - len(group) >= 2 for group in held_out)
    return held_out if possible else []


def train_fold(
    *, folder: Path, view, method: str, params: dict[str, Any], settings, seed: int, held_out: list[str],
    scorers: list[str], parameters: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """Trains one fold model and scores its held-out classes against its kept ones, on validation images.

    Returns ``{"auroc": {scorer: AUROC}, "val_accuracy": …, "train_seconds": …}`` and leaves ``scores.safetensors`` in
    ``folder``: per scorer the standardised scores of kept, then held-out images, and ``is_held_out``.
    """
    from analysis.fusion import Standardiser, fold_aurocs
    from analysis.scorers import fit_scorers, score_all
    from trainables.files import write_arrays
    from trainables.fit import embed_images, fit, load_model, pick_device, read_features
    from trainables.methods import get_method

    out = [index for index, name in enumerate(view.classes) if name in held_out]
    kept_view = view.restrict([index for index in range(len(view.classes)) if index not in out])
    fitted = fit(method=method, view=kept_view, params=params, settings=settings, seed=seed, folder=folder / "model")
    own = get_method(method).own_scorers
    cached = read_features(folder / "model")
    model = load_model(
        folder / "model", view_shape=view.image_shape, num_classes=len(kept_view.classes), method=method,
        network=settings.network, params=params,
    )
    images, _ = view.held_out(out)
    novel = features_of(embed_images(model, method, images, kept_view, device=pick_device(settings)), own)
    kept = cached_features(cached, "validation", own)
    train = cached_features(cached, "train", own, labels=kept_view.train_labels)
    fitted_scorers = fit_scorers(scorers, train, parameters=parameters, own=own)
    on_kept, on_novel = score_all(fitted_scorers, kept), score_all(fitted_scorers, novel)
    stored = {name: Standardiser.fit(on_kept[name])(np.r_[on_kept[name], on_novel[name]]) for name in scorers}
    stored["is_held_out"] = np.r_[np.zeros(len(kept), np.uint8), np.ones(len(novel), np.uint8)]
    written = write_arrays(folder / "scores.safetensors", stored)
    return {
        "held_out": held_out, "val_accuracy": fitted["signals"]["val_accuracy"],
        "auroc": {name: round(value, 10) for name, value in fold_aurocs(on_kept, on_novel).items()},
        "train_seconds": fitted["train_seconds"], "files": {"scores.safetensors": written},
    }


def features_of(embedded: dict[str, np.ndarray], own: tuple[str, ...], labels: np.ndarray | None = None, head=None):
    """``analysis.scorers.Features`` of what ``embed_images`` returns; ``head`` as in ``Features``."""
    from analysis.scorers import Features

    return Features(
        logits=embedded["logits"], z=embedded["z"], labels=labels, own={name: embedded[name] for name in own},
        head=head,
    )


def cached_features(cached: dict[str, np.ndarray], part: str, own: tuple[str, ...], labels=None):
    """``Features`` of one part (``train`` or ``validation``) of a trial's ``features.safetensors``.

    The training part holds no scores of the method's own: nothing is fitted on them.
    """
    names = own if part != "train" else ()
    embedded = {name: cached[f"{part}/{name}"] for name in ("z", "logits", *names)}
    head = (cached["head/weight"], cached["head/bias"]) if "head/weight" in cached else None
    return features_of(embedded, names, labels, head)
