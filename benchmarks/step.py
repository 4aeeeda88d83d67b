"""One training step on the CPU in its parts, with the system's allocator and with Ray's jemalloc as workers have it.

    python benchmarks/step.py [--rounds 5] [--steps 200] [--method classifier]

Each round runs both allocators in turn, each in a process of its own on one thread, and there, in turn as well, the
optimiser of a trial (``trainables.sgd``) and torch's own with ``clip_grad_norm_``. Microseconds, the lower quartile of all
steps of a round; then the least, median and greatest of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PARTS = ("batch", "forward", "backward", "clip and step", "whole")


def parts(method: str, steps: int) -> dict[str, dict[str, float]]:
    """Microseconds of each part with both optimisers, digits in batches of 32."""
    import torch

    torch.set_num_threads(1)
    found: dict[str, dict[str, list[float]]] = {kind: {part: [] for part in PARTS} for kind in ("ours", "torch's")}
    trainings = {kind: _training(method) for kind in found}
    for kind, training in trainings.items():
        if kind == "torch's":
            for parameter in training.model.parameters():  # apart again, as torch's own find them
                parameter.data, parameter.grad = parameter.detach().clone(memory_format=torch.preserve_format), None
            training.reference = torch.optim.SGD(training.method.parameter_groups(training.model, training.params), lr=0.01,
                                                 momentum=training.params["momentum"], nesterov=True, fused=True)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        for kind, training in trainings.items():
            _step(training, generator, found[kind])
    return {kind: {part: 1e6 * sorted(values)[len(values) // 4] for part, values in of.items()} for kind, of in found.items()}


def _step(training, generator, found: dict[str, list[float]]) -> None:
    import torch

    reference, times = getattr(training, "reference", None), [time.perf_counter()]
    index = torch.randperm(len(training.labels), generator=generator)[:32]
    images, targets = training.augment.batch(index, generator), training.labels[index]
    times.append(time.perf_counter())
    (reference or training.optimiser).zero_grad()
    loss, _ = training.method.loss(training.model, images, targets, training.params, generator)
    times.append(time.perf_counter())
    loss.backward()
    times.append(time.perf_counter())
    if reference is None:
        training.optimiser.clip(training.params["gradient_clip"])
        training.optimiser.step(0.01)
    else:
        for part in training.method.clipped(training.model):
            torch.nn.utils.clip_grad_norm_(part.parameters(), training.params["gradient_clip"])
        reference.step()
    times.append(time.perf_counter())
    for part, begun, ended in zip(PARTS, times, times[1:]):
        found[part].append(ended - begun)
    found["whole"].append(times[-1] - times[0])


def _training(method: str):
    import numpy as np
    from sklearn.datasets import load_digits

    from search_spaces import get_space
    from trainables.data import View
    from trainables.fit import Training, TrainSettings

    digits = load_digits()
    chosen = digits.target < 6
    images, labels = (digits.images[chosen] * 255 / 16).astype(np.uint8)[..., None], digits.target[chosen].astype(np.int64)
    view = View(classes=tuple("012345"), image_shape=(8, 8, 1), mean=(0.3,), std=(0.37,), flips_keep_labels=False,
                rotations_keep_labels=False, digest="", split=0, train_images=images[:650], train_labels=labels[:650],
                validation_images=images[650:], validation_labels=labels[650:])
    training = Training(method=method, view=view, params=get_space(method).default(), seed=0,
                        settings=TrainSettings(epochs=30, batch_size=32, device="cpu"))
    training.model.train()
    return training


def main() -> None:
    """Prints a row for each allocator, optimiser and part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--method", default="classifier")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(parts(options.method, options.steps)))
        return
    from ray._private.services import JEMALLOC_SO

    from study.local_cluster import KEEPS_MEMORY

    allocators = {"the system's": {}}
    if JEMALLOC_SO:
        allocators["jemalloc"] = {"LD_PRELOAD": JEMALLOC_SO, "MALLOC_CONF": KEEPS_MEMORY}
    rows: dict[tuple[str, str, str], list[float]] = {}
    for _ in range(options.rounds):
        for allocator, variables in allocators.items():
            done = subprocess.run([sys.executable, __file__, "--here", "--steps", str(options.steps), "--method", options.method],
                                  capture_output=True, text=True, check=True,
                                  env={**os.environ, "PYTHONPATH": str(HERE.parent), **variables})
            for optimiser, of in json.loads(done.stdout.splitlines()[-1]).items():
                for part, value in of.items():
                    rows.setdefault((allocator, optimiser, part), []).append(value)
    print("| allocator | optimiser | part | least, µs | median | greatest |\n|---|---|---|--:|--:|--:|")
    for (allocator, optimiser, part), values in rows.items():
        print(f"| {allocator} | {optimiser} | {part} | {min(values):.0f} | {statistics.median(values):.0f} | {max(values):.0f} |")


if __name__ == "__main__":
    main()
