"""The sealed side of a prepared data set: anomalies and all test images. The only module that reads them.

Imported after the freeze alone, by ``study/reveal.py``, ``study/evidence.py`` and ``study/course.py``: an import contract
keeps it from all that runs before, and no such code may reach it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trainables.data import load_part, read_manifest, verify_folder


@dataclass(frozen=True, eq=False)
class Part:
    """Images uint8 (N, H, W, C) and labels int64 (N,), read-only."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Vault:
    """Labels of ``test_nominal`` are the view's (0..K-1); those of the others index ``anomaly_classes``.

    ``train`` holds the anomalies of the training share (for the oracle representation), ``validation`` those that the
    oracle detector learns from. Without anomalies all but ``test_nominal`` are empty.
    """

    split: int
    anomaly_classes: tuple[str, ...]
    digest: str
    counts: dict[str, int]
    anomalous_copies_dropped: int
    train: Part
    validation: Part
    test_nominal: Part
    test_anomaly: Part
    duplicates_moved: int = 0
    skipped: tuple[str, ...] = field(default=())

    @classmethod
    def load(cls, folder: str | Path, *, verify: bool = False) -> Vault:
        """Map ``runs/<study>/vault/<split>``. ValueError names a file that is missing or changed; ``verify`` compares
        the SHA-256 of every file."""
        manifest = verify_folder(folder) if verify else read_manifest(folder)
        nominal = Part(*load_part(folder, "test_nominal"))
        parts = {}
        for name in ("train", "validation", "test_anomaly"):
            if name in manifest["counts"]:
                parts[name] = Part(*load_part(folder, name))
            else:
                parts[name] = Part(np.empty((0, *nominal.images.shape[1:]), np.uint8), np.empty(0, np.int64))
        return cls(
            split=manifest["split"],
            anomaly_classes=tuple(manifest["anomaly_classes"]),
            digest=manifest["digest"],
            counts=manifest["counts"],
            anomalous_copies_dropped=manifest["anomalous_copies_dropped"],
            duplicates_moved=manifest["duplicates_moved"],
            skipped=tuple(manifest["skipped"]),
            test_nominal=nominal,
            **parts,
        )

    @property
    def has_anomalies(self) -> bool:
        """False where there is nothing to reveal."""
        return len(self.test_anomaly) > 0


def verify(folder: str | Path) -> None:
    """ValueError naming the first file of a vault that is missing, changed or does not belong there."""
    verify_folder(folder)
