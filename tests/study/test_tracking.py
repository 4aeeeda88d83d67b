"""MLflow as a projection: one run a trial, one point an epoch, nothing new on a replay, nothing lost to an outage."""

from __future__ import annotations

import math
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from study.tracking import Projection

ROOT = Path(__file__).parents[2]
MANIFEST = {"split": 0, "source": "digits", "digest": "ab12" * 16, "classes": ["0", "3"], "counts": {"train": 640},
            "image_shape": [8, 8, 1]}  # fmt: skip
START = 1_795_561_000.0


@pytest.fixture(autouse=True)
def no_server_of_the_user(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory) -> Path:
    """MLflow's schema, made once: making it takes a second."""
    from study.mlflow_store import quiet_mlflow

    quiet_mlflow(server=False)
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def root(tmp_path, empty_database) -> Path:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return tmp_path


def rows(epochs: range, *, late: float = 0.0, **columns) -> list[dict]:
    return [
        {"epoch": e, "train_loss": 1 / (e + 1), "val_nll": 0.5, "val_accuracy": 0.9, "learning_rate": 0.1,
         "seconds": 0.5, "time": START + e + late} | columns
        for e in epochs
    ]  # fmt: skip


def tell_study(projection: Projection, *, trials: int = 2, epochs: int = 3) -> None:
    """A whole study of one method, as the launcher tells it."""
    spec = {"name": "s", "search": {"trials": trials}}
    projection.study_started(spec=spec, spec_text='name = "s"\n', stamp={"torch": "2"}, data=[MANIFEST])
    summary = []
    for number in range(trials):
        key = f"classifier/0/{number}"
        projection.trial_started(key, {"learning_rate": 0.1}, {"seed": 7})
        projection.trial_metrics(key, rows(range(epochs)))
        projection.trial_ended(key, "completed", {"val_nll": 0.3}, None, {"ended_at": START + 9, "train_seconds": 1.5})
        summary.append({"method": "classifier", "split": 0, "trial": number, "state": "completed",
                        "selected": number == 0, "scorer_auroc": 0.9})  # fmt: skip
    projection.trial_selected("classifier/0/0")
    for number in range(trials):
        projection.trial_revealed(f"classifier/0/{number}", {"gap/extraction": 0.1, "oracle/linear_auroc": None})
    projection.study_ended(summary={"rows": summary}, note="done")


def told(root: Path, tell=tell_study, **kwargs) -> Projection:
    projection = Projection(root=root, study="s")
    tell(projection, **kwargs)
    assert projection.flush(60), projection.problems
    projection.close()
    assert projection.problems == []
    return projection


def query(root: Path, sql: str) -> list[tuple]:
    with sqlite3.connect(root / "mlflow.db") as connection:
        return connection.execute(sql).fetchall()


def contents(root: Path) -> dict[str, list[tuple]]:
    tables = ("runs", "metrics", "latest_metrics", "params", "tags", "inputs", "datasets", "experiment_tags")
    return {table: sorted(query(root, f"select * from {table}"), key=repr) for table in tables}


def test_a_study_is_a_parent_with_a_child_for_each_trial(root):
    told(root)
    assert sorted(query(root, "select name, status from runs")) == [
        ("classifier/0/0", "FINISHED"), ("classifier/0/1", "FINISHED"), ("s", "FINISHED"),
    ]  # fmt: skip
    ((parent,),) = query(root, "select run_uuid from runs where name = 's'")
    assert query(root, "select value, count(*) from tags where key = 'mlflow.parentRunId' group by 1") == [(parent, 2)]
    selected = query(root, "select name, t.value from tags t join runs using (run_uuid) where key = 'selected'")
    assert sorted(selected) == [("classifier/0/0", "true"), ("classifier/0/1", "false")]
    assert query(root, "select count(*) from metrics where key = 'train/loss'") == [(6,)]
    assert query(root, "select distinct key, value from metrics where key in ('gap/extraction', 'signal/val_nll', "
                       "'train/seconds', 'oracle/linear_auroc') order by key") == [
        ("gap/extraction", 0.1), ("signal/val_nll", 0.3), ("train/seconds", 1.5),
    ]  # fmt: skip
    assert ("search.trials", "2") in query(root, "select key, value from params")
    assert query(root, "select name, digest from datasets") == [("digits-nominal-0", ("ab12" * 16)[:36])]
    assert query(root, "select end_time from runs where name = 'classifier/0/0'") == [(int((START + 9) * 1000),)]
    ((note,),) = query(root, "select value from tags where key = 'mlflow.note.content'")
    assert note.endswith("done")
    assert note.count("](#/experiments/1/runs/") == 2
    artifacts = root / "mlartifacts" / "s" / parent / "artifacts"
    assert (artifacts / "spec.toml").read_text() == 'name = "s"\n'


def test_a_replay_in_a_new_process_changes_nothing(root):
    script = "from tests_study import told; from pathlib import Path; import sys; told(Path(sys.argv[1]))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root / "code"), str(ROOT)])}
    (root / "code").mkdir()
    shutil.copy(__file__, root / "code" / "tests_study.py")
    told(root)
    before = contents(root)
    subprocess.run([sys.executable, "-c", script, str(root)], env=environment, check=True, timeout=120)
    assert contents(root) == before


def test_a_replay_told_slowly_never_shows_an_ended_trial_as_running(root):
    told(root)
    before = contents(root)
    ((artifact,),) = {(path,) for path in (root / "mlartifacts").rglob("spec.toml")}
    uploaded = artifact.stat().st_mtime_ns
    again = Projection(root=root, study="s")
    again.study_started(spec={}, spec_text='name = "s"\n', stamp={"torch": "2"}, data=[MANIFEST])
    again.trial_started("classifier/0/1", {"learning_rate": 0.1}, {"seed": 7})
    assert again.flush(60)
    assert contents(root) == before
    again.trial_metrics("classifier/0/1", rows(range(3)))
    assert again.flush(60)
    again.trial_revealed("classifier/0/1", {"gap/extraction": 0.1})
    again.close()
    assert contents(root) == before
    assert artifact.stat().st_mtime_ns == uploaded


def test_selecting_another_trial_later_takes_the_tag_from_the_first(root):
    told(root)
    told(root, lambda projection: projection.trial_selected("classifier/0/1"))
    selected = query(root, "select name, t.value from tags t join runs using (run_uuid) where key = 'selected'")
    assert sorted(selected) == [("classifier/0/0", "false"), ("classifier/0/1", "true")]


def test_a_killed_driver_s_trial_goes_on_as_the_same_run_with_one_point_an_epoch(root):
    killed = Projection(root=root, study="s")
    killed.trial_started("hybrid/0/3", {"learning_rate": 0.1})
    killed.trial_metrics("hybrid/0/3", rows(range(3)))
    assert killed.flush(60)  # and never closed: its run stays as it is
    assert query(root, "select status from runs where name = 'hybrid/0/3'") == [("RUNNING",)]

    def resume(projection):
        projection.trial_started("hybrid/0/3", {"learning_rate": 0.1})
        projection.trial_metrics("hybrid/0/3", rows(range(2, 5), late=60))  # epoch 2 again, a minute later
        projection.trial_ended("hybrid/0/3", "completed", {})

    told(root, resume)
    assert query(root, "select status from runs where name = 'hybrid/0/3'") == [("FINISHED",)]
    assert query(root, "select step, count(*) from metrics where key = 'val/nll' group by 1 order by 1") == [
        (e, 1) for e in range(5)
    ]


def test_what_has_not_ended_is_scheduled_at_the_close_and_runs_again_later(root):
    def stopped(projection):
        projection.study_started(spec={}, spec_text="", stamp={})
        projection.trial_started("m/0/0", {})

    told(root, stopped)
    assert query(root, "select distinct status from runs") == [("SCHEDULED",)]
    again = Projection(root=root, study="s")
    stopped(again)
    assert again.flush(60)
    assert query(root, "select distinct status from runs") == [("RUNNING",)]
    again.close()


def test_a_failed_trial_says_why_and_what_is_not_finite_is_left_out(root):
    def diverge(projection):
        projection.trial_started("m/0/0", {})
        projection.trial_metrics("m/0/0", rows(range(1)) + rows(range(1, 2), train_loss=math.nan, val_nll=math.inf))
        projection.trial_ended("m/0/0", "failed", {"val_ece": math.nan}, "diverged: loss is NaN")

    told(root, diverge)
    assert query(root, "select status from runs where name = 'm/0/0'") == [("FAILED",)]
    tags = dict(query(root, "select key, value from tags"))
    assert tags["reason"] == "diverged: loss is NaN"
    assert tags["oraclegap.not_finite"] == "signal/val_ece, train/loss, val/nll"
    assert query(root, "select step, key from metrics where step = 1 order by key") == [
        (1, "train/learning_rate"), (1, "val/accuracy"),
    ]  # fmt: skip


def test_a_changed_parameter_is_a_tag_since_mlflow_never_changes_one(root):
    told(root, lambda p: p.study_started(spec={"search": {"trials": 12}}, spec_text="", stamp={}))
    told(root, lambda p: p.study_started(spec={"search": {"trials": 24}}, spec_text="", stamp={}))
    assert query(root, "select value from params where key = 'search.trials'") == [("12",)]
    assert query(root, "select value from tags where key = 'oraclegap.changed.search.trials'") == [("24",)]


def test_a_study_deleted_and_launched_again_gets_runs_of_its_own(root):
    told(root, trials=1)
    shutil.rmtree(root / "s")
    told(root, trials=1)
    assert query(root, "select count(*), count(distinct experiment_id) from runs") == [(4, 2)]
    names = sorted(name for (name,) in query(root, "select name from experiments where name != 'Default'"))
    assert names[0] == "s"
    assert names[1].startswith("s-")


def test_an_outage_is_told_once_raises_nothing_and_is_caught_up_with(root, empty_database):
    away = root / "store"
    away.write_text("a file where the folder of the store should be")
    projection = Projection(root=root, study="s", uri=f"sqlite:///{away}/mlflow.db")
    tell_study(projection)
    assert not projection.flush(20)
    assert not projection.flush(20)
    assert len(projection.problems) == 1
    assert "catches up" in projection.problems[0]
    away.unlink()
    away.mkdir()
    shutil.copy(empty_database, away / "mlflow.db")
    assert projection.flush(60), projection.problems
    projection.close()
    assert query(away, "select count(*) from runs") == [(3,)]
    assert query(away, "select count(*) from metrics where key = 'train/loss'") == [(6,)]


def test_what_a_write_had_to_leave_is_written_later_and_two_failures_are_told_as_one(root):
    projection = Projection(root=root, study="s")
    projection.study_started(spec={}, spec_text="", stamp={})
    assert projection.flush(60)
    for table in ("params", "latest_metrics"):  # a write that fails halfway, twice, in different words
        with sqlite3.connect(root / "mlflow.db") as connection:
            connection.execute(f"alter table {table} rename to away")
        if table == "params":
            projection.trial_started("m/0/0", {"learning_rate": 0.1})
            projection.trial_metrics("m/0/0", rows(range(2)))
        assert not projection.flush(60)
        with sqlite3.connect(root / "mlflow.db") as connection:
            connection.execute(f"alter table away rename to {table}")
    assert projection.flush(60)
    assert len(projection.problems) == 1
    projection.close()
    assert query(root, "select value from params where key = 'learning_rate'") == [("0.1",)]
    assert query(root, "select step, count(*) from metrics where key = 'val/nll' group by 1") == [(0, 1), (1, 1)]
    assert query(root, "select count(*) from runs") == [(2,)]


def test_closing_while_the_store_is_away_takes_one_try_and_says_so(root):
    (root / "store").write_text("")
    projection = Projection(root=root, study="s", uri=f"sqlite:///{root}/store/mlflow.db")
    tell_study(projection)
    start = time.monotonic()
    projection.close(8)
    assert time.monotonic() - start < 8
    assert any("lacks" in line for line in projection.problems)


def test_telling_costs_the_caller_next_to_nothing(root):
    projection = Projection(root=root, study="s")
    start = time.perf_counter()
    tell_study(projection, trials=20, epochs=30)
    spent = time.perf_counter() - start
    projection.close(60)
    assert spent < 0.5, f"{spent:.3f} s: the writer's work is done by the caller"


def test_offline_writes_nothing_at_all(tmp_path):
    projection = Projection(root=tmp_path, study="s", offline=True)
    tell_study(projection)
    projection.close()
    assert list(tmp_path.iterdir()) == []


def test_no_environment_variable_reaches_mlflow(root, monkeypatch):
    monkeypatch.setenv("ORACLEGAP_TEST_SECRET", "hunter2-in-the-environment")
    told(root, trials=1)
    assert b"hunter2-in-the-environment" not in (root / "mlflow.db").read_bytes()


def test_the_database_appears_whole_or_not_at_all(tmp_path):
    """A launch killed while MLflow makes its tables must leave nothing that a later one cannot open."""
    import signal
    import subprocess
    import sys
    import time

    from study.mlflow_database import make_database

    path = tmp_path / "mlflow.db"
    code = f"from study.mlflow_database import make_database; from pathlib import Path; make_database('sqlite:///{path}', Path('{tmp_path}'))"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(tmp_path.glob(".mlflow.db.*.tmp")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not path.exists(), "it was killed while the file was being made"
    make_database(f"sqlite:///{path}", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mlflow.db"], "what the killed one left is gone"
    before = path.stat().st_mtime_ns
    make_database(f"sqlite:///{path}", tmp_path)
    assert path.stat().st_mtime_ns == before


def test_the_machines_load_is_shown_on_request(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING", "1")
    projection = Projection(root=root, study="s")
    projection.study_started(spec={}, spec_text="", stamp={})
    deadline = time.monotonic() + 60
    wanted = "select distinct name from runs join metrics using (run_uuid) where key like 'system/cpu%'"
    while not (found := query(root, wanted)) and time.monotonic() < deadline:
        time.sleep(0.1)
    projection.study_ended()
    projection.close(60)
    assert found == [("s",)] and projection.problems == []
    assert query(root, "select status from runs") == [("FINISHED",)]


def test_no_load_is_shown_unasked(root):
    told(root)
    assert query(root, "select count(*) from metrics where key like 'system/%'") == [(0,)]
