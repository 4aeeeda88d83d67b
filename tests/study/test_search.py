"""The searcher as Tune drives it, over a real ledger: what is told, what is not, and in which order."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ray.exceptions import RuntimeEnvSetupError
from ray.tune.search import Searcher

from study.errors import EnvironmentProblem
from study.ledger import Ledger
from study.search import LedgerScheduler, LedgerSearch
from study.spec import StudySpec

OUTCOME = {"signals": {"val_accuracy": 0.9, "val_nll": 0.3}, "train_seconds": 1.0}


class Witness:
    """An observer that looks into the ledger when it is told something."""

    def __init__(self, ledger):
        self.ledger, self.seen = ledger, []

    def trial_started(self, trial):
        self.seen.append(("started", trial.key))

    def trial_progressed(self, trial, rows):
        self.seen.append(("progressed", trial.key, len(rows)))

    def trial_ended(self, trial):
        known = next(t for t in self.ledger.trials() if t.key == trial.key)
        assert known == trial  # the ledger first, everyone else after it
        self.seen.append(("ended", trial.key, trial.state))


def a_search(folder, trials: int = 2) -> LedgerSearch:
    spec = StudySpec.parse({"name": "x", "methods": ["classifier", "hybrid"], "search": {"trials": trials}})
    ledger = Ledger(spec, folder)
    return LedgerSearch(ledger, [Witness(ledger)])


def states(search: LedgerSearch) -> list[tuple[str, str]]:
    return [(trial.key, trial.state) for trial in search.ledger.trials()]


def test_the_study_with_the_fewest_trials_goes_next_until_the_budget_is_used(tmp_path):
    search = a_search(tmp_path, trials=3)
    asked = [search.suggest(str(n)) for n in range(6)]
    assert [(a["method"], a["number"]) for a in asked[:4]] == [
        ("classifier", 0), ("hybrid", 0), ("classifier", 1), ("hybrid", 1)
    ]
    # the last round: the dearer method first
    assert [(a["method"], a["number"]) for a in asked[4:]] == [("hybrid", 2), ("classifier", 2)]
    assert search.suggest("6") == Searcher.FINISHED


def test_costs_in_the_last_round_go_by_the_methods_own_epochs(tmp_path):
    spec = StudySpec.parse({"name": "x", "methods": ["classifier", "hybrid"], "search": {"trials": 1},
                            "training": {"epochs": 10, "hybrid": {"epochs": 2}}})
    search = LedgerSearch(Ledger(spec, tmp_path), [])
    assert [search.suggest(str(n))["method"] for n in range(2)] == ["classifier", "hybrid"]


def test_it_says_when_there_is_nothing_left_to_begin(tmp_path):
    search, told = a_search(tmp_path, trials=1), []
    search.nothing_left = lambda: told.append(len(search.live))
    for n in range(2):
        search.suggest(str(n))
    assert told == []
    assert search.suggest("2") == Searcher.FINISHED and told == [2]


def test_the_ledger_is_told_before_anyone_else(tmp_path):
    search = a_search(tmp_path, trials=2)
    search.suggest("a")
    search.on_trial_result("a", {"rows": [{"epoch": 1}]})
    search.on_trial_complete("a", {"rows": [{"epoch": 2}], "outcome": [OUTCOME]})
    assert search.observers[0].seen == [
        ("started", "classifier/0/0"), ("progressed", "classifier/0/0", 1), ("progressed", "classifier/0/0", 1),
        ("ended", "classifier/0/0", "completed"),
    ]
    search.on_trial_complete("a", {"outcome": [{"reason": "again"}]})
    assert states(search) == [("classifier/0/0", "completed")]


def test_what_the_machine_is_to_blame_for_keeps_the_trial_open_and_ends_the_search(tmp_path):
    search = a_search(tmp_path)
    search.suggest("a"), search.suggest("b")
    search.on_trial_complete("a", {"rows": [], "outcome": [{"reason": "environment: No space left on device"}]})
    assert isinstance(search.fatal, EnvironmentProblem) and "No space left" in str(search.fatal)
    assert search.suggest("c") == Searcher.FINISHED
    search.on_trial_complete("b", {"rows": [], "outcome": [OUTCOME]})  # one that was under way still counts
    assert states(search) == [("classifier/0/0", "running"), ("hybrid/0/0", "completed")]
    again = a_search(tmp_path)
    first = again.suggest("d")
    assert (first["method"], first["number"]) == ("classifier", 0)


def test_a_worker_that_kept_dying_is_a_failed_trial_with_its_reason(tmp_path):
    search = a_search(tmp_path)
    search.suggest("a"), search.suggest("b")
    search.errors = {"a": "ActorDiedError: gone", "b": "oom: Task was killed due to the node running low on memory."}
    search.on_trial_complete("a", None, error=True)
    search.on_trial_complete("b", None, error=True)
    reasons = [trial.reason for trial in search.ledger.trials()]
    assert reasons == ["worker died 3 times: ActorDiedError: gone",
                       "oom: Task was killed due to the node running low on memory."]


def test_nothing_of_it_is_pickled(tmp_path):
    search = a_search(tmp_path)
    assert search.__getstate__() == {} and LedgerSearch.__getstate__(search) == {}


def test_a_result_that_cannot_be_seen_is_not_told_to_the_ledger(tmp_path, monkeypatch):
    """Storage that nodes do not share is noticed at the first trial, which stays open."""
    monkeypatch.setattr("study.search.SEEN_SECONDS", 0.05)
    search = a_search(tmp_path)
    search.folder = tmp_path
    search.suggest("a"), search.suggest("b")
    (tmp_path / "trials" / "hybrid" / "0" / "0").mkdir(parents=True)
    (tmp_path / "trials" / "hybrid" / "0" / "0" / "result.json").touch()
    search.on_trial_complete("b", {"rows": [], "outcome": [OUTCOME]})
    assert search.fatal is None
    search.on_trial_complete("a", {"rows": [], "outcome": [OUTCOME]})
    assert isinstance(search.fatal, EnvironmentProblem) and "every node of the cluster shares" in str(search.fatal)
    assert states(search) == [("classifier/0/0", "running"), ("hybrid/0/0", "completed")]


def test_a_node_on_which_no_worker_starts_costs_no_trial(tmp_path):
    search = a_search(tmp_path)
    search.suggest("a")
    fail(search, "a", tmp_path, RuntimeEnvSetupError("no module named study"))
    assert isinstance(search.fatal, EnvironmentProblem) and "no worker could be started" in str(search.fatal)
    assert "no module named study" in str(search.fatal) and states(search) == [("classifier/0/0", "running")]


@pytest.mark.parametrize(("told", "reason"), [
    ("The actor died unexpectedly before finishing this task.", "worker died 3 times: The actor died unexpectedly"),
    ("Task was killed due to the node running low on memory.\nMemory on the node was 95 %", "oom: Task was killed due to the node"),
    ("", "worker died 3 times: no message"),
])
def test_the_reason_of_a_death_is_what_ray_says_of_the_last_one(tmp_path, told, reason):
    search = a_search(tmp_path)
    search.suggest("a")
    fail(search, "a", tmp_path, RuntimeError("the first time, otherwise"), RuntimeError(told))
    assert search.fatal is None and search.ledger.trials()[0].reason.startswith(reason)


def fail(search, trial_id, folder, *errors):
    """As Tune does: each error goes into the trial's file, and scheduler and searcher hear of it."""
    from ray.tune.experiment import Trial

    stand_in = SimpleNamespace(
        trial_id=trial_id, is_restoring=False, local_path=str(folder), error_file=str(folder / "error.txt"),
        run_metadata=SimpleNamespace(num_failures=0, invalidate_cache=lambda: None))
    for error in errors:
        Trial.handle_error(stand_in, error)
        LedgerScheduler(search).on_trial_error(None, stand_in)
    search.on_trial_complete(trial_id, None, error=True)


def test_deaths_count_in_a_row(tmp_path):
    """A trial that gets on between two lost nodes is started again as often as it takes."""
    search = a_search(tmp_path)
    config = search.suggest("a")
    scheduler = LedgerScheduler(search)
    trial = SimpleNamespace(trial_id="a", config=config, run_metadata=SimpleNamespace(num_failures=0))
    for epoch, before, after in ((3, 0, 0), (3, 2, 2), (2, 2, 2), (4, 2, 0), (4, 1, 1)):
        trial.run_metadata.num_failures = before
        scheduler.on_trial_result(None, trial, {"rows": [{"epoch": n} for n in range(1, epoch + 1)]})
        assert trial.run_metadata.num_failures == after


def test_tune_counts_failures_where_they_are_forgiven():
    from ray.tune.experiment import Trial

    trial = Trial("PPO", stub=True)
    trial.run_metadata.num_failures = 2
    assert trial.num_failures == 2
