"""Where MLflow's store is, and that a bad address is told at once, in one line, without its password."""

from __future__ import annotations

import time

import pytest

from study.errors import EnvironmentProblem, UserError
from study.mlflow_server import check_server, tracking_uri, without_password


@pytest.fixture(autouse=True)
def no_server_of_the_user(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_the_default_store_lies_with_the_studies(tmp_path):
    assert tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"


@pytest.mark.parametrize("uri", ["./mlruns", "mlruns", "file:///home/me/mlruns", "/home/me/mlruns"])
def test_a_file_store_is_refused_with_the_way_out(tmp_path, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match=r"mlflow migrate-filestore --source .*mlruns --target sqlite"):
        tracking_uri(tmp_path)


def test_a_server_that_is_down_is_told_within_five_seconds_without_its_password():
    start = time.monotonic()
    with pytest.raises(EnvironmentProblem, match="--offline") as caught:
        check_server("http://me:secret@127.0.0.1:9/base")  # the discard port: nobody listens
    assert time.monotonic() - start < 5
    assert "secret" not in str(caught.value)


def test_a_server_that_accepts_and_says_nothing_is_told_in_time():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with pytest.raises(EnvironmentProblem, match="does not answer"):
            check_server(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.5)
        assert time.monotonic() - start < 2


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:pass@db:5432/x?sslkey=k", "postgresql://db:5432/x"),
        ("postgresql://me:correct horse/battery@db/x", "postgresql://db/x"),
        ("sqlite:////runs/mlflow.db", "sqlite:////runs/mlflow.db"),
        ("cannot reach https://me:p%40ss@host/ now", "cannot reach https://host/ now"),
    ],
)
def test_passwords_are_never_shown(text, shown):
    assert without_password(text) == shown
