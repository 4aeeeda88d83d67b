"""Scorer rules: which scorers make up a detector, and how their scores become one.

Every member is standardised on *nominal validation* scores, and ``fusion_rules.fuse`` joins them: the mean of the
members (``best``, ``top_half_mean``, ``top3_mean``, ``all_mean``), of families' means (``family_mean``) or of empirical
CDFs (``ecdf_mean``), or Fisher's sum of -log p over members (``fisher_sum``) or families' means (``fisher_family``).
Nothing here sees an anomaly: scorers are ranked by pseudo-novel AUROC over folds of nominal classes, which the first
three alone ask for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from analysis.fusion_rules import ECDF_MEAN, RULES, RULES_WITHOUT_FOLDS, Standardiser, fuse
from analysis.metrics import ACCEPTANCE, acceptance_threshold, auroc
from analysis.scorer_base import Features, Scorer, nearest, scorer_class
from analysis.scorers import fit_scorers, score_all

ECDF_KEY = ".ecdf"  # an array of the rule, not the scorer's, in ``FrozenRule.state``: no scorer's starts with a dot


def rule_needs_folds(rule: str) -> bool:
    """Whether a rule needs a ranking of the scorers, and so fold models: not the plain means, nor a scorer's name."""
    return rule in RULES and rule not in RULES_WITHOUT_FOLDS


def check_rule(rule: str, names: Sequence[str]) -> None:
    """ValueError naming the nearest unless the rule is one of RULES or among the scorers in use."""
    if rule not in RULES and rule not in names:
        raise ValueError(f"unknown scorer rule {rule!r}{nearest(rule, [*RULES, *names])}")


def members_of(rule: str, ranking: Sequence[str]) -> list[str]:
    """Members of a rule, in ranking order; ``ranking`` holds the scorers in use, best first, each once.

    The better half is the first ceil(n/2). ValueError for an unknown rule, an empty or repeated ranking.
    """
    ranking = list(ranking)
    if not ranking or len(set(ranking)) != len(ranking):
        raise ValueError("a ranking must hold at least one scorer, and each once")
    check_rule(rule, ranking)
    sizes = {"best": 1, "top_half_mean": math.ceil(len(ranking) / 2), "top3_mean": 3}
    if rule in RULES:
        return ranking[:sizes.get(rule, len(ranking))]
    return [rule]


def fold_aurocs(kept: Mapping[str, np.ndarray], held_out: Mapping[str, np.ndarray]) -> dict[str, float]:
    """AUROC of every scorer in one fold: scores of validation images of held-out classes (positive) against those of
    the kept classes, by a model that never saw the former."""
    return {name: auroc(np.concatenate([kept[name], held_out[name]]),
                        np.repeat([False, True], [len(kept[name]), len(held_out[name])])) for name in kept}


def fused_fold_auroc(
    rule: str, standardised: Mapping[str, np.ndarray], families: Mapping[str, str], is_held_out
) -> float:
    """AUROC of a rule in one fold, from its members' standardised scores (N,) of kept and held-out validation images;
    the kept ones (mask ``is_held_out`` False) are the nominal scores that a rule may learn from."""
    held_out = np.asarray(is_held_out).astype(bool)
    nominal = {name: np.asarray(score)[~held_out] for name, score in standardised.items()}
    return auroc(fuse(rule, standardised, families, nominal=nominal), held_out)


def rank_scorers(folds: Sequence[Mapping[str, float]], names: Sequence[str]) -> list[str]:
    """``names`` by falling mean AUROC over the folds; ties keep the order of ``names`` (the registry's).

    ValueError when there is no fold or a fold lacks a scorer.
    """
    if not folds:
        raise ValueError("scorers cannot be ranked without folds")
    for number, fold in enumerate(folds):
        missing = [name for name in names if name not in fold]
        if missing:
            raise ValueError(f"fold {number} has no AUROC of scorer {missing[0]!r}")
    means = {name: math.fsum(fold[name] for fold in folds) / len(folds) for name in names}
    return sorted(names, key=lambda name: -means[name])  # sorted is stable: ties keep their order


class FrozenRule:
    """A scorer rule with its members and their parameters: fit on nominal data, then ``score`` any features.

    ``fit`` takes training features (the scorers') and nominal validation features (standardisers and threshold).
    Learned: ``scorers_``, ``standardisers_``, ``validation_score_`` (N,), and for ``ecdf_mean`` ``ordered_``: each
    member's standardised nominal validation scores (N,), rising.
    """

    def __init__(self, rule: str, members: Sequence[str], parameters: Mapping[str, Mapping[str, Any]] | None = None, *,
                 own: Iterable[str] = ()):
        self.rule, self.members, self.own = rule, tuple(members), tuple(own)
        self.parameters = {name: dict((parameters or {}).get(name, {})) for name in self.members}
        if not self.members or len(set(self.members)) != len(self.members):
            raise ValueError("a rule needs at least one member, and each once")
        check_rule(rule, self.members)
        self.families = {name: scorer_class(name, self.own).info.family for name in self.members}
        self.scorers_: dict[str, Scorer] = {}
        self.standardisers_: dict[str, Standardiser] = {}
        self.ordered_: dict[str, np.ndarray] = {}
        self.validation_score_: np.ndarray | None = None
        self.threshold_: float | None = None

    def fit(self, train: Features, validation: Features) -> FrozenRule:
        """Fits members on training features, standardisers and threshold on nominal validation ones. Returns self."""
        scorers = fit_scorers(self.members, train, parameters=self.parameters, own=self.own)
        self.fit_scores(score_all(scorers, validation))
        self.scorers_ = scorers
        return self

    def fit_scores(self, validation_scores: Mapping[str, np.ndarray]) -> FrozenRule:
        """Fits from members' nominal validation scores computed already; then ``fuse_scores`` works, ``score`` not."""
        self.standardisers_ = {name: Standardiser.fit(validation_scores[name]) for name in self.members}
        if self.rule == ECDF_MEAN:
            self.ordered_ = {name: np.sort(self.standardisers_[name](validation_scores[name])) for name in self.members}
        self.validation_score_ = self.fuse_scores(validation_scores)
        self.threshold_ = acceptance_threshold(self.validation_score_)
        return self

    def fuse_scores(self, scores: Mapping[str, np.ndarray]) -> np.ndarray:
        """Fused score (N,) from raw scores that hold every member (others are ignored)."""
        if not self.standardisers_:
            raise RuntimeError("this rule is not fitted")
        standardised = {name: self.standardisers_[name](scores[name]) for name in self.members}
        return fuse(self.rule, standardised, self.families, nominal=self.ordered_)

    def score(self, features: Features) -> np.ndarray:
        """Anomaly score (N,), higher = more anomalous."""
        if not self.scorers_:
            raise RuntimeError("this rule is not fitted on features")
        return self.fuse_scores(score_all(self.scorers_, features))

    def threshold(self, acceptance: float = ACCEPTANCE) -> float:
        """Lowest score that accepts at least that share of the nominal validation images; ``score > threshold`` is an
        anomaly. A rule restored from its export knows the default acceptance only."""
        if self.validation_score_ is not None:
            return acceptance_threshold(self.validation_score_, acceptance)
        if self.threshold_ is None or acceptance != ACCEPTANCE:
            raise RuntimeError(f"this rule holds no validation scores for an acceptance of {acceptance}")
        return self.threshold_

    def description(self) -> dict[str, Any]:
        """JSON-ready record: rule, members, parameters, standardisers, own scorers, acceptance and threshold."""
        return {"rule": self.rule, "members": list(self.members), "parameters": self.parameters,
                "standardisers": {name: {"mean": fitted.mean, "sd": fitted.sd}
                                  for name, fitted in self.standardisers_.items()},
                "own": list(self.own), "acceptance": ACCEPTANCE, "threshold": self.threshold()}

    def state(self) -> dict[str, np.ndarray]:
        """Fitted arrays as ``<scorer>/<array>``, ``ordered_`` as ``<scorer>/.ecdf``; empty when no member has any
        (parameters are in ``description``)."""
        arrays = {f"{name}/{key}": values for name, scorer in self.scorers_.items()
                  for key, values in scorer.arrays_.items()}
        return arrays | {f"{name}/{ECDF_KEY}": values for name, values in self.ordered_.items()}

    @classmethod
    def from_state(cls, description: Mapping[str, Any], state: Mapping[str, np.ndarray]) -> FrozenRule:
        """The fitted rule of a ``description()`` (after JSON) and a ``state()`` (after safetensors)."""
        rule = cls(description["rule"], description["members"], description["parameters"], own=description["own"])
        for name in rule.members:
            prefix = f"{name}/"
            arrays = {key.removeprefix(prefix): values for key, values in state.items() if key.startswith(prefix)}
            if ECDF_KEY in arrays:
                rule.ordered_[name] = np.asarray(arrays.pop(ECDF_KEY), dtype=np.float64)
            rule.scorers_[name] = scorer_class(name, rule.own).restore(arrays, rule.parameters[name])
        rule.standardisers_ = {name: Standardiser(**fitted) for name, fitted in description["standardisers"].items()}
        rule.threshold_ = float(description["threshold"])
        return rule
