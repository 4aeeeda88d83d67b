"""In which order an epoch shows the training images: each once, or each class equally often."""

from __future__ import annotations

import torch
from torch import Tensor

SAMPLERS = ("uniform", "balanced")


def epoch_order(labels: Tensor, sampler: str, generator: torch.Generator) -> Tensor:
    """Indices (N) into ``labels`` (N, on the CPU, where the generator is, too) in the order of one epoch.

    uniform: every image once. balanced: every class that has images equally often, to within one draw, and within a class
    every image equally often, to within one; an epoch stays N draws long, so that learning rate and cost stay what they
    are. Classes of which less than their share is drawn show other images in each epoch. ValueError for another sampler.
    """
    if sampler == "uniform":
        return torch.randperm(len(labels), generator=generator)
    if sampler != "balanced":
        raise ValueError(f"unknown sampler {sampler!r}; one of {', '.join(SAMPLERS)}")
    classes = labels.unique()
    each, more = divmod(len(labels), len(classes))
    lucky = set(torch.randperm(len(classes), generator=generator)[:more].tolist())
    drawn = [_draw((labels == label).nonzero().flatten(), each + (place in lucky), generator)
             for place, label in enumerate(classes)]
    return torch.cat(drawn)[torch.randperm(len(labels), generator=generator)]


def _draw(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """``count`` of ``rows``, each as often as any other, to within one."""
    rounds = -(-count // len(rows))
    return torch.cat([rows[torch.randperm(len(rows), generator=generator)] for _ in range(rounds)])[:count]
