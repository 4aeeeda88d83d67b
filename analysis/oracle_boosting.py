"""The boosting oracle: gradient-boosted trees on z."""

from __future__ import annotations

import numpy as np

from analysis.oracles import Oracle, OracleInfo, native_threads, register

ROUNDS, LEAVES, RATE = 100, 8, 0.1


class _Boosted:
    """Fitted trees, which would otherwise take every core."""

    def __init__(self, model, n_jobs: int):
        self.model, self.n_jobs = model, n_jobs

    def predict_proba(self, z: np.ndarray) -> np.ndarray:
        with native_threads(self.n_jobs):
            return self.model.predict_proba(z)


@register
class BoostedOracle(Oracle):
    """Histogram gradient boosting of ``ROUNDS`` small trees without early stopping, whose held-out share would cost a
    small oracle more than a hundred rounds of it overfit. A leaf holds 20 images, fewer where there are under 200."""

    info = OracleInfo(
        name="boosted", title=f"gradient boosting of {ROUNDS} small trees on z, labelled nominal or anomaly",
        paper="Greedy Function Approximation: A Gradient Boosting Machine", year=2001,
        url="https://doi.org/10.1214/aos/1013203451", needs=frozenset({"z", "is_anomaly"}))

    def _fit(self, z: np.ndarray, mask: np.ndarray) -> _Boosted:
        from sklearn.ensemble import HistGradientBoostingClassifier

        self.backend_ = "scikit-learn"
        model = HistGradientBoostingClassifier(
            max_iter=ROUNDS, max_leaf_nodes=LEAVES, learning_rate=RATE, early_stopping=False, random_state=self.seed,
            min_samples_leaf=max(1, min(20, len(z) // 10)))
        with native_threads(self.n_jobs):
            return _Boosted(model.fit(z, mask.astype(int)), self.n_jobs)
