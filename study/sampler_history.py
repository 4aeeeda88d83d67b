"""A sampler that remembers trials which are not in its study.

Optuna's samplers ask the study for its trials. They are handed a view of it that lists the remembered ones first, under
negative numbers; the study, its storage and the numbers of its own trials stay as they are.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna


def past_trials(history: list[dict[str, Any]], distributions: dict) -> list[optuna.trial.FrozenTrial]:
    """Completed Optuna trials of ``[{"params", "value"}]``, numbered -n..-1 so that all are older than the study's own."""
    from optuna.trial import TrialState, create_trial

    made = []
    for number, known in enumerate(history, -len(history)):
        trial = create_trial(state=TrialState.COMPLETE, value=known["value"], params=known["params"],
                             distributions={name: distributions[name] for name in known["params"]})
        trial.number = trial._trial_id = number
        made.append(trial)
    return made


def numeric(trials: list[optuna.trial.FrozenTrial]) -> list[optuna.trial.FrozenTrial]:
    """The same with the parameters that CMA-ES moves: it takes no other trial as a source."""
    from optuna.distributions import CategoricalDistribution
    from optuna.trial import create_trial

    def moved(trial: optuna.trial.FrozenTrial) -> dict:
        return {n: d for n, d in trial.distributions.items() if not d.single() and not isinstance(d, CategoricalDistribution)}

    return [create_trial(state=t.state, value=t.value, distributions=moved(t), params={n: t.params[n] for n in moved(t)})
            for t in trials]


def remembering(sampler: optuna.samplers.BaseSampler, past: list[optuna.trial.FrozenTrial]) -> optuna.samplers.BaseSampler:
    """``sampler``, before whose eyes every study begins with the trials of ``past``."""
    from optuna.samplers import BaseSampler

    class Remembering(BaseSampler):
        def infer_relative_search_space(self, study, trial):
            return sampler.infer_relative_search_space(_with_past(study, past), trial)

        def sample_relative(self, study, trial, search_space):
            return sampler.sample_relative(_with_past(study, past), trial, search_space)

        def sample_independent(self, study, trial, param_name, param_distribution):
            return sampler.sample_independent(_with_past(study, past), trial, param_name, param_distribution)

        def before_trial(self, study, trial) -> None:
            sampler.before_trial(_with_past(study, past), trial)

        def after_trial(self, study, trial, state, values) -> None:
            sampler.after_trial(_with_past(study, past), trial, state, values)

    return Remembering()


def _with_past(study: optuna.Study, past: list[optuna.trial.FrozenTrial]) -> optuna.Study:
    view = copy.copy(study)

    def trials(deepcopy: bool = True, states=None, use_cache: bool = False) -> list[optuna.trial.FrozenTrial]:
        mine = study._get_trials(deepcopy=deepcopy, states=states, use_cache=use_cache)
        return [trial for trial in past if states is None or trial.state in states] + mine

    view._get_trials = trials  # what `get_trials` and `trials` are made of, and what samplers call
    return view
