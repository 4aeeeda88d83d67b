"""Optuna's samplers and pruners as a study uses them: every setting explicit, every proposal a function of history alone.

A sampler lives for one ask. Its random numbers are those of (study seed, trial number), so that a launch after a kill asks
what an undisturbed one would have asked; what a sampler keeps, it keeps in the storage.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from search_spaces.base import Choice, Float, Int, Space
from study.sampler_history import numeric, past_trials, remembering
from study.spec_samplers import SHORT
from trainables.files import derive_seed

if TYPE_CHECKING:
    import optuna

    from study.spec import StudySpec


def distributions(space: Space) -> dict[str, optuna.distributions.BaseDistribution]:
    """The Optuna distributions of the searched parameters of a ``search_spaces`` space."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    made = {}
    for name, parameter in space.searched().items():
        match parameter:
            case Float():
                made[name] = FloatDistribution(parameter.low, parameter.high, log=parameter.log)
            case Int():
                made[name] = IntDistribution(parameter.low, parameter.high, log=parameter.log)
            case Choice():
                made[name] = CategoricalDistribution(parameter.options)
    return made


def make_sampler(
    spec: StudySpec, method: str, split: int, number: int, *, history: list[dict[str, Any]] | None = None, budget: int | None = None,
) -> optuna.samplers.BaseSampler:
    """The sampler that proposes trial ``number`` of one (method, split), seeded by (study seed, method, split, number).

    ``history``: what it shall know besides, as ``study.warm_start`` gives it. ``budget``: the trials that the search began
    with (the spec's by default): with more of them later, it does not go back to drawing at random.
    """
    import optuna

    seed = derive_seed("sampler", spec.data.seeds[0], method, split, number) % 2**32
    name = spec.search.sampler
    settings = {**_settings(name, budget or spec.search.trials), **spec.search.sampler_options}
    past = past_trials(history, distributions(spec.space(method))) if history else []
    if past and name == "cmaes":  # which keeps its state in its own trials, and has a way to start from others
        settings = {"n_startup_trials": 1, **spec.search.sampler_options, "source_trials": numeric(past)}
    with warnings.catch_warnings():  # that an interface of Optuna may change is no news for whoever runs a study
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "QMCSampler":
            sequence = derive_seed("sequence", spec.data.seeds[0], method, split) % 2**32
            return _sequence_sampler()(seed=sequence, apart=seed, space=distributions(spec.space(method)), **settings)
        if name == "BruteForceSampler":
            return _exhaustive_sampler()(seed=seed, **settings)
        sampler = getattr(optuna.samplers, SHORT.get(name, name))(seed=seed, **settings)
    return remembering(sampler, past) if past and name != "cmaes" else sampler


def _settings(name: str, trials: int) -> dict[str, Any]:
    """Every setting explicit: Optuna's defaults change between major versions."""
    startup = max(4, trials // 4)  # the usual 10 would leave a study of 8 trials to chance
    return {
        "tpe": {"n_startup_trials": startup, "n_ei_candidates": 24, "multivariate": True, "group": False, "constant_liar": True},
        "gp": {"n_startup_trials": startup, "deterministic_objective": False},
        "cmaes": {"n_startup_trials": startup},
        # Scrambled: the plain sequence is the same for every seed, and begins in the corner where everything is lowest.
        "QMCSampler": {"qmc_type": "sobol", "scramble": True, "warn_independent_sampling": False},
        "NSGAIISampler": {"population_size": startup},
    }.get(name, {})


def _sequence_sampler() -> type:
    from optuna.samplers import QMCSampler, RandomSampler

    class SequenceSampler(QMCSampler):
        """Quasi-random points, the one of a trial given by its number.

        Optuna's own counts in the storage how many points were taken, which a trial that continues after a kill would take
        twice; it is seeded once for all trials, since points of different sequences keep no distance from each other.
        Trials that were enqueued take no point: what they leave open is drawn at random.
        """

        def __init__(self, *, seed: int, apart: int, space: dict, **settings):
            super().__init__(seed=seed, independent_sampler=RandomSampler(seed=apart), **settings)
            self._space = {name: d for name, d in sorted(space.items()) if not d.single()}

        def infer_relative_search_space(self, study, trial) -> dict:
            return {} if "fixed_params" in trial.system_attrs else self._space

        def sample_relative(self, study, trial, search_space) -> dict:
            trials = study.get_trials(deepcopy=False)
            self._point = sum("fixed_params" not in t.system_attrs and t.number < trial.number for t in trials)
            return super().sample_relative(study, trial, search_space)

        def _find_sample_id(self, study, search_space) -> int:
            return self._point

    return SequenceSampler


def _exhaustive_sampler() -> type:
    from optuna.samplers import BruteForceSampler

    class ExhaustiveSampler(BruteForceSampler):
        """Every configuration once. When to stop is the budget's matter, which the spec was checked for."""

        def after_trial(self, study, trial, state, values) -> None:
            """Optuna's own stops ``Study.optimize``, which is not what runs here."""

    return ExhaustiveSampler


def make_pruner(name: str) -> optuna.pruners.BasePruner:
    """The pruner of ``search.pruner``, every setting explicit."""
    from optuna import pruners

    match name:
        case "successive_halving":
            return pruners.SuccessiveHalvingPruner(min_resource=2, reduction_factor=2, min_early_stopping_rate=0)
        case "median":
            return pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2, interval_steps=1)
        case _:
            return pruners.NopPruner()


def name_objective(study: optuna.Study, signal: str) -> None:
    """So that Optuna's tools call the objective by its name, and not "Objective 0"."""
    from optuna.exceptions import ExperimentalWarning

    if study.metric_names is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names([signal])
