"""pytorch-ood's detectors of where latents lie: to class patterns, Gaussians, decision boundaries, training images."""

from __future__ import annotations

import numpy as np

from analysis.scorer_base import Features, ScorerInfo, register, training_labels
from analysis.scorer_pytorch_ood_base import DetectorScorer, detectors

HEAD = frozenset({"z", "train_z", "head"})


@register
class SHE(DetectorScorer):
    """Negated inner product with the pattern of the predicted class: the mean of its training latents that are
    classified correctly.

    Classes with no such image have no pattern: the prediction is the best of the others. ValueError where no class
    has one."""

    info = ScorerInfo(
        name="she", title="simplified Hopfield energy: product with the predicted class's pattern", year=2023,
        paper="Out-of-Distribution Detection based on In-Distribution Data Patterns Memorization with Modern Hopfield "
              "Energy", url="https://openreview.net/forum?id=KkazG4lgKL", family="distance",
        needs=HEAD | {"train_labels"})

    def _learn(self, given, train: Features, head):
        import torch

        labels = training_labels(train, self.info.name)
        predicted = self._linear(head)(given).argmax(dim=1).numpy()
        correct = predicted == labels
        usable = np.unique(labels[correct])
        if not len(usable):
            raise ValueError("scorer she: no training image is classified correctly")
        rest = {name: values[usable] for name, values in head.items()}
        places = torch.from_numpy(np.searchsorted(usable, labels[correct]))
        fitted = detectors().SHE(None, self._linear(rest)).fit_features(given[torch.from_numpy(correct)], places)
        return {**rest, "patterns": fitted.patterns.numpy()}

    def _predictor(self, arrays):
        detector = detectors().SHE(None, self._linear(arrays))
        detector.patterns = self._tensor(arrays["patterns"])
        return detector.predict_features


@register
class GaussianMixture(DetectorScorer):
    """Negative log-likelihood of one Gaussian per class, each with its own covariance.

    ``regularisation`` times the mean variance of the latents is added to the diagonals: a share, so that the scale
    of the latents, an accident of training, does not matter."""

    info = ScorerInfo(
        name="gmm", title="negative log-likelihood of the classes' Gaussians",
        paper="Deep Deterministic Uncertainty: A New Simple Baseline", year=2023,
        url="https://arxiv.org/abs/2102.11582", family="mahalanobis", needs=frozenset({"z", "train_z", "train_labels"}),
        parameters={"regularisation": 1e-6})

    def _learn(self, given, train: Features, head):
        import torch

        labels = torch.from_numpy(np.array(training_labels(train, self.info.name), dtype=np.int64))
        size = given.square().mean().item()
        spread = max(given.var(dim=0, correction=0).mean().item(), 1e-12 * size) or 1.0
        fitted = detectors().GMM(None, reg=self.parameters_["regularisation"] * spread).fit_features(given, labels)
        return {name: getattr(fitted, f"_{name}").numpy() for name in ("mu", "precision", "log_det", "log_weights")}

    def _predictor(self, arrays):
        detector = detectors().GMM(None)
        for name in ("mu", "precision", "log_det", "log_weights"):
            setattr(detector, f"_{name}", self._tensor(arrays[name]))
        return detector.predict_features

    def _elements(self, width: int) -> int:
        return self.arrays_["mu"].size


class _MeanScorer(DetectorScorer):
    """A detector whose fit takes the training latents' mean and nothing else, and computes in float32."""

    single = True

    def _learn(self, given, train, head):
        return {"mean": given.mean(dim=0).numpy()}

    def _fit_mean(self, detector, arrays):
        return detector.fit_features(self._tensor(arrays["mean"])[None])


@register
class DecisionBoundary(_MeanScorer):
    """Negated mean distance to the other classes' decision boundaries, over the distance to the training mean.

    Classes of the same weights have no boundary between them: it counts as 0 away where their logits agree."""

    info = ScorerInfo(
        name="fdbd", title="negated distance to the decision boundaries",
        paper="Fast Decision Boundary based Out-of-Distribution Detector", year=2024,
        url="https://arxiv.org/abs/2312.11536", family="distance", needs=HEAD)

    def _predictor(self, arrays):
        detector = self._fit_mean(detectors().fDBD(None, self._linear(arrays)), arrays)
        detector._denom_matrix.clamp_(min=1e-12)
        return detector.predict_features


@register
class NeuralCollapse(_MeanScorer):
    """Negated projection of the predicted class's weights on the direction of the centred latents, less
    ``norm_weight`` times the sum of the latents' sizes.

    An image at the training mean has no direction: its projection is 0."""

    info = ScorerInfo(
        name="nci", title="nearness to the predicted class's weights, and size", year=2025,
        paper="Detecting Out-of-Distribution Through the Lens of Neural Collapse",
        url="https://arxiv.org/abs/2311.01479", family="distance", needs=HEAD, parameters={"norm_weight": 0.001})

    def _predictor(self, arrays):
        weight = self.parameters_["norm_weight"]
        detector = self._fit_mean(detectors().NCI(None, self._linear(arrays), alpha=weight), arrays)

        def predict(z):
            scores = detector.predict_features(z)
            return scores.where(~scores.isnan(), -weight * z.abs().sum(dim=1))

        return predict


@register
class NearestNeighbourGuidance(DetectorScorer):
    """Negated energy times the mean similarity to the k most similar training images, weighted by their energies; k is
    cut to their number."""

    info = ScorerInfo(
        name="nnguide", title="negated energy guided by the nearest neighbours",
        paper="Nearest Neighbor Guidance for Out-of-Distribution Detection", year=2023,
        url="https://arxiv.org/abs/2309.14888", family="distance", needs=HEAD, parameters={"k": 10})
    single = True

    def _learn(self, given, train, head):
        return {"train_z": given.numpy()}

    def _predictor(self, arrays):
        import torch

        bank = self._tensor(arrays["train_z"])
        detector = detectors().NNGuide(None, self._linear(arrays), k=min(int(self.parameters_["k"]), len(bank)))
        return detector.fit_features(bank, torch.zeros(len(bank), dtype=torch.long)).predict_features

    def _elements(self, width: int) -> int:
        return len(self.arrays_["train_z"])


@register
class PredictiveNormalisedML(DetectorScorer):
    """Regret of the predictive normalised maximum likelihood learner: high in directions that training latents, scaled
    to length 1, leave empty. The head sees the scaled latents."""

    info = ScorerInfo(
        name="pnml", title="regret of the predictive normalised maximum likelihood", year=2021,
        paper="Single Layer Predictive Normalized Maximum Likelihood for Out-of-Distribution Detection",
        url="https://arxiv.org/abs/2110.09246", family="probability", needs=HEAD)
    single = True

    def _learn(self, given, train, head):
        import torch

        fitted = detectors().PNML(None, None).fit_features(given, torch.zeros(len(given), dtype=torch.long))
        return {"projector": fitted._feature_projector.numpy()}

    def _predictor(self, arrays):
        detector = detectors().PNML(None, self._linear(arrays))
        detector._feature_projector = self._tensor(arrays["projector"])
        return detector.predict_features


@register
class VirtualLogit(DetectorScorer):
    """Virtual logit minus the energy. The virtual logit is the length outside the training latents' principal
    directions, scaled to the training images' mean largest logit.

    There are round(share x D) of those, between 1 and D - 1; half of D is the authors' rule below 768 latents. Where
    training latents leave nothing outside them the virtual logit is 0."""

    info = ScorerInfo(
        name="vim", title="virtual logit: residual outside the principal directions, less the energy",
        paper="ViM: Out-Of-Distribution with Virtual-logit Matching", year=2022,
        url="https://arxiv.org/abs/2203.10807", family="logit", needs=HEAD, parameters={"share": 0.5},
        at_most={"share": 1.0})
    single = True

    def _detector(self, arrays):
        weight, bias = self._tensor(arrays["head_weight"]), self._tensor(arrays["head_bias"])
        width = weight.shape[1]
        dimension = max(1, min(width - 1, round(self.parameters_["share"] * width)))
        return detectors().ViM(None, dimension, weight, bias)

    def _learn(self, given, train, head):
        import torch

        fitted = self._detector(head).fit_features(given, torch.zeros(len(given), dtype=torch.long))
        return {"residual": fitted.principal_subspace.numpy(),
                "alpha": np.array([fitted.alpha if np.isfinite(fitted.alpha) else 0.0])}

    def _predictor(self, arrays):
        detector = self._detector(arrays)
        detector.principal_subspace, detector.alpha = self._tensor(arrays["residual"]), arrays["alpha"].item()
        return detector.predict_features


@register
class GradientNorm(DetectorScorer):
    """Negated L1 norm of the gradient, with respect to the head's weights, of the cross-entropy to the uniform
    distribution. The head is all the model that it needs, as in the paper."""

    info = ScorerInfo(
        name="gradnorm", title="negated size of the head's gradient towards the uniform distribution", year=2021,
        paper="On the Importance of Gradients for Detecting Distributional Shifts in the Wild",
        url="https://arxiv.org/abs/2110.00218", family="logit", needs=frozenset({"z", "head"}),
        parameters={"temperature": 1.0})

    def _predictor(self, arrays):
        return detectors().GradNorm(self._linear(arrays), lambda name: name == "weight", 512,
                                    self.parameters_["temperature"]).predict

    def _elements(self, width: int) -> int:
        return self.arrays_["head_weight"].size
