"""Classifier and autoencoder on one latent: does reconstruction put more about anomalies into z?

loss = w · cross-entropy + λ · squared error per pixel (mean over pixels and channels, in normalised units).
With w = 0 the head is trained on a detached z, a linear probe, so that its logits still mean something.

Scores: the reconstruction error of an image, and its mean with −max logit, each standardised by its mean and deviation
on the nominal validation images: the error tells what the head cannot see, the logit what the decoder draws anyway.

The target is the image as the encoder got it, augmented and, under mixup, mixed: z cannot describe what the encoder
never saw, and asking for the untouched image would train denoising, another method.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.methods.base import MethodInfo, dropout
from trainables.methods.classifier import Classifier, ClassifierModel


class Decoder(nn.Module):
    """z (N×D) → image (N×C×H×W): a linear map to at most 4×4, then resize and convolve, doubling the side.

    From z and not from the last map, because z is what the oracle and the scorers read. Resizing instead of
    transposed convolutions avoids their checkerboards and is as fast on a CPU.
    """

    def __init__(self, z_dim: int, view_shape: tuple[int, int, int], *, width: float = 1.0) -> None:
        super().__init__()
        height, width_px, channels = view_shape
        doublings = max(0, math.ceil(math.log2(max(height, width_px) / 4)))
        self.sides = [(math.ceil(height / 2**k), math.ceil(width_px / 2**k)) for k in range(doublings, -1, -1)]
        widths = [max(8, int(64 * width) >> k) for k in range(len(self.sides))]
        self.first = nn.Sequential(nn.Linear(z_dim, widths[0] * math.prod(self.sides[0])), nn.ReLU(inplace=True))
        self.steps = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True))
            for a, b in pairwise(widths)
        )
        self.last = nn.Conv2d(widths[-1], channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        grid = self.first(z).unflatten(1, (-1, *self.sides[0])).contiguous(memory_format=torch.channels_last)
        for side, step in zip(self.sides[1:], self.steps):
            # convolving before resizing costs a quarter and, but for the border, says the same
            grid = F.interpolate(step(grid), size=side, mode="nearest")
        return self.last(grid)


class HybridModel(ClassifierModel):
    def __init__(self, view_shape, num_classes, network, params) -> None:
        super().__init__(view_shape, num_classes, network, params)
        self.decoder = Decoder(self.encoder.z_dim, view_shape, width=params["width"])
        # of reconstruction error and −max logit, over nominal validation images
        self.register_buffer("score_mean", torch.zeros(2))
        self.register_buffer("score_deviation", torch.ones(2))
        self.probed = params["cross_entropy_weight"] == 0


class Hybrid(Classifier):
    info = MethodInfo(
        name="hybrid",
        title="Hybrid (classifier and autoencoder)",
        summary="cross-entropy + λ · squared reconstruction error from `z`; cross-entropy weight 0 is pure "
        "reconstruction with a linear probe",
        paper="Dietterich, Garrepalli & Guyer, A Representation Analysis of Image Anomaly Detection; the oracles: "
        "Garrepalli, Fern & Dietterich, Oracle Analysis of Representations for Deep Open Set Detection",
        year=2022,
        url="https://arxiv.org/abs/2209.11350",
        relative_cost=1.25,
    )
    own_scorers = ("reconstruction_error", "reconstruction_and_max_logit")

    def build(self, view_shape, num_classes, network, params) -> nn.Module:
        return HybridModel(view_shape, num_classes, network, params)

    def loss(self, model, images, targets, params, generator) -> tuple[Tensor, dict[str, Tensor]]:
        z = model.encoder(images)
        error = F.mse_loss(model.decoder(z).float(), images.float())
        weight = params["cross_entropy_weight"]
        read = dropout(z if weight else z.detach(), params["dropout"], generator)
        cross_entropy = F.cross_entropy(model.head(read), targets, label_smoothing=params["label_smoothing"])
        total = (weight or 1.0) * cross_entropy + params["reconstruction_weight"] * error
        return total, {"cross_entropy": cross_entropy.detach(), "reconstruction_error": error.detach()}

    def clipped(self, model) -> list[nn.Module]:
        """A probe by itself: within one norm the labels would shorten the encoder's steps after all."""
        return [nn.ModuleList([model.encoder, model.decoder]), model.head] if model.probed else [model]

    @torch.no_grad()
    def embed(self, model, images) -> dict[str, Tensor]:
        z, logits = model(images)
        scores = self._scores(model, images, z, logits)
        standard = (scores - model.score_mean) / model.score_deviation
        return {
            "z": z,
            "logits": logits,
            "reconstruction_error": scores[:, 0],
            "reconstruction_and_max_logit": standard.mean(1),
        }

    @torch.no_grad()
    def complete(self, model, *, train, validation, params) -> None:
        scores = torch.cat([self._scores(model, images, *model(images)) for images in validation]).double()
        if len(scores):
            deviation, mean = torch.std_mean(scores, 0, correction=0)
            model.score_mean.copy_(mean)
            model.score_deviation.copy_(deviation.masked_fill(deviation < 1e-6, 1.0))  # a constant says nothing

    def _scores(self, model: nn.Module, images: Tensor, z: Tensor, logits: Tensor) -> Tensor:
        """Reconstruction error and −max logit, N×2."""
        error = (model.decoder(z).float() - images.float()).square().flatten(1).mean(1)
        return torch.stack([error, -logits.float().amax(1)], 1)


METHOD = Hybrid()
