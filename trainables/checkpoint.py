"""Files of a trial that survive kills and notice flipped bits.

torch and safetensors load corrupt weights without a word, so every file of tensors has its SHA-256: a checkpoint in
its own name (one rename puts both in place), a result's files inside ``result.json``, which is written last.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from torch import Tensor

from trainables.files import write_atomic

KEPT_GENERATIONS = 2
_PATTERN = "checkpoint-*.safetensors"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> str:
    """Writes safetensors durably; returns the file's SHA-256."""
    from safetensors.torch import save

    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    write_atomic(path, data)
    return sha256(data)


def read_tensors(path: Path, expected_sha256: str) -> dict[str, Tensor]:
    """Reads safetensors; ValueError if the file is missing or is not what was written."""
    from safetensors.torch import load

    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path} is missing, though it is on record") from None
    if sha256(data) != expected_sha256:
        raise ValueError(f"{path} is corrupt: its SHA-256 is not the one on record")
    return load(data)


def save_checkpoint(folder: Path, epoch: int, tensors: dict[str, Tensor], record: dict) -> Path:
    """A generation ``checkpoint-<epoch>-<sha256>.safetensors``; all but the newest two are deleted.

    Without fsync, which would cost more than a small network's epoch: a killed process loses nothing, and what a
    power cut tears is noticed by its digest and costs one generation.
    """
    from safetensors.torch import save

    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
                metadata={"record": json.dumps(record)})
    path = folder / f"checkpoint-{epoch:06d}-{sha256(data)}.safetensors"
    write_atomic(path, data, durable=False)
    for old in _generations(folder)[KEPT_GENERATIONS:]:
        old.unlink(missing_ok=True)
    return path


def newest_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict] | None:
    """Tensors and record of the newest generation whose SHA-256 is right; others, and what is no checkpoint for all its
    name says, are deleted; None if none is left."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    for path in _generations(folder):
        data = path.read_bytes()
        if path.stem.rsplit("-", 1)[1] == sha256(data):
            header_size = int.from_bytes(data[:8], "little")
            try:
                header = json.loads(data[8 : 8 + header_size])
                return load(data), json.loads(header["__metadata__"]["record"])
            except (SafetensorError, ValueError, KeyError, TypeError, RecursionError):
                pass
        path.unlink(missing_ok=True)
    return None


def delete_checkpoints(folder: Path) -> None:
    """All generations, and what a killed process left of its temporary files."""
    for path in [*folder.glob(_PATTERN), *folder.glob(".*.tmp")]:
        path.unlink(missing_ok=True)


def _generations(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted(folder.glob(_PATTERN), reverse=True)
