"""``oraclegap clean``: gives disk back, never without having said what goes.

Some kinds of files nobody needs any more, and ``audit`` never looks at them: they go by default. Others only a later question
would need, such as the features of trials that were not selected. Those go when asked for by name, once the study is
revealed; each is written down in ``cleaned.json`` with its SHA-256 before it goes, so that ``audit`` knows what was removed on
purpose from what was lost, and says what it cannot check any more.

Never touched: ledger, spec, stamp, data, selection, reveals, report, what was selected, and anything of a study that a launch
is driving just now.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from study.errors import UserError, nearest
from study.ranking import finalists_of
from trainables.files import read_json, sha256_of_file, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from study.api import Study

RECORD = "cleaned.json"
#: kind → (what it is, what is lost with it or "")
KINDS = {
    "scratch": ("what killed launches left: Ray Tune's scratch folder, half-written files", ""),
    "checkpoints": ("checkpoints of trials and jobs that have ended", ""),
    "exports": ("exported detectors", "`oraclegap export` writes them again"),
    "job-models": ("weights and features of fold models and oracle representations; their scores stay", "audit cannot check them"),
    "features": ("cached features of trials that were not selected",
                 "audit cannot check them, and `analyse` cannot measure anything new on those trials"),
    "models": ("weights of trials that were not selected", "audit cannot check them, and layers of those trials cannot be read"),
}
#: Kinds that audit looks for, and a study still at work needs.
RECORDED = ("job-models", "features", "models")


@dataclass(frozen=True)
class Piece:
    """One file that would go."""

    kind: str
    path: Path
    size: int


def kinds_of(text: str) -> list[str]:
    """``checkpoints,features`` → the kinds, in the order of ``KINDS``; "all" is every kind. UserError names the nearest."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name != "all" and name not in KINDS:
            raise UserError(f"--what {name}: no such kind{nearest(name, [*KINDS, 'all'])}; known: {', '.join(KINDS)}, all")
    return [kind for kind in KINDS if kind in names or "all" in names]


def pieces(study: Study, kinds: list[str]) -> list[Piece]:
    """The files that would go, by kind and path. Raises UserError where a kind is still needed."""
    status = study.status()
    needed = [kind for kind in kinds if kind in RECORDED]
    finished = status["stage"] == "revealed" or (status["stage"] == "frozen" and status["nothing_to_reveal"])
    if needed and not finished:
        raise UserError(
            f"{study.folder}: {', '.join(needed)} of a study that is not revealed yet are still needed; finish it first "
            f"with `{status['next']}`, or clean only {', '.join(k for k in KINDS if k not in RECORDED)}"
        )
    found: dict[Path, Piece] = {}
    for kind in kinds:
        for path in FINDERS[kind](study):
            if path not in found and (path.is_file() or path.is_symlink()):
                found[path] = Piece(kind, path, os.lstat(path).st_size)
    return [found[path] for path in sorted(found, key=lambda p: (list(KINDS).index(found[p].kind), p))]


def _scratch(study: Study) -> Iterator[Path]:
    yield from _files(study.folder / ".tune")
    yield from (path for path in _files(study.folder) if path.name.startswith(".") and path.name.endswith(".tmp"))


def _checkpoints(study: Study) -> Iterator[Path]:
    """Of what has ended: a trial by the ledger, a job by its result."""
    for trial in study.ledger().trials() if study.has_ledger() else []:
        if trial.state in ("completed", "failed", "pruned"):
            yield from (study.folder / "trials" / trial.key).glob("checkpoint-*.safetensors")
    for result in (study.folder / "jobs").glob("*/*/result.json"):
        yield from result.parent.rglob("checkpoint-*.safetensors")


def _exports(study: Study) -> Iterator[Path]:
    yield from _files(study.folder / "export")


def _job_models(study: Study) -> Iterator[Path]:
    """A retrained seed's stay: it is a detector that was measured, and can be exported like the first."""
    for kind in ("fold", "representation"):
        for result in (study.folder / "jobs" / kind).glob("*/result.json"):
            yield from (result.parent / "model" / name for name in ("model.safetensors", "features.safetensors"))


def _of_others(name: str) -> Callable[[Study], Iterator[Path]]:
    def of_others(study: Study) -> Iterator[Path]:
        chosen = {f"{e['method']}/{e['split']}/{n}" for e in study.selection["selections"]
                  for n in (e["trial"], *finalists_of(e))}
        for trial in study.ledger().trials():
            if trial.key not in chosen and trial.state == "completed":
                yield study.folder / "trials" / trial.key / name

    return of_others


FINDERS: dict[str, Callable[[Study], Iterator[Path]]] = {
    "scratch": _scratch, "checkpoints": _checkpoints, "exports": _exports, "job-models": _job_models,
    "features": _of_others("features.safetensors"), "models": _of_others("model.safetensors"),
}


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        yield from (Path(place) / name for name in names)
        yield from (Path(place) / name for name in folders if (Path(place) / name).is_symlink())  # the link, not what it names


def remove(study: Study, found: list[Piece]) -> int:
    """Deletes the files and the folders that they leave empty; returns the bytes freed. The caller holds the launch lock."""
    recorded = [piece for piece in found if piece.kind in RECORDED]
    if recorded:
        known = read_json(study.folder / RECORD) or {"files": {}}
        gone = {str(piece.path.relative_to(study.folder)): sha256_of_file(piece.path) for piece in recorded}
        at = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(study.folder / RECORD, {"files": {**known["files"], **gone}, "at": at})
    for piece in found:
        piece.path.unlink(missing_ok=True)
    for folder in sorted({piece.path.parent for piece in found}, key=lambda path: len(path.parts), reverse=True):
        while folder != study.folder and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent
    return sum(piece.size for piece in found)


def cleaned(folder: Path) -> dict[str, str]:
    """{path within the study: SHA-256 it had} of the files that were removed on purpose."""
    stored = read_json(folder / RECORD)
    return dict(stored["files"]) if isinstance(stored, dict) and isinstance(stored.get("files"), dict) else {}


def text(study: Study, found: list[Piece]) -> str:
    """Exactly what goes: each kind with its size and what is lost with it, then each folder with its files."""
    from study.console import size_text

    if not found:
        return f"{study.folder}: nothing to clean"
    lines = []
    for kind in dict.fromkeys(piece.kind for piece in found):
        mine = [piece for piece in found if piece.kind == kind]
        what, lost = KINDS[kind]
        lines.append(f"{kind}: {len(mine)} files, {size_text(sum(p.size for p in mine))}: {what}" + (f"; {lost}" if lost else ""))
        for folder in dict.fromkeys(piece.path.parent for piece in mine):
            here = [piece for piece in mine if piece.path.parent == folder]
            lines.append(f"  {folder.relative_to(study.folder)}/  {', '.join(p.path.name for p in here)}  "
                         f"{size_text(sum(p.size for p in here))}")
    return "\n".join([*lines, f"in all {len(found)} files, {size_text(sum(p.size for p in found))} of {study.folder}"])
