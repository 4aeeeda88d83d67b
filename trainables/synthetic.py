"""Nominal images made abnormal: the outliers one may tune on without having seen an anomaly.

Every transform takes and gives uint8 N×H×W×C and draws from the generator it is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

DEFAULT_TRANSFORMS = ("jigsaw", "noise", "blur")


def unseen_transforms(trains_on: frozenset[str]) -> tuple[str, ...]:
    """The default ones but those that a method was trained to tell apart: these say nothing of how it takes what it has
    not seen."""
    return tuple(name for name in DEFAULT_TRANSFORMS if name not in trains_on)


def jigsaw(images: Tensor, generator: torch.Generator) -> Tensor:
    """Tiles of a 4×4 grid (2×2 below 16 pixels) shuffled, differently for each image, never left as they were."""
    height, width = images.shape[1:3]
    grid = 4 if min(height, width) >= 16 else 2
    tile_h, tile_w = height // grid, width // grid
    out = images.clone()
    inner = images[:, : tile_h * grid, : tile_w * grid]
    tiles = inner.unflatten(1, (grid, tile_h)).unflatten(3, (grid, tile_w)).transpose(2, 3).flatten(1, 2)
    order = torch.rand(len(images), grid * grid, generator=generator, device=images.device).argsort(1)
    still = (order == torch.arange(grid * grid, device=images.device)).all(1)
    order[still] = order[still].roll(1, dims=1)
    tiles = tiles[torch.arange(len(images), device=images.device)[:, None], order]
    shuffled = tiles.unflatten(1, (grid, grid)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
    out[:, : tile_h * grid, : tile_w * grid] = shuffled
    return out


def noise(images: Tensor, generator: torch.Generator, *, deviation: float = 0.15) -> Tensor:
    """Gaussian noise of ``deviation`` (of the range 0..1) on every value."""
    drawn = torch.randn(images.shape, generator=generator, device=images.device)
    return _to_uint8(images + 255 * deviation * drawn)


def blur(images: Tensor, generator: torch.Generator | None = None, *, fraction: float = 1 / 16) -> Tensor:
    """Gaussian blur with a deviation of ``fraction`` of the shorter side, at least 0.8 pixels."""
    sigma = max(0.8, fraction * min(images.shape[1:3]))
    radius = min(math.ceil(2.5 * sigma), min(images.shape[1:3]) - 1)
    kernel = torch.exp(-torch.arange(-radius, radius + 1, device=images.device).float().square() / (2 * sigma**2))
    kernel /= kernel.sum()
    x = F.pad(images.permute(0, 3, 1, 2).float(), (radius,) * 4, mode="reflect")
    x = torch.einsum("nchwk,k->nchw", x.unfold(3, len(kernel), 1), kernel)
    x = torch.einsum("nchwk,k->nchw", x.unfold(2, len(kernel), 1), kernel)
    return _to_uint8(x.permute(0, 2, 3, 1))


def mixup(images: Tensor, generator: torch.Generator) -> Tensor:
    """The even mean of each image and another."""
    return _to_uint8((images.float() + images[_others(images, generator)].float()) / 2)


def cutmix(images: Tensor, generator: torch.Generator) -> Tensor:
    """Another image's pixels in one half, left, right, upper or lower."""
    count, height, width, _ = images.shape
    which = torch.randint(0, 4, (count,), generator=generator, device=images.device)[:, None, None]
    rows = (torch.arange(height, device=images.device) < height // 2)[None, :, None]
    columns = (torch.arange(width, device=images.device) < width // 2)[None, None, :]
    foreign = torch.where(which < 2, rows ^ (which == 1), columns ^ (which == 3)).expand(count, height, width)
    return torch.where(foreign[..., None], images[_others(images, generator)], images)


def rotation(images: Tensor, generator: torch.Generator) -> Tensor:
    """A quarter, half or three-quarter turn (a half only, where images are not square)."""
    if images.shape[1] != images.shape[2]:
        return torch.rot90(images, 2, (1, 2))
    turns = torch.randint(1, 4, (len(images),), generator=generator, device=images.device)
    out = images.clone()
    for k in (1, 2, 3):
        out[turns == k] = torch.rot90(images[turns == k], k, (1, 2))
    return out


TRANSFORMS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "jigsaw": jigsaw, "noise": noise, "blur": blur, "mixup": mixup, "cutmix": cutmix, "rotation": rotation,
}


def synthetic_outlier_auroc(
    logits_of: Callable[[Tensor], Tensor],
    images: Tensor,
    nominal_logits: Tensor,
    *,
    seed: int,
    transforms: tuple[str, ...] = DEFAULT_TRANSFORMS,
) -> float:
    """Mean over ``transforms`` of the AUROC of max logit (negated), transformed against untouched images.

    ``logits_of``: uint8 images → logits. ``images``: validation images, uint8 N×H×W×C; ``nominal_logits``: those of
    the untouched ones. NaN when no transform is left.
    """
    import numpy as np

    from analysis.metrics import auroc

    nominal = -nominal_logits.amax(1)
    values = []
    for name in transforms:
        generator = torch.Generator(images.device).manual_seed(_transform_seed(seed, name))
        outliers = -logits_of(TRANSFORMS[name](images, generator)).amax(1)
        scores = torch.cat([nominal, outliers]).double().cpu().numpy()
        values.append(auroc(scores, np.arange(len(scores)) >= len(nominal)))
    return float(np.mean(values)) if values else math.nan


def _transform_seed(seed: int, name: str) -> int:
    """By name, so that another list of transforms leaves each one's images as they were."""
    import hashlib

    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big") >> 1


def _others(images: Tensor, generator: torch.Generator) -> Tensor:
    """For each image the index of another (of itself only if it is alone)."""
    order = torch.randperm(len(images), generator=generator, device=images.device)
    other = torch.empty_like(order)
    other[order] = order.roll(1)
    return other


def _to_uint8(images: Tensor) -> Tensor:
    return images.round_().clamp_(0, 255).to(torch.uint8)
