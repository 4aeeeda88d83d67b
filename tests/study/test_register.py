"""``export --register``: a version of a registered model, led to by its trial's run, served by MLflow's own server."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import run

from study import OpenSetDetector, Study
from study.errors import UserError
from study.ui import end


@pytest.fixture(scope="module")
def runs(tiny, tmp_path_factory) -> Path:
    """A copy of the finished study's folder of runs, its MLflow database included, from which one version is registered."""
    runs = shutil.copytree(tiny.parent, tmp_path_factory.mktemp("register") / "runs")
    with sqlite3.connect(runs / "mlflow.db") as database:  # it knows where the original lies
        database.execute("update experiments set artifact_location = replace(artifact_location, ?, ?)",
                         (str(tiny.parent), str(runs)))
    (runs.parent / "here").mkdir()
    done = run("export", runs / "tiny", "--method", "classifier", "--register", "digits-detector", "--alias", "champion",
               cwd=runs.parent / "here")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == ("registered digits-detector, version 1: models:/digits-detector/1, also "
                                            "models:/digits-detector@champion")
    assert done.stderr == "" and not any((runs.parent / "here").iterdir())  # nothing is written where one stands
    return runs


@pytest.fixture(scope="module")
def client(runs):
    from study.mlflow_store import quiet_mlflow

    quiet_mlflow(server=False)
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{runs}/mlflow.db", registry_uri=f"sqlite:///{runs}/mlflow.db")


def model_of(client, version):
    return client.get_logged_model(version.source.removeprefix("models:/"))


def test_the_version_leads_to_the_run_of_its_trial(runs, client):
    version = client.get_model_version_by_alias("digits-detector", "champion")
    run = client.get_run(version.run_id)
    record = json.loads((runs / "tiny" / "export" / "classifier" / "detector.json").read_text())
    assert run.info.run_name == record["trial"] and run.data.tags["selected"] == "true"
    assert run.info.status == "FINISHED"
    assert version.tags["oraclegap.selection"] == record["selection"] and "An open-set detector" in version.description
    model = model_of(client, version)
    assert model.tags["mlflow.modelVersions"] == '[{"name": "digits-detector", "version": 1}]'
    assert (model.source_run_id, model.status) == (version.run_id, "READY")
    assert model.params == {name: str(value) for name, value in record["params"].items()}
    metrics = {metric.key: metric for metric in model.metrics}
    assert metrics["signal/val_accuracy"].value == run.data.metrics["signal/val_accuracy"]
    assert metrics["signal/val_accuracy"].dataset_name == "digits-nominal-0"
    assert metrics["test/scorer_auroc"].dataset_name is None  # measured on other images


def test_nothing_of_it_is_pickled_and_all_of_it_lies_with_the_runs(runs, client):
    version = client.get_model_version("digits-detector", "1")
    (folder,) = (runs / "mlartifacts").glob("*/models/*/artifacts")
    assert folder.resolve().as_uri().endswith(model_of(client, version).artifact_location.rpartition("/models/")[2])
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".py", ".json", ".toml", ".safetensors", ".md", ".txt", ".yaml", ".html", ".css", ""}
    assert (folder / "pyfunc_model.py").is_file() and (folder / "code" / "study" / "detector.py").is_file()
    assert not list((runs / "tiny" / "export").glob(".*"))


def test_the_next_one_is_the_next_version_and_a_replay_finds_what_it_expects(runs, client, monkeypatch):
    before = {run.info.run_id for run in client.search_runs(["1"])}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{runs}/mlflow.db")
    made = Study.open(runs / "tiny").register("digits-detector", method="hybrid")
    assert os.environ["MLFLOW_TRACKING_URI"] == f"sqlite:///{runs}/mlflow.db"
    assert (made.version, made.uri, made.alias) == ("2", "models:/digits-detector/2", None)
    assert client.get_model_version_by_alias("digits-detector", "champion").version == 1
    assert {run.info.run_id for run in client.search_runs(["1"])} == before


@pytest.mark.parametrize(("name", "alias", "words"), [
    ("a/b", None, "neither '/' nor ':'"), (" ", None, "not empty"), ("a", "latest", "neither 'latest'"), ("a", "v2", "like 'v2'"),
    ("a", "two words", "letters, digits"),
])
def test_names_that_mlflow_does_not_take_are_refused_first(runs, client, name, alias, words):
    with pytest.raises(UserError, match=words):
        Study.open(runs / "tiny").register(name, alias=alias, method="classifier")
    assert [model.name for model in client.search_registered_models()] == ["digits-detector"]


# -- served --------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def served(runs: Path, uri: str) -> Iterator[str]:
    """The address of MLflow's own server of that model, without oraclegap on its path; ended on leaving."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{runs}/mlflow.db", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # it starts uvicorn by its name
    }
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", uri, "--env-manager", "local", "-h", "127.0.0.1", "-p",
               str(port)]
    log = runs.parent / "serve.log"
    with log.open("w") as out:
        process = subprocess.Popen(command, env=environment, cwd=runs.parent, stdout=out, stderr=out, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                break
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        end(process)


def ask(address: str, body: dict) -> dict:
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_mlflows_server_answers_as_the_detector(runs):
    images = np.load(runs / "tiny" / "vault" / "0" / "test_anomaly_images.npy")[:5]
    detector = OpenSetDetector.load(runs / "tiny" / "export" / "classifier")
    label, score = detector.predict_and_score(images)
    with served(runs, "models:/digits-detector@champion") as address:
        found = ask(address, {"inputs": images.tolist()})["predictions"]
        assert [row["label"] for row in found] == list(label)
        assert np.allclose([row["anomaly_score"] for row in found], score, atol=1e-5)
        assert [row["is_anomaly"] for row in found] == list(score > detector.threshold_)
        with pytest.raises(urllib.error.HTTPError) as caught:
            ask(address, {"inputs": images[:, :4].tolist()})  # half an image
        assert caught.value.code == 400
