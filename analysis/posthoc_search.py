"""Two-level tuning: a scorer's own parameters searched by Optuna on cached features, judged without any anomaly.

Nothing is trained. An objective contrasts nominal validation images with stand-ins for anomalies made of nominal
features, so that hundreds of settings a second can be tried. What is searched where: ``analysis.posthoc_spaces``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from analysis.metrics import auroc, nll
from analysis.posthoc_spaces import COUNTED, space_of
from analysis.scorer_base import Features, scorer_class

MIXUP, DROPOUT, NLL = "feature_mixup_auroc", "class_dropout_auroc", "val_nll"
OBJECTIVES = (MIXUP, DROPOUT, NLL)
SETTINGS = 60
IMAGES = 2000  # of each part that are looked at
CLASSES = 10  # that are dropped in turn, of more
MIXING = (0.3, 0.7)  # share of the first image: nearer to 0 or 1 a mixture is all but nominal
#: What the fit reads, where a detector's constructor reads more: few settings then need one.
FIT_READS = {"openmax": ("tail_size",)}
SLOW = {"openmax": 2}  # it scores image by image: so many contrasts at most
#: What a fit or a score raises for features that it cannot use (torch's linear algebra raises RuntimeError).
UNUSABLE = (ValueError, ArithmeticError, RuntimeError)


@dataclass(frozen=True, eq=False)
class Contrast:
    """Nominal training features to fit on, features to score, and which of those stand for anomalies. ``share``: how
    much of the training images is left, by which parameters that count images shrink."""

    train: Features
    images: Features
    is_anomaly: np.ndarray
    share: float = 1.0


@dataclass(frozen=True, eq=False)
class Nominal:
    """All that a search may see: labelled nominal ``train`` and ``validation`` features. ``own``: the names of the
    method's own scores."""

    train: Features
    validation: Features
    own: tuple[str, ...] = ()
    _contrasts: dict[tuple[str, int], list[Contrast]] = field(default_factory=dict, repr=False)

    def contrasts(self, objective: str, seed: int) -> list[Contrast]:
        """What an objective averages over; made once, for every scorer."""
        if (objective, seed) not in self._contrasts:
            make = {MIXUP: feature_mixup, DROPOUT: class_dropout}[objective]
            self._contrasts[objective, seed] = make(self, seed)
        return self._contrasts[objective, seed]


@dataclass(frozen=True)
class Found:
    """The outcome of a search. ``settings``: how many were tried, the default among them; ``value`` and
    ``default_value``: the objective, higher is better, None where it cannot be computed."""

    scorer: str
    objective: str
    settings: int
    seconds: float
    default: Mapping[str, Any]
    default_value: float | None
    parameters: Mapping[str, Any]
    value: float | None


class _Read(Mapping):
    """Parameters that remember which of them were read."""

    def __init__(self, values: Mapping[str, Any]):
        self._values, self.read = dict(values), set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return self._values[name]

    def __iter__(self):
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class Rescore:
    """Scores of a contrast's images at any parameters, computed anew only as far as a parameter reaches: the scorer is
    fitted again where one that its fit reads has changed."""

    def __init__(self, name: str, contrast: Contrast, own: tuple[str, ...] = ()):
        self.name, self.kind, self.contrast = name, scorer_class(name, own), contrast
        self._reads: tuple[str, ...] | None = FIT_READS.get(name)
        self._kept: dict[tuple, dict[str, np.ndarray]] = {}

    def __call__(self, parameters: Mapping[str, Any]) -> np.ndarray:
        """Scores (N,); errors as ``Scorer.fit`` and ``score``."""
        counted = {name: max(1, round(parameters[name] * self.contrast.share)) for name in COUNTED.get(self.name, ())}
        scorer = self.kind.restore({}, {**parameters, **counted})
        if self.name == "knn":  # one sort serves every k
            return self._distances[:, min(scorer.parameters_["k"], self._distances.shape[1]) - 1]
        key = self._key(scorer.parameters_)
        if key is None or key not in self._kept:
            settled, watched = scorer.parameters_, _Read(scorer.parameters_)
            scorer.parameters_ = watched
            arrays = scorer._fit(self.contrast.train)
            scorer.parameters_ = settled
            if self.name not in FIT_READS:  # large fits must not pile up, and are seldom asked for again
                self._reads, self._kept = tuple(sorted(watched.read)), {}
            self._kept[self._key(settled)] = arrays
            key = self._key(settled)
        return self.kind.restore(self._kept[key], scorer.parameters_).score(self.contrast.images)

    def _key(self, parameters: Mapping[str, Any]) -> tuple | None:
        return None if self._reads is None else tuple(parameters[name] for name in self._reads)

    @cached_property
    def _distances(self) -> np.ndarray:
        """Distances of the images to all training images, latents scaled to length 1, ascending."""
        train, images = (np.asarray(part.z, dtype=np.float64) for part in (self.contrast.train, self.contrast.images))
        train, images = (z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12) for z in (train, images))
        return np.sort(np.sqrt(np.maximum(_squares(images)[:, None] + _squares(train) - 2 * images @ train.T, 0.0)))


def _squares(z: np.ndarray) -> np.ndarray:
    return (z**2).sum(axis=1)


# ---------------------------------------------------------------------------------------------------- objectives
def feature_mixup(nominal: Nominal, seed: int = 0) -> list[Contrast]:
    """One contrast: validation images against as many convex mixtures of two of them of different classes, the first
    one's share uniform in ``MIXING``.

    After manifold mixup (Verma et al., ICML 2019). Logits are mixed like latents: for a linear head, whose weights are
    applied to both, that is what the head says of the mixture; without one it approximates that. Empty with one class.
    """
    random = np.random.default_rng([seed, 0])
    validation, train = drawn(nominal.validation, random), drawn(nominal.train, random)
    labels = np.asarray(validation.labels)
    first = random.permutation(len(validation))
    second = np.array([_other(labels, labels[row], random) for row in first], dtype=np.int64)
    kept = second >= 0
    if not kept.any():
        return []
    weight = random.uniform(*MIXING, size=(len(first), 1))[kept]
    a, b = first[kept], second[kept]
    mixed = [weight * part[a] + (1 - weight) * part[b] for part in (validation.logits, validation.z)]
    both = [np.concatenate([part, more.astype(part.dtype)])
            for part, more in zip((validation.logits, validation.z), mixed, strict=True)]
    mask = np.repeat([False, True], [len(validation), len(a)])
    return [Contrast(train, Features(*both), mask, len(train) / len(nominal.train))]


def _other(labels: np.ndarray, label: int, random: np.random.Generator) -> int:
    """A row of another class, -1 where there is none."""
    for _ in range(64):  # a draw is wrong with the class's share of the images
        row = int(random.integers(len(labels)))
        if labels[row] != label:
            return row
    others = np.flatnonzero(labels != label)
    return int(random.choice(others)) if len(others) else -1


def class_dropout(nominal: Nominal, seed: int = 0) -> list[Contrast]:
    """A contrast for each nominal class: it is left out of the training features, the logits and the head, and its
    validation images are the anomalies. At most ``CLASSES``, drawn; none where fewer than two classes would be left.

    The network has seen the class, so that this is easier than a new one (fold models are trained without it).
    """
    random = np.random.default_rng([seed, 1])
    validation, train = drawn(nominal.validation, random), drawn(nominal.train, random)
    count = train.logits.shape[1]
    if count < 3:
        return []
    present = [c for c in range(count) if 0 < np.sum(np.asarray(validation.labels) == c) < len(validation)]
    chosen = sorted(random.choice(present, CLASSES, replace=False)) if len(present) > CLASSES else present
    share = len(train) / len(nominal.train)
    return [Contrast(_without(train.select(np.asarray(train.labels) != c), c), _without(validation, c),
                     np.asarray(validation.labels) == c, share) for c in chosen]


def _without(features: Features, dropped: int) -> Features:
    """The features with one class's logits (and row of the head) deleted; labels close up, the class's are -1."""
    labels = np.asarray(features.labels)
    head = features.head and tuple(np.delete(part, dropped, axis=0) for part in features.head)
    return Features(np.delete(features.logits, dropped, axis=1), features.z,
                    np.where(labels == dropped, -1, labels - (labels > dropped)), {}, head)


def drawn(features: Features, random: np.random.Generator, most: int = IMAGES) -> Features:
    """At most so many of the images, in their order."""
    if len(features) <= most:
        return replace(features, own={})
    return replace(features.select(np.sort(random.choice(len(features), most, replace=False))), own={})


def objective_of(
    scorer: str, nominal: Nominal, objective: str, *, seed: int = 0
) -> Callable[[Mapping[str, Any]], float | None]:
    """The function of a scorer's parameters that a search maximises: an AUROC, mean over contrasts, or the negated
    validation NLL in nats. None where it cannot be computed or is not finite, and for the NLL where every validation
    image is classified correctly: it then falls for ever as T goes to 0 and says nothing. ValueError for an unknown
    objective, and for the NLL of a scorer without a temperature."""
    if objective == NLL:
        if "temperature" not in scorer_class(scorer, nominal.own).info.parameters:
            raise ValueError(f"scorer {scorer} has no temperature for the NLL to choose")
        logits, labels = np.asarray(nominal.validation.logits, dtype=np.float64), nominal.validation.labels
        silent = bool((logits.argmax(axis=1) == labels).all())
        return lambda parameters: None if silent else _number(-nll(logits / parameters["temperature"], labels))
    if objective not in OBJECTIVES:
        raise ValueError(f"unknown objective {objective!r}; known: {', '.join(OBJECTIVES)}")
    contrasts = nominal.contrasts(objective, seed)[:SLOW.get(scorer)]
    scored = [(Rescore(scorer, contrast, nominal.own), contrast.is_anomaly) for contrast in contrasts]

    def mean_auroc(parameters: Mapping[str, Any]) -> float | None:
        try:
            with np.errstate(all="ignore"):
                areas = [auroc(rescore(parameters), mask) for rescore, mask in scored]
        except UNUSABLE:
            return None
        return _number(float(np.mean(areas))) if areas else None

    return mean_auroc


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


# -------------------------------------------------------------------------------------------------------- search
def search(scorer: str, nominal: Any, objective: str, *, settings: int = SETTINGS, seed: int = 0) -> Found:
    """The parameters of a scorer that are best by an objective of ``OBJECTIVES``, from nominal features alone.

    ``nominal``: a ``Nominal``, or anything with ``train``, ``validation`` and ``own`` (a ``TrialEvidence``, of which
    nothing else is looked at). The default is tried first and wins ties. All combinations of listed values are tried
    where there are at most ``settings`` (Optuna's GridSampler), else as many as that by its TPE, of fixed seed. Same
    input, same result. ValueError for a scorer without parameters, and as ``objective_of``.
    """
    if not isinstance(nominal, Nominal):
        nominal = Nominal(nominal.train, nominal.validation, tuple(nominal.own))
    default = dict(scorer_class(scorer, nominal.own).info.parameters)
    if not default:
        raise ValueError(f"scorer {scorer} has no parameters to search")
    space = space_of(scorer, nominal.train, nominal.own)  # loads pytorch-ood, once: none of the search's seconds
    start = time.perf_counter()
    value_of = objective_of(scorer, nominal, objective, seed=seed)
    if objective == NLL:  # says nothing about the others
        space = {"temperature": space["temperature"]}
    known = {tuple(default.values()): value_of(default)}
    if settings > 1 and next(iter(known.values())) is not None:
        _explore(space, default, known, value_of, settings, seed)
    best = max(known, key=lambda values: -math.inf if known[values] is None else known[values])
    return Found(scorer, objective, len(known), time.perf_counter() - start, default, known[tuple(default.values())],
                 dict(zip(default, best, strict=True)), known[best])


def _explore(
    space: Mapping[str, Any], default: Mapping[str, Any], known: dict[tuple, float | None],
    value_of: Callable[[Mapping[str, Any]], float | None], settings: int, seed: int
) -> None:
    """Fills ``known`` with the values of up to ``settings`` settings, asked of an Optuna study in memory."""
    import optuna

    listed = {name: limits["options"] for name, limits in space.items() if "options" in limits}
    combinations = math.prod(map(len, listed.values()))
    grid = len(listed) == len(space) and combinations <= settings
    if grid:
        sampler = optuna.samplers.GridSampler(listed, seed=seed)
    else:
        sampler = optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=max(4, settings // 4), multivariate=True, constant_liar=False)

    def objective(trial: Any) -> float:
        setting = {**default, **{name: _suggested(trial, name, limits) for name, limits in space.items()}}
        key = tuple(setting.values())
        if key not in known:
            known[key] = value_of(setting)
        return math.nan if known[key] is None else known[key]  # NaN: Optuna counts the trial as failed

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(direction="maximize", sampler=sampler)
        if not grid:
            study.enqueue_trial({name: default[name] for name in space})
        study.optimize(objective, n_trials=combinations if grid else settings)
    finally:
        optuna.logging.set_verbosity(verbosity)


def _suggested(trial: Any, name: str, limits: Mapping[str, Any]) -> Any:
    """A value of a range of ``posthoc_spaces``."""
    if "options" in limits:
        return trial.suggest_categorical(name, limits["options"])
    suggest = trial.suggest_int if isinstance(limits["low"], int) else trial.suggest_float
    return suggest(name, limits["low"], limits["high"], log=bool(limits.get("log")))
