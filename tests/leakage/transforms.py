"""What can be done to the anomalies of a data set (images, labels, names) without touching a nominal image, and studies of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from conftest import TINY, digits_npz, overrides, run

NOMINAL = ["three", "five", "six", "seven", "nine"]
SETTINGS = [*TINY, "data.source=npz", "data.path=digits.npz", f"data.nominal_classes={NOMINAL}",
            "search.max_concurrent=1", "search.sampler=tpe", "training.epochs=2", 'resources.address="local"']
HOOK = Path(__file__).parent / "vault_hook"


def anomalous(labels, names) -> np.ndarray:
    return ~np.isin(names[labels], NOMINAL)


def unchanged(images, labels, names):
    return images, labels, names


def noise(images, labels, names, seed=0):
    images, mask = images.copy(), anomalous(labels, names)
    images[mask] = np.random.default_rng(seed).integers(0, 256, images[mask].shape, dtype=np.uint8)
    return images, labels, names


def deleted(images, labels, names, seed=0):
    mask = anomalous(labels, names)
    return images[~mask], labels[~mask], names


def permuted_labels(images, labels, names, seed=0):
    labels, mask = labels.copy(), anomalous(labels, names)
    labels[mask] = np.random.default_rng(seed).permutation(labels[mask])
    return images, labels, names


def multiplied(images, labels, names, seed=0):
    """Ten of each anomaly, nine of them a little changed, since copies count once."""
    mask, random = anomalous(labels, names), np.random.default_rng(seed)
    copies = np.repeat(images[mask], 9, axis=0)
    copies = np.clip(copies.astype(int) + random.integers(-8, 9, copies.shape), 0, 255).astype(np.uint8)
    return np.concatenate([images, copies]), np.concatenate([labels, np.repeat(labels[mask], 9)]), names


def renamed(images, labels, names, seed=0):
    """Other names for the anomaly classes, and their images in front of all others, in another order."""
    names, mask = names.astype("U20"), anomalous(labels, names)
    for index in range(len(names)):
        if names[index] not in NOMINAL:
            names[index] = f"a class {names[index]}"
    order = np.concatenate([np.random.default_rng(seed).permutation(np.flatnonzero(mask)), np.flatnonzero(~mask)])
    return images[order], labels[order], names


def swapped(images, labels, names, seed=0):
    """The images of every two anomaly classes change places."""
    labels = labels.copy()
    others = [index for index, name in enumerate(names) if name not in NOMINAL]
    turned = dict(zip(others, np.random.default_rng(seed).permutation(others[1:] + others[:1]), strict=True))
    mask = anomalous(labels, names)
    labels[mask] = [turned[label] for label in labels[mask]]
    return images, labels, names


TRANSFORMS: dict[str, Callable] = {"permuted labels": permuted_labels, "noise": noise, "deleted": deleted,
                                   "multiplied by ten": multiplied, "renamed and reordered": renamed, "swapped": swapped}


def changed_nominal_image(images, labels, names):
    images = images.copy()
    images[np.flatnonzero(~anomalous(labels, names))[:40]] //= 2
    return images, labels, names


def selection_of(folder: Path, change: Callable, *more: str) -> dict:
    """selection.json of a study that was run to its freeze in ``folder``; ``opens(folder)`` then says who read the vault."""
    folder.mkdir(exist_ok=True)
    digits_npz(folder / "digits.npz", change=change)
    path = os.pathsep.join([str(HOOK), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = run("launch", "digits", "--offline", "--stop-after", "freeze", *overrides(*SETTINGS, *more), cwd=folder,
               PYTHONPATH=path, VAULT_OPENS=str(folder / "opens"), LEAK_VAULT=str(folder / "runs" / "tiny" / "vault" / "0"))
    assert done.returncode in (0, 4), done.stderr + done.stdout  # 4: some trials failed, which a leak may make them
    return json.loads((folder / "runs" / "tiny" / "selection.json").read_text())


def opens(folder: Path) -> list[str]:
    """Each opening of a file of the vault by any process but prepare."""
    log = folder / "opens"
    lines = log.read_text().splitlines() if log.exists() else []
    assert any("study.prepare" in line for line in lines), "the hook was not there"
    return [line for line in lines if "study.prepare" not in line]
