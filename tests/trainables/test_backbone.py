"""Pretrained backbones: what is loaded is what was in the file, for every method, and frozen means frozen."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
import torch
from test_fit import params_of, view  # noqa: F401  (a fixture)

from trainables.backbone import BackboneError, load_backbone, read_weights
from trainables.checkpoint import write_tensors
from trainables.fit import Training, TrainSettings
from trainables.methods import get_method, method_names
from trainables.networks import build_network

SETTINGS = TrainSettings(epochs=2, batch_size=32, threads=1, device="cpu")


@pytest.fixture(scope="module")
def torchvision_file(tmp_path_factory):
    import torchvision

    torch.manual_seed(3)
    net = torchvision.models.resnet18(weights=None).eval()
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(net.state_dict(), path)
    return path, net


def test_torchvisions_weights_give_torchvisions_features(torchvision_file):
    path, net = torchvision_file
    model = get_method("classifier").build((40, 48, 3), 5, "resnet18_torchvision", params_of("classifier")).eval()
    (encoder,) = load_backbone(model, path)
    net.fc = torch.nn.Identity()
    images = torch.rand(3, 3, 40, 48)
    with torch.inference_mode():
        torch.testing.assert_close(encoder(images), net(images))


@pytest.mark.parametrize("wrapper", ["", "module.", "module.encoder.", "backbone."])
def test_names_behind_wrappers_are_found(torchvision_file, tmp_path, wrapper):
    path, _ = torchvision_file
    wrapped = {"state_dict": {f"{wrapper}{name}": tensor for name, tensor in torch.load(path).items()}, "epoch": 3}
    torch.save(wrapped, tmp_path / "wrapped.pt")
    plain, other = read_weights(path), read_weights(tmp_path / "wrapped.pt")
    assert plain.keys() == other.keys() and "fc.weight" not in plain and "conv1.weight" in plain


@pytest.fixture(scope="module")
def small(view, tmp_path_factory):  # noqa: F811
    """Weights of the network that the tests' images have, made by nobody else's seed."""
    torch.manual_seed(11)
    path = tmp_path_factory.mktemp("small") / "weights.safetensors"
    write_tensors(path, build_network("small_cnn", view.image_shape, width=params_of("classifier")["width"]).state_dict())
    return path


@pytest.mark.parametrize("method", [name for name in method_names() if name != "jem"])
@pytest.mark.parametrize("freeze", [False, True])
def test_every_method_starts_from_the_file_and_frozen_stays_there(view, small, method, freeze):  # noqa: F811
    settings = replace(SETTINGS, epochs=1, pretrained=str(small), freeze_backbone=freeze)
    training = Training(method=method, view=view, params=params_of(method), settings=settings, seed=1)
    given = read_weights(small)
    encoders = [part for part in training.model.modules() if hasattr(part, "feature_map")]

    def apart():
        return sum(float((tensor.double() - given[name]).abs().sum())
                   for encoder in encoders for name, tensor in encoder.state_dict().items() if "num_batches" not in name)

    assert encoders and apart() == 0
    training.step()
    assert (apart() == 0) == freeze
    assert training.finish()["signals"]["val_accuracy"] >= 0


def test_jems_network_has_no_statistics_to_take(view, small):  # noqa: F811
    model = get_method("jem").build(view.image_shape, 3, "small_cnn", params_of("jem"))
    load_backbone(model, small)  # scale and shift are there; whose mean and deviation are folded nowhere is the user's to know


def test_a_trial_continues_bit_for_bit_and_is_another_than_without(view, small, tmp_path):  # noqa: F811
    settings = replace(SETTINGS, pretrained=str(small), freeze_backbone=True)
    made = [Training(method="classifier", view=view, params=params_of("classifier"), settings=s, seed=1)
            for s in (SETTINGS, replace(settings, freeze_backbone=False), settings)]
    assert len({training.identity for training in made}) == 3
    whole = Training(method="classifier", view=view, params=params_of("classifier"), settings=settings, seed=1, folder=tmp_path / "a")
    whole.step(), whole.step()
    first = Training(method="classifier", view=view, params=params_of("classifier"), settings=settings, seed=1, folder=tmp_path / "b")
    first.step()
    again = Training(method="classifier", view=view, params=params_of("classifier"), settings=settings, seed=1, folder=tmp_path / "b")
    assert again.epoch == 1
    again.step()
    assert again.finish()["weights_sha256"] == whole.finish()["weights_sha256"]


class Evil:
    def __reduce__(self):
        return (eval, ("1/0",))


@pytest.mark.parametrize(("name", "content", "words"), [
    ("absent.pth", None, "no such file"), ("text.pth", b"hello", "cannot be read"), ("text.safetensors", b"hello", "cannot be read"),
    ("evil.pth", pickle.dumps(Evil()), "cannot be read"), ("list.pth", [1, 2], "no state dict"),
    ("other.pth", {"layers.0.0.weight": torch.zeros(3)}, "do not fit")], ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_no_such_file_is_told_in_one_line(view, tmp_path, name, content, words):  # noqa: F811
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    model = get_method("classifier").build(view.image_shape, 3, "small_cnn", params_of("classifier"))
    with pytest.raises(BackboneError, match=words) as told:
        load_backbone(model, path)
    assert "\n" not in str(told.value)


def test_a_stem_of_another_size_names_the_networks_that_fit(torchvision_file):
    path, _ = torchvision_file
    model = get_method("classifier").build((32, 32, 3), 3, "resnet18", params_of("classifier"))
    with pytest.raises(BackboneError, match=r"conv1.weight is 64×3×7×7 there and 64×3×3×3 here.*_torchvision"):
        load_backbone(model, path)


def test_another_file_on_a_workers_machine_is_the_machines_affair(view, small, tmp_path):  # noqa: F811
    from trainables.trial import ENVIRONMENT, failure_reason

    for settings in (replace(SETTINGS, pretrained=str(small), pretrained_sha256="0" * 64),
                     replace(SETTINGS, pretrained=str(tmp_path / "absent.safetensors"), pretrained_sha256="0" * 64)):
        with pytest.raises(BackboneError) as told:
            Training(method="classifier", view=view, params=params_of("classifier"), settings=settings, seed=1)
        assert failure_reason(told.value).startswith(ENVIRONMENT)


def test_a_frozen_copy_stays_frozen_and_nothing_keeps_the_first_alive(view, small):  # noqa: F811
    import copy
    import gc
    import weakref

    model = get_method("classifier").build(view.image_shape, 3, "small_cnn", params_of("classifier"))
    load_backbone(model, small, freeze=True)
    other, gone = copy.deepcopy(model), weakref.ref(model.encoder)
    other.train()
    assert not other.encoder.training and other.head.training
    gc.disable()
    try:
        del model
        assert gone() is None
    finally:
        gc.enable()
