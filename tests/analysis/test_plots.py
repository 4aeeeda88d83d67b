from __future__ import annotations

import re
from xml.etree import ElementTree

import fake_summaries as fake
import pytest
from scipy.stats import kendalltau

from analysis import plot_data, plots

pytestmark = pytest.mark.filterwarnings("error::UserWarning")  # a layout that matplotlib gave up on
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def drawn():
    made = fake.summary()
    curve = {"title": "ROC", "x_label": "false positives", "y_label": "true positives",
             "series": [{"label": "scorer", "x": [0, 1], "y": [0, 1], "low": [0, 0.9], "high": [0.1, 1]}]}
    return plots.draw_all(made, spec=fake.spec(), curves={"ROC!": curve})


# ------------------------------------------------------------------------------------------------------ data
def test_ladder_holds_what_the_rows_hold():
    made = fake.summary()
    chosen = [row for row in made["rows"] if row["selected"]]
    panels = plot_data.ladder(made)["panels"]
    assert [(p["method"], p["label"]) for p in panels] == [("classifier", "split 0"), ("hybrid", "split 0")]
    for panel, row in zip(panels, chosen, strict=True):
        assert [bar["name"] for bar in panel["bars"]] == ["scorer", "oracle", "representation"]
        assert panel["bars"][1]["value"] - panel["bars"][0]["value"] == pytest.approx(row["extraction_gap"])
        assert panel["max_logit"] == row["scorers"]["max_logit"]


def test_ladder_leaves_out_what_is_missing():
    made = fake.summary()
    for row in made["rows"]:
        row.update(oracle_representation_auroc=None, representation_gap=None)
    assert [len(panel["bars"]) for panel in plot_data.ladder(made)["panels"]] == [2, 2]
    assert plot_data.ladder(fake.nominal_only())["panels"] == []


def test_ladder_means_average_the_splits():
    made = fake.summary(splits=(0, 1, 2))
    data = plot_data.ladder(made)
    assert len(data["panels"]) == 6
    means = plot_data.ladder_means(data)["panels"]
    assert [panel["label"] for panel in means] == ["mean of 3 splits"] * 2
    scores = [row["scorer_auroc"] for row in made["rows"] if row["selected"] and row["method"] == "hybrid"]
    assert means[1]["bars"][0]["value"] == pytest.approx(sum(scores) / 3)
    assert means[1]["bars"][0]["spread"] == pytest.approx(scores)


@pytest.mark.parametrize(("gap", "ci", "words"), [
    (0.05, [0.02, 0.08], "0.050 more AUROC can be read"),
    (0.01, [-0.02, 0.04], "within noise"),
    (-0.05, [-0.08, -0.02], "as much from z as a forest"),
])
def test_ladder_title_says_the_finding(gap, ci, words):
    made = fake.summary(methods=("classifier",))
    for row in made["rows"]:
        row.update(extraction_gap=gap, extraction_gap_ci=ci)
    assert words in plot_data.ladder(made)["title"]


def test_lambda_curve_is_sorted_and_marks_both_choices():
    made = fake.summary()
    (panel,) = plot_data.lambda_curve(made)["panels"]
    assert panel["weight"] == sorted(panel["weight"])
    rows = {row["trial"]: row for row in made["rows"] if row["method"] == "hybrid"}
    for trial, weight, frozen, error in zip(panel["trial"], panel["weight"], panel["series"]["frozen rule"],
                                            panel["series"]["reconstruction error"], strict=True):
        assert weight == rows[trial]["params"]["reconstruction_weight"]
        assert frozen == rows[trial]["scorer_auroc"]
        assert error == rows[trial]["scorers"]["reconstruction_error"]
    assert panel["selected"]["trial"] == next(r["trial"] for r in rows.values() if r["selected"])
    assert panel["hindsight"]["auroc"] == max(panel["series"]["frozen rule"])


def test_lambda_curve_needs_two_measured_trials():
    assert plot_data.lambda_curve(fake.summary(trials=1))["panels"] == []
    assert plot_data.lambda_curve(fake.summary(methods=("classifier",)))["panels"] == []
    assert len(plot_data.lambda_curve(fake.summary(trials=12, failed={"hybrid": 10}))["panels"][0]["weight"]) == 2


def test_signal_scatter_tau_is_kendalls_and_failed_trials_are_left_out():
    made = fake.summary(failed={"classifier": 3})
    panel = plot_data.signal_scatter(made, spec=fake.spec(sampler="random"))["panels"][0]
    assert len(panel["x"]) == 9
    assert panel["tau"] == pytest.approx(kendalltau(panel["x"], panel["y"]).statistic)
    assert made["rows"][panel["trial"][panel["selected"]]]["selected"]
    assert panel["y"][panel["best"]] == max(panel["y"])


def test_tau_of_a_signal_to_minimise_is_turned():
    made = fake.summary(methods=("classifier",))
    high = plot_data.signal_scatter(made)["panels"][0]["tau"]
    for row in made["rows"]:
        row.update(signal="val_nll", signal_value=-row["signal_value"])
    panel = plot_data.signal_scatter(made)["panels"][0]
    assert panel["lower_is_better"]
    assert panel["tau"] == pytest.approx(high)


def test_tau_needs_enough_trials_and_some_spread():
    assert plot_data.kendall_tau([1.0] * 7, [1.0] * 7) is None
    assert plot_data.kendall_tau([1.0] * 12, list(range(12))) is None
    assert plot_data.kendall_tau([*range(8), None], [*range(8), 3]) == pytest.approx(1)


def test_bias_is_named():
    assert plot_data.bias_of(fake.spec(sampler="random")) == ""
    assert "tpe sampler" in plot_data.bias_of(fake.spec())
    assert "median pruner" in plot_data.bias_of(fake.spec(sampler="random", pruner="median"))
    assert "tpe" in plot_data.bias_of(None)


# --------------------------------------------------------------------------------------------------- drawing
def test_every_figure_is_there_and_its_text_is_text(drawn):
    assert list(drawn) == ["gaps", "lambda", "signal", "curve-roc"]
    for figure in drawn.values():
        for svg in (figure.wide, figure.narrow, figure.files[f"{figure.name}.svg"].decode()):
            tree = ElementTree.fromstring(svg[svg.index("<svg"):])
            assert [text for text in tree.iter(f"{SVG}text") if "".join(text.itertext()).strip()]
            assert not list(tree.iter(f"{SVG}image"))
        assert figure.files[f"{figure.name}.png"].startswith(b"\x89PNG")
        assert figure.title in figure.files[f"{figure.name}.svg"].decode()


def test_inlined_figures_share_no_id_and_take_the_pages_ink(drawn):
    seen = [name for figure in drawn.values() for svg in (figure.wide, figure.narrow)
            for name in re.findall(r'\bid="([^"]+)"', svg)]
    assert len(seen) == len(set(seen))
    for figure in drawn.values():
        used = re.findall(r'(?:href="|url\()#([^")]+)', figure.wide)
        assert used or figure.name.startswith("curve")
        assert set(used) <= set(re.findall(r'\bid="([^"]+)"', figure.wide))
        assert "currentColor" in figure.wide
        assert plots.INK not in figure.wide
        assert 'role="img"' in figure.wide
        assert "aria-label=" in figure.wide


def test_drawing_is_repeatable(drawn):
    again = plots.draw_all(fake.summary(), spec=fake.spec())
    assert again["gaps"].wide == drawn["gaps"].wide


@pytest.mark.parametrize("name", ["a<b>&\"c", "$x_1$", "名前"])
def test_odd_names_are_escaped_and_not_typeset(name):
    figure = plots.draw_all(fake.summary(methods=(name,), trials=1))["gaps"]
    tree = ElementTree.fromstring(figure.wide)
    assert any(name in "".join(text.itertext()) for text in tree.iter(f"{SVG}text"))
    assert name in tree.attrib["aria-label"]


def test_lambda_zero_negative_gap_and_below_chance_can_be_drawn():
    made = fake.summary(trials=4)
    for row in made["rows"]:
        row.update(scorer_auroc=0.42, scorer_auroc_ci=[0.36, 0.48], oracle_detector_auroc=0.4, extraction_gap=-0.02)
        if row["method"] == "hybrid" and row["trial"] == 0:
            row["params"]["reconstruction_weight"] = 0.0
    found = plots.draw_all(made)
    assert "−0.020" in found["gaps"].wide
    assert ">0</text>" in found["lambda"].wide


@pytest.mark.parametrize(("values", "start"), [
    ([0.99, 0.95], 0.9), ([0.91, 0.99], 0.8), ([0.83], 0.8), ([0.81, 0.9], 0.5), ([0.5], 0.5), ([0.45], 0.42), ([0.01], 0),
])
def test_ladder_begins_at_chance_or_nearer(values, start):
    assert plots.axis_start(values) == pytest.approx(start)


def test_lambda_in_less_than_a_decade_has_readable_ticks():
    made = fake.summary(methods=("hybrid",), trials=3)
    for row, weight in zip(made["rows"], (0.1, 0.12, 0.2), strict=True):
        row["params"]["reconstruction_weight"] = weight
    svg = plots.draw_all(made)["lambda"].wide
    assert "mathdefault" not in svg
    assert [mark for mark in (">0.1<", ">0.14<", ">0.2<") if mark not in svg] == []


def test_several_splits_are_averaged_first_then_small_multiples():
    found = plots.draw_all(fake.summary(splits=(0, 1), trials=2))
    assert list(found) == ["gaps", "gaps-by-split", "lambda", "signal"]
    assert found["gaps"].wide.count("· mean of 2 splits") == 2
    assert found["gaps-by-split"].wide.count("· split 1") == 2
