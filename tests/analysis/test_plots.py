from __future__ import annotations

import re
from xml.etree import ElementTree

import fake_summaries as fake
import pytest
from scipy.stats import kendalltau

from analysis import plot_base, plot_data, plot_ladder, plots, rank_correlation
from analysis.plot_together import draw_figures

pytestmark = pytest.mark.filterwarnings("error::UserWarning")  # a layout that matplotlib gave up on
SVG = "{http://www.w3.org/2000/svg}"


def draw_all(summary, **given):
    return draw_figures(plots.figures_of(summary, **given))


@pytest.fixture(scope="module")
def drawn():
    made = fake.summary()
    curve = {"title": "ROC", "x_label": "false positives", "y_label": "true positives",
             "series": [{"label": "scorer", "x": [0, 1], "y": [0, 1], "low": [0, 0.9], "high": [0.1, 1]}]}
    return draw_all(made, spec=fake.spec(), curves={"ROC!": curve})


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
    assert rank_correlation.kendall_tau([1.0] * 7, [1.0] * 7) is None
    assert rank_correlation.kendall_tau([1.0] * 12, list(range(12))) is None
    assert rank_correlation.kendall_tau([*range(8), None], [*range(8), 3]) == pytest.approx(1)


def test_bias_is_named():
    assert plot_data.bias_of(fake.spec(sampler="random")) == ""
    assert "tpe sampler" in plot_data.bias_of(fake.spec())
    assert "median pruner" in plot_data.bias_of(fake.spec(sampler="random", pruner="median"))
    assert "tpe" in plot_data.bias_of(None)


# --------------------------------------------------------------------------------------------------- drawing
def test_every_figure_is_there_and_its_text_is_text(drawn):
    assert list(drawn) == ["gaps", "parameter-hybrid", "signal", "curve-roc"]
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
        assert plot_base.INK not in figure.wide
        assert 'role="img"' in figure.wide
        assert "aria-label=" in figure.wide


def test_drawing_is_repeatable(drawn):
    again = draw_all(fake.summary(), spec=fake.spec())
    assert again["gaps"].wide == drawn["gaps"].wide


@pytest.mark.parametrize("name", ["a<b>&\"c", "$x_1$", "名前"])
def test_odd_names_are_escaped_and_not_typeset(name):
    figure = draw_all(fake.summary(methods=(name,), trials=1))["gaps"]
    tree = ElementTree.fromstring(figure.wide)
    assert any(name in "".join(text.itertext()) for text in tree.iter(f"{SVG}text"))
    assert name in tree.attrib["aria-label"]


def test_lambda_zero_negative_gap_and_below_chance_can_be_drawn():
    made = fake.summary(trials=4)
    for row in made["rows"]:
        row.update(scorer_auroc=0.42, scorer_auroc_ci=[0.36, 0.48], oracle_detector_auroc=0.4, extraction_gap=-0.02)
        if row["method"] == "hybrid" and row["trial"] == 0:
            row["params"]["reconstruction_weight"] = 0.0
    found = draw_all(made)
    assert "−0.020" in found["gaps"].wide
    assert ">0</text>" in found["parameter-hybrid"].wide


@pytest.mark.parametrize(("values", "start"), [
    ([0.99, 0.95], 0.9), ([0.91, 0.99], 0.8), ([0.83], 0.8), ([0.81, 0.9], 0.5), ([0.5], 0.5), ([0.45], 0.42), ([0.01], 0),
])
def test_ladder_begins_at_chance_or_nearer(values, start):
    assert plot_ladder.axis_start(values) == pytest.approx(start)


def test_lambda_in_less_than_a_decade_has_readable_ticks():
    made = fake.summary(methods=("hybrid",), trials=3)
    for row, weight in zip(made["rows"], (0.1, 0.12, 0.2), strict=True):
        row["params"]["reconstruction_weight"] = weight
    svg = draw_all(made)["parameter-hybrid"].wide
    assert "mathdefault" not in svg
    assert [mark for mark in (">0.1<", ">0.14<", ">0.2<") if mark not in svg] == []


def test_several_splits_are_averaged_first_then_small_multiples():
    found = draw_all(fake.summary(splits=(0, 1), trials=2))
    assert list(found) == ["gaps", "gaps-by-split", "parameter-hybrid", "signal"]
    assert found["gaps"].wide.count("· mean of 2 splits") == 2
    assert found["gaps-by-split"].wide.count("· split 1") == 2


# ------------------------------------------------------------------------------------------------- many methods
@pytest.fixture(scope="module")
def nine():
    """Nine methods, three splits; one method failed altogether. The parameters of two of them are drawn, the drawing of
    all takes seconds."""
    made = fake.nine(trials=4, failed={"jem": 4})
    return made, draw_all({**made, "spaces": {name: made["spaces"][name] for name in ("deep_ensemble",)}})


def texts(svg):
    return ["".join(text.itertext()) for text in ElementTree.fromstring(svg[svg.index("<svg"):]).iter(f"{SVG}text")]


def test_many_methods_become_lines_of_dots(nine):
    made, found = nine
    words = texts(found["gaps"].wide)
    chosen = {m: [r for r in made["rows"] if r["selected"] and r["method"] == m] for m in fake.NINE[:-1]}
    for method, selected in chosen.items():
        mean = sum(row["scorer_auroc"] for row in selected) / 3
        assert method in words and any(text.startswith(f"{mean:.3f} →") for text in words)
    assert "jem" not in words
    order = sorted(chosen, key=lambda m: -sum(row["scorer_auroc"] for row in chosen[m]))
    assert [text for text in words if text in chosen] == order  # the best on top
    assert [text for text in texts(found["gaps-by-split"].wide) if text.startswith("split ")] == ["split 0", "split 1", "split 2"]


def test_many_panels_of_the_signal_share_one_for_each_method(nine):
    words = texts(nine[1]["signal"].wide)
    assert [text for text in words if text in fake.NINE] == list(fake.NINE[:-1])
    assert {"split 0", "split 1", "split 2"} <= set(words)


def test_figures_stay_on_a_screen_or_two(nine):
    for figure in nine[1].values():
        height = float(re.search(r'viewBox="0 0 \S+ (\S+)"', figure.wide)[1]) / 72
        assert height < 12, figure.name


def test_no_two_texts_of_a_figure_overlap(nine):
    """Where matplotlib put each text of the parameter and dot figures, drawn anew and measured."""
    from analysis import curves, plot_curves

    made, _ = nine
    wide = [plot_curves.draw_parameter(curves.parameter_curve(made, "deep_ensemble", "members"), width=plot_base.WIDE),
            plot_ladder.draw_gaps(plot_data.ladder_means(plot_data.ladder(made)), width=plot_base.WIDE)]
    for figure in wide:
        figure.savefig("/dev/null", format="png")
        boxes = [text.get_window_extent() for axis in figure.axes for text in [*axis.texts, axis.title] if text.get_text()]
        for index, box in enumerate(boxes):
            assert not any(box.overlaps(other.shrunk(0.95, 0.8)) for other in boxes[index + 1:])


def test_methods_whose_names_make_one_file_name_keep_a_figure_each():
    made = fake.nine(methods=("hybrid", "jem"), splits=(0,), trials=3)
    names = {"hybrid": "a b", "jem": "a-b"}
    made["spaces"] = {names[method]: space for method, space in made["spaces"].items()}
    for row in made["rows"]:
        row["method"] = names[row["method"]]
    assert {"parameter-a-b", "parameter-a-b-2"} <= set(draw_all(made))


def test_a_long_title_goes_on_in_the_next_line_of_the_file():
    from analysis.plot_base import TITLE_WIDTH, finish, grid

    title = "word " * 40 + "end"
    drawn = finish("x", {"title": title}, lambda data, width: grid(1, 1, width=width, height=1.0)[0], "alt", "caption")
    lines = [line for line in re.findall(r">([^<>]+)</text>", drawn.files["x.svg"].decode()) if "word" in line]
    assert len(lines) > 1 and " ".join(lines) == title and max(map(len, lines)) <= TITLE_WIDTH
