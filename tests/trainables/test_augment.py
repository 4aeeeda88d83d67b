"""Batched augmentation: each strength does what it says, and nothing at 0."""

from __future__ import annotations

import hashlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.augment import Augmenter, Normaliser, _beta, cutmix, cutout, jitter, mix, mixup

IDENTITY = Normaliser((0.0,), (1.0,))
IDENTITY.scale = IDENTITY.scale * 255  # float values equal the bytes


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def some_images(count=5, height=8, width=8, channels=1):
    return torch.randint(0, 256, (count, height, width, channels), generator=gen(9), dtype=torch.uint8)


def as_nchw(images):
    return images.permute(0, 3, 1, 2).float()


def test_normaliser_matches_the_formula_and_survives_a_constant_channel():
    images = some_images(channels=3)
    out = Normaliser((0.5, 0.4, 0.3), (0.2, 0.3, 0.0))(images)
    expected = (as_nchw(images) / 255 - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / torch.tensor([0.2, 0.3, 1.0])[:, None, None]
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


def eighths(images) -> str:
    return hashlib.sha256(images.contiguous().mul(8).round().to(torch.int16).numpy().tobytes()).hexdigest()[:16]


@pytest.mark.parametrize("off", [{}, {"cutmix": 0.0, "randaugment": 0.0, "randaugment_ops": 2}])
def test_the_older_policies_draw_what_they_drew_before_cutmix_and_randaugment(off):
    images = torch.randint(0, 256, (9, 8, 6, 3), generator=gen(9), dtype=torch.uint8)
    params = {"crop_padding": 0.25, "flip": 0.5, "cutout": 0.3, "colour_jitter": 0.2, "mixup": 0.4} | off
    on_device, host = gen(1), gen(2)
    out = Augmenter(images, IDENTITY, params, flips_keep_labels=True).batch(torch.arange(9), on_device)
    mixed, _ = mix(out, torch.arange(9) % 3, params, num_classes=3, generator=host)
    # written down from the code of before they were added
    assert (eighths(out), eighths(mixed)) == ("38f396f6514c897c", "b36c4395cb651dce")
    after = [torch.randint(0, 2**31, (1,), generator=generator).item() for generator in (on_device, host)]
    assert after == [1966620565, 854108747]


def coded(count=12, height=9, width=7):
    """Image n holds n everywhere in one channel and the pixel's place in the other."""
    place = torch.arange(float(height * width)).view(1, 1, height, width).expand(count, -1, -1, -1)
    number = torch.arange(float(count))[:, None, None, None].expand(-1, 1, height, width)
    return torch.cat([number, place], 1)


@pytest.mark.parametrize("seed", range(8))
def test_cutmix_replaces_one_box_and_mixes_labels_by_exactly_its_area(seed):
    images = coded()
    mixed, soft = cutmix(images, torch.arange(12), alpha=1.0, num_classes=12, generator=gen(seed))
    assert torch.equal(mixed[:, 1], images[:, 1]), "pixels must keep their place"
    for n in range(12):
        whose = mixed[n, 0].long()
        others = set(whose.flatten().tolist()) - {n}
        assert len(others) <= 1
        for owner in {n, *others}:
            assert soft[n, owner].item() == pytest.approx((whose == owner).float().mean().item(), abs=1e-6)
        assert soft[n].sum().item() == pytest.approx(1.0)
    boxes = {tuple((image[0] != n).nonzero().flatten().tolist()) for n, image in enumerate(mixed)} - {()}
    assert len(boxes) <= 1, "one box for the batch"
    if boxes:
        points = torch.tensor(boxes.pop()).view(-1, 2)
        sides = points.amax(0) - points.amin(0) + 1
        assert len(points) == sides.prod(), "a box without holes"


def test_cutmix_is_a_naive_loop_with_the_same_box():
    height, width, count = 16, 12, 6
    images = torch.randn(count, 3, height, width, generator=gen(1))
    mixed, soft = cutmix(images, torch.tensor([0, 1, 2, 0, 1, 2]), alpha=0.8, num_classes=3, generator=gen(4))
    replay = gen(4)
    share = (1 - _beta(0.8, replay)) ** 0.5
    y, x = torch.rand(2, generator=replay, dtype=torch.float64).tolist()
    other = torch.randperm(count, generator=replay).tolist()
    tall, wide, y, x = int(height * share), int(width * share), int(height * y), int(width * x)
    rows, columns = range(y - tall // 2, y - tall // 2 + tall), range(x - wide // 2, x - wide // 2 + wide)
    area = sum(i in rows and j in columns for i in range(height) for j in range(width)) / (height * width)
    assert 0 < area < 1
    for n in range(count):
        for i in range(height):
            for j in range(width):
                source = other[n] if i in rows and j in columns else n
                assert torch.equal(mixed[n, :, i, j], images[source, :, i, j])
        expected = [0.0, 0.0, 0.0]
        expected[n % 3] += 1 - area
        expected[other[n] % 3] += area
        assert soft[n].tolist() == pytest.approx(expected)


def test_cutmix_box_has_on_average_less_than_the_area_of_its_draw_by_what_the_border_takes():
    images = coded(2, 32, 32)
    areas = []
    for seed in range(300):
        _, soft = cutmix(images, torch.arange(2), alpha=1.0, num_classes=2, generator=gen(seed))
        if soft[0, 1] > 0:
            areas.append(soft[0, 1].item())
    # λ is uniform; of a box of side s about a uniform centre, (1 − s/4)² lies inside: ∫ u (1 − √u/4)² du = 0.32
    assert sum(areas) / len(areas) == pytest.approx(0.32, abs=0.05)
    assert 120 < len(areas) < 180, "of two images the permutation swaps in half of all batches"


def test_mix_does_what_is_asked_and_passes_untouched_targets_through():
    images, targets = torch.randn(6, 1, 8, 8, generator=gen()), torch.arange(6)
    generator = gen(1)
    before = generator.get_state()
    for params in ({}, {"mixup": 0.0, "cutmix": 0.0}):
        same, labels = mix(images, targets, params, num_classes=6, generator=generator)
        assert same is images and labels is targets and torch.equal(generator.get_state(), before)
    for kind in (mixup, cutmix):
        out = mix(images, targets, {kind.__name__: 0.7}, num_classes=6, generator=gen(3))
        expected = kind(images, targets, alpha=0.7, num_classes=6, generator=gen(3))
        assert all(torch.equal(a, b) for a, b in zip(out, expected))


def test_mix_takes_one_of_two_for_each_batch_at_even_odds():
    images, generator, cut, mixed = coded(8), gen(5), 0, 0
    for _ in range(200):
        out, _ = mix(images, torch.arange(8), {"mixup": 1.0, "cutmix": 1.0}, num_classes=8, generator=generator)
        whole = bool((out[:, 0] == out[:, 0].round()).all())  # only mixup makes fractions of the images' numbers
        cut, mixed = cut + whole, mixed + (not whole)
    assert 75 < cut < 125 and cut + mixed == 200
