"""The self-supervised tasks: their targets, their losses and scores against loops, and what weight 0 keeps from z."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import scipy.ndimage
import torch

from search_spaces import get_space
from trainables.methods import get_method
from trainables.methods.auxiliary import grey, rotate, sobel_magnitude

METHOD = get_method("auxiliary")
TASKS = ("rotation", "recolouring", "sobel")
SHAPES = [(8, 8, 1), (8, 8, 3), (10, 6, 3)]
NONE = {f"{task}_weight": 0.0 for task in TASKS}


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def build(shape=(8, 8, 3), **changed):
    torch.set_num_threads(1)
    params = get_space("auxiliary").default() | changed
    torch.manual_seed(0)
    model = METHOD.build(shape, 3, "small_cnn", params)
    for module in model.modules():  # residual branches start at zero: let each take part
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight, 1.0, 0.2)
    return model, params


def batch(shape=(8, 8, 3), count=5):
    height, width, channels = shape
    return torch.randn(count, channels, height, width, generator=gen(1)), torch.arange(count) % 3


def encoder_gradients(method, model, params, images, targets):
    model = copy.deepcopy(model).train()
    method.loss(model, images, targets, params, gen())[0].backward()
    return [p.grad for p in model.encoder.parameters()], model


def naive_grey(image):
    return image[0] if len(image) == 1 else 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]


def naive_sobel(image):
    plane = naive_grey(image).astype(np.float64)
    return np.hypot(*(scipy.ndimage.sobel(plane, axis, mode="nearest") for axis in (0, 1))) / 4


def test_grey_is_the_luminance_of_bt_601_and_of_white_is_white():
    primaries = torch.eye(3)[:, :, None, None].expand(3, 3, 2, 2)
    assert torch.allclose(grey(primaries)[:, 0, 0, 0], torch.tensor([0.299, 0.587, 0.114]))
    assert torch.allclose(grey(torch.full((1, 3, 2, 2), -1.5)), torch.tensor(-1.5))
    plain = torch.randn(2, 1, 4, 4)
    assert grey(plain) is plain


@pytest.mark.parametrize("shape", SHAPES)
def test_sobel_map_is_scipys_quartered_with_the_border_repeated(shape):
    images, _ = batch(shape)
    expected = torch.from_numpy(np.stack([naive_sobel(image.numpy()) for image in images]))[:, None].float()
    assert torch.allclose(sobel_magnitude(images), expected, atol=1e-5)


def test_sobel_of_a_slope_is_twice_its_slope_inside():
    slope = (3 * torch.arange(8.0)).expand(1, 1, 8, 8)  # 3 a pixel, and the kernel spans two
    assert torch.allclose(sobel_magnitude(slope)[..., 1:-1], torch.tensor(6.0))
    assert torch.allclose(sobel_magnitude(slope)[..., 0], torch.tensor(3.0))  # half of it repeats the border


@pytest.mark.parametrize(("side", "turns"), [(6, (0, 1, 2, 3)), (4, (0, 2))])
def test_rotate_turns_each_image_by_its_own_quarters(side, turns):
    images, label = torch.randn(8, 2, 6, side), torch.arange(8) % len(turns)
    out = rotate(images, turns, label)
    for image, turned, n in zip(images, out, label.tolist()):
        assert np.array_equal(turned.numpy(), np.rot90(image.numpy(), turns[n], (1, 2)))


@pytest.mark.parametrize("shape", SHAPES)
def test_each_loss_is_that_of_a_loop(shape):
    model, params = build(shape, rotation_weight=0.7, recolouring_weight=0.3, sobel_weight=2.0)
    model.eval()  # batch normalisation of one image at a time
    images, targets = batch(shape)
    total, parts = METHOD.loss(model, images, targets, params, gen(4))
    half = 5 if shape[2] == 1 else 3
    turns = 4 if shape[0] == shape[1] else 2
    label = torch.randint(1, turns, (half,), generator=gen(4)).tolist()
    expected = dict.fromkeys(("cross_entropy", *TASKS), 0.0)
    with torch.no_grad():
        for n, (image, target) in enumerate(zip(images, targets.tolist())):
            z = model.encoder(image[None])
            expected["cross_entropy"] -= model.head(z).log_softmax(1)[0, target].item() / 5
            expected["rotation"] -= model.rotation(z).log_softmax(1)[0, 0].item() / turns / 5
            if n < half:
                quarters = label[n] * (4 // turns)
                turned = torch.from_numpy(np.rot90(image.numpy(), quarters, (1, 2)).copy())
                log_p = model.rotation(model.encoder(turned[None])).log_softmax(1)[0, label[n]].item()
                expected["rotation"] -= (1 - 1 / turns) * log_p / half
            if n >= 5 - half:
                plane = torch.from_numpy(naive_grey(image.numpy()))
                drawn = model.recolouring(model.encoder(torch.stack([plane] * shape[2])[None]))
                expected["recolouring"] += (drawn[0] - image).square().mean().item() / half
            edges = torch.from_numpy(naive_sobel(image.numpy())).float()
            expected["sobel"] += (model.sobel(z)[0, 0] - edges).square().mean().item() / 5
    assert {name: part.item() for name, part in parts.items()} == pytest.approx(expected, rel=1e-4)
    sum_of_all = (expected["cross_entropy"] + 0.7 * expected["rotation"] + 0.3 * expected["recolouring"]
                  + 2.0 * expected["sobel"])
    assert total.item() == pytest.approx(sum_of_all, rel=1e-4)


def test_rotation_loss_is_in_expectation_the_mean_over_all_turns():
    model, params = build((8, 8, 1))
    model.eval()
    torch.nn.init.normal_(model.rotation.weight, 0.0, 1.0)
    images, targets = batch((8, 8, 1))
    drawn = [METHOD.loss(model, images, targets, params, gen(seed))[1]["rotation"].item() for seed in range(80)]
    exact = METHOD.embed(model, images)["rotation_confidence"].mean().item()
    assert exact == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / math.sqrt(80))
    assert np.std(drawn) > 0.01


@pytest.mark.parametrize("shape", SHAPES)
def test_without_weights_the_encoder_is_the_classifiers(shape):
    model, params = build(shape, **NONE)
    images, targets = batch(shape)
    ours, after = encoder_gradients(METHOD, model, params, images, targets)
    plain, plain_after = encoder_gradients(get_method("classifier"), model, params, images, targets)
    assert all(torch.equal(a, b) for a, b in zip(ours, plain))
    assert all(torch.equal(a, b) for a, b in zip(after.encoder.buffers(), plain_after.encoder.buffers()))
    for task in TASKS:
        assert sum(p.grad.abs().sum().item() for p in getattr(after, task).parameters()) > 1e-3, "a probe must learn"


def test_a_probes_gradient_is_not_clipped_with_the_encoders():
    model, _ = build()
    parts = METHOD.clipped(model)
    assert sorted(id(p) for part in parts for p in part.parameters()) == sorted(id(p) for p in model.parameters())
    with_encoder = next(part for part in parts if next(model.encoder.parameters()) in set(part.parameters()))
    both = [*model.encoder.parameters(), *model.head.parameters()]
    assert {id(p) for p in with_encoder.parameters()} == {id(p) for p in both}


@pytest.mark.parametrize("task", TASKS)
def test_a_weight_reaches_the_encoder_and_scales_its_task(task):
    images, targets = batch()
    model, none = build(**NONE)
    plain, _ = encoder_gradients(METHOD, model, none, images, targets)
    one, once = encoder_gradients(METHOD, model, none | {f"{task}_weight": 1.0}, images, targets)
    assert any(not torch.allclose(a, b, rtol=0.01, atol=1e-5) for a, b in zip(plain, one))
    _, twice = encoder_gradients(METHOD, model, none | {f"{task}_weight": 2.0}, images, targets)
    for name, parameter in getattr(once, task).named_parameters():
        assert torch.allclose(getattr(twice, task).get_parameter(name).grad, 2 * parameter.grad, rtol=1e-3, atol=1e-6)


def test_what_teaches_the_encoder_goes_through_it_in_one_batch_and_its_mode_stays():
    for weights, mode in ((NONE, True), ({}, True), (NONE, False)):
        model, params = build(**weights)
        model.train(mode)
        METHOD.loss(model, *batch(), params, gen())
        assert all(module.training == mode for module in model.modules())
        batches = [b.item() for name, b in model.encoder.named_buffers() if name.endswith("num_batches_tracked")]
        assert set(batches) == {int(mode)}


@pytest.mark.parametrize("shape", SHAPES)
def test_scores_are_those_of_a_loop(shape):
    model, _ = build(shape)
    model.eval()
    images, _ = batch(shape)
    out = METHOD.embed(model, images)
    quarters = (0, 1, 2, 3) if shape[0] == shape[1] else (0, 2)
    with torch.no_grad():
        for n, image in enumerate(images):
            log_p = [
                model.rotation(model.encoder(torch.rot90(image[None], k, (2, 3)))).softmax(1)[0, label].log().item()
                for label, k in enumerate(quarters)
            ]
            assert out["rotation_confidence"][n].item() == pytest.approx(-np.mean(log_p), rel=1e-4)
            shades = torch.from_numpy(np.stack([naive_grey(image.numpy())] * shape[2]))[None]
            error = (model.recolouring(model.encoder(shades))[0] - image).square().mean().item()
            assert out["recolouring_error"][n].item() == pytest.approx(error, rel=1e-4)
            edges = torch.from_numpy(naive_sobel(image.numpy())).float()
            error = (model.sobel(model.encoder(image[None]))[0, 0] - edges).square().mean().item()
            assert out["sobel_error"][n].item() == pytest.approx(error, rel=1e-4)


def test_logits_are_those_of_embed_without_the_tasks_and_linear_in_z(monkeypatch):
    model, _ = build()
    model.eval()
    images, _ = batch()
    out = METHOD.embed(model, images)
    weight, bias = METHOD.head(model)
    assert METHOD.linear_head and torch.allclose(out["z"] @ weight.T + bias, out["logits"], atol=1e-6)
    for task in TASKS:
        monkeypatch.setattr(getattr(model, task), "forward", None)
    assert torch.equal(METHOD.logits(model, images), out["logits"])


def test_zero_may_be_set_and_searched():
    space = get_space("auxiliary").narrowed({"rotation_weight": 0.0, "sobel_weight": [0.0, 0.5]})
    assert space.default()["rotation_weight"] == 0.0 and 0.0 in space.parameters["sobel_weight"].options
    assert "rotation" in METHOD.trains_on
