"""How CSI's defaults for learning rate and crop size were chosen: by nominal images of digits alone.

Three draws of six classes; two of the six are held out and play the anomalies, the other four digits are never touched.
Prints validation accuracy and NLL of the kept classes and the AUROC of the method's own score on the held-out ones.
About 7 minutes on one core: ``python benchmarks/csi_defaults.py``.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from pathlib import Path

import numpy as np
import torch

from analysis.metrics import auroc
from search_spaces import get_space
from trainables.data import View
from trainables.fit import TrainSettings, embed_images, fit, load_model

SPLITS = (11, 12, 13)
LEARNING_RATES = (0.1, 0.3)
CROP_SCALES = (0.1, 0.3, 0.5, 0.8)
SETTINGS = TrainSettings(epochs=15, batch_size=32, device="cpu")


def view_of(split: int) -> View:
    """Six classes of the digits, 60 % for training and 20 % for validation."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = np.rint(data.images * 255 / 16).astype(np.uint8)[..., None]
    random = np.random.default_rng(split)
    classes = random.permutation(10)[:6]
    train, validation = [], []
    for label, digit in enumerate(classes):
        rows = random.permutation(np.flatnonzero(data.target == digit))
        cuts = int(0.6 * len(rows)), int(0.8 * len(rows))
        train += [(row, label) for row in rows[: cuts[0]]]
        validation += [(row, label) for row in rows[cuts[0] : cuts[1]]]
    (rows, labels), (val_rows, val_labels) = (np.array(side).T for side in (train, validation))
    return View(
        classes=tuple(map(str, classes)), image_shape=(8, 8, 1), mean=(float(images[rows].mean() / 255),),
        std=(float(images[rows].std() / 255),), flips_keep_labels=False, rotations_keep_labels=False,
        digest=f"csi defaults {split}", split=split, train_images=images[rows], train_labels=labels,
        validation_images=images[val_rows], validation_labels=val_labels,
    )


def measure(method: str, split: int, changed: dict) -> tuple[float, float, float]:
    """Accuracy, NLL, and the AUROC of the two classes held out."""
    view = view_of(split)
    kept, params = view.restrict([2, 3, 4, 5]), get_space(method).default() | changed
    with tempfile.TemporaryDirectory() as folder:
        result = fit(method=method, view=kept, params=params, settings=SETTINGS, seed=0, folder=Path(folder))
        model = load_model(Path(folder), view_shape=view.image_shape, num_classes=4, method=method,
                           network=SETTINGS.network, params=params)
    scores = [score(embed_images(model, method, images, kept), method)
              for images in (kept.validation_images, view.held_out([0, 1])[0])]
    is_held_out = np.repeat([False, True], [len(part) for part in scores])
    return (result["signals"]["val_accuracy"], result["signals"]["val_nll"],
            auroc(np.concatenate(scores), is_held_out))


def score(embedded: dict[str, np.ndarray], method: str) -> np.ndarray:
    """Labelled: 1 − max of the marginalised softmax; unlabelled: the combined score."""
    if method == "csi_unlabelled":
        return embedded["csi"]
    return 1 - torch.from_numpy(embedded["logits"]).double().softmax(1).amax(1).numpy()


def main() -> None:
    """Prints a Markdown table."""
    torch.set_num_threads(1)
    print("| method | learning_rate | crop_scale | accuracy | NLL | AUROC of held-out nominal classes |")
    print("|---|--:|--:|--:|--:|--:|")
    for method, rate, scale in itertools.product(("csi", "csi_unlabelled"), LEARNING_RATES, CROP_SCALES):
        changed = {"learning_rate": rate, "crop_scale": scale}
        found = np.array([measure(method, split, changed) for split in SPLITS])
        error = found[:, 2].std(ddof=1) / math.sqrt(len(SPLITS))
        accuracy, nll, novel = found.mean(0)
        print(f"| {method} | {rate} | {scale} | {accuracy:.4f} | {nll:.4f} | {novel:.4f} ± {error:.4f} |", flush=True)


if __name__ == "__main__":
    main()
