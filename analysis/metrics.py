"""Detection and classification metrics, each a pure function of arrays.

Detection metrics are called ``f(anomaly_score, is_anomaly)``: the anomaly is the positive class and a
higher score means more anomalous. Every curve has one point per *distinct* score, so that tied images
are accepted or refused together and the result never depends on the order of the rows.

All arithmetic is float64. Scores may be infinite (ranks are still defined) but not NaN.
"""

from __future__ import annotations

import numpy as np

ACCEPTANCE = 0.95


def check_scores(anomaly_score, is_anomaly) -> tuple[np.ndarray, np.ndarray]:
    """Scores as float64 (N,) and the mask as bool (N,).

    Raises ValueError for shapes that differ, NaN scores, a mask of other values than 0 and 1, or when one of
    the two classes is missing (no detection metric is defined then).
    """
    scores = np.asarray(anomaly_score, dtype=np.float64)
    mask = np.asarray(is_anomaly)
    if scores.ndim != 1 or scores.shape != mask.shape:
        raise ValueError(f"anomaly_score and is_anomaly must be vectors of one length, not {scores.shape} and "
                         f"{mask.shape}")
    if mask.dtype != bool:
        if not np.isin(mask, (0, 1)).all():
            raise ValueError("is_anomaly must hold True and False (or 1 and 0) only")
        mask = mask.astype(bool)
    if np.isnan(scores).any():
        raise ValueError("anomaly_score holds NaN")
    if mask.all() or not mask.any():
        raise ValueError("both nominal images and anomalies are needed")
    return scores, mask


def midranks(scores: np.ndarray) -> np.ndarray:
    """Ranks 1..N of a vector (N,), tied values sharing their mean rank."""
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    ends = np.append(starts[1:], len(scores))
    ranks = np.empty(len(scores))
    ranks[order] = np.repeat((starts + ends + 1) / 2, ends - starts)
    return ranks


def auroc(anomaly_score, is_anomaly) -> float:
    """Probability that a random anomaly scores above a random nominal image, ties counted half (0..1).

    Mann-Whitney rank formula; equals ``sklearn.metrics.roc_auc_score``.
    """
    scores, mask = check_scores(anomaly_score, is_anomaly)
    anomalies = int(mask.sum())
    rank_sum = midranks(scores)[mask].sum()
    return float((rank_sum - anomalies * (anomalies + 1) / 2) / (anomalies * (len(scores) - anomalies)))


def _accepted_counts(scores: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of anomalies and of nominal images flagged at each distinct threshold, from the highest down."""
    order = np.argsort(-scores, kind="stable")
    ordered, hits = scores[order], np.cumsum(mask[order])
    last = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(scores) - 1)
    return hits[last], last + 1 - hits[last]


def roc_curve(anomaly_score, is_anomaly) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates (both T+1 long, T distinct scores), from (0, 0) to (1, 1)."""
    scores, mask = check_scores(anomaly_score, is_anomaly)
    hits, alarms = _accepted_counts(scores, mask)
    return np.append(0.0, alarms / alarms[-1]), np.append(0.0, hits / hits[-1])


def aupr_anomaly(anomaly_score, is_anomaly) -> float:
    """Average precision with the anomalies positive: sum of (R_n - R_{n-1}) P_n, as scikit-learn defines it."""
    scores, mask = check_scores(anomaly_score, is_anomaly)
    hits, alarms = _accepted_counts(scores, mask)
    gained = np.diff(np.append(0, hits)) / hits[-1]
    return float(np.sum(gained * hits / (hits + alarms)))


def aupr_nominal(anomaly_score, is_anomaly) -> float:
    """Average precision with the nominal images positive (a lower score means more nominal)."""
    scores, mask = check_scores(anomaly_score, is_anomaly)
    return aupr_anomaly(-scores, ~mask)


def fpr_at_95_tpr(anomaly_score, is_anomaly) -> float:
    """Share of nominal images flagged at the first threshold that flags at least 95 % of the anomalies.

    Tie rule: thresholds are the distinct scores, an image at the threshold is flagged, nothing is interpolated
    (as in pytorch-ood).
    """
    scores, mask = check_scores(anomaly_score, is_anomaly)
    hits, alarms = _accepted_counts(scores, mask)
    # integers: 0.95 * hits[-1] may round above a whole number
    first = int(np.argmax(100 * hits >= 95 * hits[-1]))
    return float(alarms[first] / alarms[-1])


def anomalies_missed_at_95_acceptance(anomaly_score, is_anomaly) -> float:
    """Share of anomalies accepted at the lowest threshold that accepts at least 95 % of the nominal images.

    An image at the threshold is accepted, the rule of ``acceptance_threshold``.
    """
    scores, mask = check_scores(anomaly_score, is_anomaly)
    return float(np.mean(scores[mask] <= acceptance_threshold(scores[~mask])))


def acceptance_threshold(nominal_score, acceptance: float = ACCEPTANCE) -> float:
    """Lowest of the given scores (N,) such that at least that share of them is at or below it.

    ``score > threshold`` then flags at most 1 - acceptance of these nominal images.
    """
    scores = np.sort(np.asarray(nominal_score, dtype=np.float64))
    if scores.ndim != 1 or not len(scores) or np.isnan(scores).any():
        raise ValueError("a threshold needs a vector of nominal scores without NaN")
    if not 0 < acceptance <= 1:
        raise ValueError(f"acceptance must lie in (0, 1], not {acceptance}")
    # the small term keeps 0.95 * 20 = 19.000000000000004 from asking for one image more
    return float(scores[int(np.ceil(acceptance * len(scores) - 1e-9)) - 1])


def equal_error_rate(anomaly_score, is_anomaly) -> float:
    """Error rate where false positives equal false negatives, interpolated linearly along the ROC curve (0..1)."""
    false_positive, true_positive = roc_curve(anomaly_score, is_anomaly)
    surplus = (1 - true_positive) - false_positive  # falls from 1 to -1 along the curve
    after = int(np.argmax(surplus <= 0))
    before = after - 1
    step = surplus[before] / (surplus[before] - surplus[after])
    return float(false_positive[before] + step * (false_positive[after] - false_positive[before]))


def oscr(anomaly_score, is_anomaly, correct) -> float:
    """Open-set classification rate: area under correct classification rate against false acceptance (Dhamija 2018).

    ``correct`` (N,) says whether the predicted class is right; its values at anomalies are ignored. Equals the
    probability that a random nominal image is classified correctly *and* scores below a random anomaly. Ties count
    half (the curve's diagonal, as in pytorch-ood; the paper's own rule counts them as errors).
    """
    scores, mask = check_scores(anomaly_score, is_anomaly)
    right = np.asarray(correct)
    if right.shape != mask.shape:
        raise ValueError(f"correct must have one value an image, {mask.shape}, not {right.shape}")
    anomalies = np.sort(scores[mask])
    accepted = scores[~mask & right.astype(bool)]
    below = np.searchsorted(anomalies, accepted, side="left") + np.searchsorted(anomalies, accepted, side="right")
    return float(np.sum(len(anomalies) - below / 2) / (len(anomalies) * int((~mask).sum())))


def check_logits(logits, labels) -> tuple[np.ndarray, np.ndarray]:
    """Logits as float64 (N, K) and labels as int64 (N,) in 0..K-1; ValueError for anything else or no row."""
    values, classes = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    if values.ndim != 2 or classes.shape != values.shape[:1] or not len(classes):
        raise ValueError(f"logits (N, K) and labels (N,) with N >= 1 are needed, not {values.shape} and "
                         f"{classes.shape}")
    if classes.min() < 0 or classes.max() >= values.shape[1]:
        raise ValueError(f"labels must lie in 0..{values.shape[1] - 1}")
    return values, classes.astype(np.int64)


def log_softmax(logits) -> np.ndarray:
    """Log probabilities (N, K) of logits (N, K), float64, without overflow."""
    values = np.asarray(logits, dtype=np.float64)
    shifted = values - values.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def closed_set_accuracy(logits, labels) -> float:
    """Share of nominal images whose highest logit is that of their class; the lowest index wins a tie."""
    values, classes = check_logits(logits, labels)
    return float(np.mean(values.argmax(axis=1) == classes))


def balanced_accuracy(logits, labels) -> float:
    """Mean over the classes present of the share classified correctly."""
    values, classes = check_logits(logits, labels)
    right = values.argmax(axis=1) == classes
    return float(np.mean([right[classes == label].mean() for label in np.unique(classes)]))


def nll(logits, labels) -> float:
    """Mean negative log-likelihood of the true class, in nats."""
    values, classes = check_logits(logits, labels)
    return float(-np.mean(log_softmax(values)[np.arange(len(classes)), classes]))


def ece(logits, labels, bins: int = 15) -> float:
    """Expected calibration error over equal-width bins (low, high] of confidence (Guo 2017), 0..1."""
    values, classes = check_logits(logits, labels)
    confidence = np.exp(log_softmax(values).max(axis=1))
    right = values.argmax(axis=1) == classes
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    excess = np.bincount(which, weights=right - confidence, minlength=bins)
    return float(np.abs(excess).sum() / len(classes))
