"""The lean forest is scikit-learn's, tree for tree, or is not used."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from analysis import oracle_trees
from analysis.oracle_trees import LeanForest, forest_class
from analysis.oracles import forest_oracle


@pytest.fixture
def fresh():
    forest_class.cache_clear()
    yield
    forest_class.cache_clear()


def test_it_is_the_one_in_use_with_the_scikit_learn_that_is_pinned(fresh):
    assert forest_class() is LeanForest


@pytest.mark.parametrize("weight", [None, "balanced"])
@pytest.mark.parametrize(("rows", "width", "share", "jobs"), [
    (40, 1, 0.5, 1), (41, 3, 0.1, 2), (200, 64, 0.3, 1), (7, 512, 0.5, 1), (150, 2, 0.02, 1)])
def test_its_probabilities_are_scikit_learns_bit_for_bit(weight, rows, width, share, jobs):
    random = np.random.default_rng(rows)
    labels = (np.arange(rows) < max(1, rows * share)).astype(int)
    z = (random.normal(size=(rows, width)) + labels[:, None] * 0.5).astype(np.float32)
    z[: rows // 3] = np.round(z[: rows // 3])  # ties
    asked = random.normal(size=(50, width)).astype(np.float32)
    options = {"n_estimators": 20, "random_state": 2**32 - 1, "class_weight": weight, "n_jobs": jobs}
    ours, theirs = (kind(**options).fit(z, labels) for kind in (LeanForest, RandomForestClassifier))
    theirs.n_jobs = 1  # its threads add the trees up in any order, ours in one
    assert np.array_equal(ours.predict_proba(asked), theirs.predict_proba(asked))
    for mine, other in zip(ours.estimators_, theirs.estimators_, strict=True):
        assert np.array_equal(mine.threshold, other.tree_.threshold)


@pytest.mark.parametrize("asked", [1, 3])
def test_more_threads_than_there_is_work_do_no_harm(asked):
    z = np.random.default_rng(1).normal(size=(30, 4))
    forest = LeanForest(2, random_state=0, n_jobs=5).fit(z, np.arange(30) % 2)
    assert len(forest.estimators_) == 2 and forest.predict_proba(z[:asked]).shape == (asked, 2)


@pytest.mark.parametrize("value", [np.inf, np.nan, 1e39])
def test_latents_that_are_no_numbers_are_refused(value):
    z = np.random.default_rng(1).normal(size=(30, 4))
    odd = z.copy()
    odd[3, 2] = value
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="not finite"):
        LeanForest(2, random_state=0).fit(odd, np.arange(30) % 2)
    forest = LeanForest(2, random_state=0).fit(z, np.arange(30) % 2)
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="not finite"):
        forest.predict_proba(odd)


def test_all_cores_is_what_it_says():
    assert LeanForest(1, random_state=0, n_jobs=-1).threads >= LeanForest(1, random_state=0).threads == 1


def test_where_it_would_grow_other_trees_scikit_learns_are_taken(fresh, monkeypatch):
    monkeypatch.setattr(oracle_trees.math, "isqrt", lambda features: features)
    assert forest_class() is RandomForestClassifier


def test_where_scikit_learn_has_another_inside_its_own_are_taken(fresh, monkeypatch):
    def fails(*_, **__):
        raise TypeError("build() takes another argument")

    monkeypatch.setattr(oracle_trees, "_grown", fails)
    assert forest_class() is RandomForestClassifier
    z, mask = np.random.default_rng(0).normal(size=(30, 2)), np.arange(30) % 2 == 0
    assert forest_oracle(trees=5).fit(z, mask).anomaly_score(z).shape == (30,)
