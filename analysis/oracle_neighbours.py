"""The neighbour oracle: is an image among anomalies or among nominal images?"""

from __future__ import annotations

import numpy as np

from analysis.metrics import auroc
from analysis.oracles import Oracle, OracleInfo, native_threads, register

#: Numbers of neighbours that compete, where so many images are there.
NEIGHBOURS = (1, 2, 3, 5, 10, 20, 50, 100)


def shares(distances: np.ndarray, is_anomaly: np.ndarray) -> np.ndarray:
    """Weight of the anomalies among the nearest 1, 2, … neighbours, each weighing one over its distance.

    ``distances`` and ``is_anomaly``: N×k, nearest first. Returns N×k in 0..1: column j is of the first j + 1."""
    weight = 1 / np.maximum(distances, 1e-9)  # a twin at distance 0 decides alone, but does not divide by it
    return np.clip(np.cumsum(weight * is_anomaly, axis=1) / np.cumsum(weight, axis=1), 0.0, 1.0)


class _Neighbours:
    """Fitted: standardised latents, their mask and the k chosen."""

    def __init__(self, z: np.ndarray, mask: np.ndarray, n_jobs: int):
        from sklearn.neighbors import NearestNeighbors
        from sklearn.preprocessing import StandardScaler

        self.n_jobs, self.mask = n_jobs, mask
        self.scaler = StandardScaler().fit(z)
        self.search = NearestNeighbors(algorithm="brute", n_jobs=n_jobs).fit(self.scaler.transform(z))
        offered = [k for k in NEIGHBOURS if k < len(z)]
        with native_threads(n_jobs):
            distances, index = self.search.kneighbors(n_neighbors=offered[-1])  # without an image itself: leave one out
        found = shares(distances, mask[index])
        self.aurocs = {k: auroc(found[:, k - 1], mask) for k in offered}
        self.k = max(offered, key=lambda k: self.aurocs[k])

    def predict_proba(self, z: np.ndarray) -> np.ndarray:
        with native_threads(self.n_jobs):
            distances, index = self.search.kneighbors(self.scaler.transform(z.astype(np.float64)), n_neighbors=self.k)
        anomalous = shares(distances, self.mask[index])[:, -1]
        return np.stack([1 - anomalous, anomalous], axis=1)


@register
class NeighbourOracle(Oracle):
    """k nearest neighbours in standardised latents, weighed by one over their distance; constant features are left as
    they are. k is the one of ``NEIGHBOURS`` with the best leave-one-out AUROC on the oracle's own images (the
    smallest of equals); one search for neighbours tells it for all of them. ``model_.k`` is what it came to."""

    info = OracleInfo(
        name="knn", title="k nearest neighbours in standardised z, labelled nominal or anomaly, k by leave-one-out",
        paper="Nearest neighbor pattern classification", year=1967, url="https://doi.org/10.1109/TIT.1967.1053964",
        needs=frozenset({"z", "is_anomaly"}))

    def _fit(self, z: np.ndarray, mask: np.ndarray) -> _Neighbours:
        self.backend_ = "scikit-learn"
        return _Neighbours(z.astype(np.float64), mask, self.n_jobs)
