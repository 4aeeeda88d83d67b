"""Layers of every method: shapes, order, what they are of, and that nothing is left behind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from search_spaces import get_space
from trainables import check_tools
from trainables.inference import embed_images
from trainables.layers import embed_layers, encoders, stages
from trainables.methods import get_method, method_names
from trainables.methods.base import Method
from trainables.networks import NETWORKS, build_network

VIEW = check_tools.view()
IMAGES = VIEW.validation_images


@pytest.fixture(autouse=True)
def one_thread():
    with check_tools.one_thread():
        yield


def built(name: str) -> nn.Module:
    subject = check_tools.subject_of(name, get_space(name))
    model = subject.build(VIEW.image_shape)
    subject.method.prepare(model, VIEW)
    with torch.no_grad():  # residual branches begin at 0, and would leave nothing to see of them
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=check_tools.generator(3)))
    return model.eval()


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


@pytest.mark.parametrize("name", method_names())
def test_every_method(name):
    model, method = built(name), get_method(name)
    found = embed_layers(model, name, IMAGES, VIEW)
    assert list(found) == ["stage 1", "stage 2", "stage 3", "z"]
    assert all(part.dtype == np.float32 and part.shape[0] == len(IMAGES) for part in found.values())
    np.testing.assert_allclose(found["z"], embed_images(model, name, IMAGES, VIEW)["z"], rtol=1e-4, atol=1e-5)
    # z of small_cnn is the mean of its last map: so the last stage is of the untouched images, of all members, in order
    np.testing.assert_allclose(found["stage 3"], found["z"], rtol=1e-4, atol=1e-5)
    members = method.latent_parts(check_tools.subject_of(name, get_space(name)).params())
    assert len(encoders(model)) == members
    assert found["stage 2"].shape[1] * 2 == found["stage 3"].shape[1] and hooks(model) == 0
    again = embed_layers(model, name, IMAGES, VIEW, batch_size=5)
    for layer, part in found.items():
        np.testing.assert_allclose(again[layer], part, rtol=1e-3, atol=1e-4)


def test_a_stage_is_the_mean_of_its_map():
    model = built("classifier")
    pixels = (torch.from_numpy(IMAGES).float() / 255 - VIEW.mean[0]) / VIEW.std[0]
    with torch.no_grad():
        expected = model.encoder.layers[:3](pixels.permute(0, 3, 1, 2)).mean((2, 3)).numpy()
    found = embed_layers(model, "classifier", IMAGES, VIEW)
    np.testing.assert_allclose(found["stage 1"], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found["stage 1"], embed_layers(model, "classifier", IMAGES, VIEW)["stage 1"])


def test_more_images_than_a_batch_and_none():
    model = built("generalized_odin")  # which goes over 128 images at a time, each of them twice
    many = np.concatenate([VIEW.train_images] * 6)
    found = embed_layers(model, "generalized_odin", many, VIEW)
    np.testing.assert_allclose(found["stage 1"][-48:], found["stage 1"][:48], rtol=1e-3, atol=1e-4)
    assert found["stage 1"].shape == (288, found["stage 1"].shape[1])
    assert [part.shape[0] for part in embed_layers(model, "generalized_odin", many[:0], VIEW).values()] == [0] * 4


def test_read_only_images_and_a_model_in_training_mode():
    model, images = built("classifier").train(), IMAGES.copy()
    images.setflags(write=False)
    found = embed_layers(model, "classifier", images, VIEW)
    assert not model.training
    np.testing.assert_array_equal(found["z"], embed_layers(model, "classifier", images, VIEW)["z"])


def test_hooks_are_gone_after_an_error():
    model = built("classifier")

    class Broken(type(get_method("classifier"))):
        def embed(self, model, images):
            super().embed(model, images)
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        embed_layers(model, Broken(), IMAGES, VIEW)
    assert hooks(model) == 0


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_a_resnet_has_four_stages(name):
    encoder = build_network(name, (8, 8, 1))
    assert list(stages(encoder)) == [f"stage {number}" for number in (1, 2, 3, 4)]
    model = WithEncoder(encoder).eval()
    found = embed_layers(model, PLAIN, IMAGES[:3], VIEW)
    assert [part.shape[1] for part in found.values()] == [64, 128, 256, 512, 512]
    np.testing.assert_allclose(found["stage 4"], found["z"], rtol=1e-4, atol=1e-5)


class WithEncoder(nn.Module):
    """The encoder under a name of its own, images halved before it."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.backbone = encoder

    def forward(self, images):
        return self.backbone(images / 2)


class Plain(Method):
    def build(self, view_shape, num_classes, network, params):
        raise NotImplementedError

    def loss(self, model, images, targets, params, generator):
        raise NotImplementedError

    def embed(self, model, images):
        return {"z": model(images)}


PLAIN = Plain()


class Foreign(nn.Module):
    """A network from elsewhere, wrapped once; a ReLU in place comes after its first map."""

    z_dim = 5

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(3, 5, 3),
                                  nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, images):
        return self.body(images)


def test_a_network_from_elsewhere_gives_its_parts_with_maps():
    torch.manual_seed(0)
    model = WithEncoder(Foreign()).eval()
    found = embed_layers(model, PLAIN, IMAGES, VIEW)
    assert list(found) == ["layer 0", "layer 1", "layer 2", "layer 3", "z"]
    assert (found["layer 0"] < found["layer 1"]).any() and (found["layer 0"].min() < 0 <= found["layer 1"].min())
    np.testing.assert_allclose(found["layer 3"], found["z"], rtol=1e-5)
    np.testing.assert_allclose(found["layer 2"], found["z"], rtol=1e-4, atol=1e-5)


def test_a_network_without_maps_gives_z():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).eval()
    assert list(embed_layers(model, PLAIN, IMAGES, VIEW)) == ["z"]


def test_every_network_built_in_is_known():
    assert all(next(iter(stages(build_network(name, (8, 8, 1))))).startswith("stage") for name in NETWORKS)
