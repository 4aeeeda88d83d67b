"""The contrastive losses and the shifts that both forms of CSI share, against loops written from the equations."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from contrastive_reference import pairwise
from torch.nn import functional as F

from trainables.methods._contrastive import Shifts, nearest, nt_xent, supervised_contrastive


def pictures(count, shape):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))


def assert_same_value_and_gradient(fast, slow, p):
    ours, theirs = p.clone().requires_grad_(), p.double().requires_grad_()
    value, expected = fast(ours), slow(theirs)
    value.backward(), expected.backward()
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(ours.grad, theirs.grad.float(), atol=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 0.07])
def test_nt_xent_is_the_equation(temperature):
    p = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    assert_same_value_and_gradient(
        lambda p: nt_xent(p, temperature=temperature),
        lambda p: pairwise(p, lambda i: [(i + 5) % 10], temperature=temperature), p)


@pytest.mark.parametrize("labels", [[0, 0, 1, 2, 2, 2, 1, 0], [0, 0, 1, 2, 2, 2, 2, 0], [0, 1, 2, 3, 0, 1, 2, 3]])
def test_supervised_contrastive_is_the_equation(labels):
    """The second has a label of one row: no anchor, but still a negative of the others."""
    p = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    assert_same_value_and_gradient(
        lambda p: supervised_contrastive(p, torch.tensor(labels), temperature=0.5),
        lambda p: pairwise(p, lambda i: [j for j in range(8) if j != i and labels[j] == labels[i]], temperature=0.5), p)


def test_losses_are_blind_to_length_and_bounded_below_by_alignment():
    p = torch.randn(8, 5)
    assert nt_xent(3 * p, temperature=0.5).item() == pytest.approx(nt_xent(p, temperature=0.5).item(), rel=1e-5)
    apart = torch.eye(4).repeat(2, 1)
    assert nt_xent(apart, temperature=0.5).item() == pytest.approx(math.log(math.e**2 + 6) - 2, rel=1e-5)


def test_losses_are_not_rounded_under_autocast():
    p = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    exact = nt_xent(p, temperature=0.07), supervised_contrastive(p, torch.arange(8) % 3, temperature=0.07)
    with torch.autocast("cpu", torch.bfloat16):
        assert nt_xent(p, temperature=0.07) == exact[0]
        assert supervised_contrastive(p, torch.arange(8) % 3, temperature=0.07) == exact[1]


def test_similarities_in_parts_are_those_of_the_whole(monkeypatch):
    p, bank = torch.randn(7, 4), F.normalize(torch.randn(5, 4), dim=1)
    whole = nearest(p, bank)
    monkeypatch.setattr("trainables.methods._contrastive.SIMILARITIES", 10)
    assert torch.allclose(nearest(p, bank), whole)
    assert torch.equal(nearest(p, bank[:0]), p.norm(dim=1)), "without a bank the length is the score"


@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 7), (20, 12)])
def test_the_four_permutations(height, width):
    x = pictures(2, (3, height, width)).numpy()
    top, bottom = x[:, :, : height // 2], x[:, :, height // 2 :]
    left, right = x[..., : width // 2], x[..., width // 2 :]
    columns = np.concatenate([right, left], 3)
    rows = np.concatenate([bottom, top], 2)
    both = np.concatenate([columns[:, :, height // 2 :], columns[:, :, : height // 2]], 2)
    shifted = Shifts((height, width, 3), "auto")(torch.from_numpy(x))
    for got, expected in zip(shifted, (x, columns, rows, both), strict=True):
        assert np.array_equal(got.numpy(), expected)


def test_the_four_rotations():
    x = pictures(2, (3, 6, 6))
    for quarter, got in enumerate(Shifts((6, 6, 3), "rotation")(x)):
        assert np.array_equal(got.numpy(), np.rot90(x.numpy(), quarter, (2, 3)))


def test_noise_stays_among_the_colours_there_are():
    """In training and in scoring alike, or the second would see what the first never did."""
    shifts = Shifts((6, 6, 3), "noise")
    shifts.describe(SimpleNamespace(mean=(0.5, 0.2, 0.9), std=(0.25, 0.2, 0.1), rotations_keep_labels=False))
    x = torch.rand(20, 3, 6, 6).sub(torch.tensor([0.5, 0.2, 0.9])[:, None, None]) / torch.tensor([0.25, 0.2, 0.1])[:, None, None]
    for generator in (None, torch.Generator().manual_seed(0)):
        for copy in shifts(x, generator):
            pixels = copy * torch.tensor([0.25, 0.2, 0.1])[:, None, None] + torch.tensor([0.5, 0.2, 0.9])[:, None, None]
            assert pixels.min() > -1e-5 and pixels.max() < 1 + 1e-5


def test_noise_is_fresh_in_training_and_fixed_otherwise():
    shifts, x = Shifts((6, 6, 3), "noise"), pictures(2, (3, 6, 6))
    first, again = shifts(x), shifts(x[1:])
    assert torch.equal(first[0], x) and all(torch.equal(a[1:], b) for a, b in zip(first, again))
    deviations = [(copy - x).std().item() for copy in shifts(x, torch.Generator().manual_seed(0))]
    assert deviations == pytest.approx([0, 0.25, 0.5, 1.0], rel=0.25)
    one, two = (shifts(x, torch.Generator().manual_seed(seed))[3] for seed in (0, 1))
    assert not torch.allclose(one, two) and not torch.allclose(one, first[3])
