"""RandAugment's operations against Pillow and torchvision, and its draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as V

from trainables import randaugment as ra
from trainables.augment import Augmenter, Normaliser

SHAPES = [(3, 20, 16), (1, 8, 8), (3, 12, 12)]
LEVELS = [-1.0, -0.4, 0.3, 1.0]
NAMES = ra.operation_names(3)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def smooth_images(shape, count=2):
    """Bytes with light and dark places, as pictures have, but none of the darkest and lightest; uint8 N×C×H×W."""
    coarse = torch.rand(count, shape[0], 4, 4, generator=gen(5)) * 160 + 40
    fine = torch.nn.functional.interpolate(coarse, shape[1:], mode="bicubic")
    fine += 8 * torch.randn(1, *shape, generator=gen(6))
    return fine.clamp(0, 255).to(torch.uint8)


def ours(name, images, level):
    """One operation through the public way in."""
    operation = torch.full((len(images),), ra.operation_names(images.shape[1]).index(name))
    return ra.apply(images.float(), operation, torch.full((len(images),), level))


def enough_pixels(images):
    """Below 256, Pillow's equalisation, in whole numbers, changes nothing."""
    return images.shape[2] * images.shape[3] >= 256 + 20


REFERENCES = {  # torchvision's, on bytes, which it cuts to whole numbers now and then
    "identity": lambda x, m: x,
    "brightness": lambda x, m: V.adjust_brightness(x, 1 + 0.9 * m),
    "contrast": lambda x, m: V.adjust_contrast(x, 1 + 0.9 * m),
    "saturation": lambda x, m: V.adjust_saturation(x, 1 + 0.9 * m),
    "sharpness": lambda x, m: V.adjust_sharpness(x, 1 + 0.9 * m),
    "posterise": lambda x, m: V.posterize(x, 8 - round(4 * abs(m))),
    "solarise": lambda x, m: torch.where(x.float() >= 256 * (1 - abs(m)), 255 - x, x),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", list(REFERENCES))
def test_colour_operations_are_torchvisions(name, shape):
    if name == "saturation" and shape[0] == 1:
        pytest.skip("grey images have none")
    images = smooth_images(shape)
    for level in LEVELS:
        assert torch.allclose(ours(name, images, level), REFERENCES[name](images, level).float(), atol=2.0), level


@pytest.mark.parametrize("shape", SHAPES)
def test_the_two_without_a_strength_are_torchvisions_at_magnitude_1_and_blended_below(shape):
    images = smooth_images(shape)
    for name, reference in (("autocontrast", V.autocontrast), ("equalise", V.equalize)):
        whole = ours(name, images, -1.0)
        assert torch.allclose(whole, reference(images).float(), atol=1.0)
        assert ((whole - images).abs().max() > 5) == (name == "autocontrast" or enough_pixels(images))
        assert torch.allclose(ours(name, images, 0.25), 0.75 * images + 0.25 * whole, atol=1e-3)


def test_equalise_and_autocontrast_are_pillows_and_leave_a_flat_image():
    from PIL import ImageOps

    images = smooth_images((3, 40, 60))  # enough pixels for equalisation's rounding to show
    flat = torch.full((1, 3, 8, 8), 77, dtype=torch.uint8)
    for name, pillow in (("equalise", ImageOps.equalize), ("autocontrast", ImageOps.autocontrast)):
        for image, out in zip(images, ours(name, images, 1.0)):
            expected = np.asarray(pillow(Image.fromarray(image.permute(1, 2, 0).numpy())), dtype=np.float32)
            assert np.abs(out.permute(1, 2, 0).numpy() - expected).max() <= (0.0 if name == "equalise" else 1.0)
        assert torch.equal(ours(name, flat, 1.0), flat.float())


def affine_of(name, level, height, width):
    """Pillow's six numbers: where the output's pixel (x, y) lies in the input, about the centre."""
    s, angle = 0.3 * level, math.radians(30 * level)
    matrix, shift = {
        "shear_x": ([[1, s], [0, 1]], (0, 0)),
        "shear_y": ([[1, 0], [s, 1]], (0, 0)),
        "translate_x": ([[1, 0], [0, 1]], (0.3 * level * width, 0)),
        "translate_y": ([[1, 0], [0, 1]], (0, 0.3 * level * height)),
        "rotate": ([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], (0, 0)),
    }[name]
    centre = np.array([width / 2, height / 2])
    offset = centre - np.array(matrix) @ centre + shift
    return (*matrix[0], offset[0], *matrix[1], offset[1])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ra.GEOMETRIC)
def test_geometric_operations_are_pillows_where_the_image_reaches(name, shape):
    images = smooth_images(shape)
    _, height, width = shape
    for level in LEVELS:
        out, numbers = ours(name, images, level), affine_of(name, level, height, width)
        y, x = np.mgrid[:height, :width] + 0.5
        at_x, at_y = numbers[0] * x + numbers[1] * y + numbers[2], numbers[3] * x + numbers[4] * y + numbers[5]
        inside = (at_x > 1) & (at_x < width - 1) & (at_y > 1) & (at_y < height - 1)
        assert inside.mean() > 0.3
        for image, turned in zip(images, out):
            for plane, result in zip(image.numpy(), turned.numpy()):
                picture = Image.fromarray(plane.astype(np.float32))
                expected = np.asarray(picture.transform((width, height), Image.Transform.AFFINE, numbers,
                                                        Image.Resampling.BILINEAR))
                assert np.abs(result - expected)[inside].max() < 0.1, level
        assert out.amin() >= images.amin() and out.amax() <= images.amax(), "filled with something foreign"


@pytest.mark.parametrize("shape", SHAPES)
def test_every_operation_goes_to_nothing_with_its_magnitude(shape):
    images = smooth_images(shape)
    for name in ra.operation_names(shape[0]):
        assert torch.allclose(ours(name, images, 0.0), images.float(), atol=1e-2), name
        assert (ours(name, images, 1e-3) - images).abs().mean() < 1.0, name
        if name != "identity" and (name != "equalise" or enough_pixels(images)):
            assert (ours(name, images, 1.0) - images).abs().mean() > 1.0, name


def test_signs_are_two_directions_for_those_that_have_one():
    images = smooth_images((3, 20, 16))
    both_alike = {name for name in NAMES if torch.equal(ours(name, images, 0.7), ours(name, images, -0.7))}
    assert both_alike == {"identity", "posterise", "solarise", "autocontrast", "equalise"}


def test_a_mixed_batch_is_each_image_by_itself():
    images = smooth_images((3, 12, 16), count=56).float()
    operation = torch.arange(56) % len(NAMES)
    level = torch.rand(56, generator=gen(1)) * 2 - 1
    together = ra.apply(images, operation, level)
    for n in range(56):
        alone = ra.apply(*(part[n : n + 1] for part in (images, operation, level)))[0]
        assert torch.allclose(together[n], alone, atol=1e-3)


def test_draws_all_operations_and_both_signs_alike_and_the_generator_decides(monkeypatch):
    drawn = []
    monkeypatch.setattr(ra, "apply", lambda images, operation, level: drawn.append((operation, level)) or images)
    images = torch.zeros(4000, 8, 8, 1, dtype=torch.uint8)
    for seed in (1, 1, 2):
        ra.randaugment(images, 0.5, gen(seed), operations=2)
    (first, level), (second, _), (again, _), _, (other, _), _ = drawn
    shares = torch.bincount(first, minlength=13) / 4000
    assert len(shares) == 13 and (shares - 1 / 13).abs().max() < 0.02, "grey images know no saturation"
    assert set(level.tolist()) == {-0.5, 0.5} and level.mean().abs() < 0.05
    assert torch.equal(first, again) and not torch.equal(first, second) and not torch.equal(first, other)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("operations", [1, 2])
def test_keeps_shape_range_and_input(shape, operations):
    images = smooth_images(shape, count=64).permute(0, 2, 3, 1)
    kept = images.clone()
    out = ra.randaugment(images, 0.9, gen(), operations=operations)
    assert out.shape == images.shape and out.dtype == torch.float32
    assert torch.isfinite(out).all() and out.min() >= 0 and out.max() <= 255
    assert torch.equal(images, kept)
    changed = (out - images).abs().amax((1, 2, 3)) > 0.5
    assert changed.float().mean() > 0.6


def test_magnitude_0_is_the_identity_and_draws_nothing():
    images, generator = smooth_images((3, 8, 8)).permute(0, 2, 3, 1), gen(7)
    before = generator.get_state()
    assert torch.equal(ra.randaugment(images, 0.0, generator, operations=2), images.float())
    assert torch.equal(generator.get_state(), before)


def test_augmenter_applies_it_before_normalising():
    images = smooth_images((3, 8, 8), count=40).permute(0, 2, 3, 1)
    normalise = Normaliser((0.5, 0.4, 0.3), (0.2, 0.3, 0.25))
    params = {"randaugment": 0.5, "randaugment_ops": 2}
    out = Augmenter(images, normalise, params, flips_keep_labels=True).batch(torch.arange(40), _after_the_crop(40))
    expected = normalise(ra.randaugment(images, 0.5, _after_the_crop(40, drawn=True), operations=2))
    assert torch.allclose(out, expected, atol=1e-5)
    assert out.is_contiguous(memory_format=torch.channels_last)


def _after_the_crop(count, *, drawn=False):
    """A generator, if asked, as the crop's two draws leave it."""
    generator = gen(3)
    for _ in range(2 if drawn else 0):
        torch.randint(0, 1, (count,), generator=generator)
    return generator
