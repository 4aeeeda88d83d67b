"""Images a second of an exported detector on this machine, CPU alone.

    python benchmarks/detect_speed.py EXPORT FOLDER [--files 2000] [--runs 5]

EXPORT: what `oraclegap export` wrote; FOLDER: image files, such as CIFAR-10's test images as JPEG. Every run is
1. arrays: `OpenSetDetector.predict_and_score` of the files' images in memory;
2. files: what `oraclegap detect FOLDER --format json` does after loading: find, decode, score, print;
3. command: that command as a process of its own, loading included;
and, where the export has a model.onnx, 4. onnx: ONNX Runtime on the arrays of 1.

Prints one line a run, then minimum, median and maximum of each, with the machine's load before and after.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path


def rate(count: int, work) -> float:
    """Images a second of ``work()``, which handles ``count`` of them."""
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


def of_command(export: str, folder: Path, count: int) -> float:
    command = [sys.executable, "-m", "study", "detect", export, str(folder), "--format", "json"]

    def work():
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        assert done.stdout.count(b"\n") == count, "a file was left out"

    return rate(count, work)


def some_files(folder: str, count: int, target: Path) -> list[str]:
    """``count`` images of the folder, evenly over its classes, copied to ``target``."""
    from study.detect import image_paths

    paths = list(image_paths([folder]))
    chosen = paths[:: max(1, len(paths) // count)][:count]
    for number, path in enumerate(chosen):
        shutil.copy(path, target / f"{number:06}{Path(path).suffix}")
    return list(islice(image_paths([str(target)]), count))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("export")
    parser.add_argument("folder")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    import numpy as np

    from study.detect import detect
    from study.detector import OpenSetDetector

    detector = OpenSetDetector.load(options.export)
    rates: dict[str, list[float]] = {"arrays": [], "files": [], "command": []}
    with tempfile.TemporaryDirectory() as name:
        paths = some_files(options.folder, options.files, Path(name))
        images = np.stack(detector.read(paths))
        session = onnx_session(Path(options.export) / "model.onnx")
        print(f"{len(images)} images {' × '.join(map(str, images.shape[1:]))}, rule over {', '.join(detector.record_['scorer']['members'])}; "
              f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
        detector.predict_and_score(images[:64])  # first use imports and warms up
        for number in range(options.runs):
            rates["arrays"].append(rate(len(images), lambda: detector.predict_and_score(images)))
            rates["files"].append(rate(len(paths), lambda: detect(detector, iter(paths), form="json", out=io.StringIO())))
            rates["command"].append(of_command(options.export, Path(name), len(paths)))
            if session is not None:
                rates.setdefault("onnx", []).append(rate(len(images), lambda: session.run(None, {"images": images})))
            print(f"run {number}: " + ", ".join(f"{name} {values[-1]:,.0f}" for name, values in rates.items()), flush=True)
    for name, values in rates.items():
        print(f"{name}: {min(values):,.0f} / {statistics.median(values):,.0f} / {max(values):,.0f} images/s (min / median / max)")
    print(f"load {os.getloadavg()[0]:.1f}")


def onnx_session(path: Path):
    if not path.exists():
        return None
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    main()
