"""Where MLflow's store is, and whether it can be reached.

Kept free of MLflow's import (a second), so that a bad address is told before anything else starts.
"""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from study.errors import EnvironmentProblem, UserError

DEFAULT_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}


def tracking_uri(root: Path) -> str:
    """``MLFLOW_TRACKING_URI``, else SQLite in ``root`` (the folder that holds the studies, ``runs/``)."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if not uri:
        return f"sqlite:///{Path(root).resolve() / 'mlflow.db'}"
    scheme = urlsplit(uri).scheme
    if scheme in ("", "file") or re.fullmatch(r"[A-Za-z]", scheme):
        folder = urlsplit(uri).path if scheme == "file" else uri
        raise UserError(
            f"MLFLOW_TRACKING_URI: {uri!r} is a file store, which MLflow no longer writes; move it with "
            f"`mlflow migrate-filestore --source {folder} --target sqlite:///mlflow.db` and set "
            "MLFLOW_TRACKING_URI=sqlite:///mlflow.db, or unset it"
        )
    return uri


def without_password(text: str) -> str:
    """``text`` as it may be shown: its URIs without user, password and query.

    Between a colon and the @, SQLAlchemy takes anything, blanks and slashes included; too much is cut rather than too little.
    """
    return re.sub(r"(://)(?:[^/@\s]*|[^/@\s:]*:[^@\n]*)@", r"\1", re.sub(r"(://[^\s?]*)\?\S*", r"\1", text))


def check_server(uri: str, timeout: float = 4.0) -> None:
    """Raises EnvironmentProblem unless the store at ``uri`` can be reached within ``timeout`` seconds.

    http(s): its ``/health`` answers; a database server: its port is open; SQLite: the folder can be written.
    """
    parts = urlsplit(uri)
    scheme = parts.scheme.partition("+")[0]
    if scheme == "sqlite":
        return _check_sqlite(uri)
    if scheme not in DEFAULT_PORTS:
        return None
    outcome: list[str] = []
    # A thread, since neither name resolution nor a server that drips bytes heeds a socket's timeout.
    probe = _probe_http if scheme in ("http", "https") else _probe_port
    thread = threading.Thread(target=lambda: outcome.append(probe(uri, timeout)), daemon=True)
    thread.start()
    thread.join(timeout)
    reason = outcome[0] if outcome else f"no answer within {timeout:g} s"
    if reason:
        raise EnvironmentProblem(
            f"the MLflow server {without_password(uri)} does not answer ({reason}); start it, correct "
            "MLFLOW_TRACKING_URI, or go on without it with --offline"
        )
    return None


def _probe_http(uri: str, timeout: float) -> str:
    import urllib.error
    import urllib.request

    parts = urlsplit(uri)
    bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/") + "/health", "", ""))
    try:
        with urllib.request.urlopen(bare, timeout=timeout) as answer:
            answer.read(64)
    except urllib.error.HTTPError as problem:
        # A gateway in front of it may refuse /health without credentials; the client has them.
        return f"HTTP {problem.code}" if problem.code >= 500 or problem.code == 404 else ""
    except Exception as problem:
        return str(getattr(problem, "reason", problem)) or type(problem).__name__
    return ""


def _probe_port(uri: str, timeout: float) -> str:
    import socket

    parts = urlsplit(uri)
    port = parts.port or DEFAULT_PORTS[parts.scheme.partition("+")[0]]
    if not parts.hostname:
        return ""  # a Unix socket named in the query
    try:
        socket.create_connection((parts.hostname, port), timeout=timeout).close()
    except OSError as problem:
        return str(problem)
    return ""


def _check_sqlite(uri: str) -> None:
    path = Path(uri.partition(":///")[2].partition("?")[0])
    if str(path) in (".", ":memory:"):
        return
    folder = path.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    blocked = path if path.exists() else folder
    if not os.access(blocked, os.W_OK):
        raise EnvironmentProblem(f"{blocked} cannot be written, and MLflow's {path.name} lies there; make it writable")
