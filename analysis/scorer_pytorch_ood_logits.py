"""pytorch-ood's detectors of the logits alone: GEN, KL matching, OpenMax."""

from __future__ import annotations

import math

import numpy as np

from analysis.scorer_base import Features, ScorerInfo, register, training_labels
from analysis.scorer_pytorch_ood_base import DetectorScorer, detectors

# A softmax probability of e^-500 still has a logarithm in float64; 0 has none, and the detector would put the lowest
# finite number in its place, 1e308, whose mean and variance overflow.
LOWEST_LOGIT = -500.0


@register
class GeneralisedEntropy(DetectorScorer):
    """Mean over the M largest probabilities of (p (1 - p))^gamma. The detector clips p to [1e-7, 1 - 1e-7]."""

    info = ScorerInfo(
        name="gen", title="generalised entropy of the softmax",
        paper="GEN: Pushing the Limits of Softmax-Based Out-of-Distribution Detection", year=2023,
        url="https://openaccess.thecvf.com/content/CVPR2023/html/Liu_GEN_Pushing_the_Limits_of_Softmax-Based_Out-of-"
            "Distribution_Detection_CVPR_2023_paper.html", family="probability", needs=frozenset({"logits"}),
        parameters={"gamma": 0.1, "largest": 100})
    reads = "logits"

    def _predictor(self, arrays):
        return detectors().GEN(None, gamma=self.parameters_["gamma"], M=int(self.parameters_["largest"])).predict_logits


@register
class KLMatching(DetectorScorer):
    """KL divergence of the softmax from the nearest mean softmax of the training images that are predicted alike.

    Logits more than 500 below an image's largest are lifted to there (LOWEST_LOGIT); others are left as they are."""

    info = ScorerInfo(
        name="kl_matching", title="KL divergence from the nearest class's mean softmax",
        paper="Scaling Out-of-Distribution Detection for Real-World Settings", year=2022,
        url="https://arxiv.org/abs/1911.11132", family="probability", needs=frozenset({"logits", "train_logits"}))
    reads = "logits"

    def _tensor(self, values: np.ndarray):
        logits = np.asarray(values, dtype=np.float64)
        return super()._tensor(np.maximum(logits, logits.max(axis=1, keepdims=True) + LOWEST_LOGIT))

    def _learn(self, given, train, head):
        fitted = detectors().KLMatching(None).fit_logits(given)
        return {"posteriors": np.stack([values.numpy() for values in fitted.dists.values()])}

    def _predictor(self, arrays):
        import torch

        detector = detectors().KLMatching(None)
        for number, values in enumerate(arrays["posteriors"]):
            detector.dists[str(number)] = torch.nn.Parameter(torch.from_numpy(np.array(values)), requires_grad=False)
        return detector.predict_logits


class _Weibull:
    """``w_score`` of pytorch-ood's LibNotMR with a = 1 in closed form: scipy's distribution takes 0.1 ms a call, and
    the detector makes one for every image and class."""

    def __init__(self, shape: float, scale: float, smallest: float, translation: float):
        self.shape, self.scale, self.offset = float(shape), float(scale), float(translation) - float(smallest)

    def w_score(self, distance: float) -> float:
        ratio = max(float(distance) + self.offset, 0.0) / self.scale
        exponent = self.shape * math.log(ratio) if ratio else -math.inf
        return -math.expm1(-math.exp(min(exponent, 700.0)))


def _fitted_tail(distances: np.ndarray, size: int):
    """pytorch-ood's LibNotMR on the largest distances, its two parameters by maximum likelihood as there.

    scipy seeks them by simplex from a start that integrates the distribution, 80 ms a class, where one equation in the shape
    has one root (Cohen, Technometrics 7, 1965): 0.2 ms, and no less likely.
    """
    from pytorch_ood.detector.openmax.libnotmr import LibNotMR
    from scipy.optimize import brentq

    tail = LibNotMR(tailsize=size)
    kept = np.sort(distances)[-size:]
    values = kept + tail.translation - kept[0]
    logs = np.log(values / values[-1])
    if logs[0] == 0:  # all alike: no shape is the likeliest
        tail.fit_high(distances)
        return tail

    def slope(shape: float) -> float:
        weights = np.exp(shape * logs)
        return float(weights @ logs / weights.sum() - 1 / shape - logs.mean())

    upper = 1.0
    while slope(upper) < 0:
        upper *= 4
    tail.c = brentq(slope, upper / 4 if upper > 1 else 1e-6, upper, rtol=1e-12)
    tail.scale = values[-1] * np.mean(np.exp(tail.c * logs)) ** (1 / tail.c)
    tail.min_val = kept[0]
    return tail


@register
class OpenMax(DetectorScorer):
    """Softmax probability of "unknown", from logits cut by Weibull fits to the distances from the classes' means."""

    info = ScorerInfo(
        name="openmax", title="probability of an unknown class by OpenMax", paper="Towards Open Set Deep Networks",
        year=2016, url="https://arxiv.org/abs/1511.06233", family="logit",
        needs=frozenset({"logits", "train_logits", "train_labels"}),
        parameters={"tail_size": 25, "revised_classes": 10})
    reads = "logits"

    def _detector(self):
        return detectors().OpenMax(None, tailsize=int(self.parameters_["tail_size"]),
                                   alpha=int(self.parameters_["revised_classes"]))

    def _learn(self, given, train: Features, head):
        from pytorch_ood.detector.openmax.numpy import OpenMax as Fitted

        labels = np.array(training_labels(train, self.info.name), dtype=np.int64)
        logits, fitted = given.numpy(), Fitted(tailsize=int(self.parameters_["tail_size"]))
        for label in np.unique(labels):
            fitted.centers[label] = fitted._get_center(logits[labels == label])
            distances = fitted._get_dists_to_center(label, logits[labels == label])
            fitted.distributions[label] = _fitted_tail(distances, fitted.tailsize)
        classes = sorted(fitted.centers)
        tails = [fitted.distributions[label] for label in classes]
        return {"classes": np.array(classes, dtype=np.int64), "centres": np.stack([fitted.centers[c] for c in classes]),
                "weibull": np.array([[tail.c, tail.scale, tail.min_val, tail.translation] for tail in tails])}

    def _predictor(self, arrays):
        import torch
        from pytorch_ood.detector.openmax.numpy import OpenMax as Fitted

        detector = self._detector()
        count = arrays["centres"].shape[1]
        fitted = Fitted(tailsize=detector.tailsize, alpha=min(detector.alpha, count))
        classes = arrays["classes"].tolist()
        fitted.centers = dict(zip(classes, arrays["centres"], strict=True))
        fitted.distributions = {label: _Weibull(*row) for label, row in zip(classes, arrays["weibull"], strict=True)}
        fitted.n_dims, fitted.is_fitted = count, True
        detector._openmax = fitted
        # The detector takes distances only to classes that some image of the batch is predicted as. One image of each
        # class is therefore always there: a score must not depend on the other images.
        anchors = torch.eye(count, dtype=torch.float64)

        def predict(logits):
            with np.errstate(over="ignore"):  # the exponentials of logits near 709 and above, where it cuts them
                return detector.predict_logits(torch.cat([logits, anchors]))[:len(logits)]

        return predict
