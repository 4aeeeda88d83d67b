"""What every scorer shares: features, records, the base class and the registry.

A scorer is fitted on the *training* features of the nominal classes and scores any features, higher = more
anomalous. To add one: a class with an ``info`` record under ``@register``; the contract tests run over the registry.
The definitions are in ``scorer_logits`` (softmax and logits), ``scorer_latents`` (distances in latent space) and
``scorer_pytorch_ood`` (that library's detectors), gathered by ``scorers``, the module to import.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from analysis import plugins

# "activation": the energy after the latents were reshaped. A family of its own, since there are many of them and they
# agree with each other: in ``family_mean`` they would drown the plain logit scores.
FAMILIES = ("probability", "logit", "activation", "distance", "mahalanobis", "own")


@dataclass(frozen=True)
class Features:
    """What a model says of N images: logits (N, K), latents z (N, D), labels (N,) in 0..K-1 or None where unknown,
    and the method's own anomaly scores by name, (N,) each. Arrays may be float32 and read-only.

    ``head`` is the linear layer from latents to logits, weight (K, D) and bias (K,): logits = z weightᵀ + bias. None
    where a method has no such layer. Only a fit reads it."""

    logits: np.ndarray
    z: np.ndarray
    labels: np.ndarray | None = None
    own: Mapping[str, np.ndarray] = field(default_factory=dict)
    head: tuple[np.ndarray, np.ndarray] | None = None

    def __post_init__(self):
        rows = {len(self.logits), len(self.z), *(len(values) for values in self.own.values())}
        if self.labels is not None:
            rows.add(len(self.labels))
        if len(rows) != 1:
            raise ValueError(f"features of one set of images must have one length, not {sorted(rows)}")
        if self.head is not None:
            shapes = tuple(np.shape(part) for part in self.head)
            expected = ((self.logits.shape[1], self.z.shape[1]), (self.logits.shape[1],))
            if shapes != expected:
                raise ValueError(f"a head of these logits and latents has shapes {expected}, not {shapes}")

    def __len__(self) -> int:
        return len(self.logits)

    def select(self, rows) -> Features:
        """The features of some images: a mask or indices."""
        return Features(self.logits[rows], self.z[rows], None if self.labels is None else self.labels[rows],
                        {name: values[rows] for name, values in self.own.items()}, self.head)


@dataclass(frozen=True)
class ScorerInfo:
    """Record of a scorer. ``needs`` names the features used, with a train_ prefix for those of the fit ("head", which
    only a fit reads, has none); ``family`` is one of FAMILIES; ``parameters`` maps each post-hoc parameter to its
    default, and ``at_most`` those that are shares, say, to their largest legal value."""

    name: str
    title: str
    paper: str
    year: int
    url: str
    family: str
    needs: frozenset[str]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    at_most: Mapping[str, float] = field(default_factory=dict)


class Scorer:
    """Base of all scorers: ``fit`` then ``score``, or ``from_state`` of an exported ``state`` then ``score``."""

    info: ClassVar[ScorerInfo]

    def __init__(self):
        self.parameters_: dict[str, Any] = dict(self.info.parameters)
        self.arrays_: dict[str, np.ndarray] = {}

    def fit(self, train: Features, parameters: Mapping[str, Any] | None = None) -> Scorer:
        """Fits on nominal training features; parameters not given keep their defaults. Returns self.

        ValueError for an unknown parameter, or missing or non-finite features."""
        self._take_parameters(parameters)
        self.arrays_ = self._fit(train)
        return self

    def score(self, features: Features) -> np.ndarray:
        """Anomaly scores (N,), float64, higher = more anomalous."""
        return np.asarray(self._score(features), dtype=np.float64)

    def state(self) -> dict[str, np.ndarray]:
        """Fitted arrays and parameters (0-d float64, prefixed ``parameter.``): all that ``from_state`` needs."""
        settled = {f"parameter.{name}": np.asarray(value, dtype=np.float64) for name, value in
                   self.parameters_.items()}
        return {**self.arrays_, **settled}

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Scorer:
        """The fitted scorer of a ``state()``; integer parameters become int again."""
        parameters = {name: type(default)(np.asarray(state[f"parameter.{name}"]).item())
                      for name, default in cls.info.parameters.items()}
        return cls.restore({name: values for name, values in state.items() if not name.startswith("parameter.")},
                           parameters)

    @classmethod
    def restore(cls, arrays: Mapping[str, np.ndarray], parameters: Mapping[str, Any] | None = None) -> Scorer:
        """The fitted scorer of its arrays and parameters (those not given at their defaults)."""
        scorer = cls()
        scorer._take_parameters(parameters)
        scorer.arrays_ = {name: np.asarray(values) for name, values in arrays.items()}
        return scorer

    def _take_parameters(self, parameters: Mapping[str, Any] | None) -> None:
        unknown = set(parameters or ()) - set(self.info.parameters)
        if unknown:
            raise ValueError(f"scorer {self.info.name} has no parameter {min(unknown)!r}; it has "
                             f"{sorted(self.info.parameters) or 'none'}")
        self.parameters_ = {**self.info.parameters, **(parameters or {})}
        for name, value in self.parameters_.items():
            if not (isinstance(value, (int, float, np.number)) and math.isfinite(value) and value > 0):
                raise ValueError(f"scorer {self.info.name}: {name} must be a positive number, not {value!r}")
            if value > self.info.at_most.get(name, math.inf):
                raise ValueError(f"scorer {self.info.name}: {name} must be at most {self.info.at_most[name]}, "
                                 f"not {value!r}")

    def _fit(self, train: Features) -> dict[str, np.ndarray]:
        return {}

    def _score(self, features: Features) -> np.ndarray:
        raise NotImplementedError


def finite_latents(features: Features, name: str) -> np.ndarray:
    """The latents (N, D) of scorer ``name``'s fit; ValueError for another shape, none at all or non-finite ones."""
    z = np.asarray(features.z)
    if z.ndim != 2 or not len(z):
        raise ValueError(f"scorer {name} needs latents (N, D) with N >= 1, not {z.shape}")
    if not np.isfinite(z).all():
        raise ValueError(f"scorer {name}: the latents are not finite")
    return z


def training_labels(features: Features, name: str) -> np.ndarray:
    """The labels (N,) of scorer ``name``'s fit; ValueError where there are none."""
    if features.labels is None:
        raise ValueError(f"scorer {name} needs training labels")
    return np.asarray(features.labels)


REGISTRY: dict[str, type[Scorer]] = {}


def register(scorer: type[Scorer]) -> type[Scorer]:
    """Class decorator that adds a scorer; ValueError for a name already taken or an unknown family."""
    if scorer.info.name in REGISTRY:
        raise ValueError(f"a scorer named {scorer.info.name!r} is registered already")
    if scorer.info.family not in FAMILIES:
        raise ValueError(f"scorer {scorer.info.name}: family must be one of {FAMILIES}")
    REGISTRY[scorer.info.name] = scorer
    return scorer


def own_scorer(name: str) -> type[Scorer]:
    """Scorer class for a score that the method itself gives: it returns ``features.own[name]``."""

    class OwnScorer(Scorer):
        info = ScorerInfo(name=name, title=f"the method's own {name.replace('_', ' ')}", paper="see the method",
                          year=0, url="", family="own", needs=frozenset({f"own:{name}"}))

        def _score(self, features: Features) -> np.ndarray:
            if name not in features.own:
                raise ValueError(f"the features hold no own score {name!r}, only {sorted(features.own)}")
            return features.own[name]

    return OwnScorer


def scorer_class(name: str, own: Iterable[str] = ()) -> type[Scorer]:
    """Class of a scorer; ValueError naming the nearest for an unknown name, or for an own score that would hide
    a registered one."""
    own = tuple(own)
    hidden = set(own) & set(REGISTRY)
    if hidden:
        raise ValueError(f"a method's own scorer may not be called {min(hidden)!r}: that name is registered")
    if name in own:
        return own_scorer(name)
    if name not in REGISTRY and not plugins.seek("scorer", name):
        raise ValueError(f"unknown scorer {name!r}{nearest(name, [*REGISTRY, *own])}")
    return REGISTRY[name]


def nearest(name: str, names: Sequence[str]) -> str:
    """Tail of an error message: the nearest name if one is near, and all of them."""
    near = difflib.get_close_matches(str(name), names, n=1)
    return (f"; did you mean {near[0]!r}?" if near else "") + f" (known: {', '.join(names)})"
