"""Comparing trials by a signal."""

import pytest

from analysis.signals import SignalInfo, better, get_signal, objective, register, signal_names


def test_the_signals_that_a_study_may_name():
    assert signal_names() == ["val_nll", "val_accuracy", "val_ece", "synthetic_outlier_auroc", "pseudo_novel_auroc"]


@pytest.mark.parametrize("name, good, bad", [("val_nll", 0.1, 0.5), ("val_accuracy", 0.9, 0.8), ("val_ece", 0.0, 0.1),
                                             ("synthetic_outlier_auroc", 0.7, 0.6), ("pseudo_novel_auroc", 0.7, 0.6)])
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
