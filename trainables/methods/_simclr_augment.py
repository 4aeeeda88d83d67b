"""SimCLR's augmentation of whole batches on the device: mirror, resized crop, colour jitter, grey (Chen et al. 2020).

All of the colour part, brightness to grey, is one affine map of the channels per image, a single small matrix product.
For that, hue turns about the grey axis instead of in HSV: the same at thirds of the circle and close to it between,
at a fraction of the cost. The order is fixed, where SimCLR shuffles it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.augment import deviations
from trainables.randaugment import LUMINANCE

JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}  # at strength 1
JITTER_PROBABILITY = 0.8
ASPECT = 4 / 3  # largest ratio of a crop's sides, before it is resized
LUMA = {1: (1.0,), 3: LUMINANCE}


class SimCLRAugment(nn.Module):
    """Normalised N×C×H×W → an augmented batch of the same shape, in channels_last layout.

    Colours are changed in 0..1, for which ``mean`` and ``std`` are kept; ``flips`` says whether mirror images keep
    their labels. All three come from the view, by ``describe``.
    """

    def __init__(self, channels: int, params: dict) -> None:
        super().__init__()
        self.smallest, self.strength, self.grey = params["crop_scale"], params["jitter_strength"], params["grey"]
        self.register_buffer("mean", torch.full((channels,), 0.5))
        self.register_buffer("std", torch.full((channels,), 0.25))
        self.register_buffer("flips", torch.tensor(False))

    def describe(self, view) -> None:
        self.mean.copy_(torch.as_tensor(view.mean))
        self.std.copy_(deviations(view.std))
        self.flips.fill_(view.flips_keep_labels)

    @torch.no_grad()
    def forward(self, images: Tensor, generator: torch.Generator) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):  # which would round places and colours to bf16
            images = resized_crop(images, *self.draw_crops(images, generator))
            mean, std = self.mean[:, None], self.std[:, None]
            pixels = images.flatten(2) * std + mean
            matrix, offset = self.draw_colours(pixels.mean(2), generator)
            pixels = torch.baddbmm(offset, matrix, pixels).clamp_(0, 1)
            return ((pixels - mean) / std).view_as(images).contiguous(memory_format=torch.channels_last)

    def mirrored(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Every second image by chance as its mirror image, where that keeps the label.

        Apart from the rest, since it must come before a shift: the mirror image of a quarter turn to the left is a
        quarter turn to the right.
        """
        flip = (torch.rand(len(images), generator=generator, device=images.device) < 0.5) & self.flips
        return torch.where(flip[:, None, None, None], images.flip(3), images)

    def draw_crops(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sides as fractions of the image's and centres in −1..1, both N×2 as (x, y). A side that would pass the
        image's is cut to it."""
        count, _, height, width = images.shape
        area, aspect, x, y = torch.rand((4, count), generator=generator, device=images.device)
        area = self.smallest + (1 - self.smallest) * area
        aspect = ASPECT ** (2 * aspect - 1) * height / width
        sides = torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()], 1).clamp(max=1)
        return sides, (2 * torch.stack([x, y], 1) - 1) * (1 - sides)

    def draw_colours(self, means: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The map of each image's colours, N×C×C and N×C×1, given the means of its channels (N×C)."""
        count, device = len(means), means.device
        brightness, contrast, saturation, hue, jittered, greyed = torch.rand(
            (6, count), generator=generator, device=device
        )
        strength = torch.where(jittered < JITTER_PROBABILITY, self.strength, 0.0)

        def around_zero(uniform: Tensor, part: str) -> Tensor:
            return (2 * uniform - 1) * strength * JITTER[part]

        return colour_map(
            means,
            brightness=1 + around_zero(brightness, "brightness"),
            contrast=1 + around_zero(contrast, "contrast"),
            saturation=1 + around_zero(saturation, "saturation"),
            hue=around_zero(hue, "hue"),
            grey=greyed < self.grey,
        )


def colour_map(
    means: Tensor, *, brightness: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor, grey: Tensor
) -> tuple[Tensor, Tensor]:
    """Matrix (N×C×C) and offset (N×C×1) that change brightness, contrast, saturation, hue and grey in that order.

    Factors (N) are 1 for no change, ``hue`` is in turns, contrast is about the image's mean luma, and ``grey`` is
    boolean. An image of one channel has neither hue nor saturation. ``means``: of each channel, N×C.
    """
    channels = means.shape[1]
    luma = means.new_tensor(LUMA[channels])
    # every later step maps grey to the same grey, so contrast's offset goes through unchanged
    offset = ((1 - contrast) * brightness * (means * luma).sum(1))[:, None, None].expand(-1, channels, 1)
    gain = (brightness * contrast)[:, None, None]
    if channels == 1:
        return gain, offset
    to_grey = luma.expand(channels, channels)
    saturation = saturation[:, None, None]
    matrix = saturation * torch.eye(channels, device=means.device) + (1 - saturation) * to_grey
    matrix = turn(hue) @ matrix
    return gain * torch.where(grey[:, None, None], to_grey @ matrix, matrix), offset


def turn(hue: Tensor) -> Tensor:
    """Rotation of RGB about the grey axis by ``hue`` turns (N): N×3×3; a third takes red to green."""
    angle = (2 * math.pi * hue)[:, None, None]
    ones = torch.ones(3, 3, device=hue.device)
    across = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=hue.device)
    along = torch.eye(3, device=hue.device)
    return angle.cos() * along + (1 - angle.cos()) / 3 * ones + angle.sin() / math.sqrt(3) * across


def resized_crop(images: Tensor, sides: Tensor, centres: Tensor) -> Tensor:
    """The part of each image with ``sides`` (fractions of its own) about ``centres`` (−1..1), at the image's size.

    Both N×2 as (x, y). Bilinear.
    """
    with torch.autocast(images.device.type, enabled=False):
        theta = torch.cat([torch.diag_embed(sides), centres[:, :, None]], 2)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        return F.grid_sample(images.float(), grid, padding_mode="reflection", align_corners=False)


def fixed_crops(images: Tensor, count: int, *, area: float = 0.54) -> list[Tensor]:
    """``count`` crops of ``area`` at the same spread-out places for every image; 1 is the whole image.

    Tack et al. average ten crops at random places; an image's score must not depend on chance or company.
    """
    if count == 1:
        return [images]
    side = math.sqrt(area)
    crops = []
    for index in range(1, count + 1):  # the plane's golden ratio: evenly spread for any count
        x, y = (2 * (index * step % 1) - 1 for step in (0.7548776662466927, 0.5698402909980532))
        place = images.new_tensor([x, y], dtype=torch.float32) * (1 - side)
        sides = torch.full_like(place, side)
        crops.append(resized_crop(images, sides.expand(images.shape[0], 2), place.expand(images.shape[0], 2)))
    return crops
