"""What the ensembles share: M classifiers in one module, their joint prediction and their disagreement."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from trainables.methods.classifier import Classifier, ClassifierModel


class EnsembleModel(nn.Module):
    """M classifiers. The first takes the weights that a plain classifier would draw from the same generator."""

    def __init__(self, view_shape: tuple[int, int, int], num_classes: int, network: str, params: dict) -> None:
        super().__init__()
        self.members = nn.ModuleList(
            ClassifierModel(view_shape, num_classes, network, params) for _ in range(ensemble_size(params))
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Latents N×(M·D), member after member, and the members' logits M×N×K, in float32."""
        latents, logits = zip(*(member(images) for member in self.members))
        return torch.cat(latents, 1), torch.stack(logits).float()


class Ensemble(Classifier):
    """A method whose prediction is the mean of M classifiers'; what it trains on is its subclasses' affair."""

    own_scorers = ("mutual_information", "mean_max_logit")
    linear_head = False  # of a classifier's z they are linear, of the concatenation not

    def build(self, view_shape, num_classes, network, params) -> nn.Module:
        return EnsembleModel(view_shape, num_classes, network, params)

    @torch.no_grad()
    def embed(self, model, images) -> dict[str, Tensor]:
        z, logits = model(images)
        return {
            "z": z,
            "logits": joint_logits(logits),
            "mutual_information": mutual_information(logits),
            "mean_max_logit": -logits.amax(2).mean(0),
        }

    @torch.no_grad()
    def logits(self, model, images) -> Tensor:
        return joint_logits(model(images)[1])

    def latent_parts(self, params) -> int:
        return ensemble_size(params)


def ensemble_size(params: dict) -> int:
    """A spec's numbers are floats, and a range opened over a fixed one is continuous."""
    return round(params["ensemble_size"])


def joint_logits(logits: Tensor) -> Tensor:
    """N×K from the members' M×N×K: their softmax is the mean softmax, their logsumexp the mean logsumexp.

    log mean_m softmax(f_m)_k + mean_m logsumexp(f_m): so entropy, max probability and NLL are those of the mean
    prediction, and the energy score is the mean of the members' energies.
    """
    return _log_mean(logits.log_softmax(2)) + logits.logsumexp(2).mean(0).unsqueeze(1)


def mutual_information(logits: Tensor) -> Tensor:
    """H(mean_m p_m) − mean_m H(p_m) in nats of the members' logits M×N×K: 0 (they agree) to log min(M, K); N.

    As mean_m KL(p_m ‖ mean p), which does not subtract two entropies, and in double precision: where all are sure of the
    same class it is far below float32's resolution of 1, and most nominal images are such.
    """
    log_p = logits.double().log_softmax(2)
    divergence = (log_p.exp() * (log_p - _log_mean(log_p))).sum(2)
    return divergence.mean(0).clamp_min(0).to(logits.dtype)


def _log_mean(log_p: Tensor) -> Tensor:
    return log_p.logsumexp(0) - math.log(len(log_p))
