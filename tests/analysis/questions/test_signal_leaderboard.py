"""The signal leaderboard: what is planted is found, what is not there is not, and nothing looks at what it may not."""

import copy
import json
import math

import fake_evidence
import fake_summaries
import numpy as np
import pytest

from analysis import leaderboard as board
from analysis.metrics import midranks
from analysis.plot_base import NARROW, finish
from analysis.questions import signal_leaderboard as question

SPLITS, TRIALS = (0, 1, 2, 3, 4), 16


def planted(*, methods=("classifier",), splits=SPLITS, trials=TRIALS, seed=0, same_classes=False):
    """val_accuracy follows AUROC up to noise, val_nll orders the wrong way, val_ece is chance; trial 0 is poor."""
    made = fake_summaries.summary(methods=methods, splits=splits, trials=trials, seed=seed)
    made["nominal_classes"] = {str(s): ["a", "x" if same_classes else str(s)] for s in splits}
    random = np.random.default_rng(seed)
    for row in made["rows"]:
        area = 0.75 if row["trial"] == 0 else float(random.uniform(0.7, 0.95))
        row.update(scorer_auroc=area, oracle_detector_auroc=area + 0.02, selected=False)
        row["scorers"] = {"max_logit": area - 0.05, "knn": area + 0.01, "msp": area - 0.1}
        accuracy, nll, other = (area + float(random.normal(0, noise)) for noise in (0.02, 0.005, 0.1))
        row["signals"] = {"val_accuracy": accuracy, "val_nll": nll, "val_ece": float(random.random()),
                          "synthetic_outlier_auroc": other}
        row["params"] = {"learning_rate": float(random.random())}
    return made


def study(made, measured=None, **more):
    return fake_evidence.study_evidence(made, {"signal_leaderboard": measured or {}}, **more)


def result_of(made, **more):
    return question.compute(study(made, **more))


def main(result, method="classifier", target="frozen_rule"):
    return result["methods"][method][target]


def test_a_planted_relation_is_found_and_none_where_there_is_none():
    found = main(result_of(planted(seed=1)))["rules"]
    assert found["val_accuracy"]["tau"]["low"] > 0.5 and found["val_accuracy"]["tau"]["verdict"] == "better"
    assert found["val_nll"]["tau"]["high"] < -0.8 and found["val_ece"]["tau"]["low"] < 0
    assert {base: found["val_accuracy"]["against"][base]["verdict"] for base in ("default", "random")} == {
        "default": "better", "random": "better"}
    assert found["val_nll"]["against"]["random"]["verdict"] == "worse"
    assert found["val_ece"]["against"]["random"]["verdict"] == "within noise"


def test_tau_and_regret_are_the_naive_ones():
    from scipy.stats import kendalltau

    made = planted(seed=4)
    found = main(result_of(made))
    for split in SPLITS:
        rows = [r for r in made["rows"] if r["split"] == split]
        areas, x = [r["scorer_auroc"] for r in rows], [-r["signals"]["val_ece"] for r in rows]
        best = max(range(len(rows)), key=lambda i: x[i])
        assert found["rules"]["val_ece"]["tau"]["by_split"][str(split)] == pytest.approx(kendalltau(x, areas).statistic)
        assert found["rules"]["val_ece"]["regret"]["by_split"][str(split)] == pytest.approx(max(areas) - areas[best])
        base = {name: one["regret"]["by_split"][str(split)] for name, one in found["baselines"].items()}
        assert base["random"] == pytest.approx(max(areas) - np.mean(areas))
        assert base["default"] == pytest.approx(max(areas) - areas[0])
        chosen = max(rows, key=lambda r: r["signals"]["val_accuracy"])
        assert base["hindsight"] == pytest.approx(max(areas) - chosen["scorers"]["knn"])
    values = np.array(list(found["rules"]["val_ece"]["regret"]["by_split"].values()))
    assert found["rules"]["val_ece"]["regret"]["value"] == pytest.approx(values.mean())
    assert found["rules"]["val_ece"]["regret"]["error"] == pytest.approx(values.std(ddof=1) / math.sqrt(len(values)))


def test_targets_have_their_own_regret():
    made = planted()
    for row in made["rows"]:
        row["scorers"]["max_logit"] = 1.5 - row["scorer_auroc"]  # the other way round
    result = result_of(made)
    assert main(result)["rules"]["val_accuracy"]["tau"]["value"] > 0.5
    assert main(result, target="max_logit")["rules"]["val_accuracy"]["tau"]["value"] < -0.5
    assert main(result, target="oracle_detector")["rules"]["val_accuracy"]["tau"]["value"] > 0.5
    assert "hindsight" not in main(result, target="oracle_detector")["baselines"]
    assert result["best_fixed"] == {"classifier": "knn"}


def test_ties_go_to_the_lower_nll_and_then_the_lower_number():
    sweep = board.Sweep((3, 5, 8, 9), {}, {}, np.array([0.3, 0.2, 0.2, 0.1]), ({},) * 4)
    assert sweep.pick(np.array([1.0, 1.0, 1.0, 0.5])) == 1
    assert sweep.pick(np.array([np.nan, np.nan, -1.0, np.nan])) == 2 and sweep.pick(np.full(4, np.nan)) is None


def test_a_signal_of_the_finalists_alone_ranks_nobody():
    made = planted()
    for row in made["rows"][:TRIALS]:
        row["signals"]["pseudo_novel_auroc"] = row["scorer_auroc"]  # every trial of split 0
    made["rows"][TRIALS]["signals"]["pseudo_novel_auroc"] = 0.9  # one of split 1
    found = main(result_of(made))["rules"]
    assert found["pseudo_novel_auroc"]["regret"]["by_split"] == {"0": 0.0}
    assert set(found["borda_folds"]["regret"]["by_split"]) == {"0"}
    assert found["pseudo_novel_auroc"]["against"]["random"]["verdict"] == "not known"


def test_borda_is_the_mean_of_ranks():
    table = board.sweeps(planted(), {})["classifier"][0]
    names = board.BORDA["borda"]
    expected = sum(midranks(table.signals[name]) for name in names) / 3
    assert board.borda(table, names) == pytest.approx(expected) and board.borda(table, (*names, "rankme")) is None


def test_learned_rules_see_nothing_of_the_held_out_split():
    made, other = planted(), planted()
    for row in other["rows"]:
        if row["split"] == 2:  # its labels are turned round
            row["scorer_auroc"] = 1.6 - row["scorer_auroc"]
    classes = {split: split for split in SPLITS}
    both = [board.sweeps(m, {})["classifier"] for m in (made, other)]
    for table in both:
        single = {n: {s: board.tau_of(w.signals[n], w.aurocs["frozen_rule"]) for s, w in table.items()}
                  for n in table[0].signals}
        table["ranked"] = board.ranked(dict(table), classes, "frozen_rule", single)
    for rule in ("ridge", "best_elsewhere"):
        assert np.array_equal(both[0]["ranked"][rule][2], both[1]["ranked"][rule][2])
        assert not all(np.array_equal(both[0]["ranked"][rule][s], both[1]["ranked"][rule][s]) for s in SPLITS) or (
            rule == "best_elsewhere")


def test_learned_rules_learn():
    """Two signals that are both wrong by the same amount, one up, one down: only their combination is right."""
    made, random = planted(seed=2), np.random.default_rng(5)
    for row in made["rows"]:
        shared = float(random.normal(0, 0.5))
        row["signals"] |= {"val_accuracy": row["scorer_auroc"] + shared,
                           "synthetic_outlier_auroc": row["scorer_auroc"] - shared, "val_nll": float(random.random())}
    found = main(result_of(made))
    assert found["rules"]["ridge"]["tau"]["value"] > max(
        found["rules"][name]["tau"]["value"] for name in ("val_accuracy", "synthetic_outlier_auroc")) + 0.3
    assert "learned" in found and set(main(result_of(planted()))["learned"].values()) == {"val_accuracy"}


def test_ridge_is_the_normal_equations():
    table = board.sweeps(planted(), {})["classifier"]
    names = ["val_accuracy", "val_ece"]
    def standard(v):
        return (v - v.mean()) / v.std()
    x = np.concatenate([np.stack([standard(table[s].signals[n]) for n in names], axis=1) for s in (0, 1)])
    y = np.concatenate([standard(midranks(table[s].aurocs["frozen_rule"])) for s in (0, 1)])
    from sklearn.linear_model import Ridge

    fitted = Ridge(alpha=board.RIDGE_PENALTY, fit_intercept=False).fit(x, y)
    expected = fitted.predict(np.stack([standard(table[2].signals[n]) for n in names], axis=1))
    assert board.ridge([table[0], table[1]], table[2], "frozen_rule", names) == pytest.approx(expected)


def test_splits_of_one_class_set_teach_each_other_nothing():
    found = result_of(planted(same_classes=True))
    assert found["class_sets"] == 1 and not {"ridge", "best_elsewhere"} & set(main(found)["rules"])
    assert main(found)["rules"]["val_accuracy"]["against"]["random"]["verdict"] == "not known"
    assert main(found)["rules"]["val_accuracy"]["tau"]["basis"] == "trials"
    assert "Too few splits" in question.headline(found)


def test_paired_differences_are_a_paired_t_test():
    from scipy.stats import ttest_rel

    above, below = {0: 0.3, 1: 0.2, 2: 0.5, 3: 0.1}, {0: 0.1, 1: 0.15, 2: 0.2, 3: 0.12, 4: 9.0}
    summary = {"nominal_classes": {str(s): [str(s)] for s in range(5)}}
    found = board.paired(summary, above, below)
    expected = ttest_rel(list(above.values()), [below[s] for s in above])
    interval = expected.confidence_interval()
    assert found["p_value"] == pytest.approx(expected.pvalue) and found["splits"] == 4
    assert (found["low"], found["high"]) == pytest.approx((interval.low, interval.high))
    assert board.paired(summary, {0: 1, 1: 1}, {0: 0, 1: 0.5})["p_value"] is None
    assert board.paired(summary, {0: 1, 1: 1, 2: 1}, {0: 0, 1: 0, 2: 0})["p_value"] == 1.0


def test_verdicts_are_corrected_for_many_rules():
    one = {"difference": 0.1, "p_value": 0.03}
    assert board.holm_adjusted({"a": one})["a"]["verdict"] == "better"
    many = board.holm_adjusted({"a": one, "b": {"difference": 0.1, "p_value": 0.5},
                                "c": {"difference": None, "p_value": None}})
    assert many["a"]["verdict"] == "within noise" and many["a"]["adjusted"] == pytest.approx(0.06)
    assert many["c"]["verdict"] == "not known" and many["c"]["adjusted"] is None


def test_pure_chance_beats_nothing():
    """Twelve studies whose signals know nothing: no more false winners than Holm allows by far."""
    wins = 0
    for seed in range(12):
        made, random = planted(seed=seed, splits=(0, 1, 2, 3)), np.random.default_rng(100 + seed)
        for row in made["rows"]:
            row["scorer_auroc"] = float(random.uniform(0.7, 0.95))
        found = main(result_of(made))["rules"]
        wins += any(rule["against"]["random"]["verdict"] == "better" for rule in found.values())
    assert wins <= 3


def test_methods_are_averaged_within_splits():
    result = result_of(planted(methods=("classifier", "hybrid")))
    whole = main(result, board.ALL)["rules"]["val_ece"]["regret"]["by_split"]
    parts = [main(result, m)["rules"]["val_ece"]["regret"]["by_split"] for m in ("classifier", "hybrid")]
    assert whole == pytest.approx({s: (parts[0][s] + parts[1][s]) / 2 for s in parts[0]})
    assert main(result, board.ALL)["rules"]["val_ece"]["regret"]["splits"] == len(SPLITS)


def test_splits_can_be_chosen():
    made = planted()
    found = question.leaderboard(study(made), splits=[1, 3, 4])
    assert found["splits"] == ["1", "3", "4"] == list(main(found)["rules"]["val_ece"]["regret"]["by_split"])
    only = {**made, "rows": [r for r in made["rows"] if r["split"] in (1, 3, 4)]}
    assert found == result_of(only)


def test_bias_and_prior_reveals_are_said():
    clean, biased = result_of(planted()), result_of({**planted(), "prior_reveals": 2}, sampler="tpe")
    assert clean["biased"] == "" and "tpe" in biased["biased"]
    text = " ".join(question.card(biased).sentences) + question.card(biased).tables[0].caption
    assert "Biased" in text and "before (2 times)" in text and "biased" in question.card(biased).tables[0].caption
    assert not any("Biased" in line for line in question.card(clean).sentences)


def test_measure_fills_in_signals_that_came_later():
    evidence = fake_evidence.trial_evidence(images=20)
    found = question.measure(evidence)["signals"]
    assert found["val_accuracy"] == evidence.signals["val_accuracy"]
    assert {"rankme", "knn_margin", "neural_collapse", "val_nll"} <= set(found)
    made = planted()
    measured = {("classifier", r["split"], r["trial"]): {"signals": {"rankme": r["scorer_auroc"], "val_accuracy": 0.0}}
                for r in made["rows"]}
    rules = main(question.compute(study(made, measured)))["rules"]
    assert rules["rankme"]["tau"]["value"] == pytest.approx(1) and rules["val_accuracy"]["tau"]["value"] > 0.5


def test_the_selecting_signal_makes_the_hindsight_baseline():
    made = planted()
    by_nll = question.compute(study(made, selection={"signal": "val_nll"}))
    assert by_nll["signal"] == "val_nll"
    regrets = [main(r)["baselines"]["hindsight"]["regret"]["value"] for r in (by_nll, result_of(made))]
    assert regrets[0] > regrets[1] + 0.05


@pytest.mark.parametrize("made", [
    {"rows": []}, fake_summaries.nominal_only(), fake_summaries.summary(trials=4),
    fake_summaries.summary(trials=9, failed={"hybrid": 9, "classifier": 3}),
])
def test_words_where_there_is_no_answer(made):
    assert "too few" in question.applicable(study(made))
    json.dumps(question.compute(study(made)), allow_nan=False)
    question.card(question.compute(study(made)))


@pytest.mark.parametrize("change", [
    lambda rows: [r.update(signals={}) for r in rows],
    lambda rows: [r.update(scorers={}) for r in rows],
    lambda rows: [r.update(oracle_detector_auroc=None) for r in rows],
    lambda rows: [r.update(params=None) for r in rows],
    lambda rows: [r["signals"].update(val_nll=None, val_ece=float("nan")) for r in rows],
    lambda rows: [r.update(scorer_auroc=None) for r in rows if r["split"] == 1],
    lambda rows: [r.update(state="failed", signals=None, scorers=None, scorer_auroc=None) for r in rows
                  if r["trial"] < 2],
    lambda rows: [r.update(split=0, trial=i) for i, r in enumerate(rows)],
])
def test_anything_may_be_missing(change):
    made = copy.deepcopy(planted())
    change(made["rows"])
    assert question.applicable(study(made)) == ""
    result = question.compute(study(made))
    json.dumps(result, allow_nan=False)
    card = question.card(result)
    assert card.headline.endswith(".") and "nan" not in (card.headline + card.tables[0].csv()).lower()


def test_a_failed_default_is_no_baseline():
    made = planted()
    made["rows"][0].update(state="failed", scorer_auroc=None)
    assert "0" not in main(result_of(made))["baselines"]["default"]["regret"]["by_split"]


def test_the_card_names_winners_only_beyond_noise():
    card = question.card(result_of(planted()))
    assert "val_accuracy" in card.headline and "better than both" in card.headline and "val_ece" not in card.headline
    assert any("wrong way round" in line and "val_nll" in line for line in card.sentences)
    chance, random = planted(), np.random.default_rng(9)
    for row in chance["rows"]:
        row["scorer_auroc"] = float(random.uniform(0.8, 0.81))
    assert question.card(result_of(chance)).headline.startswith("No signal chooses better")
    text = question.markdown(result_of(planted()))
    assert text.startswith("| signal | Kendall τ | regret") and "baseline: random trial" in text and "±" in text


def test_tables_run_from_the_least_regret_and_the_figures_too():
    result = result_of(planted())
    cells = [row[2] for row in question.table(result).cells if row[2] != "–"]
    values = [float(cell.split(" ")[0].replace("−", "-")) for cell in cells]
    assert values == sorted(values)
    tau, regret = question.tau_data(result), question.regret_data(result)
    assert [line["value"] for line in tau["lines"]] == sorted((line["value"] for line in tau["lines"]), reverse=True)
    assert regret["lines"][0]["beats"] and set(regret["baselines"]) == {"default", "random", "hindsight"}
    assert {line["name"] for line in tau["lines"]} == set(main(result)["rules"])


def test_figures_are_drawn_with_all_that_they_say():
    figures = question.card(result_of(planted())).figures
    assert [figure.name for figure in figures] == ["signal-tau", "signal-regret"]
    for figure in figures:
        drawn = finish(figure.name, figure.data, figure.draw, figure.alt, figure.caption)
        assert "val ece" in drawn.wide and "learned" in drawn.narrow and drawn.files[f"{figure.name}.png"]
        axis = figure.draw(figure.data, width=NARROW).axes[0]
        places = [text.get_text().replace(" ", "_") for text in axis.get_yticklabels()]
        assert places == [line["name"] for line in figure.data["lines"]]
    assert "random trial" in drawn.wide and "default configuration" in drawn.wide


def test_the_best_signal_elsewhere_is_chosen_elsewhere():
    table = board.sweeps(planted(), {})["classifier"][2]
    taus = {"val_nll": {0: 0.3, 1: 0.2, 2: -1.0}, "val_ece": {0: 0.2, 1: 0.2, 2: 1.0}, "absent": {0: 1.0, 1: 1.0}}
    assert board._best_elsewhere(taus, [0, 1], table) == "val_nll"
    assert board._best_elsewhere({"val_ece": {0: None}}, [0], table) is None


def test_only_what_beats_both_baselines_is_filled():
    result = result_of(planted())
    rule = main(result)["rules"]["val_accuracy"]
    for base, beats in (("random", False), ("default", False), (None, True)):
        verdicts = {name: "within noise" if name == base else "better" for name in ("default", "random")}
        rule["against"] |= {name: {**rule["against"][name], "verdict": word} for name, word in verdicts.items()}
        lines = {line["name"]: line["beats"] for line in question.regret_data(result)["lines"]}
        assert lines["val_accuracy"] is beats
