"""The ``folder`` source: a user's own image files, root/<class>/*.png|jpg… or root/{train,test}/<class>/….

The second form is taken when ``train`` and ``test`` are the only visible folders of the root. Files lie directly in
their class's folder. Names sort by their bytes, hidden ones are skipped. A link to a folder or file is followed, but
one real file counts once in a class, so that a loop of links ends. A name that is not UTF-8 is shown with its odd bytes
escaped (``caf\\xe9``); the class is asked for by that name.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from study.array_files import machine_memory
from study.errors import EnvironmentProblem, UserError
from study.images import BadImage, decode_file, decode_files
from study.sources import Source, needed_path, register

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})


def readable(name: str) -> str:
    """A file name as text that JSON and terminals can carry: composed (NFC), odd bytes and controls escaped."""
    text = unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "backslashreplace"))
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


@register("folder")
def _folder(data: dict) -> Source:
    root = needed_path(data)
    if not root.is_dir():
        raise UserError(f"data.path: {root} is not a folder")
    top = _folders_in(root)
    official = [path.name for path in top] == ["test", "train"]
    shares = [root / "train", root / "test"] if official else [root]
    found: dict[str, list[tuple[str, bool]]] = {}
    origin: dict[str, str] = {}
    for share in shares:
        for folder in _folders_in(share):
            name = readable(folder.name)
            if origin.setdefault(name, folder.name) != folder.name:
                raise UserError(f"{share}: two folders are both read as class {name!r}; rename one")
            found.setdefault(name, []).extend((path, share.name == "test" and official) for path in _files_in(folder))
    names = sorted(found)
    files = [entry for name in names for entry in _once(found[name])]
    if not files:
        raise UserError(f"data.path: {root} holds no images; expected {root}/<class>/*.png or .jpg")
    counts = [len(_once(found[name])) for name in names]
    return _source(data, root, [path for path, _ in files], counts, names, official, [test for _, test in files])


def _source(
    data: dict, root: Path, paths: list[str], counts: list[int], names: list[str], official: bool, tests: list[bool]
) -> Source:
    size = int(data.get("image_size") or 0)

    def read(indices: Sequence[int]) -> list[np.ndarray | BadImage]:
        wanted = [paths[index] for index in indices]
        if not size:
            _check_memory(root, wanted)
        return decode_files(wanted, image_size=size, processes=bool(data.get("processes")))

    return Source(
        name="folder",
        labels=np.repeat(np.arange(len(names), dtype=np.int64), counts),
        class_names=tuple(names),
        read=read,
        describe=lambda index: readable(os.path.relpath(paths[index], root)).replace(os.sep, "/"),
        file_names=True,
        is_test=np.asarray(tests, dtype=bool) if official else None,
        flips_keep_labels=True,
        rotations_keep_labels=False,
    )


def _folders_in(folder: Path) -> list[Path]:
    try:
        entries = [Path(folder, entry.name) for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(f"{readable(str(folder))} cannot be read: {error.strerror}") from None
    return sorted((path for path in entries if path.is_dir()), key=os.fsencode)


def _files_in(folder: Path) -> list[str]:
    """Paths with an image's extension, sorted by their bytes; what cannot be opened is found when it is decoded."""
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise UserError(f"{readable(str(folder))} cannot be read: {error.strerror}") from None
    names = [name for name in names if not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS]
    paths = [os.path.join(folder, name) for name in sorted(names, key=os.fsencode)]
    return [path for path in paths if not os.path.isdir(path)]


def _once(entries: list[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """Each real file once, at its first place; within a class only, so that no class can take a file from another."""
    seen: dict[str, tuple[str, bool]] = {}
    for path, test in entries:
        seen.setdefault(os.path.realpath(path), (path, test))
    return list(seen.values())


def _check_memory(root: Path, paths: list[str]) -> None:
    """Refuse to decode more than the machine's memory holds: photographs at full size without ``image_size``."""
    first = next((image for image in map(decode_file, paths[:10]) if isinstance(image, np.ndarray)), None)
    if first is None:
        return
    need, have = 3 * first.nbytes * len(paths), machine_memory()
    if need > have:
        height, width = first.shape[:2]
        raise EnvironmentProblem(
            f"{readable(str(root))}: {len(paths)} images of {width}x{height} need about {need / 2**30:.0f} GiB of memory, "
            f"{have / 2**30:.0f} are there; set data.image_size (such as 64)"
        )
