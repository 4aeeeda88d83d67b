"""The search: Ray Tune runs what the ledger asks for, and the ledger is told how it ended.

Tune's own state is never read back. A launch after a crash makes a new ``Tuner`` over the same ledger, which hands out
the unfinished trials first.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from study.errors import EnvironmentProblem
from study.jobs import shared_settings
from study.ledger import Ledger, TrialRecord
from study.plan import relative_costs
from study.runtime import SEEN_SECONDS, Cluster, environment, require_seen
from study.spec import StudySpec
from trainables.trial import ENVIRONMENT, trial_folder

#: A worker that dies is started again this often without an epoch more; its trial continues from its own last checkpoint.
WORKER_RETRIES = 2
#: Words of Ray's that tell one death from another, and what the reason then begins with.
DEATHS = {
    "low on memory": "oom: ",
    "Failed to set up runtime environment": f"{ENVIRONMENT}no worker could be started for it: ",
    "raised in its creation task": f"{ENVIRONMENT}no worker could be started for it: ",
}
#: With a limit of its own, Tune would ask for so many configurations at once, whether or not there is room for them.
ONE_IN_ADVANCE = {"TUNE_MAX_PENDING_TRIALS_PG": "1"}
UNFORESEEN = "Caught unexpected exception"  # how Ray's actor manager ends where it knows no way on


class Observer(Protocol):
    """Who wants to know how the search goes: the console and MLflow. Told after the ledger, never before it."""

    def trial_started(self, trial: TrialRecord) -> None: ...

    def trial_progressed(self, trial: TrialRecord, rows: list[dict[str, Any]]) -> None: ...

    def trial_ended(self, trial: TrialRecord) -> None: ...


class LedgerSearch(Searcher):
    """Asks and tells one Optuna study per (method, split); the one with the fewest trials goes next.

    The last round goes by cost, the dearest method first, so that the search does not end in one long trial alone.
    """

    def __init__(
        self, ledger: Ledger, observers: list[Observer], *, folder: Path | None = None,
        nothing_left: Callable[[], None] = lambda: None,
    ):
        """``folder``: the study's, where a completed trial's result must be seen before the ledger is told of it."""
        super().__init__(metric="objective", mode="max")
        self.ledger, self.observers, self.folder, self.nothing_left = ledger, observers, folder, nothing_left
        self.budget = ledger.spec.search.trials
        self.asked = {name: ledger.asked(*name) for name in ledger.names()}
        self.costs = relative_costs(ledger.spec)
        self.unfinished = [(name, trial) for name in ledger.names() for trial in ledger.unfinished(*name)]
        self.live: dict[str, tuple[tuple[str, int], Any]] = {}
        self.errors: dict[str, str] = {}
        self.fatal: Exception | None = None
        self.prunable = prunable_methods(ledger.spec)

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """The next configuration, or ``FINISHED`` once the budget is used."""
        if self.fatal:
            return Searcher.FINISHED
        if self.unfinished:
            name, trial = self.unfinished.pop(0)
        else:
            name = min(self.asked, key=self._place)
            if self.asked[name] >= self.budget:
                self.nothing_left()
                return Searcher.FINISHED
            trial = self.ledger.ask(*name)
            self.asked[name] += 1
        self.live[trial_id] = (name, trial)
        record = self.ledger.record(*name, trial)
        for observer in self.observers:
            observer.trial_started(record)
        return {"method": name[0], "split": name[1], "number": trial.number, "params": record.params,
                "prunable": name[0] in self.prunable}

    def _place(self, name: tuple[str, int]) -> tuple[int, float]:
        asked = self.asked[name]
        return asked, -self.costs[name[0]] if asked == self.budget - 1 else 0.0

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Passes the new epochs on; the scheduler has already judged them."""
        if trial_id in self.live and result.get("rows"):
            name, trial = self.live[trial_id]
            record = self.ledger.record(*name, trial)
            for observer in self.observers:
                observer.trial_progressed(record, result["rows"])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tells the ledger, then everyone else. A trial that the pruner stopped was told already."""
        if trial_id not in self.live:
            return
        result = result or {}
        if result.get("rows") and result.get("outcome"):
            self.on_trial_result(trial_id, result)
        self.end(trial_id, self._lost(trial_id) if error or not result.get("outcome") else result["outcome"][0])

    def _lost(self, trial_id: str) -> dict[str, Any]:
        message = self.errors.pop(trial_id, "no message")
        if message.startswith(tuple(DEATHS.values())):
            return {"reason": message}
        return {"reason": f"worker died {WORKER_RETRIES + 1} times: {message}"}

    def end(self, trial_id: str, outcome: dict[str, Any]) -> None:
        """Records the outcome of a live trial.

        What the machine is to blame for is no outcome: the trial stays open for the next launch, and this one ends.
        Tune would swallow an exception here, so it is kept for ``run_search`` to raise.
        """
        name, trial = self.live[trial_id]
        try:
            if self.folder and not outcome.get("reason") and not outcome.get("pruned"):
                # the first that is not there has been waited for: those under way then cost no time more
                seconds = 0.0 if self.fatal else SEEN_SECONDS
                require_seen(trial_folder(self.folder, *name, trial.number) / "result.json", seconds)
            if (outcome.get("reason") or "").startswith(ENVIRONMENT):
                raise EnvironmentProblem(f"{outcome['reason'].removeprefix(ENVIRONMENT)}; launch again to continue")
            record = self.ledger.tell(*name, trial, outcome)
            for observer in self.observers:
                observer.trial_ended(record)
        except Exception as error:
            self.fatal = self.fatal or error
        del self.live[trial_id]

    def __getstate__(self) -> dict:
        """Nothing: Tune pickles its searcher, and a ledger's URL may hold a password."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the ledger is the state."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class LedgerScheduler(FIFOScheduler):
    """Reports every epoch to Optuna and stops a trial when its pruner says so.

    It keeps errors too, since a searcher is told only that there was one. No callback does: Ray would count it, and for that
    import every logger it knows, MLflow among them, while the projection's thread does the same (they then fail for good).
    """

    def __init__(self, search: LedgerSearch):
        super().__init__()
        self.search = search
        self.reached: dict[str, int] = {}  # the last epoch that each trial has told of

    def on_trial_result(self, tune_controller, trial, result: dict[str, Any]) -> str:
        """Each epoch is told once."""
        self._forgive(trial, result.get("rows") or [])
        if trial.trial_id not in self.search.live or not trial.config["prunable"] or result.get("done"):
            return TrialScheduler.CONTINUE
        _, optuna_trial = self.search.live[trial.trial_id]
        if not self.search.ledger.should_stop(optuna_trial, result["rows"]):
            return TrialScheduler.CONTINUE
        # Rows first: the pruned trial's last epoch belongs to its curve.
        self.search.on_trial_result(trial.trial_id, result)
        self.search.end(trial.trial_id, {"pruned": True, "reason": None})
        return TrialScheduler.STOP

    def _forgive(self, trial, rows: list[dict[str, Any]]) -> None:
        """Deaths of a worker count in a row: where nodes come and go, a trial that gets on may lose many."""
        epoch = max((row["epoch"] for row in rows), default=0)
        if epoch > self.reached.get(trial.trial_id, 0):
            self.reached[trial.trial_id] = epoch
            trial.run_metadata.num_failures = 0

    def on_trial_error(self, tune_controller, trial) -> None:
        """A worker died; it is started again, or this was its last retry."""
        file = trial.error_file  # Tune's own `get_error` looks where it copies this file to, in the end
        told = Path(file).read_text(errors="replace") if file and Path(file).exists() else ""
        text = " ".join(told.rpartition("Failure # ")[2].partition("\n")[2].split())
        # a trial's own mistakes are caught in its worker: where none came to be, the node lacks something
        kind = next((kind for words, kind in DEATHS.items() if words in text), "")
        self.search.errors[trial.trial_id] = f"{kind}{text[-300:] or 'no message'}"

    def __getstate__(self) -> dict:
        return {}


class NoReporter(tune.ProgressReporter):
    """Tune's own draws into a notebook even where it is told to be quiet; ``study.console`` says what there is to say."""

    def should_report(self, trials, done=False) -> bool:
        return False

    def report(self, trials, done, *sys_info) -> None:
        """Nothing."""


def prunable_methods(spec: StudySpec) -> set[str]:
    """Methods that the pruner may stop early: only those whose record says that an early epoch is a fair judge."""
    from trainables.methods import get_method

    if spec.search.pruner == "none":
        return set()
    return {name for name in spec.methods if get_method(name).info.pruning_safe}


def scratch_of(folder: Path) -> Path:
    """Where Tune writes what nobody reads; there only while a search goes on."""
    return folder / ".tune"


def trials_at_a_time(spec: StudySpec, cluster: Cluster) -> int | None:
    """None, or what the spec allows, where nodes may come: Tune then starts a trial wherever one fits, and asks for one more
    in advance (``ONE_IN_ADVANCE``)."""
    if cluster.grows:
        return spec.search.max_concurrent or None
    return cluster.concurrency(spec.search.max_concurrent)


@contextlib.contextmanager
def _trials_like_any_worker(own: bool) -> Iterator[None]:
    """Tune starts trials in a runtime environment of their own, with variables of the driver's.

    Ray writes that environment into its logs as it is, AWS's credentials among it, of which trials need none. And it gives
    them no worker that waits already: in a cluster of our ``own``, whose workers have the variables anyway, it stays empty.
    """
    try:
        from ray.tune.execution import class_cache

        kept = class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE
    except (ImportError, AttributeError):  # an internal of Ray: another version may have none
        yield
        return
    named = {name for name in kept[1] if not name.startswith("AWS_")}
    class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE = ({}, set()) if own else (kept[0], named)
    try:
        yield
    finally:
        class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE = kept


def run_search(
    ledger: Ledger, folder: Path, cluster: Cluster, *, views: dict, observers: list[Observer],
    nothing_left: Callable[[], None] = lambda: None,
) -> None:
    """Runs every trial of the budget that has not ended. Blocks until done or interrupted.

    ``nothing_left`` is called when the last trials run and there is room for others.
    """
    from trainables.trainable import StudyTrainable

    spec = ledger.spec
    search = LedgerSearch(ledger, observers, folder=folder, nothing_left=nothing_left)
    if not search.unfinished and all(asked >= search.budget for asked in search.asked.values()):
        return
    # It would print the traceback of every worker that dies; `LedgerScheduler` keeps the reason.
    logging.getLogger("ray.tune.execution.tune_controller").setLevel(logging.CRITICAL)
    cluster.wait_for_workers()
    scratch = scratch_of(folder)
    trainable = tune.with_resources(
        tune.with_parameters(StudyTrainable, views=views, shared=shared_settings(spec, folder, cluster)),
        {"cpu": cluster.cpus_per_trial, "gpu": cluster.gpus_per_trial},
    )
    try:
        with _trials_like_any_worker(own=not cluster.grows), environment(ONE_IN_ADVANCE if cluster.grows else {}):
            tune.Tuner(
                trainable,
                tune_config=tune.TuneConfig(
                    search_alg=search, scheduler=LedgerScheduler(search), num_samples=-1, reuse_actors=True,
                    max_concurrent_trials=trials_at_a_time(spec, cluster),
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=tune.RunConfig(
                    name="search", storage_path=str(scratch.resolve()), verbose=0, progress_reporter=NoReporter(),
                    failure_config=tune.FailureConfig(max_failures=WORKER_RETRIES),
                ),
            ).fit()
    except RuntimeError as error:
        if not str(error).startswith(UNFORESEEN):
            raise
        raise EnvironmentProblem(f"Ray: {' '.join(str(error).split())[:300]}; launch again to continue") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if search.fatal:
        raise search.fatal
    if lost := [trial.key for trial in ledger.trials() if trial.state == "running"]:
        raise EnvironmentProblem(f"the search ended before {', '.join(lost)}; launch again to continue")
