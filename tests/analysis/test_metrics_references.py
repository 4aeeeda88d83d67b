"""Every detection metric to 1e-12 against a loop as its definition reads, scikit-learn and pytorch-ood, on random and tied
scores. (pytorch-ood's AUPR is another: trapezoids, which interpolate between thresholds.)"""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import metrics

EXACT = {"abs": 1e-12, "rel": 1e-12}


@st.composite
def scored(draw):
    size = draw(st.integers(2, 30))
    kinds = st.one_of(st.integers(-3, 3).map(float), st.floats(-5, 5))  # many ties, few ties
    scores = draw(st.lists(kinds, min_size=size, max_size=size))
    mask = draw(st.lists(st.booleans(), min_size=size, max_size=size).filter(lambda m: 0 < sum(m) < len(m)))
    return np.array(scores), np.array(mask), np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)))


def naive_precision(scores, positive):
    """Sum over thresholds, from the highest, of gained recall times precision."""
    area, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        taken = [p for s, p in zip(scores, positive, strict=True) if s >= threshold]
        now = sum(taken) / sum(positive)
        area += (now - recall) * sum(taken) / len(taken)
        recall = now
    return area


def naive_equal_error(scores, mask):
    """Walks the ROC curve to the piece on which the misses fall below the false alarms, and cuts it there."""
    anomalies, nominal = scores[mask], scores[~mask]
    points = [(0.0, 1.0)] + [(np.mean(nominal >= t), np.mean(anomalies < t)) for t in sorted(set(scores), reverse=True)]
    for (alarms, misses), (more, fewer) in pairwise(points):
        if fewer <= more:
            share = (misses - alarms) / ((misses - alarms) - (fewer - more))
            return alarms + share * (more - alarms)
    raise AssertionError("the curve ends at (1, 0)")


@given(scored())
def test_against_naive_loops(case):
    scores, mask, correct = case
    anomalies, nominal = scores[mask], scores[~mask]
    pairs = [(a > n) + 0.5 * (a == n) for a in anomalies for n in nominal]
    assert metrics.auroc(scores, mask) == pytest.approx(sum(pairs) / len(pairs), **EXACT)
    assert metrics.aupr_anomaly(scores, mask) == pytest.approx(naive_precision(scores, mask), **EXACT)
    assert metrics.aupr_nominal(scores, mask) == pytest.approx(naive_precision(-scores, ~mask), **EXACT)
    assert metrics.equal_error_rate(scores, mask) == pytest.approx(naive_equal_error(scores, mask), **EXACT)
    flagged = [np.mean(nominal >= t) for t in scores if 100 * np.sum(anomalies >= t) >= 95 * len(anomalies)]
    assert metrics.fpr_at_95_tpr(scores, mask) == pytest.approx(min(flagged), **EXACT)
    missed = [np.mean(anomalies <= t) for t in scores if 100 * np.sum(nominal <= t) >= 95 * len(nominal)]
    assert metrics.anomalies_missed_at_95_acceptance(scores, mask) == pytest.approx(min(missed), **EXACT)
    won = [right * ((a > n) + 0.5 * (a == n)) for a in anomalies for n, right in zip(nominal, correct[~mask], strict=True)]
    assert metrics.oscr(scores, mask, correct) == pytest.approx(sum(won) / len(won), **EXACT)


@settings(deadline=None)  # scikit-learn is imported in the first
@given(scored())
def test_against_scikit_learn(case):
    from sklearn.metrics import auc, average_precision_score, roc_auc_score, roc_curve

    scores, mask, _ = case
    alarms, found, _ = roc_curve(mask, scores, drop_intermediate=False)
    ours = metrics.roc_curve(scores, mask)
    np.testing.assert_allclose(ours, (alarms, found), atol=1e-12)
    assert metrics.auroc(scores, mask) == pytest.approx(roc_auc_score(mask, scores), **EXACT)
    assert metrics.auroc(scores, mask) == pytest.approx(auc(*ours), **EXACT)
    assert metrics.aupr_anomaly(scores, mask) == pytest.approx(average_precision_score(mask, scores), **EXACT)
    assert metrics.aupr_nominal(scores, mask) == pytest.approx(average_precision_score(~mask, -scores), **EXACT)


@pytest.mark.parametrize("size", [3, 30, 3000])
@pytest.mark.parametrize("ties", [False, True])
def test_against_pytorch_ood(size, ties):
    import torch
    from pytorch_ood.metrics import functional

    random = np.random.default_rng(size)
    mask = np.append(random.random(size) < 0.4, [True, False])
    scores = np.round(random.normal(size=size + 2) + mask, 0 if ties else 12)
    labels = np.where(mask, -1, random.integers(0, 3, size + 2))
    predictions = np.where(random.random(size + 2) < 0.7, np.maximum(labels, 0), 1)
    correct = predictions == labels
    theirs, marked, guessed = torch.tensor(scores), torch.tensor(labels), torch.tensor(predictions)
    assert metrics.auroc(scores, mask) == pytest.approx(float(functional.auroc(theirs, marked)), **EXACT)
    np.testing.assert_allclose(metrics.roc_curve(scores, mask), functional.roc_curve(theirs, marked)[:2], atol=1e-12)
    assert metrics.fpr_at_95_tpr(scores, mask) == pytest.approx(float(functional.fpr_at_tpr(theirs, marked, 0.95)), **EXACT)
    assert metrics.oscr(scores, mask, correct) == pytest.approx(functional.oscr_score(theirs, guessed, marked), **EXACT)
    logits = np.eye(3)[predictions[~mask]]
    assert metrics.closed_set_accuracy(logits, labels[~mask]) == pytest.approx(
        float(functional.accuracy(guessed, marked)), **EXACT)


def test_the_aupr_of_pytorch_ood_is_another():
    import torch
    from pytorch_ood.metrics import functional

    scores, mask = np.array([3.0, 2.0, 2.0, 1.0]), np.array([False, True, False, True])
    theirs = float(functional.aupr(torch.tensor(scores), torch.tensor(np.where(mask, -1, 0))))
    assert abs(metrics.aupr_anomaly(scores, mask) - theirs) > 0.05
