"""The SVGD ensemble: its direction against the equations, its moments against a posterior that is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from search_spaces import get_space
from trainables.data import View
from trainables.fit import Training, TrainSettings
from trainables.methods import get_method
from trainables.methods.svgd_ensemble import log_density, svgd_direction

METHOD, CLASSIFIER = get_method("svgd_ensemble"), get_method("classifier")
COUNT = 200  # training images


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def median_bandwidth(points):
    """h of all pairs, each with itself too, as the authors' code takes it."""
    squares = sorted(float(((a - b) ** 2).sum()) for a in points for b in points)
    middle = len(squares) // 2
    median = squares[middle] if len(squares) % 2 else (squares[middle - 1] + squares[middle]) / 2
    return median / math.log(len(points) + 1)


def naive_direction(theta, grad_log_p, weight=1.0):
    """φ by the paper's double sum, the kernel differentiated by autograd."""
    bandwidth, phi = median_bandwidth(theta), torch.zeros_like(theta)
    for i, target in enumerate(theta):
        for j, source in enumerate(theta):
            moved = source.clone().requires_grad_()
            kernel = torch.exp(-((moved - target) ** 2).sum() / bandwidth)
            (slope,) = torch.autograd.grad(kernel, moved)
            phi[i] += (kernel.detach() * grad_log_p[j] + weight * slope) / len(theta)
    return phi


def particles(members=4, dimensions=7):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, members, dimensions, generator=generator, dtype=torch.float64)


def ensemble(*, width=0.5, seed=0, **changed):
    params = get_space("svgd_ensemble").default() | {"ensemble_size": 3, "width": width} | changed
    torch.manual_seed(seed)
    model = METHOD.build((8, 8, 1), 3, "small_cnn", params).train()
    model.images_trained_on.fill_(COUNT)
    return model, params


def batch():
    return torch.randn(12, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(12) % 3


def handed_over(model, params):
    """Each particle's gradient as the optimiser gets it; M×P."""
    model.zero_grad()
    METHOD.loss(model, *batch(), params, torch.Generator().manual_seed(2))[0].backward()
    METHOD.adjust_gradients(model, params)
    return torch.stack([flat(p.grad for p in member.parameters()) for member in model.members])


def alone(model, params):
    """Weights and the gradients of mean cross-entropy and prior, particle by particle; M×P each."""
    gradients = []
    for member in model.members:
        loss, _ = CLASSIFIER.loss(member, *batch(), params, torch.Generator().manual_seed(2))
        loss = loss + params["weight_decay"] / 2 * sum((p**2).sum() for p in member.parameters() if p.ndim > 1)
        gradients.append(flat(torch.autograd.grad(loss, list(member.parameters()))))
    return torch.stack([flat(member.parameters()) for member in model.members]).detach(), torch.stack(gradients)


def flat(tensors):
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def close(a, b):
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5 * b.abs().max().item())


@pytest.mark.parametrize("members", [2, 3, 4, 5])
@pytest.mark.parametrize("weight", [0.0, 1.0, 7.0])
def test_direction_is_the_papers_double_sum(members, weight):
    theta, gradient = particles(members)
    assert torch.allclose(svgd_direction(theta, gradient, weight), naive_direction(theta, gradient, weight), atol=1e-12)


def test_direction_does_not_depend_on_the_particles_order():
    theta, gradient = particles(5)
    order = torch.tensor([3, 0, 4, 1, 2])
    assert torch.allclose(svgd_direction(theta, gradient)[order], svgd_direction(theta[order], gradient[order]))


def test_particles_all_alike_move_together():
    theta, gradient = particles(5, 1000)
    theta = theta[:1].float().expand(5, -1)
    direction = svgd_direction(theta, gradient.float(), 1e6)
    assert torch.allclose(direction, gradient.float().mean(0).expand(5, -1), atol=1e-6)


def test_a_lone_particle_takes_its_own_gradient_whole():
    # four together and one far off: the median is of the four, so that the kernel does not reach the fifth
    theta, gradient = particles(5)
    theta[4] += 1e3
    assert torch.allclose(5 * svgd_direction(theta, gradient, 0.0)[4], gradient[4])


@pytest.mark.parametrize("mean,covariance,tolerance", [
    ([1.5], [[0.49]], 0.08), ([1.5, -1.0], [[1.0, 0.6], [0.6, 1.5]], 0.15)])
def test_fifty_particles_take_the_moments_of_a_known_posterior(mean, covariance, tolerance):
    """SVGD's own bias leaves 5 % of the variance in one dimension and 12 % in two; the variance is proportional to the
    repulsion, so that a wrong factor, sign or bandwidth shows."""
    mean, covariance = (torch.tensor(value, dtype=torch.float64) for value in (mean, covariance))
    precision = torch.linalg.inv(covariance)
    theta = torch.randn(50, len(mean), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    velocity = torch.zeros_like(theta)
    for _ in range(300):
        velocity = 0.9 * velocity + svgd_direction(theta, (mean - theta) @ precision)
        theta = theta + 0.1 * velocity
    assert torch.allclose(theta.mean(0), mean, atol=0.01)
    error = torch.linalg.matrix_norm(theta.T.cov().reshape(covariance.shape) - covariance)
    assert error < tolerance * torch.linalg.matrix_norm(covariance)


def test_weights_get_the_direction_in_units_of_the_mean_loss():
    model, params = ensemble(repulsion_weight=300.0, weight_decay=0.02, label_smoothing=0.1)
    theta, gradients = alone(model, params)
    expected = -3 / COUNT * naive_direction(theta, -COUNT * gradients, 300.0)
    repulsion = 3 / COUNT * naive_direction(theta, torch.zeros_like(gradients), 300.0)
    assert repulsion.norm() > 0.02 * expected.norm(), "too weak a repulsion to be tested"
    assert close(handed_over(model, params), expected)


def test_functions_get_the_gradient_of_the_written_out_objective():
    model, params = ensemble(repulsion="function", repulsion_weight=300.0, weight_decay=0.02)
    _, expected = alone(model, params)
    images, _ = batch()
    functions = [member(images)[1].softmax(1).flatten() for member in model.members]
    held = [f.detach() for f in functions]
    bandwidth = median_bandwidth(held)
    repulsion = []
    for f, member in zip(functions, model.members):
        density = torch.log(sum(torch.exp(-((f - other) ** 2).sum() / bandwidth) for other in held))
        repulsion.append(flat(torch.autograd.grad(300.0 / COUNT * density, list(member.parameters()))))
    repulsion = torch.stack(repulsion)
    assert repulsion.norm() > 0.02 * expected.norm(), "too weak a repulsion to be tested"
    assert close(handed_over(model, params), expected + repulsion)


def test_without_repulsion_of_functions_each_particle_is_a_classifier():
    model, params = ensemble(repulsion="function", repulsion_weight=0.0)
    assert close(handed_over(model, params), alone(model, params)[1])


def test_repulsion_moves_predictions_apart():
    functions = torch.rand(4, 30, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (slope,) = torch.autograd.grad(log_density(functions).sum(), functions)
    assert torch.pdist(functions - 0.01 * slope).mean() > torch.pdist(functions).mean()


def test_predictions_all_alike_give_no_infinite_force():
    functions = torch.rand(1, 30).expand(4, -1).clone().requires_grad_()
    (slope,) = torch.autograd.grad(log_density(functions).sum(), functions)
    assert torch.equal(slope, torch.zeros(4, 30))


def test_particles_share_batches_are_clipped_apart_and_decay_by_the_prior_alone():
    model, params = ensemble()
    assert METHOD.members(model) == [model] and METHOD.clipped(model) == list(model.members)
    groups = METHOD.parameter_groups(model, params)
    assert all(group["weight_decay"] == 0 for group in groups)
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(id(p) for p in model.parameters())


@pytest.mark.parametrize("repulsion", ["weights", "function"])
def test_trains_through_the_loop_which_counts_the_images(repulsion):
    rng = np.random.default_rng(0)
    labels = (np.arange(60) % 3).astype(np.int64)
    images = rng.integers(0, 90, (60, 8, 8, 1))
    for i, label in enumerate(labels):
        images[i, :, 1 + 2 * label : 3 + 2 * label] += 130
    images = images.astype(np.uint8)
    view = View(classes=("left", "middle", "right"), image_shape=(8, 8, 1), mean=(0.3,), std=(0.25,),
                flips_keep_labels=False, rotations_keep_labels=False, digest="d", split=0, train_images=images[:40],
                train_labels=labels[:40], validation_images=images[40:], validation_labels=labels[40:])
    params = get_space("svgd_ensemble").default() | {"ensemble_size": 2, "width": 0.5, "repulsion": repulsion}
    training = Training(method="svgd_ensemble", view=view, params=params, seed=0,
                        settings=TrainSettings(epochs=5, batch_size=8, device="cpu"))
    rows = [training.step() for _ in range(5)]
    assert training.model.images_trained_on.item() == 40
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert F.cross_entropy(torch.zeros(1, 3), torch.zeros(1, dtype=torch.long)).item() > rows[-1]["val_nll"]
