"""What a method is: a network, a loss, and what it says about an image.

A plain method writes ``build``, ``loss`` and ``embed``. The other hooks have defaults, and are there for methods that
learn constants from the data, keep a buffer while they train, or consist of several networks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from trainables.data import View

#: Normalised image batches (N×C×H×W) of one set, in order; may be gone through more than once.
ImageBatches = Iterable[Tensor]


class Diverged(RuntimeError):
    """Loss or weights became NaN or infinite, or a method's own bound was passed: the trial has failed, and that is
    its outcome, not a crash."""


@dataclass(frozen=True, kw_only=True)
class MethodInfo:
    """Drives the documentation's table and the contract tests."""

    name: str
    title: str
    summary: str  # what defines it, in one sentence for the table
    paper: str
    year: int
    url: str
    needs: tuple[str, ...] = ()  # what it needs of images, in words for the table, such as "square images"
    pruning_safe: bool = True  # do early epochs tell late ones?
    relative_cost: float = 1.0  # of an epoch at the default configuration, against the classifier's; measured


class Method(ABC):
    """Stateless; everything learned lives in the module that ``build`` returns."""

    info: MethodInfo
    own_scorers: tuple[str, ...] = ()  # anomaly scores per image that ``embed`` gives beside z and logits
    trains_on: frozenset[str] = frozenset()  # synthetic outliers (trainables/synthetic.py) seen in training
    training_only: frozenset[str] = frozenset()  # names in the state dict that a finished model does without
    linear_head: bool = False  # logits = z · weightᵀ + bias exactly, and ``head`` gives them

    @abstractmethod
    def build(self, view_shape: tuple[int, int, int], num_classes: int, network: str, params: dict) -> nn.Module:
        """A fresh module for images of ``view_shape`` (H, W, C). Draws from torch's global generator, which the
        caller seeds and restores."""

    @abstractmethod
    def loss(
        self, model: nn.Module, images: Tensor, targets: Tensor, params: dict, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar to minimise, and its parts for the log.

        ``model``: one of ``members(model)``. ``images``: float N×C×H×W, augmented and normalised. ``targets``: int64
        N, or float N×K where mixup mixed them. ``generator``: the only source of randomness, on the images' device.
        May raise ``Diverged``.
        """

    @abstractmethod
    def embed(self, model: nn.Module, images: Tensor) -> dict[str, Tensor]:
        """"z" (N×D), "logits" (N×K) and every one of ``own_scorers`` (N, higher = more anomalous).

        Of one image the same in any company and at any time. Called in evaluation mode, as a rule under
        ``torch.inference_mode``: input gradients need ``torch.inference_mode(False)`` and a clone.
        """

    def logits(self, model: nn.Module, images: Tensor) -> Tensor:
        """The logits of ``embed`` alone, which every epoch's validation needs; override where that is cheaper."""
        return self.embed(model, images)["logits"]

    def prepare(self, model: nn.Module, view: View) -> None:
        """Once, before the first epoch: constants that the model takes from the nominal training images, kept in
        buffers. Called before a checkpoint is loaded, so it must not draw random numbers."""

    def complete(self, model: nn.Module, *, train: ImageBatches, validation: ImageBatches, params: dict) -> None:
        """Once, after the last epoch, in evaluation mode without gradients: what scoring needs to know of the nominal
        training and validation images, kept in buffers (``Bank`` for one of any length). Draws nothing."""

    def members(self, model: nn.Module) -> list[nn.Module]:
        """The networks that train apart, each on its own order and augmentation of the images; one for most methods."""
        return [model]

    def clipped(self, model: nn.Module) -> list[nn.Module]:
        """The parts whose gradient norms are clipped, each by itself."""
        return self.members(model)

    def adjust_gradients(self, model: nn.Module, params: dict) -> None:
        """Between the backward pass and the optimiser's step: may change the gradients in place."""

    def head(self, model: nn.Module) -> tuple[Tensor, Tensor]:
        """Weight (K×D) and bias (K) of a ``linear_head``."""
        raise NotImplementedError(f"{self.info.name} has no linear head")

    def latent_parts(self, params: dict) -> int:
        """Of how many networks' latents, of equal width, z is the concatenation: an oracle is fitted to each, too."""
        return 1

    def parameter_groups(self, model: nn.Module, params: dict) -> list[dict]:
        """Parameters with their weight decay: on matrices and kernels, not on biases and normalisation."""
        trained = [p for p in model.parameters() if p.requires_grad]
        return [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": params["weight_decay"]},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]


class Bank(nn.Module):
    """A tensor of any length kept with the weights: loading takes the length that was stored."""

    def __init__(self, *shape: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(*shape, dtype=dtype))

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        stored = state_dict.get(prefix + "rows")
        if stored is not None:
            self.rows = self.rows.new_empty(stored.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)


def dropout(z: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Inverted dropout that draws from ``generator``: torch's own draws from global state, and so cannot resume."""
    if probability == 0:
        return z
    kept = torch.rand(z.shape, generator=generator, device=z.device) >= probability
    return z * kept / (1 - probability)
