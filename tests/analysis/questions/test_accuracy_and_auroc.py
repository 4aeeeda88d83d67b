"""Accuracy against AUROC: relations that were planted are found, and noise is called noise."""

from __future__ import annotations

import numpy as np
import pytest
from fake_evidence import study_evidence
from scipy.stats import spearmanr

from analysis.plot_base import NARROW, WIDE
from analysis.plot_questions_operating import draw_accuracy
from analysis.questions import get_question

QUESTION = get_question("accuracy_and_auroc")


def study(relation, *, methods=("classifier", "hybrid"), splits=(0, 1, 2), trials=12, sampler="random"):
    """``relation(accuracy, noise)`` gives the AUROC."""
    random, made = np.random.default_rng(0), []
    for method in methods:
        for split in splits:
            for trial in range(trials):
                accuracy = random.uniform(0.6, 0.95)
                area = relation(accuracy, random.normal())
                made.append({"method": method, "split": split, "trial": trial, "state": "completed", "retrained": False,
                             "closed_set_accuracy": accuracy, "scorer_auroc": area, "scorers": {"max_logit": 1 - area},
                             "oracle_detector_auroc": None, "selected": trial == 0})
    classes = {str(split): [f"c{split}"] for split in splits}
    return study_evidence({"rows": made, "nominal_classes": classes}, sampler=sampler)


def rising(accuracy, noise):
    return 0.4 + 0.5 * accuracy + 0.01 * noise


def test_a_relation_is_found_with_its_sign():
    found = QUESTION.compute(study(rising))
    whole = found["within"]["all methods"]
    assert whole["frozen_rule"]["low"] > 0.8 and whole["max_logit"]["high"] < -0.8 and whole["oracle_detector"] is None
    assert whole["frozen_rule"]["trials"] == 72 and whole["frozen_rule"]["splits"] == 6
    assert found["thirds"]["frozen_rule"]["low"] > 0
    card = QUESTION.card(found)
    assert "classify better detect better" in card.headline and "holds among good ones" in card.headline


def test_one_group_is_scipys_number():
    found = QUESTION.compute(study(rising, methods=("classifier",), splits=(0,)))
    pairs = found["points"]["frozen_rule"]["classifier"]
    assert found["within"]["classifier"]["frozen_rule"]["rho"] == pytest.approx(spearmanr(*zip(*pairs)).statistic, abs=1e-3)
    assert "all methods" not in found["within"] and found["thirds"]["frozen_rule"]["low"] is None


def test_only_bad_trials_make_the_relation():
    found = QUESTION.compute(study(lambda accuracy, noise: min(accuracy, 0.75) + 0.02 * noise, splits=(0, 1, 2, 3)))
    assert found["within"]["all methods"]["frozen_rule"]["low"] > 0
    third = found["thirds"]["frozen_rule"]
    assert third["low"] < 0.01 and third["groups"] == 8
    assert "but not among good ones" in QUESTION.card(found).headline


def test_noise_is_noise():
    card = QUESTION.card(QUESTION.compute(study(lambda accuracy, noise: 0.8 + 0.05 * noise)))
    assert "cannot be told from noise" in card.headline


def test_between_methods_needs_six_of_them():
    names = tuple("abcdef")
    found = QUESTION.compute(study(rising, methods=names))
    assert found["between"]["frozen_rule"]["methods"] == 6 and found["between"]["frozen_rule"]["splits"] == 3
    assert QUESTION.compute(study(rising, methods=names[:5]))["between"]["frozen_rule"] is None


def test_a_sampler_that_seeks_is_told_and_few_trials_are_no_answer():
    assert "tpe" in " ".join(QUESTION.card(QUESTION.compute(study(rising, sampler="tpe"))).sentences)
    assert "luck" in QUESTION.applicable(study(rising, trials=5)) and QUESTION.applicable(study(rising)) == ""


def test_the_figure_in_both_widths():
    figure = QUESTION.card(QUESTION.compute(study(rising))).figures[0]
    assert len(figure.data["panels"]) == 1  # no oracle here
    for width in (WIDE, NARROW):
        assert figure.draw(figure.data, width=width).axes


def test_a_method_has_the_same_marker_in_every_panel_and_one_legend_entry():
    panels = [{"label": "scorer", "points": {"b": [(0.8, 0.7)]}}, {"label": "oracle", "points": {"a": [(0.7, 0.6)], "b": [(0.8, 0.9)]}}]
    figure = draw_accuracy({"panels": panels})
    first, second = ([line.get_marker() for line in axis.lines if line.get_linestyle() == "None"] for axis in figure.axes[:2])
    assert first[0] == second[1] and second[0] != second[1]
    assert sorted(text.get_text() for text in figure.legends[0].get_texts()) == ["a", "b"]
