"""What a trial may see of a data set: nominal training and validation images, and nothing else.

``View.load("runs/x/view/0")`` memory-maps the arrays that ``study/prepare.py`` wrote. The images are uint8, N x H x W x C
with C 1 (grey) or 3 (RGB); labels are int64 in 0..K-1, indices into ``classes``. The arrays are read-only and are plain
``numpy.ndarray``, so that a View goes through Ray's object store without a copy.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trainables.files import digest_of, sha256_of_file

MANIFEST = "manifest.json"
VIEW_PARTS = ("train", "validation")


def manifest_digest(manifest: dict) -> str:
    """SHA-256 of a manifest's canonical JSON without its own ``digest``."""
    return digest_of({key: value for key, value in manifest.items() if key != "digest"})


def read_manifest(folder: str | Path) -> dict:
    """The manifest of a prepared folder, its digest checked; ValueError names the file that is missing or wrong."""
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: the data set is not prepared") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("digest") != manifest_digest(manifest):
        raise ValueError(f"{path} was changed: its digest does not fit its content")
    return manifest


def verify_folder(folder: str | Path) -> dict:
    """Compare every file of a prepared folder with the SHA-256 in its manifest, which is returned.

    Raises ValueError naming the first file that is missing, changed or not in the manifest.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    for name, expected in sorted(manifest["files"].items()):
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path} is missing")
        if sha256_of_file(path) != expected:
            raise ValueError(f"{path} was changed: its SHA-256 differs from the manifest's")
    for path in folder.iterdir():
        if not path.name.startswith(".") and path.name != MANIFEST and path.name not in manifest["files"]:
            raise ValueError(f"{path} does not belong to the prepared data")
    return manifest


def load_part(folder: str | Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of one part, memory-mapped and read-only; ValueError when they do not fit each other."""
    folder = Path(folder)
    arrays = []
    for kind in ("images", "labels"):
        path = folder / f"{part}_{kind}.npy"
        try:
            # asarray sheds the memmap subclass, which would be pickled by value with its file's name.
            arrays.append(np.asarray(np.load(path, mmap_mode="r", allow_pickle=False)))
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{path} cannot be read: {error}") from None
    images, labels = arrays
    if images.dtype != np.uint8 or images.ndim != 4 or labels.dtype != np.int64 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{folder}: the {part} arrays do not fit: images {images.dtype} {images.shape}, "
            f"labels {labels.dtype} {labels.shape}"
        )
    return images, labels


@dataclass(frozen=True, eq=False)
class View:
    """Everything a trial may see. Shapes: images (N, H, W, C) uint8, labels (N,) int64; mean and std per channel of
    the nominal training images scaled to 0..1."""

    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flips_keep_labels: bool
    rotations_keep_labels: bool
    digest: str
    split: int
    train_images: np.ndarray
    train_labels: np.ndarray
    validation_images: np.ndarray
    validation_labels: np.ndarray

    @classmethod
    def load(cls, folder: str | Path, *, verify: bool = False) -> View:
        """Map a view's folder (``runs/<study>/view/<split>``); ``verify`` also reads every byte for its SHA-256."""
        manifest = verify_folder(folder) if verify else read_manifest(folder)
        train_images, train_labels = load_part(folder, "train")
        validation_images, validation_labels = load_part(folder, "validation")
        return cls(
            classes=tuple(manifest["classes"]),
            image_shape=tuple(manifest["image_shape"]),
            mean=tuple(manifest["mean"]),
            std=tuple(manifest["std"]),
            flips_keep_labels=manifest["flips_keep_labels"],
            rotations_keep_labels=manifest["rotations_keep_labels"],
            digest=manifest["digest"],
            split=manifest["split"],
            train_images=train_images,
            train_labels=train_labels,
            validation_images=validation_images,
            validation_labels=validation_labels,
        )

    @property
    def num_classes(self) -> int:
        """K, the number of classes in ``classes``."""
        return len(self.classes)

    def restrict(self, keep: Sequence[int]) -> View:
        """The view with only the classes ``keep`` (indices), relabelled 0..len(keep)-1 in that order.

        For fold models: the other nominal classes play the anomalies. Mean and std stay, so that the images of both
        go through one normalisation. The digest is a new one, since the data are.
        """
        keep = self._checked(keep)
        train_images, train_labels = _select(self.train_images, self.train_labels, keep)
        validation_images, validation_labels = _select(self.validation_images, self.validation_labels, keep)
        return replace(
            self,
            classes=tuple(self.classes[index] for index in keep),
            digest=_derived(self.digest, "restrict", keep),
            train_images=train_images,
            train_labels=_relabel(train_labels, keep),
            validation_images=validation_images,
            validation_labels=_relabel(validation_labels, keep),
        )

    def held_out(self, classes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Validation images and their labels (of this view) of ``classes``: the pseudo-novel ones of a fold."""
        return _select(self.validation_images, self.validation_labels, self._checked(classes))

    def with_classes(
        self, extra_train_images: np.ndarray, extra_train_labels: np.ndarray, extra_classes: Sequence[str]
    ) -> View:
        """The view with further classes to train on, after the nominal ones (for the oracle representation).

        ``extra_train_labels`` index ``extra_classes``. Validation stays nominal; mean and std stay too.
        """
        images, labels = np.asarray(extra_train_images), np.asarray(extra_train_labels)
        if images.shape[1:] != self.image_shape or images.dtype != np.uint8 or labels.shape != images.shape[:1]:
            raise ValueError(f"extra images {images.dtype} {images.shape} do not fit a view of {self.image_shape}")
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(extra_classes):
            raise ValueError(f"extra labels lie outside 0..{len(extra_classes) - 1}")
        return replace(
            self,
            classes=self.classes + tuple(extra_classes),
            digest=_derived(self.digest, "with", list(extra_classes), _array_digest(images), _array_digest(labels)),
            train_images=np.concatenate([self.train_images, images]),
            train_labels=np.concatenate([self.train_labels, labels.astype(np.int64) + self.num_classes]),
        )

    def _checked(self, classes: Sequence[int]) -> list[int]:
        indices = [int(index) for index in classes]
        if len(set(indices)) != len(indices) or any(not 0 <= index < self.num_classes for index in indices):
            raise ValueError(f"{indices} are not distinct classes of 0..{self.num_classes - 1}")
        return indices


def _select(images: np.ndarray, labels: np.ndarray, keep: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    rows = np.isin(labels, np.asarray(keep, dtype=np.int64))
    return images[rows], labels[rows]


def _relabel(labels: np.ndarray, keep: Sequence[int]) -> np.ndarray:
    table = np.full(max(keep, default=0) + 1, -1, dtype=np.int64)
    table[list(keep)] = np.arange(len(keep))
    return table[labels]


def _array_digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def _derived(digest: str, *parts) -> str:
    return digest_of([digest, *parts])
