"""Jobs on a real local Ray: done once, found again, and never believed when their result does not verify."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from study.errors import EnvironmentProblem
from study.jobs import Job, WarmUp, run_jobs
from study.runtime import Cluster, ray_cluster
from study.spec import ResourcesSpec


def add(*, folder: Path, a: int, b: int) -> dict:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "runs", "a") as file:
        file.write("x")
    return {"sum": a + b}


def diverge(*, folder: Path) -> dict:
    from trainables.fit import Diverged

    raise Diverged("training loss is nan")


def stumble(*, folder: Path) -> dict:
    raise KeyError("a mistake in the code")


def fill_the_disk(*, folder: Path) -> dict:
    raise OSError(28, "No space left on device")


def die_once(*, folder: Path) -> dict:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"lived": True}


@pytest.fixture(scope="module")
def cluster():
    with ray_cluster(ResourcesSpec(address="local")) as cluster:
        from ray import cloudpickle

        cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test file
        yield cluster


def a_job(run, **arguments) -> Job:
    return Job(kind="test", inputs={"run": run.__name__, **arguments}, run=run, arguments=arguments, label=run.__name__)


@pytest.mark.slow
def test_a_job_runs_once_and_its_result_is_found_again(tmp_path, cluster):
    jobs = [a_job(add, a=1, b=2), a_job(add, a=3, b=4)]
    told = []
    assert run_jobs(jobs, tmp_path, cluster, on_done=lambda job, result: told.append(job)) == [{"sum": 3}, {"sum": 7}]
    assert run_jobs(jobs, tmp_path, cluster, on_done=lambda job, result: told.append(job)) == [{"sum": 3}, {"sum": 7}]
    assert len(told) == 2 and [(job.folder(tmp_path) / "runs").read_text() for job in jobs] == ["x", "x"]


def await_another(*, folder: Path, other: str) -> dict:
    deadline = time.monotonic() + 60
    while not Path(other).exists():
        if time.monotonic() > deadline:
            return {"reason": f"{other} has not come"}
        time.sleep(0.05)
    return {"sum": 0}


@pytest.mark.slow
def test_what_a_job_makes_possible_follows_it_and_waits_for_no_other(tmp_path, cluster):
    follower = a_job(add, a=5, b=6)
    first = a_job(add, a=1, b=2)
    longest = a_job(await_another, other=str(follower.path(tmp_path)))  # ends only once the other's follower has ended
    asked = []

    def then(job):
        asked.append(job)
        return [follower] if job is first else []

    for _ in range(2):  # the second time all are done
        results = run_jobs([first, longest], tmp_path, cluster if not asked else None, then=then)
        assert results == [{"sum": 3}, {"sum": 0}, {"sum": 11}]
    assert [asked.count(job) for job in (longest, first, follower)] == [2, 2, 2]


@pytest.mark.slow
@pytest.mark.parametrize("damage", [
    lambda stored: stored | {"result": {"sum": 999}},
    lambda stored: stored | {"inputs_digest": "0" * 64},
    lambda stored: "not even a mapping",
])
def test_a_changed_result_is_made_again(tmp_path, cluster, damage):
    job = a_job(add, a=1, b=2)
    run_jobs([job], tmp_path, cluster)
    path = job.path(tmp_path)
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    assert job.result(tmp_path) is None
    assert run_jobs([job], tmp_path, cluster) == [{"sum": 3}]
    path.write_text(path.read_text()[:40])  # torn
    assert job.result(tmp_path) is None


@pytest.mark.slow
def test_divergence_is_stored_and_a_mistake_in_the_code_is_tried_again(tmp_path, cluster):
    diverged, stumbled = a_job(diverge), a_job(stumble)
    results = run_jobs([diverged, stumbled], tmp_path, cluster)
    assert results[0]["reason"] == "diverged: training loss is nan" and results[1]["reason"].startswith("KeyError")
    assert diverged.result(tmp_path) == results[0] and stumbled.result(tmp_path) is None


@pytest.mark.slow
def test_a_full_disk_is_the_environment_and_leaves_the_job_open(tmp_path, cluster):
    job = a_job(fill_the_disk)
    with pytest.raises(EnvironmentProblem, match="No space left"):
        run_jobs([job], tmp_path, cluster)
    assert job.result(tmp_path) is None


@pytest.mark.slow
def test_a_killed_worker_is_replaced(tmp_path, cluster):
    assert run_jobs([a_job(die_once)], tmp_path, cluster) == [{"lived": True}]


def test_workers_of_others_are_not_kept_waiting(tmp_path):
    workers = WarmUp(Cluster(8, 0, 1, 0, grows=True), tmp_path)
    workers.start()
    workers.wait()
    assert workers.started == []
