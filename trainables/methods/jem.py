"""JEM: a classifier whose logits are also an energy, trained to give images low energy and its own samples high.

E(x) = −logsumexp f(x), and loss = cross-entropy + w · (mean E(images) − mean E(samples)); the samples come from
stochastic gradient Langevin dynamics that starts in a replay buffer (Grathwohl et al. 2020). Nothing in the network
may look at the batch, so it has no batch normalisation. The sampler often runs away: that ends in ``Diverged``.

Units: step size and noises are the paper's, for images scaled to −1..1, and so is the buffer. With u = 2 (x·σ + μ) − 1
for a normalised image x, du = 2σ dx. So a step of α ∇ᵤ(−E) moves x by α ∇ₓ(−E) / (2σ)², and noise is divided by 2σ.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.augment import deviations
from trainables.methods._gradients import differentiable, in_parts
from trainables.methods.base import Diverged, Method, MethodInfo
from trainables.networks import build_network

# In nats. Runs that went on to learn stayed below 40 (digits); a run that had passed 20 grew about fourfold with every
# step until it was not a number. The published code stops at a loss of 1e8, which only takes longer.
LARGEST_GAP = 1e4


class JemModel(nn.Module):
    """Encoder and linear head without batch normalisation, and the sampler's replay buffer."""

    def __init__(self, view_shape: tuple[int, int, int], num_classes: int, network: str, params: dict) -> None:
        super().__init__()
        height, width, channels = view_shape
        self.encoder = build_network(network, view_shape, width=params["width"], normalisation="none")
        self.head = nn.Linear(self.encoder.z_dim, num_classes)
        self.register_buffer("mean", torch.full((channels, 1, 1), 0.5))  # of images in 0..1, until prepare
        self.register_buffer("std", torch.full((channels, 1, 1), 0.5))
        # in half precision, since it is in every checkpoint: its rounding, 0.0005 near 1, is far below the noise
        buffer = torch.empty(int(params["buffer_size"]), channels, height, width, dtype=torch.half)
        for part in buffer.split(256):
            part.copy_(torch.empty(part.shape).uniform_(-1, 1))
        self.register_buffer("replay", buffer)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        z = self.encoder(images).float()
        with torch.autocast(z.device.type, enabled=False):  # energies of half precision would be off by their gap
            return z, self.head(z)

    def log_density(self, images: Tensor) -> Tensor:
        """−E (N), log p(x) but for a constant, in float32."""
        return self(images)[1].logsumexp(1)

    def normalised(self, images: Tensor) -> Tensor:
        """From the paper's units, −1..1, to those of the network."""
        return ((images.float() + 1) / 2 - self.mean) / self.std

    def in_paper_units(self, images: Tensor) -> Tensor:
        return 2 * (images * self.std + self.mean) - 1


def noise_like(images: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(images.shape, generator=generator, device=images.device)


def langevin(model: JemModel, images: Tensor, params: dict, generator: torch.Generator) -> Tensor:
    """``images`` after ``sgld_steps`` steps uphill in log density, with noise; no gradient reaches a parameter."""
    scale = 2 * model.std
    with torch.autocast(images.device.type, enabled=False):  # the gradients of half precision are mostly rounding
        for _ in range(int(params["sgld_steps"])):
            with differentiable(images) as x:
                (gradient,) = torch.autograd.grad(model.log_density(x).sum(), x)
            images = images + params["sgld_step_size"] * gradient / scale.square()
            images = images + params["sgld_noise"] * noise_like(images, generator) / scale
    return images


def sample(model: JemModel, count: int, params: dict, generator: torch.Generator) -> Tensor:
    """Up to ``count`` samples, normalised: distinct slots of the buffer, some begun anew, moved on and put back."""
    replay = model.replay
    slots = torch.randperm(len(replay), generator=generator, device=replay.device)[:count]
    start = replay[slots].float()
    fresh = 2 * torch.rand(start.shape, generator=generator, device=start.device) - 1
    anew = torch.rand(len(slots), 1, 1, 1, generator=generator, device=start.device) < params["reinitialised"]
    images = langevin(model, model.normalised(torch.where(anew, fresh, start)), params, generator)
    replay[slots] = model.in_paper_units(images).to(replay.dtype)
    return images


class Jem(Method):
    info = MethodInfo(
        name="jem",
        title="JEM (joint energy model)",
        summary="cross-entropy + E(images) − E(samples) with E = −logsumexp of the logits, samples by Langevin "
        "dynamics from a replay buffer; no batch norm; divergence is an outcome",
        paper="Grathwohl, Wang, Jacobsen, Duvenaud, Norouzi & Swersky, Your Classifier Is Secretly an Energy Based "
        "Model and You Should Treat It Like One",
        year=2020,
        url="https://arxiv.org/abs/1912.03263",
        relative_cost=17.0,
    )
    own_scorers = ("approximate_mass",)
    training_only = frozenset({"replay"})
    linear_head = True

    def build(self, view_shape, num_classes, network, params) -> nn.Module:
        return JemModel(view_shape, num_classes, network, params)

    def prepare(self, model, view) -> None:
        """Units of the images; and no more slots than training images, so that a slot is met once an epoch."""
        model.mean.copy_(torch.as_tensor(view.mean).view_as(model.mean))
        model.std.copy_(deviations(view.std).view_as(model.std))
        model.replay = model.replay[: len(view.train_images)].clone()

    def loss(self, model, images, targets, params, generator) -> tuple[Tensor, dict[str, Tensor]]:
        images = images + params["input_noise"] * noise_like(images, generator) / (2 * model.std)
        samples = sample(model, len(images), params, generator)
        logits = model(images)[1]
        cross_entropy = F.cross_entropy(logits, targets)
        gap = model.log_density(samples).mean() - logits.logsumexp(1).mean()  # E(images) − E(samples)
        if not gap.detach().abs() <= LARGEST_GAP:
            raise Diverged(f"energy gap between images and samples is {gap.item():g}")
        parts = {"cross_entropy": cross_entropy.detach(), "energy_gap": gap.detach()}
        return cross_entropy + params["energy_weight"] * gap, parts

    @torch.no_grad()
    def logits(self, model, images) -> Tensor:
        return model(images)[1]

    @torch.no_grad()
    def embed(self, model, images) -> dict[str, Tensor]:
        return in_parts(lambda part: self._scores(model, part), images)

    def _scores(self, model, images) -> dict[str, Tensor]:
        with differentiable(images) as x:
            z, logits = model(x)
            (gradient,) = torch.autograd.grad(logits.logsumexp(1).sum(), x)
        slope = (gradient / (2 * model.std)).flatten(1).norm(dim=1)  # per unit of the paper's images
        return {"z": z.detach(), "logits": logits.detach(), "approximate_mass": slope}

    def head(self, model) -> tuple[Tensor, Tensor]:
        return model.head.weight, model.head.bias


METHOD = Jem()
