"""Nominal-only signals: what a trial or its fold models say without any anomaly. Records and comparisons.

A signal that can be told from features alone is one record with ``compute``, a function of the nominal training and
validation ``Features``: it is handed nothing else, and so cannot see an anomaly. Every trial computes all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from analysis import metrics, plugins, signal_geometry
from analysis.scorer_base import Features, nearest


@dataclass(frozen=True)
class SignalInfo:
    """Record of a signal. ``direction`` is maximize or minimize; ``cost`` in trainings of one trial (1 = the trial
    itself, 1 + folds for fold models); ``needs`` names what it is computed from: never an anomaly. ``compute(train,
    validation)``: its value, where the nominal features say it; None for those that the training loop or the fold
    models give."""

    name: str
    title: str
    direction: str
    cost: str
    needs: frozenset[str]
    paper: str
    url: str
    compute: Callable[[Features, Features], float] | None = None


_REGISTRY: dict[str, SignalInfo] = {}


def register(info: SignalInfo) -> SignalInfo:
    """Adds a signal; ValueError for a name already taken or an unknown direction."""
    if info.name in _REGISTRY:
        raise ValueError(f"a signal named {info.name!r} is registered already")
    if info.direction not in ("maximize", "minimize"):
        raise ValueError(f"signal {info.name}: direction must be maximize or minimize, not {info.direction!r}")
    _REGISTRY[info.name] = info
    return info


register(SignalInfo(
    "val_nll", "negative log-likelihood of nominal validation images", "minimize", "1",
    frozenset({"validation/logits", "validation/labels"}),
    "Strictly Proper Scoring Rules, Prediction, and Estimation", "https://doi.org/10.1198/016214506000001437",
    lambda train, validation: metrics.nll(validation.logits, validation.labels)))
register(SignalInfo(
    "val_accuracy", "closed-set accuracy on nominal validation images", "maximize", "1",
    frozenset({"validation/logits", "validation/labels"}),
    "Open-Set Recognition: A Good Closed-Set Classifier is All You Need", "https://arxiv.org/abs/2110.06207",
    lambda train, validation: metrics.closed_set_accuracy(validation.logits, validation.labels)))
register(SignalInfo(
    "val_ece", "expected calibration error on nominal validation images, 15 bins", "minimize", "1",
    frozenset({"validation/logits", "validation/labels"}),
    "On Calibration of Modern Neural Networks", "https://arxiv.org/abs/1706.04599",
    lambda train, validation: metrics.ece(validation.logits, validation.labels)))
register(SignalInfo(
    "synthetic_outlier_auroc", "AUROC of max logit between validation images and their jigsaw, noise and blur copies",
    "maximize", "1", frozenset({"validation/images", "model"}),
    "Model Selection of Anomaly Detectors in the Absence of Labeled Validation Data",
    "https://arxiv.org/abs/2310.10461"))
register(SignalInfo(
    "pseudo_novel_auroc", "AUROC between kept and held-out nominal classes, mean over fold models", "maximize",
    "1 + folds", frozenset({"fold_models"}), "Tuning Out-of-Distribution (OOD) Detectors Without Given OOD Data",
    "https://arxiv.org/abs/2602.05935"))


# Directions below follow from the papers named, or from the reasoning in the title's comment, and were settled before
# any was compared with anomalies; the study's signal leaderboard says which of them hold.
register(SignalInfo(
    "val_balanced_accuracy", "accuracy on nominal validation images, every class counted alike", "maximize", "1",
    frozenset({"validation/logits", "validation/labels"}),
    "The Balanced Accuracy and Its Posterior Distribution", "https://doi.org/10.1109/ICPR.2010.764",
    signal_geometry.balanced_accuracy))
register(SignalInfo(  # label smoothing and mixup spoil calibration, which the order of scores need not mind
    "refined_nll", "validation NLL after the temperature that makes it smallest", "minimize", "1",
    frozenset({"validation/logits", "validation/labels"}),
    "Rethinking Early Stopping: Refine, Then Calibrate", "https://arxiv.org/abs/2501.19195",
    signal_geometry.refined_nll))
register(SignalInfo(  # wide margins leave room between classes, where anomalies may fall
    "logit_margin", "mean margin of the true class's validation logit, in standard deviations of the logits",
    "maximize", "1", frozenset({"validation/logits", "validation/labels"}),
    "Predicting the Generalization Gap in Deep Networks with Margin Distributions", "https://arxiv.org/abs/1810.00113",
    signal_geometry.logit_margin))
register(SignalInfo(  # latents that keep more directions than the classes need can show an anomaly
    "effective_rank", "effective rank of validation latents about their mean", "maximize", "1",
    frozenset({"validation/z"}),
    "The Effective Rank: A Measure of Effective Dimensionality", "https://ieeexplore.ieee.org/document/7098875",
    signal_geometry.effective_rank))
register(SignalInfo(
    "rankme", "effective rank of training latents about 0 (RankMe)", "maximize", "1", frozenset({"train/z"}),
    "RankMe: Assessing the Downstream Performance of Pretrained Self-Supervised Representations by Their Rank",
    "https://arxiv.org/abs/2210.02885", signal_geometry.rankme))
register(SignalInfo(  # more collapsed classes were found to stand out better from anomalies (NECO, arXiv 2310.06823)
    "neural_collapse", "variance within classes relative to that between them (NC1), validation latents", "minimize",
    "1", frozenset({"validation/z", "validation/labels"}),
    "Prevalence of Neural Collapse During the Terminal Phase of Deep Learning Training",
    "https://arxiv.org/abs/2008.08186", signal_geometry.neural_collapse))
register(SignalInfo(
    "knn_margin", "distance to the nearest other-class training latent minus to the nearest same-class one", "maximize",
    "1", frozenset({"validation/z", "validation/labels", "train/z", "train/labels"}),
    "Margin Based Feature Selection: Theory and Algorithms", "https://doi.org/10.1145/1015330.1015352",
    signal_geometry.knn_margin))


def signal_names() -> list[str]:
    """Every signal, in registry order, then those of installed plug-ins."""
    return [*_REGISTRY, *(name for name in plugins.names("signal") if name not in _REGISTRY)]


def trial_signal_names() -> list[str]:
    """Signals that every trial gives, so that one of them can pick the trial."""
    return [name for name, info in _REGISTRY.items() if info.compute or name == "synthetic_outlier_auroc"]


def computed_signals() -> dict[str, Callable[[Features, Features], float]]:
    """By name, the functions of (nominal training features, nominal validation features) that a trial evaluates:
    the built-in ones, then those of the study's plug-ins."""
    plugins.seek("signal", "")  # in a worker: the study's own, all of them
    return {name: info.compute for name, info in _REGISTRY.items() if info.compute}


def missing_signals(
    signals: Mapping[str, float | None], train: Features, validation: Features
) -> dict[str, float]:
    """What a trial's record lacks of the signals that features tell: those that came after it was trained.

    A signal that is recorded stays as it is, whatever its value. NaN where a new one is not defined."""
    return {name: float(compute(train, validation)) for name, compute in computed_signals().items()
            if name not in signals}


def get_signal(name: str) -> SignalInfo:
    """Record of a signal; ValueError naming the nearest for an unknown name."""
    if name not in _REGISTRY and not plugins.seek("signal", name):
        raise ValueError(f"unknown signal {name!r}{nearest(name, signal_names())}")
    return _REGISTRY[name]


def objective(value: float | None, name: str) -> float:
    """The value with its sign such that higher is better; -inf for None or NaN, so that neither is ever best."""
    sign = 1.0 if get_signal(name).direction == "maximize" else -1.0
    if value is None or math.isnan(value):
        return -math.inf
    return sign * float(value)


def better(a: float | None, b: float | None, name: str) -> bool:
    """Whether a is strictly better than b in that signal; None and NaN are worse than any number."""
    return objective(a, name) > objective(b, name)
