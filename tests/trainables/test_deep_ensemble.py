"""The deep ensemble: members that are plain classifiers, and what their joint prediction means."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from search_spaces import get_space
from trainables.data import View
from trainables.fit import Training, TrainSettings
from trainables.methods import get_method
from trainables.methods._ensemble import joint_logits, mutual_information

METHOD = get_method("deep_ensemble")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def view():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = rng.integers(0, 90, (60, 8, 8, 1))
    for i, label in enumerate(labels):
        images[i, :, 1 + 2 * label : 3 + 2 * label] += 130
    images, labels = images.astype(np.uint8), labels.astype(np.int64)
    return View(classes=("left", "middle", "right"), image_shape=(8, 8, 1), mean=(0.3,), std=(0.25,),
                flips_keep_labels=False, rotations_keep_labels=False, digest="d", split=0, train_images=images[:40],
                train_labels=labels[:40], validation_images=images[40:], validation_labels=labels[40:])


def trained(view, method, **changed):
    params = get_space(method).default() | {"width": 0.5, "dropout": 0.2, "mixup": 0.4, "cutout": 0.3} | changed
    training = Training(method=method, view=view, params=params, seed=5,
                        settings=TrainSettings(epochs=2, batch_size=16, device="cpu"))
    while not training.done:
        training.step()
    return training.model


def member_logits(members=4, count=6, classes=3, *, scale=3.0):
    return scale * torch.randn(members, count, classes, generator=torch.Generator().manual_seed(0))


def test_the_first_member_is_the_plain_classifier_bit_for_bit(view):
    # a small bound, so that each member's clipping is exercised and must not look at the others
    first, *others = trained(view, "deep_ensemble", ensemble_size=3, gradient_clip=0.5).members
    plain = trained(view, "classifier", gradient_clip=0.5)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, first.state_dict()[name]), name
    for other in others:
        assert not torch.allclose(other.head.weight, first.head.weight)


def test_members_start_and_train_apart(view):
    params = get_space("deep_ensemble").default() | {"ensemble_size": 3.0, "width": 0.5}
    model = METHOD.build((8, 8, 1), 3, "small_cnn", params)
    assert len(METHOD.members(model)) == METHOD.latent_parts(params) == 3
    first, second, _ = METHOD.members(model)
    assert not torch.equal(first.head.weight, second.head.weight)
    shared = {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}
    assert not shared


def test_latents_lie_side_by_side_and_scores_are_the_members():
    params = get_space("deep_ensemble").default() | {"ensemble_size": 3, "width": 0.5}
    torch.manual_seed(0)
    model = METHOD.build((8, 8, 1), 3, "small_cnn", params).eval()
    for number, member in enumerate(model.members):
        member.head.bias.data[number] += 10.0  # each sure of another class: the mean's largest is not the largest's mean
    images = torch.randn(5, 1, 8, 8)
    out = METHOD.embed(model, images)
    with torch.no_grad():
        z, logits = zip(*(member(images) for member in model.members))
    assert torch.equal(out["z"], torch.cat(z, 1))
    largest = sum(f.max(1).values for f in logits) / 3
    assert torch.allclose(out["mean_max_logit"], -largest, atol=1e-6)
    assert torch.equal(METHOD.logits(model, images), out["logits"])
    assert not METHOD.linear_head


def test_joint_logits_give_the_mean_prediction_and_the_mean_energy():
    logits = member_logits().double()
    joint = joint_logits(logits)
    for image in range(logits.shape[1]):
        expected = sum(np.exp(f[image]) / np.exp(f[image]).sum() for f in logits.numpy()) / len(logits)
        energy = sum(math.log(np.exp(f[image]).sum()) for f in logits.numpy()) / len(logits)
        assert np.allclose(joint[image].softmax(0), expected, atol=1e-12)
        assert joint[image].logsumexp(0).item() == pytest.approx(energy, abs=1e-12)


def test_joint_logits_of_one_and_the_same_member_are_its_own():
    logits = member_logits(members=1).expand(4, -1, -1)
    assert torch.allclose(joint_logits(logits), logits[0], atol=1e-5)


def test_joint_logits_stay_finite_where_members_are_certain():
    logits = torch.tensor([[[500.0, -500.0, 0.0]], [[-500.0, 500.0, 0.0]]])
    assert torch.isfinite(joint_logits(logits)).all() and torch.isfinite(mutual_information(logits)).all()


def test_mutual_information_is_the_entropy_of_the_mean_less_the_mean_entropy():
    logits = member_logits()

    def entropy(p):
        return -sum(q * math.log(q) for q in p if q > 0)

    for image, value in enumerate(mutual_information(logits)):
        p = [np.exp(f[image].double().numpy()) / np.exp(f[image].double().numpy()).sum() for f in logits]
        expected = entropy(sum(p) / len(p)) - sum(entropy(q) for q in p) / len(p)
        assert value.item() == pytest.approx(expected, rel=1e-5)


def test_mutual_information_goes_from_none_to_the_logarithm_of_the_classes():
    agreeing = member_logits(members=1).expand(5, -1, -1)
    assert torch.allclose(mutual_information(agreeing), torch.zeros(6), atol=1e-12)
    certain = 100 * torch.eye(3).unsqueeze(1)  # each of three members sure of another class
    assert mutual_information(certain).item() == pytest.approx(math.log(3))


def test_mutual_information_orders_images_on_which_all_are_sure():
    # about 1e-8, 1e-9 and 1e-10: in float32 the rounding of log p alone is several times as much
    logits = torch.zeros(2, 3, 2)
    logits[:, :, 0] = torch.tensor([[7.0, 9.0, 11.0], [7.015625, 9.015625, 11.015625]])
    values = mutual_information(logits)
    unlikely = torch.sigmoid(-logits[:, :, 0].double())
    expected = unlikely.var(0, correction=0) / (2 * unlikely.mean(0) * (1 - unlikely.mean(0)))  # to second order
    assert torch.allclose(values.double(), expected, rtol=1e-3, atol=0)
