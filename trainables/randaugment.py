"""RandAugment on whole batches (Cubuk et al. 2019, arXiv 1909.13719): every image gets operations of its own.

The paper's fourteen operations and largest strengths, on pixel values before normalisation. It differs from the paper
in three ways, all of which matter to a search or to small images:

- the magnitude runs from 0 to 1 (the paper's 0 to 30, or 0 to 10), and towards 0 every operation becomes the identity,
  automatic contrast and equalisation too, so that the parameter has no jump at its end;
- what a shear, shift or turn brings in from outside is the image reflected, not grey, as in this package's crop;
- geometric operations interpolate bilinearly.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in Pillow
SHEAR, SHIFT, TURN = 0.3, 0.3, 30.0  # at magnitude 1: tangent, fraction of the side, degrees
CHANGE = 0.9  # brightness, contrast, saturation and sharpness times 1 ± this
LOST_BITS = 4  # posterise keeps 8 − this

# ``images``: float N×C×H×W of 0..255; ``level``: float N of −1..1, the magnitude with a sign. Both signs say the same
# to an operation without direction.


def brightness(images: Tensor, level: Tensor) -> Tensor:
    return _blend(torch.zeros_like(images), images, level)


def contrast(images: Tensor, level: Tensor) -> Tensor:
    return _blend(_grey(images).mean((2, 3), keepdim=True).round(), images, level)


def saturation(images: Tensor, level: Tensor) -> Tensor:
    """Of colour images only."""
    return _blend(_grey(images), images, level)


def sharpness(images: Tensor, level: Tensor) -> Tensor:
    """Away from, or towards, a blur with [[1, 1, 1], [1, 5, 1], [1, 1, 1]] / 13; the border stays."""
    blurred = images.clone()
    if min(images.shape[2:]) >= 3:
        across = images[..., :-2] + images[..., 1:-1] + images[..., 2:]
        box = across[..., :-2, :] + across[..., 1:-1, :] + across[..., 2:, :]
        blurred[..., 1:-1, 1:-1] = (box + 4 * images[..., 1:-1, 1:-1]) / 13
    return _blend(blurred, images, level)


def posterise(images: Tensor, level: Tensor) -> Tensor:
    """Fewer bits a value: 8 at magnitude 0, 4 at 1."""
    step = 2.0 ** (LOST_BITS * level.abs()).round()[:, None, None, None]
    return (images / step).floor_().mul_(step)


def solarise(images: Tensor, level: Tensor) -> Tensor:
    """Values from a threshold on inverted: none at magnitude 0, all at 1."""
    threshold = 256 * (1 - level.abs())[:, None, None, None]
    return torch.where(images >= threshold, 255 - images, images)


def autocontrast(images: Tensor, level: Tensor) -> Tensor:
    """Each channel stretched to 0..255, blended in by the magnitude."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    stretched = torch.where(high > low, (images - low) * (255 / (high - low).clamp_min(1e-6)), images)
    return images.lerp(stretched, level.abs()[:, None, None, None])


def equalise(images: Tensor, level: Tensor) -> Tensor:
    """Each channel's histogram made flat, blended in by the magnitude. In whole numbers, as in Pillow, which leaves
    images of fewer than 256 pixels as they are."""
    values = images.round().long().flatten(2).flatten(0, 1)  # one row a channel of an image
    histogram = torch.zeros(len(values), 256, dtype=torch.long, device=images.device)
    histogram.scatter_add_(1, values, torch.ones_like(values))
    brightest = histogram.gather(1, values.amax(1, keepdim=True))
    step = (values.shape[1] - brightest) // 255
    before = histogram.cumsum(1) - histogram
    table = ((before + step // 2) // step.clamp_min(1)).clamp_(0, 255)
    table = torch.where(step > 0, table, torch.arange(256, device=images.device))
    flat = table.gather(1, values).view(images.shape).to(images.dtype)
    return images.lerp(flat, level.abs()[:, None, None, None])


def warp(images: Tensor, level: Tensor, kind: Tensor) -> Tensor:
    """One geometric operation an image; ``kind`` (N) indexes ``GEOMETRIC``. About the centre, in pixels."""
    height, width = images.shape[2:]
    angle = level * math.radians(TURN)
    one, zero = torch.ones_like(level), torch.zeros_like(level)
    shear_x, shear_y, shift_x, shift_y, turn = (torch.where(kind == k, one, zero) for k in range(len(GEOMETRIC)))
    cos, sin = turn * angle.cos() + (1 - turn), turn * angle.sin()
    # where an output pixel looks in the input; affine_grid counts half sides, hence the ratios
    across = [cos, (SHEAR * level * shear_x - sin) * height / width, 2 * SHIFT * level * shift_x]
    down = [(SHEAR * level * shear_y + sin) * width / height, cos, 2 * SHIFT * level * shift_y]
    theta = torch.stack([torch.stack(across, 1), torch.stack(down, 1)], 1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
COLOUR = {
    "identity": lambda images, level: images,
    "brightness": brightness,
    "contrast": contrast,
    "sharpness": sharpness,
    "posterise": posterise,
    "solarise": solarise,
    "autocontrast": autocontrast,
    "equalise": equalise,
    "saturation": saturation,  # last, because grey images do without
}


def operation_names(channels: int) -> list[str]:
    """In the order of the numbers that ``randaugment`` draws."""
    names = [*GEOMETRIC, *COLOUR]
    return names if channels == 3 else names[:-1]


def apply(images: Tensor, operation: Tensor, level: Tensor) -> Tensor:
    """``operation`` (N, indices into ``operation_names``) with ``level`` (N, −1..1) to float N×C×H×W of 0..255."""
    names = operation_names(images.shape[1])
    order = operation.argsort(stable=True)  # by operation, so that each runs once; one wait for a GPU, for the counts
    counts = torch.bincount(operation, minlength=len(names)).tolist()
    sorted_images, level = images[order], level[order]
    warped = sum(counts[: len(GEOMETRIC)])
    parts = [warp(sorted_images[:warped], level[:warped], operation[order[:warped]])] if warped else []
    rest = counts[len(GEOMETRIC) :]
    for name, part, at in zip(COLOUR, sorted_images[warped:].split(rest), level[warped:].split(rest)):
        if len(part):
            parts.append(COLOUR[name](part, at))
    out = torch.empty_like(images)
    out[order] = torch.cat(parts).clamp_(0, 255)
    return out


def randaugment(images: Tensor, magnitude: float, generator: torch.Generator, *, operations: int = 1) -> Tensor:
    """``operations`` draws of an operation for each image, with replacement, each with a random sign.

    ``images``: N×H×W×C with C 1 or 3, values 0..255. Returns float N×H×W×C in that range (contiguous as N×C×H×W).
    ``magnitude``: 0 (nothing) to 1 (the paper's largest), the same for all images, as in the paper.
    """
    x = images.permute(0, 3, 1, 2).to(torch.float32).contiguous()
    count, names = len(x), operation_names(x.shape[1])
    for _ in range(operations if magnitude else 0):
        operation = torch.randint(0, len(names), (count,), generator=generator, device=x.device)
        sign = 2.0 * torch.randint(0, 2, (count,), generator=generator, device=x.device) - 1
        x = apply(x, operation, magnitude * sign)
    return x.permute(0, 2, 3, 1)


def _grey(images: Tensor) -> Tensor:
    if images.shape[1] == 1:
        return images
    weights = images.new_tensor(LUMINANCE)[:, None, None]
    return (images * weights).sum(1, keepdim=True)


def _blend(degenerate: Tensor, images: Tensor, level: Tensor) -> Tensor:
    """Pillow's enhancement: 1 keeps the image, 0 gives the degenerate one, more than 1 goes beyond."""
    factor = (1 + CHANGE * level)[:, None, None, None]
    return degenerate + factor * (images - degenerate)
