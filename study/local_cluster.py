"""A Ray cluster of our own, on this machine and as long as this process: what it is told as it starts.

Its workers are there before they are asked for, have no more threads than CPUs, and keep the memory that they free.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from study.spec import ResourcesSpec

MOST_IN_ADVANCE = 16  # workers that are started before they are asked for
#: Of jemalloc: nothing goes back to the system, to be asked for and zeroed again a step later, and pages are large.
KEEPS_MEMORY = "dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always"


def settings(resources: ResourcesSpec, ready: Path) -> dict[str, str]:
    """Environment variables for a cluster that is about to start; those that its user has set are left as they are."""
    return _workers_in_advance(resources, ready) | _allocator()


def _allocator() -> dict[str, str]:
    """By which workers take their memory from the jemalloc that Ray brings for its own processes, where it does: a step of
    a small network is short allocations for a tenth, and glibc returns a large one's pages to the system each time."""
    if "LD_PRELOAD" in os.environ:  # somebody's own choice, which Ray then leaves alone
        return {}
    found = {"RAY_LD_PRELOAD_ON_WORKERS": "1", "MALLOC_CONF": KEEPS_MEMORY}
    return {name: value for name, value in found.items() if name not in os.environ}


def _workers_in_advance(resources: ResourcesSpec, ready: Path) -> dict[str, str]:
    """By which it starts a worker for each CPU at once, which imports what trials need while the driver still prepares.

    Libraries settle their threads as they are imported, before Ray would have told them how many CPUs they have.
    """
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, int(resources.cpus_per_trial)))
    return {"RAY_prestart_worker_first_driver": str(int(in_advance(resources))), "OMP_NUM_THREADS": threads,
            "RAY_preload_python_modules": "study.worker", "ORACLEGAP_WORKERS_READY": str(ready)}


def in_advance(resources: ResourcesSpec) -> bool:
    """Whether nearly every one of them will have a trial, for each holds 360 MB: a server of many cores often has fewer."""
    return resources.cpus_per_trial < 2 and (os.cpu_count() or 1) <= MOST_IN_ADVANCE


@contextlib.contextmanager
def native_warnings_hidden() -> Iterator[None]:
    """Keeps what Ray's compiled part says while it starts off the terminal.

    Without a network it warns that it cannot reach the outside, which a local cluster does not need; no option of Ray
    silences that. A failure to start is an exception all the same.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def without_monitors() -> Iterator[None]:
    """A cluster of one machine that ends with its driver needs neither autoscaler nor log monitor: 1.3 s less to start, 1.1 s
    less to end (2 cores, n = 3 each); nor what is left of the dashboard where there is none, which reports usage to Ray's
    makers. No option of ``ray.init`` says so; where Ray's inside is another one, they run."""
    try:
        from ray._private.node import Node
        from ray._private.parameter import RayParams

        made, serve = RayParams.__init__, Node.start_api_server
    except (ImportError, AttributeError):
        yield
        return

    def make(self, *arguments, **options) -> None:
        made(self, *arguments, **options)
        self.include_log_monitor, self.no_monitor = False, True

    RayParams.__init__ = make
    Node.start_api_server = lambda self, **_: None
    try:
        yield
    finally:
        RayParams.__init__, Node.start_api_server = made, serve
