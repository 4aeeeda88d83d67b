"""scikit-learn's random forest, tree for tree, without what it does anew for every tree: checks, settings, warnings, generators.

For some hundred latents that is half of the time of a forest of 1000 trees, and a study grows one for every trial. The
trees are scikit-learn's own, but reached by inner names, so that the first use compares both on a small sample: where they
differ, in whatever version, scikit-learn's own forest is taken.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from sklearn.ensemble import RandomForestClassifier

LARGEST_SEED = np.iinfo(np.int32).max


class LeanForest:
    """``RandomForestClassifier`` of the two classes 0 and 1, as far as an oracle needs it: same arguments, trees and
    probabilities, with any number of threads the same to the last bit."""

    def __init__(self, n_estimators: int, *, random_state: int, n_jobs: int | None = None, class_weight: str | None = None):
        self.n_estimators, self.random_state, self.class_weight = n_estimators, random_state, class_weight
        self.threads = _threads(n_jobs)

    def fit(self, X, y) -> LeanForest:
        """Grows the trees, ``estimators_``, on latents (N, D) of labels (N,). Returns self. ValueError where one is not finite."""
        from sklearn.utils.class_weight import compute_sample_weight

        latents = _single(X)
        labels = np.ascontiguousarray(y, dtype=np.float64)[:, None]
        weight = compute_sample_weight(self.class_weight, y) if self.class_weight else None
        random = np.random.RandomState(self.random_state)
        seeds = [random.randint(LARGEST_SEED) for _ in range(self.n_estimators)]
        grown = self._in_parts(lambda part: [*_grown(latents, labels, weight, part)], seeds)
        self.estimators_ = [tree for part in grown for tree in part]
        return self

    def predict_proba(self, X) -> np.ndarray:
        """Shares of the two classes in the leaves that latents (N, D) reach, the trees' mean (N, 2)."""
        latents = _single(X)
        return np.concatenate(self._in_parts(self._mean, latents))  # rows, since sums of trees would depend on the parts

    def _mean(self, latents: np.ndarray) -> np.ndarray:
        total = np.zeros((len(latents), 2))
        for tree in self.estimators_:
            total += tree.predict(latents)
        return total / len(self.estimators_)

    def _in_parts(self, work: Callable, of: Sequence) -> list:
        """``work`` of as many parts as there are threads; scikit-learn's compiled part lets other threads run."""
        size = -(-len(of) // self.threads)
        parts = [of[start : start + size] for start in range(0, len(of), size)]
        if len(parts) == 1:
            return [work(parts[0])]
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(work, parts))


def _grown(latents: np.ndarray, labels: np.ndarray, weight: np.ndarray | None, seeds: Sequence[int]):
    """A tree for each seed, with scikit-learn's defaults in a forest: Gini, √D features a split, until leaves are pure."""
    from sklearn.tree._criterion import Gini
    from sklearn.tree._splitter import BestSplitter
    from sklearn.tree._tree import DepthFirstTreeBuilder, Tree

    images, features = latents.shape
    classes = np.array([2], dtype=np.intp)
    shares = None if weight is None else weight / weight.sum()
    random = np.random.RandomState()  # one for all: to make one costs ten times as much as to seed it
    for seed in seeds:
        random.seed(seed)
        drawn = random.randint(0, images, images) if shares is None else random.choice(images, images, replace=True, p=shares)
        counts = np.bincount(drawn, minlength=images).astype(np.float64)
        random.seed(seed)
        splitter = BestSplitter(Gini(1, classes), max(1, math.isqrt(features)), 1, 0.0, random, None)
        tree = Tree(features, classes, 1)
        DepthFirstTreeBuilder(splitter, 2, 1, 0.0, LARGEST_SEED, 0.0).build(tree, latents, labels, counts, None)
        yield tree


def _single(X) -> np.ndarray:
    """In the precision in which trees compare; ValueError where there is none, or nothing at all."""
    latents = np.ascontiguousarray(X, dtype=np.float32)
    if not len(latents) or not np.isfinite(latents).all():
        raise ValueError("the latents are none, not finite, or too large for single precision")
    return latents


def _threads(n_jobs: int | None) -> int:
    """joblib's reading of scikit-learn's argument: −1 means all cores."""
    from joblib import effective_n_jobs

    return effective_n_jobs(n_jobs)


@functools.cache
def forest_class() -> type[RandomForestClassifier] | type[LeanForest]:
    """``LeanForest``, or scikit-learn's own where the two differ."""
    random = np.random.default_rng(0)
    z = random.normal(size=(60, 9)).astype(np.float32)
    labels = (z[:, 0] + random.normal(size=60) > 0).astype(int)
    for weight in (None, "balanced"):
        options = {"n_estimators": 3, "random_state": 5, "class_weight": weight}
        try:
            lean = LeanForest(**options).fit(z, labels).predict_proba(z)
        except Exception:  # whatever a later scikit-learn makes of it
            return RandomForestClassifier
        if not np.array_equal(lean, RandomForestClassifier(**options).fit(z, labels).predict_proba(z)):
            return RandomForestClassifier
    return LeanForest
