"""Scorers of the logits alone. Nothing is fitted; a temperature divides the logits where there is one."""

from __future__ import annotations

import numpy as np

from analysis.metrics import log_softmax
from analysis.scorer_base import Features, Scorer, ScorerInfo, register


def _logits(features: Features, temperature: float = 1.0) -> np.ndarray:
    return np.asarray(features.logits, dtype=np.float64) / temperature


@register
class MaximumSoftmaxProbability(Scorer):
    """1 - max p, as the sum of the *other* classes' probabilities: the same number without the rounding that would
    tie all confident images at 0."""

    info = ScorerInfo(
        name="msp", title="maximum softmax probability",
        paper="A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks", year=2017,
        url="https://arxiv.org/abs/1610.02136", family="probability", needs=frozenset({"logits"}),
        parameters={"temperature": 1.0})

    def _score(self, features: Features) -> np.ndarray:
        ordered = np.sort(_logits(features, self.parameters_["temperature"]), axis=1)
        others = np.exp(ordered[:, :-1] - ordered[:, -1:]).sum(axis=1)
        return others / (1 + others)


@register
class Entropy(Scorer):
    info = ScorerInfo(
        name="entropy", title="entropy of the softmax, in nats",
        paper="Entropy Maximization and Meta Classification for Out-of-Distribution Detection in Semantic "
              "Segmentation", year=2021, url="https://arxiv.org/abs/2012.06575", family="probability",
        needs=frozenset({"logits"}), parameters={"temperature": 1.0})

    def _score(self, features: Features) -> np.ndarray:
        log_probabilities = log_softmax(_logits(features, self.parameters_["temperature"]))
        return -(np.exp(log_probabilities) * log_probabilities).sum(axis=1)


@register
class MaxLogit(Scorer):
    info = ScorerInfo(
        name="max_logit", title="negated largest logit",
        paper="Scaling Out-of-Distribution Detection for Real-World Settings", year=2022,
        url="https://arxiv.org/abs/1911.11132", family="logit", needs=frozenset({"logits"}))

    def _score(self, features: Features) -> np.ndarray:
        return -_logits(features).max(axis=1)


@register
class Energy(Scorer):
    """-T logsumexp(logits / T)."""

    info = ScorerInfo(
        name="energy", title="free energy of the logits", paper="Energy-based Out-of-distribution Detection",
        year=2020, url="https://arxiv.org/abs/2010.03759", family="logit", needs=frozenset({"logits"}),
        parameters={"temperature": 1.0})

    def _score(self, features: Features) -> np.ndarray:
        temperature = self.parameters_["temperature"]
        logits = _logits(features, temperature)
        largest = logits.max(axis=1)
        return -temperature * (largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1)))


@register
class Margin(Scorer):
    """Second largest logit minus the largest, which is the log ratio of the two probabilities: the margin without
    the saturation of p1 - p2, and with no temperature to settle. One class: 0."""

    info = ScorerInfo(
        name="margin", title="negated margin between the two largest log probabilities",
        paper="Active Hidden Markov Models for Information Extraction", year=2001,
        url="https://doi.org/10.1007/3-540-44816-0_31", family="probability", needs=frozenset({"logits"}))

    def _score(self, features: Features) -> np.ndarray:
        logits = _logits(features)
        if logits.shape[1] < 2:
            return np.zeros(len(logits))
        largest = np.partition(logits, -2, axis=1)
        return largest[:, -2] - largest[:, -1]
