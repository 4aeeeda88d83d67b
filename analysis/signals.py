"""Nominal-only signals: what a trial or its fold models say without any anomaly. Records and comparisons."""

from __future__ import annotations

import math
from dataclasses import dataclass

from analysis.scorer_base import nearest


@dataclass(frozen=True)
class SignalInfo:
    """Record of a signal. ``direction`` is maximize or minimize; ``cost`` in trainings of one trial (1 = the trial
    itself, 1 + folds for fold models); ``needs`` names what it is computed from: never an anomaly."""

    name: str
    title: str
    direction: str
    cost: str
    needs: frozenset[str]
    paper: str
    url: str


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
    "Strictly Proper Scoring Rules, Prediction, and Estimation", "https://doi.org/10.1198/016214506000001437"))
register(SignalInfo(
    "val_accuracy", "closed-set accuracy on nominal validation images", "maximize", "1",
    frozenset({"validation/logits", "validation/labels"}),
    "Open-Set Recognition: A Good Closed-Set Classifier is All You Need", "https://arxiv.org/abs/2110.06207"))
register(SignalInfo(
    "val_ece", "expected calibration error on nominal validation images, 15 bins", "minimize", "1",
    frozenset({"validation/logits", "validation/labels"}),
    "On Calibration of Modern Neural Networks", "https://arxiv.org/abs/1706.04599"))
register(SignalInfo(
    "synthetic_outlier_auroc", "AUROC of max logit between validation images and their jigsaw, noise and blur copies",
    "maximize", "1", frozenset({"validation/images", "model"}),
    "Model Selection of Anomaly Detectors in the Absence of Labeled Validation Data",
    "https://arxiv.org/abs/2310.10461"))
register(SignalInfo(
    "pseudo_novel_auroc", "AUROC between kept and held-out nominal classes, mean over fold models", "maximize",
    "1 + folds", frozenset({"fold_models"}), "Tuning Out-of-Distribution (OOD) Detectors Without Given OOD Data",
    "https://arxiv.org/abs/2602.05935"))


def signal_names() -> list[str]:
    """Every signal, in registry order."""
    return list(_REGISTRY)


def get_signal(name: str) -> SignalInfo:
    """Record of a signal; ValueError naming the nearest for an unknown name."""
    if name not in _REGISTRY:
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
