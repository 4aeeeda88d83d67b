"""A study on a cluster that somebody else started: its nodes come and go, and its workers stand in another folder."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from check_study import check_every_trial_once
from conftest import ORACLEGAP, TINY, overrides

from study.doctor import doctor, doctor_text
from study.errors import EnvironmentProblem
from study.runtime import require_seen

METHODS, TRIALS, EPOCHS = ["classifier"], 4, 20


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A head without CPUs and one node, started elsewhere than where the study is launched."""
    from ray.cluster_utils import Cluster

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


@pytest.mark.slow
def test_a_study_outlives_a_node_and_uses_the_next(cluster, tmp_path):
    node = cluster.add_node(num_cpus=1, num_gpus=1)  # that Ray is told of: torch sees none
    pairs = [*TINY, 'resources.gpus_per_trial="auto"', f"methods={METHODS}", f"search.trials={TRIALS}", f"training.epochs={EPOCHS}", "analysis.questions=[]",
             f'resources.address="{cluster.address}"']
    study = tmp_path / "runs" / "tiny"
    with open(tmp_path / "launch.log", "w") as log:
        driver = subprocess.Popen([*ORACLEGAP, "launch", "digits", *overrides(*pairs)], cwd=tmp_path, stdout=log,
                                  stderr=subprocess.STDOUT, env=dict(os.environ))
    while not (study / "trials/classifier/0/1/metrics.jsonl").exists():
        assert driver.poll() is None, (tmp_path / "launch.log").read_text()
        time.sleep(0.05)
    cluster.remove_node(node, allow_graceful=False)
    cluster.add_node(num_cpus=1, num_gpus=1)
    assert driver.wait(timeout=400) == 0, (tmp_path / "launch.log").read_text()
    check_every_trial_once(study, methods=METHODS, trials=TRIALS, epochs=EPOCHS)
    assert len(list(study.glob("jobs/*/*/result.json"))) >= 3  # fold models, which a worker wrote
    assert json.loads((study / "selection.json").read_text())["selections"][0]["folds"]
    assert not list((tmp_path / "elsewhere").iterdir())
    assert "torch sees no CUDA device): each trial gets 0.25 of a GPU" in (tmp_path / "launch.log").read_text()


@pytest.mark.slow
def test_the_doctor_looks_at_every_node(cluster, tmp_path):
    cluster.add_node(num_cpus=1)
    found = doctor(root=tmp_path / "new" / "runs", address=cluster.address)
    rows = {row["name"]: (row["state"], row["words"]) for row in found["checks"]}
    assert found["well"] and rows["nodes"] == ("ok", "2 answer, 1 CPUs in all")
    assert rows["versions"][0] == rows["clocks"][0] == rows["shared storage"][0] == "ok"
    assert rows["GPUs"] == ("doubt", "none: trials run on CPUs")
    assert "A study can run here." in doctor_text(found)
    assert not list((tmp_path / "new").rglob("*"))


def test_what_a_worker_wrote_out_of_sight_is_told(tmp_path):
    with pytest.raises(EnvironmentProblem, match="must lie on storage that every node of the cluster shares"):
        require_seen(tmp_path / "result.json", seconds=0.2)
    Path(tmp_path / "result.json").touch()
    require_seen(tmp_path / "result.json", seconds=0)
