"""Evidence with a truth planted for oracles, and studies made of it."""

from __future__ import annotations

import dataclasses
import json

import fake_evidence
import fake_summaries
import numpy as np

from analysis.evidence import StudyEvidence, TrialEvidence
from analysis.questions import Question
from analysis.scorers import Features


def placed(
    anomalies: dict[str, tuple[float, ...]], *, images: int = 60, seed: int = 0, rule: int | None = None, **more
) -> TrialEvidence:
    """Nominal images about the origin, anomaly classes about the points given, all of deviation 1; the frozen rule is the
    distance from the origin, or the coordinate ``rule``."""
    random = np.random.default_rng(seed)
    width, names = len(next(iter(anomalies.values()))), tuple(anomalies)

    def part(places: list[tuple[float, ...]], each: int) -> np.ndarray:
        return np.concatenate([random.normal(place, 1, (each, width)) for place in places]).astype(np.float32)

    nominal, centres = [(0.0,) * width], list(anomalies.values())
    z = {"validation": part(nominal, 2 * images), "outliers": part(centres, images),
         "test": np.concatenate([part(nominal, 2 * images), part(centres, images)])}
    of_class = np.repeat(np.arange(len(names)), images)
    test_class = np.concatenate([np.full(2 * images, -1), of_class])
    score = np.linalg.norm(z["test"], axis=1) if rule is None else z["test"][:, rule]
    base = fake_evidence.trial_evidence(images=4, selected=True, **more)
    features = {name: Features(np.zeros((len(rows), 3), np.float32), rows, None) for name, rows in z.items()}
    return dataclasses.replace(
        base, **features, test_labels=np.where(test_class < 0, 0, -1), test_anomaly_class=test_class, outlier_class=of_class,
        anomaly_classes=names, rule={}, layers=lambda: None,
        stored={"frozen_rule": score.astype(float), "max_logit": z["test"][:, 0].astype(float)})


def study_of(question: Question, trials: list[TrialEvidence], **options) -> StudyEvidence:
    """A study in which all these trials are measured, and selected where they are said to be."""
    made = fake_summaries.summary(methods=tuple(dict.fromkeys(t.method for t in trials)),
                                  splits=tuple(dict.fromkeys(t.split for t in trials)), trials=2)
    selected = {t.key for t in trials if t.selected}
    for row in made["rows"]:
        row["selected"] = (row["method"], row["split"], row["trial"]) in selected
    return fake_evidence.study_evidence(made, {question.name: {t.key: question.measure(t, **options) for t in trials}})


def answered(question: Question, trials: list[TrialEvidence], **options):
    """What compute and card make of these trials; both must be plain JSON, and every figure must draw."""
    study = study_of(question, trials, **options)
    json.dumps(dict(study.measured[question.name].items().__iter__().__next__()[1] or {}), allow_nan=False)
    assert question.applicable(study) == ""
    result = question.compute(study)
    stored = json.loads(json.dumps(result, allow_nan=False))
    card = question.card(stored)
    assert card == question.card(result) or card.headline == question.card(result).headline
    assert card.headline.endswith(".") and "nan" not in card.headline and "None" not in " ".join([card.headline, *card.sentences])
    for figure in card.figures:
        for width in (9.6, 4.0):
            assert figure.draw(figure.data, width=width).axes
    return result, card


def check_nothing_measured(question: Question) -> None:
    """Without measurements there is a reason in words."""
    from analysis.questions import answer

    reason = answer(question, fake_evidence.study_evidence(fake_summaries.summary(), {question.name: {}}))
    assert reason["not_applicable"].endswith(".")
    unrevealed = fake_evidence.study_evidence(fake_summaries.nominal_only(), {question.name: {("classifier", 0, 0): None}})
    assert "not_applicable" in answer(question, unrevealed)
