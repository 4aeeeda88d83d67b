"""Another study's trials as history for the sampler: copied once, seen by nobody else, and only where no anomaly shows in them."""

from __future__ import annotations

import json
import shutil

import pytest
from test_ledger import outcome

from study.errors import UserError
from study.ledger import Ledger, distributions
from study.reveal_log import contaminated, log_reveal, prior_reveals
from study.samplers import make_sampler
from study.spec import StudySpec
from study.warm_start import begin, check_source, remembered
from trainables.files import write_json

SIGNALS = [0.5, 0.9, 0.7, 0.8, 0.6, 0.95, 0.55, 0.65, 0.75, 0.85, 0.4, 0.45]


def view(folder, split: int, digest: str) -> None:
    path = folder / "view" / str(split) / "manifest.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"digest": digest}))


def study(folder, *, splits=("view-0",), **search) -> StudySpec:
    """A study that is about to begin: its data is prepared."""
    for split, digest in enumerate(splits):
        view(folder, split, digest)
    return StudySpec.parse({"name": folder.name, "methods": ["classifier", "hybrid"], "data": {"splits": list(range(len(splits)))},
                            "search": {"trials": 16, **search}})


def begun(folder, spec: StudySpec) -> StudySpec:
    begin(spec, folder)
    (folder / "spec.toml").write_text(spec.to_toml())
    return spec


@pytest.fixture
def other(searched, tmp_path):
    return shutil.copytree(searched, tmp_path / "runs" / "other")


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A searched study of 12 trials, one of which failed."""
    folder = tmp_path_factory.mktemp("searched") / "other"
    spec = begun(folder, study(folder, sampler="random"))
    ledger = Ledger(spec, folder)
    for number, value in enumerate(SIGNALS):
        told = {"reason": "diverged"} if number == 3 else outcome(value)
        ledger.tell("classifier", 0, ledger.ask("classifier", 0), told)
    return folder


def asked(spec: StudySpec, folder, count: int) -> list[dict]:
    """``count`` trials, each in a process of its own."""
    for number in range(count):
        ledger = Ledger(spec, folder)
        ledger.tell("classifier", 0, ledger.ask("classifier", 0), outcome(0.5 + 0.03 * number))
    return [trial.params for trial in ledger.trials("classifier", 0)]


def test_what_is_kept_is_nominal_completed_and_within_the_space(other, tmp_path):
    mine = tmp_path / "runs" / "mine"
    spec = study(mine, warm_start=str(other), space={"classifier": {"learning_rate": {"low": 0.1}}})
    begun(mine, spec)
    stored = json.loads((mine / "warm_start.json").read_text())
    assert stored["study"] == "other" and stored["signal"] == "val_accuracy" and stored["left_out"] > 0
    assert set(stored["trials"][0]) == {"method", "split", "number", "params", "value"}
    known = {t.number: t for t in Ledger(StudySpec.load(other / "spec.toml"), other).trials("classifier", 0)}
    assert 3 not in {t["number"] for t in stored["trials"]} and len(stored["trials"]) + stored["left_out"] == 11
    for trial in stored["trials"]:
        assert trial["value"] == known[trial["number"]].signals["val_accuracy"] and trial["params"]["learning_rate"] >= 0.1


def test_they_count_in_no_budget_and_are_nobodys_trials(other, tmp_path):
    mine = tmp_path / "runs" / "mine"
    spec = begun(mine, study(mine, warm_start=str(other)))
    ledger = Ledger(spec, mine)
    assert ledger.asked("classifier", 0) == 0 and ledger.trials() == []
    params = asked(spec, mine, 3)
    assert params[0] == spec.space("classifier").default() and ledger.asked("classifier", 0) == 3
    assert [t.number for t in ledger.trials("classifier", 0)] == [0, 1, 2] and len(ledger.storage.get_all_trials(1)) == 3


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_the_sampler_proposes_what_it_would_with_these_trials_in_its_study(other, tmp_path, sampler):
    import optuna

    mine = tmp_path / "runs" / "mine"
    spec = begun(mine, study(mine, warm_start=str(other), sampler=sampler))
    found = asked(spec, mine, 2)
    history, wanted = remembered(spec, mine)["classifier", 0], distributions(spec.space("classifier"))
    real = optuna.create_study(direction="maximize", sampler=make_sampler(spec, "classifier", 0, 1))
    for known in [*history, {"params": {name: found[0][name] for name in wanted}, "value": 0.5}]:
        real.add_trial(optuna.trial.create_trial(value=known["value"], params=known["params"], distributions=wanted))
    assert real.ask(wanted).params == {name: found[1][name] for name in wanted}
    cold = study(tmp_path / "runs" / "cold", sampler=sampler)
    assert asked(cold, tmp_path / "runs" / "cold", 2)[1] != found[1]


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_a_killed_study_continues_as_it_was_whatever_became_of_the_other(other, tmp_path, sampler):
    whole, cut = tmp_path / "runs" / "whole", tmp_path / "runs" / "cut"
    spec = begun(whole, study(whole, warm_start=str(other), sampler=sampler))
    expected = asked(spec, whole, 6)
    begun(cut, study(cut, warm_start=str(other), sampler=sampler))
    shutil.rmtree(other)
    begin(spec, cut)  # the next launch
    assert asked(spec, cut, 4) == expected[:4]
    # A kill inside the ask: two parameters were stored.
    ledger = Ledger(spec, cut)
    trial_id = ledger.storage.create_new_trial(ledger.study("classifier", 0)._study_id)
    wanted = distributions(spec.space("classifier"))
    for name in list(wanted)[:2]:
        ledger.storage.set_trial_param(trial_id, name, wanted[name].to_internal_repr(expected[4][name]), wanted[name])
    again = Ledger(spec, cut)
    (trial,) = again.unfinished("classifier", 0)
    again.tell("classifier", 0, trial, outcome(0.5 + 0.03 * 4))
    again.tell("classifier", 0, again.ask("classifier", 0), outcome(0.65))
    assert [t.params for t in again.trials("classifier", 0)] == expected


def test_other_images_are_refused_since_their_classes_may_be_anomalies_here(other, tmp_path):
    mine = tmp_path / "runs" / "mine"
    spec = study(mine, splits=("view-of-other-classes",), warm_start=str(other))
    with pytest.raises(UserError, match="other nominal images.*anomalies here"):
        begin(spec, mine)
    assert not (mine / "warm_start.json").exists()


def test_splits_are_matched_by_their_images_and_not_by_their_numbers(other, tmp_path):
    mine = tmp_path / "runs" / "mine"
    spec = begun(mine, study(mine, splits=("view-of-other-classes", "view-0"), warm_start=str(other)))
    assert set(remembered(spec, mine)) == {("classifier", 1)}


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_without_its_memory_a_study_does_not_go_on(other, tmp_path, damage):
    mine = tmp_path / "runs" / "mine"
    spec = begun(mine, study(mine, warm_start=str(other)))
    file = mine / "warm_start.json"
    file.unlink() if damage == "gone" else file.write_text(file.read_text().replace("0.95", "0.96"))
    with pytest.raises(UserError, match="is missing" if damage == "gone" else "was changed"):
        begin(spec, mine)
    with pytest.raises(UserError, match="warm_start.json"):
        Ledger(spec, mine).ask("classifier", 0)


def test_the_reveals_of_the_other_study_are_counted_even_from_another_root(other, tmp_path):
    log_reveal(other, "other", "selection-of-other", ["vault-0"])
    mine = tmp_path / "elsewhere" / "mine"
    begun(mine, study(mine, warm_start=str(other)))
    assert prior_reveals(mine, "mine", ["vault-0"]) == 1 and prior_reveals(mine, "mine", ["vault-9"]) == 0
    ledger = Ledger(StudySpec.load(mine / "spec.toml"), mine)
    ledger.tell("classifier", 0, ledger.ask("classifier", 0), outcome(0.5))
    third = tmp_path / "third" / "x"
    begun(third, study(third, warm_start=str(mine)))  # remembers the reveals that were remembered
    assert prior_reveals(third, "x", ["vault-0"]) == 1
    assert not contaminated(mine, "mine")  # none of its own trials was chosen with the answer known


@pytest.mark.parametrize(("change", "words"), [
    ({"warm_start": "runs/nothing"}, "no study here"), ({"warm_start": "runs/mine"}, "this study itself|no study here"),
])
def test_a_source_that_is_none_is_one_line_before_anything_is_prepared(tmp_path, monkeypatch, change, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"search.warm_start: .*({words})"):
        check_source(study(tmp_path / "runs" / "mine", **change), tmp_path / "runs" / "mine")


def test_the_plan_shows_what_is_certain_before_the_first_launch_and_after(other, tmp_path):
    from study.plan import first_configurations

    mine = tmp_path / "runs" / "mine"
    spec = study(mine, warm_start=str(other))
    assert first_configurations(spec, 3, mine)["classifier/0"] == [spec.space("classifier").default()]
    begun(mine, spec)
    assert first_configurations(spec, 3, mine)["classifier/0"] == [spec.space("classifier").default()]
    assert not list(mine.glob("ledger.db"))


@pytest.mark.parametrize("changes", [{}, {"sampler": "TPESampler", "sampler_options": {"n_startup_trials": 1}},
                                     {"enqueue": [{"learning_rate": 0.05}]}, {"sampler": "QMCSampler"}])
def test_what_the_plan_shows_is_what_is_tried(tmp_path, changes):
    """Each told before the next is asked, as a sequential search does."""
    from study.plan import first_configurations

    mine = tmp_path / "runs" / "mine"
    spec = study(mine, **changes)
    shown = first_configurations(spec, 3, mine)["classifier/0"]
    mine.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(spec, mine)
    tried = []
    for value in (0.3, 0.9, 0.5):
        trial = ledger.ask("classifier", 0)
        tried.append(ledger.record("classifier", 0, trial).params)
        ledger.tell("classifier", 0, trial, {"signals": {"val_accuracy": value}})
    assert shown and shown == tried[:len(shown)]
    assert len(shown) == (1 if "sampler_options" in changes else 3)


def test_too_few_for_cmaes_and_none_that_fit_are_one_line_each(other, tmp_path):
    mine = tmp_path / "runs" / "mine"
    few = {"learning_rate": {"low": 0.2}}
    with pytest.raises(UserError, match="cmaes needs 10 trials"):
        begin(study(mine, warm_start=str(other), sampler="cmaes", space={"classifier": few}), mine)
    with pytest.raises(UserError, match="no completed trial"):
        begin(study(mine, warm_start=str(other), space={"classifier": {"momentum": 0.5}}), mine)


def test_nothing_that_stamp_or_sampler_sees_is_made_of_the_others_anomalies(other, tmp_path):
    """Its reveals name its sealed images; with others there, the digest that is passed on stays."""
    digests = []
    for vaults in (["a"], ["b", "c"]):
        write_json(other / "reveal" / "selections.json", ["s"])
        (other.parent / "reveals.jsonl").write_text(json.dumps({"study": "other", "selection": "s", "vaults": vaults}) + "\n")
        mine = tmp_path / "runs" / "".join(vaults)
        begun(mine, study(mine, warm_start=str(other)))
        stored = json.loads((mine / "warm_start.json").read_text())
        assert stored["reveals"][0]["vaults"] == vaults
        digests.append(stored["digest"])
    assert digests[0] == digests[1]
    (mine / "warm_start.json").write_text(json.dumps({**stored, "reveals": []}))
    with pytest.raises(UserError, match="was changed"):
        begin(study(mine, warm_start=str(other)), mine)


def test_the_audit_knows_the_memory_that_the_study_began_with(other, tmp_path):
    from study import Study
    from study.audit_checks import trials
    from study.audit_found import Found
    from trainables.files import digest_of

    mine = tmp_path / "runs" / "mine"
    begun(mine, study(mine, warm_start=str(other)))
    stored = json.loads((mine / "warm_start.json").read_text())
    (mine / "stamp.json").write_text(json.dumps({"warm_start": stored["digest"]}))
    assert trials(Found.of(Study.open(mine)))[0] == "doubt"  # nothing was tried yet, and nothing is wrong
    changed = {**stored, "trials": stored["trials"][:3]}
    decides = {key: value for key, value in changed.items() if key not in ("digest", "reveals", "reveals_digest")}
    (mine / "warm_start.json").write_text(json.dumps({**changed, "digest": digest_of(decides)}))
    state, words = trials(Found.of(Study.open(mine)))
    assert state == "failed" and "is not the one that stamp.json names" in words
