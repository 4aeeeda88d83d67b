"""Which image goes where: classes to nominal or anomaly, images to train, validation or test.

Nothing here looks at an anomaly to decide about a nominal image. The random order of a class's images depends on (split
seed, class name) alone, through SHA-256 and the raw words of PCG64 (whose stream NumPy keeps for ever), so a class that
is added, removed or renamed moves no image of another class. The order of its groups (``study.groups``), where it has
some, depends on (split seed, class name, group) likewise.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from analysis.summary_rows import plural
from study.errors import UserError, nearest
from study.groups import divide, joined
from study.rare import can_be_split, check_groups, check_not_below, rare_classes
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
    """Nominal and anomaly classes of one split. UserError for unknown, doubled, overlapping or too few classes.

    ``data["rare"]``: "drop" leaves rare classes (``study.rare``) out of the nominal ones and of the "rest", "anomaly" turns
    those that would or could be nominal into anomalies. An anomaly class that is named stays one, however small.
    """
    sizes = np.bincount(source.labels, minlength=len(source.class_names))
    present = [index for index in range(len(source.class_names)) if sizes[index]]
    asked, mode = data.get("nominal_classes", 6), data.get("rare", "error")
    rare = rare_classes(source, data, list(range(len(sizes)))) if mode != "error" else set()
    drawn = isinstance(asked, int) and not isinstance(asked, bool)
    wished = _nominal(source, asked, split, [index for index in present if index not in rare])
    nominal = [index for index in wished if index not in rare]
    if mode == "error":
        check_not_below(source, data, nominal)
    if len(nominal) < 2:
        lost = f" with images enough ({len(wished) - len(nominal)} are rare)" if len(wished) > len(nominal) else ""
        raise UserError(f"data.nominal_classes: {len(nominal)} nominal class{lost}; a classifier needs at least 2")
    turned = {index for index in (present if drawn else wished) if index in rare and sizes[index]} if mode == "anomaly" else set()
    anomaly = _anomaly(source, data.get("anomaly_classes", "rest"), present, wished, rare if mode == "drop" else set())
    both = sorted(set(wished) & set(anomaly))
    if both:
        raise UserError(f"data.anomaly_classes: {source.class_names[both[0]]!r} is a nominal class, too")
    check_groups(source, data, nominal)
    return Classes(nominal=tuple(sorted(nominal)), anomaly=tuple(sorted({*anomaly, *turned})))


def _anomaly(source: Source, wanted, present: list[int], nominal: list[int], dropped: set[int]) -> list[int]:
    if wanted == "rest":
        return [index for index in present if index not in nominal and index not in dropped]
    return _resolve(source, wanted, "data.anomaly_classes")


def _nominal(source: Source, wanted, split: int, able: list[int]) -> list[int]:
    """``able``: among which a number is drawn."""
    if wanted == "osr":
        if set(source.class_names) != set(CIFAR10_NAMES):
            raise UserError('data.nominal_classes: "osr" needs the ten CIFAR-10 classes; give a number or names')
        if not 0 <= split < len(OSR_SPLITS):
            raise UserError(f'data.splits: "osr" has the splits 0 to {len(OSR_SPLITS) - 1}, not {split}')
        return [source.class_names.index(CIFAR10_NAMES[index]) for index in OSR_SPLITS[split]]
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        if wanted > len(able):
            rare = len(np.unique(source.labels)) - len(able)
            enough = f" with images enough ({rare} are rare)" if rare else ""
            raise UserError(f"data.nominal_classes: {wanted} asked for, the data set has {len(able)} classes{enough}")
        ranked = sorted(able, key=lambda index: keyed("nominal", split, source.class_names[index]))
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
    """The source rows of one class per part, each in the class's random order. UserError when a part would be empty.

    With groups each lies in one part, and the parts hold about 60, 20 and 20 % of the images.
    """
    name = source.class_names[index]
    rows = np.flatnonzero(source.labels == index)
    limit = int(data.get("limit") or 0)
    if data.get("partition", "pooled") == "official":
        return _official(source, name, rows, limit, split)
    order = rows[permutation(split, name, len(rows))]
    if limit:
        order = order[:limit]
    keys = _keys_of(source, order)
    kind, count = ("image", len(order)) if keys is None else ("group", len(set(keys)))
    if count < 3:
        if limit and can_be_split(source, index, data):
            raise UserError(f"data.limit: {limit} images of a class cannot be split, at least 3 {kind}s are needed")
        raise _too_few(name, plural(count, kind), "at least 3 for training, validation and test")
    if keys is not None:
        return _by_group(order, keys, (0.6, 0.2, 0.2), (split, name))
    share = max(1, round(0.2 * len(order)))
    return {"train": order[: -2 * share], "validation": order[-2 * share : -share], "test": order[-share:]}


def _keys_of(source: Source, rows: np.ndarray) -> list[str] | None:
    """The groups of ``rows``, None without any. UserError for files that a table of groups does not list."""
    if source.groups is None:
        return None
    keys = [source.groups[row] for row in rows.tolist()]
    if unlisted := sorted(source.describe(row) for row, key in zip(rows.tolist(), keys) if key is None):
        more = f" and {len(unlisted) - 1} more" if len(unlisted) > 1 else ""
        raise UserError(f"data.group: the table does not list {unlisted[0]}{more}; its column path is relative to data.path")
    return keys


def _by_group(rows: np.ndarray, keys: list[str], shares: tuple[float, ...], seed: tuple[int, str]) -> dict[str, np.ndarray]:
    """``rows`` by part, each group whole; the first ``len(shares)`` parts only."""
    groups = sorted(set(keys), key=lambda key: keyed("group", *seed, key))
    number = {key: place for place, key in enumerate(groups)}
    owner = np.array([number[key] for key in keys])
    part = np.array(divide(np.bincount(owner).tolist(), shares))[owner]
    return {name: rows[part == place] for place, name in enumerate(PARTS[: len(shares)])}


def _official(source: Source, name: str, rows: np.ndarray, limit: int, split: int) -> dict[str, np.ndarray]:
    if source.is_test is None:
        raise UserError(f'data.partition: {source.name} has no official test images here; use "pooled"')
    test, train = rows[source.is_test[rows]], rows[~source.is_test[rows]]
    if len(test) < 1 or len(train) < 2:
        raise _too_few(name, plural(len(rows), "image"), f"2 for training and 1 for test, not {len(train)} and {len(test)}")
    order = train[permutation(split, name, len(train))]
    test = test[permutation(split, f"{name}/test", len(test))]
    if limit and limit < len(rows):
        kept = max(1, min(round(limit * len(test) / len(rows)), limit - 2))
        test, order = test[:kept], order[: max(2, limit - kept)]
    keys = _keys_of(source, order)
    if keys is not None:
        if both := sorted(set(keys) & set(_keys_of(source, test))):
            raise UserError(f"data.group: {both[0][2:]!r} of class {name!r} has images in train and in test; move them, or set "
                            'data.partition = "pooled"')
        if len(set(keys)) < 2:
            raise _too_few(name, "1 group in train", "2 there, for training and validation")
        return {**_by_group(order, keys, (0.75, 0.25), (split, name)), "test": test}
    share = max(1, round(0.25 * len(order)))
    return {"train": order[:-share], "validation": order[-share:], "test": test}


def _too_few(name: str, count: str, needed: str) -> UserError:
    return UserError(f"data: class {name!r} has {count}, a split needs {needed}; add images, leave it out, or set data.rare = "
                     '"drop" or "anomaly"')


@dataclass
class Table:
    """Images of one side (nominal or anomalous), row by row in canonical order, and the part each belongs to."""

    rows: np.ndarray  # (N,) source rows, class by class, each class in its random order
    labels: np.ndarray  # (N,) 0..K-1 into the side's classes
    parts: np.ndarray  # (N,) index into PARTS
    moved: int = 0
    dropped: int = 0
    groups: np.ndarray | None = None  # (N,) numbers of groups, where there are some

    def select(self, keep: np.ndarray) -> Table:
        """The table with only the rows of the boolean ``keep``."""
        groups = None if self.groups is None else self.groups[keep]
        return Table(self.rows[keep], self.labels[keep], self.parts[keep], self.moved, self.dropped, groups)


def table_of(source: Source, classes: tuple[int, ...], data: dict, split: int, *, anomalous: bool = False) -> Table:
    """Every image of ``classes`` with its part.

    ``anomalous``: of an anomaly class that cannot be split all images are for the test, unless ``rare`` is "error".
    """
    rows, labels, parts = [], [], []
    for label, index in enumerate(classes):
        if anomalous and data.get("rare", "error") != "error" and not can_be_split(source, index, data):
            found = {"test": _whole(source, index, data, split)}
        else:
            found = split_class(source, index, data, split)
        for part, chosen in found.items():
            rows.append(chosen)
            labels.append(np.full(len(chosen), label))
            parts.append(np.full(len(chosen), PARTS.index(part)))
    if not rows:
        return Table(*(np.empty(0, dtype=np.int64) for _ in range(3)))
    table = Table(*(np.concatenate(column).astype(np.int64) for column in (rows, labels, parts)))
    if source.groups is not None:
        numbers: dict = {}
        pairs = zip(table.labels.tolist(), _keys_of(source, table.rows), strict=True)
        table.groups = np.array([numbers.setdefault(pair, len(numbers)) for pair in pairs], dtype=np.int64)
    return table


def _whole(source: Source, index: int, data: dict, split: int) -> np.ndarray:
    rows = np.flatnonzero(source.labels == index)
    order = rows[permutation(split, source.class_names[index], len(rows))]
    return order[: int(data.get("limit") or 0) or None]


def join_duplicates(table: Table, keys: list[bytes], *, test_first: bool) -> None:
    """Put images with the same key into one part, that of the first of them by source row; their groups come with them.

    ``test_first`` (official partition): a copy of a test image goes to the test part, so that part stays whole.
    """
    if table.groups is not None:
        keys = joined(table.groups.tolist(), keys)
    first: dict = {}
    for key, row, part in zip(keys, table.rows.tolist(), table.parts.tolist(), strict=True):
        rank = (test_first and part != PARTS.index("test"), row)
        if key not in first or rank < first[key][0]:
            first[key] = (rank, part)
    wanted = np.array([first[key][1] for key in keys], dtype=np.int64).reshape(table.parts.shape)
    table.moved = int((wanted != table.parts).sum())
    table.parts = wanted
