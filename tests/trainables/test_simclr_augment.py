"""SimCLR's augmentation: drawn from the generator alone, and each part right where the answer is known."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from search_spaces import get_space
from trainables.methods._simclr_augment import LUMA, SimCLRAugment, colour_map, fixed_crops, resized_crop


def seeded(seed=0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def augmenter(channels=3, *, flips=False, **changed) -> SimCLRAugment:
    made = SimCLRAugment(channels, get_space("csi").default() | changed)
    made.describe(SimpleNamespace(mean=[0.4, 0.5, 0.3][:channels], std=[0.2, 0.25, 0.3][:channels],
                                  flips_keep_labels=flips))
    return made


def normalised(augment, pixels):
    return (pixels - augment.mean[:, None, None]) / augment.std[:, None, None]


def pixels_of(augment, images):
    return images * augment.std[:, None, None] + augment.mean[:, None, None]


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8), (3, 20, 12)])
def test_same_generator_same_images_in_shape_and_range(shape):
    augment = augmenter(shape[0], flips=True)
    images = normalised(augment, torch.rand(16, *shape, generator=seeded()))
    state = torch.random.get_rng_state()
    first, again, other = augment(images, seeded(1)), augment(images, seeded(1)), augment(images, seeded(2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(first, again) and not torch.allclose(first, other)
    assert first.shape == images.shape and torch.isfinite(first).all()
    pixels = pixels_of(augment, first)
    assert pixels.min() > -1e-5 and pixels.max() < 1 + 1e-5
    assert pixels.std() > 0.5 * pixels_of(augment, images).std(), "little is left of the images"


def test_places_and_colours_are_not_rounded_under_autocast():
    augment, images = augmenter(), torch.randn(8, 3, 16, 16, generator=seeded())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = augment(images, seeded(1))
    assert torch.equal(rounded, augment(images, seeded(1)))


def test_the_whole_image_is_left_alone():
    images = torch.rand(3, 2, 5, 8, generator=seeded())
    assert torch.allclose(resized_crop(images, torch.ones(3, 2), torch.zeros(3, 2)), images, atol=1e-5)


def test_the_parts_are_applied_one_after_another(monkeypatch):
    """Crop, then colours about the crop's own mean, then the cut to 0..1: the whole against its parts."""
    augment = augmenter(crop_scale=0.3)
    images = normalised(augment, torch.rand(5, 3, 8, 8, generator=seeded()))
    seen = {}
    for name in ("draw_crops", "draw_colours"):
        drawn = getattr(augment, name)
        monkeypatch.setattr(augment, name, lambda *a, n=name, d=drawn: seen.setdefault(n, (a, d(*a)))[1])
    out = augment(images, seeded(1))
    crops = pixels_of(augment, resized_crop(images, *seen["draw_crops"][1]))
    (means, _), (matrix, offset) = seen["draw_colours"]
    assert torch.allclose(means, crops.mean((2, 3)), atol=1e-5)
    coloured = (torch.einsum("nij,njhw->nihw", matrix, crops) + offset[..., None]).clamp(0, 1)
    assert torch.allclose(pixels_of(augment, out), coloured, atol=1e-5)
    assert not torch.allclose(coloured, crops, atol=0.05)


def test_a_crop_shows_its_own_part():
    image = torch.zeros(1, 1, 8, 8)
    image[..., :4, 4:] = 1.0  # upper right quarter
    shown = resized_crop(image, torch.tensor([[0.4, 0.4]]), torch.tensor([[0.5, -0.5]]))
    assert torch.allclose(shown, torch.ones_like(shown), atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (20, 12)])
def test_crops_lie_in_the_image_and_keep_to_area_and_aspect(height, width):
    augment = augmenter(crop_scale=0.2)
    sides, centres = augment.draw_crops(torch.zeros(4000, 3, height, width), seeded())
    assert (sides > 0).all() and (sides + centres.abs() <= 1 + 1e-6).all()
    free = (sides < 1).all(1)
    area, aspect = sides.prod(1)[free], (sides[:, 0] * width / (sides[:, 1] * height))[free]
    assert 0.2 - 1e-4 < area.min() < 0.22 and area.max() > 0.75  # larger ones are cut to the image
    assert 3 / 4 - 1e-4 < aspect.min() < 0.8 and 1.25 < aspect.max() < 4 / 3 + 1e-4
    assert centres.mean(0).abs().max() < 0.03


@pytest.mark.parametrize("flips", [True, False])
def test_mirror_images_only_where_they_keep_the_label(flips):
    images = torch.rand(1000, 3, 8, 8, generator=seeded())
    out = augmenter(flips=flips).mirrored(images, seeded(1))
    turned = (out == images.flip(3)).flatten(1).all(1)
    assert (turned | (out == images).flatten(1).all(1)).all()
    assert turned.float().mean().item() == pytest.approx(0.5 if flips else 0.0, abs=0.05)


def test_a_constant_channel_stays_quiet():
    """Its deviation is next to nothing, by which a change of its colour must not be divided."""
    augment = SimCLRAugment(3, get_space("csi").default())
    augment.describe(SimpleNamespace(mean=[0.4, 0.5, 0.3], std=[0.2, 0.25, 1 / 255], flips_keep_labels=False))
    assert augment(torch.zeros(64, 3, 8, 8), seeded()).abs().max() < 5


def mapped(colours, **changed):
    """N×3 colours, each an image of one colour, after one change of ``colour_map``."""
    count = len(colours)
    neutral = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0, "grey": False} | changed
    matrix, offset = colour_map(colours, **{name: torch.full((count,), value) for name, value in neutral.items()})
    return (matrix @ colours[:, :, None] + offset)[..., 0]


def test_a_third_of_a_turn_takes_red_to_green_and_grey_stays():
    red, green, blue = torch.eye(3)
    turned = mapped(torch.stack([red, green, blue]), hue=1 / 3)
    assert torch.allclose(turned, torch.stack([green, blue, red]), atol=1e-6)
    grey = torch.full((1, 3), 0.6)
    assert torch.allclose(mapped(grey, hue=0.07, saturation=1.3), grey, atol=1e-6)


@pytest.mark.parametrize("turns", [0.1, -0.05, 0.4])
def test_hue_turns_by_as_much_as_it_is_told(turns):
    def angle(c):
        return torch.atan2(math.sqrt(3) * (c[:, 1] - c[:, 2]), 2 * c[:, 0] - c[:, 1] - c[:, 2]) / (2 * math.pi)

    colours = torch.rand(50, 3, generator=seeded())
    moved = (angle(mapped(colours, hue=turns)) - angle(colours) - turns + 0.5) % 1 - 0.5
    assert moved.abs().max() < 1e-4


def test_grey_is_the_luma_in_every_channel():
    colours = torch.rand(20, 3, generator=seeded())
    luma = 0.299 * colours[:, 0] + 0.587 * colours[:, 1] + 0.114 * colours[:, 2]
    for out in (mapped(colours, grey=True), mapped(colours, saturation=0.0)):
        assert torch.allclose(out, luma[:, None].expand(-1, 3), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_one_map_is_the_steps_one_after_another(channels):
    images = torch.rand(6, channels, 4, 5, generator=seeded())
    brightness, contrast, saturation, hue = 0.6 + 0.8 * torch.rand(4, 6, generator=seeded(1))
    hue, grey = (hue - 1) / 4, torch.arange(6) % 3 == 0
    matrix, offset = colour_map(images.mean((2, 3)), brightness=brightness, contrast=contrast, saturation=saturation,
                                hue=hue, grey=grey)
    out = (matrix @ images.flatten(2) + offset).view_as(images)
    luma = torch.tensor(LUMA[channels])
    for i in range(6):
        x = images[i].permute(1, 2, 0) * brightness[i]
        middle = (x @ luma).mean()
        x = middle + contrast[i] * (x - middle)
        if channels == 3:
            shade = (x @ luma)[..., None]
            x = shade + saturation[i] * (x - shade)
            mean = x.mean(2, keepdim=True)  # Rodrigues: turn what is across the grey axis
            across = torch.linalg.cross(torch.full_like(x, 1 / math.sqrt(3)), x - mean, dim=2)
            angle = 2 * math.pi * hue[i]
            x = mean + angle.cos() * (x - mean) + angle.sin() * across
            if grey[i]:
                x = (x @ luma)[..., None].expand(-1, -1, 3)
        assert torch.allclose(out[i], x.permute(2, 0, 1), atol=1e-5)


def test_four_in_five_are_jittered_and_one_in_five_loses_its_colour():
    augment = augmenter()
    matrix, offset = augment.draw_colours(torch.rand(5000, 3, generator=seeded()), seeded(1))
    grey = (matrix[:, 0] == matrix[:, 1]).all(1)
    alone = (matrix == torch.eye(3)).flatten(1).all(1) & (offset == 0).flatten(1).all(1)
    assert grey.float().mean().item() == pytest.approx(0.2, abs=0.02)
    assert alone.float().mean().item() == pytest.approx(0.2 * 0.8, abs=0.02)
    quiet = augmenter(jitter_strength=0.0, grey=0.0).draw_colours(torch.rand(50, 3), seeded(1))
    assert torch.allclose(quiet[0], torch.eye(3).expand(50, 3, 3), atol=1e-6) and quiet[1].abs().max() < 1e-6


def test_fixed_crops_are_the_same_whatever_the_company_and_differ_among_themselves():
    images = torch.rand(4, 1, 8, 8, generator=seeded())
    assert fixed_crops(images, 1)[0] is images
    crops = fixed_crops(images, 5)
    for crop, alone in zip(crops, fixed_crops(images[2:3], 5)):
        assert torch.allclose(crop[2:3], alone, atol=1e-6)
    assert all(not torch.allclose(a, b, atol=0.05) for i, a in enumerate(crops) for b in crops[:i])
    assert all(torch.allclose(a, b) for a, b in zip(crops, fixed_crops(images, 3)))
    ramp = torch.linspace(-1, 1, 8).view(1, 1, 1, 8).expand(1, 1, 8, 8)
    spans = [(crop[..., -1] - crop[..., 0]).mean().item() for crop in fixed_crops(ramp, 5)]
    assert spans == pytest.approx([2 * math.sqrt(0.54)] * 5, rel=0.06), "a crop's side is the root of its area"
