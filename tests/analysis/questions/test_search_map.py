"""Importance of hyperparameters: Optuna's numbers on the same trials, and noise told from what mattered."""

import json
import math

import fake_evidence
import fake_summaries
import numpy as np
import optuna
import pytest

from analysis.questions import answer
from analysis.questions.search_map import COPIES, QUANTILE, QUESTION, SHUFFLES, centred, distributions, importances

RANGES = {"rate": optuna.distributions.FloatDistribution(1e-3, 1.0, log=True),
          "width": optuna.distributions.IntDistribution(1, 9),
          "kind": optuna.distributions.CategoricalDistribution(["a", "b"])}


def trials(count, *, effect, splits=1, seed=0):
    """(parameters, split, value): only the rate has an effect, and each split its own level."""
    random = np.random.default_rng(seed)
    made = []
    for split in range(splits):
        for _ in range(count):
            one = {"rate": float(10 ** random.uniform(-3, 0)), "width": int(random.integers(1, 10)),
                   "kind": str(random.choice(["a", "b"]))}
            made.append((one, split, -effect * (math.log10(one["rate"]) + 1) ** 2 + float(random.normal(0, 0.05))))
    return made


def summary_of(made, *, failed=0, method="classifier"):
    rows = [{"method": method, "split": split, "seed": 0, "trial": i, "state": "completed", "selected": i == 0,
             "params": params, "signals": {"val_nll": -value}, "signal": "val_nll", "signal_value": -value,
             "scorer_auroc": 0.8 + value / 10 + split} for i, (params, split, value) in enumerate(made)]
    rows += [{"method": method, "split": 0, "seed": 0, "trial": 1000 + i, "state": "failed", "reason": "loss is NaN",
              "params": {"rate": 1.0, "width": 9, "kind": "a"}, "selected": False, "signals": None,
              "scorer_auroc": None}
             for i in range(failed)]
    return {"study": "made", "rows": rows}


def answered(summary, **spec):
    study = fake_evidence.study_evidence(summary, selection={"signal": "val_nll"}, **spec)
    assert QUESTION.applicable(study) == ""
    result = json.loads(json.dumps(QUESTION.compute(study), allow_nan=False))
    card = QUESTION.card(result)
    assert "nan" not in " ".join([card.headline, *card.sentences]) and card.headline.endswith(".")
    for figure in card.figures:
        for width in (9.6, 4.0):
            assert figure.draw(figure.data, width=width).axes
    return result, card


def test_shares_are_optuna_s():
    made = trials(40, effect=1.0)
    study = optuna.create_study(direction="maximize")
    study.add_trials([optuna.trial.create_trial(params=one, distributions=RANGES, value=value)
                      for one, _, value in made])
    expected = optuna.importance.get_param_importances(
        study, evaluator=optuna.importance.PedAnovaImportanceEvaluator(target_quantile=QUANTILE))
    found = importances(made, RANGES)
    assert {name: one["share"] for name, one in found.items()} == pytest.approx(expected)
    assert list(found) == list(expected) and sum(one["share"] for one in found.values()) == pytest.approx(1)
    assert found == importances(made, RANGES) and COPIES > 1
    for one in found.values():
        assert 0 <= one["low"] <= one["high"] <= 1


def test_what_matters_is_told_from_noise():
    planted = [importances(trials(40, effect=1.0, seed=seed), RANGES, seed=seed) for seed in range(6)]
    assert sum(one["rate"]["mattered"] for one in planted) >= 5
    assert planted[0]["rate"]["p_value"] == 1 / (SHUFFLES + 1)
    assert sum(one["width"]["mattered"] or one["kind"]["mattered"] for one in planted) <= 2
    noise = [importances(trials(16, effect=0.0, seed=seed), RANGES, seed=seed) for seed in range(12)]
    assert sum(any(one["mattered"] for one in found.values()) for found in noise) <= 3  # at 0.05 each: more, 0.2 %


def test_a_hard_split_is_no_property_of_its_trials():
    easy, hard = trials(20, effect=0.0, seed=1), trials(20, effect=0.0, seed=2)
    one = [({**p, "kind": "a"}, 0, value) for p, _, value in easy]
    one += [({**p, "kind": "b"}, 1, value - 9) for p, _, value in hard]
    summary = summary_of(one)
    values = centred(summary["rows"], lambda row: row["scorer_auroc"])
    assert np.mean(values[:20]) == pytest.approx(0, abs=1e-12) and np.mean(values[20:]) == pytest.approx(0, abs=1e-12)
    result, card = answered(summary)
    assert not result["methods"]["classifier"]["targets"]["auroc"]["parameters"]["kind"]["mattered"]
    assert result["methods"]["classifier"]["of_split_mean"]
    assert "split's mean" in card.figures[1].data["panels"][0]["value"]["title"]


def test_card_of_a_planted_effect_with_failures():
    result, card = answered(summary_of(trials(30, effect=1.0), failed=3))
    one = result["methods"]["classifier"]
    assert one["states"] == {"completed": 30, "failed": 3} and one["reasons"] == {"loss is NaN": 3}
    assert one["targets"]["signal"]["name"] == "val_nll"  # minimised: its sign is turned
    assert one["targets"]["signal"]["parameters"]["rate"]["mattered"]
    assert "selection signal rate, for the revealed AUROC rate" in card.headline and "unreliable" not in card.headline
    assert "3 failed (loss is NaN ×3)" in card.sentences[0] and "rate is first for both" in card.sentences[0]
    lines = card.figures[1].data["panels"][0]["lines"]
    assert sum(line["best"] for line in lines) == 8 and sum(line["state"] == "failed" for line in lines) == 3
    assert all(0 <= place <= 1 for line in lines for place in line["at"])
    places = {line["place"] for line in lines if line["state"] == "completed"}
    assert min(places) == 0 and max(places) == 1


def test_few_trials_are_called_unreliable():
    result, card = answered(summary_of(trials(6, effect=1.0)))
    assert result["few"] == ["classifier"] and "fewer than 20 trials are unreliable" in card.headline
    assert "unreliable" in card.tables[0].note


def test_distributions_come_from_the_space_or_from_the_values():
    rows = [{"params": {"rate": 10.0 ** -i, "width": i + 1, "kind": "ab"[i % 2], "fixed": 1, "flip": bool(i % 2),
                        **({"only": 1} if i else {})}} for i in range(4)]
    guessed = distributions({}, "m", rows)
    assert set(guessed) == {"rate", "width", "kind", "flip"}  # one value, or missing in a trial: left out
    assert guessed["rate"] == optuna.distributions.FloatDistribution(1e-3, 1.0, log=True)
    assert guessed["width"] == optuna.distributions.IntDistribution(1, 4)
    assert set(guessed["kind"].choices) == {"a", "b"} and set(guessed["flip"].choices) == {True, False}
    spaces = {"m": {"rate": {"low": 1e-2, "high": 10.0, "log": True}, "width": {"options": [1, 2, 3, 4, 8]}}}
    given = distributions({"spaces": spaces}, "m", rows)
    assert (given["rate"].low, given["rate"].high) == (1e-3, 10.0)  # widened to hold a trial outside
    assert given["width"].choices == (1, 2, 3, 4, 8)


def test_studies_of_many_methods_and_without_reveal():
    result, card = answered(fake_summaries.nine(
        methods=("classifier", "hybrid"), trials=8, splits=(0, 1), failed={"hybrid": 2}))
    assert set(result["methods"]) == {"classifier", "hybrid"} and len(card.tables) == 2
    hybrid = result["methods"]["hybrid"]
    assert hybrid["axes"][0]["name"] == next(iter(hybrid["targets"]["auroc"]["parameters"]))
    hidden = summary_of(trials(8, effect=1.0))
    for row in hidden["rows"]:
        row["scorer_auroc"] = None
    result, card = answered(hidden)
    assert set(result["methods"]["classifier"]["targets"]) == {"signal"} and "revealed" not in card.headline


def test_nothing_to_compare():
    one = summary_of(trials(3, effect=1.0))
    assert answer(QUESTION, fake_evidence.study_evidence(one))["not_applicable"].endswith(".")
    same = summary_of([({"rate": 0.1}, 0, value) for *_, value in trials(8, effect=1.0)])
    assert "not_applicable" in answer(QUESTION, fake_evidence.study_evidence(same))
    tied = summary_of([(params, 0, 1.0) for params, *_ in trials(8, effect=1.0)])
    assert "not_applicable" in answer(QUESTION, fake_evidence.study_evidence(tied))
