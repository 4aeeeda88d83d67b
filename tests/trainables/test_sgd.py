"""Our SGD is torch's, step for step, without its compiler."""

from __future__ import annotations

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


def backward(model, step, *, without=None):
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(7, 3, 8, 8, generator=generator).to(next(model.parameters()).dtype)
    model(images).square().mean().backward()
    if without is not None:
        list(model.parameters())[without].grad = None


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 5e-4])
@pytest.mark.parametrize("without", [None, 0])
def test_the_weights_are_torchs_bit_for_bit(momentum, decay, without):
    ours, theirs = network(), network()
    mine = SGD(groups_of(ours, decay), momentum=momentum)
    reference = torch.optim.SGD(groups_of(theirs, decay), lr=1.0, momentum=momentum, nesterov=momentum > 0, fused=True)
    for step, rate in enumerate(RATES):
        mine.zero_grad()
        reference.zero_grad()
        for model in (ours, theirs):
            backward(model, step, without=without)
        for group in reference.param_groups:
            group["lr"] = rate
        mine.step(rate)
        reference.step()
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True)), step
    for mine_of, theirs_of in zip(ours.parameters(), theirs.parameters(), strict=True):
        buffer = reference.state[theirs_of].get("momentum_buffer")
        assert ("momentum_buffer" in mine.state[mine_of]) == (buffer is not None)
        assert buffer is None or torch.equal(buffer, mine.state[mine_of]["momentum_buffer"])


def test_parameters_of_several_types_and_none_at_all():
    single, double = network(), network(torch.float64)
    optimiser = SGD([{"params": [*single.parameters(), *double.parameters()], "weight_decay": 0.0},
                     {"params": [], "weight_decay": 0.1}, {"params": []}], momentum=0.9)
    before = [p.detach().clone() for p in double.parameters()]
    for model in (single, double):
        backward(model, 0)
    optimiser.step(0.1)
    assert any(not torch.equal(p, old) for p, old in zip(double.parameters(), before, strict=True))
    optimiser.zero_grad()
    assert all(p.grad is None for p in (*single.parameters(), *double.parameters()))


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
