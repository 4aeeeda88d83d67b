"""Synthetic outliers: what each transform keeps and changes, and the signal made of them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.synthetic import DEFAULT_TRANSFORMS, TRANSFORMS, synthetic_outlier_auroc


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def images(count=6, height=8, width=8, channels=1):
    return torch.randint(0, 256, (count, height, width, channels), generator=gen(7), dtype=torch.uint8)


@pytest.mark.parametrize("name", TRANSFORMS)
@settings(max_examples=10, deadline=None)
@given(height=st.integers(4, 20), width=st.integers(4, 20), channels=st.sampled_from([1, 3]), count=st.integers(2, 5))
def test_every_transform_gives_fresh_images_of_the_same_kind(name, height, width, channels, count):
    before = images(count, height, width, channels)
    kept = before.clone()
    after = TRANSFORMS[name](before, gen())
    assert after.dtype == torch.uint8 and after.shape == before.shape
    assert torch.equal(before, kept), "the input was changed"
    assert not torch.equal(after, before)
    assert torch.equal(after, TRANSFORMS[name](before, gen())), "not decided by the generator alone"


@pytest.mark.parametrize(("side", "tile"), [(8, 4), (32, 8)])
def test_jigsaw_moves_whole_tiles_and_leaves_no_image_alone(side, tile):
    before = images(300, side, side)
    after = TRANSFORMS["jigsaw"](before, gen())

    def tiles(image):
        return sorted(tuple(image[y : y + tile, x : x + tile].flatten().tolist())
                      for y in range(0, side, tile) for x in range(0, side, tile))

    assert all(tiles(a) == tiles(b) for a, b in zip(after[:20], before[:20]))
    assert (after != before).flatten(1).any(1).all()


def test_blur_smooths_but_keeps_the_brightness():
    before = images(20, 32, 32, 3)
    after = TRANSFORMS["blur"](before, gen())
    assert after.float().std() < 0.3 * before.float().std()
    assert after.float().mean().item() == pytest.approx(before.float().mean().item(), abs=2)
    flat = torch.full((1, 8, 8, 1), 77, dtype=torch.uint8)
    assert torch.equal(TRANSFORMS["blur"](flat, gen()), flat)


def test_noise_has_the_asked_deviation():
    grey = torch.full((10, 32, 32, 3), 128, dtype=torch.uint8)
    assert TRANSFORMS["noise"](grey, gen()).float().std().item() == pytest.approx(0.15 * 255, rel=0.03)


def test_mixup_and_cutmix_never_pair_an_image_with_itself():
    constant = (torch.arange(8, dtype=torch.uint8) * 10)[:, None, None, None].expand(8, 4, 4, 1).contiguous()
    mixed = TRANSFORMS["mixup"](constant, gen())
    assert (mixed[:, 0, 0, 0] != constant[:, 0, 0, 0]).all()
    cut = TRANSFORMS["cutmix"](constant, gen())
    assert ((cut != constant).flatten(1).sum(1) == 8).all()  # half of 16 pixels


def test_rotation_turns_by_quarters():
    before = images(40, 6, 6)
    for was, now in zip(before, TRANSFORMS["rotation"](before, gen())):
        assert sum(torch.equal(now, torch.rot90(was, k, (0, 1))) for k in (1, 2, 3)) == 1


def brightness_logits(batch):
    """Sure of dark images, unsure of bright ones."""
    dark = 255 - batch.float().mean((1, 2, 3))
    return torch.stack([dark, -dark], 1)


def test_the_signal_is_one_where_outliers_lose_all_confidence():
    def logits_of(batch):  # neighbouring pixels differ in noise alone
        rough = (batch[:, 1:].float() - batch[:, :-1].float()).abs().mean((1, 2, 3))
        return torch.stack([-rough, -rough - 1], 1)

    smooth = torch.full((30, 8, 8, 1), 128, dtype=torch.uint8)
    value = synthetic_outlier_auroc(logits_of, smooth, logits_of(smooth), seed=0, transforms=("noise",))
    assert value == 1.0
    blurred = synthetic_outlier_auroc(logits_of, smooth, logits_of(smooth), seed=0, transforms=("blur",))
    assert blurred == 0.5  # nothing changed: all ties


def test_the_signal_is_the_mean_over_its_transforms_and_repeats():
    batch = images(40)
    nominal = brightness_logits(batch)
    alone = [synthetic_outlier_auroc(brightness_logits, batch, nominal, seed=3, transforms=(t,)) for t in DEFAULT_TRANSFORMS]
    together = synthetic_outlier_auroc(brightness_logits, batch, nominal, seed=3)
    assert together == pytest.approx(sum(alone) / 3)
    assert math.isnan(synthetic_outlier_auroc(brightness_logits, batch, nominal, seed=3, transforms=()))
