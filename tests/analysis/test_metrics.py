"""Detection metrics against naive loops, scikit-learn and pytorch-ood, and their invariances."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import metrics

DETECTION = ("auroc", "aupr_anomaly", "aupr_nominal", "fpr_at_95_tpr", "equal_error_rate",
             "anomalies_missed_at_95_acceptance")


def draw(seed, size=400, ties=False):
    generator = np.random.default_rng(seed)
    mask = generator.random(size) < 0.3
    scores = generator.normal(size=size) + mask
    return (np.round(scores, 1) if ties else scores), mask


@st.composite
def scored(draw):
    size = draw(st.integers(2, 40))
    scores = draw(st.lists(st.integers(-6, 6), min_size=size, max_size=size))
    mask = draw(st.lists(st.booleans(), min_size=size, max_size=size).filter(lambda m: 0 < sum(m) < len(m)))
    return np.array(scores, dtype=float), np.array(mask)


@given(scored())
def test_auroc_is_the_naive_count_of_pairs(case):
    scores, mask = case
    pairs = [(a > n) + 0.5 * (a == n) for a in scores[mask] for n in scores[~mask]]
    assert metrics.auroc(scores, mask) == pytest.approx(np.mean(pairs), abs=1e-12)


@given(scored())
def test_complement(case):
    scores, mask = case
    assert metrics.auroc(-scores, mask) == pytest.approx(1 - metrics.auroc(scores, mask), abs=1e-12)
    assert metrics.auroc(scores, ~mask) == pytest.approx(1 - metrics.auroc(scores, mask), abs=1e-12)
    assert metrics.equal_error_rate(-scores, ~mask) == pytest.approx(metrics.equal_error_rate(scores, mask), abs=1e-9)


@given(scored(), st.randoms(use_true_random=False))
def test_monotone_maps_and_permutations_change_nothing(case, random):
    scores, mask = case
    order = np.array(random.sample(range(len(scores)), len(scores)))
    correct = np.arange(len(scores)) % 3 != 0
    for name in DETECTION:
        metric = getattr(metrics, name)
        value = metric(scores, mask)
        assert metric(np.exp(scores) * 3 - 7, mask) == pytest.approx(value, abs=1e-12), name
        assert metric(scores[order], mask[order]) == pytest.approx(value, abs=1e-12), name
    assert metrics.oscr(scores[order], mask[order], correct[order]) == pytest.approx(
        metrics.oscr(scores, mask, correct), abs=1e-12)


@given(scored())
def test_values_lie_between_0_and_1(case):
    scores, mask = case
    for name in DETECTION:
        assert 0 <= getattr(metrics, name)(scores, mask) <= 1, name


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_against_scikit_learn(seed, ties):
    from sklearn.metrics import average_precision_score, roc_auc_score

    scores, mask = draw(seed, ties=ties)
    assert metrics.auroc(scores, mask) == pytest.approx(roc_auc_score(mask, scores), abs=1e-12)
    assert metrics.aupr_anomaly(scores, mask) == pytest.approx(average_precision_score(mask, scores), abs=1e-12)
    assert metrics.aupr_nominal(scores, mask) == pytest.approx(average_precision_score(~mask, -scores), abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_against_pytorch_ood(seed, ties):
    import torch
    from pytorch_ood.metrics import functional

    scores, mask = draw(seed, ties=ties)
    correct = np.random.default_rng(seed).random(len(scores)) < 0.8
    theirs = torch.tensor(scores), torch.tensor(np.where(mask, -1, 0))
    assert metrics.fpr_at_95_tpr(scores, mask) == pytest.approx(float(functional.fpr_at_tpr(*theirs, 0.95)), abs=1e-12)
    predictions = torch.tensor(np.where(correct, 0, 1))
    assert metrics.oscr(scores, mask, correct) == pytest.approx(
        functional.oscr_score(theirs[0], predictions, theirs[1]), abs=1e-12)


@given(scored())
def test_fpr_and_missed_are_the_naive_search_over_thresholds(case):
    scores, mask = case
    anomalies, nominal = scores[mask], scores[~mask]
    flagged = [np.mean(nominal >= t) for t in np.unique(scores) if 100 * np.sum(anomalies >= t) >= 95 * len(anomalies)]
    assert metrics.fpr_at_95_tpr(scores, mask) == pytest.approx(min(flagged))
    missed = [np.mean(anomalies <= t) for t in np.unique(scores) if 100 * np.sum(nominal <= t) >= 95 * len(nominal)]
    assert metrics.anomalies_missed_at_95_acceptance(scores, mask) == pytest.approx(min(missed))


def test_equal_error_rate_by_hand():
    assert metrics.equal_error_rate([1, 2, 3, 4], [0, 0, 1, 1]) == 0
    assert metrics.equal_error_rate([4, 3, 2, 1], [0, 0, 1, 1]) == 1
    assert metrics.equal_error_rate([1, 3, 2, 4], [0, 0, 1, 1]) == pytest.approx(0.5)
    assert metrics.equal_error_rate([5, 5, 5, 5], [0, 0, 1, 1]) == pytest.approx(0.5)
    # three nominal images, two anomalies: the curve passes (1/3, 1/2) -> (1/3, 1), so FPR = FNR at 1/3
    assert metrics.equal_error_rate([1, 2, 4, 3, 5], [0, 0, 0, 1, 1]) == pytest.approx(1 / 3)


def test_equal_error_rate_of_two_gaussians():
    generator = np.random.default_rng(0)
    scores = np.concatenate([generator.normal(size=200_000), generator.normal(2, 1, size=200_000)])
    mask = np.repeat([False, True], 200_000)
    assert metrics.equal_error_rate(scores, mask) == pytest.approx(0.158655, abs=0.002)  # Phi(-1)


def test_ties_between_all_images():
    scores, mask = np.zeros(10), np.arange(10) < 4
    assert metrics.auroc(scores, mask) == 0.5
    assert metrics.aupr_anomaly(scores, mask) == pytest.approx(0.4)
    assert metrics.fpr_at_95_tpr(scores, mask) == 1.0
    assert metrics.anomalies_missed_at_95_acceptance(scores, mask) == 1.0
    assert metrics.oscr(scores, mask, np.ones(10)) == 0.5


def test_infinite_scores_rank_at_the_ends():
    assert metrics.auroc([-np.inf, 0.0, 1.0, np.inf], [0, 0, 1, 1]) == 1.0
    assert metrics.auroc([np.inf, 0.0, 1.0, np.inf], [0, 0, 1, 1]) == 0.625


def test_oscr_is_at_most_the_accuracy_and_reached_by_a_perfect_detector():
    mask = np.repeat([False, True], 50)
    correct = np.arange(100) % 5 != 0
    assert metrics.oscr(mask.astype(float), mask, correct) == pytest.approx(0.8)


@pytest.mark.parametrize("scores, mask, message", [
    ([1.0, np.nan], [0, 1], "NaN"), ([1.0, 2.0], [0, 0], "both"), ([1.0, 2.0], [1, 1], "both"), ([], [], "both"),
    ([1.0], [0, 1], "one length"), ([[1.0, 2.0]], [[0, 1]], "vectors"), ([1.0, 2.0], [0, 2], "True and False")])
def test_bad_input_is_refused(scores, mask, message):
    for name in DETECTION:
        with pytest.raises(ValueError, match=message):
            getattr(metrics, name)(scores, mask)


def test_a_million_scores_in_half_a_second():
    scores, mask = draw(0, size=1_000_000)
    metrics.auroc(scores[:1000], mask[:1000])
    best = min(timed(metrics.auroc, scores, mask) for _ in range(3))
    assert best < 0.5


def timed(function, *arguments):
    start = time.process_time()
    function(*arguments)
    return time.process_time() - start


@settings(max_examples=50)
@given(st.integers(1, 300), st.sampled_from([0.5, 0.9, 0.95, 0.99, 1.0]))
def test_the_threshold_is_the_lowest_that_accepts_enough(size, acceptance):
    scores = np.round(np.random.default_rng(size).normal(size=size), 1)
    threshold = metrics.acceptance_threshold(scores, acceptance)
    assert np.mean(scores <= threshold) >= acceptance - 1e-12
    lower = scores[scores < threshold]
    assert not len(lower) or np.mean(scores <= lower.max()) < acceptance


@pytest.mark.parametrize("acceptance", [0, -0.1, 1.1])
def test_the_threshold_refuses_a_share_outside(acceptance):
    with pytest.raises(ValueError, match="acceptance"):
        metrics.acceptance_threshold([1.0], acceptance)


def logits_and_labels(seed=0, size=500, classes=6):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, size)
    logits = generator.normal(size=(size, classes)) * 2
    logits[np.arange(size), labels] += 1.5
    return logits.astype(np.float32), labels


def test_classification_against_scikit_learn():
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss

    logits, labels = logits_and_labels()
    probabilities = np.exp(metrics.log_softmax(logits))
    assert metrics.closed_set_accuracy(logits, labels) == pytest.approx(accuracy_score(labels, logits.argmax(1)))
    assert metrics.balanced_accuracy(logits, labels) == pytest.approx(balanced_accuracy_score(labels, logits.argmax(1)))
    assert metrics.nll(logits, labels) == pytest.approx(log_loss(labels, probabilities), abs=1e-12)


def test_ece_is_the_naive_sum_over_bins():
    logits, labels = logits_and_labels()
    probabilities = np.exp(logits.astype(np.float64))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    expected = 0.0
    for low in range(15):
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert metrics.ece(logits, labels) == pytest.approx(expected, abs=1e-12)


def test_ece_puts_a_confidence_on_an_edge_into_the_lower_bin():
    logits = np.array([[0.0, 0.0], [90.0, 0.0]])  # confidences 0.5, right, and 1, wrong
    assert metrics.ece(logits, [0, 1], bins=2) == pytest.approx((0.5 + 1) / 2)


def test_huge_logits_do_not_overflow():
    logits = np.array([[1e4, 0.0], [0.0, 1e4], [1e4, 0.0]])
    assert metrics.nll(logits, [0, 1, 1]) == pytest.approx(1e4 / 3)
    assert metrics.ece(logits, [0, 1, 1]) == pytest.approx(1 / 3)


@pytest.mark.parametrize("labels", [[0, 3], [0, -1], [0]])
def test_labels_outside_the_logits_are_refused(labels):
    with pytest.raises(ValueError, match="labels"):
        metrics.nll(np.zeros((2, 3)), labels)
