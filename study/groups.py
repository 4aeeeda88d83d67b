"""Photos that belong together (``[data] group``): one specimen, one plot, one burst. A group lies in one part.

``group`` is a regular expression with one capturing group, searched in a file's name, or the path of a table
(``….csv``) with the columns ``path`` (relative to ``data.path``) and ``group``. Groups are those of a class: the same name
in two classes is two groups, since in most folders files are numbered anew in each class; nothing ties a nominal class
to an anomaly. A name that the expression does not match is a group of its own, and so is an empty ``group`` in a table.
"""

from __future__ import annotations

import csv
import posixpath
import re
import unicodedata
from collections.abc import Hashable, Sequence
from pathlib import Path

from study.errors import UserError, one_line

NAMED, ALONE = "g:", "f:"  # what a key begins with: a group that was named, or a file by itself
NEEDED = 3  # groups of a class: one for each part
GIANT = 0.2  # of a class's images: what a validation or test part should hold


def is_table(group: str) -> bool:
    """Whether ``group`` is the path of a CSV file rather than an expression."""
    return group.lower().endswith(".csv")


def as_seen_from_anywhere(group: str) -> str:
    """A table by its absolute path, since whoever reads it may stand elsewhere; an expression as it is. UserError for the home
    of a user whom there is not."""
    return str(_expanded(group).resolve()) if is_table(group) else group


def _expanded(group: str) -> Path:
    try:
        return Path(group).expanduser()
    except RuntimeError:
        raise UserError(f"data.group: {group}: there is no such user's home") from None


def check_group(group: str) -> None:
    """ValueError, one line, for an expression that is none or has not exactly one capturing group; a table is not read."""
    if group and not is_table(group):
        _compiled(group)


def _compiled(group: str) -> re.Pattern:
    try:
        pattern = re.compile(group)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{one_line(repr(group), 80)} is not a regular expression: {one_line(error, 100)}; a table's "
                         "name ends in .csv") from None
    if pattern.groups != 1:
        raise ValueError(f"{one_line(repr(group), 80)} has {pattern.groups} capturing groups, not 1: the one that names "
                         "the specimen, such as ^(.+)_\\d+")
    return pattern


def group_keys(files: Sequence[str], group: str) -> tuple[str | None, ...]:
    """A key for each file (a path relative to data.path, '/' between); None for one that a table does not list.

    Equal keys in one class are one group. UserError for a bad expression, or a table that cannot be used.
    """
    if is_table(group):
        known = _read_table(_expanded(group))
        found = [known.get(file) for file in files]
        return tuple(None if name is None else _key(name, file) for name, file in zip(found, files))
    try:
        pattern = _compiled(group)
    except ValueError as error:
        raise UserError(f"data.group: {error}") from None
    matches = [pattern.search(posixpath.basename(file)) for file in files]
    return tuple(_key(match[1] if match else "", file) for match, file in zip(matches, files))


def _key(name: str | None, file: str) -> str:
    return f"{NAMED}{name}" if name else f"{ALONE}{file}"


def _read_table(path: Path) -> dict[str, str]:
    """{path: group}. UserError naming the file and, where there is one, the line."""
    where, found = f"data.group: {one_line(str(path), 200)}", {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            if missing := [name for name in ("path", "group") if name not in (reader.fieldnames or [])]:
                raise UserError(f"{where}: no column {missing[0]!r} in its first line; it needs path,group")
            for row in reader:
                if row["path"] is None or row["group"] is None:
                    raise UserError(f"{where}: line {reader.line_num} lacks a value; it needs path,group")
                file = unicodedata.normalize("NFC", posixpath.normpath(row["path"].strip()))
                name = unicodedata.normalize("NFC", row["group"].strip())
                if found.setdefault(file, name) != name:
                    raise UserError(f"{where}: line {reader.line_num}: {one_line(file, 100)} is in two groups")
    except OSError as error:
        raise UserError(f"{where}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{where}: not a CSV table: {one_line(error, 100)}") from None
    return found


def divide(sizes: Sequence[int], shares: Sequence[float]) -> list[int]:
    """For each group (images in it, in the class's random order) the index of its part.

    Each goes where it overfills the part least relative to its share, those that would fill a whole validation part
    first, while there is room in training; no part stays empty where there are as many groups as parts. A part mostly
    exceeds its share by less than half of the largest group; where that is a large part of the class, by about as much as it.
    """
    total, filled, parts = sum(sizes), [0] * len(shares), [0] * len(sizes)
    order = sorted(range(len(sizes)), key=lambda group: sizes[group] <= GIANT * total)  # stable: giants first
    for place, group in enumerate(order):
        empty = [part for part, count in enumerate(filled) if not count]
        allowed = empty if len(order) - place <= len(empty) else range(len(shares))
        part = min(allowed, key=lambda part: (filled[part] + sizes[group]) / shares[part])
        filled[part] += sizes[group]
        parts[group] = part
    return parts


def joined(groups: Sequence[int], keys: Sequence[Hashable]) -> list[int]:
    """For each image a number that it shares with its group, with every copy of itself, and with the groups of those."""
    parent = list(range(len(groups)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = place = parent[parent[place]]
        return place

    first: dict[tuple[str, Hashable], int] = {}
    for place, (group, key) in enumerate(zip(groups, keys, strict=True)):
        for tie in (("group", group), ("copy", key)):
            one, other = root(first.setdefault(tie, place)), root(place)
            parent[max(one, other)] = min(one, other)
    return [root(place) for place in range(len(groups))]
