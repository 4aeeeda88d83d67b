"""Ray, started quietly, and gone when its driver is.

A driver that is killed cannot stop the processes it started, so ``study.watchdog`` waits on a pipe from it: when the pipe
closes unannounced, it ends exactly those processes.

Workers learn of a study's plug-ins by an environment variable. A local cluster inherits it; to one that runs already, it
is sent with the modules themselves, which other machines may not have.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analysis import plugins
from study.errors import EnvironmentProblem
from study.local_cluster import in_advance, native_warnings_hidden, settings, without_monitors
from study.spec import ResourcesSpec

#: Set before Ray is imported: no usage reports, no per-trial log files, no second progress table.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}

PATIENCE = 10.0  # seconds without a sign from them
SEEN_SECONDS = 30.0  # after which a file that another node wrote should be seen here


@dataclass(frozen=True)
class Cluster:
    """What the study may use."""

    cpus: float
    gpus: float
    cpus_per_trial: float
    gpus_per_trial: float
    grows: bool = False  # a cluster of others, whose nodes come and go
    notes: tuple[str, ...] = ()  # what its user should know
    ready: Path | None = None  # where workers started in advance say that they are
    nodes: tuple[tuple[float, float], ...] = ()  # CPUs and GPUs of each node; where it is empty there is one

    def concurrency(self, wanted: int) -> int:
        """Trials at a time: as many as fit now, each on one node, or ``wanted`` where that is fewer."""
        fit = sum(self._fitting(*node) for node in self._each_node)
        return min(fit, wanted) if wanted else fit

    @property
    def several_cards(self) -> bool:
        """Whether a node has more than one GPU, so that a process could be given another one than before."""
        return any(gpus > 1 for _, gpus in self._each_node)

    @property
    def _each_node(self) -> tuple[tuple[float, float], ...]:
        return self.nodes or ((self.cpus, self.gpus),)

    def _fitting(self, cpus: float, gpus: float) -> int:
        fit = int(cpus // self.cpus_per_trial)
        return min(fit, trials_on_a_card(self.gpus_per_trial) * int(gpus)) if self.gpus_per_trial else fit

    def wait_for_workers(self, patience: float = PATIENCE) -> None:
        """Until those that were started in advance are ready: asked before, Ray would start others beside them.

        Not longer than ``patience`` seconds without a sign from any of them: on a busy machine each import takes its time,
        but of a worker that died nothing more is heard.
        """
        if self.ready is None:
            return
        signs, heard = set(), time.monotonic()
        while sum(name.isdigit() for name in signs) < int(self.cpus) and time.monotonic() < heard + patience:
            time.sleep(0.02)
            if (now := {file.name for file in self.ready.iterdir()}) != signs:
                signs, heard = now, time.monotonic()
        time.sleep(0.3)  # they tell Ray after they have told us


class WhenNeeded:
    """A ``Cluster`` that is joined, or started, when it is first asked for anything: a launch that finds all work done needs none."""

    def __init__(self, start: Callable[[], Cluster]):
        """``start`` is called once at most."""
        self.get = functools.cache(start)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.get(), name)


def trials_on_a_card(share: float) -> int:
    """How many trials of that share (above 0) of a GPU one card holds; a third written with few digits is a third."""
    return int(1 / share + 1e-9)


@contextmanager
def ray_cluster(resources: ResourcesSpec, plugin_references: Iterable[str] = ()) -> Iterator[Cluster]:
    """Connects to the cluster of ``address``, or starts a local one that ends with this process. Workers load the
    plug-ins when they first need one."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    mine = not ray.is_initialized()
    watchdog = None
    references = list(plugin_references)
    with tempfile.TemporaryDirectory(prefix="oraclegap-workers-", ignore_cleanup_errors=True) as ready:
        if mine:
            watchdog = _connect(ray, resources.address, references, settings(resources, Path(ready)))
        elif references:
            _check_that_workers_know(ray, references)
        try:
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            found = _cluster([(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in nodes], resources)
            own = replace(found, ready=Path(ready) if in_advance(resources) else None)
            yield own if watchdog else replace(found, grows=True, notes=_notes(ray.get_runtime_context().gcs_address))
        finally:
            if mine:
                ray.shutdown()
            if watchdog is not None:
                _dismiss(watchdog)


@contextmanager
def joined_cluster(resources: ResourcesSpec) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """(Ray, connected to the cluster that a launch would join, what its user should know), or (None, ()) where a launch
    would start one. Raises ``EnvironmentProblem`` as a launch would."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    address = resources.address
    address = (_cluster_of_this_machine() or "local") if address == "auto" else address
    if address == "local":
        yield None, ()
        return
    _connect(ray, address, [], {})
    try:
        yield ray, _notes(ray.get_runtime_context().gcs_address)
    finally:
        ray.shutdown()


def _connect(ray, address: str, references: list[str], own: dict[str, str]) -> subprocess.Popen | None:
    """``own``: environment variables for a cluster of our own."""
    joined = {"runtime_env": _runtime_env(references)} if references else {}
    options = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    if address not in ("auto", "local"):
        _check_that_someone_listens(address)
        try:
            ray.init(address=address, **joined, **options)
        except Exception as error:  # Ray raises ConnectionError, ValueError or RuntimeError for the same thing
            raise EnvironmentProblem(f"no Ray cluster at {address}: {' '.join(str(error).split())[:200]}") from None
        return None
    if address == "auto" and (running := _cluster_of_this_machine()):
        try:
            ray.init(address=running, **joined, **options)
            return None
        except ConnectionError:
            pass  # it has ended: start one
    watchdog = _start_watchdog()
    try:
        with native_warnings_hidden(), environment({**own, **plugins.environment(references)}), without_monitors():
            ray.init(address="local", include_dashboard=False, **options)
    except Exception as error:
        _dismiss(watchdog)
        raise EnvironmentProblem(f"Ray cannot be started here: {' '.join(str(error).split())[:200]}") from error
    return watchdog


def require_seen(path: Path, seconds: float = SEEN_SECONDS) -> None:
    """Raises ``EnvironmentProblem`` where a file that a worker has written cannot be seen here.

    A network file system may show it some seconds late; one that is not shared, never.
    """
    deadline = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > deadline:
            raise EnvironmentProblem(
                f"a worker wrote {path}, but it is not there: the study must lie on storage that every node of the cluster "
                "shares, under the same path; choose such a place with --root and launch again"
            )
        with contextlib.suppress(OSError):
            os.listdir(path.parent)  # makes NFS look again
        time.sleep(0.1)


def _check_that_someone_listens(address: str, timeout: float = 4.0) -> None:
    """Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=timeout).close()
    except OSError as error:
        raise EnvironmentProblem(f"no Ray cluster at {address}: {error.strerror or error}; start one, or leave "
                                 "resources.address at \"auto\"") from None


def _notes(address: str) -> tuple[str, ...]:
    """A warning where anybody who reaches the cluster, whose head is at ``address``, may run programs on it."""
    host = address.rpartition(":")[0]
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "token" or host.startswith("127.") or host in ("localhost", "::1"):
        return ()
    return (f"the Ray cluster at {host} asks for no token: whoever reaches it can run programs on it; start it, and this, "
            "with RAY_AUTH_MODE=token",)


def _runtime_env(references: list[str]) -> dict:
    """What workers of a cluster that runs already need: the variable, and modules that no package installed."""
    shipped = plugins.places(references)
    # a study that lies inside a plug-in's package must not travel with it, sealed side and all
    modules = {"py_modules": shipped, "excludes": ["vault/", "view/", ".git/"]} if shipped else {}
    return {"env_vars": plugins.environment(references), **modules}


def _check_that_workers_know(ray, references: list[str]) -> None:
    """A connection that the caller has made cannot be told of plug-ins any more: it must have been made with them."""
    told = ray.get(ray.remote(num_cpus=0)(lambda: os.environ.get(plugins.VARIABLE)).remote())
    if told != plugins.environment(references)[plugins.VARIABLE]:
        raise EnvironmentProblem(
            f"Ray was started in this process before the study, so its workers do not know {', '.join(references)}; "
            "call ray.shutdown() first and let the study connect"
        )


@contextlib.contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Sets environment variables for what is started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _cluster_of_this_machine() -> str | None:
    """The cluster that ``RAY_ADDRESS`` names, or that ``ray start`` began here.

    Ray's own "auto" also joins a cluster that another driver holds for itself, and which will end with it.
    """
    from ray._private.utils import read_ray_address

    found = os.environ.get("RAY_ADDRESS") or read_ray_address()
    if found and found.startswith("ray://"):
        raise EnvironmentProblem(f"RAY_ADDRESS={found}: no search can run through Ray's client; launch on a node of the cluster, "
                                 "with the head's host:port")
    return found


def _start_watchdog() -> subprocess.Popen:
    # A session of its own: Ctrl-C in the terminal must not end the one who cleans up.
    watchdog = subprocess.Popen(
        [sys.executable, "-S", "-E", str(Path(__file__).with_name("watchdog.py")), str(os.getpid()), str(os.getsid(0))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    )
    watchdog.stdout.readline()  # it has seen what was here before Ray, which it must leave alone
    return watchdog


def _dismiss(watchdog: subprocess.Popen) -> None:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        watchdog.communicate(b"done\n", timeout=10)


def _cluster(nodes: list[tuple[float, float]], resources: ResourcesSpec) -> Cluster:
    """``nodes``: CPUs and GPUs of each. A trial that fits on none of them would wait for ever, and Tune would say nothing."""
    cpus, gpus = (sum(column) for column in zip(*nodes, strict=True))
    # "auto": a whole card until study.gpu_share has measured how much a trial takes
    wanted = 1.0 if resources.gpus_per_trial == "auto" else resources.gpus_per_trial
    found = Cluster(cpus, gpus, resources.cpus_per_trial, wanted if gpus else 0.0, nodes=tuple(nodes))
    most = max(node[0] for node in nodes)
    if resources.cpus_per_trial > most:
        where = f"the cluster has {cpus:g} CPUs" if len(nodes) == 1 else f"no node of the cluster has more than {most:g} CPUs"
        raise EnvironmentProblem(f"resources.cpus_per_trial = {resources.cpus_per_trial:g}, but {where}; lower it")
    if not found.concurrency(0):
        raise EnvironmentProblem(
            f"no node of the cluster has both {resources.cpus_per_trial:g} CPUs and {wanted:g} of a GPU; lower "
            "resources.cpus_per_trial or resources.gpus_per_trial (0: trials on CPUs)")
    return found
