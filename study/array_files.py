"""Arrays from npz and idx files of unknown origin: what a file claims is compared with what it holds before any memory is
taken, and nothing that would have to be unpickled is read."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from study.errors import EnvironmentProblem, UserError, one_line

BOMB_BYTES, BOMB_RATIO = 2**26, 500  # so much, packed so tightly, is no set of pictures
IDX_LIMIT = 2**31


def machine_memory() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def read_npz(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """The arrays of these names. UserError for a file that is none, lacks one, is damaged or holds pickled objects;
    EnvironmentProblem where they do not fit in memory."""
    if not path.is_file():
        raise UserError(f"data.path: {path} is not a file")
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path} is not an .npz archive; write it with numpy.savez(path, images=…, labels=…)")
    try:
        _check_claims(path, (*needed, *optional))
        with np.load(path, allow_pickle=False) as archive:
            for name in needed:
                if name not in archive.files:
                    held = ", ".join(archive.files) or "nothing"
                    raise UserError(f"{path}: array {name!r} is missing; it holds {one_line(held, 200)}")
            arrays = {name: archive[name] for name in (*needed, *optional) if name in archive.files}
    except MemoryError:
        raise EnvironmentProblem(f"{path} does not fit in memory") from None
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        hint = "object arrays are not read" if "pickle" in str(error) else one_line(error, 100)
        raise UserError(f"{path} cannot be read: {hint}") from None
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise UserError(f"{path} holds members that are no arrays")
    return arrays


def _check_claims(path: Path, names: Sequence[str]) -> None:
    """That each array's header fits its member of the archive, and all of them the machine."""
    total = 0
    with zipfile.ZipFile(path) as archive:
        for name in names:
            if f"{name}.npy" not in archive.namelist():
                continue
            member = archive.getinfo(f"{name}.npy")
            with archive.open(member) as stream:
                claimed = _array_bytes(stream)
                held = member.file_size - stream.tell()
            if claimed not in (None, held):
                raise UserError(f"{path} is damaged: {name!r} claims {claimed} bytes and holds {held}; write it anew")
            if held > BOMB_BYTES and held > BOMB_RATIO * member.compress_size:
                raise UserError(
                    f"{path}: {name!r} unpacks to {held / 2**20:.0f} MiB from {member.compress_size} bytes, as a "
                    "decompression bomb does; if it is meant, write it with numpy.savez, not packed"
                )
            total += held
    if total > machine_memory():
        raise EnvironmentProblem(
            f"{path} needs {total / 2**30:.0f} GiB of memory, {machine_memory() / 2**30:.0f} are there; use fewer or "
            "smaller images, or source = 'folder'"
        )


def _array_bytes(stream: BinaryIO) -> int | None:
    """What the header at the start of a .npy stream claims to follow; None where only a pickle could tell."""
    header = np.lib.format.read_array_header_1_0 if np.lib.format.read_magic(stream) == (1, 0) else (
        np.lib.format.read_array_header_2_0)
    shape, _, dtype = header(stream)
    return None if dtype.hasobject else math.prod(shape) * dtype.itemsize


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The unsigned bytes of an idx file, plain or gzipped, in their shape. UserError for one that is damaged."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as stream:
            magic, *shape = struct.unpack(f">{dimensions + 1}I", stream.read(4 * (dimensions + 1)))
            if magic != 0x0800 + dimensions:
                raise ValueError("not an idx file of unsigned bytes")
            if (claimed := math.prod(shape)) > IDX_LIMIT:
                raise ValueError(f"it claims {claimed} bytes")
            content = stream.read(claimed + 1)  # no more, however much a packed file would go on to give
        if len(content) != claimed:
            raise ValueError(f"it claims {claimed} bytes and holds {'more' if len(content) > claimed else len(content)}")
        return np.frombuffer(content, dtype=np.uint8).reshape(shape)
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise UserError(f"{path} is damaged ({one_line(error, 100)}); fetch it again") from None
