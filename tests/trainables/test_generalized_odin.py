"""Generalized ODIN against its equations, written out image by image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch

from search_spaces import get_space
from trainables.methods import get_method
from trainables.methods.generalized_odin import EPSILONS, odin_score

METHOD = get_method("generalized_odin")
FORMS = [(h, g) for h in ("cosine", "inner", "euclid") for g in ("sigmoid_bn", "linear")]


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def build(shape=(8, 8, 1), *, seed=0, trained=False, **changed):
    """The default model in evaluation mode; ``trained``: after a few steps, so that no part is as initialised."""
    params = get_space("generalized_odin").default() | changed
    torch.manual_seed(seed)
    model = METHOD.build(shape, 3, "small_cnn", params)
    if trained:
        images, targets = batch(shape, count=24)
        optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        for _ in range(12):
            optimiser.zero_grad()
            METHOD.loss(model.train(), images, targets, params, torch.Generator())[0].backward()
            optimiser.step()
    return model.eval(), params


def batch(shape=(8, 8, 1), *, count=7, seed=1):
    """Each class bright in a part of its own, in noise."""
    height, width, channels = shape
    images = torch.randn(count, channels, height, width, generator=torch.Generator().manual_seed(seed))
    targets = torch.arange(count) % 3
    for i, target in enumerate(targets.tolist()):
        images[i, :, :, 2 * target : 2 * target + 3] += 1.5
    return images, targets


@dataclass
class Units:
    std: tuple[float, ...]


def naive_h(model, z: list[float], kind: str) -> list[float]:
    out = []
    for i, row in enumerate(model.h.weight.tolist()):
        product = sum(a * b for a, b in zip(row, z))
        if kind == "cosine":
            out.append(product / math.sqrt(sum(a * a for a in row)) / math.sqrt(sum(b * b for b in z)))
        elif kind == "inner":
            out.append(product + model.h.bias[i].item())
        else:
            out.append(-sum((b - a) ** 2 for a, b in zip(row, z)))
    return out


def naive_g(model, z: list[float], form: str) -> float:
    raw = sum(a * b for a, b in zip(model.g.linear.weight[0].tolist(), z))
    if form == "linear":
        return math.log1p(math.exp(raw + model.g.linear.bias.item())) + 0.01
    norm = model.g.norm
    scaled = (raw - norm.running_mean.item()) / math.sqrt(norm.running_var.item() + norm.eps)
    return 1 / (1 + math.exp(-(scaled * norm.weight.item() + norm.bias.item())))


@pytest.mark.parametrize(("similarity", "g_form"), FORMS)
def test_logits_are_the_quotient_of_h_and_g(similarity, g_form):
    model, _ = build(similarity=similarity, g_form=g_form, trained=True)
    images, _ = batch()
    out = METHOD.embed(model, images)
    for i, z in enumerate(out["z"].tolist()):
        h, g = naive_h(model, z, similarity), naive_g(model, z, g_form)
        assert out["logits"][i].tolist() == pytest.approx([value / g for value in h], rel=1e-3, abs=1e-4)
        assert out["godin_h"][i].item() == pytest.approx(-max(h), rel=1e-3, abs=1e-5)
        assert out["godin_g"][i].item() == pytest.approx(-g, rel=1e-3)
    assert torch.allclose(METHOD.logits(model, images), out["logits"], atol=1e-5)


@pytest.mark.parametrize(("similarity", "g_form"), FORMS)
def test_cross_entropy_of_the_quotient_teaches_both(similarity, g_form):
    """Gradients of the formula in one expression, the batch's own statistics in g."""
    model, params = build(similarity=similarity, g_form=g_form)
    images, targets = batch()
    loss, _ = METHOD.loss(model.train(), images, targets, params, torch.Generator())
    parts = {"h": model.h.weight, "g": model.g.linear.weight}
    got = torch.autograd.grad(loss, list(parts.values()))

    z, w, v = model.encoder(images).detach(), model.h.weight, model.g.linear.weight[0]
    if similarity == "cosine":
        h = torch.stack([torch.stack([(w_i @ x) / (w_i.norm() * x.norm()) for w_i in w]) for x in z])
    elif similarity == "inner":
        h = torch.stack([torch.stack([w_i @ x + b for w_i, b in zip(w, model.h.bias)]) for x in z])
    else:
        h = torch.stack([torch.stack([-((x - w_i) ** 2).sum() for w_i in w]) for x in z])
    raw = torch.stack([v @ x for x in z])
    if g_form == "linear":
        g = torch.log(1 + torch.exp(raw + model.g.linear.bias)) + 0.01
    else:
        g = 1 / (1 + torch.exp(-(raw - raw.mean()) / torch.sqrt(((raw - raw.mean()) ** 2).mean() + 1e-5)))
    f = h / g[:, None]
    expected = torch.stack([torch.log(torch.exp(row - row[t]).sum()) for row, t in zip(f, targets)]).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    for name, ours, theirs in zip(parts, got, torch.autograd.grad(expected, list(parts.values()))):
        assert ours.abs().sum() > 0, name
        scale = theirs.abs().max().item()
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3 * scale), name


def test_g_is_positive_wherever_its_line_goes():
    for form in ("linear", "sigmoid_bn"):
        model, _ = build(g_form=form)
        z = torch.linspace(-1e4, 1e4, 9)[:, None].expand(-1, model.encoder.z_dim)
        h, g = model.quotient(z)
        assert (g > 0).all() and torch.isfinite(h / g).all(), form


def test_no_weight_decay_on_h_and_some_on_the_rest():
    for similarity in ("cosine", "inner", "euclid"):
        model, params = build(similarity=similarity)
        groups = METHOD.parameter_groups(model, params)
        decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
        assert len(decay) == sum(len(group["params"]) for group in groups)
        assert set(decay) == {id(p) for p in model.parameters()}
        assert all(decay[id(p)] == 0 for p in model.h.parameters())
        assert decay[id(model.g.linear.weight)] == params["weight_decay"] > 0
        assert all(decay[id(p)] == params["weight_decay"] for p in model.encoder.parameters() if p.ndim > 1)


def moved(model, image, epsilon: float, std):
    """One image moved by the paper's equation, a channel's ε in normalised units being ε / σ."""
    image = image.clone().requires_grad_()
    h = model.h(model.encoder(image[None]))[0]
    (gradient,) = torch.autograd.grad(-h[int(h.argmax())], image)
    out = image.detach().clone()
    for channel, sigma in enumerate(std):
        out[channel] -= epsilon / sigma * torch.sign(gradient[channel])
    return out


@pytest.mark.parametrize(("shape", "std"), [((8, 8, 1), (0.4,)), ((12, 10, 3), (0.1, 0.25, 0.5))])
def test_moved_scores_are_those_of_the_moved_image(shape, std):
    model, _ = build(shape, trained=True, odin_temperature=7.0)
    METHOD.prepare(model, Units(std))
    model.epsilon.fill_(0.02)
    images, _ = batch(shape)
    out = METHOD.embed(model, images)
    for i, image in enumerate(images):
        z = model.encoder(moved(model, image, 0.02, std)[None])
        f = [value / model.g(z).item() / 7.0 for value in model.h(z)[0].tolist()]
        assert out["godin_h_perturbed"][i].item() == pytest.approx(-model.h(z).max().item(), abs=1e-4)
        others = sum(math.exp(value - max(f)) for value in f) - 1  # of the softmax at T = 7, over the largest
        assert out["odin"][i].item() == pytest.approx(7 * math.log(others / 2), abs=5e-3)


def test_a_small_move_raises_the_largest_similarity():
    model, _ = build(trained=True)
    images, _ = batch(count=60, seed=5)
    model.epsilon.fill_(0.005)
    out = METHOD.embed(model, images)
    assert (out["godin_h_perturbed"] < out["godin_h"]).float().mean() > 0.9


@pytest.mark.parametrize("best", [0.0, 0.02, 0.08])
def test_epsilon_is_the_one_of_the_grid_with_the_largest_mean_score(best, monkeypatch):
    """The move of a trained network raises the score up to the end of the grid; turned round, it never does."""
    model, params = build((12, 10, 3), trained=True)
    METHOD.prepare(model, Units((0.2, 0.25, 0.3)))
    images, _ = batch((12, 10, 3), count=20, seed=3)
    if best != 0.08:
        inner = type(model).step

        def step(self, x):  # overshoots: towards the largest score at first, away from it with growing ε
            *rest, direction = inner(self, x)
            return *rest, -direction if best == 0 else direction * 40

        monkeypatch.setattr(type(model), "step", step)
    means = []
    for epsilon in EPSILONS:
        direction = model.step(images)[-1]
        scores = [max(model.h(model.encoder((x + epsilon * d)[None]))[0].tolist()) for x, d in zip(images, direction)]
        means.append(sum(scores) / len(scores))
    with torch.inference_mode():
        METHOD.complete(model, train=[], validation=list(images.split(6)), params=params)
    assert model.epsilon.item() == pytest.approx(EPSILONS[means.index(max(means))])
    if best != 0.02:
        assert model.epsilon.item() == pytest.approx(best)
    else:
        assert 0 < model.epsilon.item() < 0.08


@pytest.mark.parametrize("temperature", [1.0, 1000.0])
def test_odin_orders_images_as_the_softmax_does_and_keeps_them_apart(temperature):
    """Even in float32, in which scores are kept and in which 1 − max softmax of these images ties."""
    logits = torch.tensor([[40.0, 0.0, 0.0], [60.0, 0.0, 1.0], [3.0, 2.0, 1.0], [3.0, 2.0, 1.00001], [3.0, 2, 1.0001],
                           [0.0, 0.0, 0.0], [1e5, 0.0, -3.0]])
    score = odin_score(logits, temperature)
    others = [sum(math.exp((float(v) - max(row.tolist())) / temperature) for v in row) - 1 for row in logits.double()]
    p_other = [s / (1 + s) for s in others]  # 1 − max softmax
    for s, own in zip(others, score.tolist()):
        assert own == pytest.approx(temperature * math.log(s / 2) if s > 0 else own, rel=1e-6, abs=1e-9)
    kept = score.float().tolist()
    assert len(set(kept)) == len(logits)
    apart = [(i, j) for i in range(7) for j in range(7) if p_other[i] > p_other[j] * (1 + 1e-9)]
    assert all(kept[i] > kept[j] for i, j in apart) and len(apart) > 15


def test_more_images_than_one_part_are_all_scored():
    model, _ = build(trained=True)
    images = torch.randn(130, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    out, alone = METHOD.embed(model, images), METHOD.embed(model, images[128:])
    assert all(len(values) == 130 and torch.allclose(values[128:], alone[name], atol=1e-5)
               for name, values in out.items())


def test_an_image_alone_can_be_trained_on():
    model, params = build()
    loss, _ = METHOD.loss(model.train(), torch.randn(1, 1, 8, 8), torch.zeros(1, dtype=torch.long), params,
                          torch.Generator().manual_seed(0))
    assert torch.isfinite(loss)


def test_dropout_and_label_smoothing_reach_the_loss():
    images, targets = batch()
    losses = set()
    for changed in ({}, {"dropout": 0.5}, {"label_smoothing": 0.2}):
        model, params = build(**changed)
        losses.add(round(METHOD.loss(model.eval(), images, targets, params, torch.Generator().manual_seed(0))[0].item(), 6))
    assert len(losses) == 3


def test_scoring_leaves_no_gradient_and_works_in_inference_mode():
    model, params = build(trained=True)
    model.zero_grad()
    images, _ = batch()
    plain = METHOD.embed(model, images)
    with torch.inference_mode():
        METHOD.complete(model, train=[], validation=[images], params=params)
        model.epsilon.zero_()
        inferred = METHOD.embed(model, images.clone())
    assert all(torch.equal(plain[name], inferred[name]) for name in plain)
    assert all(p.grad is None for p in model.parameters())


def test_the_chosen_epsilon_and_the_units_are_kept_with_the_weights():
    model, _ = build()
    METHOD.prepare(model, Units((0.3,)))
    model.epsilon.fill_(0.04)
    other, _ = build(seed=1)
    other.load_state_dict(model.state_dict())
    images, _ = batch()
    for name, value in METHOD.embed(model, images).items():
        assert torch.equal(value, METHOD.embed(other, images)[name]), name
