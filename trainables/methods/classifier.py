"""Cross-entropy on the nominal classes: the baseline of every study."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.methods.base import Method, MethodInfo, dropout
from trainables.networks import build_network


class ClassifierModel(nn.Module):
    """Encoder and linear head."""

    def __init__(self, view_shape: tuple[int, int, int], num_classes: int, network: str, params: dict) -> None:
        super().__init__()
        self.encoder = build_network(network, view_shape, width=params["width"])
        self.head = nn.Linear(self.encoder.z_dim, num_classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        z = self.encoder(images)
        return z, self.head(z)


class Classifier(Method):
    info = MethodInfo(
        name="classifier",
        title="Classifier (cross-entropy)",
        summary="cross-entropy on the nominal classes; label smoothing, dropout, augmentation and optimiser searched",
        paper="Hendrycks & Gimpel, A Baseline for Detecting Misclassified and Out-of-Distribution Examples",
        year=2017,
        url="https://arxiv.org/abs/1610.02136",
    )
    linear_head = True

    def build(self, view_shape, num_classes, network, params) -> nn.Module:
        return ClassifierModel(view_shape, num_classes, network, params)

    def loss(self, model, images, targets, params, generator) -> tuple[Tensor, dict[str, Tensor]]:
        z = dropout(model.encoder(images), params["dropout"], generator)
        cross_entropy = F.cross_entropy(model.head(z), targets, label_smoothing=params["label_smoothing"])
        return cross_entropy, {"cross_entropy": cross_entropy.detach()}

    @torch.no_grad()
    def logits(self, model, images) -> Tensor:
        return model(images)[1]

    @torch.no_grad()
    def embed(self, model, images) -> dict[str, Tensor]:
        z, logits = model(images)
        return {"z": z, "logits": logits}

    def head(self, model) -> tuple[Tensor, Tensor]:
        return model.head.weight, model.head.bias


METHOD = Classifier()
