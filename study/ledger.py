"""The ledger: an Optuna storage that is the record of every trial, and the lock that lets one launch write it.

One Optuna study per (method, split), named ``method/split``. Nothing about a study's trials is remembered anywhere
else: whoever opens the ledger after a crash knows what was asked, what ended and how. Any Optuna tool can open it.
"""

from __future__ import annotations

import copy
import fcntl
import json
import math
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from study.errors import UserError
from study.ledger_storage import ledger_url, open_storage, patient
from study.samplers import distributions, make_pruner, make_sampler, name_objective
from study.spec import StudySpec
from study.tracking import study_identity
from study.warm_start import History, remembered

if TYPE_CHECKING:
    import optuna

STATES = {"COMPLETE": "completed", "FAIL": "failed", "PRUNED": "pruned", "RUNNING": "running", "WAITING": "waiting"}
#: An attribute of each Optuna study: the trials that its search began with.
BUDGET = "oraclegap.first_budget"


@dataclass(frozen=True)
class TrialRecord:
    """One trial as the ledger knows it."""

    method: str
    split: int
    number: int
    state: str
    params: dict[str, Any]
    signals: dict[str, float] = field(default_factory=dict)
    reason: str | None = None
    train_seconds: float | None = None
    ended_at: float | None = None  # Unix seconds

    @property
    def key(self) -> str:
        """``method/split/number``: the trial's name in files, MLflow and on the screen."""
        return f"{self.method}/{self.split}/{self.number}"


class Ledger:
    """Ask, tell and list the trials of one study."""

    def __init__(self, spec: StudySpec, folder: Path, *, storage: optuna.storages.BaseStorage | None = None):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.spec, self.folder = spec, folder
        self.prefix = f"{spec.name}/" if spec.resources.ledger else ""
        self._studies: dict[tuple[str, int], optuna.Study] = {}
        self._given: set[int] = set()  # trials that this process was told of, by Optuna's ids
        self._interrupted = False  # whether the database was away, and may know of a trial that nobody was told of
        if storage is not None:
            self.storage, self.url, self.owner = storage, "", ""
            return
        self.url = ledger_url(spec, folder)
        self.owner = study_identity(folder) if spec.resources.ledger else ""
        self.storage = open_storage(self.url, spec.resources.ledger)

    def names(self) -> list[tuple[str, int]]:
        """Every (method, split) of the spec, in its order."""
        return [(method, split) for split in self.spec.data.splits for method in self.spec.methods]

    def study(self, method: str, split: int) -> optuna.Study:
        """The Optuna study of one (method, split), created on first use with the default configuration
        and those of ``[[search.enqueue]]`` waiting."""
        import optuna

        from analysis.signals import get_signal

        if (method, split) not in self._studies:
            direction = get_signal(self.spec.selection.signal).direction
            study = optuna.create_study(
                study_name=f"{self.prefix}{method}/{split}", storage=self.storage, load_if_exists=True,
                direction=direction, sampler=optuna.samplers.RandomSampler(seed=0), pruner=make_pruner(self.spec.search.pruner),
            )
            self._check_owner(study, claim=True)
            trials = study.get_trials(deepcopy=False)
            if BUDGET not in study.user_attrs and not trials:
                study.set_user_attr(BUDGET, self.spec.search.trials)
            name_objective(study, self.spec.selection.signal)
            # A launch may have died between two of them; none is asked before all of them wait.
            known = sum("fixed_params" in t.system_attrs for t in trials)
            for configuration in self.spec.first_configurations(method)[known:]:
                study.enqueue_trial(configuration)
            self._studies[method, split] = study
        return self._studies[method, split]

    def _check_owner(self, study: optuna.Study, *, claim: bool) -> None:
        """In a database of many users, a study of this name may be somebody else's."""
        if not self.owner:
            return
        held = study.user_attrs.get("oraclegap.study_id")
        if held is None and claim:
            study.set_user_attr("oraclegap.study_id", self.owner)
        elif held not in (None, self.owner):
            raise UserError(
                f"ledger {self.spec.resources.ledger} holds another study named {self.spec.name!r}; give this one "
                "another name"
            )

    @patient
    def ask(self, method: str, split: int) -> optuna.Trial:
        """A new trial; the sampler is seeded by (study seed, trial number), so it depends on history alone."""
        study = self.study(method, split)
        past = study.get_trials(deepcopy=False)
        adrift = [t for t in past if t.state.name == "RUNNING" and t._trial_id not in self._given]
        if self._interrupted and adrift:  # begun by a try whose answer was lost
            trial = self._completed_configuration(method, split, adrift[0])
        else:
            self._seed_sampler(study, method, split, sum(trial.state.name != "WAITING" for trial in past))
            trial = study.ask(distributions(self.spec.space(method)))
        self._given.add(trial._trial_id)
        return trial

    @cached_property
    def _history(self) -> History:
        """What ``search.warm_start`` remembers of another study."""
        return remembered(self.spec, self.folder)

    def lost_connection(self) -> None:
        """Nothing read before is relied on any more."""
        self._interrupted = True
        self._studies.clear()
        self.storage.remove_session()

    @patient
    def unfinished(self, method: str, split: int) -> list[optuna.Trial]:
        """Trials that were running when an earlier launch died; they go first, under their old numbers."""
        study = self.study(method, split)
        running = [t for t in study.get_trials(deepcopy=False) if t.state.name == "RUNNING"]
        self._given |= {trial._trial_id for trial in running}
        return [self._completed_configuration(method, split, trial) for trial in running]

    def _completed_configuration(self, method: str, split: int, frozen: optuna.trial.FrozenTrial) -> optuna.Trial:
        """The trial with all its parameters: Optuna stores one at a time, and the kill may have come between two.

        The missing ones become what they would have been: parameters drawn one by one are drawn again, those that are
        stored too, so that the random numbers stay in step.
        """
        import optuna

        study = self.study(method, split)
        self._seed_sampler(study, method, split, frozen.number)
        trial = optuna.Trial(study, frozen._trial_id)
        wanted = distributions(self.spec.space(method))
        if set(wanted) <= set(frozen.params):
            return trial
        seen = copy.copy(frozen)  # as the sampler saw it then: with the parameters that were drawn before, and no others
        seen.params = {}
        for name, distribution in wanted.items():
            drawn_alone = not distribution.single() and name not in frozen.system_attrs.get("fixed_params", {})
            if name in frozen.params and drawn_alone and name not in trial.relative_params:
                study.sampler.sample_independent(study, seen, name, distribution)
            seen.params = {**seen.params, name: trial._suggest(name, distribution)}
        return trial

    def _seed_sampler(self, study: optuna.Study, method: str, split: int, number: int) -> None:
        study.sampler = make_sampler(self.spec, method, split, number, history=self._history.get((method, split)),
                                     budget=study.user_attrs.get(BUDGET))

    @patient
    def asked(self, method: str, split: int) -> int:
        """How many trials of the budget are used, running ones included."""
        return sum(t.state.name != "WAITING" for t in self.study(method, split).get_trials(deepcopy=False))

    @patient
    def tell(self, method: str, split: int, trial: optuna.Trial, outcome: dict[str, Any]) -> TrialRecord:
        """Records how a trial ended; telling an ended trial again changes nothing.

        ``outcome`` is what the trial reported: ``{"signals": {...}, "train_seconds": s}`` or ``{"reason": "..."}``,
        with ``"pruned": True`` where the pruner stopped it.
        """
        from optuna.trial import TrialState

        signal = self.spec.selection.signal
        signals = outcome.get("signals", {})
        told = {name: value for name, value in signals.items() if math.isfinite(value)}
        if not outcome.get("reason") and not outcome.get("pruned") and signal not in told:
            outcome = {**outcome, "reason": f"signal {signal} is {signals.get(signal, 'undefined')}"}
        outcome = {**outcome, "signals": told or None}
        state = TrialState.FAIL if outcome.get("reason") else TrialState.COMPLETE
        state = TrialState.PRUNED if outcome.get("pruned") else state
        kept = {key: outcome[key] for key in ("signals", "reason", "train_seconds") if outcome.get(key) is not None}
        if self.storage.get_trial(trial._trial_id).state.is_finished():
            return self.record(method, split, self.storage.get_trial(trial._trial_id))
        trial.set_user_attr("outcome", kept)
        value = told[signal] if state is TrialState.COMPLETE else None
        frozen = trial.study.tell(trial, value, state=state)
        return self.record(method, split, frozen)

    @patient
    def should_stop(self, trial: optuna.Trial, rows: list[dict[str, Any]]) -> bool:
        """Reports epochs to the pruner and asks it. Optuna keeps the first value of a step, which a trial that goes on
        after a crash repeats exactly."""
        for row in rows:
            trial.report(row[self.spec.selection.signal], row["epoch"])
        return bool(rows) and trial.should_prune()

    def record(self, method: str, split: int, trial: optuna.trial.FrozenTrial | optuna.Trial) -> TrialRecord:
        """A trial in this project's words."""
        outcome = trial.user_attrs.get("outcome", {})
        state = getattr(trial, "state", None)
        ended = getattr(trial, "datetime_complete", None)
        return TrialRecord(
            method=method, split=split, number=trial.number, state=STATES[state.name] if state else "running",
            params={**self.spec.space(method).fixed(), **trial.params}, signals=outcome.get("signals", {}),
            reason=outcome.get("reason"), train_seconds=outcome.get("train_seconds"),
            ended_at=ended.timestamp() if ended else None,
        )

    @patient
    def trials(self, method: str | None = None, split: int | None = None) -> list[TrialRecord]:
        """Every trial asked so far, ordered by split, method and number."""
        return [
            self.record(*name, trial)
            for name in self.names() if method in (None, name[0]) and split in (None, name[1])
            for trial in self._known_trials(*name) if trial.state.name != "WAITING"
        ]

    def _known_trials(self, method: str, split: int) -> list[optuna.trial.FrozenTrial]:
        """Without creating anything, so that looking at a study leaves it as it is."""
        import optuna

        study = self._studies.get((method, split))
        if study is None:
            try:
                study = optuna.load_study(study_name=f"{self.prefix}{method}/{split}", storage=self.storage)
            except KeyError:
                return []
            self._check_owner(study, claim=False)
        return study.get_trials(deepcopy=False)


@contextmanager
def launch_lock(folder: Path) -> Iterator[None]:
    """Only one process at a time may drive a study.

    The kernel releases the lock when its holder dies, so none is ever stale. Raises ``UserError`` naming the holder. A
    folder that holds nothing else afterwards, since the study could not begin, is removed.
    """
    with _locked(folder) as file:
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        file.flush()
        try:
            yield
        finally:
            if not any(path.is_file() and path != folder / "lock" for path in folder.rglob("*")):
                shutil.rmtree(folder, ignore_errors=True)
                with suppress(OSError):
                    folder.parent.rmdir()


@contextmanager
def _locked(folder: Path) -> Iterator[TextIO]:
    """The lock file, held; one that its last holder removed meanwhile is not the study's any more."""
    while True:
        with _opened(folder / "lock") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.seek(0)
                holder = _holder(file.read())
                raise UserError(f"{folder}: this study is being driven by {holder}; wait for it or stop it") from None
            if _is_still(file, folder / "lock"):
                yield file
                return


def _opened(path: Path, attempts: int = 100) -> TextIO:
    """The file, made with its folder; whoever held it before may be removing both just now."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "a+", encoding="utf-8")
    except (FileNotFoundError, FileExistsError):
        if attempts == 1:
            raise
        return _opened(path, attempts - 1)


def _is_still(file: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _holder(text: str) -> str:
    try:
        held = json.loads(text)
        return f"process {held['pid']} on {held['host']}"
    except (json.JSONDecodeError, KeyError, TypeError):
        return "another process"
