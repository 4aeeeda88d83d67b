"""``oraclegap ui``: on the loopback alone, for exactly its own names, opened on the table of gaps."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.parse
import urllib.request

import pytest

from study.errors import EnvironmentProblem, UserError
from study.mlflow_view import VIEWS, experiment_tags, view_path
from study.tracking import Projection
from study.ui import free_port, loopback, serve, server, studies


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """One server for this module (it takes seconds to start) over a store made by a projection."""
    root = tmp_path_factory.mktemp("runs")
    projection = Projection(root=root, study="digits", uri=f"sqlite:///{root}/mlflow.db")
    projection.study_started(spec={}, spec_text="", stamp={})
    projection.close(60)
    assert projection.problems == []
    with server(root, uri=f"sqlite:///{root}/mlflow.db", host="127.0.0.1", port=0) as (address, process):
        yield root, address, process
    assert process.poll() is not None


def status(address: str, *, host: str, origin: str | None = None) -> int:
    headers = {"Host": host, "Content-Type": "application/json"} | ({"Origin": origin} if origin else {})
    url = f"{address}/ajax-api/2.0/mlflow/experiments/search"
    request = urllib.request.Request(url, b'{"max_results": 1}', headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as problem:
        return problem.code


def test_only_this_machine_s_two_names_are_answered(running):
    _, address, _ = running
    own = urllib.parse.urlsplit(address).netloc
    port = own.rpartition(":")[2]
    assert status(address, host=own) == 200
    assert status(address, host=f"localhost:{port}") == 200
    # The first three pass MLflow's default patterns.
    for host in ("10.evil.com", f"192.168.evil.com:{port}", "0.0.0.0", "127.0.0.1", f"evil.com:{port}"):
        assert status(address, host=host) == 403, host


def test_another_site_s_page_cannot_change_anything(running):
    _, address, _ = running
    own = urllib.parse.urlsplit(address).netloc
    assert status(address, host=own, origin="http://evil.com") == 403
    assert status(address, host=own, origin=address) == 200


def test_it_listens_on_the_loopback_alone(running):
    _, address, _ = running
    port = urllib.parse.urlsplit(address).port
    # Linux answers on all of 127/8 only where a server listens on every address.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=2)


def test_a_study_is_listed_with_its_view_and_what_is_not_ours_is_not(running):
    _, address, _ = running
    assert [name for name, _ in studies(address)] == ["digits"]
    ((_, experiment_id),) = studies(address)
    assert view_path(experiment_id).startswith(f"/#/experiments/{experiment_id}/runs?viewStateShareKey=gaps&")


def test_a_projection_over_http_writes_the_same_and_a_replay_nothing(running, tmp_path):
    _, address, _ = running

    def tell():
        projection = Projection(root=tmp_path, study="remote", uri=address)
        projection.study_started(spec={"a": 1}, spec_text="a = 1\n", stamp={"torch": "2"})
        projection.trial_started("m/0/0", {"learning_rate": 0.1})
        row = {"epoch": 0, "train_loss": 1.0, "val_nll": 0.5, "val_accuracy": 0.9, "learning_rate": 0.1, "seconds": 1.0}
        projection.trial_metrics("m/0/0", [row | {"time": 1_795_561_000.0}])
        projection.trial_ended("m/0/0", "completed", {"val_nll": 0.5}, None, {"ended_at": 1_795_561_002.0})
        projection.study_ended(note="done")
        projection.close(60)
        assert projection.problems == []
        return projection.experiment_id

    def runs(experiment_id):
        body = json.dumps({"experiment_ids": [experiment_id]}).encode()
        request = urllib.request.Request(
            f"{address}/api/2.0/mlflow/runs/search", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)["runs"]

    first = runs(tell())
    assert sorted(run["info"]["run_name"] for run in first) == ["m/0/0", "remote"]
    assert {run["info"]["status"] for run in first} == {"FINISHED"}
    assert runs(tell()) == first


def test_a_taken_port_is_named(running):
    port = urllib.parse.urlsplit(running[1]).port
    with pytest.raises(EnvironmentProblem, match=f"port {port}.*--port"):
        free_port("127.0.0.1", port)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_an_address_others_can_reach_is_refused_with_the_way_round(tmp_path, host):
    with pytest.raises(UserError, match="no authentication.*ssh -L"):
        serve(tmp_path, host=host)


@pytest.mark.parametrize(("host", "bound"), [("localhost", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("::1", "::1")])
def test_the_loopback_s_names_are_taken(host, bound):
    assert loopback(host) == bound


def test_a_folder_without_studies_is_told_and_nothing_started(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError, match="no study was logged"):
        serve(tmp_path, port=0)
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_mlflow_cannot_read_ends_in_one_line(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_text("this is no database" * 100)
    with pytest.raises(EnvironmentProblem, match="did not start") as caught:
        serve(tmp_path, port=0)
    assert "\n" not in str(caught.value)


def test_the_saved_views_show_the_gaps_sorted_by_what_is_measured():
    for key, (name, columns, order) in VIEWS.items():
        value = experiment_tags()[f"mlflow.sharedViewState.{key}"]
        saved = json.loads(value)
        # 3.17's envelope, and the same state beside it for versions that read the tag as the state itself.
        assert saved["name"] == name
        assert {k: saved[k] for k in json.loads(saved["state"])} == json.loads(saved["state"])
        assert saved["selectedColumns"] == list(columns)
        assert saved["orderByKey"] == order
        assert order in columns
        assert len(value) < 5000  # the limit of an experiment's tag before MLflow 3.5
    gaps = json.loads(experiment_tags()["mlflow.sharedViewState.gaps"])["selectedColumns"]
    assert {"metrics.`gap/extraction`", "metrics.`gap/representation`"} <= set(gaps)
    nominal = json.loads(experiment_tags()["mlflow.sharedViewState.search"])["selectedColumns"]
    assert not any(name in column for column in nominal for name in ("gap/", "test/", "oracle/"))
