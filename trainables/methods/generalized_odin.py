"""Generalized ODIN: the logit is a quotient, so that the numerator alone can say how alien an image is.

f_i(x) = h_i(z) / g(z), cross-entropy on f (Hsu et al. 2020, "decomposed confidence"; h and g stand for p(y, in | x) and
p(in | x)). Scores: −max h and −g, −max h at an input moved towards a larger max h, and ODIN's softmax score at a large
temperature. The move x̂ = x − ε · sign(−∇ₓ max_i h_i(x)) takes the ε that maximises the mean max h over the *nominal*
validation images; ε = 0 competes, so that a useless move is seen as one. ODIN reads the same x̂: its own ε would have
to be tuned on anomalies.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.augment import deviations
from trainables.methods._gradients import GRADIENT_BATCH, differentiable, in_parts
from trainables.methods.base import Method, MethodInfo, dropout
from trainables.networks import build_network

EPSILONS = (0.0, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08)  # the paper's grid and 0, in units of images in 0..1
SOFTPLUS_FLOOR = 1e-2  # of the study's g: the quotient of a cosine stays below 100, where a softmax has long saturated
SIGMOID_FLOOR = 1e-6  # of the paper's g, which underflows to 0 on images far from all training images


class Similarity(nn.Module):
    """h: z (N×D) → N×K. "inner": w_i·z + b_i; "euclid": −‖z − w_i‖²; "cosine": w_i·z / (‖w_i‖ ‖z‖)."""

    def __init__(self, z_dim: int, num_classes: int, kind: str) -> None:
        super().__init__()
        if kind not in ("cosine", "inner", "euclid"):
            raise ValueError(f"no similarity {kind!r}; known are cosine, inner, euclid")
        self.kind = kind
        self.weight = nn.Parameter(nn.init.kaiming_normal_(torch.empty(num_classes, z_dim), nonlinearity="relu"))
        self.bias = nn.Parameter(torch.zeros(num_classes)) if kind == "inner" else None

    def forward(self, z: Tensor) -> Tensor:
        if self.kind == "cosine":
            return F.linear(F.normalize(z, dim=1, eps=1e-6), F.normalize(self.weight, dim=1, eps=1e-6))
        if self.kind == "euclid":
            return -(z[:, None] - self.weight).square().sum(2)
        return F.linear(z, self.weight, self.bias)


class Denominator(nn.Module):
    """g: z (N×D) → N×1, positive. "sigmoid_bn": σ(BN(w·z)), the paper's, whose bias the BN's own makes idle;
    "linear": softplus(w·z + b) + δ, the study's, kept from crossing zero."""

    def __init__(self, z_dim: int, form: str) -> None:
        super().__init__()
        if form not in ("sigmoid_bn", "linear"):
            raise ValueError(f"no g_form {form!r}; known are sigmoid_bn, linear")
        self.linear = nn.Linear(z_dim, 1, bias=form == "linear")
        self.norm = nn.BatchNorm1d(1) if form == "sigmoid_bn" else None

    def forward(self, z: Tensor) -> Tensor:
        raw, norm = self.linear(z), self.norm
        if norm is None:
            return F.softplus(raw) + SOFTPLUS_FLOOR
        if not self.training or len(z) > 1:  # in this order: asking for the length would fix it in a traced graph
            return torch.sigmoid(norm(raw)).clamp_min(SIGMOID_FLOOR)
        # an image alone has no batch statistics
        raw = F.batch_norm(raw, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        return torch.sigmoid(raw).clamp_min(SIGMOID_FLOOR)


class GeneralizedOdinModel(nn.Module):
    def __init__(self, view_shape: tuple[int, int, int], num_classes: int, network: str, params: dict) -> None:
        super().__init__()
        self.encoder = build_network(network, view_shape, width=params["width"])
        self.h = Similarity(self.encoder.z_dim, num_classes, params["similarity"])
        self.g = Denominator(self.encoder.z_dim, params["g_form"])
        self.odin_temperature = float(params["odin_temperature"])
        self.register_buffer("std", torch.ones(view_shape[2], 1, 1))  # of the images in 0..1, per channel
        self.register_buffer("epsilon", torch.zeros(()))

    def quotient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """h (N×K) and g (N×1), in float32: half precision would round a quotient of two small numbers."""
        with torch.autocast(z.device.type, enabled=False):
            return self.h(z.float()), self.g(z.float())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = self.encoder(images)
        return z, *self.quotient(z)

    def step(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """z, h, g, and by how much an image moves per unit of ε: the sign of ∇ₓ max h, in normalised units."""
        with differentiable(images) as x:
            z, h, g = self(x)
            (gradient,) = torch.autograd.grad(h.amax(1).sum(), x)  # images are independent in evaluation mode
            return z.detach(), h.detach(), g.detach(), gradient.sign() / self.std


def odin_score(logits: Tensor, temperature: float) -> Tensor:
    """ODIN's score (N), in the order of 1 − max softmax(logits / T), whose values float32 would tie: at T = 1000 all
    probabilities are nearly equal, at T = 1 the largest is nearly 1.

    With s the sum of exp((f_j − f_max) / T) over the K − 1 other classes, 1 − max softmax = s / (1 + s), and this is
    T · log(s / (K − 1)), which grows with it, keeps its digits, and is 0 where all logits are equal.
    """
    ordered = (logits.double() / temperature).sort(1).values
    others = (ordered[:, :-1] - ordered[:, -1:]).logsumexp(1)
    return temperature * (others - math.log(logits.shape[1] - 1))


class GeneralizedOdin(Method):
    info = MethodInfo(
        name="generalized_odin",
        title="Generalized ODIN (decomposed confidence)",
        summary="softmax of h_i(z)/g(z), h a cosine similarity; scores −max h, −g, and −max h at an input moved "
        "by an ε that nominal validation images choose",
        paper="Hsu, Shen, Jin & Kira, Generalized ODIN: Detecting Out-of-Distribution Image without Learning from "
        "Out-of-Distribution Data",
        year=2020,
        url="https://arxiv.org/abs/2002.11297",
        relative_cost=1.0,
    )
    own_scorers = ("godin_h", "godin_g", "godin_h_perturbed", "odin")

    def build(self, view_shape, num_classes, network, params) -> nn.Module:
        return GeneralizedOdinModel(view_shape, num_classes, network, params)

    def prepare(self, model, view) -> None:
        model.std.copy_(deviations(view.std).view_as(model.std))

    def loss(self, model, images, targets, params, generator) -> tuple[Tensor, dict[str, Tensor]]:
        h, g = model.quotient(dropout(model.encoder(images), params["dropout"], generator))
        cross_entropy = F.cross_entropy(h / g, targets, label_smoothing=params["label_smoothing"])
        return cross_entropy, {"cross_entropy": cross_entropy.detach(), "g": g.detach().mean()}

    @torch.no_grad()
    def logits(self, model, images) -> Tensor:
        _, h, g = model(images)
        return h / g

    @torch.no_grad()
    def embed(self, model, images) -> dict[str, Tensor]:
        return in_parts(lambda part: self._scores(model, part), images)

    def _scores(self, model, images) -> dict[str, Tensor]:
        z, h, g, step = model.step(images)
        _, moved_h, moved_g = model(images + model.epsilon * step)
        return {
            "z": z,
            "logits": h / g,
            "godin_h": -h.amax(1),
            "godin_g": -g.squeeze(1),
            "godin_h_perturbed": -moved_h.amax(1),
            "odin": odin_score(moved_h / moved_g, model.odin_temperature),
        }

    @torch.no_grad()
    def complete(self, model, *, train, validation, params) -> None:
        """The ε whose moves make the mean max h of the validation images largest; of equals the smallest."""
        totals = torch.zeros(len(EPSILONS), dtype=torch.float64, device=model.epsilon.device)
        for images in (part for batch in validation for part in batch.split(GRADIENT_BATCH)):
            step = model.step(images)[-1]
            totals += torch.stack([model(images + e * step)[1].amax(1).double().sum() for e in EPSILONS])
        model.epsilon.fill_(EPSILONS[int(totals.argmax())])

    def parameter_groups(self, model, params) -> list[dict]:
        """No weight decay on h, as in the paper: it would shrink all similarities and leave the quotient to g."""
        similarity = set(model.h.parameters())
        groups = super().parameter_groups(model, params)
        for group in groups:
            group["params"] = [p for p in group["params"] if p not in similarity]
        return [*groups, {"params": [p for p in model.h.parameters() if p.requires_grad], "weight_decay": 0.0}]


METHOD = GeneralizedOdin()
