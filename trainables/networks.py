"""Encoders: image (N×C×H×W, normalised) → latent z (N×z_dim), the features that the head and the oracles read.

``small_cnn`` for studies on a CPU, ``resnet18`` and ``resnet34`` (torchvision's, with a stem for small images) for the
network of the original study.
"""

from __future__ import annotations

import difflib
from itertools import pairwise

import torch
from torch import Tensor, nn

from analysis import plugins

SMALL_SIDE = 64  # up to here a ResNet gets the 3×3 stem without pooling, as is usual for CIFAR
TINY_SIDE = 12  # below, as for 8×8 digits, half the channels are a third of the cost and were no less accurate
STRIDED_SIDE = 24  # from here small_cnn's stem halves the image: the first layers would otherwise cost the most


def network_names() -> list[str]:
    """Built-in networks, then plug-ins."""
    return [*NETWORKS, *(name for name in plugins.names("network") if name not in NETWORKS)]


def register(name: str):
    """Decorator that enters a callable ``(image_shape, *, width, normalisation) -> nn.Module`` with ``z_dim`` under
    ``name``; ValueError for a name already taken."""

    def enter(network):
        if name in NETWORKS:
            raise ValueError(f"a network named {name!r} exists already")
        NETWORKS[name] = network
        return network

    return enter


def build_network(
    name: str, image_shape: tuple[int, int, int], *, width: float = 1.0, normalisation: str = "batch"
) -> nn.Module:
    """An encoder for images of ``image_shape`` (H, W, C) with the attributes ``z_dim`` and ``map_channels`` and the
    method ``feature_map(images)``, the last map before pooling.

    ``normalisation``: "batch", or "none" for methods whose images must not see one another (an energy of one image is
    undefined under batch statistics). ValueError for an unknown name.
    """
    if name not in NETWORKS and not plugins.seek("network", name):
        close = difflib.get_close_matches(str(name), network_names(), n=1)
        hint = f", did you mean {close[0]!r}?" if close else f"; known are {', '.join(network_names())}"
        raise ValueError(f"no network {name!r}{hint}")
    return NETWORKS[name](tuple(image_shape), width=width, normalisation=normalisation)


class Affine(nn.Module):
    """A scale and a shift for each channel: what is left of batch normalisation without its statistics."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None, None] + self.bias[:, None, None]


NORMALISATIONS = {"batch": nn.BatchNorm2d, "none": Affine}


def _conv(inputs: int, outputs: int, normalisation: str, *, stride: int = 1, side: int = 3) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, side, stride=stride, padding=(side - 1) // 2, bias=False)
    if normalisation == "none":  # torch's default shrinks the signal at every layer, which normalisation would undo
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return nn.Sequential(conv, NORMALISATIONS[normalisation](outputs))


class Residual(nn.Module):
    """Two 3×3 convolutions and a shortcut, normalised after each."""

    def __init__(self, channels: int, normalisation: str) -> None:
        super().__init__()
        self.first, self.second = (_conv(channels, channels, normalisation) for _ in range(2))
        nn.init.zeros_(self.second[1].weight)  # starts as the identity, which stands larger learning rates
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(x + self.second(self.relu(self.first(x))))


class SmallCNN(nn.Module):
    """A residual block in each of three stages of 32, 64 and 128 channels (half of that for tiny images), each at half
    the resolution of the one before; z = mean of the last map, 128 wide (64)."""

    def __init__(self, image_shape: tuple[int, int, int], *, width: float, normalisation: str) -> None:
        super().__init__()
        height, width_px, channels = image_shape
        side = min(height, width_px)
        widths = [max(8, round(base * width / 8) * 8) for base in ((16, 32, 64) if side < TINY_SIDE else (32, 64, 128))]
        strided = side >= STRIDED_SIDE
        layers: list[nn.Module] = [_conv(channels, widths[0], normalisation, stride=2 if strided else 1),
                                   nn.ReLU(inplace=True), Residual(widths[0], normalisation)]
        for inputs, outputs in pairwise(widths):
            layers += [_conv(inputs, outputs, normalisation, stride=2), nn.ReLU(inplace=True),
                       Residual(outputs, normalisation)]
        self.layers = nn.Sequential(*layers)
        self.z_dim = self.map_channels = widths[-1]

    def feature_map(self, images: Tensor) -> Tensor:
        return self.layers(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.feature_map(images).mean((2, 3))


class ResNet(nn.Module):
    """torchvision's ResNet without its classifier; z is 512 wide (2048 from 50 layers on)."""

    def __init__(self, image_shape: tuple[int, int, int], depth: int, *, normalisation: str, own_stem: bool = False) -> None:
        """``own_stem``: torchvision's, of 7×7 and pooling, whatever the image's size, as its pretrained weights need."""
        super().__init__()
        import torchvision

        net = getattr(torchvision.models, f"resnet{depth}")(
            weights=None, zero_init_residual=True, norm_layer=NORMALISATIONS[normalisation]
        )
        height, width_px, channels = image_shape
        if max(height, width_px) <= SMALL_SIDE and not own_stem:
            net.conv1 = nn.Conv2d(channels, 64, 3, stride=1, padding=1, bias=False)
            net.maxpool = nn.Identity()
        elif channels != 3:
            net.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.z_dim = self.map_channels = net.fc.in_features
        del net.fc
        self.net = net

    def feature_map(self, images: Tensor) -> Tensor:
        net = self.net
        x = net.maxpool(net.relu(net.bn1(net.conv1(images))))
        return net.layer4(net.layer3(net.layer2(net.layer1(x))))

    def forward(self, images: Tensor) -> Tensor:
        return self.feature_map(images).mean((2, 3))  # what its own pooling computes; that restrides, which no graph holds


def _resnet(depth: int, *, own_stem: bool = False):
    return lambda image_shape, *, width, normalisation: ResNet(
        image_shape, depth, normalisation=normalisation, own_stem=own_stem)


NETWORKS = {
    "small_cnn": SmallCNN, "resnet18": _resnet(18), "resnet34": _resnet(34),
    **{f"resnet{depth}_torchvision": _resnet(depth, own_stem=True) for depth in (18, 34, 50)},
}
