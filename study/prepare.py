"""A data set → ``view/<split>/`` (all that a trial may see) and ``vault/<split>/`` (anomalies and all test images).

Runs as a process of its own, ``python -m study.prepare``, so that no later code ever held an anomaly in memory: one JSON
object {"data": {…}, "folder": "runs/x", "skip_bad": false} on stdin, one JSON line on stdout. It is the only code that
sees both sides. What lies in view/, and what the summary says, is a function of the nominal images alone: byte for byte
the same when anomalies are added, removed, renamed or changed (with nominal classes given by name).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from study.errors import EnvironmentProblem, OracleGapError, UserError, one_line
from study.images import BadImage, conform, end_with_parent
from study.sources import Source, open_source
from study.splits import PARTS, Classes, Table, choose_classes, join_duplicates, table_of
from trainables.data import MANIFEST, manifest_digest, verify_folder
from trainables.files import canonical_json, sha256_of_file, sync_folder

SHOWN = 10  # offending files named in an error
MIN_STD = 1 / 255  # a channel without any variation must not divide by zero


def prepare(data: dict, folder: str | Path, *, skip_bad: bool = False, processes: bool = False) -> dict:
    """Write view and vault of every split in ``data["splits"]`` under ``folder``; those that exist are verified.

    ``data`` holds the keys of a spec's [data] table and optionally image_size, flips_keep_labels,
    rotations_keep_labels. ``skip_bad`` leaves unreadable files out and records them. ``processes``: see
    ``decode_files``. Returns {"splits": {"0": {"digest", "classes", "image_shape", "counts", …}}, "seconds"}, with
    nothing about anomalies. Raises UserError, EnvironmentProblem.
    """
    started, folder = time.monotonic(), Path(folder)
    splits = [int(split) for split in data.get("splits", [0])]
    manifests = {split: _prepared(folder, split, data) for split in splits}
    missing = [split for split in splits if manifests[split] is None]
    if missing:
        source = open_source({**data, "processes": processes})
        tables = {split: _tables(source, data, split) for split in missing}
        images = _read(source, [table for _, *sides in tables.values() for table in sides], skip_bad=skip_bad)
        with _all_or_none(folder, missing):
            for split, (classes, nominal, anomaly) in tables.items():
                parts = _assemble(source, classes, nominal, anomaly, images, data)
                with _disk(folder):
                    manifests[split] = _write_split(folder, source, split, classes, *parts)
    told = ("digest", "classes", "image_shape", "counts", "duplicates_moved", "skipped")
    return {
        "splits": {str(split): {key: manifests[split][key] for key in told} for split in splits},
        "seconds": round(time.monotonic() - started, 3),
    }


def _prepared(folder: Path, split: int, data: dict) -> dict | None:
    """The manifest of a split that is prepared already (the view is written last), else None."""
    view = folder / "view" / str(split)
    if not view.exists():
        return None
    try:
        manifest = verify_folder(view)
    except ValueError as error:
        raise UserError(f"{error}; remove {folder / 'view'} and {folder / 'vault'} to prepare again") from None
    if manifest["source"] != data.get("source", "digits"):
        raise UserError(f"{view} holds {manifest['source']}, not {data.get('source')}; use another study name")
    return manifest


def _tables(source: Source, data: dict, split: int) -> tuple[Classes, Table, Table]:
    classes = choose_classes(source, data, split)
    nominal = table_of(source, classes.nominal, data, split)
    return classes, nominal, table_of(source, classes.anomaly, data, split, anomalous=True)


def _read(source: Source, tables: Sequence[Table], *, skip_bad: bool) -> dict[int, np.ndarray | BadImage]:
    """Every image that any split needs, both sides, once. UserError lists the offenders unless ``skip_bad``."""
    rows = np.unique(np.concatenate([table.rows for table in tables])).tolist()
    images = dict(zip(rows, source.read(rows), strict=True))
    bad = [f"{source.describe(row)} ({image.reason})" for row, image in images.items() if isinstance(image, BadImage)]
    if bad and not skip_bad:
        raise UserError(f"data: {_listed(bad, 'unusable file')}; repair or remove them, or pass --skip-bad")
    return images


def _listed(items: list[str], noun: str) -> str:
    more = f" … and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return f"{len(items)} {noun}{'s' if len(items) != 1 else ''}: {', '.join(items[:SHOWN])}{more}"


def _assemble(source: Source, classes: Classes, nominal: Table, anomaly: Table, images: dict, data: dict):
    """Both sides as final arrays with final parts: ((table, array, skipped) of nominal, the same of anomaly)."""
    nominal, skipped_nominal = _without_bad(source, nominal, images)
    anomaly, skipped_anomaly = _without_bad(source, anomaly, images)
    _check_parts(source, classes.nominal, nominal, "unusable files")
    shape = _shape(source, nominal, images)
    test_first = data.get("partition", "pooled") == "official"
    nominal_array = _stack(nominal, images, shape)
    nominal_keys = _keys(nominal_array)
    join_duplicates(nominal, nominal_keys, test_first=test_first)
    together = "exact duplicates" if nominal.groups is None else "exact duplicates, which come with their groups"
    _check_parts(source, classes.nominal, nominal, together)

    anomaly_array = _stack(anomaly, images, shape)
    keys, known = _keys(anomaly_array), set(nominal_keys)
    keep = np.array([key not in known for key in keys], dtype=bool)
    anomaly, anomaly_array = anomaly.select(keep), anomaly_array[keep]
    anomaly.dropped = int((~keep).sum())
    join_duplicates(anomaly, [key for key in keys if key not in known], test_first=test_first)
    if classes.anomaly:
        for index, part in enumerate(PARTS):
            if not (anomaly.parts == index).any():
                small = "" if data.get("rare", "error") == "error" else "; classes too small to be split are for the test only"
                raise UserError(f"data: no anomaly is left for {part} once exact duplicates are joined or dropped{small}")
    return (nominal, nominal_array, skipped_nominal), (anomaly, anomaly_array, skipped_anomaly)


def _without_bad(source: Source, table: Table, images: dict) -> tuple[Table, list[str]]:
    bad = np.array([isinstance(images[row], BadImage) for row in table.rows.tolist()], dtype=bool)
    skipped = sorted(f"{source.describe(row)} ({images[row].reason})" for row in table.rows[bad].tolist())
    return table.select(~bad), skipped


def _check_parts(source: Source, classes: tuple[int, ...], table: Table, cause: str) -> None:
    for label, index in enumerate(classes):
        for part, name in enumerate(PARTS):
            if not ((table.labels == label) & (table.parts == part)).any():
                raise UserError(
                    f"data: class {source.class_names[index]!r} has no {name} image left because of {cause}; "
                    "add images or leave it out"
                )


def _shape(source: Source, nominal: Table, images: dict) -> tuple[int, int, int]:
    """H, W, C by the nominal images alone; anomalies are brought to it. UserError when nominal sizes differ."""
    rows = nominal.rows.tolist()
    sizes = Counter(images[row].shape[:2] for row in sorted(rows))
    (height, width), _ = sizes.most_common(1)[0]
    if len(sizes) > 1:
        odd = [row for row in sorted(rows) if images[row].shape[:2] != (height, width)]
        named = [f"{source.describe(row)} ({images[row].shape[1]}x{images[row].shape[0]})" for row in odd]
        raise UserError(
            f"data: images differ in size, most are {width}x{height}, not {_listed(named, 'file')}; "
            f"set data.image_size (such as {min(height, width)})"
        )
    return height, width, max(images[row].shape[2] for row in rows)


def _stack(table: Table, images: dict, shape: tuple[int, int, int]) -> np.ndarray:
    result = np.empty((len(table.rows), *shape), dtype=np.uint8)
    for position, row in enumerate(table.rows.tolist()):
        result[position] = conform(images[row], shape)
    return result


def _keys(images: np.ndarray) -> list[bytes]:
    return [hashlib.sha256(image.data).digest() for image in images]


def channel_statistics(images: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel of uint8 (N, H, W, C), scaled to 0..1, from exact integer sums."""
    means, stds = [], []
    for channel in range(images.shape[3]):
        counts = np.bincount(images[..., channel].reshape(-1), minlength=256).tolist()
        total = sum(counts)
        first = sum(value * count for value, count in enumerate(counts))
        second = sum(value * value * count for value, count in enumerate(counts))
        means.append(round(first / (255 * total), 8))
        stds.append(round(max((total * second - first * first) ** 0.5 / (255 * total), MIN_STD), 8))
    return means, stds


def _write_split(folder: Path, source: Source, split: int, classes: Classes, nominal_side, anomaly_side) -> dict:
    """vault/<split> first, view/<split> last: where a view lies, its vault was complete. Returns the view's manifest."""
    (nominal, nominal_images, skipped_nominal), (anomaly, anomaly_images, skipped_anomaly) = nominal_side, anomaly_side

    def part(table: Table, images: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
        chosen = table.parts == PARTS.index(name)
        return images[chosen], table.labels[chosen]

    vault = {"test_nominal": part(nominal, nominal_images, "test")}
    if classes.anomaly:
        vault["train"] = part(anomaly, anomaly_images, "train")
        vault["validation"] = part(anomaly, anomaly_images, "validation")
        vault["test_anomaly"] = part(anomaly, anomaly_images, "test")
    facts = {
        "split": split,
        "anomaly_classes": [source.class_names[index] for index in classes.anomaly],
        "anomalous_copies_dropped": anomaly.dropped,
        "duplicates_moved": anomaly.moved,
        "skipped": skipped_anomaly,
    }
    _write_folder(folder / "vault" / str(split), vault, facts)

    view = {name: part(nominal, nominal_images, name) for name in ("train", "validation")}
    mean, std = channel_statistics(view["train"][0])
    facts = {
        "split": split,
        "source": source.name,
        "classes": [source.class_names[index] for index in classes.nominal],
        "image_shape": list(nominal_images.shape[1:]),
        "mean": mean,
        "std": std,
        "flips_keep_labels": source.flips_keep_labels,
        "rotations_keep_labels": source.rotations_keep_labels,
        "duplicates_moved": nominal.moved,
        "skipped": skipped_nominal,
    }
    if nominal.groups is not None:
        owners = (nominal.groups[nominal.labels == label] for label in range(len(classes.nominal)))
        facts["groups"] = dict(zip(facts["classes"], (len(np.unique(groups)) for groups in owners), strict=True))
    return _write_folder(folder / "view" / str(split), view, facts)


def _write_folder(target: Path, parts: dict[str, tuple[np.ndarray, np.ndarray]], facts: dict) -> dict:
    """Arrays and manifest in a temporary folder, synced, then renamed to ``target``."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for stale in target.parent.glob(f".{target.name}.tmp*"):  # of a prepare that was killed
        shutil.rmtree(stale)
    temporary = target.parent / f".{target.name}.tmp{os.getpid()}"
    temporary.mkdir()
    files = {}
    for name, arrays in parts.items():
        for kind, array in zip(("images", "labels"), arrays, strict=True):
            path = temporary / f"{name}_{kind}.npy"
            with open(path, "wb") as stream:
                np.save(stream, np.ascontiguousarray(array), allow_pickle=False)
                _sync(stream)
            files[path.name] = sha256_of_file(path)
    manifest = {**facts, "counts": {name: len(labels) for name, (_, labels) in parts.items()}, "files": files}
    manifest["digest"] = manifest_digest(manifest)
    with open(temporary / MANIFEST, "w", encoding="utf-8") as stream:
        stream.write(canonical_json(manifest))
        _sync(stream)
    sync_folder(temporary)
    if target.exists():  # a vault whose view was never written
        shutil.rmtree(target)
    os.replace(temporary, target)
    sync_folder(target.parent)
    return manifest


def _sync(stream) -> None:
    stream.flush()
    os.fsync(stream.fileno())


@contextlib.contextmanager
def _all_or_none(folder: Path, splits: Sequence[int]):
    """Removes what was written of ``splits`` where a later one of them turns out to be impossible."""
    try:
        yield
    except UserError:
        for place in (folder / side / str(split) for split in splits for side in ("view", "vault")):
            shutil.rmtree(place, ignore_errors=True)
        raise


@contextlib.contextmanager
def _disk(folder: Path):
    try:
        yield
    except OSError as error:
        raise EnvironmentProblem(f"{folder}: the data cannot be written: {error.strerror or error}") from None


def main() -> int:
    """One request from stdin, one JSON line to stdout; the exit code is 0, 2 (input), 3 (environment) or 130."""
    end_with_parent()  # else a second launch would meet a prepare that belongs to nobody
    try:
        request = json.load(sys.stdin)
        with contextlib.redirect_stdout(sys.stderr):  # libraries print; stdout carries the answer only
            summary = prepare(
                request["data"], request["folder"], skip_bad=bool(request.get("skip_bad", False)), processes=True
            )
        answer = {"ok": True, "summary": summary}
    except OracleGapError as error:
        answer = {"ok": False, "error": str(error), "exit": error.exit_code}
    except MemoryError:
        answer = {"ok": False, "error": "data: not enough memory; set data.limit or data.image_size", "exit": 3}
    except Exception as error:  # what a source reads may be anything, and a plug-in's own code
        last = traceback.extract_tb(error.__traceback__)[-1]
        said = f"data: {type(error).__name__}: {one_line(error, 300)} ({Path(last.filename).name}:{last.lineno})"
        answer = {"ok": False, "error": said, "exit": 3}
    except KeyboardInterrupt:
        answer = {"ok": False, "error": "interrupted; nothing half-written is kept", "exit": 130}
    print(json.dumps(answer))
    return answer.get("exit", 0)


if __name__ == "__main__":
    sys.exit(main())
