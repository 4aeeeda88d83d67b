"""Cautions of studies with many methods and splits: one sentence for one reason, and nothing lost."""
from __future__ import annotations

import fake_summaries as fake
import numpy as np
import pytest

from analysis import caution_checks as checks
from analysis import cautions


def test_places_are_gathered_by_method():
    assert cautions.where([("a", 0)]) == "a (split 0)"
    assert cautions.where([("a", 0), ("b", 0), ("a", 2)]) == "a (splits 0, 2) and b (split 0)"


def test_one_sentence_for_each_edge_of_a_parameter():
    made = fake.nine(methods=("classifier", "hybrid", "csi"), trials=3)
    for row in made["rows"]:
        row["params"] = {"learning_rate": 1.0 if row["method"] != "csi" else 0.021, "mixup": 0.25}
    texts = [c.text for c in cautions.find(made) if "edge" in c.text]
    assert len(texts) == 2
    assert texts[0].startswith("classifier (splits 0, 1, 2) and hybrid (splits 0, 1, 2): the selected learning_rate (1) lies at the upper")
    assert texts[1].startswith("csi (splits 0, 1, 2): the selected learning_rate (0.021) lies at the lower")


def test_worse_than_chance_and_lost_representations_are_gathered():
    made = fake.nine(methods=("classifier", "hybrid"), trials=2)
    for row in made["rows"]:
        if row["selected"] and row["method"] == "hybrid":
            row.update(scorer_auroc=0.4 + 0.01 * row["split"], oracle_representation_auroc=0.6, representation_gap=-0.2)
    texts = [c.text for c in cautions.find(made)]
    assert "hybrid (splits 0, 1, 2): the frozen rule is worse than chance (0.400 to 0.420)." in texts
    assert sum("cannot be trusted" in text for text in texts) == 1


def test_a_method_that_failed_everywhere_is_named_once():
    texts = [c.text for c in cautions.find(fake.nine(failed={"jem": 12}))]
    assert "No trial was selected for jem (splits 0, 1, 2)." in texts
    assert any("36 of 324 trials failed (jem 36)" in text for text in texts)


def test_a_representation_that_could_not_be_trained_is_explained():
    made = fake.nine(methods=("classifier", "hybrid"), trials=2)
    assert not [c for c in cautions.find(made) if "no oracle representation" in c.text]
    for row in made["rows"]:
        if row["selected"] and row["method"] == "hybrid" and row["split"] == 1:
            row.update(representation_reason="diverged: validation loss is nan", oracle_representation_auroc=None)
    found = [c.text for c in cautions.find(made) if "no oracle representation" in c.text]
    assert found == ["hybrid (split 1): no oracle representation, its training failed (diverged: validation loss is nan)."]


def test_reasons_that_differ_in_a_number_alone_are_one():
    made = fake.nine(methods=("classifier", "jem"), trials=2)
    chosen = [row for row in made["rows"] if row["selected"] and row["method"] == "jem"]
    for row, energy in zip(chosen, ("-17218.2", "-164222", "1e+05"), strict=True):
        row.update(representation_reason=f"diverged: energy gap is {energy}")
    found = [c.text for c in cautions.find(made) if "no oracle representation" in c.text]
    assert found == ["jem (splits 0, 1, 2): no oracle representation, its training failed (diverged: energy gap is …)."]


# ------------------------------------------------------------------------- each check: planted, and clean
def said(check, made, spec=None):
    return [(c.level, c.text) for c in check(made, spec or {})]


def chosen_rows(made, method="classifier"):
    return [row for row in made["rows"] if row["selected"] and row["method"] == method]


CLEAN = {"classes": {"0": list("abcdef"), "1": list("abcdeg"), "2": list("abcdeh")}}


@pytest.mark.parametrize("check", [check for check in cautions.CHECKS if check.__module__ == "analysis.caution_checks"])
@pytest.mark.parametrize("splits", [(0,), (0, 1, 2)])
def test_a_clean_study_raises_none(check, splits):
    made = fake.summary(splits=splits, nominal_classes=CLEAN["classes"], questions={"roc": {"auroc": 1}})
    assert said(check, fake.retrained(made, move=0.0005), fake.spec(sampler="random")) == []


@pytest.mark.parametrize("check", cautions.CHECKS)
def test_nothing_known_raises_none(check):
    made = fake.summary(trials=3, failed={"hybrid": 2})
    for row in made["rows"]:
        row.update({key: None for key in row if key not in ("method", "split", "trial", "state", "selected")})
    list(check(made, {}))
    assert said(check, {"rows": []}, {}) == []


def test_seeds_noisier_than_the_difference():
    made = fake.summary(levels={"classifier": 0.83, "hybrid": 0.86})
    spread = {method: np.std([r["scorer_auroc"] for r in again["rows"] if r["selected"] and r["method"] == method], ddof=1)
              for again in (fake.retrained(made, seeds=3, move=0.2),) for method in ("classifier", "hybrid")}
    (level, text), = said(checks.noisy_seeds, fake.retrained(made, seeds=3, move=0.2))
    assert level == "care" and text.startswith("Seeds are noisier than the differences")
    for method, value in spread.items():
        assert f"{method} ±{value:.3f}" in text
    ours, theirs = (chosen_rows(made, method)[0]["scorer_auroc"] for method in ("hybrid", "classifier"))
    assert f"({abs(ours - theirs):.3f})" in text
    assert said(checks.noisy_seeds, made) == []  # nothing was repeated, so nothing is known
    assert checks.seed_spread(made, "hybrid") is None
    pooled = fake.retrained(fake.summary(splits=(0, 1)), seeds=2, move=0.1)
    assert checks.seed_spread(pooled, "hybrid") == pytest.approx(0.1)


def test_wide_intervals():
    made = fake.summary(splits=(0, 1))
    chosen_rows(made)[1].update(scorer_auroc_ci=[0.7, 0.9])
    assert said(checks.wide_intervals, made) == [
        ("care", "classifier (split 1): few test images: the 95 % interval of the AUROC is 0.20 wide.")]
    chosen_rows(made)[1].update(scorer_auroc_ci=[0.75, 0.89])
    assert said(checks.wide_intervals, made) == []


def test_a_network_that_guesses_has_learnt_nothing():
    made = fake.summary(nominal_classes=CLEAN["classes"])
    chosen_rows(made)[0].update(closed_set_accuracy=0.22)
    (level, text), = said(checks.nothing_learnt, made)
    assert level == "care" and text.startswith("classifier (split 0): closed-set accuracy 0.220 is close to guessing")
    chosen_rows(made)[0].update(closed_set_accuracy=0.3)
    assert said(checks.nothing_learnt, made) == []


def test_accuracies_that_are_all_near_perfect():
    made = fake.summary()
    group = [row for row in made["rows"] if row["method"] == "classifier"]
    for index, row in enumerate(group):
        row["signal_value"] = 0.992 + 0.0006 * index
    assert said(checks.saturated, made) == [("care", (
        "classifier (split 0): all trials reach val_accuracy 0.992 to 0.999, so near perfect that it leaves little to choose "
        "by."))]
    group[3]["signal_value"] = 0.97
    assert said(checks.saturated, made) == []
    for row in group:
        row.update(signal="synthetic_outlier_auroc", signal_value=0.995 + row["trial"] / 1e4)
    assert said(checks.saturated, made) == []


def test_ties_in_the_signal():
    made = fake.summary()
    group = [row for row in made["rows"] if row["method"] == "classifier"]
    best = chosen_rows(made)[0]["signal_value"]
    group[[row["selected"] for row in group].index(False)]["signal_value"] = best
    assert said(checks.tied, made) == [
        ("note", "classifier (split 0): another trial has the selected one's val_accuracy; validation NLL decided between them.")]
    assert said(checks.tied, made, {"selection": {"finalists": 3}}) == []  # then the fold models decide
    for row in group[:8]:
        row["signal_value"] = best
    (level, text), = said(checks.tied, made)
    assert level == "care" and " other trials have the selected one's" in text
    for row in group:
        row["signal_value"] = best
    (level, text), = said(checks.tied, made)
    assert level == "care" and "all trials tie in val_accuracy" in text and "tie-break" in text
    for row in group:
        row["signal_value"] = 0.995
    assert said(checks.saturated, made) == []  # said once


def test_a_search_that_did_not_pay():
    made = fake.summary(splits=(0, 1))
    for row in made["rows"]:
        if row["method"] == "hybrid" and row["trial"] == 0:
            row["scorer_auroc"] = 0.95
            assert not row["selected"]
    loss = np.mean([row["scorer_auroc"] - 0.95 for row in chosen_rows(made, "hybrid")])
    assert said(checks.no_better_than_default, made) == [("note", (
        f"The selected trial detects no better than the default configuration: hybrid (−{-loss:.3f})."))]
    for row in made["rows"]:
        row["selected"] = row["trial"] == 0  # the default itself was chosen
    assert said(checks.no_better_than_default, made) == []


def test_a_rule_that_fell_back():
    made = fake.summary()
    chosen_rows(made, "hybrid")[0]["scorer"] = "all_mean"
    (level, text), = said(checks.fallback_rule, made, fake.spec())
    assert level == "care" and text.startswith("hybrid (split 0): there were no fold models")
    assert "instead of top_half_mean" in text
    wanted = {"selection": {"scorer_rule": "all_mean"}}
    assert said(checks.fallback_rule, made, wanted) == [] == said(checks.fallback_rule, made, {})


def signals(made, method, name, of):
    for row in made["rows"]:
        if row["method"] == method:
            value = of(row)
            row["signals"][name] = value
            if row["signal"] == name:
                row["signal_value"] = value


def test_a_blind_signal_and_the_one_that_would_have_seen():
    random = np.random.default_rng(0)
    made = fake.summary(methods=("classifier",), trials=16, splits=(0, 1))
    signals(made, "classifier", "val_accuracy", lambda row: float(random.uniform()))
    signals(made, "classifier", "val_nll", lambda row: -row["scorer_auroc"])  # lower is better
    signals(made, "classifier", "val_ece", lambda row: row["scorer_auroc"])  # so this one is wrong way round
    signals(made, "classifier", "synthetic_outlier_auroc", lambda row: float(random.uniform()))
    (level, text), = said(checks.blind_signal, made, fake.spec(sampler="random"))
    assert level == "care" and text.startswith("val_accuracy hardly orders the trials by AUROC: Kendall τ classifier ")
    assert "Of 3 other signals, val_nll (classifier +1.00 [" in text
    assert "val_ece" not in text and "synthetic" not in text
    assert said(checks.blind_signal, made, fake.spec(sampler="tpe")) == []
    assert said(checks.blind_signal, made, fake.spec(sampler="random", pruner="median")) == []
    few = fake.summary(methods=("classifier",), trials=7)
    signals(few, "classifier", "val_accuracy", lambda row: -row["scorer_auroc"])
    assert said(checks.blind_signal, few, fake.spec(sampler="random")) == []  # of seven trials τ says nothing


def test_blind_methods_are_told_in_one_sentence():
    made = fake.nine(methods=("classifier", "hybrid"), trials=8, splits=(0, 1))
    for row in made["rows"]:
        row["signal_value"], row["signals"] = -row["scorer_auroc"], {"val_accuracy": -row["scorer_auroc"]}
    (_, text), = said(checks.blind_signal, made, fake.spec(sampler="random"))
    assert text.count("hardly orders") == 1 and "classifier −1.00 [" in text and "and hybrid −1.00 [" in text
    assert "other signal" not in text


@pytest.mark.parametrize(("others", "named"), [(0, True), (5, False)])
def test_a_relation_found_among_many_signals_must_be_stronger(others, named):
    made = fake.summary(methods=("classifier",), trials=10)
    ranks = [4, 3, 2, 1, 0, 6, 5, 7, 8, 9]  # 11 of 45 pairs the wrong way round: τ 0.51, interval from +0.00
    ordered = sorted(made["rows"], key=lambda row: row["scorer_auroc"])
    for row, rank in zip(ordered, ranks, strict=True):
        row["signals"] = {"s": float(rank)} | {f"constant{i}": 1.0 for i in range(others)}
        row["signal_value"] = -row["scorer_auroc"]
    (_, text), = said(checks.blind_signal, made, fake.spec(sampler="random"))
    assert ("s (classifier +0.51 [" in text) is named and ("none does" in text) is not named


def test_a_relation_over_splits_found_among_many_signals_must_be_stronger():
    from types import SimpleNamespace

    tau = SimpleNamespace(value=0.5, low=0.05, high=0.95, basis="splits")
    assert checks._holds(tau, 5, 1) and not checks._holds(tau, 5, 2)
    assert not checks._holds(SimpleNamespace(value=0.5, low=-0.1, high=0.9, basis="splits"), 5, 1)
    assert not checks._holds(SimpleNamespace(value=0.5, low=None, high=None, basis="none"), 1, 1)


def failing(trials=24, *, bad=lambda row: False):
    made = fake.summary(trials=trials)
    for row in made["rows"]:
        if row["method"] == "hybrid" and bad(row) and not row["selected"]:
            row.update(state="failed", reason="diverged: loss is NaN", scorer_auroc=None)
    return made


def test_the_region_that_fails_is_named():
    made = failing(bad=lambda row: row["params"]["learning_rate"] > 0.03)
    (level, text), = said(checks.failing_methods, made)
    rates = {state: [r["params"]["learning_rate"] for r in made["rows"] if r["method"] == "hybrid" and r["state"] == state]
             for state in ("failed", "completed")}
    assert level == ("care" if len(rates["failed"]) >= 12 else "note")
    assert text.startswith(f"hybrid: {len(rates['failed'])} of 24 trials failed, all diverged; they lie where learning_rate is high")
    assert f"({min(rates['failed']):.3g} to {max(rates['failed']):.3g}; completed" in text


def test_the_option_that_fails_is_named():
    made = failing(bad=lambda row: row["params"]["augmentation"] == "crop")
    (_, text), = said(checks.failing_methods, made)
    assert "with augmentation crop failed, 0 of" in text


def test_failures_without_a_region_are_only_told_where_they_are_many():
    assert said(checks.failing_methods, failing(bad=lambda row: row["trial"] % 5 == 0)) == []
    (level, text), = said(checks.failing_methods, failing(bad=lambda row: row["trial"] % 3 != 0))
    assert level == "care" and text.endswith("failed, all diverged.")


def test_a_region_by_luck_is_seldom_named():
    random = np.random.default_rng(8)
    named = 0
    for _ in range(80):
        trials = [{"state": "failed" if i < 6 else "completed", "params": {f"p{k}": random.uniform() for k in range(5)}
                   | {"choice": str(random.choice(["x", "y", "z"]))}} for i in range(16)]
        named += checks.failing_region(trials) != ""
    assert named <= 10  # 5 % of 80 and three standard errors


def test_questions_without_an_answer():
    made = {"rows": [], "questions": {"few_shot": {"not_applicable": "one anomaly class."}, "layers": {"error": "KeyError: z"},
                                      "per_class": {"not_applicable": "one anomaly class"}, "roc": {"bands": []}}}
    assert said(checks.unanswered, made) == [
        ("note", "Questions not answered: few_shot and per_class (one anomaly class)."),
        ("care", "Question could not be computed: layers (KeyError: z)."),
    ]


def test_cautions_are_in_the_order_of_their_weight():
    made = fake.summary(contaminated=True, trials=3, questions={"roc": {"not_applicable": "x"}})
    levels = [caution.level for caution in cautions.find(made)]
    assert levels == sorted(levels, key=("stop", "care", "note").index) and set(levels) == {"stop", "care", "note"}
