"""MLflow's SQLite file, made whole or not at all.

MLflow makes its tables by a chain of migrations, several seconds of them. A launch that is killed in between leaves a
file that no MLflow opens again ("table _alembic_tmp_experiments already exists").
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def make_database(uri: str, artifacts: Path) -> None:
    """Creates the file of a ``sqlite:///`` URI beside its place and links it there when it is complete.

    Does nothing for another kind of URI or a file that exists; of two at once, the first to finish wins.
    """
    path = Path(uri.partition(":///")[2].partition("?")[0])
    if not uri.startswith("sqlite:///") or str(path) in (".", ":memory:") or path.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f".{path.name}.*.tmp*"):
        if not _alive(stale.name.split(".")[3]):
            stale.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        SqlAlchemyStore(f"sqlite:///{temporary}", str(artifacts)).engine.dispose()
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (ValueError, PermissionError):
        return True
    return True
