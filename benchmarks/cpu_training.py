"""What makes a CPU trial faster: seconds to closed-set accuracy 0.90 on CIFAR-10, one change at a time, side by side.

    python benchmarks/cpu_training.py --path …/cifar10 [--runs N] [--variants NAME …] [--epochs 14] [--limit 0]

The study's own training (`cifar10.toml`: small_cnn, batch 256, default configuration, two threads), and the same with one thing
changed. Each variant trains in this process, one after the other, in another order every run; accuracy is on all nominal
validation images after every epoch, whose seconds do not count. Prints, per variant, images a second, accuracy at the end, and
training seconds until 0.90 was first reached.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

TARGET = 0.90


def progressive(shares: tuple[tuple[float, int], ...]) -> Callable:
    """Early epochs on smaller images: side from (share of all epochs, side) in order, then the images' own."""

    def change(training, settings) -> None:
        augment, whole = training.augment.batch, training.augment

        def batch(index, generator):
            images = augment(index, generator)
            progress = training.epoch / training.settings.epochs
            for share, side in shares:
                if progress < share:
                    smaller = torch.nn.functional.interpolate(images, size=(side, side), mode="bilinear", antialias=True)
                    return smaller.contiguous(memory_format=torch.channels_last)
            return images

        whole.batch = batch

    return change


def contiguous(training, settings) -> None:
    """The layout that PyTorch has by default."""
    training.model.to(memory_format=torch.contiguous_format)
    augment = training.augment.batch
    training.augment.batch = lambda index, generator: augment(index, generator).contiguous(
        memory_format=torch.contiguous_format)


def without_onednn(training, settings) -> None:
    """PyTorch's own convolutions (switched back by the next variant)."""
    torch.backends.mkldnn.enabled = False


def compiled(training, settings) -> None:
    """The encoder through `torch.compile`; compiling counts."""
    for name, part in training.model.named_children():
        setattr(training.model, name, torch.compile(part))


def nothing(training, settings) -> None:
    """As it is."""


#: (change, settings, parameters): what differs from the study's own training.
VARIANTS: dict[str, tuple[Callable, dict, dict]] = {
    "as it is": (nothing, {}, {}),
    "one thread": (nothing, {"threads": 1}, {}),
    "contiguous": (contiguous, {}, {}),
    "no oneDNN": (without_onednn, {}, {}),
    "torch.compile": (compiled, {}, {}),
    "batch 128": (nothing, {"batch_size": 128}, {}),
    "batch 512": (nothing, {"batch_size": 512}, {}),
    "10 epochs": (nothing, {"epochs": 10}, {}),
    "20 pixels for a third": (progressive(((1 / 3, 20),)), {}, {}),
    "24 pixels for half": (progressive(((1 / 2, 24),)), {}, {}),
    "16, 24, 32 pixels": (progressive(((0.3, 16), (0.65, 24))), {}, {}),
    "bfloat16": (nothing, {"precision": "bfloat16"}, {}),
    "bfloat16; 16, 24, 32 pixels": (progressive(((0.3, 16), (0.65, 24))), {"precision": "bfloat16"}, {}),
    "width 0.75": (nothing, {}, {"width": 0.75}),
}


def feasible(variants: list[str]) -> list[str]:
    """Without those in bfloat16 where the CPU has no instructions for it: they would take hours."""
    from trainables.precision import cpu_has_bfloat16

    left_out = [] if cpu_has_bfloat16() else [name for name in variants if VARIANTS[name][1].get("precision") == "bfloat16"]
    if left_out:
        print(f"left out, since this CPU has no AMX: {', '.join(left_out)}", file=sys.stderr)
    return [name for name in variants if name not in left_out]


def train(view, name: str, base: dict, limit_epochs: int) -> dict:
    """One variant, trained to its end."""
    from search_spaces import get_space
    from trainables.fit import Training, TrainSettings

    change, settings, params = VARIANTS[name]
    torch.backends.mkldnn.enabled = True
    made = TrainSettings(**{**base, "epochs": limit_epochs, **settings})
    training = Training(method="classifier", view=view, params={**get_space("classifier").default(), **params},
                        settings=made, seed=0)
    change(training, made)
    seconds, reached, accuracy = 0.0, None, 0.0
    while not training.done:
        began = time.perf_counter()
        training._train_epoch(training.epoch + 1)
        seconds += time.perf_counter() - began
        nll, accuracy = training.evaluation.validate(training.model, None)
        training.rows.append({"val_accuracy": accuracy, "val_nll": nll})
        if reached is None and accuracy >= TARGET:
            reached = seconds
    return {"variant": name, "seconds": seconds, "accuracy": accuracy, "to_target": reached,
            "images_a_second": len(view.train_labels) * made.epochs / seconds}


def prepared(path: str, limit: int, folder: Path):
    """The nominal view of the study's own CIFAR-10 split."""
    from study.prepare import prepare
    from study.spec import StudySpec
    from trainables.data import View

    spec = StudySpec.load("cifar10", {"data.source": "folder", "data.path": path, "data.limit": limit})
    prepare(spec.data.model_dump(exclude={"seeds"}), folder)
    return View.load(folder / "view" / "0"), spec


def two_at_once(options) -> None:
    """Two trials of one thread beside each other against one of two threads: images a second in all."""
    command = [sys.executable, __file__, "--path", options.path, "--limit", "1500", "--epochs", "2", "--json", "--variants"]
    alone = json.loads(subprocess.run([*command, "as it is"], capture_output=True, text=True, check=True).stdout)
    pair = [subprocess.Popen([*command, "one thread"], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    both = [json.loads(process.communicate()[0]) for process in pair]
    print(f"one trial of two threads: {alone[0]['images_a_second']:,.0f} images a second; two of one thread: "
          f"{sum(row[0]['images_a_second'] for row in both):,.0f}", flush=True)


def main() -> None:
    """Prints a line for each training, and then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", required=True, help="a folder of CIFAR-10 images")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--limit", type=int, default=0, help="images of each class; 0: all")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), metavar="NAME")
    parser.add_argument("--json", action="store_true", help="print the rows alone")
    options = parser.parse_args()
    options.variants = feasible(options.variants)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        view, spec = prepared(options.path, options.limit, Path(name))
        own = spec.training.for_method("classifier")
        base = {key: own[key] for key in ("network", "batch_size")} | {"threads": 2, "device": "cpu"}
        view = dataclasses.replace(view, train_images=np.array(view.train_images))
        for run in range(options.runs):
            order = np.random.default_rng(run).permutation(len(options.variants))
            for index in order:
                row = train(view, options.variants[index], base, options.epochs)
                rows.append(row)
                if not options.json:
                    print(f"run {run}, {row['variant']}: {row['seconds']:.1f} s, accuracy {row['accuracy']:.4f}, "
                          f"0.90 after {row['to_target'] or float('nan'):.1f} s", flush=True)
    if options.json:
        print(json.dumps(rows))
        return
    print("\n| variant | images a second | seconds in all | accuracy at the end | seconds to 0.90 |\n|---|--:|--:|--:|--:|")
    for variant in options.variants:
        mine = [row for row in rows if row["variant"] == variant]
        told = [f"{row['to_target']:.1f}" if row["to_target"] else "–" for row in mine]
        print(f"| {variant} | {np.median([row['images_a_second'] for row in mine]):,.0f} | "
              f"{', '.join(format(row['seconds'], '.1f') for row in mine)} | "
              f"{', '.join(format(row['accuracy'], '.4f') for row in mine)} | {', '.join(told)} |")
    if "as it is" in options.variants and "one thread" in options.variants:
        two_at_once(options)


if __name__ == "__main__":
    main()
