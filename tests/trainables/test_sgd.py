"""Our SGD is torch's, step for step, without its compiler."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from trainables.sgd import SGD

RATES = [0.3, 0.2, 0.0, 0.05]


def network(dtype=torch.float32):
    torch.manual_seed(4)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))
    return layers.to(dtype).to(memory_format=torch.channels_last)


def groups_of(model, decay):
    parameters = list(model.parameters())
    return [{"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}]


def backward(model, step, *, zeroed=None):
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(7, 3, 8, 8, generator=generator).to(next(model.parameters()).dtype)
    model(images).square().mean().backward()
    if zeroed is not None:
        list(model.parameters())[zeroed].grad.zero_()


def close(ours, theirs):
    """To the last bit: the kernel's vector instructions round once where it rounds the rest of a tensor twice, and where a
    tensor's rest lies is another place in a longer one."""
    torch.testing.assert_close(ours, theirs, rtol=3e-7, atol=3e-8)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 5e-4])
@pytest.mark.parametrize("zeroed", [None, 0])
def test_the_weights_are_torchs(momentum, decay, zeroed):
    ours, theirs = network(), network()
    mine = SGD(groups_of(ours, decay), momentum=momentum)
    reference = torch.optim.SGD(groups_of(theirs, decay), lr=1.0, momentum=momentum, nesterov=momentum > 0, fused=True)
    for step, rate in enumerate(RATES):
        mine.zero_grad()
        reference.zero_grad()
        for model in (ours, theirs):
            backward(model, step, zeroed=zeroed)
        for group in reference.param_groups:
            group["lr"] = rate
        mine.step(rate)
        reference.step()
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            close(a, b)
    for mine_of, theirs_of in zip(ours.parameters(), theirs.parameters(), strict=True):
        buffer = reference.state[theirs_of].get("momentum_buffer")
        assert (mine_of in mine.momenta) == (buffer is not None)
        if buffer is not None:
            close(mine.momenta[mine_of], buffer)


@pytest.mark.parametrize("most", [1e-3, 0.05, 1e3])
def test_each_part_is_clipped_as_torch_does(most):
    ours, theirs = network(), network()
    parts = ([0, 1, 2], [4])  # the last linear layer by itself; nothing clips the rest
    mine = SGD(groups_of(ours, 0.1), momentum=0.9, clipped=[nn.ModuleList(ours[i] for i in part).parameters() for part in parts])
    for step in range(2):  # the second time on what has been clipped before
        mine.zero_grad()
        theirs.zero_grad()
        for model in (ours, theirs):
            backward(model, step)
        mine.clip(most)
        for part in parts:
            nn.utils.clip_grad_norm_(nn.ModuleList(theirs[i] for i in part).parameters(), most)
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=2e-6, atol=0)
            assert most < 1e3 or torch.equal(a.grad, b.grad)


def test_only_what_is_in_a_part_is_clipped_and_a_gradient_that_is_no_number_spreads_in_it():
    model = network()
    optimiser = SGD(groups_of(model, 0.0), momentum=0.0, clipped=[model[4].parameters()])
    backward(model, 0)
    model[4].bias.grad[0] = torch.nan
    kept = model[0].weight.grad.clone()
    optimiser.clip(1e-4)
    assert torch.equal(model[0].weight.grad, kept)
    assert model[4].weight.grad.isnan().all()


def test_what_the_backward_pass_finds_is_what_is_stepped():
    """Layouts are kept, so that no gradient is copied; a deep copy of the model is free of the original."""
    model = network()
    layouts = [p.stride() for p in model.parameters()]
    values = [p.detach().clone() for p in model.parameters()]
    optimiser = SGD(groups_of(model, 0.0), momentum=0.9)
    assert [p.stride() for p in model.parameters()] == layouts
    assert all(torch.equal(p, value) for p, value in zip(model.parameters(), values, strict=True))
    places = [p.grad.data_ptr() for p in model.parameters()]
    apart = copy.deepcopy(model)
    backward(model, 0)
    assert [p.grad.data_ptr() for p in model.parameters()] == places
    optimiser.step(0.1)
    assert all(not torch.equal(p, value) for p, value in zip(model.parameters(), values, strict=True))
    assert all(torch.equal(p, value) for p, value in zip(apart.parameters(), values, strict=True))


@pytest.mark.parametrize("odd", [
    lambda model: model.zero_grad(),
    lambda model: [setattr(p, "grad", None) for p in model.parameters()],
    lambda model: [setattr(p, "data", p.data.clone()) for p in model.parameters()],
])
def test_tensors_that_a_method_puts_in_their_places_are_taken_in(odd):
    ours, theirs = network(), network()
    mine = SGD(groups_of(ours, 0.1), momentum=0.9, clipped=[ours.parameters()])
    reference = torch.optim.SGD(groups_of(theirs, 0.1), lr=0.1, momentum=0.9, nesterov=True, fused=True)
    for step in range(3):
        mine.zero_grad()
        reference.zero_grad()
        odd(ours)
        for model in (ours, theirs):
            backward(model, step)
        ours[4].bias.grad = ours[4].bias.grad * 2  # what an ``adjust_gradients`` may do
        theirs[4].bias.grad.mul_(2)
        mine.clip(0.05)
        nn.utils.clip_grad_norm_(theirs.parameters(), 0.05)
        mine.step(0.1)
        reference.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_a_parameter_belongs_to_one_group_and_one_part():
    model = network()
    with pytest.raises(ValueError, match="two groups"):
        SGD([{"params": list(model.parameters())}, {"params": [model[0].weight]}], momentum=0.9)
    with pytest.raises(ValueError, match="two parts"):
        SGD(groups_of(model, 0.0), momentum=0.9, clipped=[model.parameters(), model[4].parameters()])


def test_parameters_of_several_types_and_none_at_all():
    single, double = network(), network(torch.float64)
    optimiser = SGD([{"params": [*single.parameters(), *double.parameters()], "weight_decay": 0.0},
                     {"params": [], "weight_decay": 0.1}, {"params": []}], momentum=0.9,
                    clipped=[[*single.parameters(), *double.parameters()]])
    before = [p.detach().clone() for p in double.parameters()]
    for model in (single, double):
        backward(model, 0)
    optimiser.clip(0.01)
    whole = torch.cat([p.grad.double().flatten() for p in (*single.parameters(), *double.parameters())])
    assert whole.norm().item() == pytest.approx(0.01, rel=1e-3)
    optimiser.step(0.1)
    assert any(not torch.equal(p, old) for p, old in zip(double.parameters(), before, strict=True))
    optimiser.zero_grad()
    assert all(not p.grad.any() for p in (*single.parameters(), *double.parameters()))


def test_a_trial_does_not_import_torchs_compiler():
    """Over a second and 75 MB in every worker."""
    code = """
import sys, numpy as np
from search_spaces import get_space
from trainables.data import View
from trainables.fit import TrainSettings, fit
images, labels = np.zeros((24, 8, 8, 1), np.uint8), np.arange(24) % 3
view = View(classes=("a", "b", "c"), image_shape=(8, 8, 1), mean=(0.3,), std=(0.25,), flips_keep_labels=False,
            rotations_keep_labels=False, digest="d", split=0, train_images=images, train_labels=labels,
            validation_images=images, validation_labels=labels)
params = get_space("hybrid").default() | {"learning_rate": 0.01, "width": 0.5}
fit(method="hybrid", view=view, params=params, seed=0, settings=TrainSettings(epochs=1, batch_size=8, device="cpu"))
print(sorted({"torch._dynamo", "sympy", "torchvision", "pytorch_ood", "ray", "mlflow"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
