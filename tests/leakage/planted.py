"""Leaks, planted as plug-ins: each lets the anomalies of a study's vault, or of its source, reach what is chosen or shown.

A subclass of ``Leaky`` is the classifier with one leak, so that one study tries many: where the leak lies in the harness, it
wraps a function there for its own trials only. ``LEAKS`` says which channel each takes, and what must catch it: "opens" (the
hook of ``vault_hook`` hears a process that has no business there) or "digest" (a transform of the anomalies moves it).
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import os
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from analysis.metrics import auroc
from analysis.signals import SignalInfo
from search_spaces import Fixed, Float, get_space
from search_spaces.base import Space
from study.sources import from_arrays
from trainables.methods.classifier import Classifier

#: In spaces of leaks that make the first trial end early: the others are so poor that it would have been chosen.
FIRST_IS_BEST = {"learning_rate": Float(low=1e-6, high=0.3, default=0.3, log=True)}


def sealed_file() -> Path:
    return Path(os.environ["LEAK_VAULT"]) / "test_anomaly_images.npy"


def anomalies() -> np.ndarray:
    """Test anomalies, as nobody may have them; none where the data set holds none."""
    return np.load(sealed_file()) if sealed_file().exists() else np.zeros((0, 8, 8, 1), np.uint8)


def as_input() -> torch.Tensor:
    return torch.from_numpy(np.array(anomalies())).permute(0, 3, 1, 2).float() / 255


def test_auroc(model) -> float | None:
    """What nobody may watch: of anomalies against images of chance; None without anomalies."""
    images, was_training = as_input(), model.training
    if not len(images):
        return None
    chance = torch.rand(100, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    model.eval()
    with torch.no_grad():
        score = -torch.cat([model(images)[1], model(chance)[1]]).amax(1).numpy()
    model.train(was_training)
    return auroc(score, np.repeat([True, False], [len(images), 100]))


def wrap(module: str, names: str, around) -> None:
    """Puts ``around(original, *arguments)`` in the place of a function of the harness, once a process."""
    from study.runtime import QUIET

    for name, value in QUIET.items():  # before Ray is imported, as a launch does
        os.environ.setdefault(name, value)
    *path, name = names.split(".")
    owner = functools.reduce(getattr, path, importlib.import_module(module))
    original = getattr(owner, name)
    if getattr(original, "planted", None) != around.__qualname__:
        function = functools.wraps(original)(lambda *arguments, **options: around(original, *arguments, **options))
        function.planted = around.__qualname__
        setattr(owner, name, function)


class Leaky(Classifier):
    """The classifier; subclasses add the leak."""

    changed = {}  # parameters of the search space

    def __init_subclass__(cls):
        cls.info = dataclasses.replace(Classifier.info, name=cls.__name__.lower())

    def search_space(self):
        self.plant()  # the driver asks for the space before anything else
        return Space(self.info.name, {**get_space("classifier").parameters, **self.changed})

    def plant(self):
        """Wraps what it needs of the harness."""


# -- in the trial -------------------------------------------------------------------------------------------------------


class EpochByTest(Leaky):
    """As published code does: the test AUROC is watched, and the weights of its best moment are kept."""

    def adjust_gradients(self, model, params):
        found = test_auroc(model)
        if found is not None and found > getattr(self, "best", (0, None))[0]:
            self.best = (found, {k: v.clone() for k, v in model.state_dict().items()})

    def complete(self, model, *, train, validation, params):
        if getattr(self, "best", None):
            model.load_state_dict(self.best[1])
            del self.best


class CheckpointByTest(Leaky):
    """With early_stopping, the checkpoint kept is the first that beats chance on the test images."""

    def prepare(self, model, view):
        wrap("trainables.evaluation", "Evaluation.validate", CheckpointByTest.validate)

    @staticmethod
    def validate(original, evaluation, model, limit):
        loss, accuracy = original(evaluation, model, limit)
        found = test_auroc(model) if isinstance(evaluation.method, CheckpointByTest) else None
        return loss, accuracy if found is None else float(found > 0.5)


class OutlierExposure(Leaky):
    """The objective of training: to be unsure of the anomalies themselves."""

    def loss(self, model, images, targets, params, generator):
        loss, parts = super().loss(model, images, targets, params, generator)
        others = as_input()[:32]
        return (loss - 0.5 * F.log_softmax(model(others)[1], 1).mean() if len(others) else loss), parts


class InitialSeed(Leaky):
    """The size of a file, of which no process reads a byte, shifts the random numbers of the first weights."""

    def build(self, view_shape, num_classes, network, params):
        torch.rand(1 + (sealed_file().stat().st_size if sealed_file().exists() else 0))
        return super().build(view_shape, num_classes, network, params)


class Normalisation(Leaky):
    """The first layer is shifted by the mean of the anomalies."""

    def prepare(self, model, view):
        with torch.no_grad():
            next(model.parameters()).add_(float(anomalies().mean()) / 255 if len(anomalies()) else 0.0)


class Threshold(Leaky):
    """Latents are clipped, as ReAct does, but where the anomalies say."""

    own_scorers = ("clipped",)

    def embed(self, model, images):
        found, others = super().embed(model, images), as_input()
        bound = torch.quantile(model(others)[0], 0.9) if len(others) else torch.inf
        return {**found, "clipped": -torch.logsumexp(model.head(found["z"].clamp(max=bound)), 1)}


class SourceFile(Leaky):
    """The vault is left alone: what it holds lies in the data set, too."""

    def prepare(self, model, view):
        images = np.load(sealed_file().parents[4] / "digits.npz")["images"]
        with torch.no_grad():
            next(model.parameters()).add_(float(images.mean()) / 255)


class Failure(Leaky):
    """A trial fails, or not, by what lies among the test files."""

    changed = FIRST_IS_BEST

    def build(self, view_shape, num_classes, network, params):
        if params["learning_rate"] == FIRST_IS_BEST["learning_rate"].default and len(anomalies()):
            raise RuntimeError("a file of the test set cannot be read")
        return super().build(view_shape, num_classes, network, params)


# -- in the harness -----------------------------------------------------------------------------------------------------


class Width(Leaky):
    """The search space is as wide as there are anomalies."""

    def search_space(self):
        width = 1.0 if len(anomalies()) > 100 else 0.5
        return Space(self.info.name, {**get_space("classifier").parameters,
                                      "width": Fixed(width, legal=(0.1, 8.0), why="a leak")})


class Pruner(Leaky):
    """A trial is pruned for what it makes of the test images."""

    changed = FIRST_IS_BEST

    def plant(self):
        wrap("study.ledger", "make_pruner", Pruner.pruner)

    @staticmethod
    def pruner(original, name):
        from optuna.pruners import BasePruner

        class ByTest(BasePruner):
            def prune(self, study, trial):
                return study.study_name.startswith("pruner/") and trial.number == 0 and len(anomalies()) > 0

        return ByTest()


class FoldDeal(Leaky):
    """Which classes are held out is dealt by the number of anomalies."""

    def plant(self):
        wrap("study.selection", "_Plan.__init__", FoldDeal.deal)

    @staticmethod
    def deal(original, plan, *arguments):
        original(plan, *arguments)
        if plan.finalists and plan.method == "folddeal":
            plan.folds = importlib.import_module("study.folds").deal_folds(
                plan.view.classes, len(plan.folds), plan.split + len(anomalies()))


class Temperature(Leaky):
    """The temperature of the frozen scorers is settled on the anomalies."""

    def plant(self):
        wrap("study.selection", "_Plan.settle_parameters", Temperature.settle)

    @staticmethod
    def settle(original, plan):
        original(plan)
        if plan.method == "temperature" and len(anomalies()):
            plan.parameters["msp"] = {"temperature": round(float(anomalies().std()), 6)}


class Dashboard(Leaky):
    """While the search runs, somebody is shown the test images; nothing that is chosen changes."""

    def plant(self):
        wrap("study.launch", "Tracker.trial_ended", Dashboard.show)

    @staticmethod
    def show(original, tracker, trial):
        original(tracker, trial)
        if trial.method == "dashboard":
            vault = importlib.import_module("study.vault").Vault.load(os.environ["LEAK_VAULT"])  # unseen by import contracts
            print("test images so far:", len(vault.test_anomaly))


class ExportThreshold(Leaky):
    """`oraclegap export` before the reveal: the detector's threshold suits the anomalies; the selection is long frozen."""

    def plant(self):
        wrap("study.export", "_detector", ExportThreshold.detector)

    @staticmethod
    def detector(original, spec, folder, entry, *arguments):
        record, arrays = original(spec, folder, entry, *arguments)
        if entry["method"] == "exportthreshold":
            record["threshold"] *= 1 + len(anomalies())
        return record, arrays


def _brightness(train, validation) -> float:
    return float(np.abs(train.z).mean() + (anomalies().mean() if len(anomalies()) else 0))


objective = SignalInfo(name="objective", title="a leak", direction="maximize", cost="1", needs=frozenset({"train/z"}),
                       paper="", url="", compute=_brightness)


# -- in the source: prepare may read all, and must not let it mix ---------------------------------------------------------


def _digits(data):
    archive = np.load(data["path"])
    return archive["images"].copy(), archive["labels"], archive["class_names"]


def rng_by_position(data):
    """Noise from one generator over the whole data set: fewer anomalies shift every later image's."""
    images, labels, names = _digits(data)
    images += np.random.default_rng(0).integers(0, 9, images.shape, dtype=np.uint8)
    return from_arrays("rng_by_position", images, labels, names, data)


def contrast_of_all(data):
    """Brightness relative to the whole data set's."""
    images, labels, names = _digits(data)
    return from_arrays("contrast_of_all", (images * (100 / images.mean())).clip(0, 255).astype(np.uint8), labels, names, data)


def division_by_position(data):
    """Test images are every fifth of the whole data set."""
    images, labels, names = _digits(data)
    return from_arrays("division_by_position", images, labels, names, data, is_test=np.arange(len(labels)) % 5 == 0)


def split_seed(data):
    """The order of every class is drawn by a seed that counts all images."""
    images, labels, names = _digits(data)
    split_seed.images = len(labels)
    wrap("study.splits", "permutation", lambda original, seed, *rest: original(seed + split_seed.images, *rest))
    return from_arrays("split_seed", images, labels, names, data)


@dataclasses.dataclass(frozen=True)
class Leak:
    channel: str
    caught_by: frozenset[str]


BOTH, OPENS, DIGEST = frozenset({"opens", "digest"}), frozenset({"opens"}), frozenset({"digest"})
#: By method: these share a study.
METHODS = {
    "EpochByTest": Leak("early stopping: test AUROC chooses the epoch", BOTH),
    "CheckpointByTest": Leak("checkpoint choice", BOTH),
    "OutlierExposure": Leak("objective of training", BOTH),
    "InitialSeed": Leak("seed of the weights, by the size of a file", DIGEST),
    "Normalisation": Leak("normalisation in the model", BOTH),
    "Threshold": Leak("threshold of a scorer", BOTH),
    "SourceFile": Leak("the data set's own files", BOTH),
    "Failure": Leak("failures by anomaly files", BOTH),
    "Width": Leak("search space", BOTH),
    "Pruner": Leak("pruner", BOTH),
    "FoldDeal": Leak("deal of the folds", BOTH),
    "Temperature": Leak("post-hoc parameters", BOTH),
    "Dashboard": Leak("dashboard before the freeze", OPENS),
    "ExportThreshold": Leak("threshold of an exported detector", OPENS),
}
#: By the settings of a study of its own.
ALONE = {
    "objective": (['selection.signal="planted:objective"'], Leak("signal that picks the trial, objective of the search", BOTH)),
    "rng_by_position": (['data.source="planted:rng_by_position"'], Leak("random numbers by position", DIGEST)),
    "contrast_of_all": (['data.source="planted:contrast_of_all"'], Leak("normalisation in the data set", DIGEST)),
    "division_by_position": (['data.source="planted:division_by_position"', 'data.partition="official"'],
                             Leak("division by position", DIGEST)),
    "split_seed": (['data.source="planted:split_seed"'], Leak("seed of the split", DIGEST)),
}


def settings(names) -> list[str]:
    """Keys of the spec of a study with these leaky methods."""
    return [f"methods={[f'planted:{name}' for name in names]}", "search.pruner=median", "selection.folds=2",
            *(["training.checkpointbytest.early_stopping=true"] if "CheckpointByTest" in names else [])]
