"""SVGD ensemble: M classifiers as particles of the posterior, drawn to it by gradients and kept apart by a kernel.

All particles see the same batch. With N training images, L = mean cross-entropy and a Gaussian prior from
``weight_decay`` (on matrices and kernels only, as for every method)

    log p(θ|D) = −N · (L(θ) + weight_decay/2 · ‖θ‖²),      k(θ, θ') = exp(−‖θ − θ'‖²/h),    h = med²/log(M + 1)

``repulsion = "weights"`` is Stein variational gradient descent (Liu & Wang), w = ``repulsion_weight``:

    φ(θ_i) = 1/M · Σ_j [ k(θ_j, θ_i) · ∇_{θ_j} log p(θ_j|D) + w · ∇_{θ_j} k(θ_j, θ_i) ]

    gradient handed to the optimiser = −(M/N) · φ(θ_i)
                                     = Σ_j k(θ_j, θ_i) · ∇(L + prior)(θ_j) − (w/N) · Σ_j ∇_{θ_j} k(θ_j, θ_i)

Why M/N: a constant factor changes no fixed point, only the step. 1/N turns log p into the mean loss that learning rates
are meant for; M cancels the average, so that a particle far from all others, whose k(θ_i, θ_i) = 1 is alone in the sum,
takes exactly the plain classifier's step instead of 1/M of it. For M > 2 the median keeps k between others near 1/(M + 1), so
that what they add stays below one more gradient.

``repulsion = "function"`` is the kernelised repulsion of D'Angelo & Fortuin, which estimates the density of the
particles by the same kernel, here on f = softmax outputs on the batch, one vector of batch × classes a particle:

    gradient_i = ∇(L + prior)(θ_i) + (w/N) · (∂f_i/∂θ_i)ᵀ ∇_{f_i} log Σ_j k(f_i, f_j)        (f_j, h held constant)

Gradients of the likelihood are not averaged there: at weight 0 the particles are a deep ensemble on common batches.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.methods._ensemble import Ensemble, EnsembleModel
from trainables.methods.base import MethodInfo, dropout


class Particles(EnsembleModel):
    def __init__(self, view_shape, num_classes, network, params) -> None:
        super().__init__(view_shape, num_classes, network, params)
        self.register_buffer("images_trained_on", torch.tensor(1.0))  # N


class SVGDEnsemble(Ensemble):
    info = MethodInfo(
        name="svgd_ensemble",
        title="SVGD ensemble",
        summary="M classifiers moved by Stein variational gradient descent; repulsion in weights or in predictions, "
        "its strength searched",
        paper="Liu & Wang, Stein Variational Gradient Descent; repulsion of predictions: D'Angelo & Fortuin, Repulsive "
        "Deep Ensembles are Bayesian",
        year=2016,
        url="https://arxiv.org/abs/1608.04471",
        relative_cost=5.3,
    )

    def build(self, view_shape, num_classes, network, params) -> nn.Module:
        return Particles(view_shape, num_classes, network, params)

    def prepare(self, model, view) -> None:
        model.images_trained_on.fill_(len(view.train_labels))

    def clipped(self, model) -> list[nn.Module]:
        return list(model.members)

    def parameter_groups(self, model, params) -> list[dict]:
        """Without weight decay: the prior is part of what the kernel averages, in ``adjust_gradients``."""
        return [{"params": [p for p in model.parameters() if p.requires_grad], "weight_decay": 0.0}]

    def loss(self, model, images, targets, params, generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The particles' mean, for the log to be comparable; ``adjust_gradients`` gives each its full gradient."""
        outputs = [member.head(dropout(member.encoder(images), params["dropout"], generator)) for member in model.members]
        losses = [F.cross_entropy(logits, targets, label_smoothing=params["label_smoothing"]) for logits in outputs]
        total = cross_entropy = torch.stack(losses).mean()
        if params["repulsion"] == "function" and params["repulsion_weight"]:
            functions = torch.stack(outputs).float().softmax(2).flatten(1)
            scale = params["repulsion_weight"] / model.images_trained_on
            total = total + scale * log_density(functions).mean()
        return total, {"cross_entropy": cross_entropy.detach()}

    @torch.no_grad()
    def adjust_gradients(self, model, params) -> None:
        trained, members = [p for p in model.members.parameters() if p.requires_grad], len(model.members)
        for parameter in trained:
            decay = params["weight_decay"] if parameter.ndim > 1 else 0.0
            parameter.grad.mul_(members).add_(parameter, alpha=decay)
        if params["repulsion"] == "weights":
            theta, gradients = (torch.cat([t.reshape(-1) for t in tensors]).view(members, -1)
                                for tensors in (trained, [p.grad for p in trained]))
            # φ is linear: −φ of the log densities is φ of the losses, repulsion turned round
            weight = -params["repulsion_weight"] / model.images_trained_on
            moved = members * svgd_direction(theta, gradients, weight)
            for parameter, part in zip(trained, moved.view(-1).split([p.numel() for p in trained])):
                parameter.grad.copy_(part.view(parameter.shape))


def svgd_direction(theta: Tensor, grad_log_p: Tensor, repulsion_weight: float | Tensor = 1.0) -> Tensor:
    """φ of Liu & Wang (M×P) for particles (M×P) and the gradients of their log densities (M×P)."""
    squares = _squared_distances(theta, theta)
    bandwidth = _bandwidth(squares)
    kernel = torch.exp(-squares / bandwidth)
    # Σ_j ∇_{θ_j} k(θ_j, θ_i) = 2/h · Σ_j k_ij · (θ_i − θ_j), about the mean since a GPU multiplies in TF32's ten bits
    repulsion = 2 / bandwidth * (kernel.sum(1).diag() - kernel)
    return torch.addmm(kernel @ grad_log_p, repulsion_weight * repulsion, theta - theta.mean(0)) / len(theta)


def log_density(functions: Tensor) -> Tensor:
    """log Σ_j k(f_i, f_j) of every row f_i of M×F; M, with gradients to f_i alone."""
    squares = _squared_distances(functions, functions.detach())
    return (-squares / _bandwidth(squares.detach())).logsumexp(1)


def _squared_distances(points: Tensor, others: Tensor) -> Tensor:
    """From differences: by way of inner products, those of nearly equal predictions would be rounding errors."""
    return torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist").square()


def _bandwidth(squares: Tensor) -> Tensor:
    """h = med²/log(M + 1) of M×M squared distances, whose zero diagonal counts, as in Liu & Wang's code.

    Where the median is 0, as for particles all alike, it is infinite: the kernel is 1, and nothing repels.
    """
    median = squares.flatten().quantile(0.5)
    return torch.where(median > 0, median / math.log(len(squares) + 1), math.inf)


METHOD = SVGDEnsemble()
