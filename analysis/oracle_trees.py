"""scikit-learn's random forest, tree for tree, without the checks that it makes anew for every tree.

For some hundred latents those checks are two fifths of the time of a forest of 1000 trees, and a study grows one for every
trial. What is left out are inner methods of scikit-learn, so that the first use compares both on a small sample: where they
differ, in whatever version, scikit-learn's own is taken.
"""

from __future__ import annotations

import functools
import math
import threading

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

LARGEST_SEED = np.iinfo(np.int32).max


_of_thread = threading.local()


class LeanTree(DecisionTreeClassifier):
    """A tree of two classes with scikit-learn's defaults in a forest, on data that the forest has checked and encoded."""

    @property
    def random_state(self) -> np.random.RandomState:
        """The thread's generator at the beginning of the tree's numbers: to make one costs ten times as much as to seed it."""
        if not hasattr(_of_thread, "generator"):
            _of_thread.generator = np.random.RandomState()
        _of_thread.generator.seed(self.seed)
        return _of_thread.generator

    @random_state.setter
    def random_state(self, seed: int) -> None:
        self.seed = seed

    def _fit(self, X, y, sample_weight=None, check_input=True, missing_values_in_feature_mask=None):
        from sklearn.tree._criterion import Gini
        from sklearn.tree._splitter import BestSplitter
        from sklearn.tree._tree import DepthFirstTreeBuilder, Tree

        features, classes = X.shape[1], np.array([2], dtype=np.intp)
        splitter = BestSplitter(Gini(1, classes), max(1, math.isqrt(features)), 1, 0.0, self.random_state, None)
        self.tree_ = Tree(features, classes, 1)
        weights = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        builder = DepthFirstTreeBuilder(splitter, 2, 1, 0.0, LARGEST_SEED, 0.0)
        builder.build(self.tree_, X, y, weights, missing_values_in_feature_mask)
        self.n_features_in_, self.n_outputs_, self.n_classes_, self.classes_ = features, 1, 2, np.arange(2)
        return self


class LeanForest(RandomForestClassifier):
    """``RandomForestClassifier`` for the two classes 0 and 1; same arguments, trees and probabilities."""

    def _make_estimator(self, append=True, random_state=None):
        tree = LeanTree(random_state=random_state.randint(LARGEST_SEED))
        if append:
            self.estimators_.append(tree)
        return tree


@functools.cache
def forest_class() -> type[RandomForestClassifier]:
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
