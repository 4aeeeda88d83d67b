"""Batched augmentation: each strength does what it says, and nothing at 0."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.augment import Augmenter, Normaliser, _beta, cutout, jitter, mixup

IDENTITY = Normaliser((0.0,), (1 / 255,))  # float values equal the bytes


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def some_images(count=5, height=8, width=8, channels=1):
    return torch.randint(0, 256, (count, height, width, channels), generator=gen(9), dtype=torch.uint8)


def as_nchw(images):
    return images.permute(0, 3, 1, 2).float()


def test_normaliser_matches_the_formula_and_survives_a_constant_channel():
    images = some_images(channels=3)
    out = Normaliser((0.5, 0.4, 0.3), (0.2, 0.3, 0.0))(images)
    expected = (as_nchw(images) / 255 - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / torch.tensor([0.2, 0.3, 1e-3])[:, None, None]
    assert torch.allclose(out, expected, rtol=1e-4, atol=1e-3)
    assert torch.isfinite(out).all()


def test_nothing_asked_is_nothing_done():
    images = some_images(channels=3)
    out = Augmenter(images, IDENTITY, {}, flips_keep_labels=True).batch(torch.tensor([3, 1]), gen())
    assert torch.allclose(out, as_nchw(images[[3, 1]]))
    assert out.is_contiguous(memory_format=torch.channels_last)


@settings(max_examples=25, deadline=None)
@given(height=st.integers(2, 12), width=st.integers(2, 12), padding=st.floats(0.01, 0.5), seed=st.integers(0, 99))
def test_crop_is_a_window_of_the_reflected_image(height, width, padding, seed):
    images = some_images(2, height, width)
    down, right = min(round(padding * height), height - 1), min(round(padding * width), width - 1)
    out = Augmenter(images, IDENTITY, {"crop_padding": padding}, flips_keep_labels=False).batch(torch.arange(2), gen(seed))
    padded = torch.nn.functional.pad(as_nchw(images), (right, right, down, down), mode="reflect")
    for i in range(2):
        windows = [padded[i, :, y : y + height, x : x + width] for y in range(2 * down + 1) for x in range(2 * right + 1)]
        assert any(torch.equal(out[i], window) for window in windows)


def test_crop_reaches_every_shift():
    images = some_images(1, 8, 8)
    augmenter = Augmenter(images, IDENTITY, {"crop_padding": 0.125}, flips_keep_labels=False)
    out = augmenter.batch(torch.zeros(400, dtype=torch.long), gen())
    assert len({tuple(image.flatten().tolist()) for image in out}) == 9


def test_flip_only_where_labels_allow_it():
    images, index = some_images(1), torch.zeros(200, dtype=torch.long)
    kept = Augmenter(images, IDENTITY, {"flip": 0.5}, flips_keep_labels=False).batch(index, gen())
    assert torch.equal(kept, as_nchw(images).expand(200, -1, -1, -1))
    flipped = Augmenter(images, IDENTITY, {"flip": 0.5}, flips_keep_labels=True).batch(index, gen())
    mirrored = sum(torch.equal(image, as_nchw(images)[0].flip(-1)) for image in flipped)
    assert 70 < mirrored < 130


def test_cutout_erases_a_square_of_the_asked_side():
    out = cutout(torch.ones(300, 2, 16, 16), 0.5, gen())
    erased = (out[:, 0] == 0).sum((1, 2))
    assert torch.equal(out[:, 0], out[:, 1])
    assert erased.max() == 64 and erased.min() >= 16  # 8×8, or a part of it at the border


def test_jitter_keeps_within_its_strength():
    images = torch.randn(50, 3, 8, 8, generator=gen())
    out = jitter(images, 0.3, gen(1))
    ratio = out.std((1, 2, 3)) / images.std((1, 2, 3))
    shift = out.mean((1, 2, 3)) - images.mean((1, 2, 3))
    assert 0.7 - 1e-4 < ratio.min() < ratio.max() < 1.3 + 1e-4 and ratio.std() > 0.05
    assert shift.abs().max() <= 0.3 + 1e-4 and shift.std() > 0.05


def test_mixup_mixes_images_and_labels_by_the_same_weight():
    images = torch.arange(6.0)[:, None, None, None].expand(6, 1, 2, 2)
    mixed, soft = mixup(images, torch.arange(6), alpha=1.0, num_classes=6, generator=gen(3))
    assert torch.allclose(soft.sum(1), torch.ones(6))
    assert torch.allclose(mixed[:, 0, 0, 0], soft @ torch.arange(6.0), atol=1e-5)  # image i holds the number i
    assert not torch.equal(mixed, images)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_beta_has_the_moments_of_beta(alpha):
    generator = gen(5)
    drawn = torch.tensor([_beta(alpha, generator) for _ in range(3000)])
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.03)
    assert drawn.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_the_generator_alone_decides():
    params = {"crop_padding": 0.25, "flip": 0.5, "cutout": 0.3, "colour_jitter": 0.3}
    augmenter = Augmenter(some_images(20), IDENTITY, params, flips_keep_labels=True)
    first, again, other = (augmenter.batch(torch.arange(20), gen(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
