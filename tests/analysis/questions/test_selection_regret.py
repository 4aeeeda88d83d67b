"""Selection regret: against gaps' own numbers; noise shows as optimism, and labels that help show as honest gain."""

import json

import fake_evidence
import fake_summaries
import numpy as np
import pytest

from analysis import gaps
from analysis.metrics import auroc
from analysis.plot_base import NARROW, finish
from analysis.questions import selection_regret as question
from analysis.questions import selection_regret_card as words

CLASSES, NOMINAL, EACH = 4, 60, 15


class Trial:
    """What ``measure`` asks of a trial: two scorers of given strength by anomaly class, and noise."""

    scorers, own = ("max_logit", "knn"), ()
    nominal = np.random.default_rng(99).normal(size=(2, 50))

    def __init__(self, number, strength, random, *, selected=False, classes=CLASSES, signals=None):
        self.trial, self.selected, self.signals = number, selected, signals or {"val_accuracy": 1 - number / 100}
        self.test_anomaly_class = np.r_[np.full(NOMINAL, -1), np.repeat(np.arange(classes), EACH)]
        self.is_anomaly = self.test_anomaly_class >= 0
        lift = np.r_[np.zeros(NOMINAL), np.repeat(np.broadcast_to(strength, classes), EACH)]
        draw = random.normal(size=(3, len(lift))) + lift
        self.stored = dict(zip(("max_logit", "knn", gaps.FROZEN_RULE), draw, strict=True))

    def score(self, name, part="test"):
        return self.stored[name] if part == "test" else self.nominal[self.scorers.index(name)]


def group(seed, count=12, strengths=None, **more):
    random = np.random.default_rng(seed)
    return [Trial(i, 1.0 if strengths is None else strengths[i], random, selected=i == 0, **more) for i in range(count)]


def study(groups, *, method="classifier", same=False, signals=None, more=None):
    made = fake_summaries.summary(methods=(method,), splits=tuple(range(len(groups))), trials=len(groups[0]))
    made["nominal_classes"] = {str(s): ["a", "x" if same else str(s)] for s in range(len(groups))}
    for row in made["rows"]:
        row["signals"] = (signals or {}).get(row["trial"], {})
    measured = {(method, s, 0): json.loads(json.dumps(question.measure(trials))) for s, trials in enumerate(groups)}
    return fake_evidence.study_evidence(made, {"selection_regret": measured, **(more or {})})


def test_plain_and_crossfit_regret_are_those_of_gaps():
    trials = group(1)
    aurocs = {t.trial: {n: auroc(s, t.is_anomaly) for n, s in t.stored.items()} for t in trials}
    result = question.compute(study([trials]))["methods"]["classifier"]["regret"]
    scores = {t.trial: t.stored for t in trials}
    for rule in (gaps.FROZEN_RULE, "max_logit"):
        found = result[words.SELECTION][rule]
        assert found["plain"]["value"] == pytest.approx(gaps.regret(aurocs, 0, rule=rule), abs=3e-6)
        expected = gaps.regret_crossfit(scores, trials[0].is_anomaly, 0, rule=rule)
        assert found["crossfit"]["value"] == pytest.approx(expected, abs=3e-6)
    nominal = zip(Trial.scorers, Trial.nominal, strict=True)
    standardised = [(trials[0].stored[name] - v.mean()) / v.std() for name, v in nominal]
    fused = auroc(np.mean(standardised, axis=0), trials[0].is_anomaly)
    best = max(value for row in aurocs.values() for value in row.values())
    assert result[words.SELECTION]["all_mean"]["plain"]["value"] == pytest.approx(best - fused, abs=3e-6)


def test_divisions_by_a_naive_loop():
    trials = group(2, count=5)
    gains = []
    for first, second in gaps.class_halves(trials[0].test_anomaly_class):
        for here, there in ((first, second), (second, first)):
            area = {(t.trial, n): [auroc(s[half], t.is_anomaly[half]) for half in (here, there)]
                    for t in trials for n, s in t.stored.items()}
            frozen, best = area[0, gaps.FROZEN_RULE], max(area.values(), key=lambda pair: pair[0])
            gains.append([best[0] - frozen[0], best[1] - frozen[1]])
    tuning = question.compute(study([trials]))["methods"]["classifier"]["tuning"]
    assert tuning["apparent"]["value"] == pytest.approx(np.mean(gains, axis=0)[0], abs=3e-6)
    assert tuning["honest"]["value"] == pytest.approx(np.mean(gains, axis=0)[1], abs=3e-6)
    assert tuning["optimism"]["value"] == pytest.approx(tuning["apparent"]["value"] - tuning["honest"]["value"])


@pytest.fixture(scope="module")
def noise():
    return question.compute(study([group(seed) for seed in range(10, 26)]))


def test_noise_is_regret_only_where_it_is_not_crossfitted(noise):
    """Every trial and scorer is equally good: what tuning seems to win is luck, all of it."""
    one = noise["methods"]["classifier"]
    lost, tuning = one["regret"][words.SELECTION][gaps.FROZEN_RULE], one["tuning"]
    assert lost["plain"]["low"] > 0.03 and tuning["won"] == lost["plain"]
    assert lost["crossfit"]["low"] < 0 < lost["crossfit"]["high"] and abs(lost["crossfit"]["value"]) < 0.02
    assert tuning["optimism"]["low"] > 0.05 and abs(tuning["honest"]["value"]) < 0.02
    assert "nothing beyond noise" in words.headline(noise)


def test_labels_that_help_on_every_class_are_honest_and_those_of_some_classes_are_not():
    better = [1.0] * 11 + [2.5]
    helped = question.compute(study([group(seed, strengths=better) for seed in range(6)]))
    helped = helped["methods"]["classifier"]["tuning"]
    assert helped["honest"]["low"] > 0.1 and helped["optimism"]["value"] < 0.05
    assert "nothing beyond noise" not in words.headline(question.compute(
        study([group(seed, strengths=better) for seed in range(3)])))
    # each trial is good at two classes and bad at the others: images' halves cannot tell, classes' halves can
    pairs = ([0, 1], [2, 3], [0, 2], [1, 3], [0, 3], [1, 2])
    special = [np.where(np.isin(np.arange(4), pair), 3.0, 0.5) for pair in pairs]
    found = question.compute(study([group(seed, 6, special) for seed in range(6)]))["methods"]["classifier"]
    assert found["tuning"]["optimism"]["low"] > 0.2 and found["tuning"]["honest"]["value"] < 0


def test_signals_choose_by_direction_then_nll_then_number():
    trials = group(3, count=4)
    for one, (accuracy, nll) in zip(trials, [(0.8, 0.3), (0.9, 0.5), (0.9, 0.4), (0.9, 0.4)], strict=True):
        one.signals = {"val_accuracy": accuracy, "val_nll": nll}
    rows = {0: {"pseudo_novel_auroc": 0.5}, 3: {"pseudo_novel_auroc": 0.6}, 1: {"synthetic_outlier_auroc": 0.9}}
    later = {"signal_leaderboard": {("classifier", 0, i): {"signals": {"effective_rank": float(i)}} for i in range(4)}}
    evidence = study([trials], signals=rows, more=later)
    found = evidence.of("selection_regret")["classifier", 0, 0]
    chosen = question._choices(evidence, "classifier", 0, found)
    assert chosen[words.SELECTION] == 0 and chosen["val_accuracy"] == 2 and chosen["val_nll"] == 0
    assert chosen["pseudo_novel_auroc"] == 3 and "synthetic_outlier_auroc" not in chosen  # known for one of four
    assert chosen["effective_rank"] in (0, 3)
    regret = question.compute(evidence)["methods"]["classifier"]["regret"]
    assert regret["val_accuracy"]["max_logit"]["plain"]["value"] == pytest.approx(
        found["best"][2] - found["trials"]["2"]["max_logit"][0])


def test_means_over_methods_and_intervals_over_sets_of_classes():
    first, second = study([group(4), group(5)]), study([group(6), group(7)], method="hybrid")
    both = {**first.measured["selection_regret"], **second.measured["selection_regret"]}
    summary = {**first.summary, "rows": [*first.summary["rows"], *second.summary["rows"]]}
    result = question.compute(fake_evidence.study_evidence(summary, {"selection_regret": both}))
    parts = [result["methods"][name]["tuning"]["won"] for name in ("classifier", "hybrid", words.ALL)]
    assert parts[2]["value"] == pytest.approx((parts[0]["value"] + parts[1]["value"]) / 2)
    assert parts[2]["splits"] == 2 and parts[2]["low"] < parts[2]["value"] < parts[2]["high"]
    alike = question.compute(study([group(4), group(5)], same=True))
    assert alike["class_sets"] == 1 and alike["methods"]["classifier"]["tuning"]["won"]["low"] is None
    assert "one set of classes: no interval" in words.headline(alike)
    assert any("one set of nominal classes" in text for text in words.sentences(alike))


def test_one_trial_one_class_and_nan():
    alone = question.compute(study([group(8, count=1, classes=1)]))
    assert alone["methods"]["classifier"]["tuning"].keys() == {"won"}
    assert "Fewer than two anomaly classes" in " ".join(words.sentences(alone))
    assert "seemed" not in words.headline(alone)
    trials = group(9, count=3)
    trials[1].stored["knn"] = np.full(len(trials[1].is_anomaly), np.nan)
    found = question.measure(trials)
    assert set(found["trials"]["1"]) == {gaps.FROZEN_RULE, "max_logit", "all_mean"}
    assert question.measure(trials[1:]) is None and question.measure([]) is None
    assert "No selected trial" in question.applicable(fake_evidence.study_evidence(fake_summaries.summary()))


def test_a_real_trial_can_be_measured():
    trials = [fake_evidence.trial_evidence(trial=i, selected=i == 1, seed=i, layers=False) for i in range(2)]
    found = question.measure(trials)
    assert found["selected"] == 1 and len(found["divisions"]) == 3 and found["classes"] == 4
    json.dumps(found, allow_nan=False)


def test_card_and_figures(noise):
    card = question.QUESTION.card(json.loads(json.dumps(noise, allow_nan=False)))
    assert [figure.name for figure in card.figures] == ["selection-regret", "tuning-optimism"] and len(card.tables) == 2
    for figure in card.figures:
        drawn = finish(figure.name, figure.data, figure.draw, figure.alt, figure.caption)
        assert drawn.wide.count("<svg") == 1 and figure.draw(figure.data, width=NARROW).get_figwidth() == NARROW
    alone = question.QUESTION.card(question.compute(study([group(8, count=1, classes=1)])))
    assert [figure.name for figure in alone.figures] == ["selection-regret"]
