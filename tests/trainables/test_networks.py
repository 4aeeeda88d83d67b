"""Encoders: shapes, stems, and refusal of unknown names."""

from __future__ import annotations

import pytest
import torch

from trainables.networks import build_network, network_names


@pytest.mark.parametrize(("shape", "z_dim"), [((8, 8, 1), 64), ((16, 16, 3), 128), ((28, 28, 1), 128), ((32, 32, 3), 128),
                                              ((48, 24, 3), 128)])
def test_small_cnn_gives_a_latent_of_128_or_64(shape, z_dim):
    height, width, channels = shape
    encoder = build_network("small_cnn", shape)
    z = encoder(torch.randn(2, channels, height, width))
    assert z.shape == (2, z_dim) and encoder.z_dim == z_dim
    assert encoder.feature_map(torch.randn(2, channels, height, width)).shape[1] == encoder.map_channels


def test_width_multiplies_the_channels():
    narrow, wide = build_network("small_cnn", (16, 16, 1), width=0.5), build_network("small_cnn", (16, 16, 1), width=2.0)
    assert (narrow.z_dim, wide.z_dim) == (64, 256)


@pytest.mark.parametrize(("shape", "side"), [((32, 32, 3), 4), ((32, 32, 1), 4), ((96, 96, 3), 3), ((96, 96, 1), 3)])
def test_resnet18_keeps_small_images_large_and_has_512_features(shape, side):
    torch.set_num_threads(1)
    height, width, channels = shape
    encoder = build_network("resnet18", shape).eval()
    images = torch.randn(1, channels, height, width)
    with torch.inference_mode():
        feature_map, z = encoder.feature_map(images), encoder(images)
    assert feature_map.shape == (1, 512, side, side)
    assert torch.allclose(z, feature_map.mean((2, 3)), atol=1e-6)


def test_resnet34_is_the_study_s_network():
    encoder = build_network("resnet34", (32, 32, 3))
    count = sum(p.numel() for p in encoder.parameters())
    assert encoder.z_dim == 512 and 21.2e6 < count < 21.4e6  # 21.8 M less the ImageNet stem and classifier


def test_unknown_network_names_the_nearest():
    assert network_names() == ["small_cnn", "resnet18", "resnet34", *(f"resnet{n}_torchvision" for n in (18, 34, 50))]
    with pytest.raises(ValueError, match="'resnet18'"):
        build_network("resnet19", (32, 32, 3))
