"""MLflow as a projection of a study's ledger and files.

The study's own run is the parent, every trial a child. Whatever is said here is put down in memory and returns at once
(a few microseconds); one background thread imports MLflow, opens the store and writes, so that training never waits for
it. What one run still lacks is kept as *one* set of changes, so a slow or dead server makes writes larger, not more,
and the thread catches up when it is back. Saying everything again in another process (a replay) writes nothing new.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

from study import mlflow_system
from study.mlflow_server import check_server, tracking_uri, without_password
from study.mlflow_store import PARENT, Changes, Store

__all__ = ["Projection", "check_server", "tracking_uri", "without_password"]

STATUS = {"completed": "FINISHED", "failed": "FAILED", "pruned": "KILLED", "interrupted": "KILLED"}
MAX_ROWS_WAITING = 200_000  # about 100 MB; beyond it curves are dropped, to be replayed from metrics.jsonl
LINGER = 1.0  # seconds in which the epochs of one trial are gathered into one write
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # between tries while a server is down


def study_identity(folder: Path) -> str:
    """The id that ties a study's folder to its MLflow runs, kept in ``<study>/mlflow.json``.

    A name is not enough: a study deleted and launched again, or a colleague's of the same name on the same server,
    would be written into each other's runs.
    """
    import json

    path = folder / "mlflow.json"
    try:
        return str(json.loads(path.read_text())["study_id"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    folder.mkdir(parents=True, exist_ok=True)
    identity = uuid.uuid4().hex
    temporary = folder / f".mlflow.json.{os.getpid()}"
    with temporary.open("w") as file:
        json.dump({"study_id": identity}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return identity


class Projection:
    """What MLflow should show of one study. Every method returns at once and never raises for MLflow's sake.

    ``root`` is the folder that holds the studies; ``key`` is always ``"method/split/number"``; ``offline`` writes
    nothing. ``problems`` holds one line for each thing that went wrong.
    """

    def __init__(self, *, root: Path, study: str, offline: bool = False, uri: str | None = None) -> None:
        self.root, self.study, self.offline = Path(root), study, offline
        self.uri = "" if offline else uri or tracking_uri(self.root)
        self.problems: list[str] = []
        self.experiment_id: str | None = None  # known once the store is open
        self._waiting: dict[str, Changes] = {}
        self._datasets: dict[str, list[dict]] = {}  # by split
        self._trials: set[str] = set()
        self._unfinished: set[str] = set()
        self._rows_waiting = 0
        self._cut_short: set[str] = set()
        self._changed = threading.Condition()
        self._busy = self._hurry = self._closed = False
        self._failures = 0
        self._thread: threading.Thread | None = None
        self._monitor = None  # of system metrics; False where it could not start

    # ---- what happened

    def study_started(self, *, spec: dict, spec_text: str, stamp: dict, data: Iterable[Mapping] = (), note: str = ""):
        """``spec`` flattened to parameters, ``spec_text`` and ``stamp`` as artifacts, ``data`` the views' manifests."""
        import json

        manifests = [dataset_of(manifest) for manifest in data]
        with self._changed:
            self._unfinished.add(PARENT)
            for dataset in manifests:
                self._datasets.setdefault(dataset["split"], []).append(dataset)
        self._put(
            PARENT,
            Changes(
                tags={"mlflow.note.content": note} if note else {},
                params=flatten(spec),
                texts={"spec.toml": spec_text, "stamp.json": json.dumps(stamp, indent=2, sort_keys=True, default=str)},
                datasets=manifests,
                status="RUNNING",
                started_at=time.time(),
            ),
        )

    def trial_started(self, key: str, params: Mapping, tags: Mapping | None = None) -> None:
        method, split, number = key.split("/")
        named = {"method": method, "split": split, "number": number, "state": "running"}
        with self._changed:
            self._trials.add(key)
            self._unfinished.add(key)
            datasets = self._datasets.get(split, [])
        extra = {name: str(value) for name, value in (tags or {}).items()}
        self._put(
            key,
            Changes(
                tags=named | extra, params=dict(params), datasets=datasets, status="RUNNING", started_at=time.time()
            ),
        )

    def trial_metrics(self, key: str, rows: Iterable[Mapping]) -> None:
        """Rows of metrics.jsonl: epoch, train_loss, val_nll, val_accuracy, learning_rate, seconds, time."""
        self._put(key, Changes(rows=[dict(row) for row in rows]))

    def trial_ended(
        self, key: str, state: str, signals: Mapping | None = None, reason: str | None = None,
        extra: Mapping | None = None,
    ) -> None:
        """``state`` completed, failed or pruned; numbers in ``extra`` become metrics ``train/…``, the rest tags.

        ``extra["ended_at"]`` (unix seconds) is when it ended; without it, now.
        """
        extra = dict(extra or {})
        ended = extra.pop("ended_at", None)
        metrics = rounded({f"signal/{name}": value for name, value in (signals or {}).items()})
        numbers = {name: value for name, value in extra.items() if _is_number(value)}
        metrics |= rounded({f"train/{name.removeprefix('train_')}": value for name, value in numbers.items()})
        tags = {"state": state} | ({"reason": reason} if reason else {})
        tags |= {name: str(value) for name, value in extra.items() if not _is_number(value) and value is not None}
        with self._changed:
            self._unfinished.discard(key)
        self._put(key, Changes(tags=tags, metrics=metrics, status=STATUS[state], ended_at=ended))

    def trial_selected(self, key: str, selected: bool = True) -> None:
        """Tags the frozen trial; the other trials of its method and split become ``selected = "false"``."""
        group = key.rpartition("/")[0] + "/"
        with self._changed:
            others = [other for other in self._trials if other.startswith(group) and other != key]
        if selected:
            for other in others:
                self._put(other, Changes(tags={"selected": "false"}))
        self._put(key, Changes(tags={"selected": "true" if selected else "false"}))

    def trial_revealed(self, key: str, metrics: Mapping[str, float | None]) -> None:
        """``test/…``, ``oracle/…``, ``gap/…``; None is left out."""
        self._put(key, Changes(metrics=rounded(metrics)))

    def study_ended(
        self, *, summary: dict | None = None, artifacts: Iterable[Path] = (), note: str = "", state: str = "completed"
    ) -> None:
        """``artifacts`` are files (report, plots); ``note`` opens the study's note, its leaderboard is added."""
        tags = {"mlflow.note.content": note} if note else {}
        files = [Path(path) for path in artifacts]
        with self._changed:
            self._unfinished.discard(PARENT)
        board = (summary or {}).get("rows", [])
        self._put(PARENT, Changes(tags=tags, files=files, status=STATUS[state], leaderboard=board))

    # ---- the writer

    def _put(self, key: str, changes: Changes) -> None:
        if self.offline or self._closed:
            return
        with self._changed:
            too_many = key in self._cut_short or self._rows_waiting + len(changes.rows) > MAX_ROWS_WAITING
            if changes.rows and too_many:
                self._cut_short.add(key)  # later rows too, so that a replay finds where the curve stops
                self._tell("MLflow has been away for long: some training curves are left out; launching again writes "
                           "them once it is back")
                changes.rows = []
            self._rows_waiting += len(changes.rows)
            waiting = self._waiting.get(key)
            self._waiting[key] = waiting.then(changes) if waiting else changes
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="mlflow-projection", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _tell(self, line: str) -> None:
        if line not in self.problems:
            self.problems.append(line)

    def _work(self) -> None:
        pause, store = FIRST_PAUSE, None
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return
                self._busy = True
                if not self._hurry:
                    self._changed.wait_for(lambda: self._hurry or self._closed, LINGER)
            try:
                store = store or self._open()
                self._drain(store)
                pause = FIRST_PAUSE
            except Exception as problem:
                # Opened anew next time: what was half written, or written without an answer, is then read first.
                store = None
                if not self._failures:  # told once, however often and in whichever words it fails
                    self._tell(f"MLflow at {without_password(self.uri)} cannot be written now ({first_line(problem)});"
                               " the study goes on, and MLflow catches up when it is back")
                with self._changed:
                    self._failures += 1
                    self._changed.notify_all()
                    if self._closed:
                        return
                    self._hurry = False  # so that the next flush, which sets it, gets its try at once
                    self._changed.wait_for(lambda: self._closed or self._hurry, pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _open(self) -> Store:
        identity = study_identity(self.root / self.study)
        store = Store(uri=self.uri, artifacts=self.root / "mlartifacts", study=self.study, study_id=identity)
        self.experiment_id = store.experiment_id
        return store

    def _drain(self, store: Store) -> None:
        with self._changed:
            study = self._waiting.get(PARENT, Changes())
        store.create_parent(study)
        if self._monitor is None and mlflow_system.wanted():
            self._monitor = self._watch(store.known[PARENT].run_id)
        while True:
            with self._changed:
                if not self._waiting:
                    return
                # The study's leaderboard links to the trials' runs, and it ends after them.
                key = next((key for key in self._waiting if key != PARENT), PARENT)
                changes = self._waiting.pop(key)
                self._rows_waiting -= len(changes.rows)
            try:
                store.write(key, changes)
            except Exception as problem:
                if is_lasting(problem):
                    self._tell(f"MLflow refused part of {key or 'the study'}: {first_line(problem)}")
                    continue
                with self._changed:
                    later = self._waiting.pop(key, None)
                    self._waiting = {key: changes.then(later) if later else changes, **self._waiting}
                    self._rows_waiting += len(changes.rows)
                raise

    def _watch(self, run_id: str):
        try:
            return mlflow_system.start(self.uri, run_id)
        except Exception as problem:  # a wish that cannot be granted is told once, and nothing waits for it
            self._tell(f"MLflow shows no system metrics: {first_line(problem)}")
            return False

    def flush(self, timeout: float = 30.0) -> bool:
        """Waits until all is written; False when ``timeout`` seconds, or one more failed try, came first."""
        with self._changed:
            before, self._hurry = self._failures, True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._written() or self._failures > before, timeout)
            self._hurry = False
            return self._written()

    def _written(self) -> bool:
        return not self._waiting and not self._busy

    def close(self, timeout: float = 8.0) -> None:
        """Writes what it can within ``timeout`` seconds and stops; anything left is written by the next launch.

        What has not ended is shown as scheduled: it waits for that launch, and no run seems to run for ever.
        """
        with self._changed:
            waiting, self._unfinished = sorted(self._unfinished), set()
        for key in waiting:
            self._put(key, Changes(status="SCHEDULED"))
        if not self.flush(timeout):
            self._tell("MLflow lacks the study's last entries; launching again writes them once it is back")
        if self._monitor:  # it waits for a server that is down as long as MLflow's client does; nobody waits for it
            finish = threading.Thread(target=self._monitor.finish, daemon=True)
            finish.start()
            finish.join(2.0)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(1.0)


def flatten(tree: Mapping, prefix: str = "") -> dict[str, object]:
    """``{"search": {"trials": 12}}`` → ``{"search.trials": 12}``; lists and empty tables stay as they are."""
    flat: dict[str, object] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def rounded(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Six decimals, which is what a column of the runs table can show (and more than 1/√n of any test set)."""
    return {name: round(float(value), 6) for name, value in metrics.items() if value is not None}


def dataset_of(manifest: Mapping) -> dict:
    """MLflow's data set record of a view's manifest: nominal data only, no path."""
    split, source = str(manifest["split"]), str(manifest["source"])
    profile = {name: manifest[name] for name in ("classes", "counts", "image_shape") if name in manifest}
    return {"split": split, "name": f"{source}-nominal-{split}", "digest": str(manifest["digest"]), "source": source,
            "profile": profile}


def is_lasting(problem: Exception) -> bool:
    """Whether trying again is useless: the request itself is refused."""
    codes = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED", "BAD_REQUEST", "INVALID_STATE")
    return getattr(problem, "error_code", None) in codes or isinstance(problem, (TypeError, ValueError, KeyError))


def first_line(problem: Exception) -> str:
    """The first line of an error, without passwords of the URIs in it, at most 160 characters."""
    text = (str(problem).strip() or type(problem).__name__).splitlines()[0]
    if "HTTPConnectionPool" in text or "HTTPSConnectionPool" in text:
        return "it does not answer"
    return without_password(text)[:160]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
