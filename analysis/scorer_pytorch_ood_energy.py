"""pytorch-ood's detectors that reshape the latents or the head and take the energy of the logits that result.

They were made for latents after a ReLU, as all our networks' are. Pooled latents (N, D) are maps of 1×1.
"""

from __future__ import annotations

import numpy as np

from analysis.scorer_base import ScorerInfo, register
from analysis.scorer_pytorch_ood_base import DetectorScorer, detectors

NEEDS = frozenset({"z", "head"})
FITTED = NEEDS | {"train_z"}
# The smallest latent where a detector divides by a sum of latents: an image whose latents are all 0 would give 0 / 0.
SMALLEST = 1e-12


def _maps(z):
    return z[:, :, None, None]


class _MapsScorer(DetectorScorer):
    """A detector of feature maps whose head is pooling (here a reshape) and the linear layer."""

    def _maps_head(self, arrays):
        import torch

        return torch.nn.Sequential(torch.nn.Flatten(), self._linear(arrays))

    def _pruned(self, arrays) -> float:
        """The share of latents to prune, cut so that one of them is left."""
        return min(self.parameters_["percentile"], 1 - 1 / arrays["head_weight"].shape[1])


@register
class ReAct(_MapsScorer):
    """Latents cut at the percentile (a share) of all training latents."""

    info = ScorerInfo(
        name="react", title="energy with latents cut from above",
        paper="ReAct: Out-of-distribution Detection With Rectified Activations", year=2021,
        url="https://arxiv.org/abs/2111.12797", family="activation", needs=FITTED, parameters={"percentile": 0.9},
        at_most={"percentile": 1.0})

    def _learn(self, given, train, head):
        import torch

        detector = detectors().ReAct(None, None, percentile=self.parameters_["percentile"])
        detector.fit_feature_maps(_maps(given), torch.zeros(len(given), dtype=torch.long))
        return {"threshold": np.array([detector.threshold])}

    def _predictor(self, arrays):
        detector = detectors().ReAct(None, self._maps_head(arrays), threshold=arrays["threshold"].item())
        return lambda z: detector.predict_feature_maps(_maps(z))


@register
class ASH(_MapsScorer):
    """ASH-S: the lowest latents of an image, a share, are set to 0 and the others scaled by exp(sum before / after).

    Negative latents count as none."""

    info = ScorerInfo(
        name="ash", title="energy with small latents pruned and the others scaled",
        paper="Extremely Simple Activation Shaping for Out-of-Distribution Detection", year=2023,
        url="https://arxiv.org/abs/2209.09858", family="activation", needs=NEEDS, parameters={"percentile": 0.65},
        at_most={"percentile": 1.0})

    def _predictor(self, arrays):
        detector = detectors().ASH(None, self._maps_head(arrays), percentile=self._pruned(arrays))
        return lambda z: detector.predict_feature_maps(_maps(z.clamp(min=SMALLEST)))


@register
class SCALE(_MapsScorer):
    """As ASH-S, without the pruning. Negative latents count as none."""

    info = ScorerInfo(
        name="scale", title="energy with latents scaled by how concentrated they are",
        paper="Scaling for Training Time and Post-hoc Out-of-distribution Detection Enhancement", year=2024,
        url="https://arxiv.org/abs/2310.00227", family="activation", needs=NEEDS, parameters={"percentile": 0.65},
        at_most={"percentile": 1.0})

    def _predictor(self, arrays):
        detector = detectors().SCALE(None, self._maps_head(arrays), percentile=self._pruned(arrays))
        return lambda z: detector.predict_feature_maps(_maps(z.clamp(min=SMALLEST)))


@register
class LogitScaling(DetectorScorer):
    """Logits times the squared ratio of the sum of latents to that of the largest ones, a share. Negative latents
    count as none."""

    info = ScorerInfo(
        name="lts", title="energy of logits scaled by how concentrated the latents are",
        paper="Logit Scaling for Out-of-Distribution Detection", year=2024, url="https://arxiv.org/abs/2409.01175",
        family="activation", needs=NEEDS, parameters={"largest": 0.05}, at_most={"largest": 1.0})

    def _predictor(self, arrays):
        detector = detectors().LTS(None, self._linear(arrays), p=self.parameters_["largest"])
        return lambda z: detector.predict_features(z.clamp(min=SMALLEST))


@register
class VRA(_MapsScorer):
    """Each latent cut at its own lower and upper quantile of the training latents."""

    info = ScorerInfo(
        name="vra", title="energy with each latent cut at its training quantiles",
        paper="Variational Rectified Activation for Out-of-distribution Detection", year=2023,
        url="https://arxiv.org/abs/2302.11716", family="activation", needs=FITTED,
        parameters={"lower": 0.01, "upper": 0.99}, at_most={"lower": 1.0, "upper": 1.0})

    def _learn(self, given, train, head):
        import torch

        detector = detectors().VRA(None, None, self.parameters_["lower"], self.parameters_["upper"])
        detector.fit_feature_maps(_maps(given), torch.zeros(len(given), dtype=torch.long))
        return {"lower": detector._lower_threshold.flatten().numpy(),
                "upper": detector._upper_threshold.flatten().numpy()}

    def _predictor(self, arrays):
        import torch

        # Fitted on the two rows of bounds, the quantiles 0 and 1 are the bounds.
        bounds = torch.from_numpy(np.stack([arrays["lower"], arrays["upper"]]))
        detector = detectors().VRA(None, self._maps_head(arrays), 0.0, 1.0)
        detector.fit_feature_maps(_maps(bounds), torch.zeros(2, dtype=torch.long))
        return lambda z: detector.predict_feature_maps(_maps(z))


@register
class DICE(DetectorScorer):
    """The head without the weights, a share, that contribute least to the training images' logits."""

    info = ScorerInfo(
        name="dice", title="energy with a sparse head", year=2022,
        paper="DICE: Leveraging Sparsification for Out-of-Distribution Detection",
        url="https://arxiv.org/abs/2111.09805", family="activation", needs=FITTED, parameters={"sparsity": 0.9},
        at_most={"sparsity": 1.0})

    def _learn(self, given, train, head):
        return {"mean": given.float().mean(dim=0).numpy()}

    def _predictor(self, arrays):
        import torch

        weight, bias = self._tensor(arrays["head_weight"]), self._tensor(arrays["head_bias"])
        detector = detectors().DICE(None, weight, bias, self.parameters_["sparsity"])
        # Its fit reads nothing but the mean.
        detector.fit_features(torch.from_numpy(np.array(arrays["mean"]))[None], torch.zeros(1, dtype=torch.long))
        return detector.predict_features

    def _elements(self, width: int) -> int:
        return self.arrays_["head_weight"].size
