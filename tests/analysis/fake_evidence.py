"""Evidence to ask questions of: Gaussian classes in a latent space, a linear head, everything that a reveal leaves."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.evidence import StudyEvidence, TrialEvidence
from analysis.fusion import FrozenRule
from analysis.oracles import linear_oracle
from analysis.scorers import DEFAULT_SCORERS, Features, fit_scorers, score_all

NOMINAL, ANOMALY = ("ant", "bee", "cat"), ("dog", "eel", "fox", "gnu")


def trial_evidence(
    *, method: str = "classifier", split: int = 0, trial: int = 0, selected: bool = False, distance: float = 3.0,
    images: int = 120, width: int = 6, seed: int = 0, params: dict[str, Any] | None = None, layers: bool = True,
) -> TrialEvidence:
    """Three nominal and four anomaly classes of ``images`` images in a part; ``distance`` between centres says how easy
    all is. The scores of ``stored`` are true scores of the features."""
    random = np.random.default_rng([seed, split])
    centres = random.normal(0, distance / np.sqrt(width), (len(NOMINAL) + len(ANOMALY), width))
    noise = np.random.default_rng([seed, split, trial, 1])
    weight = centres[:len(NOMINAL)]
    bias = -(weight**2).sum(axis=1) / 2

    def features(classes: np.ndarray, known: bool) -> Features:
        z = (centres[classes] + noise.normal(0, 1, (len(classes), width))).astype(np.float32)
        return Features((z @ weight.T + bias).astype(np.float32), z, classes if known else None)

    def classes(first: int, last: int, each: int) -> np.ndarray:
        return np.repeat(np.arange(first, last), each)

    k, last = len(NOMINAL), len(NOMINAL) + len(ANOMALY)
    train = features(classes(0, k, 2 * images), True)
    train = Features(train.logits, train.z, train.labels, head=(weight.astype(np.float32), bias.astype(np.float32)))
    validation = features(classes(0, k, images), True)
    outlier, nominal, anomalous = classes(k, last, images // 2), classes(0, k, images), classes(k, last, images // 2)
    outliers, test = features(outlier, False), features(np.concatenate([nominal, anomalous]), False)
    names = list(DEFAULT_SCORERS)
    fitted = fit_scorers(names, train)
    scores, on_validation = score_all(fitted, test), score_all(fitted, validation)
    rule = {"scorer": "top3_mean", "members": ["max_logit", "knn", "mahalanobis"], "parameters": {}, "settled": {}}
    frozen = FrozenRule(rule["scorer"], rule["members"]).fit_scores(on_validation).fuse_scores(scores)
    z = np.concatenate([validation.z, outliers.z])
    mask = np.repeat([False, True], [len(validation), len(outliers)])
    oracle = linear_oracle().fit(z, mask).anomaly_score(test.z)
    found = {
        "layer 1": tuple(part.z[:, :2] for part in (validation, outliers, test)),
        "z": tuple(part.z for part in (validation, outliers, test)),
    }
    return TrialEvidence(
        method=method, split=split, trial=trial, selected=selected, params=params or {"learning_rate": 0.1 * (trial + 1)},
        signals={"val_accuracy": float((validation.logits.argmax(1) == validation.labels).mean())},
        train=train, validation=validation, outliers=outliers, test=test,
        test_labels=np.concatenate([nominal, np.full(len(anomalous), -1)]),
        test_anomaly_class=np.concatenate([np.full(len(nominal), -1), anomalous - k]), outlier_class=outlier - k,
        nominal_classes=NOMINAL, anomaly_classes=ANOMALY, scorers=tuple(names), rule=rule,
        stored={**scores, "frozen_rule": frozen, "oracle_detector": oracle, "linear_oracle": oracle,
                "oracle_representation": np.clip(oracle + 0.2 * mask_of(nominal, anomalous), 0, 1.2)},
        layers=(lambda: found) if layers else (lambda: None),
    )


def mask_of(nominal: np.ndarray, anomalous: np.ndarray) -> np.ndarray:
    return np.repeat([0.0, 1.0], [len(nominal), len(anomalous)])


def study_evidence(
    summary: dict[str, Any], measured: dict[str, Any] | None = None, *, sampler: str = "random", **spec: Any
) -> StudyEvidence:
    """A study of a summary (see ``fake_summaries``) and of what was measured."""
    table = {"search": {"sampler": sampler, "pruner": "none"}, "selection": {"signal": "val_accuracy"}, **spec}
    return StudyEvidence(summary=summary, spec=table, selection={}, measured=measured or {})
