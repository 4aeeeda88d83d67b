"""The driver is killed, interrupted or doubled: every trial ends once, and nobody is left behind."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import time

import pytest
from check_study import check_every_trial_once
from conftest import ORACLEGAP, TINY, overrides, run

from study.watchdog import command_of, family, processes

pytestmark = pytest.mark.slow
TRIALS = 3
PAIRS = [*TINY, "methods=['classifier']", f"search.trials={TRIALS}", "training.epochs=6", "analysis.questions=[]",
         'resources.address="local"']
LAUNCH = ["launch", "digits", *overrides(*PAIRS)]


@pytest.fixture
def start(tmp_path):
    """Starts a launch in ``tmp_path``; a test that fails leaves none running."""
    started = []

    def begin(*more: str) -> subprocess.Popen:
        log = open(tmp_path / "launch.log", "a")  # noqa: SIM115  (the process owns it)
        command = [*ORACLEGAP, *LAUNCH, *more]
        started.append(
            subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        )
        return started[-1]

    yield begin
    for driver in started:
        driver.kill()
        driver.wait()


def descendants(pid: int) -> set[int]:
    return set(family({pid})) - {pid}


def alive(pids: set[int]) -> set[int]:
    return pids & processes().keys()


def gone_within(pids: set[int], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while alive(pids) and time.monotonic() < deadline:
        time.sleep(0.2)
    return not alive(pids)


def test_killed_at_random_moments_and_launched_again(tmp_path, start):
    """Two SIGKILLs of the driver, each some seconds into its search, then a launch that finishes."""
    moments = [random.uniform(2, 6), random.uniform(6, 14)]  # the start of Ray, and somewhere in the search or after it
    study = tmp_path / "runs" / "tiny"
    for moment in moments:
        driver = start()
        time.sleep(moment)
        below = descendants(driver.pid)
        driver.kill()
        driver.wait()
        assert gone_within(below, 15), (moments, [command_of(pid) for pid in alive(below)])
    done = run(*LAUNCH, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    print("killed after", moments, "seconds")
    check_every_trial_once(study, methods=["classifier"], trials=TRIALS, epochs=6)


def test_ctrl_c_is_resumable_and_leaves_nobody(tmp_path, start):
    longer = ["-o", "training.epochs=60"]  # the search must still be going on when the second launch has been refused
    driver = start(*longer)
    study = tmp_path / "runs" / "tiny"
    while not list(study.glob("trials/*/0/0/metrics.jsonl")) and driver.poll() is None:
        time.sleep(0.1)
    second = run(*LAUNCH, *longer, cwd=tmp_path)  # while the first one holds the study
    assert second.returncode == 2 and f"process {driver.pid} on " in second.stderr
    below = descendants(driver.pid)
    os.kill(driver.pid, signal.SIGINT)
    assert driver.wait(timeout=10) == 130
    assert gone_within(below, 15), "orphans"
    text = (tmp_path / "launch.log").read_text()
    assert "launch again to continue" in text and "Traceback" not in text
    done = run(*LAUNCH, *longer, "--stop-after", "search", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    status = json.loads(run("status", study, "--json", cwd=tmp_path).stdout)
    assert status["stage"] == "searched" and status["ended"] == TRIALS


def test_a_killed_worker_goes_on_where_it_was(tmp_path, start):
    driver = start("--offline", "--stop-after", "search", "-o", "training.epochs=120", "-o", "search.trials=1")
    study = tmp_path / "runs" / "tiny"
    path = study / "trials" / "classifier" / "0" / "0" / "metrics.jsonl"
    while not path.exists() or len(path.read_text().splitlines()) < 20:
        assert driver.poll() is None
        time.sleep(0.05)
    before = path.read_text().splitlines()
    workers = [pid for pid in descendants(driver.pid) if b"Trainable.train" in command_of(pid)]
    assert workers
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    assert driver.wait(timeout=200) == 0, (tmp_path / "launch.log").read_text()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, 121))
    kept = [json.loads(line) for line in before[:-1]]
    assert rows[: len(kept)] == kept  # trained once: at most the epoch under way was repeated
    assert re.search(r"classifier/0/0 completed", (tmp_path / "launch.log").read_text())


@pytest.mark.long
def test_a_diverging_trial_is_an_outcome(tmp_path):
    pairs = [*TINY, "methods=['classifier']", "search.space.classifier.learning_rate=1e9",
             "search.space.classifier.gradient_clip=0", "selection.folds=0",
             "selection.scorer_rule=all_mean", 'resources.address="local"']
    done = run("launch", "digits", "--offline", *overrides(*pairs), cwd=tmp_path)
    assert done.returncode == 2 and "no trial completed" in done.stderr
    status = json.loads(run("status", "runs/tiny", "--json", cwd=tmp_path).stdout)
    assert status["rows"][0]["failed"] == 2
    assert all(failure["reason"].startswith("diverged: ") for failure in status["failures"])


def test_a_method_that_diverges_leaves_its_row_and_the_others_their_results(tmp_path):
    """JEM at a learning rate that no clipping holds: its reason is kept, told to the sampler and shown."""
    import optuna

    pairs = [*TINY, "methods=['classifier', 'jem']", "search.trials=1", "training.epochs=2",
             "search.space.jem.learning_rate=1e6", "search.space.jem.gradient_clip=0", "selection.folds=0",
             "selection.scorer_rule=max_logit", "analysis.questions=['roc', 'study_claims']", 'resources.address="local"']
    done = run("launch", "digits", "--offline", *overrides(*pairs), cwd=tmp_path)
    assert done.returncode == 4, done.stderr + done.stdout
    study = tmp_path / "runs" / "tiny"
    rows = {row["method"]: row for row in json.loads((study / "report" / "summary.json").read_text())["rows"]}
    assert rows["classifier"]["scorer_auroc"] > 0.5 and rows["classifier"]["state"] == "completed"
    failed = rows["jem"]
    assert failed["state"] == "failed" and failed["reason"].startswith("diverged: ") and not failed["selected"]
    assert failed["scorer_auroc"] is None and failed["oracle_detector_auroc"] is None and failed["signal_value"] is None
    (trial,) = optuna.load_study(study_name="jem/0", storage=f"sqlite:///{study}/ledger.db").get_trials()
    assert trial.state.name == "FAIL" and trial.value is None
    assert [entry["method"] for entry in json.loads((study / "selection.json").read_text())["selections"]] == ["classifier"]
    assert "diverged: " in (study / "report" / "index.html").read_text()
