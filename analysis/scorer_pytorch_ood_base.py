"""What the scorers over pytorch-ood's detectors share: conversion, chunks, the linear head, and the state.

Nothing here imports torch or pytorch-ood (seconds) before a scorer is fitted or scores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from analysis.scorer_base import Features, Scorer, finite_latents

# Largest intermediate, in numbers: 32 MB of float64. Some detectors make one of images × classes × latents.
CHUNK_ELEMENTS = 4_000_000


def detectors():
    """``pytorch_ood.detector``; ImportError that says what to install."""
    try:
        from pytorch_ood import detector
    except ModuleNotFoundError as error:
        raise ImportError("this scorer needs the package pytorch-ood (`pip install pytorch-ood`)") from error
    return detector


class DetectorScorer(Scorer):
    """A pytorch-ood detector as a scorer, fitted and run on cached features.

    ``_learn`` fits a detector and returns what it learned as arrays; ``_predictor`` rebuilds the detector from them.
    Scores always come from the rebuilt one, so those of a fitted and of a restored scorer are the same numbers. It is
    kept on the instance, but neither exported nor pickled.
    """

    reads: ClassVar[str] = "z"
    single: ClassVar[bool] = False  # the detector computes in float32 whatever it is given

    def __init__(self):
        super().__init__()
        self._ready: Callable | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_ready": None}

    def _fit(self, train: Features) -> dict[str, np.ndarray]:
        import torch

        self._ready = None
        given = finite_latents(train, self.info.name) if self.reads == "z" else finite_logits(train, self.info.name)
        head = self._head_of(train) if "head" in self.info.needs else {}
        with torch.no_grad():
            return {**head, **self._learn(self._tensor(given), train, head)}

    def _score(self, features: Features) -> np.ndarray:
        import torch

        if self._ready is None:
            self._ready = self._predictor(self.arrays_)
        given = np.asarray(getattr(features, self.reads))
        scores = np.empty(len(given))
        rows = max(1, CHUNK_ELEMENTS // max(self._elements(given.shape[1]), 1))
        with torch.no_grad():
            for start in range(0, len(given), rows):
                chunk = self._ready(self._tensor(given[start:start + rows]))
                scores[start:start + rows] = chunk.double().numpy()
        return scores

    def _learn(self, given, train: Features, head: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Arrays that the detector learns from the training latents or logits, a tensor (N, D or K)."""
        return {}

    def _predictor(self, arrays: dict[str, np.ndarray]) -> Callable:
        """Function from latents or logits, a tensor, to scores (N,), a tensor."""
        raise NotImplementedError

    def _elements(self, width: int) -> int:
        """Numbers that the largest intermediate holds for each image of that many latents or logits."""
        return width

    def _head_of(self, train: Features) -> dict[str, np.ndarray]:
        if train.head is None:
            raise ValueError(f"scorer {self.info.name} needs the linear head from latents to logits, and these "
                             "features have none")
        weight, bias = (np.asarray(part) for part in train.head)
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise ValueError(f"scorer {self.info.name}: the head is not finite")
        return {"head_weight": weight, "head_bias": bias}

    def _tensor(self, values: np.ndarray):
        """A copy, since arrays may be read-only, as float64 wherever the detector keeps it."""
        import torch

        return torch.from_numpy(np.array(values, dtype=np.float32 if self.single else np.float64))

    def _linear(self, arrays: dict[str, np.ndarray]):
        """The head as ``torch.nn.Linear``, made without a draw from torch's generator."""
        import torch

        weight, bias = self._tensor(arrays["head_weight"]), self._tensor(arrays["head_bias"])
        layer = torch.nn.utils.skip_init(torch.nn.Linear, weight.shape[1], weight.shape[0], dtype=weight.dtype)
        layer.weight = torch.nn.Parameter(weight, requires_grad=False)
        layer.bias = torch.nn.Parameter(bias, requires_grad=False)
        return layer


def finite_logits(features: Features, name: str) -> np.ndarray:
    """The logits (N, K) of scorer ``name``'s fit; ValueError for another shape, none at all or non-finite ones."""
    logits = np.asarray(features.logits)
    if logits.ndim != 2 or not len(logits) or not np.isfinite(logits).all():
        raise ValueError(f"scorer {name} needs finite logits (N, K) with N >= 1, not an array of {logits.shape}")
    return logits
