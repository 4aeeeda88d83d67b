"""What a revealed study leaves to think about: the arrays of a trial, and what was measured from them.

Everything here was embedded once, by the trial or by its reveal; a question reads it and trains nothing. Only code that
runs after the reveal holds evidence: it contains anomalies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from analysis.scorer_base import Features

#: (method, split, trial)
Key = tuple[str, int, int]


@dataclass(frozen=True, eq=False)
class TrialEvidence:
    """One completed and revealed trial, N test images (nominal first), M anomalous validation images.

    ``train`` and ``validation`` are nominal and labelled (0..K-1); ``outliers`` are the anomalies of the validation
    share, from which oracles learn; ``test`` holds both kinds. ``test_labels`` (N,): the nominal class, or -1;
    ``test_anomaly_class`` (N,) and ``outlier_class`` (M,): an index into ``anomaly_classes``, or -1 for nominal.
    ``scorers``: the names in use; ``settled``: their post-hoc parameters; ``rule``: the frozen rule's
    ``{"scorer", "members", "parameters", "settled"}``. ``stored``: scores (N,) of test images that the reveal left, by
    name, with "frozen_rule", "oracle_detector" and "linear_oracle" among them. ``layers()``: per layer, first to last,
    pooled features of (nominal validation, outliers, test), or None where the checkpoint cannot be read.
    """

    method: str
    split: int
    trial: int
    selected: bool
    params: Mapping[str, Any]
    signals: Mapping[str, float]
    train: Features
    validation: Features
    outliers: Features
    test: Features
    test_labels: np.ndarray
    test_anomaly_class: np.ndarray
    outlier_class: np.ndarray
    nominal_classes: tuple[str, ...]
    anomaly_classes: tuple[str, ...]
    scorers: tuple[str, ...]
    own: tuple[str, ...] = ()
    linear_head: bool = True
    settled: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rule: Mapping[str, Any] = field(default_factory=dict)
    stored: Mapping[str, np.ndarray] = field(default_factory=dict)
    layers: Callable[[], dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] | None] = lambda: None
    seed: int = 0
    threads: int = 1

    @property
    def key(self) -> Key:
        return self.method, self.split, self.trial

    @property
    def is_anomaly(self) -> np.ndarray:
        """Which of the N test images are anomalies, bool."""
        return self.test_labels < 0

    @property
    def correct(self) -> np.ndarray:
        """Whether the predicted class of each test image is right; False at anomalies."""
        return self.test.logits.argmax(axis=1) == self.test_labels

    @cached_property
    def oracle_z(self) -> np.ndarray:
        """Latents that an oracle learns from: nominal validation images, then outliers."""
        return np.concatenate([self.validation.z, self.outliers.z])

    @cached_property
    def oracle_is_anomaly(self) -> np.ndarray:
        """The mask of ``oracle_z``."""
        return np.repeat([False, True], [len(self.validation), len(self.outliers)])

    @cached_property
    def _fitted(self) -> dict[str, Any]:
        return {}

    @cached_property
    def _scored(self) -> dict[tuple[str, str], np.ndarray]:
        return {}

    def usable(self, name: str) -> bool:
        """Whether a scorer can be computed for this method: it is known, and a head is there where it reads one."""
        from analysis.scorers import usable_scorers

        return name in usable_scorers(self.own, linear_head=self.linear_head)

    def score(self, name: str, part: str = "test") -> np.ndarray:
        """Anomaly scores of a scorer on "test", "validation" or "outliers", fitted on the training features with its
        settled parameters (defaults where nothing was settled), float64. Kept: asked again, it costs nothing."""
        from analysis.scorers import fit_scorers

        if part == "test" and name in self.stored:
            return self.stored[name]
        if (name, part) not in self._scored:
            if name not in self._fitted:
                self._fitted.update(fit_scorers([name], self.train, parameters=self.settled, own=self.own))
            self._scored[name, part] = self._fitted[name].score(getattr(self, part))
        return self._scored[name, part]


@dataclass(frozen=True, eq=False)
class StudyEvidence:
    """A study as its questions see it: ``summary`` (the rows of summary.json), ``spec`` as a table, ``selection``, and
    ``measured[question]``: what its ``measure`` returned, by (method, split, trial); for scope "group" the trial is the
    selected one."""

    summary: Mapping[str, Any]
    spec: Mapping[str, Any] = field(default_factory=dict)
    selection: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Mapping[Key, Mapping[str, Any]]] = field(default_factory=dict)

    def of(self, question: str) -> dict[Key, Mapping[str, Any]]:
        """What was measured for a question, trials without an answer left out, in the order of the rows."""
        return {key: found for key, found in (self.measured.get(question) or {}).items() if found}

    def groups(self, question: str) -> dict[tuple[str, int], dict[int, Mapping[str, Any]]]:
        """The same by (method, split): {trial: measured}."""
        found: dict[tuple[str, int], dict[int, Mapping[str, Any]]] = {}
        for (method, split, trial), value in self.of(question).items():
            found.setdefault((method, split), {})[trial] = value
        return found


Trials = Sequence[TrialEvidence]
