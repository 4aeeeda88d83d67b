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
    from analysis.metrics import auroc
    from analysis.scorers import get_scorer
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
    is_held_out = np.r_[np.zeros(len(kept.z), bool), np.ones(len(novel.z), bool)]
    aurocs, stored = {}, {"is_held_out": is_held_out.astype(np.uint8)}
    for name in scorers:
        scorer = get_scorer(name, own=own).fit(train, parameters.get(name))
        on_kept, on_novel = scorer.score(kept), scorer.score(novel)
        scores = (np.r_[on_kept, on_novel] - on_kept.mean()) / max(on_kept.std(), 1e-12)
        aurocs[name] = round(float(auroc(scores, is_held_out)), 10)
        stored[name] = scores
    write_arrays(folder / "scores.safetensors", stored)
    return {"held_out": held_out, "auroc": aurocs, "val_accuracy": fitted["signals"]["val_accuracy"],
            "train_seconds": fitted["train_seconds"]}


def features_of(embedded: dict[str, np.ndarray], own: tuple[str, ...], labels: np.ndarray | None = None):
    """``analysis.scorers.Features`` of what ``embed_images`` returns."""
    from analysis.scorers import Features

    return Features(
        logits=embedded["logits"], z=embedded["z"], labels=labels, own={name: embedded[name] for name in own}
    )


def cached_features(cached: dict[str, np.ndarray], part: str, own: tuple[str, ...], labels=None):
    """``Features`` of one part (``train`` or ``validation``) of a trial's ``features.safetensors``.

    The training part holds no scores of the method's own: nothing is fitted on them.
    """
    names = own if part != "train" else ()
    embedded = {name: cached[f"{part}/{name}"] for name in ("z", "logits", *names)}
    return features_of(embedded, names, labels)
