"""How many trials fit, and who is ended when a driver dies."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import study.watchdog as watchdog
from study.errors import EnvironmentProblem
from study.jobs import Job, WarmUp, run_jobs
from study.local_cluster import in_advance, settings
from study.runtime import Cluster, _cluster, _notes, ray_cluster
from study.search import trials_at_a_time
from study.spec import ResourcesSpec, StudySpec


@pytest.mark.parametrize(("cpus", "gpus", "cpus_per_trial", "gpus_per_trial", "wanted", "expected"), [
    (2, 0, 1, 0, 0, 2), (2, 0, 0.5, 0, 0, 4), (2, 0, 2, 0, 0, 1), (16, 1, 1, 0.25, 0, 4), (16, 2, 1, 0.25, 0, 8),
    (3, 1, 1, 0.25, 0, 3), (16, 1, 1, 1.0, 0, 1), (16, 1, 1, 0.3, 0, 3), (16, 1, 1, 0.25, 2, 2), (2, 0, 1, 0, 1, 1),
    (2, 0, 1, 0, 99, 2), (16, 2, 1, 0.4, 0, 4),
])
def test_as_many_trials_as_fit(cpus, gpus, cpus_per_trial, gpus_per_trial, wanted, expected):
    assert Cluster(cpus, gpus, cpus_per_trial, gpus_per_trial).concurrency(wanted) == expected


def test_a_share_of_a_gpu_only_where_there_is_one():
    resources = ResourcesSpec(cpus_per_trial=1, gpus_per_trial=0.25)
    assert _cluster([(4.0, 1.0)], resources).gpus_per_trial == 0.25
    assert _cluster([(4.0, 0.0)], resources).gpus_per_trial == 0
    with pytest.raises(EnvironmentProblem, match="cpus_per_trial = 8, but the cluster has 4 CPUs"):
        _cluster([(4.0, 0.0)], ResourcesSpec(cpus_per_trial=8))


def test_a_trial_must_fit_on_one_node():
    """It would wait for ever, in silence."""
    with pytest.raises(EnvironmentProblem, match="no node of the cluster has more than 4 CPUs"):
        _cluster([(4.0, 0.0), (4.0, 0.0)], ResourcesSpec(cpus_per_trial=8))
    with pytest.raises(EnvironmentProblem, match="no node of the cluster has both 4 CPUs and 0.25 of a GPU"):
        _cluster([(2.0, 1.0), (8.0, 0.0)], ResourcesSpec(cpus_per_trial=4, gpus_per_trial=0.25))
    assert _cluster([(3.0, 0.0), (3.0, 0.0)], ResourcesSpec(cpus_per_trial=2)).concurrency(0) == 2
    mixed = _cluster([(0.0, 0.0), (2.0, 1.0), (16.0, 1.0)], ResourcesSpec(cpus_per_trial=1, gpus_per_trial=0.25))
    assert mixed.concurrency(0) == 2 + 4 and (mixed.cpus, mixed.gpus) == (18, 2)


def test_a_local_cluster_has_so_many_trials_and_one_of_others_as_many_as_come():
    spec = StudySpec.parse({"name": "x", "methods": ["classifier"]})
    assert trials_at_a_time(spec, Cluster(4, 0, 1, 0)) == 4
    assert trials_at_a_time(spec, Cluster(4, 0, 1, 0, grows=True)) is None
    for most in (3, 16):  # as many as are asked for once there are nodes for them
        assert trials_at_a_time(spec.changed({"search.max_concurrent": most}), Cluster(4, 0, 1, 0, grows=True)) == most
    assert trials_at_a_time(spec.changed({"search.max_concurrent": 16}), Cluster(4, 0, 1, 0)) == 4


@pytest.mark.parametrize("address", ["127.0.0.1:9", "[::1]:9", "no-such-host.invalid:6379"])
def test_a_cluster_that_is_not_there_is_told_at_once(address):
    import ray  # noqa: F401  (which takes seconds on a busy machine)

    began = time.monotonic()
    with pytest.raises(EnvironmentProblem, match=r"no Ray cluster at .*start one"), ray_cluster(ResourcesSpec(address=address)):
        pass
    assert time.monotonic() - began < 10


def test_rays_client_is_refused_where_the_environment_names_it(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "ray://10.0.0.7:10001")
    with pytest.raises(EnvironmentProblem, match="no search can run through Ray's client"), ray_cluster(ResourcesSpec()):
        pass


@pytest.mark.parametrize(("address", "mode", "warned"), [
    ("10.0.0.7:6379", "", True), ("10.0.0.7:6379", "token", False), ("127.0.0.1:6379", "", False), ("[fe80::1]:6379", "", True)])
def test_a_cluster_without_a_token_is_told_of(monkeypatch, address, mode, warned):
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    assert bool(_notes(address)) == warned and all("RAY_AUTH_MODE=token" in note for note in _notes(address))


@pytest.mark.slow
def test_trials_get_workers_that_were_started_in_advance_and_have_their_own_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    class Actor:  # in here, since workers cannot import a test file
        def look(self) -> tuple[int, set[str], int, bool]:
            from pathlib import Path

            import torch

            missing = {"torch", "ray.tune", "trainables.fit"} - sys.modules.keys()
            return os.getpid(), missing, torch.get_num_threads(), "jemalloc" in Path("/proc/self/maps").read_text()

    with ray_cluster(ResourcesSpec(address="local")) as cluster:
        import ray
        from ray._private.services import JEMALLOC_SO

        cluster.wait_for_workers(60)  # more patiently than a study: here, others use the machine too
        waiting = {int(file.name) for file in cluster.ready.iterdir() if file.name.isdigit()}
        assert len(waiting) == int(cluster.cpus)
        like_tunes = ray.remote(Actor).options(runtime_env={"env_vars": {}}, num_cpus=1)  # as study.search has Tune do
        for _ in range(4):  # a worker that Ray hears of late on a busy machine gets a later actor
            actor = like_tunes.remote()
            pid, missing, threads, allocator = ray.get(actor.look.remote())
            if pid in waiting:
                break
            ray.kill(actor)
        assert pid in waiting and threads == 1 and not missing
        assert allocator or JEMALLOC_SO is None  # what Ray brings for its own processes
    assert not cluster.ready.exists() and not {"OMP_NUM_THREADS", "MALLOC_CONF"} & os.environ.keys()


def test_an_allocator_that_somebody_chose_is_left_alone(monkeypatch, tmp_path):
    for name in ("LD_PRELOAD", "MALLOC_CONF", "RAY_LD_PRELOAD_ON_WORKERS"):
        monkeypatch.delenv(name, raising=False)
    assert settings(ResourcesSpec(), tmp_path)["RAY_LD_PRELOAD_ON_WORKERS"] == "1"
    monkeypatch.setenv("RAY_LD_PRELOAD_ON_WORKERS", "0")
    assert "RAY_LD_PRELOAD_ON_WORKERS" not in settings(ResourcesSpec(), tmp_path)
    monkeypatch.setenv("LD_PRELOAD", "libtcmalloc.so")
    assert not {"MALLOC_CONF", "LD_PRELOAD"} & settings(ResourcesSpec(), tmp_path).keys()


def heard(ready, words, cpus=2.0) -> float:
    """Seconds that a search waits for workers who say ``words``, {seconds: file name}, patient for 0.4 s."""
    def speak() -> None:
        began = time.monotonic()
        for when, word in words.items():
            time.sleep(max(0.0, began + when - time.monotonic()))
            (ready / word).touch()

    speaker = threading.Thread(target=speak)
    speaker.start()
    began = time.monotonic()
    Cluster(cpus, 0, 1, 0, ready=ready).wait_for_workers(0.4)
    took = time.monotonic() - began
    speaker.join()
    return took


def test_slow_workers_are_waited_for_and_silent_ones_are_not(tmp_path):
    for name in ("slow", "dead", "half", "none"):
        (tmp_path / name).mkdir()
    steps = {0.2: "11.began", 0.4: "12.began", 0.6: "11.torch", 0.8: "12.torch", 1.0: "11", 1.2: "12"}
    assert heard(tmp_path / "slow", steps) >= 1.2
    assert heard(tmp_path / "dead", {0.1: "11.began", 1.1: "12.began"}) < 1.0
    assert heard(tmp_path / "half", {0.0: "11", 1.0: "12"}) < 0.9
    assert heard(tmp_path / "none", {0.0: "11"}, cpus=0.5) < 0.8
    Cluster(2, 0, 1, 0).wait_for_workers(60)  # nobody was started: returns at once


def test_a_worker_that_comes_after_every_cpu_has_one_is_for_jobs(tmp_path, monkeypatch):
    from study import worker

    monkeypatch.delenv(worker.READY, raising=False)
    assert not worker._comes_late()  # of a cluster of others, where nobody counts
    monkeypatch.setenv(worker.READY, str(tmp_path))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    for pid in (11, 12):
        assert not worker._comes_late()
        (tmp_path / f"{pid}.began").touch()
    assert worker._comes_late()


@pytest.mark.slow
def test_jobs_go_to_workers_that_the_search_has_warmed(tmp_path):
    def whoami(*, folder: Path) -> dict:
        return {"pid": os.getpid()}

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with ray_cluster(ResourcesSpec(address="local")) as cluster:
        import ray

        workers = WarmUp(cluster, scratch)
        workers.start()
        workers.start()
        assert len(workers.started) == cluster.concurrency(0)
        assert not ray.wait(workers.started, timeout=0.2)[0]  # they wait as long as the search goes on
        scratch.rmdir()
        workers.wait()
        jobs = [Job(kind="who", inputs={"n": n}, run=whoami) for n in range(2)]
        assert {result["pid"] for result in run_jobs(jobs, tmp_path, cluster)} <= set(ray.get(workers.started))


@pytest.mark.slow
@pytest.mark.parametrize(("cards", "processes"), [(1, 1), (2, 3)])
def test_jobs_share_a_process_only_where_there_is_one_card(tmp_path, monkeypatch, cards, processes):
    """Cards that only Ray was told of. CUDA would stay on the card on which the process began."""
    def whoami(*, folder: Path) -> dict:
        return {"pid": os.getpid()}

    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", f'{{"CPU": 1, "GPU": {cards}}}')
    with ray_cluster(ResourcesSpec(address="local", gpus_per_trial=0.5)) as cluster:
        assert (cluster.gpus, cluster.gpus_per_trial) == (cards, 0.5)
        cluster.wait_for_workers()
        jobs = [Job(kind="who", inputs={"n": n}, run=whoami) for n in range(3)]
        assert len({result["pid"] for result in run_jobs(jobs, tmp_path, cluster)}) == processes


@pytest.mark.parametrize(("cores", "cpus_per_trial", "expected"), [
    (2, 1, True), (16, 0.5, True), (16, 2, False), (17, 1, False), (None, 1, True)])
def test_workers_are_started_in_advance_where_nearly_all_will_have_a_trial(monkeypatch, cores, cpus_per_trial, expected):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert in_advance(ResourcesSpec(cpus_per_trial=cpus_per_trial)) == expected


def test_where_a_trial_takes_several_cpus_nobody_waits():
    began = time.monotonic()
    Cluster(8, 0, 4, 0).wait_for_workers()
    assert time.monotonic() - began < 1


SLEEP = "import time; time.sleep(60)"
#: A child with a child, both deaf and dumb: nobody waits for their output.
PARENT = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {SLEEP!r}])
time.sleep(60)
"""


def driver(*, announce: bool) -> str:
    """A driver with a child of its own, that starts the watchdog, then a child with a child, and waits for its end."""
    script = Path(watchdog.__file__)
    return f"""
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {SLEEP!r}], stdout=subprocess.DEVNULL)
dog = subprocess.Popen([sys.executable, "-S", "-E", {str(script)!r}, str(os.getpid()), str(os.getsid(0))],
                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
dog.stdout.readline()
subprocess.Popen([sys.executable, "-c", {PARENT!r}], stdout=subprocess.DEVNULL)
time.sleep(2.5)
print("ready", flush=True)
sys.stdin.readline()
if {announce}:
    dog.communicate(b"done\\n")
"""


def alive(pids) -> set[int]:
    return set(pids) & watchdog.processes().keys()


@pytest.mark.slow
@pytest.mark.parametrize("announce", [False, True])
def test_what_a_dead_driver_started_is_ended_and_nothing_of_one_that_said_goodbye(announce):
    process = subprocess.Popen([sys.executable, "-c", driver(announce=announce)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True, start_new_session=True)
    bystander = subprocess.Popen([sys.executable, "-c", SLEEP])
    try:
        process.stdout.readline()
        family = watchdog.family({process.pid})
        dog = [pid for pid in family if pid != process.pid and b"watchdog.py" in watchdog.command_of(pid)]
        earlier, *_ = sorted(family.keys() - {process.pid})
        below = family.keys() - {process.pid, earlier, *dog}
        assert len(below) == 2 and len(dog) == 1
        if announce:
            process.communicate("\n")
        else:
            process.kill()
            process.wait()
        deadline = time.monotonic() + 10
        while (alive(dog) or (not announce and alive(below))) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not alive(dog) and alive(below) == (below if announce else set())
        assert bystander.poll() is None and alive({earlier})
    finally:
        bystander.kill()
        for pid in alive({*below, earlier}):
            os.kill(pid, 9)
