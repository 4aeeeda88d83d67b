"""Oracle detectors: what *labelled* anomalies extract from the same latents. Used after reveal only.

An oracle is fitted on latents (N, D) with their mask and gives ``anomaly_score`` (N,), its probability of anomaly. To
add one: a class with an ``info`` record under ``@register``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from analysis import plugins
from analysis.scorer_base import nearest

FOREST_TREES = 1000


@dataclass(frozen=True)
class OracleInfo:
    """Record of an oracle; ``needs`` names what ``fit`` takes."""

    name: str
    title: str
    paper: str
    year: int
    url: str
    needs: frozenset[str]


class Oracle:
    """Base: ``fit(z, is_anomaly)`` then ``anomaly_score(z)``. ``backend_`` says which library was used."""

    info: ClassVar[OracleInfo]

    def __init__(self, *, seed: int = 0, n_jobs: int = 1):
        self.seed, self.n_jobs = int(seed) % 2**32, n_jobs  # scikit-learn takes 32 bits
        self.backend_: str | None = None

    def fit(self, z, is_anomaly) -> Oracle:
        """Fits on latents (N, D), finite, of nominal images and anomalies. Returns self.

        ValueError for shapes that differ, values that are not finite, or one of the two classes missing."""
        latents, mask = np.asarray(z), np.asarray(is_anomaly).astype(bool)
        if latents.ndim != 2 or mask.shape != latents.shape[:1]:
            raise ValueError(f"an oracle needs latents (N, D) and a mask (N,), not {latents.shape} and {mask.shape}")
        if not np.isfinite(latents).all():
            raise ValueError("the latents are not finite")
        if mask.all() or not mask.any():
            raise ValueError("an oracle needs both nominal images and anomalies")
        self.width_ = latents.shape[1]
        self.model_ = self._fit(latents, mask)
        return self

    def anomaly_score(self, z) -> np.ndarray:
        """Probability of anomaly (N,), float64."""
        latents = np.asarray(z)
        if latents.ndim != 2 or latents.shape[1] != self.width_:
            raise ValueError(f"latents (N, {self.width_}) are needed, not {latents.shape}")
        return np.asarray(self.model_.predict_proba(latents)[:, 1], dtype=np.float64)

    def _fit(self, z: np.ndarray, mask: np.ndarray):
        raise NotImplementedError


_REGISTRY: dict[str, type[Oracle]] = {}


def register(oracle: type[Oracle]) -> type[Oracle]:
    """Class decorator that adds an oracle; ValueError for a name already taken."""
    if oracle.info.name in _REGISTRY:
        raise ValueError(f"an oracle named {oracle.info.name!r} is registered already")
    _REGISTRY[oracle.info.name] = oracle
    return oracle


def oracle_names() -> list[str]:
    """Every oracle, in registry order, then those of installed plug-ins."""
    return [*_REGISTRY, *(name for name in plugins.names("oracle") if name not in _REGISTRY)]


def get_oracle(name: str, *, seed: int = 0, n_jobs: int = 1) -> Oracle:
    """A new, unfitted oracle; ValueError naming the nearest for an unknown name."""
    if name not in _REGISTRY and not plugins.seek("oracle", name):
        raise ValueError(f"unknown oracle {name!r}{nearest(name, oracle_names())}")
    return _REGISTRY[name](seed=seed, n_jobs=n_jobs)


def forest_oracle(*, seed: int = 0, n_jobs: int = 1, trees: int = FOREST_TREES, balanced: bool = False) -> Oracle:
    """The forest oracle of the study (1000 trees; fewer for a trial run). ``balanced``: both classes weigh the same."""
    return ForestOracle(seed=seed, n_jobs=n_jobs, trees=trees, balanced=balanced)


def linear_oracle(*, seed: int = 0, n_jobs: int = 1, balanced: bool = False) -> Oracle:
    """The linear-probe oracle: is the difference linearly available in z? ``balanced``: both classes weigh the same."""
    return LinearOracle(seed=seed, n_jobs=n_jobs, balanced=balanced)


@contextlib.contextmanager
def native_threads(count: int) -> Iterator[None]:
    """At most so many threads in BLAS and OpenMP, which scikit-learn's ``n_jobs`` does not bound. -1: as they are."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=count if count > 0 else None):
        yield


@register
class ForestOracle(Oracle):
    """Random forest, nominal against anomaly, scikit-learn's defaults otherwise. scikit-learn-intelex is used when it
    is importable (about five times as fast at the same AUROC; its trees differ, so ``backend_`` is recorded)."""

    info = OracleInfo(
        name="forest", title=f"random forest of {FOREST_TREES} trees on z, labelled nominal or anomaly",
        paper="Random Forests", year=2001, url="https://doi.org/10.1023/A:1010933404324",
        needs=frozenset({"z", "is_anomaly"}))

    def __init__(self, *, seed: int = 0, n_jobs: int = 1, trees: int = FOREST_TREES, balanced: bool = False):
        super().__init__(seed=seed, n_jobs=n_jobs)
        self.trees, self.balanced = trees, balanced

    def _fit(self, z: np.ndarray, mask: np.ndarray):
        try:
            from sklearnex.ensemble import RandomForestClassifier as Forest
            self.backend_ = "scikit-learn-intelex"
        except ImportError:
            from analysis.oracle_trees import forest_class
            Forest, self.backend_ = forest_class(), "scikit-learn"
        forest = Forest(n_estimators=self.trees, random_state=self.seed, n_jobs=self.n_jobs,
                        class_weight="balanced" if self.balanced else None)
        return forest.fit(z, mask.astype(int))


@register
class LinearOracle(Oracle):
    """Logistic regression (L2, C = 1) on standardised latents; constant features are left as they are."""

    info = OracleInfo(
        name="linear", title="linear probe: standardised logistic regression on z, labelled nominal or anomaly",
        paper="Understanding intermediate layers using linear classifier probes", year=2016,
        url="https://arxiv.org/abs/1610.01644", needs=frozenset({"z", "is_anomaly"}))

    def __init__(self, *, seed: int = 0, n_jobs: int = 1, balanced: bool = False):
        super().__init__(seed=seed, n_jobs=n_jobs)
        self.balanced = balanced

    def _fit(self, z: np.ndarray, mask: np.ndarray):
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self.backend_ = "scikit-learn"
        regression = LogisticRegression(max_iter=2000, random_state=self.seed,
                                        class_weight="balanced" if self.balanced else None)
        probe = make_pipeline(StandardScaler(), regression)
        return probe.fit(z.astype(np.float64), mask.astype(int))


# the other kinds register themselves below forest and linear, in whose order they are listed
from analysis import oracle_boosting, oracle_neighbours  # noqa: E402, F401
