"""Analyse: asks a revealed study the questions of ``analysis.questions``, from what trials and reveals left on the disk.

What a question measures on one trial is kept beside its reveal, ``reveal/<method>/<split>/<trial>.analysis.json`` (that of
a whole method and split in ``group.analysis.json``), each answer under the digest of all it depends on. Asked again, only
what is new is computed: another scorer, a new question, another selection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.questions import Question, answer, get_question
from study.course import QUESTION as COURSE
from study.course import measured_course, run_course
from study.errors import UserError
from study.evidence import load_study, reveal_record, revealed_trials, selection_entry
from study.jobs import Job, Late, run_jobs
from study.selection import frozen_selection
from study.spec import StudySpec
from study.summary import summarise
from trainables.files import digest_of, read_json, write_json

if TYPE_CHECKING:
    from study.ledger import Ledger
    from study.runtime import Cluster

GROUP = "group"


def analyse(
    spec: StudySpec, folder: Path, cluster: Cluster, *, on_job: Callable[[Job, dict], None] | None = None
) -> list[dict[str, Any]]:
    """Measures all that the spec's ``[analysis]`` asks and that is not there yet; returns the results of the jobs.

    Raises ``UserError`` where nothing was revealed under the selection that stands.
    """
    chosen = frozen_selection(folder)["selections"]
    if not any(revealed_trials(folder, entry["method"], entry["split"]) for entry in chosen):
        raise UserError(f"{folder}: nothing is revealed under this selection; run `oraclegap reveal {folder}` first")
    jobs = analysis_jobs(spec, folder, threads=Late(lambda: max(1, int(cluster.cpus_per_trial))))
    for job in jobs:
        if (job.result(folder) or {}).get("failed"):
            job.path(folder).unlink()  # a question that failed is asked again
    return run_jobs(jobs, folder, cluster, on_done=on_job) + run_course(spec, folder, cluster, on_job=on_job)


def summarise_with_answers(ledger: Ledger, folder: Path) -> dict[str, Any]:
    """``gathered``, written to report/summary.json."""
    summary = gathered(ledger, folder)
    write_json(folder / "report" / "summary.json", summary)
    return summary


def gathered(ledger: Ledger, folder: Path) -> dict[str, Any]:
    """``study.summary.summarise``, and what each question found under ``questions``; writes nothing.

    A question without an answer says why: ``{"not_applicable": …}``, or ``{"error": …}`` where it could not be computed.
    """
    summary, spec = summarise(ledger, folder), ledger.spec
    known = measured(spec, folder) | {COURSE: measured_course(spec, folder)} if summary["revealed"] else {}
    study = load_study(summary, spec, folder, known)
    answers = {}
    for name in spec.analysis.asked() if summary["revealed"] else []:
        try:
            answers[name] = answer(get_question(name), study)
            digest_of(answers[name])
        except Exception as error:  # the table of the study must not depend on it
            answers[name] = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    summary["questions"] = answers
    return summary


def analysis_jobs(spec: StudySpec, folder: Path, *, threads: int | Late = 1) -> list[Job]:
    """One for every revealed trial, and one for every method and split with all its trials."""
    questions = [get_question(name) for name in spec.analysis.asked()]
    jobs = []
    for entry in frozen_selection(folder)["selections"]:
        method, split = entry["method"], entry["split"]
        trials = revealed_trials(folder, method, split)
        for trial in trials:
            scopes = ("trial", "selected") if trial == entry["trial"] else ("trial",)
            asked = [q for q in questions if q.measure and q.scope in scopes]
            jobs.append(_job(spec, folder, method, split, [trial], asked, str(trial), threads))
        asked = [q for q in questions if q.measure and q.scope == GROUP]
        if trials and asked:
            jobs.append(_job(spec, folder, method, split, trials, asked, GROUP, threads))
    return [job for job in jobs if job.inputs["questions"]]


def measured(spec: StudySpec, folder: Path) -> dict[str, dict[tuple[str, int, int], Any]]:
    """What was measured, by question and (method, split, trial): only what holds for this selection and these options."""
    found: dict[str, dict[tuple[str, int, int], Any]] = {}
    for job in analysis_jobs(spec, folder):
        stored = _whole(job.path(folder))
        entry = selection_entry(folder, *job.arguments["group"])
        trial = entry["trial"] if job.path(folder).name.startswith(GROUP) else job.arguments["trials"][0]
        for name, digest in job.inputs["questions"].items():
            answer = (stored.get("questions") or {}).get(name) or {}
            if answer.get("digest") == digest:
                found.setdefault(name, {})[(*job.arguments["group"], trial)] = answer["value"]
    return found


def _job(
    spec: StudySpec, folder: Path, method: str, split: int, trials: list[int], questions: list[Question], name: str,
    threads: int | Late,
) -> Job:
    records = [reveal_record(folder, method, split, str(trial)) for trial in trials]
    evidence = [digest_of(record["inputs"]) + record["result_digest"] for record in records]
    options = {q.name: {key: getattr(spec.analysis, key) for key in q.options} for q in questions}
    digests = {q.name: digest_of([q.name, q.version, options[q.name], evidence]) for q in questions}
    return Job(
        kind="analysis", run=measure_questions, label=f"analysis of {method}/{split}" + f"/{name}" * (name != GROUP),
        inputs={"questions": digests},
        arguments={"study": folder.resolve(), "group": (method, split), "trials": trials, "options": options,
                   "digests": digests, "name": name, "threads": threads},
        result_path=folder / "reveal" / method / str(split) / f"{name}.analysis.json",
    )


def measure_questions(
    *, folder: Path, study: Path, group: tuple[str, int], trials: list[int], options: dict[str, dict],
    digests: dict[str, str], name: str, threads: int,
) -> dict[str, Any]:
    """Job: {"questions": {name: {"digest", "value"}}, "failed": {name: why}}; answers that hold already are kept."""
    from study.evidence import load_trial

    method, split = group
    path = study / "reveal" / method / str(split) / f"{name}.analysis.json"
    known = _whole(path).get("questions") or {}
    answers = {key: value for key, value in known.items() if value.get("digest") == digests.get(key)}
    spec, failed = StudySpec.load(study / "spec.toml"), {}
    evidence = _Trials(partial(load_trial, spec, study, method, split, threads=threads), trials)
    for question_name, digest in digests.items():
        if question_name in answers:
            continue
        question = get_question(question_name)
        try:
            asked = evidence if question.scope == GROUP else evidence[0]
            value = question.measure(asked, **options[question_name])
            digest_of(value)  # whatever is not JSON, or not finite, shows here
            answers[question_name] = {"digest": digest, "value": value}
        except Exception as error:  # one question's mistake takes no other's answer with it
            failed[question_name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return {"questions": answers, "failed": failed}


def _whole(path: Path) -> dict[str, Any]:
    """The result in a job's file, whatever its inputs were; empty where the file is missing or damaged."""
    stored = read_json(path) or {}
    result = stored.get("result") or {}
    return result if stored.get("result_digest") == digest_of(result) else {}


class _Trials(Sequence):
    """Trials' evidence, read when asked for; one is kept, so that a thousand trials need no more memory than one."""

    def __init__(self, load: Callable[..., Any], numbers: list[int]):
        self._load, self._numbers = load, numbers
        self._last: tuple[int, Any] | None = None

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return _Trials(self._load, self._numbers[index])
        number = self._numbers[index]
        if self._last is None or self._last[0] != number:
            self._last = (number, self._load(number))
        return self._last[1]
