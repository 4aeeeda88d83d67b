"""The database behind the ledger: how it is opened, and what is done while it is away.

SQLite in the study's folder waits for its lock by itself. A database server may be restarted at any moment: what was under
way is then lost or, where only the answer was, done. ``patient`` waits for it to come back and does the whole step again, so
every step that it is put on must find what an earlier try of its own has left.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from study.errors import EnvironmentProblem, UserError, one_line
from study.mlflow_server import without_password
from study.spec import StudySpec
from study.spec_checks import LEDGER_PASSWORD

if TYPE_CHECKING:
    import optuna

Arguments, Answer = ParamSpec("Arguments"), TypeVar("Answer")

#: SQLite waits this long for another process's lock before it gives up (FAULTS.md 9 asks for more than 10).
LOCK_SECONDS = 60
#: A database server that is away is waited for this long; the trials train on meanwhile.
PATIENCE_SECONDS = 120.0
LONGEST_PAUSE = 5.0


def storage_url(spec: StudySpec) -> str:
    """The URL of ``resources.ledger`` with the password of the environment, which is written nowhere; "" without one."""
    url, password = spec.resources.ledger, os.environ.get(LEDGER_PASSWORD)
    if not url or not password or url.startswith("sqlite"):
        return url
    from sqlalchemy.engine import make_url

    return make_url(url).set(password=password).render_as_string(hide_password=False)


def ledger_url(spec: StudySpec, folder: Path) -> str:
    """That of ``resources.ledger``, or SQLite's of a file in the study's ``folder``, as Optuna takes it: a template.
    ``UserError`` for a folder whose path SQLAlchemy reads as another, such as one with a question mark."""
    from sqlalchemy.engine import URL, make_url

    if url := storage_url(spec):
        return url
    path = folder.resolve() / "ledger.db"
    url = URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)
    if make_url(url).database != str(path):
        raise UserError(f"{path}: no database can be opened in a folder of this name; choose another --root")
    return url.replace("{", "{{").replace("}", "}}")


def check_database(spec: StudySpec) -> None:
    """Raises ``EnvironmentProblem`` unless the database of ``resources.ledger`` can be opened; nothing is written yet."""
    if spec.resources.ledger:
        open_storage(storage_url(spec), spec.resources.ledger).remove_session()


def open_storage(url: str, shown: str = "") -> optuna.storages.RDBStorage:
    """Optuna's storage at ``url``, its tables made where they lack. ``EnvironmentProblem``, where ``shown`` is the URL."""
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    arguments = {"connect_args": {"timeout": LOCK_SECONDS}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    try:
        return optuna.storages.RDBStorage(url, engine_kwargs=arguments)
    except (SQLAlchemyError, optuna.exceptions.OptunaError, ImportError, RuntimeError) as error:
        cause = error.__cause__ or error
        if isinstance(cause, ImportError):
            name = url.partition(":")[0]
            hint = "; `pip install 'oraclegap[postgres]'`" if name == "postgresql+psycopg" else ""
            raise UserError(f"resources.ledger: the driver of {name} is not installed ({one_line(cause, 80)}){hint}") from None
        reason = one_line(_without_secret(cause), 200)
        raise EnvironmentProblem(f"ledger {shown or url} cannot be opened: {reason}") from None


def patient(step: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
    """A method of a ledger that is done again when the database server behind it was away.

    Raises ``EnvironmentProblem`` where it stays away for ``PATIENCE_SECONDS``, and at once where a file cannot be used.
    """
    @functools.wraps(step)
    def done_again(ledger, *arguments: Arguments.args, **options: Arguments.kwargs) -> Answer:
        deadline, pause = time.monotonic() + PATIENCE_SECONDS, 0.1
        while True:
            try:
                return step(ledger, *arguments, **options)
            except Exception as error:
                reason = _away(error)
                if reason and ledger.url.startswith("sqlite"):
                    raise EnvironmentProblem(_of_a_file(ledger.url, reason)) from None
                if not reason:
                    raise
                if time.monotonic() > deadline:
                    raise EnvironmentProblem(
                        f"ledger {ledger.spec.resources.ledger} did not answer for {PATIENCE_SECONDS:g} s ({reason}); "
                        "launch again to continue"
                    ) from None
            ledger.lost_connection()
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    return done_again


def _of_a_file(url: str, reason: str) -> str:
    """Why a ledger in a file cannot be used: gone, read-only, locked for too long, or on a full disk."""
    from sqlalchemy.engine import make_url

    path = Path(make_url(url.replace("{{", "{").replace("}}", "}")).database)
    what = reason if path.exists() else "it has vanished; put the study's folder back"
    return f"ledger {path}: {what}; launch again to continue"


def _away(error: BaseException | None) -> str:
    """Why the server cannot be spoken to, from SQLAlchemy's error or Optuna's around it; "" for any other mistake."""
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError

    while error is not None:
        if isinstance(error, PendingRollbackError):  # the connection broke while Optuna read what it had just written
            return "the connection was lost"
        if isinstance(error, (OperationalError, InterfaceError)) or (
                isinstance(error, DBAPIError) and error.connection_invalidated):
            return one_line(_without_secret(error.orig), 160)
        error = error.__cause__
    return ""


def _without_secret(error: object) -> str:
    text, password = without_password(str(error)), os.environ.get(LEDGER_PASSWORD)
    return text.replace(password, "***") if password else text
