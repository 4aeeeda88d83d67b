"""The one way a result reaches the disk: temporary file → fsync → rename, and the digests that say it is whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text. Refuses NaN and infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_of(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of ``value``; names that are not UTF-8 count with their bytes."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "backslashreplace")).hexdigest()


def derive_seed(*parts: Any) -> int:
    """A 63-bit seed that depends on ``parts`` alone: a stream of its own for each (study seed, trial, epoch …)."""
    return int(digest_of(list(parts))[:16], 16) >> 1


def sha256_of_file(path: str | os.PathLike) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: str | os.PathLike, data: bytes | str, *, durable: bool = True) -> None:
    """Writes ``data`` so that a reader sees the old file or the whole new one, whatever dies in between.

    ``durable=False`` leaves out the fsync: enough against a killed process, not against a power cut; for files whose
    digest is checked when read and which have an older generation to fall back on.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and not error.filename:  # a write does not know what it writes to
            error.filename = str(path)
        raise
    if durable:
        sync_folder(path.parent)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """``write_atomic`` of readable JSON; NaN and infinity raise ``ValueError``."""
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike) -> Any:
    """The JSON in a file, or ``None`` where there is no file or a torn one (so that it is made again)."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None


def write_arrays(path: str | os.PathLike, arrays: dict[str, np.ndarray]) -> str:
    """Writes named arrays as safetensors and returns the file's SHA-256."""
    from safetensors.numpy import save

    # safetensors writes the buffer that lies under a strided view, such as a column: other numbers than were given.
    data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    write_atomic(path, data)
    return hashlib.sha256(data).hexdigest()


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file; ValueError names one that is damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def sync_folder(folder: Path) -> None:
    """A rename is durable only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
