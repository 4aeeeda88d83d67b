"""The ledger in a PostgreSQL server that is restarted under it: every trial asked and told once."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from pathlib import Path

import optuna
import pytest
from conftest import overrides, run
from postgres import PASSWORD, Postgres, program
from sqlalchemy.exc import DBAPIError, OperationalError, PendingRollbackError

from study import ledger_storage
from study.errors import EnvironmentProblem
from study.ledger import Ledger
from study.ledger_storage import check_database
from study.spec import StudySpec
from study.spec_checks import LEDGER_PASSWORD

pytestmark = pytest.mark.skipif(not program("initdb"), reason="no PostgreSQL server here")


@pytest.fixture(scope="module")
def server():
    with Postgres() as server:
        yield server


@pytest.fixture
def spec(server, monkeypatch):
    monkeypatch.setenv(LEDGER_PASSWORD, PASSWORD)
    return StudySpec.parse({"name": "shared", "methods": ["hybrid"], "search": {"trials": 40},
                            "resources": {"ledger": server.url}})


@pytest.mark.slow
def test_restarts_lose_and_double_nothing(server, spec, tmp_path):
    ledger, over = Ledger(spec, tmp_path), threading.Event()

    def restarts():
        for pause in (0.7, 0.4, 0.9, 0.2, 0.6):
            time.sleep(pause)
            server.stop()
            time.sleep(0.3)
            server.start()
        over.set()

    thread = threading.Thread(target=restarts)
    thread.start()
    asked = []
    while len(asked) < 30 or not over.is_set():
        trial = ledger.ask("hybrid", 0)
        assert not ledger.should_stop(trial, [{"val_accuracy": 0.5, "epoch": 1}])
        record = ledger.tell("hybrid", 0, trial, {"signals": {"val_accuracy": 1 / (1 + trial.number)}, "train_seconds": 1.0})
        asked.append(record.number)
    thread.join()
    assert asked == list(range(len(asked)))
    records = Ledger(spec, tmp_path).trials()
    assert [record.number for record in records] == asked and {record.state for record in records} == {"completed"}
    assert [record.signals["val_accuracy"] for record in records] == [1 / (1 + number) for number in asked]


@pytest.mark.parametrize("error", [
    OperationalError("COMMIT", {}, Exception("server closed the connection unexpectedly")),
    PendingRollbackError("Can't reconnect until invalid transaction is rolled back."),
    DBAPIError("SELECT", {}, Exception("terminating connection"), connection_invalidated=True)], ids=lambda e: type(e).__name__)
def test_a_trial_whose_answer_was_lost_is_given_once_more(spec, tmp_path, monkeypatch, error):
    """The server did what was asked, and died before it said so."""
    spec = spec.changed({"name": f"answer-lost-{type(error).__name__}"})
    ledger, ask, lost = Ledger(spec, tmp_path), optuna.Study.ask, []

    def ask_and_lose(study, distributions):
        trial = ask(study, distributions)
        if not lost:
            lost.append(trial.number)
            raise optuna.exceptions.StorageInternalError("An exception is raised during the commit.") from error
        return trial

    monkeypatch.setattr(optuna.Study, "ask", ask_and_lose)
    assert [ledger.ask("hybrid", 0).number for _ in range(3)] == [0, 1, 2] and lost == [0]
    assert Ledger(spec, tmp_path).asked("hybrid", 0) == 3


def test_a_server_that_stays_away_is_told_in_one_line(server, spec, tmp_path, monkeypatch):
    monkeypatch.setattr(ledger_storage, "PATIENCE_SECONDS", 1.0)
    ledger = Ledger(spec.changed({"name": "away"}), tmp_path)
    ledger.ask("hybrid", 0)
    server.stop()
    try:
        with pytest.raises(EnvironmentProblem, match=r"did not answer for 1 s .*launch again to continue") as caught:
            ledger.ask("hybrid", 0)
        with pytest.raises(EnvironmentProblem, match="cannot be opened"):
            check_database(spec)
    finally:
        server.start()
    assert PASSWORD not in str(caught.value)


def test_a_wrong_password_is_told_without_it(spec, monkeypatch):
    monkeypatch.setenv(LEDGER_PASSWORD, "wrong horse")
    with pytest.raises(EnvironmentProblem, match="password authentication failed") as caught:
        check_database(spec)
    assert "wrong horse" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_study_in_it_writes_no_secret_anywhere(server, tmp_path):
    """Not into the study, not into MLflow, not into Ray's own files; and audit, status and export work from it."""
    secrets = {LEDGER_PASSWORD: PASSWORD, "MLFLOW_TRACKING_TOKEN": "token-of-mlflow", "AWS_SECRET_ACCESS_KEY": "key-of-s3"}
    scratch = Path(tempfile.mkdtemp())  # short, since Ray's sockets lie below it
    pairs = ["name=secrets", "methods=['classifier']", "search.trials=1", "training.epochs=1", 'resources.address="local"',
             "selection.folds=0", "selection.scorer_rule=max_logit", "analysis.questions=[]", f"resources.ledger={server.url}"]
    done = run("launch", "digits", *overrides(*pairs), cwd=tmp_path, RAY_TMPDIR=str(scratch), **secrets)
    assert done.returncode == 0, done.stderr
    told = done.stdout + done.stderr
    for command in ("status", "audit", "export"):
        looked = run(command, "runs/secrets", cwd=tmp_path, **secrets)
        assert looked.returncode == 0, looked.stderr
        told += looked.stdout + looked.stderr
    assert list(scratch.rglob("raylet.out"))  # Ray did write there
    for secret in secrets.values():
        assert secret not in told
        found = [path for folder in (tmp_path, scratch) for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and secret.encode() in
                 path.read_bytes()]
        assert not found, found
    shutil.rmtree(scratch)
