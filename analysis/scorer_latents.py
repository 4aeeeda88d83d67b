"""Scorers of the latent vectors z: distances to the nominal training images or to their Gaussians."""

from __future__ import annotations

import numpy as np

from analysis.scorer_base import Features, Scorer, ScorerInfo, finite_latents, register, training_labels

# Directions whose variance is below this share of the latents' mean square are dropped (a pseudo-inverse): float32
# latents carry rounding noise near 1e-14 of it, dead features exactly 0, and either would swamp every distance.
SINGULAR_SHARE = 1e-12
CHUNK_ELEMENTS = 4_000_000
SPARE_NEIGHBOURS = 4
BLOCK = 32  # training images whose best stands for them all while neighbours are sought


def _unit(z: np.ndarray, dtype=np.float32) -> np.ndarray:
    """Rows scaled to length 1 (zero rows stay zero). As float32 they take half the memory, and products half the
    time."""
    values = np.asarray(z, dtype=np.float64)
    return (values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)).astype(dtype, copy=False)


@register
class KNearestNeighbours(Scorer):
    """Euclidean distance of z/|z| to the k-th nearest nominal training image; k is cut to their number.

    Candidates are found by a float32 product in chunks, their distances computed anew in float64, since
    2 - 2 cos loses all digits between near neighbours.
    """

    info = ScorerInfo(
        name="knn", title="distance to the k-th nearest neighbour of normalised latents",
        paper="Out-of-Distribution Detection with Deep Nearest Neighbors", year=2022,
        url="https://arxiv.org/abs/2204.06507", family="distance", needs=frozenset({"z", "train_z"}),
        parameters={"k": 10})

    def _fit(self, train: Features) -> dict[str, np.ndarray]:
        return {"train_unit": _unit(finite_latents(train, "knn"))}

    def _score(self, features: Features) -> np.ndarray:
        train = self.arrays_["train_unit"]
        unit = _unit(finite_latents(features, "knn")) if len(features) else np.empty((0, train.shape[1]), np.float32)
        k = min(int(self.parameters_["k"]), len(train))
        candidates = min(k + SPARE_NEIGHBOURS, len(train))
        rows = max(1, CHUNK_ELEMENTS // max(len(train), candidates * train.shape[1]))
        distances = np.empty(len(unit))
        for start in range(0, len(unit), rows):
            chunk = unit[start:start + rows]
            near = _largest(chunk @ train.T, candidates)
            exact = np.linalg.norm(chunk[:, None, :].astype(np.float64) - train[near], axis=2)
            distances[start:start + rows] = np.partition(exact, k - 1, axis=1)[:, k - 1]
        return distances


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Columns (N, count) of each row's largest values (N, T), in any order; count <= T.

    Each of them is in a block whose best is among the ``count`` best of all blocks, so few are ever sorted: about a quarter
    of the time of partitioning whole rows of 21,600.
    """
    total = values.shape[1]
    blocks = total // BLOCK
    if blocks < 2 * count:
        return np.argpartition(values, total - count, axis=1)[:, total - count:]
    best = values[:, :blocks].copy()  # block b holds the columns b, b + blocks, b + 2 blocks …
    for start in range(blocks, blocks * BLOCK, blocks):
        np.maximum(best, values[:, start:start + blocks], out=best)
    chosen = np.argpartition(best, blocks - count, axis=1)[:, blocks - count:]
    columns = (chosen[:, :, None] + blocks * np.arange(BLOCK)).reshape(len(values), -1)
    rest = np.broadcast_to(np.arange(blocks * BLOCK, total), (len(values), total - blocks * BLOCK))
    columns = np.concatenate([columns, rest], axis=1)
    among = np.take_along_axis(values, columns, axis=1)
    return np.take_along_axis(columns, np.argpartition(among, -count, axis=1)[:, -count:], axis=1)


@register
class CosinePrototype(Scorer):
    """1 - the largest cosine between z and a class prototype, the mean of the class's training latents."""

    info = ScorerInfo(
        name="cosine_prototype", title="cosine distance to the nearest class prototype",
        paper="A Cosine Similarity-based Method for Out-of-Distribution Detection", year=2023,
        url="https://arxiv.org/abs/2306.14920", family="distance", needs=frozenset({"z", "train_z", "train_labels"}))

    def _fit(self, train: Features) -> dict[str, np.ndarray]:
        z = finite_latents(train, self.info.name).astype(np.float64)
        means, _ = _class_means(z, training_labels(train, self.info.name))
        return {"prototypes": _unit(means, np.float64)}

    def _score(self, features: Features) -> np.ndarray:
        return 1 - (_unit(features.z, np.float64) @ self.arrays_["prototypes"].T).max(axis=1)


def _whitening(z: np.ndarray, means: np.ndarray) -> np.ndarray:
    """(D, R) map after which rows z - means (N, D) have unit covariance; R directions that vary at all, maybe none."""
    centred = z - means
    variances, directions = np.linalg.eigh(centred.T @ centred / len(z))
    kept = variances > np.mean(z**2) * SINGULAR_SHARE
    return directions[:, kept] / np.sqrt(variances[kept])


def _class_means(z: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means (K, D) of the classes present, and which of them each image belongs to."""
    present, which = np.unique(labels, return_inverse=True)
    return np.stack([z[which == index].mean(axis=0) for index in range(len(present))]), which


def _class_gaussians(train: Features, name: str) -> dict[str, np.ndarray]:
    """Whitened means (K, R) of the classes present and the whitening (D, R) of their shared covariance."""
    z = finite_latents(train, name).astype(np.float64)
    means, which = _class_means(z, training_labels(train, name))
    whitening = _whitening(z, means[which])
    return {"whitening": whitening, "means": means @ whitening}


def _nearest_class(z: np.ndarray, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Squared Mahalanobis distance (N,) to the nearest class mean."""
    whitened = z.astype(np.float64) @ arrays["whitening"]
    smallest = np.full(len(z), np.inf)
    for mean in arrays["means"]:
        np.minimum(smallest, ((whitened - mean) ** 2).sum(axis=1), out=smallest)
    return smallest


@register
class Mahalanobis(Scorer):
    """Squared Mahalanobis distance to the nearest class mean, one covariance (divided by N) shared by all classes;
    a singular covariance is inverted on the directions that vary (SINGULAR_SHARE)."""

    info = ScorerInfo(
        name="mahalanobis", title="squared Mahalanobis distance to the nearest class",
        paper="A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks",
        year=2018, url="https://arxiv.org/abs/1807.03888", family="mahalanobis",
        needs=frozenset({"z", "train_z", "train_labels"}))

    def _fit(self, train: Features) -> dict[str, np.ndarray]:
        return _class_gaussians(train, self.info.name)

    def _score(self, features: Features) -> np.ndarray:
        return _nearest_class(np.asarray(features.z), self.arrays_)


@register
class RelativeMahalanobis(Scorer):
    """Mahalanobis distance to the nearest class minus that to one Gaussian of all training images."""

    info = ScorerInfo(
        name="relative_mahalanobis", title="squared Mahalanobis distance relative to a background Gaussian",
        paper="A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection", year=2021,
        url="https://arxiv.org/abs/2106.09022", family="mahalanobis",
        needs=frozenset({"z", "train_z", "train_labels"}))

    def _fit(self, train: Features) -> dict[str, np.ndarray]:
        arrays = _class_gaussians(train, self.info.name)
        z = finite_latents(train, self.info.name).astype(np.float64)
        mean = z.mean(axis=0)
        background = _whitening(z, mean)
        return {**arrays, "background_whitening": background, "background_mean": mean @ background}

    def _score(self, features: Features) -> np.ndarray:
        z = np.asarray(features.z)
        background = z.astype(np.float64) @ self.arrays_["background_whitening"] - self.arrays_["background_mean"]
        return _nearest_class(z, self.arrays_) - (background ** 2).sum(axis=1)
