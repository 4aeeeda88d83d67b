"""What may be done to the anomalies of a data set without touching a nominal image, as pure functions.

Each takes images (uint8, N × H × W), labels (int64, N, into names) and names (K), and returns all three anew. Nominal images
keep their order among themselves, and so do nominal classes. ``seed`` draws another change of the same kind.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

NOMINAL = ("three", "five", "six", "seven", "nine")
FEW = 60  # nominal images of each class in ``few``


def anomalous(labels, names) -> np.ndarray:
    return ~np.isin(names[labels], NOMINAL)


def unchanged(images, labels, names, seed=0):
    return images, labels, names


def permuted_labels(images, labels, names, seed=0):
    """Anomalies change places among their classes."""
    labels, mask = labels.copy(), anomalous(labels, names)
    labels[mask] = np.random.default_rng(seed).permutation(labels[mask])
    return images, labels, names


def noise(images, labels, names, seed=0):
    images, mask = images.copy(), anomalous(labels, names)
    images[mask] = np.random.default_rng(seed).integers(0, 256, images[mask].shape, dtype=np.uint8)
    return images, labels, names


def deleted(images, labels, names, seed=0):
    """A study without anomalies is legal; their classes are still named."""
    mask = anomalous(labels, names)
    return images[~mask], labels[~mask], names


def multiplied(images, labels, names, seed=0):
    """Ten of each anomaly, nine of them a little changed, since copies count once."""
    mask, random = anomalous(labels, names), np.random.default_rng(seed)
    copies = np.repeat(images[mask], 9, axis=0)
    copies = np.clip(copies.astype(int) + random.integers(-8, 9, copies.shape), 0, 255).astype(np.uint8)
    return np.concatenate([images, copies]), np.concatenate([labels, np.repeat(labels[mask], 9)]), names


def renamed_and_reordered(images, labels, names, seed=0):
    """Other names for the anomalous classes, in another order and before the nominal ones; their images, too."""
    random, mask = np.random.default_rng(seed), anomalous(labels, names)
    known = np.isin(names, NOMINAL)
    classes = np.r_[random.permutation(np.flatnonzero(~known)), np.flatnonzero(known)]
    places = np.r_[random.permutation(np.flatnonzero(mask)), np.flatnonzero(~mask)]
    renamed = np.where(known, names, np.char.add("a class of ", names))
    return images[places], np.argsort(classes)[labels[places]], renamed[classes]


def swapped(images, labels, names, seed=0):
    """Other classes are the anomalies: two of those that were stay, the others go, and as many that are new come."""
    random = np.random.default_rng(seed)
    gone = random.permutation(np.unique(labels[anomalous(labels, names)]))[2:]
    turned = np.isin(labels, gone)
    images, names = images.copy(), names.astype("U40")
    images[turned] = random.integers(200, 256) - images[turned].transpose(0, 2, 1) // 2
    names[gone] = [f"{name}, mirrored and inverted" for name in names[gone]]
    return images, labels, names


TRANSFORMS: dict[str, Callable] = {
    "permuted labels": permuted_labels, "noise": noise, "deleted": deleted, "multiplied by ten": multiplied,
    "renamed and reordered": renamed_and_reordered, "swapped": swapped,
}


def all_but_deleted(images, labels, names, seed=0):
    """One after the other, for a test that can afford a single study."""
    for change in (permuted_labels, multiplied, swapped, renamed_and_reordered):
        images, labels, names = change(images, labels, names, seed)
    return images, labels, names


def few(images, labels, names):
    """A smaller data set to begin with: the first ``FEW`` images of each nominal class, and all anomalies."""
    keep = anomalous(labels, names)
    for label in np.unique(labels[~keep]):
        keep[np.flatnonzero(labels == label)[:FEW]] = True
    return images[keep], labels[keep], names


def changed_nominal_image(images, labels, names, seed=0):
    """The control: what the digest must not survive."""
    images = images.copy()
    images[np.flatnonzero(~anomalous(labels, names))[seed:seed + 40]] //= 2
    return images, labels, names
