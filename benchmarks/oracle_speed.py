"""The oracle's forest by scikit-learn and by scikit-learn-intelex (the extra `fast`): seconds and AUROC, side by side.

    python benchmarks/oracle_speed.py [--runs N] [--path …/cifar10]

The latents are those of real images: CIFAR-10 (a folder of `train/<class>/*.jpg`, with --path) or scikit-learn's digits, put
through an untrained ResNet-18, whose z is 512 wide as the study's. Six classes are nominal, four anomalous. One row a run:
1000 trees fitted on half of the images and asked about the other half, by one thread and by all cores.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

import numpy as np

NOMINAL = (0, 6, 4, 9, 1, 7)


def latents(path: str, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """z (N, 512) and which of them are anomalies."""
    import torch

    from trainables.inference import embed_with
    from trainables.methods import get_method

    images, labels = _images(path, limit)
    params = {"width": 1.0, "dropout": 0.0}
    torch.manual_seed(0)
    model = get_method("classifier").build(images.shape[1:], 6, "resnet18", params).to(memory_format=torch.channels_last)
    mean, std = (images / 255).mean((0, 1, 2)), (images / 255).std((0, 1, 2))
    z = embed_with(model, "classifier", images, mean=mean, std=std)["z"]
    return z, ~np.isin(labels, NOMINAL)


def _images(path: str, limit: int) -> tuple[np.ndarray, np.ndarray]:
    if not path:
        from sklearn.datasets import load_digits

        digits = load_digits()
        return (digits.images * 15).astype(np.uint8)[..., None], digits.target
    from study.sources import open_source

    source = open_source({"source": "folder", "path": path, "image_size": 0})
    kept = np.sort(np.random.default_rng(0).permutation(len(source.labels))[:limit])
    return np.stack(source.read(kept.tolist())), source.labels[kept]


def fit_and_ask(library: str, z: np.ndarray, truth: np.ndarray, *, threads: int) -> tuple[float, float]:
    """(seconds, AUROC) of one forest."""
    from sklearn.metrics import roc_auc_score

    if library == "scikit-learn-intelex":
        from sklearnex.ensemble import RandomForestClassifier
    else:
        from sklearn.ensemble import RandomForestClassifier
    from analysis.oracles import native_threads

    half = len(z) // 2
    began = time.perf_counter()
    with native_threads(threads):
        forest = RandomForestClassifier(n_estimators=1000, random_state=0, n_jobs=threads).fit(z[:half], truth[:half])
        score = forest.predict_proba(z[half:])[:, 1]
    return time.perf_counter() - began, float(roc_auc_score(truth[half:], score))


def main() -> None:
    """Prints a row a run and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--path", default="", help="a folder of CIFAR-10 images; default: scikit-learn's digits")
    parser.add_argument("--limit", type=int, default=12_000, help="images of CIFAR-10")
    options = parser.parse_args()
    from importlib.util import find_spec

    libraries = ["scikit-learn", *(["scikit-learn-intelex"] if find_spec("sklearnex") else [])]
    z, truth = latents(str(Path(options.path).expanduser()) if options.path else "", options.limit)
    order = np.random.default_rng(0).permutation(len(z))
    z, truth = z[order], truth[order]
    print(f"{len(z)} latents of {z.shape[1]} numbers, {truth.mean():.0%} anomalies, {os.cpu_count()} cores")
    for threads in sorted({1, os.cpu_count()}):
        ratios = []
        for run in range(options.runs):
            took = {library: fit_and_ask(library, z, truth, threads=threads) for library in libraries}
            told = ", ".join(f"{library} {seconds:.1f} s (AUROC {auroc:.4f})" for library, (seconds, auroc) in took.items())
            print(f"{threads} thread(s), run {run}: {told}", flush=True)
            if len(libraries) == 2:
                ratios.append(took[libraries[0]][0] / took[libraries[1]][0])
        if ratios:
            print(f"{threads} thread(s): scikit-learn-intelex is {min(ratios):.1f}, {statistics.median(ratios):.1f}, "
                  f"{max(ratios):.1f} times as fast (min, median, max; n = {len(ratios)})")
    if len(libraries) == 1:
        print("scikit-learn-intelex is not installed: pip install 'oraclegap[fast]'")


if __name__ == "__main__":
    main()
