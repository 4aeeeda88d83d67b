"""Which image goes where: classes to nominal or anomaly, images to train, validation or test.

Nothing here looks at an anomaly to decide about a nominal image. The random order of a class's images depends on (split
seed, class name) alone, through SHA-256 and the raw words of PCG64 (whose stream NumPy keeps for ever), so a class that
is added, removed or renamed moves no image of another class.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from study.errors import UserError, nearest
from study.sources import Source
from trainables.files import canonical_json

PARTS = ("train", "validation", "test")
CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# The open-set field's five splits, nominal classes by index (osr_closed_set_all_you_need); the first two are one set.
OSR_SPLITS = ((0, 6, 4, 9, 1, 7), (7, 6, 4, 9, 0, 1), (1, 5, 7, 3, 9, 4), (8, 6, 1, 9, 0, 7), (2, 4, 1, 7, 9, 6))


@dataclass(frozen=True)
class Classes:
    """Indices into the source's class_names, both in source order."""

    nominal: tuple[int, ...]
    anomaly: tuple[int, ...]


def keyed(*parts) -> bytes:
    """SHA-256 of the canonical JSON of ``parts``."""
    return hashlib.sha256(canonical_json(list(parts)).encode("utf-8", "backslashreplace")).digest()


def permutation(seed: int, name: str, count: int) -> np.ndarray:
    """The order of a class's ``count`` images in split ``seed``."""
    words = np.random.PCG64(int.from_bytes(keyed("order", seed, name)[:16], "big")).random_raw(count)
    return np.argsort(np.atleast_1d(words), kind="stable")


def choose_classes(source: Source, data: dict, split: int) -> Classes:
    """Nominal and anomaly classes of one split. UserError for unknown, doubled, overlapping or too few classes."""
    sizes = np.bincount(source.labels, minlength=len(source.class_names))
    present = [index for index in range(len(source.class_names)) if sizes[index]]
    nominal = _nominal(source, data.get("nominal_classes", 6), split, present)
    if len(nominal) < 2:
        raise UserError(f"data.nominal_classes: {len(nominal)} nominal class; a classifier needs at least 2")
    wanted = data.get("anomaly_classes", "rest")
    if wanted == "rest":
        anomaly = [index for index in present if index not in nominal]
    else:
        anomaly = _resolve(source, wanted, "data.anomaly_classes")
    both = sorted(set(nominal) & set(anomaly))
    if both:
        raise UserError(f"data.anomaly_classes: {source.class_names[both[0]]!r} is a nominal class, too")
    return Classes(nominal=tuple(sorted(nominal)), anomaly=tuple(sorted(anomaly)))


def _nominal(source: Source, wanted, split: int, present: list[int]) -> list[int]:
    if wanted == "osr":
        if set(source.class_names) != set(CIFAR10_NAMES):
            raise UserError('data.nominal_classes: "osr" needs the ten CIFAR-10 classes; give a number or names')
        if not 0 <= split < len(OSR_SPLITS):
            raise UserError(f'data.splits: "osr" has the splits 0 to {len(OSR_SPLITS) - 1}, not {split}')
        return [source.class_names.index(CIFAR10_NAMES[index]) for index in OSR_SPLITS[split]]
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        if wanted > len(present):
            raise UserError(f"data.nominal_classes: {wanted} asked for, the data set has {len(present)} classes")
        ranked = sorted(present, key=lambda index: keyed("nominal", split, source.class_names[index]))
        return ranked[: max(wanted, 0)]
    return _resolve(source, wanted, "data.nominal_classes")


def _resolve(source: Source, wanted, key: str) -> list[int]:
    """Names or indices to indices. Where all names are numbers, an integer is a name (class 3, not the fourth)."""
    if not isinstance(wanted, list | tuple):
        raise UserError(f"{key}: {wanted!r} is not understood; give a list of names or indices")
    names = list(source.class_names)
    numbers = all(name.isascii() and name.isdigit() for name in names)
    found = []
    for item in wanted:
        if isinstance(item, bool) or not isinstance(item, int | str):
            raise UserError(f"{key}: {item!r} is neither a name nor an index")
        if str(item) in names and (isinstance(item, str) or numbers):
            index = names.index(str(item))
        elif isinstance(item, int) and not numbers and 0 <= item < len(names):
            index = item
        else:
            shown = ", ".join(names[:10]) + (" …" if len(names) > 10 else "")
            raise UserError(f"{key}: no class {item!r}{nearest(str(item), names)}; there are {shown}")
        if index in found:
            raise UserError(f"{key}: class {names[index]!r} is named twice")
        found.append(index)
    return found


def split_class(source: Source, index: int, data: dict, split: int) -> dict[str, np.ndarray]:
    """The source rows of one class per part, each in the class's random order. UserError when a part would be empty."""
    name = source.class_names[index]
    rows = np.flatnonzero(source.labels == index)
    limit = int(data.get("limit") or 0)
    if data.get("partition", "pooled") == "official":
        return _official(source, name, rows, limit, split)
    order = rows[permutation(split, name, len(rows))]
    if limit:
        order = order[:limit]
    if len(order) < 3:
        if limit and len(rows) >= 3:
            raise UserError(f"data.limit: {limit} images of a class cannot be split, at least 3 are needed")
        raise _too_few(name, len(order), "at least 3 for training, validation and test")
    share = max(1, round(0.2 * len(order)))
    return {"train": order[: -2 * share], "validation": order[-2 * share : -share], "test": order[-share:]}


def _official(source: Source, name: str, rows: np.ndarray, limit: int, split: int) -> dict[str, np.ndarray]:
    if source.is_test is None:
        raise UserError(f'data.partition: {source.name} has no official test images here; use "pooled"')
    test, train = rows[source.is_test[rows]], rows[~source.is_test[rows]]
    if len(test) < 1 or len(train) < 2:
        raise _too_few(name, len(rows), f"2 for training and 1 for test, not {len(train)} and {len(test)}")
    order = train[permutation(split, name, len(train))]
    test = test[permutation(split, f"{name}/test", len(test))]
    if limit and limit < len(rows):
        kept = max(1, min(round(limit * len(test) / len(rows)), limit - 2))
        test, order = test[:kept], order[: max(2, limit - kept)]
    share = max(1, round(0.25 * len(order)))
    return {"train": order[:-share], "validation": order[-share:], "test": test}


def _too_few(name: str, count: int, needed: str) -> UserError:
    return UserError(f"data: class {name!r} has {count} images, a split needs {needed}; add images or leave it out")


@dataclass
class Table:
    """Images of one side (nominal or anomalous), row by row in canonical order, and the part each belongs to."""

    rows: np.ndarray  # (N,) source rows, class by class, each class in its random order
    labels: np.ndarray  # (N,) 0..K-1 into the side's classes
    parts: np.ndarray  # (N,) index into PARTS
    moved: int = 0
    dropped: int = 0

    def select(self, keep: np.ndarray) -> Table:
        """The table with only the rows of the boolean ``keep``."""
        return Table(self.rows[keep], self.labels[keep], self.parts[keep], self.moved, self.dropped)


def table_of(source: Source, classes: tuple[int, ...], data: dict, split: int) -> Table:
    """Every image of ``classes`` with its part."""
    rows, labels, parts = [], [], []
    for label, index in enumerate(classes):
        for part, chosen in split_class(source, index, data, split).items():
            rows.append(chosen)
            labels.append(np.full(len(chosen), label))
            parts.append(np.full(len(chosen), PARTS.index(part)))
    if not rows:
        return Table(*(np.empty(0, dtype=np.int64) for _ in range(3)))
    return Table(*(np.concatenate(column).astype(np.int64) for column in (rows, labels, parts)))


def join_duplicates(table: Table, keys: list[bytes], *, test_first: bool) -> None:
    """Put images with the same key into one part, that of the first of them by source row.

    ``test_first`` (official partition): a copy of a test image goes to the test part, so that part stays whole.
    """
    first: dict[bytes, tuple] = {}
    for key, row, part in zip(keys, table.rows.tolist(), table.parts.tolist(), strict=True):
        rank = (test_first and part != PARTS.index("test"), row)
        if key not in first or rank < first[key][0]:
            first[key] = (rank, part)
    wanted = np.array([first[key][1] for key in keys], dtype=np.int64).reshape(table.parts.shape)
    table.moved = int((wanted != table.parts).sum())
    table.parts = wanted
