"""The course of trainings: best and last epoch, what goes with what, and words that do not claim luck."""

from __future__ import annotations

import numpy as np
import pytest
from fake_evidence import study_evidence
from scipy.stats import spearmanr

from analysis.plot_base import NARROW, WIDE
from analysis.questions import get_question

QUESTION = get_question("training_course")


def course(areas, *, gain=(0.0, -0.01, 0.01), reproduced=True, negative=False):
    """One training of ten epochs, measured at 1, 4, 7 and 10."""
    epochs = [{"epoch": e, "train_loss": (-1 if negative else 1) * 2.0 / e, "val_nll": 1.0 / e, "val_accuracy": 1 - 0.5 / e,
               "gradient_norm": 3.0 / e} for e in range(1, 11)]
    points = [{"epoch": e, "frozen_rule": a, "max_logit": 0.6, "linear": 0.9, "forest": 0.9 + e / 1000, "accuracy": 0.8}
              for e, a in zip((1, 4, 7, 10), areas, strict=True)]
    return {"epochs": epochs, "points": points, "reproduced": reproduced,
            "best_minus_last": {name: list(gain) for name in ("frozen_rule", "max_logit", "linear", "forest")}}


def study(found):
    made = [{"method": method, "split": split, "trial": 3, "selected": True, "state": "completed"} for method, split, _ in found]
    classes = {str(split): [f"c{split}"] for _, split, _ in found}
    return study_evidence({"rows": made, "nominal_classes": classes}, {"training_course": found})


def answered(found):
    made = study(found)
    assert QUESTION.applicable(made) == ""
    result = QUESTION.compute(made)
    return result, QUESTION.card(result)


def test_a_peak_is_told_with_its_interval_and_its_epoch():
    found = {("hybrid", s, 3): course([0.6, 0.9, 0.85, 0.8 - 0.01 * s], gain=(0.1 + 0.01 * s, 0.05, 0.15)) for s in range(3)}
    result, card = answered(found)
    one = result["methods"]["hybrid"]
    assert one["best"]["frozen_rule"]["epoch"] == {"0": 4, "1": 4, "2": 4} and one["best"]["frozen_rule"]["minus_last"]["low"] > 0
    assert one["curves"]["frozen_rule"] == pytest.approx([0.6, 0.9, 0.85, 0.79])
    assert "peaks before the training ends: the last epoch is 0.110" in card.headline and "4 points" in card.headline
    assert card.tables[0].cells[0][3] == "4"


def test_no_change_is_not_called_a_peak():
    result, card = answered({("classifier", 0, 3): course([0.7, 0.8, 0.801, 0.8], gain=(0.001, -0.009, 0.011))})
    assert "not beyond noise below its best" in card.headline
    assert result["methods"]["classifier"]["rho"]["linear"]["train_loss"] is None  # it never changes
    assert "bit for bit" in card.sentences[0]


def test_the_last_epoch_may_be_the_best():
    _, card = answered({("classifier", 0, 3): course([0.6, 0.7, 0.8, 0.9], gain=(0.0, 0.0, 0.0))})
    assert card.headline.startswith("The frozen rule's AUROC is highest at the last epoch")


def test_correlations_are_scipys_over_the_points():
    areas = [0.6, 0.9, 0.85, 0.8]
    result, _ = answered({("classifier", 0, 3): course(areas)})
    losses = [2.0 / e for e in (1, 4, 7, 10)]
    assert result["methods"]["classifier"]["rho"]["frozen_rule"]["train_loss"] == pytest.approx(spearmanr(losses, areas).statistic)


def test_a_score_that_is_not_finite_leaves_gaps_and_others_stand():
    broken = course([None, 0.8, 0.8, 0.8]) | {"reproduced": False}
    broken["best_minus_last"].pop("frozen_rule")
    result, card = answered({("jem", 0, 3): broken})
    assert result["mean"]["frozen_rule"] is None and "not finite" in card.headline and "0 of 1" in card.sentences[0]
    assert result["methods"]["jem"]["best"]["frozen_rule"]["epoch"] == {"0": 4}


def test_without_a_course_the_command_is_named():
    assert "--course 10" in QUESTION.applicable(study_evidence({"rows": []}))


@pytest.mark.parametrize("count", [1, 4])
def test_the_figure_in_both_widths(count):
    found = {(f"m{i}", 0, 3): course(list(np.linspace(0.6, 0.8, 4)), negative=i == 2) for i in range(count)}
    figure = answered(found)[1].figures[0]
    for width in (WIDE, NARROW):
        drawn = figure.draw(figure.data, width=width)
        drawn.canvas.draw()
        labels = [label.get_text() for axis in drawn.axes for label in axis.get_yticklabels()]
        assert not [text for text in labels if "$" in text]  # mathematics is not parsed, and would be shown as it is
        assert sum(axis.get_visible() for axis in drawn.axes) == 2 * count
