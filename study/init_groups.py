"""Whether the names of files say which photos show one specimen: what ``oraclegap init`` suggests for ``[data] group``.

A name that ends in a number says little by itself: ``cat_17.jpg`` is the 17th photo of a class, ``s17_2.jpg`` the second of
the 17th specimen, ``20240612_101530.jpg`` one of a day. So names are taken for groups only where every class has several,
and for certain only where photos are numbered within each group, from 0 or 1 on, and hardly any stands alone.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from study.groups import NEEDED, group_keys

#: An expression for ``group``, and one whose second group is the number within it (none: the first photo, "bee.jpg").
PATTERNS = (
    (r"^(.+?)(?: ?\(\d+\))?\.[^.]+$", r"^(.+?)(?: ?\((\d+)\))?\.[^.]+$"),  # bee.jpg, bee (1).jpg
    (r"^(.+)[ _-]\d+\.[^.]+$", r"^(.+)[ _-](\d+)\.[^.]+$"),  # bee_1.jpg, bee-1.jpg, bee 1.jpg
)
OFTEN, NEARLY_ALL = 0.5, 0.9  # of the files: that share their group with another one; that are numbered within it
#: Where only some photos are in series: so many files at least, in so many groups, none larger than that share of its class.
#: Larger ones may be a class's photos numbered through; files that match nothing are groups of their own, so little is lost.
SOME, SERIES, LARGEST = 10, 3, 0.1


@dataclass(frozen=True)
class Suggestion:
    """An expression for ``group``; how many groups each class has by it; the share of files that have company in theirs; the
    largest group, and how many files it has; whether it is nearly certain that groups are specimens."""

    group: str
    counts: dict[str, int]
    shared: float
    largest: tuple[str, int]
    sure: bool


def suggest(files: Mapping[str, Sequence[str]], learnt: Sequence[str]) -> Suggestion | None:
    """The expression that groups most of the files (class → paths), or None where names say nothing.

    ``learnt``: classes that must have ``NEEDED`` groups at least, and by which it is judged.
    """
    found = [suggestion for patterns in PATTERNS if (suggestion := _judged(*patterns, files, learnt))]
    return max(found, key=lambda suggestion: (suggestion.sure, suggestion.shared), default=None)


def _judged(pattern: str, numbered: str, files: Mapping[str, Sequence[str]], learnt: Sequence[str]) -> Suggestion | None:
    keys = {name: group_keys(paths, pattern) for name, paths in files.items()}
    groups = {(name, key): count for name in learnt for key, count in Counter(keys[name]).items()}
    counts = {name: len(set(found)) for name, found in keys.items()}
    total, shared = sum(groups.values()), sum(count for count in groups.values() if count > 1)
    if not total or min(counts[name] for name in learnt) < NEEDED:
        return None
    members: dict[tuple[str, str], list[int]] = {}
    for name in learnt:
        for path in files[name]:
            match = re.search(numbered, posixpath.basename(path))
            if match:
                members.setdefault((name, match[1]), []).append(int(match[2] or 0))
    series = {place: len(numbers) for place, numbers in members.items() if len(numbers) > 1}
    in_order = sum(count for place, count in series.items() if _runs(sorted(members[place])))
    if shared < OFTEN * total:
        small = all(count <= LARGEST * len(files[name]) for (name, _), count in series.items())
        if not small or in_order < max(SOME, NEARLY_ALL * sum(series.values())) or len(series) < SERIES:
            return None
        total = in_order
    (_, key), most = max(groups.items(), key=lambda item: item[1])
    return Suggestion(pattern, counts, shared / sum(groups.values()), (key[2:], most), in_order >= NEARLY_ALL * total)


def _runs(numbers: list[int]) -> bool:
    """0, 1, 2 … or 1, 2, 3 …, as photos of one specimen are numbered."""
    return numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
