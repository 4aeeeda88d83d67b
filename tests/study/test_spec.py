"""The spec: ready ones load, one round trip loses nothing, and every mistake is one line that says what to do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.errors import UserError
from study.spec import EPOCH_SIGNALS, NETWORKS, SOURCES, StudySpec
from study.spec_file import find_spec, ready_specs

MINIMAL = {"name": "x", "methods": ["classifier"]}


@pytest.mark.parametrize("name", ready_specs())
def test_ready_specs_load_and_survive_a_round_trip(name, tmp_path):
    spec = StudySpec.load(name)
    (tmp_path / "again.toml").write_text(spec.to_toml())
    assert StudySpec.load(tmp_path / "again.toml") == spec


@settings(max_examples=40, deadline=None)
@given(
    trials=st.integers(1, 10**6), folds=st.sampled_from([0, 2, 3, 5]), epochs=st.integers(1, 500),
    splits=st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True),
    low=st.floats(1e-4, 1e-2), high=st.floats(0.1, 5), own=st.integers(1, 9),
)
def test_any_valid_spec_survives_a_round_trip(trials, folds, epochs, splits, low, high, own):
    import tomllib

    table = {
        **MINIMAL, "methods": ["classifier", "hybrid"], "data": {"splits": splits},
        "training": {"epochs": epochs, "hybrid": {"epochs": own}},
        "search": {"trials": trials, "space": {"hybrid": {"reconstruction_weight": {"low": low, "high": high}}}},
        "selection": {"folds": folds, "scorer_rule": "all_mean"},
    }
    spec = StudySpec.parse(table)
    again = StudySpec.parse(tomllib.loads(spec.to_toml()))
    assert again == spec and not spec.changes(again)
    assert again.training.for_method("hybrid")["epochs"] == own
    assert again.training.for_method("classifier")["epochs"] == epochs


BAD = {
    "misspelt table": ({"serach": {}}, ["serach", "did you mean 'search'"]),
    "misspelt key": ({"search": {"trails": 3}}, ["search.trails", "did you mean 'trials'"]),
    "unknown method": ({"methods": ["clasifier"]}, ["clasifier", "did you mean 'classifier'"]),
    "no method": ({"methods": []}, ["methods"]),
    "method twice": ({"methods": ["hybrid", "hybrid"]}, ["same method twice"]),
    "method not a list": ({"methods": "classifier"}, ["methods"]),
    "no trials": ({"search": {"trials": 0}}, ["search.trials", "0"]),
    "trials as text": ({"search": {"trials": "many"}}, ["search.trials", "many"]),
    "trials as a fraction": ({"search": {"trials": 1.5}}, ["search.trials"]),
    "Ray's client": ({"resources": {"address": "ray://10.0.0.7:10001"}}, ["resources.address", "host:port"]),
    "an option beyond all floats": ({"search": {"sampler_options": {"n_startup_trials": 10**400}}}, ["n_startup_trials"]),
    "gpu above one": ({"resources": {"gpus_per_trial": 1.5}}, ["resources.gpus_per_trial", "1.5"]),
    "gpu negative": ({"resources": {"gpus_per_trial": -0.5}}, ["resources.gpus_per_trial"]),
    "no cpu": ({"resources": {"cpus_per_trial": 0}}, ["resources.cpus_per_trial"]),
    "infinite cpus": ({"resources": {"cpus_per_trial": float("inf")}}, ["resources.cpus_per_trial"]),
    "name with a path": ({"name": "../x"}, ["name", "no path"]),
    "empty name": ({"name": ""}, ["name"]),
    "long name": ({"name": "x" * 65}, ["name"]),
    "unknown source": ({"data": {"source": "imagenet"}}, ["data.source", "imagenet"]),
    "source without path": ({"data": {"source": "folder"}}, ["folder", "path"]),
    "one nominal class": ({"data": {"nominal_classes": 1}}, ["data.nominal_classes"]),
    "no split": ({"data": {"splits": []}}, ["data.splits"]),
    "split twice": ({"data": {"splits": [1, 1]}}, ["data.splits", "twice"]),
    "negative seed": ({"data": {"seeds": [-1]}}, ["data.seeds"]),
    "unknown partition": ({"data": {"partition": "random"}}, ["data.partition"]),
    "unknown network": ({"training": {"network": "vgg"}}, ["training.network", "vgg"]),
    "override of an unknown method": ({"training": {"csii": {"epochs": 3}}}, ["training.csii"]),
    "override of an unknown key": ({"training": {"hybrid": {"epoch": 3}}}, ["epoch", "did you mean 'epochs'"]),
    "override with a bad value": ({"training": {"hybrid": {"epochs": 0}}}, ["epochs"]),
    "batch of one": ({"training": {"batch_size": 1}}, ["training.batch_size"]),
    "unknown sampler": ({"search": {"sampler": "grid"}}, ["search.sampler", "grid"]),
    "misspelt sampler class": ({"search": {"sampler": "QMCSamplr"}}, ["search.sampler", "did you mean 'QMCSampler'"]),
    "sampler of several objectives": ({"search": {"sampler": "NSGAIIISampler"}}, ["search.sampler", "several objectives"]),
    "sampler with a grid of its own": ({"search": {"sampler": "GridSampler"}}, ["search.sampler", "use BruteForceSampler"]),
    "sampler around another": ({"search": {"sampler": "PartialFixedSampler"}}, ["search.sampler", "fix parameters"]),
    "misspelt option": ({"search": {"sampler_options": {"n_startup_trails": 3}}},
                        ["search.sampler_options", "did you mean 'n_startup_trials'"]),
    "option of another sampler": ({"search": {"sampler": "random", "sampler_options": {"popsize": 3}}},
                                  ["search.sampler_options", "random has none"]),
    "option of a wrong kind": ({"search": {"sampler_options": {"n_startup_trials": 2.5}}},
                               ["sampler_options: n_startup_trials", "whole number", "2.5"]),
    "option of no word": ({"search": {"sampler": "QMCSampler", "sampler_options": {"qmc_type": "soból"}}}, ["'sobol' or 'halton'"]),
    "a seed of the sampler's own": ({"search": {"sampler_options": {"seed": 3}}}, ["sampler_options", "data.seeds"]),
    "options against each other": ({"search": {"sampler_options": {"group": True, "multivariate": False}}}, ["group", "multivariate"]),
    "everything of an endless space": ({"search": {"sampler": "BruteForceSampler"}}, ["search.sampler", "has no end"]),
    "more trials than there are": ({"search": {"sampler": "BruteForceSampler", "space": {"classifier": {
        "learning_rate": [0.1, 0.3], "weight_decay": 5e-4, "dropout": 0.0, "label_smoothing": 0.0, "crop_padding": 0.0,
        "cutout": 0.0, "colour_jitter": 0.0, "mixup": 0.0, "cutmix": 0.0, "randaugment": 0.0}}}},
        ["search.trials", "2 configurations in all"]),
    "enqueued parameter that is misspelt": ({"search": {"enqueue": [{"learning_rat": 0.1}]}},
                                            ["search.enqueue: number 1", "did you mean 'learning_rate'"]),
    "enqueued and misspelt for one method": ({"search": {"enqueue": [{"method": "classifier", "learning_rat": 0.1}]}},
                                             ["search.enqueue: number 1", "did you mean 'learning_rate'"]),
    "enqueued out of range": ({"search": {"enqueue": [{"dropout": 0.1}, {"learning_rate": 3.0}]}},
                              ["search.enqueue: number 2", "classifier.learning_rate", "within 0.02..1"]),
    "enqueued outside the narrowed space": ({"search": {"enqueue": [{"mixup": 1.0}], "space": {"classifier": {"mixup": [0.0, 0.2]}}}},
                                            ["classifier.mixup", "one of [0.0, 0.2]"]),
    "enqueued against what is fixed": ({"search": {"enqueue": [{"momentum": 0.5, "dropout": 0.1}]}}, ["classifier.momentum", "0.9"]),
    "enqueued for a method that is not there": ({"search": {"enqueue": [{"method": "hybrid", "dropout": 0.1}]}},
                                                ["search.enqueue", "'hybrid' is none of this study's methods"]),
    "enqueued parameters of two methods": ({"methods": ["hybrid", "jem"], "search": {"enqueue": [
        {"reconstruction_weight": 0.1, "energy_weight": 1.0}]}}, ["no method of this study has all of"]),
    "nothing enqueued": ({"search": {"enqueue": [{}]}}, ["search.enqueue: number 1", "no parameter"]),
    "enqueued twice": ({"search": {"enqueue": [{"dropout": 0.1}, {"dropout": 0.1}]}}, ["search.enqueue", "twice"]),
    "more enqueued than trials": ({"search": {"trials": 2, "enqueue": [{"dropout": 0.1}, {"dropout": 0.2}]}},
                                  ["search.enqueue", "at least 3, not 2"]),
    "enqueued as a table": ({"search": {"enqueue": {"dropout": 0.1}}}, ["search.enqueue", "a list"]),
    "warm start of a blind sampler": ({"search": {"sampler": "random", "warm_start": "runs/a"}}, ["search.warm_start", "random"]),
    "warm start of another's children": ({"search": {"sampler": "NSGAIISampler", "warm_start": "runs/a"}}, ["search.warm_start"]),
    "blank warm start": ({"search": {"warm_start": " "}}, ["search.warm_start", "folder of a study"]),
    "unknown parameter": ({"search": {"space": {"hybrid": {"lambda": 1}}}}, ["lambda"]),
    "reversed range": ({"search": {"space": {"hybrid": {"reconstruction_weight": {"low": 2.0, "high": 1.0}}}}},
                       ["reconstruction_weight"]),
    "log of zero": ({"search": {"space": {"hybrid": {"reconstruction_weight": {"low": 0.0, "high": 1.0, "log": True}}}}},
                    ["reconstruction_weight"]),
    "nan bound": ({"search": {"space": {"hybrid": {"reconstruction_weight": {"low": float("nan"), "high": 1.0}}}}},
                  ["reconstruction_weight"]),
    "infinite bound": ({"search": {"space": {"classifier": {"learning_rate": {"low": 0.1, "high": float("inf")}}}}},
                       ["learning_rate"]),
    "empty choices": ({"search": {"space": {"classifier": {"learning_rate": []}}}}, ["learning_rate"]),
    "space of an unknown method": ({"search": {"space": {"hybird": {}}}}, ["hybird", "did you mean 'hybrid'"]),
    "post-hoc of an unknown scorer": ({"search": {"posthoc": {"enrgy": {}}}}, ["enrgy"]),
    "post-hoc of an unknown parameter": ({"search": {"posthoc": {"energy": {"t": {"low": 1, "high": 2}}}}}, ["energy.t"]),
    "post-hoc reversed": ({"search": {"posthoc": {"energy": {"temperature": {"low": 2.0, "high": 1.0}}}}}, ["low"]),
    "unknown signal": ({"selection": {"signal": "test_auroc"}}, ["selection.signal", "test_auroc"]),
    "unknown rule": ({"selection": {"scorer_rule": "top half"}}, ["scorer_rule"]),
    "rule without folds": ({"selection": {"folds": 0}}, ["folds = 0"]),
    "one fold": ({"selection": {"folds": 1}}, ["folds = 1"]),
    "pruner without a curve": ({"search": {"pruner": "median"}, "selection": {"signal": "val_ece"}}, ["pruner"]),
    "unknown rule that looks like a name": ({"selection": {"scorer_rule": "top_half_maen"}}, ["did you mean 'top_half_mean'"]),
    "unknown scorer": ({"selection": {"scorers": ["max_logitt"]}}, ["max_logitt", "did you mean 'max_logit'"]),
    "a rule that one method lacks": ({"methods": ["classifier", "hybrid"], "selection": {
        "scorer_rule": "reconstruction_error"}}, ["classifier has no scorer 'reconstruction_error'"]),
    "password in a URL": ({"resources": {"ledger": "postgresql://me:secret@host/db"}}, ["ORACLEGAP_LEDGER_PASSWORD"]),
    "password in a query": ({"resources": {"ledger": "postgresql://me@host/db?password=secret"}}, ["PASSWORD"]),
    "not a URL": ({"resources": {"ledger": "somewhere"}}, ["resources.ledger", "storage URL"]),
    "pickles in a shared ledger": ({"search": {"sampler": "cmaes"}, "resources": {"ledger": "postgresql://me@host/db"}},
                                   ["cmaes", "pickle"]),
    "finalists by another signal": ({"selection": {"finalists": 2, "signal": "val_nll"}}, ["finalists"]),
    "post-hoc beyond the possible": ({"search": {"posthoc": {"vim": {"share": {"low": 0.1, "high": 2.0}}}}}, ["at most 1"]),
    "a rule without its head": ({"methods": ["classifier", "deep_ensemble"], "selection": {
        "scorer_rule": "vim"}}, ["linear head, which deep_ensemble does not have"]),
    "scorers of which a method can use none": ({"methods": ["classifier", "deep_ensemble"], "selection": {
        "scorers": ["vim", "react"]}}, ["deep_ensemble can use none of vim, react"]),
    "training overrides by their inner name": ({"training": {"overrides": {"hybrid": {"epochs": 2}}}}, ["training.<method>"]),
    "a method that is no word": ({"methods": [1]}, ["methods"]),
    "plug-ins that are no list": ({"plugins": "nonsense"}, ["plugins: must be a list"]),
    "post-hoc of a wrong kind": ({"search": {"posthoc": {"energy": {"temperature": {"low": "a", "high": 2}}}}}, ["energy"]),
    "a module of Python as network": ({"training": {"network": "os:system"}}, ["training.network", "module of Python itself"]),
    "a module of Python as plug-in": ({"plugins": ["network=subprocess:run"]}, ["plugins", "module of Python itself"]),
    "path with a NUL": ({"data": {"source": "npz", "path": "a\0b"}}, ["data.path", "NUL"]),
    "blank path": ({"data": {"source": "npz", "path": "  "}}, ["data.path", "blank"]),
    "class on both sides": ({"data": {"nominal_classes": ["a", "b"], "anomaly_classes": ["b"]}},
                            ["data.anomaly_classes", "'b' is a nominal class"]),
    "class twice": ({"data": {"nominal_classes": ["a", "b", "a"]}}, ["data.nominal_classes", "same class twice"]),
    "classes of a wrong kind": ({"data": {"nominal_classes": 2.5}}, ["data.nominal_classes", "a list of names or indices"]),
    "address of nothing": ({"resources": {"address": "http://host/"}}, ["resources.address", "host:port"]),
    "ledger of no database": ({"resources": {"ledger": "postgrse://me@host/db"}}, ["resources.ledger", "postgrse"]),
    "ledger in memory": ({"resources": {"ledger": "sqlite://"}}, ["resources.ledger", "memory"]),
    "seed beyond 32 bits": ({"data": {"seeds": [2**40]}}, ["data.seeds"]),
    "name with an escape sequence": ({"name": "a\x1b[2J"}, ["name", "\\x1b"]),
    "scorer twice": ({"selection": {"scorers": ["msp", "msp"]}}, ["scorers", "twice"]),
}


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_one_line_that_names_it(name):
    change, words = BAD[name]
    with pytest.raises(UserError) as caught:
        StudySpec.parse({**MINIMAL, **change}, where="my.toml")
    line = str(caught.value)
    assert line.startswith("my.toml: ") and line.isprintable() and len(line) < 400
    assert "secret" not in line
    for word in words:
        assert word in line


@pytest.mark.parametrize(("text", "words"), [
    (f"name = {'[' * 3000}", ["nested too deeply"]), (f"name = {'9' * 5000}", ["more digits"]),
    ("name = 'x'\nname = 'y'\n", ["not valid TOML"]), ("name = ", ["not valid TOML"]), ("", ["missing"]),
])
def test_a_broken_file_is_one_line(tmp_path, text, words):
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(UserError) as caught:
        StudySpec.load(tmp_path / "bad.toml")
    assert "bad.toml" in str(caught.value) and "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words)


def test_overrides_are_toml_values_and_bare_words_are_strings():
    spec = StudySpec.load("digits", ["search.trials=4", "search.sampler=random", "data.splits=[1, 2]", "name=other"])
    assert (spec.search.trials, spec.search.sampler, spec.data.splits, spec.name) == (4, "random", [1, 2], "other")
    assert StudySpec.load("digits", {"search.trials": 5}).search.trials == 5


@pytest.mark.parametrize("bad", ["search.trials", "=3", "name.x=3", "search.trials=0", "search.trails=3"])
def test_a_bad_override_is_an_error(bad):
    with pytest.raises(UserError):
        StudySpec.load("digits", [bad])


def test_only_budget_concurrency_and_resources_may_change():
    spec = StudySpec.load("digits")
    free = ["search.trials=99", "search.max_concurrent=1", "resources.cpus_per_trial=2", "resources.gpus_per_trial=0.5"]
    assert spec.changes(StudySpec.load("digits", free)) == []
    assert spec.changes(StudySpec.load("digits", ["resources.ledger=postgresql://me@host/db"])) == ["resources.ledger"]
    fixed = ["data.limit=10", "training.epochs=3", "search.sampler=random", "search.space.hybrid.dropout=0.1"]
    changed = spec.changes(StudySpec.load("digits", fixed))
    assert {"data.limit", "training.epochs", "search.sampler"} < set(changed) and len(changed) == 4


def test_the_names_that_are_kept_here_are_those_of_the_registries():
    from analysis.signals import trial_signal_names
    from study.sources import source_names
    from trainables.networks import network_names

    assert set(SOURCES) == set(source_names()) and list(NETWORKS) == network_names()
    assert set(EPOCH_SIGNALS) < set(trial_signal_names())


def test_an_unknown_spec_names_the_nearest_and_the_ready_ones():
    with pytest.raises(UserError, match="did you mean 'digits'.*ready specs: .*cifar10"):
        find_spec("digit")


def test_weights_of_one_method_are_as_absolute_as_those_of_all(tmp_path, monkeypatch):
    """A worker stands elsewhere, and so may the next launch."""
    monkeypatch.chdir(tmp_path)
    spec = StudySpec.parse({"name": "x", "methods": ["classifier", "hybrid"], "training": {"hybrid": {"pretrained": "own.pth"}}})
    assert spec.training.for_method("hybrid")["pretrained"] == str(tmp_path / "own.pth")
    assert "pretrained" not in spec.training.for_method("classifier")
