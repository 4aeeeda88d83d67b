"""Jobs: fixed lists of work, each in a place named by the digest of its inputs, done when its result verifies.

Trials are what the sampler adapts and live in the ledger; everything else that costs time (fold models, retrained
seeds, oracle representations, reveals) is a job. A launch runs those whose result is not there yet.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from study.errors import EnvironmentProblem
from study.runtime import Cluster, require_seen
from study.spec import StudySpec
from trainables.files import digest_of, read_json, sha256_of_file, write_json

#: A job whose worker process dies (killed, node lost) is started again this often.
WORKER_RETRIES = 2


class Late:
    """An argument that is made as the first job that has it is sent: it needs the cluster, of which a launch without open jobs
    has none."""

    def __init__(self, make: Callable[[], Any]):
        """``make`` is called once at most."""
        self.make = functools.cache(make)


def in_store(value: Any) -> Late:
    """The value as Ray's object store has it."""

    def put():
        import ray

        return ray.put(value)

    return Late(put)


def shared_settings(spec: StudySpec, folder: Path, cluster: Cluster) -> dict[str, Any]:
    """The plain values that every trial and fold job has in common."""
    return {
        "trials": str((folder / "trials").resolve()), "seed": spec.data.seeds[0],
        "training": {method: spec.training.for_method(method) for method in spec.methods},
        "weights": (read_json(folder / "stamp.json") or {}).get("pretrained", {}),  # SHA-256 of each file, as the driver sees it
        "cpus_per_trial": cluster.cpus_per_trial, "gpus_per_trial": cluster.gpus_per_trial,
    }


def settings_of(spec: StudySpec, folder: Path, cluster: Cluster, method: str) -> Late:
    """The ``TrainSettings`` of a method's jobs."""
    from trainables.trial import train_settings

    return Late(lambda: train_settings(shared_settings(spec, folder, cluster), method))


@dataclass(frozen=True)
class Job:
    """One piece of work.

    ``inputs`` (plain JSON values) name it: whatever changes its result must be in them. ``run`` is a module-level
    function, called with ``folder`` (the job's own) and ``arguments`` (``Late`` ones made); it returns a JSON-able result.
    ``result_path`` moves the result out of ``jobs/<kind>/<key>/result.json``.
    """

    kind: str
    inputs: dict[str, Any]
    run: Callable[..., dict[str, Any]]
    arguments: dict[str, Any] = field(default_factory=dict)
    label: str = ""
    result_path: Path | None = None

    @property
    def key(self) -> str:
        return digest_of(self.inputs)[:16]

    def folder(self, study_folder: Path) -> Path:
        """Where the job's files lie."""
        return study_folder / "jobs" / self.kind / self.key

    def path(self, study_folder: Path) -> Path:
        """Where its result lies."""
        return self.result_path or self.folder(study_folder) / "result.json"

    def result(self, study_folder: Path) -> dict[str, Any] | None:
        """The finished result, or ``None`` where there is none, a torn one, or one of other inputs."""
        stored = read_json(self.path(study_folder))
        if not isinstance(stored, dict) or stored.get("inputs_digest") != digest_of(self.inputs):
            return None
        result = stored.get("result")
        if stored.get("result_digest") != digest_of(result):
            return None
        return result if self._files_are_whole(study_folder, result) else None

    def _files_are_whole(self, study_folder: Path, result: dict[str, Any]) -> bool:
        """Whether the arrays that the result lists under ``files`` (beside it, by SHA-256) are what was written."""
        for name, digest in result.get("files", {}).items():
            path = self.path(study_folder).parent / name
            if not path.is_file() or sha256_of_file(path) != digest:
                return False
        return True


def run_jobs(
    jobs: Iterable[Job], study_folder: Path, cluster: Cluster, *, on_done: Callable[[Job, dict], None] | None = None,
    then: Callable[[Job], Iterable[Job]] | None = None,
) -> list[dict[str, Any]]:
    """Runs the jobs that are not done, as Ray tasks, and returns all results in the order given.

    ``then`` is asked after every job which others can run now: they follow, and their results come last.

    A job that fails returns ``{"reason": "…"}``; a foreseen reason (a fold model may diverge) is stored like any
    result. A full disk or a vanished folder is no outcome: it raises ``EnvironmentProblem`` and the job stays open.
    """
    known: list[Job] = []
    results: dict[int, dict[str, Any]] = {}
    pending: dict[Any, int] = {}  # Ray's reference of a task → its job's place
    task = functools.cache(lambda: _task(cluster))

    def take(more: Iterable[Job]) -> None:
        following: list[Job] = []
        for job in more:
            place = len(known)
            known.append(job)
            if (stored := job.result(study_folder)) is None:
                made = {k: v.make() if isinstance(v, Late) else v for k, v in job.arguments.items()}
                task_of_job = task().remote(job.run, job.folder(study_folder), job.path(study_folder), job.inputs, made)
                pending[task_of_job] = place
            else:
                results[place] = stored
                following += then(job) if then else ()
        if following:
            take(following)

    take(jobs)
    while pending:
        import ray

        (finished,), _ = ray.wait(list(pending), num_returns=1)
        place = pending.pop(finished)
        job, results[place] = known[place], _result_of(finished, known[place])
        if not results[place].get("reason"):
            require_seen(job.path(study_folder))
        if on_done:
            on_done(job, results[place])
        take(then(job) if then else ())
    return [results[place] for place in range(len(known))]


def _task(cluster: Cluster):
    """The remote function of any job."""
    import ray

    # CUDA stays on the card on which a process began, while Ray would give its next job another one: with several cards in a
    # node, each job has a process of its own (which Ray does by itself only where a function's decorator asks for GPUs)
    once = bool(cluster.gpus_per_trial and cluster.several_cards)
    return ray.remote(
        num_cpus=cluster.cpus_per_trial, num_gpus=cluster.gpus_per_trial, max_retries=WORKER_RETRIES, max_calls=int(once)
    )(_run_and_store)


def _result_of(finished: Any, job: Job) -> dict[str, Any]:
    """What a task that has ended gave, or the reason why there is nothing; raises ``EnvironmentProblem``."""
    import ray

    from trainables.trial import ENVIRONMENT

    try:
        result = ray.get(finished)
    except ray.exceptions.WorkerCrashedError:
        return {"reason": f"worker died {WORKER_RETRIES + 1} times"}
    except ray.exceptions.OutOfMemoryError:
        return {"reason": "oom: the machine's memory was full"}
    except (ray.exceptions.NodeDiedError, ray.exceptions.RuntimeEnvSetupError) as error:
        raise EnvironmentProblem(f"{job.label}: {' '.join(str(error).split())[:300]}; launch again to continue") from error
    except ray.exceptions.RayTaskError as error:  # outside the job itself: its result could not be written
        raise EnvironmentProblem(f"{job.label}: {' '.join(str(error.cause).split())[-300:]}") from error
    if result.get("reason", "").startswith(ENVIRONMENT):
        reason = result["reason"].removeprefix(ENVIRONMENT)
        raise EnvironmentProblem(f"{job.label}: {reason}; launch again to continue")
    return result


class WarmUp:
    """Workers for jobs, started beside the search's last trials on CPUs that wait for these to end: the 4.5 s until
    one is ready (2 cores) then cost little. In a cluster of others, whose workers are not ours to keep, there are none."""

    def __init__(self, cluster: Cluster, scratch: Path):
        """``scratch``: a folder that is there as long as the search is, for which they wait: Ray ends workers that idle."""
        self.count, self.scratch = 0 if cluster.grows else cluster.concurrency(0), str(scratch)
        self.started: list[Any] = []

    def start(self) -> None:
        """Once, however often it is called."""
        import ray

        task = ray.remote(_import_what_jobs_do).options(num_cpus=0, max_retries=0)
        self.started = self.started or [task.remote(self.scratch) for _ in range(self.count)]

    def wait(self, seconds: float = 30.0) -> None:
        """Until they are ready: asked for a job before, Ray would start others."""
        import ray

        if self.started:
            ray.wait(self.started, num_returns=len(self.started), timeout=seconds)


def _import_what_jobs_do(scratch: str) -> int:
    """Libraries alone: what reaches the vault is not imported before the freeze. Returns the process that has them."""
    import scipy.optimize  # noqa: F401
    import sklearn.ensemble
    import sklearn.linear_model  # noqa: F401

    while os.path.exists(scratch):
        time.sleep(0.05)
    return os.getpid()


def _run_and_store(
    run: Callable[..., dict], folder: Path, path: Path, inputs: dict[str, Any], arguments: dict[str, Any]
) -> dict[str, Any]:
    """Runs in a worker: the result is on disk before anyone hears of it.

    An unforeseen error is told but not stored, so that the next launch tries again.
    """
    import ray

    from trainables.trial import FORESEEN, failure_reason

    arguments = {k: ray.get(v) if isinstance(v, ray.ObjectRef) else v for k, v in arguments.items()}
    try:
        result = run(folder=folder, **arguments)
    except Exception as error:
        result = {"reason": failure_reason(error)}
        if not result["reason"].startswith(FORESEEN):
            return result
    write_json(path, {"inputs": inputs, "inputs_digest": digest_of(inputs), "result": result,
                      "result_digest": digest_of(result)})
    return result
