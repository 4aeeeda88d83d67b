"""Augmentation of whole batches on the training device, from uint8 to normalised float.

A per-image loader feeds about 3,000 images a second and core, this about ten times as many. Every strength is a
hyperparameter; 0 switches it off and costs nothing.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.randaugment import randaugment

#: Below this a channel does not vary: ``study.prepare`` writes 1/255 for a constant one.
CONSTANT = 1.5 / 255


def deviations(std) -> Tensor:
    """Standard deviations (C) to divide by, float32: 1 for a channel that is constant, whose least change in training
    or in a score would otherwise weigh more than all there is to see in the others."""
    std = torch.as_tensor(std, dtype=torch.float32)
    return torch.where(std < CONSTANT, 1.0, std)


class Normaliser:
    """uint8 N×H×W×C → float N×C×H×W in channels_last layout, (x/255 − mean)/std per channel."""

    def __init__(self, mean, std, device: torch.device | str = "cpu") -> None:
        std = deviations(std)
        self.scale = (1 / (255 * std)).to(device)
        self.shift = (-torch.as_tensor(mean, dtype=torch.float32) / std).to(device)

    def __call__(self, images: Tensor) -> Tensor:
        return images.to(torch.float32).mul_(self.scale).add_(self.shift).permute(0, 3, 1, 2)


class Augmenter:
    """Holds the training images, padded once, and hands out augmented batches."""

    def __init__(self, images: Tensor, normalise: Normaliser, params: dict, *, flips_keep_labels: bool) -> None:
        """``images``: uint8 N×H×W×C on the training device."""
        self.normalise, self.params = normalise, params
        self.side = (images.shape[1], images.shape[2])
        self.pad = [round(params.get("crop_padding", 0.0) * side) for side in self.side]
        self.pad = [min(pad, side - 1) for pad, side in zip(self.pad, self.side)]  # reflection has no more to give
        self.flip = params.get("flip", 0.0) if flips_keep_labels else 0.0
        down, right = self.pad
        if down or right:
            images = F.pad(images.permute(0, 3, 1, 2), (right, right, down, down), mode="reflect").permute(0, 2, 3, 1)
        self.images = images.contiguous()
        # every shift of every image as a view: N × shifts × shifts × C × H × W without a copy
        self.windows = self.images.unfold(1, self.side[0], 1).unfold(2, self.side[1], 1)

    def batch(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """Images ``index``, cropped, flipped, put through RandAugment, normalised, jittered and erased: float N×C×H×W,
        channels_last."""
        count, device = len(index), self.images.device
        down, right = (torch.randint(0, 2 * pad + 1, (count,), generator=generator, device=device) for pad in self.pad)
        images = self.windows[index, down, right].permute(0, 2, 3, 1)  # N×H×W×C
        if self.flip:
            flipped = torch.rand(count, generator=generator, device=device) < self.flip
            images = torch.where(flipped[:, None, None, None], images.flip(2), images)
        if self.params.get("randaugment", 0.0):
            images = randaugment(images, self.params["randaugment"], generator,
                                 operations=round(self.params.get("randaugment_ops", 1)))
        images = self.normalise(images)
        if self.params.get("colour_jitter", 0.0):
            images = jitter(images, self.params["colour_jitter"], generator)
        if self.params.get("cutout", 0.0):
            images = cutout(images, self.params["cutout"], generator)
        return images.contiguous(memory_format=torch.channels_last)


def jitter(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Contrast and brightness of each image changed by up to ± ``strength`` (of contrast, of one deviation)."""
    shape = (2, len(images), 1, 1, 1)
    contrast, brightness = (2 * torch.rand(shape, generator=generator, device=images.device) - 1) * strength
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * (1 + contrast) + mean + brightness


def cutout(images: Tensor, fraction: float, generator: torch.Generator) -> Tensor:
    """A square of ``fraction`` of the side set to the mean (0), its centre anywhere (DeVries & Taylor 2017)."""
    count, _, height, width = images.shape
    centre = torch.rand((2, count, 1), generator=generator, device=images.device)
    near = []
    for side, at in zip((height, width), centre):
        place = (torch.arange(side, device=images.device) + 0.5) / side
        near.append((place - at).abs() < fraction / 2)
    return images.masked_fill((near[0][:, :, None] & near[1][:, None, :])[:, None], 0.0)


def mix(
    images: Tensor, targets: Tensor, params: dict, *, num_classes: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mixup where ``params["mixup"]``, cutmix where ``params["cutmix"]`` (each an alpha), for each batch one of the two
    at even odds where both, as timm does; nothing where neither, and then ``targets`` stay class indices.

    ``images``: normalised N×C×H×W; ``targets``: int64 N; ``generator``: on the CPU, whatever the images' device.
    """
    alphas = {mixup: params.get("mixup", 0.0), cutmix: params.get("cutmix", 0.0)}
    offered = [kind for kind, alpha in alphas.items() if alpha]
    if not offered:
        return images, targets
    # drawn only for a choice: with one of them on, the numbers are those of a study that knew no other
    which = torch.randint(0, 2, (1,), generator=generator).item() if len(offered) == 2 else 0
    kind = offered[which]
    return kind(images, targets, alpha=alphas[kind], num_classes=num_classes, generator=generator)


def mixup(
    images: Tensor, targets: Tensor, *, alpha: float, num_classes: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Each batch mixed with a permutation of itself by one weight from Beta(alpha, alpha) (Zhang et al. 2018).

    Returns images and soft targets (N×num_classes). torch's Beta takes no generator, so it is drawn by Jöhnk's
    algorithm on the CPU.
    """
    weight = _beta(alpha, generator)
    other = torch.randperm(len(images), generator=generator, device=generator.device).to(images.device)
    soft = F.one_hot(targets, num_classes).float()
    return images.lerp(images[other], 1 - weight), soft.lerp(soft[other], 1 - weight)


def cutmix(
    images: Tensor, targets: Tensor, *, alpha: float, num_classes: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A box of each image replaced by another image's, a permutation of the batch (Yun et al. 2019, arXiv 1905.04899).

    The box, one for the batch, has the image's proportions, the area 1 − λ with λ from Beta(alpha, alpha), and its
    centre anywhere, so the border may cut it. Returns images and soft targets (N×num_classes), mixed by the area that
    was in fact replaced.
    """
    height, width = images.shape[2:]
    share = math.sqrt(1 - _beta(alpha, generator))
    centre = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
    other = torch.randperm(len(images), generator=generator).to(images.device)
    (top, bottom), (left, right) = (_span(side, share, at) for side, at in zip((height, width), centre))
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images[other, :, top:bottom, left:right]
    soft = F.one_hot(targets, num_classes).float()
    replaced = (bottom - top) * (right - left) / (height * width)
    return mixed, soft.lerp(soft[other], replaced)


def _span(side: int, share: float, centre: float) -> tuple[int, int]:
    """Start and end of ``share`` of ``side`` about ``centre`` (0..1), in pixels, cut at the border."""
    length, at = int(side * share), int(side * centre)
    return max(0, at - length // 2), min(side, at - length // 2 + length)


def _beta(alpha: float, generator: torch.Generator) -> float:
    """One draw from Beta(alpha, alpha), alpha ≤ 1 by Jöhnk's rejection, above by the mean of order statistics."""
    for _ in range(10_000):
        u, v = torch.rand(2, generator=generator, device=generator.device, dtype=torch.float64).tolist()
        if alpha > 1:  # rejection from the uniform: the density is highest at 1/2
            if v <= (4 * u * (1 - u)) ** (alpha - 1):
                return u
            continue
        x, y = u ** (1 / alpha), v ** (1 / alpha)
        if 0 < x + y <= 1:
            return x / (x + y)
    return 1.0  # alpha so near 0 that both powers underflow: no mixing
