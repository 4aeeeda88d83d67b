"""Every sampler class that a spec may name: its options, its sequence, its end. Real Optuna, real SQLite."""

from __future__ import annotations

import inspect
import itertools

import numpy as np
import pytest
from test_ledger import a_spec, outcome

from study.ledger import Ledger, distributions
from study.samplers import make_sampler
from study.spec_samplers import BLIND, OBJECTS, OPTIONS, REFUSED, SAMPLERS, SHORT


def told(ledger: Ledger, count: int) -> list[dict]:
    for number in range(count):
        ledger.tell("classifier", 0, ledger.ask("classifier", 0), outcome(1 / (number + 2)))
    return [trial.params for trial in ledger.trials("classifier", 0)]


def coordinates(spec, params: list[dict]) -> np.ndarray:
    """Configurations as points of the unit cube (n x d), parameters in the order of their names."""
    columns = []
    for name, d in sorted(distributions(spec.space("classifier")).items()):
        values = [p[name] for p in params]
        if hasattr(d, "choices"):
            columns.append([d.choices.index(v) for v in values])
        elif d.log:
            columns.append(np.log(np.array(values) / d.low) / np.log(d.high / d.low))
        else:
            columns.append((np.array(values) - d.low) / (d.high - d.low))
    return np.array(columns, dtype=float).T


@pytest.mark.parametrize("options", [{}, {"scramble": False, "qmc_type": "halton"}])
def test_quasi_random_points_are_those_of_one_sequence_in_order_whatever_dies_between(tmp_path, options):
    """Each trial in a process of its own, every second one killed after it was asked and continued by the next launch."""
    import optuna
    from scipy.stats import qmc

    spec = a_spec(sampler="QMCSampler", sampler_options=options)
    for number in range(9):
        ledger = Ledger(spec, tmp_path)
        trial = ledger.ask("classifier", 0)
        if number % 2:
            ledger = Ledger(spec, tmp_path)
            (trial,) = ledger.unfinished("classifier", 0)
        ledger.tell("classifier", 0, trial, outcome(1 / (number + 2)))
    found = [t.params for t in ledger.trials("classifier", 0)]
    assert found[0] == spec.space("classifier").default()
    searched = distributions(spec.space("classifier"))
    seed = make_sampler(spec, "classifier", 0, 1)._seed
    kind = qmc.Halton if options.get("qmc_type") == "halton" else qmc.Sobol
    expected = kind(len(searched), scramble=options.get("scramble", True), seed=seed).random(8)
    for column, (_, d) in enumerate(sorted(searched.items())):
        if isinstance(d, optuna.distributions.CategoricalDistribution):
            expected[:, column] = np.floor(expected[:, column] * len(d.choices))
    assert coordinates(spec, found[1:]) == pytest.approx(expected, abs=1e-9)
    assert len({make_sampler(spec, *where)._seed for where in (("classifier", 0, 5), ("classifier", 0, 6))}) == 1


def test_points_of_two_splits_and_methods_are_different_ones(tmp_path):
    spec = a_spec(sampler="QMCSampler")
    assert len({make_sampler(spec, m, s, 1)._seed for m in ("classifier", "hybrid") for s in (0, 1)}) == 4


def test_trying_everything_tries_each_configuration_once(tmp_path):
    spec = a_spec(sampler="BruteForceSampler")
    params = told(Ledger(spec, tmp_path), 12)
    seen = [(p["learning_rate"], p["dropout"], p["label_smoothing"], p["mixup"], p["cutmix"]) for p in params]
    assert len(set(seen)) == 12
    spec = a_spec(sampler="BruteForceSampler", space={name: {
        **spec.search.space[name], "mixup": 0.0, "cutmix": 0.0} for name in ("classifier", "hybrid")})
    (tmp_path / "all").mkdir()
    params = told(Ledger(spec, tmp_path / "all"), 12)
    assert {(p["learning_rate"], p["dropout"], p["label_smoothing"]) for p in params} == set(
        itertools.product([0.1, 0.3, 0.9], [0.0, 0.2], [0.0, 0.1]))


def test_an_option_reaches_the_class():
    made = {name: make_sampler(a_spec(sampler=name, sampler_options=options), "classifier", 0, 3) for name, options in {
        "tpe": {"n_ei_candidates": 7, "constant_liar": False}, "cmaes": {"popsize": 6}, "gp": {"n_startup_trials": 2},
        "NSGAIISampler": {"population_size": 9, "crossover_prob": 0.5}}.items()}
    assert made["tpe"]._n_ei_candidates == 7 and not made["tpe"]._constant_liar and made["tpe"]._multivariate
    assert made["cmaes"]._popsize == 6 and made["gp"]._n_startup_trials == 2
    assert made["NSGAIISampler"]._population_size == 9


def test_the_options_offered_are_those_that_optuna_has_and_none_that_it_will_drop():
    """An option new in Optuna, or gone from it, is to be decided upon here."""
    from optuna import samplers

    classes = {name for name in samplers.__all__ if inspect.isclass(getattr(samplers, name)) and name.endswith("Sampler")}
    assert classes == {SHORT.get(name, name) for name in SAMPLERS} | set(REFUSED)
    dropped = {"consider_prior", "prior_weight", "consider_magic_clip", "consider_endpoints", "gamma", "weights",
               "restart_strategy", "inc_popsize", "sigma0"}
    for name in SAMPLERS:
        parameters = inspect.signature(getattr(samplers, SHORT.get(name, name)).__init__).parameters
        plain = {key for key, parameter in parameters.items() if key != "self" and not key.startswith("warn_")
                 and not any(word in str(parameter.annotation) for word in ("Base", "Callable", "FrozenTrial"))}
        assert plain - dropped - set(OBJECTS) == set(OPTIONS[name])


def test_the_analysis_knows_which_samplers_make_no_signal_look_good():
    from analysis.plot_data import UNADAPTIVE, bias_of

    assert UNADAPTIVE == BLIND and bias_of({"search": {"sampler": "QMCSampler"}}) == ""
    assert "NSGAIISampler" in bias_of({"search": {"sampler": "NSGAIISampler"}})


def test_a_class_is_remembered_by_its_short_name_and_options_are_part_of_the_question():
    assert a_spec(sampler="TPESampler") == a_spec(sampler="tpe") and a_spec(sampler="QMCSampler").search.sampler == "QMCSampler"
    plain, set_ = a_spec(), a_spec(sampler_options={"n_ei_candidates": 8})
    assert plain.changes(set_) == ["search.sampler_options.n_ei_candidates"] == set_.changes(plain)
    assert type(set_).parse(set_.to_table()) == set_
