"""The ledger on a real SQLite file: what is asked depends on history alone, and a crash loses nothing."""

from __future__ import annotations

import multiprocessing

import pytest

from study.errors import UserError
from study.ledger import Ledger, distributions, launch_lock
from study.spec import StudySpec
from study.spec_samplers import SAMPLERS, SHORT

#: A space with an end, for the sampler that tries everything.
LISTED = {"learning_rate": [0.1, 0.3, 0.9], "weight_decay": 5e-4, "dropout": [0.0, 0.2], "label_smoothing": [0.0, 0.1],
          "crop_padding": 0.125, "cutout": 0.0, "colour_jitter": 0.0, "randaugment": [0.0]}


def a_spec(**search) -> StudySpec:
    listed = search.get("sampler") == "BruteForceSampler"
    space = {"classifier": LISTED, "hybrid": {**LISTED, "reconstruction_weight": [0.1, 1.0]}} if listed else {}
    return StudySpec.parse({"name": "x", "methods": ["classifier", "hybrid"], "search": {"trials": 12, "space": space, **search}})


def outcome(value: float) -> dict:
    return {"signals": {"val_accuracy": value, "val_nll": 1 - value}, "train_seconds": 1.0}


def run_trials(ledger: Ledger, count: int) -> list[dict]:
    for number in range(count):
        ledger.tell("classifier", 0, ledger.ask("classifier", 0), outcome(1 / (number + 2)))
    return [trial.params for trial in ledger.trials("classifier", 0)]


def test_trial_zero_is_the_default_configuration(tmp_path):
    ledger = Ledger(a_spec(), tmp_path)
    for method in ("classifier", "hybrid"):
        ledger.ask(method, 0)
        assert ledger.trials(method, 0)[0].params == a_spec().space(method).default()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_suggestions_depend_on_history_alone(tmp_path, sampler):
    """A process that dies after each trial asks the same as one that lives."""
    spec = a_spec(sampler=sampler)
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    living = run_trials(Ledger(spec, tmp_path / "a"), 6)
    for number in range(6):
        ledger = Ledger(spec, tmp_path / "b")
        ledger.tell("classifier", 0, ledger.ask("classifier", 0), outcome(1 / (number + 2)))
    assert [t.params for t in Ledger(spec, tmp_path / "b").trials("classifier", 0)] == living
    assert len({str(p) for p in living}) == 6


@pytest.mark.parametrize(("sampler", "stored"), [
    (sampler, stored) for sampler in SAMPLERS for stored in ([0, 1, 3] if sampler in SHORT else [1])])
def test_a_configuration_cut_short_by_a_kill_becomes_what_it_would_have_been(tmp_path, sampler, stored):
    spec = a_spec(sampler=sampler)
    whole, cut = tmp_path / "a", tmp_path / "b"
    whole.mkdir(), cut.mkdir()
    run_trials(Ledger(spec, whole), 5)
    ledger = Ledger(spec, cut)
    run_trials(ledger, 5)
    expected = Ledger(spec, whole).ask("classifier", 0).params
    # What a kill inside `ask` leaves: a running trial with the first few parameters stored.
    trial_id = ledger.storage.create_new_trial(ledger.study("classifier", 0)._study_id)
    wanted = distributions(spec.space("classifier"))
    for name in list(wanted)[:stored]:
        ledger.storage.set_trial_param(trial_id, name, wanted[name].to_internal_repr(expected[name]), wanted[name])
    (resumed,) = Ledger(spec, cut).unfinished("classifier", 0)
    assert resumed.number == 5 and resumed.params == expected


def test_running_trials_come_back_under_their_numbers_and_ended_ones_do_not(tmp_path):
    ledger = Ledger(a_spec(), tmp_path)
    ledger.tell("hybrid", 0, ledger.ask("hybrid", 0), outcome(0.5))
    params = ledger.ask("hybrid", 0).params
    again = Ledger(a_spec(), tmp_path)
    (trial,) = again.unfinished("hybrid", 0)
    assert (trial.number, trial.params, again.asked("hybrid", 0)) == (1, params, 2)
    again.tell("hybrid", 0, trial, {"reason": "diverged: training loss is nan"})
    assert again.unfinished("hybrid", 0) == []
    failed = again.trials("hybrid", 0)[1]
    assert (failed.state, failed.reason, failed.signals) == ("failed", "diverged: training loss is nan", {})


def test_telling_twice_keeps_the_first(tmp_path):
    ledger = Ledger(a_spec(), tmp_path)
    trial = ledger.ask("classifier", 0)
    first = ledger.tell("classifier", 0, trial, outcome(0.75))
    assert ledger.tell("classifier", 0, trial, {"reason": "later"}) == first
    assert Ledger(a_spec(), tmp_path).trials() == [first]
    assert first.signals["val_accuracy"] == 0.75 and first.ended_at and first.state == "completed"


def test_an_ordinary_optuna_tool_can_open_it(tmp_path):
    import optuna

    run_trials(Ledger(a_spec(), tmp_path), 3)
    study = optuna.load_study(study_name="classifier/0", storage=f"sqlite:///{tmp_path}/ledger.db")
    assert len(study.trials_dataframe()) == 3 and study.best_value == 0.5


def test_a_second_launch_names_the_first(tmp_path):
    context = multiprocessing.get_context("spawn")
    parent, child = context.Pipe()
    holder = context.Process(target=_hold, args=(tmp_path, child))
    holder.start()
    try:
        assert parent.recv() == "held"
        with pytest.raises(UserError, match=f"process {holder.pid}"), launch_lock(tmp_path):
            pytest.fail("the lock was given twice")
    finally:
        holder.kill()
        holder.join()
    with launch_lock(tmp_path):  # the holder died without a word, and its lock with it
        pass


def _hold(folder, pipe):
    with launch_lock(folder):
        pipe.send("held")
        pipe.recv()


def test_an_empty_study_leaves_no_folder_and_its_lock_still_excludes(tmp_path):
    """Eight threads take turns at a study that never begins, so that the lock file is made and removed all the time."""
    import threading

    folder, inside, met, turns = tmp_path / "runs" / "x", [], [], []

    def drive():
        while len(turns) < 200:
            try:
                with launch_lock(folder):
                    inside.append(1)
                    met.append(len(inside))
                    inside.pop()
                    turns.append(1)
            except UserError:
                pass

    drivers = [threading.Thread(target=drive) for _ in range(8)]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    assert set(met) == {1} and len(turns) >= 200
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError, match="nothing"), launch_lock(folder):
        raise FileNotFoundError("nothing")  # of the study's own, which is not the lock's
    with launch_lock(folder):
        (folder / "spec.toml").touch()
    assert (folder / "spec.toml").exists()


def test_looking_at_a_study_creates_nothing(tmp_path):
    ledger = Ledger(a_spec(), tmp_path)
    assert ledger.trials() == [] and ledger.storage.get_all_studies() == []


def test_a_name_taken_in_a_shared_ledger_is_refused(tmp_path):
    """Two folders, one database: the second study of the same name must not take over the first one's trials."""
    (tmp_path / "mine").mkdir(), (tmp_path / "theirs").mkdir()
    shared = StudySpec.parse({"name": "x", "methods": ["classifier"],
                              "resources": {"ledger": f"sqlite:///{tmp_path}/shared.db"}})
    Ledger(shared, tmp_path / "mine").ask("classifier", 0)
    assert Ledger(shared, tmp_path / "mine").asked("classifier", 0) == 1
    with pytest.raises(UserError, match="another study named 'x'"):
        Ledger(shared, tmp_path / "theirs").ask("classifier", 0)


def test_the_password_comes_from_the_environment_and_is_never_shown(tmp_path, monkeypatch):
    from study.errors import EnvironmentProblem
    from study.ledger_storage import storage_url

    monkeypatch.setenv("ORACLEGAP_LEDGER_PASSWORD", "secret")
    spec = StudySpec.parse({"name": "x", "methods": ["classifier"],
                            "resources": {"ledger": "postgresql+psycopg://me@127.0.0.1:9/db"}})
    assert storage_url(spec) == "postgresql+psycopg://me:secret@127.0.0.1:9/db"
    with pytest.raises(EnvironmentProblem) as caught:
        Ledger(spec, tmp_path)
    assert "secret" not in str(caught.value) and "secret" not in spec.to_toml() and "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_a_trial_whose_signal_is_no_number_has_failed(tmp_path, value):
    """Optuna takes no NaN as a result: the trial would stay open, and every later launch would end on it."""
    ledger = Ledger(a_spec(), tmp_path)
    told = outcome(0.5)
    told["signals"] = {"val_nll": 0.3} | ({} if value is None else {"val_accuracy": value})
    record = ledger.tell("classifier", 0, ledger.ask("classifier", 0), told)
    assert record.state == "failed" and record.reason.startswith("signal val_accuracy is ")
    assert record.signals == {"val_nll": 0.3} and ledger.unfinished("classifier", 0) == []
    fine = outcome(0.5)
    fine["signals"]["val_ece"] = value
    assert ledger.tell("classifier", 0, ledger.ask("classifier", 0), {**fine, "signals": {
        k: v for k, v in fine["signals"].items() if v is not None}}).state == "completed"


def test_a_ledger_that_vanished_is_told_in_one_line(tmp_path):
    from study.errors import EnvironmentProblem

    (tmp_path / "a").mkdir()
    ledger = Ledger(a_spec(), tmp_path / "a")
    trial = ledger.ask("classifier", 0)
    (tmp_path / "a").rename(tmp_path / "b")
    with pytest.raises(EnvironmentProblem, match="has vanished; put the study's folder back") as caught:
        ledger.tell("classifier", 0, trial, outcome(0.5))
    assert "\n" not in str(caught.value)
    (tmp_path / "b").rename(tmp_path / "a")
    assert ledger.tell("classifier", 0, trial, outcome(0.5)).state == "completed"


def test_odd_folders_hold_their_own_ledger_or_are_refused(tmp_path):
    """Optuna takes the URL for a template, and SQLAlchemy what follows a question mark for options, %41 for a letter."""
    for name in ("a {b} c", "50% {SCHEMA_VERSION}", "c#d", "%41", "what now?", "Köln"):
        folder = tmp_path / name
        folder.mkdir()
        try:
            Ledger(a_spec(), folder).ask("classifier", 0)
        except UserError as error:
            assert name in ("%41", "what now?") and "choose another --root" in str(error)
        else:
            assert (folder / "ledger.db").stat().st_size > 0
    assert not (tmp_path / "what now").exists() and not (tmp_path / "A").exists()


@pytest.mark.parametrize("sampler", ["tpe", "NSGAIISampler"])
def test_a_search_that_is_extended_does_not_begin_anew(tmp_path, sampler):
    """TPE's random start and NSGA-II's population are those of the budget it began with."""
    def proposed(name, budget, numbers):
        (tmp_path / name).mkdir(exist_ok=True)
        ledger = Ledger(a_spec(trials=budget, sampler=sampler), tmp_path / name)
        for number in numbers:
            ledger.tell("classifier", 0, ledger.ask("classifier", 0), outcome(1 / (number + 2)))
        return [trial.params for trial in ledger.trials("classifier", 0)]

    whole = proposed("whole", 8, range(12))
    assert proposed("extended", 8, range(8)) == whole[:8]
    assert proposed("extended", 100, range(8, 12)) == whole
    assert proposed("begun larger", 100, range(12)) != whole
