"""One launch: the stages in order, under the study's lock, with a cluster, a ledger and MLflow."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from study.errors import Interrupted, UserError
from study.launch import (
    Progress,
    Tracker,
    check_pretrained,
    check_spec,
    forget_half_prepared,
    load_views,
    prepare_data,
    write_outputs,
    write_spec,
)
from study.runtime import Cluster, WhenNeeded, ray_cluster

if TYPE_CHECKING:
    from study.api import Study
    from study.ledger import Ledger


class Silent:
    """A ``Progress`` that tells nobody."""

    def __getattr__(self, name: str):
        return lambda *args, **kwargs: None


def run(
    study: Study, *, stages: tuple[str, ...], stop_after: str | None = None, offline: bool = False,
    skip_bad: bool = False, progress: Progress | None = None,
) -> None:
    """Runs ``stages`` of a study up to ``stop_after``. ``Ctrl-C`` raises ``Interrupted``; nothing is lost."""
    from study.ledger import launch_lock
    from study.ledger_storage import check_database, ledger_url
    from study.tracking import Projection, check_server, tracking_uri
    from study.warm_start import begin, check_source

    if stop_after not in (None, "search", "freeze"):
        raise UserError(f"--stop-after {stop_after}: must be search or freeze")
    progress = progress or Silent()
    if "search" not in stages:
        study.require_begun()
    if not offline:
        check_server(tracking_uri(study.folder.parent))
    check_database(study.spec)
    ledger_url(study.spec, study.folder)  # a folder that cannot hold it is no place to begin a study
    with launch_lock(study.folder), _interruptible(f"oraclegap launch {study.folder}"):
        check_spec(study.spec, study.folder)
        check_source(study.spec, study.folder)
        if stages != ("analyse",):  # which needs no images but those prepared already, wherever the source is now
            forget_half_prepared(study.folder)
            prepare_data(study.spec, study.folder, skip_bad=skip_bad)
        try:
            weights = {} if stages == ("analyse",) else check_pretrained(study.spec, study.folder)
            begin(study.spec, study.folder)
        except UserError:
            forget_half_prepared(study.folder)  # so that a study which could not begin leaves nothing
            raise
        write_spec(study.spec, study.folder)
        projection = Projection(root=study.folder.parent, study=study.spec.name, offline=offline)
        try:
            with ExitStack() as opened:
                late = (study.folder / "report" / "summary.json").exists()
                cluster = WhenNeeded(lambda: _connected(study, opened, wait=late))
                if not late:
                    cluster.get()  # at once: its workers import while the rest is made ready
                tracker = Tracker(projection, study.spec, study.folder)
                _Launch(study, cluster, tracker, progress, weights).stages(stages, stop_after)
        finally:
            projection.close()
            for line in projection.problems:
                progress.warn(line)


def _connected(study: Study, opened: ExitStack, *, wait: bool) -> Cluster:
    """The study's cluster, until ``opened`` is closed; ``wait`` for its workers where work is sent at once."""
    cluster = opened.enter_context(ray_cluster(study.spec.resources, study.spec.plugins))
    if wait:
        cluster.wait_for_workers()
    return cluster


class _Launch:
    def __init__(self, study: Study, cluster: WhenNeeded, tracker: Tracker, progress: Progress, weights: dict[str, str]):
        from study.ledger import Ledger
        from study.stamp import stamp
        from trainables.files import read_json, write_json

        self.study, self.spec = study, study.spec
        self.folder = study.folder.resolve()  # a worker of another cluster stands elsewhere
        self.tracker, self.progress = tracker, progress
        self.views = load_views(self.spec, self.folder)
        known = read_json(self.folder / "stamp.json")
        self.cluster = WhenNeeded(lambda: self._settled(cluster.get()))
        self.ledger: Ledger = Ledger(self.spec, self.folder)
        made = stamp(self.folder, spec=self.spec) | ({"pretrained": weights} if weights else {})
        # The first launch's stamp is the study's; later ones are kept beside it, since versions may have moved.
        resumed = [*known.get("resumed", []), made] if known else []
        write_json(self.folder / "stamp.json", {**known, "resumed": resumed} if known else made)
        self.tracker.begin(known or made, self.ledger)

    def _settled(self, cluster: Cluster) -> Cluster:
        """With the share of a GPU that a trial takes; says what is to be said of it."""
        from study.gpu_share import settled

        cluster = settled(self.spec, cluster, self.folder, views=self.views, say=self.progress.say)
        for note in cluster.notes:
            self.progress.say(note)
        if self.spec.resources.gpus_per_trial and not cluster.gpus:
            self.progress.say("no GPU in this cluster: trials run on CPUs")
        return cluster

    def stages(self, stages: tuple[str, ...], stop_after: str | None) -> None:
        if "search" in stages:
            self.search(alone=stop_after == "search")
            if stop_after == "search":
                return
        if "freeze" in stages:
            self.freeze()
            if stop_after == "freeze":
                return
        if "reveal" in stages:
            self.reveal()
        if "analyse" in stages:
            self.analyse()

    def search(self, *, alone: bool) -> None:
        trials, names = self.ledger.trials(), self.ledger.names()
        ended = [trial for trial in trials if trial.state != "running"]
        epochs = {method: self.spec.training.for_method(method)["epochs"] for method in self.spec.methods}
        left = len(ended) < len(trials) or any(self.ledger.asked(*name) < self.spec.search.trials for name in names)
        if left:
            self.cluster.get()  # measured and settled before the search's time is counted
        self.progress.search_begins(ended, self.spec.search.trials * len(names), epochs)
        if left:
            self._run_trials(alone=alone)
        else:
            self.progress.search_ends()

    def _run_trials(self, *, alone: bool) -> None:
        from study.gpu_share import watched
        from study.jobs import WarmUp
        from study.search import run_search, scratch_of

        try:
            workers = WarmUp(self.cluster, scratch_of(self.folder))
            with watched(self.folder) if self.cluster.gpus else nullcontext([]) as told:
                run_search(
                    self.ledger, self.folder, self.cluster, views=self.views, observers=[self.tracker, self.progress],
                    nothing_left=(lambda: None) if alone else workers.start,
                )
        finally:
            self.progress.search_ends()
        for line in told:
            self.progress.say(line)
        workers.wait()

    def freeze(self) -> None:
        from study.selection import freeze
        from trainables.files import read_json

        selection = freeze(self.ledger, self.folder, self.cluster, views=self.views, on_job=self.progress.job_done)
        self.tracker.selected(selection, read_json(self.folder / "folds.json") or {})
        for entry in selection["selections"]:
            self.progress.say(
                f"frozen: {entry['method']}/{entry['split']} trial {entry['trial']} "
                f"({self.spec.selection.signal} {entry['signals'][self.spec.selection.signal]:.4f}), scorer rule "
                f"{entry['scorer']} = {', '.join(entry['members'])}"
            )

    def reveal(self) -> None:
        from study.reveal import reveal

        results = reveal(self.ledger, self.folder, self.cluster, views=self.views, on_job=self.progress.job_done)
        if not results:
            self.progress.say("no anomalies in this study: nothing to reveal; `oraclegap export` works")
        self.study.failed_jobs = [result["reason"] for result in results if "reason" in result]
        if results:
            self.analyse()
        else:
            self.report()

    def analyse(self) -> None:
        from study.analyse import analyse

        results = analyse(self.spec, self.folder, self.cluster, on_job=self.progress.job_done)
        failed = {question: reason for found in results for question, reason in found.get("failed", {}).items()}
        for question, reason in failed.items():  # once each: every trial of a study tends to fail alike
            self.progress.warn(f"question {question} could not be measured: {reason}")
        self.study.failed_jobs += [result["reason"] for result in results if "reason" in result]
        self.tracker.revealed(self.report())

    def report(self) -> dict[str, Any]:
        from analysis.table import render_table
        from study.analyse import summarise_with_answers

        summary = summarise_with_answers(self.ledger, self.folder)
        files = write_outputs(self.spec, self.folder, summary)
        note = "```\n" + render_table(summary, width=100, color=False) + "\n```"
        self.tracker.end(summary, files, note)
        return summary


@contextmanager
def _interruptible(command: str) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the launch in order; a second one ends it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed = []

    def stop(number: int, frame: Any) -> None:
        if pressed:
            import os

            os._exit(130)  # the watchdog of study.runtime ends what is left
        pressed.append(number)
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; every finished epoch is saved, launch again to continue: {command}") from None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
