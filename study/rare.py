"""Classes with too few images (``[data] rare``): an error, left out, or anomalies.

A class is rare with fewer than ``rare_below`` images in the source (before ``limit``, damaged files counted), or too few
to be split: three images (three groups, where there are groups), or two and one in the official partition. What an
anomaly class has is never asked to decide about a nominal one: a list of nominal classes loses those of its own that are
rare, and a number is drawn among the classes that are not.
"""

from __future__ import annotations

import numpy as np

from study.errors import UserError
from study.groups import ALONE
from study.sources import Source


def units(source: Source, rows: np.ndarray) -> int:
    """How many pieces ``rows`` can be divided into: groups, or images without any."""
    if source.groups is None:
        return len(rows)
    keys = [source.groups[row] for row in rows.tolist()]
    return len(set(keys) - {None}) + keys.count(None)


def can_be_split(source: Source, index: int, data: dict) -> bool:
    """Whether a class can have training, validation and test images."""
    rows = np.flatnonzero(source.labels == index)
    if data.get("partition", "pooled") == "official" and source.is_test is not None:
        test = source.is_test[rows]
        return bool(test.any()) and units(source, rows[~test]) >= 2
    return units(source, rows) >= 3


def rare_classes(source: Source, data: dict, indices: list[int]) -> set[int]:
    """Those of ``indices`` that are rare."""
    sizes = np.bincount(source.labels, minlength=len(source.class_names))
    below = int(data.get("rare_below") or 0)
    return {index for index in indices if sizes[index] < below or not can_be_split(source, index, data)}


def check_not_below(source: Source, data: dict, nominal: list[int]) -> None:
    """``rare = "error"``: UserError for the first nominal class with fewer images than ``rare_below``."""
    sizes, below = np.bincount(source.labels, minlength=len(source.class_names)), int(data.get("rare_below") or 0)
    for index in sorted(nominal):
        if sizes[index] < below:
            raise UserError(f"data: class {source.class_names[index]!r} has {sizes[index]} images, data.rare_below asks for "
                            f'{below}; add images, or set data.rare = "drop" or "anomaly"')


def check_groups(source: Source, data: dict, nominal: list[int]) -> None:
    """UserError for groups that group no nominal image: an expression that fits no name is a mistake."""
    if source.groups is None:
        return
    rows = np.flatnonzero(np.isin(source.labels, nominal)).tolist()
    if rows and all((source.groups[row] or "").startswith(ALONE) for row in rows):
        raise UserError(f"data.group: {data['group']!r} names no group of a nominal class, whose first file is "
                        f"{source.describe(rows[0])}; correct it, or leave it empty")
