"""Gradients with respect to images, for scores that follow them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

GRADIENT_BATCH = 128  # images whose activations are held at once: what fits in training also fits in scoring


@contextlib.contextmanager
def differentiable(images: Tensor) -> Iterator[Tensor]:
    """A copy of the images whose gradients can be asked for, also where the caller is in inference mode."""
    with torch.inference_mode(False), torch.enable_grad():
        yield images.detach().clone().requires_grad_()


def in_parts(embed: Callable[[Tensor], dict[str, Tensor]], images: Tensor) -> dict[str, Tensor]:
    """``embed`` of ``GRADIENT_BATCH`` images at a time, its tensors joined; of a traced batch, whose size is not known, at once."""
    if isinstance(images.shape[0], torch.SymInt):
        return embed(images)
    parts = [embed(part) for part in images.split(GRADIENT_BATCH)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
