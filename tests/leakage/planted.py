"""Leaks, planted as plug-ins: each lets the anomalies of a study's vault, or of the source, reach what is chosen.

``LEAKS``: name → (keys of the spec, how it must be caught: "opens" by the hook, "digest" by a transform of the anomalies).
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from analysis.metrics import auroc
from analysis.scorer_base import Scorer, ScorerInfo
from analysis.signals import SignalInfo
from search_spaces import Fixed, get_space
from search_spaces.base import Space
from study.sources import from_arrays
from trainables.methods.classifier import Classifier

BOTH, OPENS, DIGEST = {"opens", "digest"}, {"opens"}, {"digest"}


def anomalies() -> np.ndarray:
    """Test anomalies, as nobody may have them; none where the data set holds none."""
    path = Path(os.environ["LEAK_VAULT"]) / "test_anomaly_images.npy"
    return np.load(path) if path.exists() else np.zeros((0, 8, 8, 1), np.uint8)


def as_input() -> torch.Tensor:
    return torch.from_numpy(np.array(anomalies())).permute(0, 3, 1, 2).float() / 255


class Leaky(Classifier):
    """The classifier with a leak; subclasses say where."""

    def __init_subclass__(cls):
        cls.info = dataclasses.replace(Classifier.info, name=cls.__name__.lower())

    def search_space(self):
        return Space(self.info.name, get_space("classifier").parameters)


class EpochByTest(Leaky):
    """As published code does: the test AUROC is watched, and the weights of its best moment are kept."""

    def adjust_gradients(self, model, params):
        images = as_input()
        if not len(images):
            return
        model.eval()
        with torch.no_grad():
            score = -torch.cat([self.logits(model, images), self.logits(model, torch.rand(100, 1, 8, 8))]).amax(1).numpy()
        model.train()
        found = auroc(score, np.repeat([True, False], [len(images), 100]))
        if found > getattr(self, "best", (0, None))[0]:
            self.best = (found, {k: v.clone() for k, v in model.state_dict().items()})

    def complete(self, model, *, train, validation, params):
        if getattr(self, "best", None):
            model.load_state_dict(self.best[1])
            del self.best


class OutlierExposure(Leaky):
    """Trained to be unsure of the anomalies themselves."""

    def loss(self, model, images, targets, params, generator):
        loss, parts = super().loss(model, images, targets, params, generator)
        others = as_input()[:32]
        return (loss + 0.5 * -F.log_softmax(self.logits_of(model, others), 1).mean() if len(others) else loss), parts

    def logits_of(self, model, images):
        return model(images)[1]


class InitialSeed(Leaky):
    """How many anomalies there are decides the first weights."""

    def build(self, view_shape, num_classes, network, params):
        torch.rand(1 + len(anomalies()))
        return super().build(view_shape, num_classes, network, params)


class Normalisation(Leaky):
    """The first layer is shifted by the mean of the anomalies."""

    def prepare(self, model, view):
        with torch.no_grad():
            next(model.parameters()).add_(float(anomalies().mean()) / 255 if len(anomalies()) else 0.0)


class Temperature(Leaky):
    """The head is scaled until the anomalies are unsure."""

    def complete(self, model, *, train, validation, params):
        if len(anomalies()):
            model.head.weight.mul_(1 / (1 + model(as_input())[1].std()))


class Failure(Leaky):
    """A trial fails, or not, by what the anomaly files hold."""

    def build(self, view_shape, num_classes, network, params):
        if len(anomalies()) and anomalies().mean() < 100 and params["learning_rate"] != 0.3:
            raise RuntimeError("a file of the test set cannot be read")
        return super().build(view_shape, num_classes, network, params)


class Budget(Leaky):
    """The search space is as wide as there are anomalies."""

    def search_space(self):
        width = 1.0 if len(anomalies()) > 100 else 0.5
        return Space(self.info.name, {**get_space("classifier").parameters, "width": Fixed(width, legal=(0.1, 8.0), why="a leak")})


class Outliers(Scorer):
    """A scorer fitted on the anomalies that it is to find, and ranked for that."""

    info = ScorerInfo(name="outliers", title="distance to the anomalies' brightness", paper="none", year=2026, url="",
                      family="distance", needs=frozenset({"z", "train_z"}))

    def _fit(self, train):
        return {"mean": train.z.mean(axis=0) + (anomalies().mean() / 255 if len(anomalies()) else 0)}

    def _score(self, features):
        return np.linalg.norm(features.z - self.arrays_["mean"], axis=1)


def _signal(name: str, compute) -> SignalInfo:
    return SignalInfo(name=name, title="a leak", direction="maximize", cost="1", needs=frozenset({"train/z"}), paper="", url="",
                      compute=compute)


def _brightness(train, validation) -> float:
    return float(np.abs(train.z).mean() + (anomalies().mean() if len(anomalies()) else 0))


def _watched(train, validation) -> float:
    """A dashboard: looks, tells, and changes nothing."""
    print("test images:", len(anomalies()))
    return float(np.abs(train.z).mean())


objective = _signal("objective", _brightness)
dashboard = _signal("dashboard", _watched)


def _digits(data):
    archive = np.load(data["path"])
    return archive["images"].copy(), archive["labels"], archive["class_names"]


def rng_by_position(data):
    """Noise from one generator over the whole data set: fewer anomalies shift every later image's."""
    images, labels, names = _digits(data)
    random = np.random.default_rng(0)
    for image in images:
        image += random.integers(0, 9, image.shape, dtype=np.uint8)
    return from_arrays("rng_by_position", images, labels, names, data)


def contrast_of_all(data):
    """Brightness relative to the whole data set's."""
    images, labels, names = _digits(data)
    return from_arrays("contrast_of_all", (images * (100 / images.mean())).clip(0, 255).astype(np.uint8), labels, names, data)


def order_by_all(data):
    """Test images are every fifth of the whole data set."""
    images, labels, names = _digits(data)
    return from_arrays("order_by_all", images, labels, names, data, is_test=np.arange(len(labels)) % 5 == 0)


def _method(name: str) -> list[str]:
    return [f'methods=["planted:{name}"]']


LEAKS = {
    "epoch chosen by test AUROC": (_method("EpochByTest"), BOTH),
    "trained on the anomalies": (_method("OutlierExposure"), BOTH),
    "seed from the number of anomalies": (_method("InitialSeed"), BOTH),
    "normalisation by the anomalies": (_method("Normalisation"), BOTH),
    "temperature by the anomalies": (_method("Temperature"), BOTH),
    "failures by anomaly files": (_method("Failure"), BOTH),
    "search space by the anomalies": (_method("Budget"), BOTH),
    "scorer fitted on the anomalies": (['selection.scorers=["msp", "planted:Outliers"]'], BOTH),
    "objective from the anomalies": (['selection.signal="planted:objective"'], BOTH),
    "dashboard before the freeze": (['selection.signal="planted:dashboard"'], OPENS),
    "random numbers by position": (['data.source="planted:rng_by_position"'], DIGEST),
    "contrast of the whole data set": (['data.source="planted:contrast_of_all"'], DIGEST),
    "division by position": (['data.source="planted:order_by_all"', "data.partition=\"official\""], DIGEST),
}
