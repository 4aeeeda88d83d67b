"""Comparing trials by a signal."""

import pytest

from analysis import metrics
from analysis.checks import features
from analysis.signals import (
    SignalInfo,
    better,
    computed_signals,
    get_signal,
    objective,
    register,
    signal_names,
    trial_signal_names,
)

COMPUTED = ["val_nll", "val_accuracy", "val_ece"]
LATER = ["val_balanced_accuracy", "refined_nll", "logit_margin", "effective_rank", "rankme", "neural_collapse",
         "knn_margin"]


def test_the_signals_that_a_study_may_name():
    assert signal_names() == [*COMPUTED, "synthetic_outlier_auroc", "pseudo_novel_auroc", *LATER]
    assert trial_signal_names() == [*COMPUTED, "synthetic_outlier_auroc", *LATER]


def test_what_features_tell_is_computed_from_the_validation_ones():
    train, validation = features(), features(seed=1, count=60)
    values = {name: compute(train, validation) for name, compute in computed_signals().items()}
    logits, labels = validation.logits, validation.labels
    known = {"val_nll": metrics.nll(logits, labels), "val_ece": metrics.ece(logits, labels),
             "val_accuracy": metrics.closed_set_accuracy(logits, labels),
             "val_balanced_accuracy": metrics.balanced_accuracy(logits, labels)}
    assert {name: values[name] for name in known} == known
    assert list(values) == [*COMPUTED, *LATER]


@pytest.mark.parametrize("name, good, bad", [("val_nll", 0.1, 0.5), ("val_accuracy", 0.9, 0.8), ("val_ece", 0.0, 0.1),
                                             ("synthetic_outlier_auroc", 0.7, 0.6), ("pseudo_novel_auroc", 0.7, 0.6),
                                             ("refined_nll", 0.1, 0.2), ("neural_collapse", 0.1, 0.2),
                                             ("rankme", 9, 3), ("effective_rank", 9, 3), ("knn_margin", 0.1, -0.1),
                                             ("logit_margin", 2, 1), ("val_balanced_accuracy", 0.9, 0.8)])
def test_better_follows_the_direction(name, good, bad):
    assert better(good, bad, name) and not better(bad, good, name) and not better(good, good, name)
    assert objective(good, name) > objective(bad, name)


def test_minimised_signals_change_sign():
    assert objective(0.25, "val_nll") == -0.25 and objective(0.25, "val_accuracy") == 0.25


def test_unknown_and_repeated_names_are_refused():
    with pytest.raises(ValueError, match="did you mean 'val_accuracy'"):
        get_signal("val_acuracy")
    with pytest.raises(ValueError, match="registered already"):
        register(get_signal("val_nll"))
    with pytest.raises(ValueError, match="direction"):
        register(SignalInfo("new", "", "up", "1", frozenset(), "", ""))
