"""``oraclegap detect``: an exported detector on image files, one line each, as many as there are."""

from __future__ import annotations

import csv
import json
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from study.detector import ANOMALY, OpenSetDetector
from study.errors import UserError, one_line
from study.images import BadImage
from study.parallel import in_order

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif"})
BATCH = 128  # images that one thread decodes, embeds and scores at a time
PROGRESS = 1024  # images between two lines of progress
COLUMNS = ("path", "label", "anomaly_score", "threshold", "is_anomaly")
FORMATS = ("table", "csv", "json")


def image_paths(given: Sequence[str], lines: Iterable[str] = ()) -> Iterator[str]:
    """Files as given; of a folder all images in it and below, by name; ``-``: one path a line of ``lines``.

    Raises UserError for what is not there. Links to folders are not followed, so that none is walked for ever.
    """
    for name in given:
        if name == "-":
            yield from image_paths([line.rstrip("\r\n") for line in lines if line.strip()])
        elif Path(name).is_dir():
            for folder, below, files in os.walk(name):
                below.sort()
                yield from (os.path.join(folder, file) for file in sorted(files) if Path(file).suffix.lower() in SUFFIXES)
        elif os.path.lexists(name):
            yield name
        else:
            raise UserError(f"{one_line(name, 200)}: no such file or folder")


def rows(detector: OpenSetDetector, paths: Iterable[str]) -> Iterator[dict[str, Any]]:
    """For each path {"path", "label", "anomaly_score", "threshold", "is_anomaly"}, or {"path", "error"}, in order."""
    paths = iter(paths)
    batches = iter(lambda: list(islice(paths, BATCH)), [])
    with warnings.catch_warnings():  # of damaged metadata; filters belong to the process, so no thread may set them
        warnings.simplefilter("ignore")
        side_by_side = in_order if detector.on_cpu else map  # a card works on one batch at a time
        for found in side_by_side(partial(_rows_of, detector), batches):
            yield from found


def _rows_of(detector: OpenSetDetector, batch: list[str]) -> list[dict[str, Any]]:
    images = [detector.read_one(path) for path in batch]
    good = [image for image in images if not isinstance(image, BadImage)]
    found = iter(zip(*detector.predict_and_score(np.stack(good)))) if good else iter(())
    out = []
    for path, image in zip(batch, images):
        if isinstance(image, BadImage):
            out.append({"path": path, "error": image.reason})
            continue
        label, score = next(found)
        out.append({"path": path, "label": str(label), "anomaly_score": float(score), "threshold": detector.threshold_,
                    "is_anomaly": bool(score > detector.threshold_)})
    return out


def detect(
    detector: OpenSetDetector, paths: Iterable[str], *, form: str, out: TextIO = sys.stdout, errors: TextIO = sys.stderr,
    progress: bool = False,
) -> int:
    """Prints ``rows`` in one of FORMATS as they come; a line on ``errors`` for a file that is no image. Returns how many
    there were of those."""
    writer, bad, done, count = _writer(form, out), 0, 0, {}
    for row in rows(detector, paths):
        done += 1
        if "error" in row:
            bad += 1
            print(f"oraclegap: {one_line(row['path'], 300)}: {row['error']}", file=errors)
        else:
            writer(row)
            count[row["label"]] = count.get(row["label"], 0) + 1
        if progress and done % PROGRESS == 0:
            print(f"\r{done} images", end="", file=errors, flush=True)
    if progress:
        told = ", ".join(f"{count[name]} {name}" for name in sorted(count, key=lambda name: (name == ANOMALY, name)))
        print(f"\r{done - bad} images: {one_line(told) or 'none'}" + (f"; {bad} not read" if bad else ""), file=errors)
    return bad


def _writer(form: str, out: TextIO):
    if form == "json":
        return lambda row: print(json.dumps(row), file=out)
    if form == "csv":
        rows_out = csv.writer(out, lineterminator="\n")
        rows_out.writerow(COLUMNS)
        return lambda row: rows_out.writerow([row[name] for name in COLUMNS])
    print(f"{'score':>9}  {'label':<20}  path", file=out)
    return lambda row: print(
        f"{row['anomaly_score']:>9.3f}  {one_line(row['label'], 60):<20}  {one_line(row['path'], 500)}", file=out)
