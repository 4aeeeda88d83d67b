"""JEM against its equations: the sampler in the paper's units, the buffer, the loss, and what must not leak."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from search_spaces import get_space
from trainables import checkpoint
from trainables.data import View
from trainables.fit import Training, TrainSettings
from trainables.methods import get_method
from trainables.methods.base import Diverged
from trainables.methods.jem import LARGEST_GAP, langevin, sample

METHOD = get_method("jem")
MEAN, STD = (0.3, 0.5, 0.6), (0.1, 0.25, 0.4)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def blobs(count, channels, *, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = rng.integers(0, 90, (count, 8, 8, channels))
    for i, label in enumerate(labels):
        images[i, :, 1 + 2 * label : 3 + 2 * label] += 130
    return images.astype(np.uint8), labels.astype(np.int64)


def view_of(count=60, channels=3):
    train, validation = blobs(count, channels), blobs(18, channels, seed=1)
    return View(classes=("left", "middle", "right"), image_shape=(8, 8, channels), mean=MEAN[:channels],
                std=STD[:channels], flips_keep_labels=False, rotations_keep_labels=False, digest="d",
                split=0, train_images=train[0],
                train_labels=train[1], validation_images=validation[0], validation_labels=validation[1])


def build(*, count=60, **changed):
    """A prepared model whose zero-initialised branches are awake, and its parameters."""
    params = get_space("jem").default() | {"width": 0.5, "sgld_steps": 3} | changed
    torch.manual_seed(0)
    model = METHOD.build((8, 8, 3), 3, "small_cnn", params)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    METHOD.prepare(model, view_of(count))
    return model, params


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(count=6):
    return torch.randn(count, 3, 8, 8, generator=generator(9)), torch.arange(count) % 3


def network(model, image_in_paper_units):
    """log density of one image of −1..1, normalised here by the view's mean and std, class by class."""
    channels = [((plane + 1) / 2 - m) / s for plane, m, s in zip(image_in_paper_units, MEAN, STD)]
    logits = model.head(model.encoder(torch.stack(channels)[None]))[0]
    return torch.log(sum(torch.exp(value) for value in logits))


def in_paper_units(images):
    return torch.stack([2 * (images[:, c] * STD[c] + MEAN[c]) - 1 for c in range(3)], 1)


@pytest.mark.parametrize(("step_size", "noise"), [(1.0, 0.0), (0.3, 0.05)])
def test_sampler_is_langevin_dynamics_on_images_of_minus_one_to_one(step_size, noise):
    model, params = build(sgld_step_size=step_size, sgld_noise=noise)
    images, _ = batch(4)
    got = langevin(model, images, params, generator(3))

    draws, u = generator(3), in_paper_units(images)
    for _ in range(3):
        kicks = torch.randn(u.shape, generator=draws)
        moved = []
        for image, kick in zip(u, kicks):
            image = image.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(network(model, image), image)
            moved.append(image.detach() + step_size * gradient + noise * kick)
        u = torch.stack(moved)
    assert (in_paper_units(images) - u).abs().max() > 0.01, "nothing moved: the test would see nothing"
    assert torch.allclose(in_paper_units(got), u, atol=1e-4)


def test_without_noise_samples_gain_density():
    model, params = build(sgld_noise=0.0, sgld_step_size=0.1, sgld_steps=10)
    images, _ = batch(16)
    before, after = (model.log_density(x) for x in (images, langevin(model, images, params, generator())))
    assert (after > before).all()


def test_sampling_leaves_no_gradient_anywhere():
    model, params = build()
    samples = sample(model, 8, params, generator())
    assert not samples.requires_grad and not model.replay.requires_grad
    assert all(p.grad is None for p in model.parameters())


def test_buffer_keeps_what_it_gave_and_leaves_the_rest_alone():
    model, params = build(reinitialised=0.0, sgld_noise=0.0)
    before = model.replay.clone()
    samples = sample(model, 20, params, generator(1))
    changed = (model.replay != before).flatten(1).any(1)
    assert changed.sum() == 20 and len(samples) == 20
    stored, given = model.replay[changed].float(), in_paper_units(samples)
    distance = torch.cdist(given.flatten(1), stored.flatten(1))
    assert (distance.min(1).values < 0.02).all() and distance.argmin(1).unique().numel() == 20, "each back in one slot"
    # every sample came from the slot it went back to
    again, _ = build(reinitialised=0.0, sgld_noise=0.0)
    again.replay = before.clone()
    starts = torch.stack([((before[changed].float()[:, c] + 1) / 2 - MEAN[c]) / STD[c] for c in range(3)], 1)
    expected = in_paper_units(langevin(again, starts, params, generator()))
    assert torch.allclose(stored, expected, atol=2e-3)


def test_a_share_of_the_samples_begins_anew_from_uniform_noise():
    model, params = build(count=400, reinitialised=0.05, sgld_noise=0.0, sgld_step_size=1e-12, sgld_steps=1)
    fresh, draws = [], generator(2)
    for _ in range(10):
        model.replay.fill_(5.0)  # outside the range of what begins anew
        samples = in_paper_units(sample(model, 400, params, draws))
        anew = samples.flatten(1).mean(1) < 3
        assert (samples[~anew] - 5).abs().max() < 1e-2
        fresh.append(samples[anew])
    fresh = torch.cat(fresh)
    assert abs(len(fresh) / 4000 - 0.05) < 4 * math.sqrt(0.05 * 0.95 / 4000)
    assert -1.001 < fresh.min() < -0.99 and 0.99 < fresh.max() < 1.001
    assert abs(fresh.mean().item()) < 0.02 and fresh.var().item() == pytest.approx(1 / 3, abs=0.01)


def test_buffer_starts_uniform_and_is_no_longer_than_the_training_set():
    for count, size, expected in ((60, 10_000, 60), (60, 40, 40)):
        model, params = build(count=count, buffer_size=size)
        assert model.replay.shape == (expected, 3, 8, 8)
        assert model.replay.min() >= -1 and model.replay.max() <= 1 and abs(model.replay.float().mean().item()) < 0.05
        assert len(sample(model, 100, params, generator())) == expected, "no slot twice at once"


def test_loss_is_cross_entropy_plus_the_energy_gap():
    model, params = build(energy_weight=0.7, sgld_noise=0.0, input_noise=0.0)
    images, targets = batch()
    twin, _ = build(energy_weight=0.7, sgld_noise=0.0)
    draws = generator(4)
    torch.randn(images.shape, generator=draws)  # the input noise comes first
    samples = sample(twin, len(images), params, draws)
    loss, parts = METHOD.loss(model, images, targets, params, generator(4))

    cross_entropy, energies = 0.0, []
    for image, target in zip(images, targets):
        exps = [math.exp(value) for value in model(image[None])[1][0].tolist()]
        cross_entropy -= math.log(exps[target] / sum(exps)) / len(images)
        energies.append(-math.log(sum(exps)))
    sampled = [-math.log(sum(math.exp(value) for value in row)) for row in model(samples)[1].tolist()]
    gap = sum(energies) / 6 - sum(sampled) / 6
    assert parts["energy_gap"].item() == pytest.approx(gap, abs=1e-4)
    assert loss.item() == pytest.approx(cross_entropy + 0.7 * gap, abs=1e-4)
    assert parts["cross_entropy"].item() == pytest.approx(cross_entropy, abs=1e-4)


def test_following_the_loss_favours_images_over_samples():
    """The samples are constants: what moves is the network, towards low energy of images and high energy of samples."""
    model, params = build(energy_weight=1.0, input_noise=0.0)
    images, targets = batch()
    loss, parts = METHOD.loss(model, images, targets, params, generator(4))
    draws = generator(4)
    torch.randn(images.shape, generator=draws)
    samples = sample(build()[0], len(images), params, draws)
    energy_of = [-torch.stack([torch.log(torch.exp(model(x[None])[1]).sum()) for x in some]).mean()
                 for some in (images, samples)]
    cross_entropy = torch.nn.functional.cross_entropy(model(images)[1], targets)
    weights = list(model.parameters())
    expected = torch.autograd.grad(cross_entropy + energy_of[0] - energy_of[1], weights)
    for ours, theirs in zip(torch.autograd.grad(loss, weights), expected):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3 * theirs.abs().max().item())
    assert parts["energy_gap"].item() == pytest.approx((energy_of[0] - energy_of[1]).item(), abs=1e-4)


def test_noise_on_the_images_is_in_the_papers_units():
    model, params = build(input_noise=0.03, energy_weight=0.0)
    images, targets = batch(5)
    _, parts = METHOD.loss(model, images, targets, params, generator(6))
    noise = torch.randn(images.shape, generator=generator(6))
    u = in_paper_units(images) + 0.03 * noise
    noisy = torch.stack([((u[:, c] + 1) / 2 - MEAN[c]) / STD[c] for c in range(3)], 1)
    expected = torch.nn.functional.cross_entropy(model(noisy)[1], targets)
    assert parts["cross_entropy"].item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e6])
def test_a_runaway_energy_is_an_outcome(value):
    model, params = build()
    images, targets = batch()
    with torch.no_grad():
        model.head.weight.mul_(1e6) if value == 1e6 else model.head.weight.fill_(value)
    with pytest.raises(Diverged, match="energy gap"):
        METHOD.loss(model, images, targets, params, generator())
    assert LARGEST_GAP > 100


def test_approximate_mass_is_the_slope_of_the_log_density():
    model, _ = build()
    images, _ = batch(4)
    with torch.inference_mode():
        out = METHOD.embed(model.eval(), images)
    for image, mass, logits in zip(in_paper_units(images), out["approximate_mass"], out["logits"]):
        image = image.clone().requires_grad_()
        density = network(model, image)
        (gradient,) = torch.autograd.grad(density, image)
        assert mass.item() == pytest.approx(math.sqrt(sum(v * v for v in gradient.flatten().tolist())), rel=1e-3)
        assert logits.exp().sum().log().item() == pytest.approx(density.item(), abs=1e-4)
    assert all(p.grad is None for p in model.parameters())


def test_no_image_sees_another_and_the_head_is_linear():
    model, _ = build()
    images, _ = batch()
    z, logits = model.train()(images)
    assert not any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in model.modules())
    assert torch.allclose(model(images[2:3])[1], logits[2:3], atol=1e-5)
    weight, bias = METHOD.head(model)
    assert torch.allclose(z @ weight.T + bias, logits, atol=1e-5)


def test_cut_between_epochs_it_goes_on_bit_for_bit_and_the_finished_file_has_no_buffer(tmp_path):
    view, settings = view_of(48), TrainSettings(epochs=2, batch_size=16, device="cpu")
    params = get_space("jem").default() | {"width": 0.25, "sgld_steps": 2}

    def start(name):
        return Training(method="jem", view=view, params=params, settings=settings, seed=5, folder=tmp_path / name)

    whole = start("whole")
    whole.step()
    whole.step()
    start("parts").step()
    parts = start("parts")
    assert parts.epoch == 1 and len(parts.model.replay) == 48
    parts.step()
    assert torch.equal(whole.model.replay, parts.model.replay)
    first, second = whole.finish(), parts.finish()
    for key in ("weights_sha256", "features_sha256", "signals"):
        assert first[key] == second[key], key
    stored = checkpoint.read_tensors(tmp_path / "parts" / "model.safetensors", second["weights_sha256"])
    assert "replay" not in stored and {"mean", "std", "head.weight"} <= set(stored)


def test_a_learning_rate_far_too_high_diverges(tmp_path):
    params = get_space("jem").default() | {"width": 0.25, "sgld_steps": 2, "learning_rate": 1e6}
    training = Training(method="jem", view=view_of(48), params=params, seed=5, folder=tmp_path,
                        settings=TrainSettings(epochs=3, batch_size=16, device="cpu"))
    with pytest.raises(Diverged):
        while not training.done:
            training.step()
