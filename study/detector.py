"""An exported detector put to use: images in, class or anomaly out, with scikit-learn's shapes.

Reads safetensors and JSON alone, each compared with its SHA-256 on record. A detector whose method, network or scorer is a
plug-in asks for that plug-in by name: an export from somebody else decides about no code that runs here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis import plugins
from analysis.fusion import FrozenRule
from analysis.metrics import ACCEPTANCE, acceptance_threshold
from study.errors import UserError, one_line
from study.folds import features_of
from study.images import BadImage, conform, decode_file, decode_files
from study.parallel import in_order

FORMATS = (1, 2)
ANOMALY = "anomaly"
BATCH = 128  # images that one thread embeds at a time, on a CPU
#: In ``detector.safetensors``: the rule's scores of the nominal validation images, which any acceptance is read from.
VALIDATION_KEY = ".validation"


class OpenSetDetector:
    """A classifier of K classes that also says when an image belongs to none of them.

    Images are uint8, N x H x W x C or N x H x W (grey); other sizes and channels are scaled, cropped and converted as the
    study's own were. Attributes: ``classes_`` (K,) names in the order of ``predict_proba``; ``threshold_`` (score > threshold
    is an anomaly), which may be set; ``image_shape_`` (H, W, C); ``record_``, the export's ``detector.json``.
    """

    def __init__(self, record: dict[str, Any], model, rule: FrozenRule, validation: np.ndarray | None, *, device: str):
        self.record_, self._model, self._rule, self._validation, self._device = record, model, rule, validation, device
        self.classes_ = np.array(record["classes"])
        self.image_shape_ = tuple(record["image_shape"])
        self.threshold_ = float(record["threshold"])
        self._own = tuple(record["scorer"]["own"])

    @classmethod
    def load(cls, export: str | Path, *, device: str = "cpu", allowed_plugins: Iterable[str] = ()) -> OpenSetDetector:
        """The detector in the folder that ``oraclegap export`` wrote. UserError for one that is damaged, changed or no
        detector, or that needs a plug-in (``module:name``) that is not in ``allowed_plugins``."""
        folder = Path(export)
        record = _read_record(folder)
        for reference in record.get("plugins", []):
            if reference not in set(allowed_plugins):
                raise UserError(f"{folder}: this detector runs the plug-in {one_line(reference, 80)}; allow it by that name if "
                                "you trust it")
        try:
            for reference in record.get("plugins", []):
                plugins.load(reference)
            model = _read_model(folder, record)
            arrays = _read_arrays(folder, record)
            validation = arrays.pop(VALIDATION_KEY, None)
            rule = FrozenRule.from_state(record["scorer"], arrays)
            return cls(record, model, rule, validation, device=device)
        except (ValueError, KeyError, TypeError, OSError, RuntimeError) as error:
            raise UserError(f"{folder} is no detector that can be used: {one_line(error, 200)}") from None

    @property
    def on_cpu(self) -> bool:
        """Whether the network runs on the CPU, where batches are embedded side by side."""
        return self._device == "cpu"

    # ------------------------------------------------------------------------------------------------ from images
    def predict(self, images) -> np.ndarray:
        """Names (N,) of classes, ``"anomaly"`` where the anomaly score is above ``threshold_``."""
        embedded = self._embed(images)
        return self.labels(embedded["logits"], self._score(embedded))

    def predict_proba(self, images) -> np.ndarray:
        """Softmax over the K nominal classes (N, K); an anomaly, too, gets one that sums to 1."""
        logits = self._embed(images)["logits"].astype(np.float64)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    def anomaly_score(self, images) -> np.ndarray:
        """(N,), higher = more anomalous."""
        return self._score(self._embed(images))

    def transform(self, images) -> np.ndarray:
        """The latent z (N, D), float32."""
        return self._embed(images)["z"]

    def predict_and_score(self, images) -> tuple[np.ndarray, np.ndarray]:
        """``predict`` and ``anomaly_score`` of one pass through the network."""
        embedded = self._embed(images)
        score = self._score(embedded)
        return self.labels(embedded["logits"], score), score

    def labels(self, logits: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Names (N,) from logits (N, K) and anomaly scores (N,)."""
        names = self.classes_[np.asarray(logits).argmax(axis=1)].astype(object)
        names[np.asarray(score) > self.threshold_] = ANOMALY
        return names

    # -------------------------------------------------------------------------------------------------- threshold
    def accept(self, acceptance: float = ACCEPTANCE) -> OpenSetDetector:
        """Sets ``threshold_`` to the lowest that accepts that share (0 to 1) of the study's nominal validation images."""
        if not 0 < acceptance <= 1:
            raise UserError(f"acceptance {acceptance:g}: must be above 0 and at most 1, such as 0.95")
        if self._validation is None:
            if acceptance != ACCEPTANCE:
                raise UserError(f"this export is of an earlier version and knows the acceptance {ACCEPTANCE:g} alone; export "
                                "again")
            self.threshold_ = float(self.record_["threshold"])
        else:
            self.threshold_ = float(acceptance_threshold(self._validation, acceptance))
        return self

    def balance(self, images, is_anomaly: Sequence[bool]) -> OpenSetDetector:
        """Sets ``threshold_`` by labelled images of both kinds, to where as large a share of the anomalies is missed as of
        the nominal images is refused (equal error rate)."""
        truth = np.asarray(is_anomaly, dtype=bool)
        if truth.all() or not truth.any():
            raise UserError("a threshold of equal errors needs labelled images of both kinds, nominal and anomalous")
        self.threshold_ = equal_error_threshold(self.anomaly_score(images), truth)
        return self

    # ------------------------------------------------------------------------------------------------------ files
    def read(self, paths: Sequence[str | Path]) -> list[np.ndarray | BadImage]:
        """Image files as this detector's images (H, W, C), prepared as the study's were; BadImage says why one is none."""
        decoded = decode_files([str(path) for path in paths], image_size=self.record_.get("image_size", 0))
        return [self._conform(image) for image in decoded]

    def read_one(self, path: str) -> np.ndarray | BadImage:
        """One file as ``read`` has it, for a caller that decodes in threads of its own."""
        return self._conform(decode_file(path, self.record_.get("image_size", 0)))

    # ---------------------------------------------------------------------------------------------------- in here
    def _conform(self, image: np.ndarray | BadImage) -> np.ndarray | BadImage:
        return image if isinstance(image, BadImage) else conform(image, self.image_shape_)

    def _embed(self, images) -> dict[str, np.ndarray]:
        array = self._as_images(images)
        if not self.on_cpu or len(array) < 2 * BATCH:
            return self._embed_batch(array)
        parts = list(in_order(self._embed_batch, (array[start:start + BATCH] for start in range(0, len(array), BATCH))))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _embed_batch(self, array: np.ndarray) -> dict[str, np.ndarray]:
        from trainables.inference import embed_with

        return embed_with(self._model, self.record_["method"], array, mean=self.record_["mean"], std=self.record_["std"],
                          device=self._device)

    def _as_images(self, images) -> np.ndarray:
        array = np.asarray(images)
        if array.shape == self.image_shape_ or (array.ndim == 3 and array.shape[-1] in (1, 3)):
            raise UserError(f"images must be N x H x W x C: for a single one of {array.shape} give images[None]")
        array = array[..., None] if array.ndim == 3 else array
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] not in (1, 3):
            raise UserError(f"images must be uint8, N x H x W x C or N x H x W, not {array.dtype} {array.shape}")
        if array.shape[1:] == self.image_shape_:
            return np.ascontiguousarray(array)
        return np.stack([conform(image, self.image_shape_) for image in array]) if len(array) else np.zeros(
            (0, *self.image_shape_), np.uint8)

    def _score(self, embedded: dict[str, np.ndarray]) -> np.ndarray:
        return self._rule.score(features_of(embedded, self._own))


def equal_error_threshold(score, is_anomaly) -> float:
    """The threshold whose two error rates, anomalies at or below it and nominal images above it, differ least; the lowest
    such, half-way between two scores that occur."""
    score, truth = np.asarray(score, dtype=np.float64), np.asarray(is_anomaly, dtype=bool)
    levels = np.unique(score)
    cuts = np.r_[levels[0], (levels[:-1] + levels[1:]) / 2, levels[-1]]
    anomalies, nominal = np.sort(score[truth]), np.sort(score[~truth])
    missed = np.searchsorted(anomalies, cuts, side="right") / len(anomalies)
    refused = 1 - np.searchsorted(nominal, cuts, side="right") / len(nominal)
    return float(cuts[np.abs(missed - refused).argmin()])


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / "detector.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder} holds no detector; give the folder that `oraclegap export` wrote") from None
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {one_line(error, 100)}") from None
    if not isinstance(record, dict) or record.get("format") not in FORMATS:
        raise UserError(f"{path} is of a format that this version does not know; export again")
    return record


def _read_model(folder: Path, record: dict[str, Any]):
    from trainables.inference import read_model

    return read_model(folder / "model.safetensors", record["weights_sha256"], view_shape=tuple(record["image_shape"]),
                      num_classes=len(record["classes"]), method=record["method"], network=record["network"],
                      params=record["params"])


def _read_arrays(folder: Path, record: dict[str, Any]) -> dict[str, np.ndarray]:
    from trainables.files import read_arrays, sha256_of_file

    if "arrays_sha256" not in record:
        return {}
    path = folder / "detector.safetensors"
    if sha256_of_file(path) != record["arrays_sha256"]:
        raise ValueError(f"{path} is corrupt: its SHA-256 is not the one in detector.json")
    return read_arrays(path)
