"""One study's runs in an MLflow store: what is there is read once, after that only differences are written.

``tracking.py`` decides what a run should look like; this file makes the store look like it. A run is found by its
tags (``oraclegap.study_id`` on the experiment, ``oraclegap.trial`` on the run), never by an id remembered elsewhere,
so that a second process, or a replay of the whole study from its files, writes nothing that is there already.

MLflow 3.17 habits that shaped it: a parameter can never be changed (a changed one becomes a tag), a metric point is
unique by (name, value, step, time), NaN and infinity are stored as 0 and 1.8e308 (dropped here, named in a tag), a
request holds at most 1000 entries (the client splits), its HTTP client repeats a lost creation (never here).
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from study.mlflow_database import make_database
from study.mlflow_view import NOTE_TAG, experiment_note, experiment_tags, leaderboard

PARENT = "study"  # the key of the study's own run; a trial's key is "method/split/number"
STUDY_TAG = "oraclegap.study_id"
TRIAL_TAG = "oraclegap.trial"
NOT_FINITE_TAG = "oraclegap.not_finite"
ARTIFACTS_TAG = "oraclegap.artifacts"
ENDED = ("FINISHED", "FAILED", "KILLED")
CURVES = {
    "train_loss": "train/loss",
    "learning_rate": "train/learning_rate",
    "val_nll": "val/nll",
    "val_accuracy": "val/accuracy",
}
# Text limits of MLflow's tables; beyond them a write is refused.
MAX_PARAM, MAX_TAG, MAX_NAME, MAX_DIGEST = 6000, 8000, 250, 36


@dataclass
class Changes:
    """What is still to be written to one run. Times are unix seconds."""

    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)  # final values, at step 0
    rows: list[dict] = field(default_factory=list)  # rows of metrics.jsonl, oldest first
    datasets: list[dict] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)  # artifact name → text
    files: list[Path] = field(default_factory=list)  # artifacts
    leaderboard: list[dict] = field(default_factory=list)  # rows of summary.json, for the study's note
    status: str | None = None
    started_at: float | None = None
    ended_at: float | None = None

    def then(self, later: Changes) -> Changes:
        """Both, ``later`` winning; used to put back what could not be sent."""
        return Changes(
            tags={**self.tags, **later.tags},
            params={**self.params, **later.params},
            metrics={**self.metrics, **later.metrics},
            rows=self.rows + later.rows,
            datasets=later.datasets or self.datasets,
            texts={**self.texts, **later.texts},
            files=later.files or self.files,
            leaderboard=later.leaderboard or self.leaderboard,
            status=later.status or self.status,
            started_at=self.started_at or later.started_at,
            ended_at=later.ended_at or self.ended_at,
        )


@dataclass
class Known:
    """What the store holds of one run."""

    run_id: str
    status: str
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    last_epoch: int = -1
    datasets: set[tuple[str, str]] = field(default_factory=set)


def quiet_mlflow(*, server: bool) -> None:
    """Settings that MLflow reads when imported or called: no telemetry, no chatter, short waits for a dead server."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("MLFLOW_DISABLE_AGENT_HINT", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    if server:  # Its client tries 7 times for minutes, and a creation repeated after a lost answer makes a second run;
        # the projection tries again itself, after reading what is there.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    for name in ("alembic", "mlflow.store.db.utils", "mlflow.store.db_migrations", "mlflow.tracking"):
        logging.getLogger(name).setLevel(logging.WARNING)


class Store:
    """The runs of one study in the MLflow store at ``uri``. Opening it imports MLflow (about a second)."""

    def __init__(self, *, uri: str, artifacts: Path, study: str, study_id: str) -> None:
        remote = uri.startswith(("http://", "https://", "databricks"))
        quiet_mlflow(server=remote)
        from mlflow.tracking import MlflowClient

        quiet_mlflow(server=remote)  # MLflow's import sets its loggers' levels
        self.study, self.study_id = study, study_id
        make_database(uri, artifacts)
        self.client = MlflowClient(tracking_uri=uri)
        self.experiment_id = self._experiment(None if remote else artifacts)
        self.known: dict[str, Known] = {}
        self._read()

    # ---- reading

    def _experiment(self, artifacts: Path | None) -> str:
        """The study's experiment: found by the study's id; its name is the study's, unless another study took it."""
        from mlflow.exceptions import MlflowException

        found = self.client.search_experiments(filter_string=f"tags.`{STUDY_TAG}` = '{self.study_id}'")
        if found:
            self._tag_experiment(found[0].experiment_id, found[0].tags)
            return found[0].experiment_id
        tags = {STUDY_TAG: self.study_id, "oraclegap.study": self.study, **experiment_tags()}
        for name in (self.study, f"{self.study}-{self.study_id[:6]}"):
            location = None if artifacts is None else (artifacts.resolve() / name).as_uri()
            try:
                made = self.client.create_experiment(name, artifact_location=location, tags=tags)
            except MlflowException as problem:
                if problem.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            else:
                self._tag_experiment(made, tags)
                return made
        raise MlflowException(f"experiment names {self.study!r} and {self.study}-{self.study_id[:6]!r} are both taken")

    def _tag_experiment(self, experiment_id: str, held: dict[str, str]) -> None:
        wanted = experiment_tags()
        if NOTE_TAG not in held:  # else it is the user's
            wanted[NOTE_TAG] = experiment_note(experiment_id)
        for name, value in wanted.items():
            if held.get(name) != value:
                self.client.set_experiment_tag(experiment_id, name, value)

    def _read(self) -> None:
        token = None
        while True:
            page = self.client.search_runs([self.experiment_id], max_results=1000, page_token=token)
            for run in page:
                key = run.data.tags.get(TRIAL_TAG)
                if key is None:
                    continue
                known = Known(run.info.run_id, run.info.status, dict(run.data.tags), dict(run.data.params))
                # Points of a curve are written oldest first, so the last one's step tells which are there.
                points = run.data._metric_objs
                known.metrics = {p.key: p.value for p in points if p.key not in CURVES.values()}
                known.last_epoch = max((p.step for p in points if p.key in CURVES.values()), default=-1)
                inputs = run.inputs.dataset_inputs if run.inputs else []
                known.datasets = {(i.dataset.name, i.dataset.digest) for i in inputs}
                twin = self.known.setdefault(key, known)
                if twin is not known:  # a creation whose answer came too late, repeated: keep the fuller one
                    fuller, emptier = sorted((twin, known), key=lambda k: len(k.metrics) + k.last_epoch, reverse=True)
                    self.known[key] = fuller
                    self.client.delete_run(emptier.run_id)
            token = page.token
            if not token:
                return

    # ---- writing

    def create_parent(self, changes: Changes) -> None:
        """The study's run, without what ``changes`` say of its end, which comes after its trials."""
        if PARENT not in self.known:
            self._create(PARENT, Changes(started_at=changes.started_at))

    def write(self, key: str, changes: Changes) -> None:
        """Brings the run ``key`` to where ``changes`` want it; raises what MLflow raises, and may then be repeated."""
        known = self.known.get(key) or self._create(key, changes)
        if changes.status in ("RUNNING", "SCHEDULED") and known.status in ENDED:
            # A replay says again that it started.
            tags = {name: text for name, text in changes.tags.items() if (name, text) != ("state", "running")}
            changes = replace(changes, status=None, tags=tags)
        if changes.leaderboard:
            run_ids = {other: one.run_id for other, one in self.known.items()}
            board = leaderboard(changes.leaderboard, experiment_id=self.experiment_id, run_ids=run_ids)
            note = "\n\n".join(filter(None, (board, changes.tags.get(NOTE_TAG))))
            changes = changes.then(Changes(tags={NOTE_TAG: note}))
        self._log(known, changes)
        if changes.tags.get("selected") == "true":
            self._unselect_others(key)
        self._log_datasets(known, changes.datasets)
        self._log_artifacts(known, changes)
        self._set_status(known, changes)

    def _create(self, key: str, changes: Changes) -> Known:
        tags = {TRIAL_TAG: key, "oraclegap.study": self.study, "mlflow.source.name": "oraclegap"}
        if key != PARENT:
            if PARENT not in self.known:
                self._create(PARENT, Changes(started_at=changes.started_at))
            parent = self.known[PARENT]
            tags["mlflow.parentRunId"] = parent.run_id
            self._set_status(parent, Changes(status="RUNNING"))  # a study that got more trials runs again
        tags |= {name: clip(value, MAX_TAG) for name, value in changes.tags.items()}
        started = min([changes.started_at or time.time(), *(r["time"] - r["seconds"] for r in changes.rows[:1])])
        run = self.client.create_run(
            self.experiment_id, start_time=int(started * 1000), tags=tags, run_name=self.study if key == PARENT else key
        )
        known = Known(run.info.run_id, run.info.status, dict(run.data.tags))
        self.known[key] = known
        return known

    def _log(self, known: Known, changes: Changes) -> None:
        """One ``log_batch`` with every parameter, tag and metric that the run does not hold yet."""
        from mlflow.entities import Metric, Param, RunTag

        params, tags = {}, {name: clip(value, MAX_TAG) for name, value in changes.tags.items()}
        for name, value in changes.params.items():
            name, text = name[:MAX_NAME], clip(value, MAX_PARAM)
            if name not in known.params:
                params[name] = text
            elif known.params[name] != text:
                tags[f"oraclegap.changed.{name}"[:MAX_NAME]] = text
        points, not_finite = curve_points(changes.rows, after=known.last_epoch)
        stamp = int((changes.ended_at or time.time()) * 1000)
        finals = {}
        for name, value in changes.metrics.items():
            if not math.isfinite(value):
                not_finite.add(name)
            elif not same(known.metrics.get(name), value):
                finals[name] = value
        points += [(name, value, stamp, 0) for name, value in finals.items()]
        if not_finite:
            before = set(filter(None, known.tags.get(NOT_FINITE_TAG, "").split(", ")))
            tags[NOT_FINITE_TAG] = clip(", ".join(sorted(before | not_finite)), MAX_TAG)
        tags = {name: text for name, text in tags.items() if known.tags.get(name) != text}
        if points or params or tags:
            self.client.log_batch(
                known.run_id,
                metrics=[Metric(*point) for point in points],
                params=[Param(*pair) for pair in params.items()],
                tags=[RunTag(*pair) for pair in tags.items()],
            )
        known.params |= params
        known.tags |= tags
        known.metrics |= finals
        known.last_epoch = max([known.last_epoch, *(int(row["epoch"]) for row in changes.rows[-1:])])

    def _unselect_others(self, key: str) -> None:
        group = key.rpartition("/")[0] + "/"
        for other, known in self.known.items():
            if other != key and other.startswith(group):
                self._log(known, Changes(tags={"selected": "false"}))

    def _log_datasets(self, known: Known, datasets: list[dict]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = []
        for data in datasets:
            name, digest = data["name"][:500], data["digest"][:MAX_DIGEST]
            if (name, digest) in known.datasets:
                continue
            profile = json.dumps(data.get("profile", {}), sort_keys=True)
            source = json.dumps({"source": data["source"]})
            dataset = Dataset(name, digest, source_type="oraclegap", source=source, profile=profile)
            inputs.append(DatasetInput(dataset, [InputTag("mlflow.data.context", data.get("context", "nominal"))]))
        if inputs:
            self.client.log_inputs(known.run_id, inputs)
            known.datasets |= {(i.dataset.name, i.dataset.digest) for i in inputs}

    def _log_artifacts(self, known: Known, changes: Changes) -> None:
        """Uploads what is new; the digests of what was uploaded are kept in a tag."""
        from hashlib import sha256

        digests = json.loads(known.tags.get(ARTIFACTS_TAG, "{}"))
        before = dict(digests)
        for name, text in changes.texts.items():
            digest = sha256(text.encode()).hexdigest()[:12]
            if digests.get(name) != digest:
                self.client.log_text(known.run_id, text, name)
                digests[name] = digest
        for path in changes.files:
            if not path.is_file():
                continue
            digest = sha256(path.read_bytes()).hexdigest()[:12]
            if digests.get(path.name) != digest:
                self.client.log_artifact(known.run_id, str(path))
                digests[path.name] = digest
        if digests != before:
            self._log(known, Changes(tags={ARTIFACTS_TAG: json.dumps(digests, sort_keys=True)}))

    def _set_status(self, known: Known, changes: Changes) -> None:
        if changes.status is None or changes.status == known.status:
            return
        if changes.status in ("RUNNING", "SCHEDULED"):
            self.client.update_run(known.run_id, status=changes.status)
        else:
            ended = int((changes.ended_at or time.time()) * 1000)
            self.client.set_terminated(known.run_id, changes.status, end_time=ended)
        known.status = changes.status


def curve_points(rows: list[dict], *, after: int) -> tuple[list[tuple[str, float, int, int]], set[str]]:
    """(name, value, time in ms, step) of rows with an epoch above ``after``, one a name and epoch, the first one kept.

    A resumed trial repeats an epoch; its row has another time, so MLflow would show two points there.
    """
    points, not_finite, seen = [], set(), after
    for row in rows:
        epoch = int(row["epoch"])
        if epoch <= seen:
            continue
        seen = epoch
        for column, name in CURVES.items():
            value = row.get(column)
            if value is None:
                continue
            if math.isfinite(value):
                points.append((name, float(value), int(row["time"] * 1000), epoch))
            else:
                not_finite.add(name)
    return points, not_finite


def same(held: float | None, wanted: float) -> bool:
    return held is not None and math.isclose(held, wanted, rel_tol=1e-12, abs_tol=1e-15)


def clip(value: Any, length: int) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= length else text[: length - 1] + "…"
