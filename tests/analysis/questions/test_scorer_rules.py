"""Scorer rules: measured numbers are those of the rules, a planted better rule is found, noise is not."""

import json
from dataclasses import replace

import fake_evidence
import fake_summaries
import numpy as np
import pytest

from analysis.fusion import FrozenRule
from analysis.gaps import FROZEN_RULE
from analysis.metrics import auroc
from analysis.plot_base import NARROW, finish
from analysis.questions import scorer_rules as question
from analysis.questions import scorer_rules_card as words
from analysis.uncertainty import paired_delong

RANKING = ["max_logit", "knn", "mahalanobis"]


def trial(number=0, selected=False, accuracy=None, **changes):
    made = fake_evidence.trial_evidence(trial=number, selected=selected, seed=number, layers=False)
    signals = dict(made.signals) if accuracy is None else {"val_accuracy": accuracy, "val_nll": 1 - accuracy}
    return replace(made, signals=signals, **changes)


@pytest.fixture(scope="module")
def trials():
    return [trial(0, accuracy=0.7), trial(1, True, accuracy=0.8), trial(2, accuracy=0.9), trial(3, accuracy=0.6)]


@pytest.fixture(scope="module")
def measured(trials):
    return question.measure(trials)


def test_every_rule_and_scorer_of_the_selected_trial(trials, measured):
    chosen = trials[1]
    expected = {name: auroc(chosen.stored[name], chosen.is_anomaly) for name in (FROZEN_RULE, *chosen.scorers)}
    for rule, members in {"best": RANKING[:1], "top3_mean": RANKING, "all_mean": chosen.scorers,
                          "ecdf_mean": chosen.scorers, "family_mean": chosen.scorers, "fisher_sum": chosen.scorers,
                          "fisher_family": chosen.scorers}.items():
        fitted = FrozenRule(rule, members).fit_scores({n: chosen.score(n, "validation") for n in members})
        expected[rule] = auroc(fitted.fuse_scores(chosen.stored), chosen.is_anomaly)
    found = {name: value for name, value in measured["aurocs"].items() if name not in words.ACROSS}
    assert found == pytest.approx(expected, abs=1e-12)  # without the better half: three members show too little of it
    gap = paired_delong(chosen.stored["knn"], chosen.stored[FROZEN_RULE], chosen.is_anomaly)
    assert measured["against"]["knn"] == [gap.difference, gap.low, gap.high]
    json.dumps(measured, allow_nan=False)


def test_across_finalists_by_hand(trials, measured):
    assert measured["finalists"] == [1, 2, 0]
    scores = []
    for one in (trials[1], trials[2], trials[0]):
        fitted = FrozenRule("all_mean", one.scorers).fit_scores({n: one.score(n, "validation") for n in one.scorers})
        nominal = fitted.validation_score_
        scores.append((fitted.fuse_scores(one.stored) - nominal.mean()) / nominal.std())
    expected = auroc(np.mean(scores, axis=0), trials[1].is_anomaly)
    assert measured["aurocs"]["finalists_all_mean"] == pytest.approx(expected, abs=1e-12)


class OneAtATime:
    """A sequence that says how often it was read."""

    def __init__(self, trials):
        self.trials, self.reads = trials, 0

    def __len__(self):
        return len(self.trials)

    def __getitem__(self, index):
        self.reads += 1
        return self.trials[index]


def test_trials_are_read_lazily(trials, measured):
    lazy = OneAtATime(trials)
    assert question.measure(lazy) == measured
    assert lazy.reads <= 2 * len(trials) + 1 + words.FINALISTS


def test_one_trial_none_selected_and_a_broken_scorer(trials):
    assert question.measure([trials[0]]) is None and question.measure([]) is None
    alone = question.measure([trials[1]])
    assert alone["finalists"] == [1] and not set(words.ACROSS) & set(alone["aurocs"])
    broken = replace(trials[1], stored={**trials[1].stored, "energy": np.full(len(trials[1].test_labels), np.nan)})
    found = question.measure([broken])["aurocs"]
    assert "energy" not in found and "all_mean" in found


def test_the_ranking_that_members_show(trials):
    def head(rule, members):
        return question.ranking_head(replace(trials[1], rule={"scorer": rule, "members": members}))

    names = list(trials[1].scorers)
    assert head("top_half_mean", RANKING) == RANKING and head("best", ["knn"]) == ["knn"]
    assert head("all_mean", names) == [] and head("all_mean", names[::-1]) == names[::-1]
    assert head("knn", ["knn"]) == []  # one that the spec named
    shown = replace(trials[1], rule={"scorer": "fisher_sum", "members": names[::-1]})
    assert question.rules_of(shown, names)["top_half_mean"] == names[::-1][:4]
    assert "best" not in question.rules_of(replace(shown, rule={"scorer": "all_mean", "members": names}), names)


def study(shift, *, splits=(0, 1, 2, 3, 4), methods=("classifier", "hybrid"), same=False, noise=0.002):
    made = fake_summaries.summary(splits=splits, methods=methods, trials=2)
    made["nominal_classes"] = {str(s): ["a", "x" if same else str(s)] for s in splits}
    random = np.random.default_rng(0)
    measured = {}
    for method in methods:
        for split in splits:
            base = float(random.uniform(0.7, 0.9))
            moves = {"fisher_sum": shift, "ecdf_mean": 0.0, "knn": 0.01, "max_logit": -0.05, "top_half_mean": 0.0}
            values = {name: float(move + random.normal(0, noise)) for name, move in moves.items()}
            values["top_half_mean"] = 0.0
            measured[method, split, 0] = {
                "rule": "top_half_mean", "finalists": [0],
                "aurocs": {FROZEN_RULE: base, **{name: base + move for name, move in values.items()}},
                "against": {name: [move, move - 0.02, move + 0.02] for name, move in values.items()}}
    return fake_evidence.study_evidence(made, {"scorer_rules": measured})


def test_a_better_rule_is_named_and_noise_is_not():
    found = question.compute(study(0.03))
    rules = found["methods"]["all methods"]["rules"]
    assert rules["fisher_sum"]["against"]["verdict"] == "yes"
    assert rules["fisher_sum"]["against"]["difference"] == pytest.approx(0.03, abs=0.003)
    assert rules["max_logit"]["against"]["verdict"] == "the other way"
    assert rules["top_half_mean"]["against"] is None  # the frozen rule is not tested against itself
    assert rules["fisher_sum"]["loss"] == pytest.approx(-0.02, abs=0.004)  # ahead of kNN, the best single one
    headline = words.headline(found)
    assert headline.startswith("Beyond noise, Fisher's sum (+0.03") and "beats the frozen rule" in headline
    told = words.sentences(found)
    assert any("Fisher's sum by 0.0" in text for text in told) and any("max logit" in text for text in told)
    quiet = question.compute(study(0.0))
    assert words.headline(quiet).startswith(("No rule beats", "No other rule"))
    assert quiet["methods"]["all methods"]["best_single"]["splits"] == 5


def test_loss_and_error_are_the_naive_ones():
    evidence = study(0.01, methods=("classifier",))
    rule = question.compute(evidence)["methods"]["classifier"]["rules"]["fisher_sum"]
    losses = [max(m["aurocs"]["knn"], m["aurocs"]["max_logit"]) - m["aurocs"]["fisher_sum"]
              for m in evidence.of("scorer_rules").values()]
    assert rule["loss"] == pytest.approx(np.mean(losses))
    assert rule["loss_error"] == pytest.approx(np.std(losses, ddof=1) / np.sqrt(5))
    assert list(rule["by_split"].values()) == pytest.approx(losses)


def test_single_scorers_and_rules_are_two_families_of_tests():
    rules = question.compute(study(0.03))["methods"]["all methods"]["rules"]
    raw = {n: r["against"]["p_value"] for n, r in rules.items() if r["against"]}
    assert rules["max_logit"]["against"]["p_adjusted"] == pytest.approx(2 * raw["max_logit"])  # of two scorers
    assert rules["fisher_sum"]["against"]["p_adjusted"] == pytest.approx(2 * raw["fisher_sum"])  # of two rules


def test_one_set_of_classes_is_judged_by_images():
    found = question.compute(study(0.05, same=True))
    assert "on these images" in words.headline(found)
    assert "one set of classes" in words.table(found).note


@pytest.mark.parametrize("evidence", [study(0.0), study(0.03, splits=(0,), methods=("classifier",))])
def test_card_and_figure(evidence):
    result = json.loads(json.dumps(question.compute(evidence), allow_nan=False))
    card = question.QUESTION.card(result)
    assert len(card.tables) == len(result["methods"]) and card.headline.endswith(".")
    for figure in card.figures:
        drawn = finish(figure.name, figure.data, figure.draw, figure.alt, figure.caption)
        assert drawn.wide.count("<svg") == 1 and figure.draw(figure.data, width=NARROW).get_figwidth() == NARROW
    assert [line["value"] for line in words.rules_data(result)["lines"]] == sorted(
        rule["loss"] for rule in result["methods"][words.whole(result)]["rules"].values())


def test_nothing_measured_is_said():
    empty = fake_evidence.study_evidence(fake_summaries.summary())
    assert "No selected trial" in question.applicable(empty) and question.applicable(study(0.0)) == ""
