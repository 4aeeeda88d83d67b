"""The flow: prepare → search → freeze → reveal → report, each continuing where an earlier launch stopped."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from analysis import plugins
from study.errors import EnvironmentProblem, UserError
from study.groups import as_seen_from_anywhere
from study.spec import StudySpec

if TYPE_CHECKING:
    from study.jobs import Job
    from study.ledger import Ledger, TrialRecord
    from study.tracking import Projection

STAGES = ("search", "freeze", "reveal")


class Progress(Protocol):
    """Who is told how a launch goes: ``study.console`` on a terminal, nobody from Python."""

    def say(self, line: str) -> None: ...

    def warn(self, line: str) -> None: ...

    def search_begins(self, ended: list[TrialRecord], total: int, epochs: dict[str, int]) -> Any: ...

    def search_ends(self) -> None: ...

    def job_done(self, job: Job, result: dict[str, Any]) -> None: ...

    def trial_started(self, trial: TrialRecord) -> None: ...

    def trial_progressed(self, trial: TrialRecord, rows: list[dict[str, Any]]) -> None: ...

    def trial_ended(self, trial: TrialRecord) -> None: ...


def check_spec(spec: StudySpec, folder: Path) -> None:
    """Raises ``UserError`` with the differing keys unless the study is asked the same as before."""
    path = folder / "spec.toml"
    if path.exists():
        known = StudySpec.load(path)
        if changed := known.changes(spec):
            raise UserError(
                f"{folder}: this study was begun with another spec; differing: {', '.join(changed)}; "
                "undo the change, or give the study another name"
            )


def forget_half_prepared(folder: Path) -> None:
    """Removes data that was prepared for a spec which never came to be the study's: a later one may ask otherwise."""
    if not (folder / "spec.toml").exists():
        for side in ("view", "vault"):  # nothing can have been trained on them yet
            shutil.rmtree(folder / side, ignore_errors=True)


def write_spec(spec: StudySpec, folder: Path) -> None:
    """Writes ``spec.toml``: once the data is there, so that a mistake in it can still be corrected."""
    from trainables.files import write_atomic

    write_atomic(folder / "spec.toml", spec.to_toml())


def check_pretrained(spec: StudySpec, folder: Path) -> dict[str, str]:
    """SHA-256 of each file of pretrained weights by its path. ``UserError`` where one does not fit the network of its method,
    or is not the file that the study was begun with."""
    starting = {method: path for method in spec.methods if (path := spec.training.pretrained_of(method))}
    if not starting:
        return {}
    from trainables.backbone import BackboneError, load_backbone, weights_digest
    from trainables.files import read_json
    from trainables.methods import get_method

    found: dict[str, str] = {}
    known = (read_json(folder / "stamp.json") or {}).get("pretrained", {})
    view = load_views(spec, folder)[spec.data.splits[0]]
    for method, path in starting.items():
        settings = spec.training.for_method(method)
        model = get_method(method).build(view.image_shape, len(view.classes), settings["network"], spec.space(method).default())
        try:
            load_backbone(model, path)
            found[path] = weights_digest(path)
        except BackboneError as error:
            raise UserError(f"training.pretrained, {method}: {error}") from None
        if known.get(path, found[path]) != found[path]:
            raise UserError(f"training.pretrained: {path} is not the file that this study was begun with (its SHA-256 differs); "
                            "give the study another name")
    return found


def _beside_imports(command: list[str], text: str, environment: dict[str, str]) -> subprocess.CompletedProcess:
    """Runs a command that reads ``text``, and imports torch meanwhile, which the launch will need: 0.4 s less to wait (2 cores)."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, text=True, env=environment, **pipes) as child:
        try:
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(text)
                child.stdin.close()
            child.stdin = None
            import trainables.methods  # noqa: F401

            out, error = child.communicate()
        except BaseException:
            child.kill()
            raise
    return subprocess.CompletedProcess(command, child.returncode, out, error)


def prepare_data(spec: StudySpec, folder: Path, *, skip_bad: bool = False) -> None:
    """Runs ``study.prepare`` as a process of its own, so that no anomaly was ever in this one's memory."""
    from study.sources import needed_path

    data = spec.data.model_dump(exclude={"seeds"})
    if data["path"]:
        data["path"] = str(needed_path(data).resolve())
    data["group"] = as_seen_from_anywhere(data["group"])
    request = {"data": data, "folder": str(folder.resolve()), "skip_bad": skip_bad}
    done = _beside_imports(
        [sys.executable, "-m", "study.prepare"], json.dumps(request), {**os.environ, **plugins.environment(spec.plugins)})
    try:
        answer = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        tail = " ".join(done.stderr.split())[-300:]
        raise EnvironmentProblem(f"data: preparing ended with code {done.returncode}: {tail}") from None
    if not answer["ok"]:
        raise (UserError if answer["exit"] == 2 else EnvironmentProblem)(answer["error"])


def load_views(spec: StudySpec, folder: Path) -> dict[int, Any]:
    """The nominal side of every split, which ``prepare`` has just verified, the same as at the first launch."""
    from trainables.data import View
    from trainables.files import read_json

    try:
        views = {split: View.load(folder / "view" / str(split)) for split in spec.data.splits}
    except ValueError as error:
        raise UserError(str(error)) from None
    known = (read_json(folder / "stamp.json") or {}).get("data", {})
    for split, view in views.items():
        if known.get(str(split), {}).get("view", view.digest) != view.digest:
            raise UserError(
                f"{folder / 'view' / str(split)}: the data is not what this study was begun with (its digest differs); "
                "give the study another name"
            )
    return views


class Tracker:
    """Tells MLflow what happens, in its words. Everything it says can be said again."""

    def __init__(self, projection: Projection, spec: StudySpec, folder: Path):
        self.projection, self.spec, self.folder = projection, spec, folder

    def begin(self, stamp: dict[str, Any], ledger: Ledger) -> None:
        """The parent run, and all that earlier launches may have failed to say."""
        views = [_manifest(self.folder, split) for split in self.spec.data.splits]
        nominal = {key: value for key, value in stamp.items() if key not in ("vaults", "resumed")}
        self.projection.study_started(
            spec=self.spec.to_table(), spec_text=self.spec.to_toml(), stamp=nominal, data=views
        )
        for trial in ledger.trials():
            self.trial_started(trial)
            path = self.folder / "trials" / trial.key / "metrics.jsonl"
            if path.exists():
                self.projection.trial_metrics(trial.key, _rows(path))
            if trial.state != "running":
                self.trial_ended(trial)

    def trial_started(self, trial: TrialRecord) -> None:
        self.projection.trial_started(trial.key, trial.params, {"seed": self.spec.data.seeds[0]})

    def trial_progressed(self, trial: TrialRecord, rows: list[dict[str, Any]]) -> None:
        self.projection.trial_metrics(trial.key, rows)

    def trial_ended(self, trial: TrialRecord) -> None:
        extra = {"ended_at": trial.ended_at, "train_seconds": trial.train_seconds}
        self.projection.trial_ended(
            trial.key, trial.state, trial.signals, trial.reason, {k: v for k, v in extra.items() if v is not None}
        )

    def selected(self, selection: dict[str, Any], fold_signals: dict[str, float]) -> None:
        for entry in selection["selections"]:
            self.projection.trial_selected(f"{entry['method']}/{entry['split']}/{entry['trial']}")
        for key, value in fold_signals.items():
            self.projection.trial_revealed(key, {"signal/pseudo_novel_auroc": value})

    def revealed(self, summary: dict[str, Any]) -> None:
        for row in summary["rows"]:
            if row["state"] == "completed" and row["scorer_auroc"] is not None:
                self.projection.trial_revealed(f"{row['method']}/{row['split']}/{row['trial']}", gap_metrics(row))

    def end(self, summary: dict[str, Any], artifacts: Iterable[Path], note: str) -> None:
        self.projection.study_ended(summary=summary, artifacts=list(artifacts), note=note)


def gap_metrics(row: dict[str, Any]) -> dict[str, float | None]:
    """The numbers of a summary row under the names that MLflow's runs table shows."""
    return {
        "test/scorer_auroc": row["scorer_auroc"], "test/max_logit_auroc": row["scorers"].get("max_logit"),
        "test/closed_set_accuracy": row["closed_set_accuracy"], "test/aupr_anomaly": row["aupr_anomaly"],
        "test/fpr_at_95_tpr": row["fpr_at_95_tpr"], "test/equal_error_rate": row["equal_error_rate"],
        "oracle/detector_auroc": row["oracle_detector_auroc"], "oracle/linear_auroc": row["linear_oracle_auroc"],
        "oracle/representation_auroc": row["oracle_representation_auroc"], "gap/extraction": row["extraction_gap"],
        "gap/extraction_max_logit": row["extraction_gap_max_logit"], "gap/representation": row["representation_gap"],
    }


def write_outputs(spec: StudySpec, folder: Path, summary: dict[str, Any]) -> list[Path]:
    """The HTML report and its figures; returns all files of ``report/``."""
    from analysis.report import write_report
    from trainables.files import read_json

    write_report(
        folder / "report", summary, selection=read_json(folder / "selection.json"), spec=spec.to_table(),
        stamp=read_json(folder / "stamp.json"),
    )
    return sorted(path for path in (folder / "report").iterdir() if not path.name.startswith("."))


def _rows(path: Path) -> list[dict[str, Any]]:
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break  # the torn last line of a killed worker: that epoch is trained again
    return rows


def _manifest(folder: Path, split: int) -> dict[str, Any]:
    return json.loads((folder / "view" / str(split) / "manifest.json").read_text(encoding="utf-8"))
