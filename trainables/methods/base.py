"""What a method is: a network, a loss, and what it says about an image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class MethodInfo:
    """Drives the documentation's table and the contract tests."""

    name: str
    title: str
    paper: str
    year: int
    url: str
    needs: tuple[str, ...] = ()  # what it needs of a source, e.g. ("rotations_keep_labels",)
    pruning_safe: bool = True  # do early epochs tell late ones?
    relative_cost: float = 1.0  # of an epoch, against the classifier's


class Method(ABC):
    """Stateless; everything learned lives in the module that ``build`` returns."""

    info: MethodInfo
    own_scorers: tuple[str, ...] = ()  # anomaly scores per image that ``embed`` gives beside z and logits
    trains_on: frozenset[str] = frozenset()  # synthetic outliers (trainables/synthetic.py) seen in training

    @abstractmethod
    def build(self, view_shape: tuple[int, int, int], num_classes: int, network: str, params: dict) -> nn.Module:
        """A fresh module for images of ``view_shape`` (H, W, C). Draws from torch's global generator, which the
        caller seeds and restores."""

    @abstractmethod
    def loss(
        self, model: nn.Module, images: Tensor, targets: Tensor, params: dict, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar to minimise, and its parts for the log.

        ``images``: float N×C×H×W, augmented and normalised. ``targets``: int64 N, or float N×K where mixup mixed
        them. ``generator``: the only source of randomness, on the images' device.
        """

    @abstractmethod
    def embed(self, model: nn.Module, images: Tensor) -> dict[str, Tensor]:
        """"z" (N×D), "logits" (N×K) and every one of ``own_scorers`` (N, higher = more anomalous)."""

    def parameter_groups(self, model: nn.Module, params: dict) -> list[dict]:
        """Parameters with their weight decay: on matrices and kernels, not on biases and normalisation."""
        trained = [p for p in model.parameters() if p.requires_grad]
        return [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": params["weight_decay"]},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]


def dropout(z: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Inverted dropout that draws from ``generator``: torch's own draws from global state, and so cannot resume."""
    if probability == 0:
        return z
    kept = torch.rand(z.shape, generator=generator, device=z.device) >= probability
    return z * kept / (1 - probability)
