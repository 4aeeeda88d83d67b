"""Anomaly scores from a trained model's cached logits and latents: the registry as its users see it.

``get_scorer(name).fit(train_features, parameters).score(features)``, higher = more anomalous. Definitions:
``scorer_logits``, ``scorer_latents``, ``scorer_pytorch_ood``; their parameters are settled by
``posthoc.settle_parameters``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from analysis import (  # importing the definitions registers them
    scorer_latents,  # noqa: F401
    scorer_logits,  # noqa: F401
    scorer_pytorch_ood,  # noqa: F401
)
from analysis.posthoc import best_temperature, settle_parameters
from analysis.scorer_base import (
    FAMILIES,
    REGISTRY,
    Features,
    Scorer,
    ScorerInfo,
    nearest,
    own_scorer,
    register,
    scorer_class,
)

__all__ = ["DEFAULT_SCORERS", "FAMILIES", "Features", "Scorer", "ScorerInfo", "best_temperature", "default_scorers",
           "fit_scorers", "get_scorer", "nearest", "needs_head", "own_scorer", "register", "score_all", "scorer_class",
           "scorer_names", "settle_parameters", "usable_scorers"]

DEFAULT_SCORERS = ("msp", "entropy", "max_logit", "energy", "margin", "knn", "mahalanobis", "relative_mahalanobis")


def default_scorers(own: Iterable[str] = ()) -> list[str]:
    """The default set in its fixed order, then the method's own scorers."""
    return [*DEFAULT_SCORERS, *own]


def scorer_names(own: Iterable[str] = ()) -> list[str]:
    """Every scorer in registry order (the default set first), then the method's own scorers."""
    return [*DEFAULT_SCORERS, *(name for name in REGISTRY if name not in DEFAULT_SCORERS), *own]


def get_scorer(name: str, own: Iterable[str] = ()) -> Scorer:
    """A new, unfitted scorer; errors as ``scorer_class``."""
    return scorer_class(name, own)()


def needs_head(name: str, own: Iterable[str] = ()) -> bool:
    """Whether a scorer needs the linear head, and so cannot judge methods that have none; errors as
    ``scorer_class``."""
    return "head" in scorer_class(name, own).info.needs


def usable_scorers(own: Iterable[str], *, linear_head: bool) -> list[str]:
    """The scorers that can judge a method of these scores of its own, with or without a linear head."""
    own = tuple(own)
    return [name for name in scorer_names(own) if linear_head or not needs_head(name, own)]


def fit_scorers(names: Iterable[str], train: Features, *, parameters: Mapping[str, Mapping[str, Any]] | None = None,
                own: Iterable[str] = ()) -> dict[str, Scorer]:
    """Scorers by name, fitted on the nominal training features with the settled parameters."""
    own = tuple(own)
    return {name: get_scorer(name, own).fit(train, (parameters or {}).get(name)) for name in names}


def score_all(scorers: Mapping[str, Scorer], features: Features) -> dict[str, np.ndarray]:
    """Anomaly scores (N,) of every fitted scorer."""
    return {name: scorer.score(features) for name, scorer in scorers.items()}
