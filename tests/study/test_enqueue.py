"""Known configurations: tried right after the default one, once, whatever dies in between."""

from __future__ import annotations

import pytest
from test_ledger import outcome

from study.ledger import Ledger
from study.spec import StudySpec

KNOWN = [{"learning_rate": 0.1, "dropout": 0}, {"method": "hybrid", "reconstruction_weight": 0.5}, {"mixup": 1}]


def a_spec(sampler: str = "tpe", **search) -> StudySpec:
    return StudySpec.parse({"name": "x", "methods": ["classifier", "hybrid"],
                            "search": {"trials": 9, "sampler": sampler, "enqueue": KNOWN, **search}})


def asked(spec: StudySpec, folder, count: int, method: str = "hybrid") -> list[dict]:
    """``count`` trials, each in a process of its own."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        ledger = Ledger(spec, folder)
        ledger.tell(method, 0, ledger.ask(method, 0), outcome(1 / (number + 2)))
    return [trial.params for trial in ledger.trials(method, 0)]


def test_they_come_after_the_default_for_every_method_that_has_their_parameters(tmp_path):
    spec = a_spec()
    hybrid, classifier = asked(spec, tmp_path, 5), asked(spec, tmp_path, 4, "classifier")
    assert hybrid[0] == spec.space("hybrid").default() and classifier[0] == spec.space("classifier").default()
    assert (hybrid[1]["learning_rate"], hybrid[1]["dropout"]) == (0.1, 0.0) and hybrid[2]["reconstruction_weight"] == 0.5
    assert hybrid[3]["mixup"] == 1.0 and (classifier[1]["learning_rate"], classifier[2]["mixup"]) == (0.1, 1.0)
    assert len({p["weight_decay"] for p in hybrid}) == 5  # what is left open is drawn anew each time
    ledger = Ledger(spec, tmp_path)
    assert [ledger.asked(m, 0) for m in ("classifier", "hybrid")] == [4, 5]
    assert [t.number for t in ledger.trials("hybrid", 0)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("before_the_kill", [0, 2])
def test_a_kill_between_two_of_them_loses_none_and_doubles_none(tmp_path, before_the_kill, monkeypatch):
    import optuna

    expected = asked(a_spec(), tmp_path / "whole", 5)
    enqueue, done = optuna.Study.enqueue_trial, []

    def dies(study, *args, **options):
        if len(done) == before_the_kill:
            raise KeyboardInterrupt
        done.append(enqueue(study, *args, **options))

    (tmp_path / "cut").mkdir()
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(optuna.Study, "enqueue_trial", dies)
        Ledger(a_spec(), tmp_path / "cut").study("hybrid", 0)
    Ledger(a_spec(), tmp_path / "cut").study("hybrid", 0)
    assert asked(a_spec(), tmp_path / "cut", 5) == expected


@pytest.mark.parametrize("sampler", ["tpe", "QMCSampler"])
def test_a_killed_one_continues_as_it_was(tmp_path, sampler):
    """Killed inside the ask of an enqueued trial, when it had stored two of its parameters."""
    from study.ledger import distributions

    spec = a_spec(sampler)
    expected = asked(spec, tmp_path / "whole", 5)
    asked(spec, tmp_path / "cut", 1)
    ledger = Ledger(spec, tmp_path / "cut")
    study = ledger.study("hybrid", 0)
    trial_id = study._pop_waiting_trial_id()
    wanted = distributions(spec.space("hybrid"))
    for name in list(wanted)[:2]:
        ledger.storage.set_trial_param(trial_id, name, wanted[name].to_internal_repr(expected[1][name]), wanted[name])
    again = Ledger(spec, tmp_path / "cut")
    (trial,) = again.unfinished("hybrid", 0)
    again.tell("hybrid", 0, trial, outcome(1 / 3))
    for number in range(2, 5):
        again.tell("hybrid", 0, again.ask("hybrid", 0), outcome(1 / (number + 2)))
    assert [t.params for t in again.trials("hybrid", 0)] == expected


def test_they_are_part_of_the_question_and_survive_the_file(tmp_path):
    spec = a_spec()
    (tmp_path / "spec.toml").write_text(spec.to_toml())
    assert StudySpec.load(tmp_path / "spec.toml") == spec and "enqueue = [" in spec.to_toml()
    assert spec.changes(a_spec(enqueue=KNOWN[:2])) == ["search.enqueue"]


def test_the_plan_shows_them_first(tmp_path):
    from study.plan import first_configurations

    shown = first_configurations(a_spec(), 3, tmp_path)["hybrid/0"]
    assert shown[1]["learning_rate"] == 0.1 and shown[2]["reconstruction_weight"] == 0.5


def test_an_exported_configuration_can_be_launched_again(tmp_path):
    """Nothing of the search goes along: no known configuration, no history, no sampler."""
    from study.export import one_trial_spec

    spec = StudySpec.parse({
        "name": "x", "methods": ["classifier", "hybrid"], "selection": {"fold_trials": ["hybrid"]},
        "search": {"trials": 12, "enqueue": [{"learning_rate": 0.05}, {"method": "hybrid", "reconstruction_weight": 0.5}],
                   "sampler": "TPESampler", "sampler_options": {"n_startup_trials": 2}, "warm_start": "runs/other"}})
    params = spec.space("classifier").default() | {"learning_rate": 0.07}
    made = one_trial_spec(spec, {"method": "classifier", "split": 0}, params)
    path = tmp_path / "config.toml"
    path.write_text(made.to_toml())
    again = StudySpec.load(path)
    assert again.selection.fold_trials == "finalists"
    assert again.search.trials == 1 and not again.search.enqueue and not again.search.warm_start
    assert again.space("classifier").default() == params and again.space("classifier").searched() == {}
