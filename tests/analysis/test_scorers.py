"""Scorers against pytorch-ood's detectors and plain definitions; post-hoc parameters against plain searches."""

import json

import numpy as np
import pytest
import torch
from pytorch_ood import detector

from analysis import scorer_latents
from analysis.metrics import auroc, nll
from analysis.scorers import (
    DEFAULT_SCORERS,
    Features,
    Scorer,
    ScorerInfo,
    best_temperature,
    default_scorers,
    get_scorer,
    register,
    scorer_names,
    settle_parameters,
)


def features(seed=0, size=300, classes=4, width=12, lift=3.0, dtype=np.float32):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, size)
    z = generator.normal(size=(size, width))
    z[np.arange(size), labels] += lift
    logits = z[:, :classes] + generator.normal(size=(size, classes))
    return Features(logits.astype(dtype), z.astype(dtype), labels, {"reconstruction_error": generator.random(size)})


TRAIN, TEST = features(0), features(1, size=200)


def test_registry_order_is_the_default_set_then_own():
    assert tuple(scorer_names()[:8]) == DEFAULT_SCORERS
    assert default_scorers(["reconstruction_error"]) == [*DEFAULT_SCORERS, "reconstruction_error"]
    assert scorer_names(["reconstruction_error"])[-1] == "reconstruction_error"


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("name, theirs, shift", [
    ("msp", lambda t: detector.MaxSoftmax(None, t=t), 1.0), ("energy", lambda t: detector.EnergyBased(None, t=t), 0.0)])
def test_logit_scorers_with_a_temperature_against_pytorch_ood(name, theirs, shift, temperature):
    ours = get_scorer(name).fit(TRAIN, {"temperature": temperature}).score(TEST)
    expected = theirs(temperature).predict_logits(torch.tensor(TEST.logits, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(ours, expected + shift, atol=1e-12)


@pytest.mark.parametrize("name, theirs", [("entropy", detector.Entropy(None)), ("max_logit", detector.MaxLogit(None))])
def test_logit_scorers_against_pytorch_ood(name, theirs):
    expected = theirs.predict_logits(torch.tensor(TEST.logits, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(get_scorer(name).fit(TRAIN).score(TEST), expected, atol=1e-12)


def test_margin_is_the_log_ratio_of_the_two_largest_probabilities():
    probabilities = np.sort(torch.tensor(TEST.logits, dtype=torch.float64).softmax(1).numpy(), axis=1)
    np.testing.assert_allclose(get_scorer("margin").fit(TRAIN).score(TEST),
                               np.log(probabilities[:, -2] / probabilities[:, -1]), atol=1e-12)


def test_confident_images_are_not_tied_by_rounding():
    logits = np.array([[60.0, 0.0], [90.0, 0.0], [300.0, 0.0]])
    for name in ("msp", "entropy", "margin"):
        scores = get_scorer(name).fit(TRAIN).score(Features(logits, logits))
        assert scores[0] > scores[1] > scores[2] >= -300, name


@pytest.mark.parametrize("k", [1, 10, 50])
def test_knn_against_pytorch_ood(k):
    theirs = detector.KNN(None, k=k).fit_features(torch.tensor(TRAIN.z, dtype=torch.float64),
                                                  torch.tensor(TRAIN.labels))
    expected = theirs.predict_features(torch.tensor(TEST.z, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(get_scorer("knn").fit(TRAIN, {"k": k}).score(TEST), expected, atol=1e-6)


def test_knn_does_not_depend_on_the_chunks(monkeypatch):
    scorer = get_scorer("knn").fit(TRAIN, {"k": 5})
    whole = scorer.score(TEST)
    monkeypatch.setattr(scorer_latents, "CHUNK_ELEMENTS", 7 * len(TRAIN))
    np.testing.assert_array_equal(scorer.score(TEST), whole)


def test_knn_tells_near_neighbours_apart():
    """Distances far below float32's cosine resolution: 2 - 2 cos would give 0 for all of them."""
    z = np.array([[1.0, 0.0], [1.0, 1e-5], [1.0, 3e-5]])
    scores = get_scorer("knn").fit(Features(z[:1], z[:1]), {"k": 1}).score(Features(z, z))
    np.testing.assert_allclose(scores, [0, 1e-5, 3e-5], rtol=1e-3, atol=1e-9)


def test_knn_finds_the_nearest_among_neighbours_that_float32_cannot_order():
    train = np.array([[1.0, 4e-5], [1.0, 3e-5], [1.0, 2e-5], [1.0, 1e-5], [0.0, 1.0]])
    for order in (slice(None), slice(None, None, -1)):
        scorer = get_scorer("knn").fit(Features(train[order], train[order]), {"k": 1})
        np.testing.assert_allclose(scorer.score(Features(train[:1] * [1, 0], train[:1] * [1, 0])), [1e-5], rtol=1e-3)


def test_k_is_cut_to_the_number_of_training_images():
    few = TRAIN.select(slice(0, 3))
    np.testing.assert_array_equal(get_scorer("knn").fit(few, {"k": 50}).score(TEST),
                                  get_scorer("knn").fit(few, {"k": 3}).score(TEST))


@pytest.mark.parametrize("name, theirs, factor", [("mahalanobis", detector.Mahalanobis, 2.0),
                                                  ("relative_mahalanobis", detector.RMD, 1.0)])
def test_mahalanobis_against_pytorch_ood(name, theirs, factor):
    """Theirs uses the scatter (N times the covariance) plus 1e-6, and half the distance for Mahalanobis."""
    fitted = theirs(None).fit_features(torch.tensor(TRAIN.z, dtype=torch.float32), torch.tensor(TRAIN.labels))
    expected = fitted.predict_features(torch.tensor(TEST.z)).numpy() * len(TRAIN) * factor
    ours = get_scorer(name).fit(TRAIN).score(TEST)
    np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-3)


def test_mahalanobis_by_its_definition():
    z, labels = TRAIN.z.astype(np.float64), TRAIN.labels
    means = np.stack([z[labels == label].mean(axis=0) for label in range(4)])
    centred = z - means[labels]
    precision = np.linalg.inv(centred.T @ centred / len(z))
    offsets = TEST.z[:, None] - means
    expected = np.einsum("ncd,de,nce->nc", offsets, precision, offsets).min(axis=1)
    np.testing.assert_allclose(get_scorer("mahalanobis").fit(TRAIN).score(TEST), expected, rtol=1e-9)
    background = np.linalg.inv(np.cov(z.T, bias=True))
    far = TEST.z - z.mean(axis=0)
    np.testing.assert_allclose(get_scorer("relative_mahalanobis").fit(TRAIN).score(TEST),
                               expected - np.einsum("nd,de,ne->n", far, background, far), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", ["mahalanobis", "relative_mahalanobis"])
def test_mahalanobis_ignores_dead_and_doubled_features(name):
    """Neither adds information, so a singular covariance must score as the regular one does."""
    def padded(given):
        extra = np.full((len(given), 2), 0.1, dtype=np.float32)
        return Features(given.logits, np.hstack([given.z, extra, given.z[:, :3]]), given.labels)

    np.testing.assert_allclose(get_scorer(name).fit(padded(TRAIN)).score(padded(TEST)),
                               get_scorer(name).fit(TRAIN).score(TEST), rtol=1e-5, atol=1e-5)


def test_a_dead_feature_that_flickers_does_not_swamp_the_distance():
    train = Features(TRAIN.logits, np.hstack([TRAIN.z, np.zeros((len(TRAIN), 1))]), TRAIN.labels)
    flicker = np.zeros((len(TEST), 1))
    flicker[0] = 0.01
    test = Features(TEST.logits, np.hstack([TEST.z, flicker]), TEST.labels)
    np.testing.assert_allclose(get_scorer("mahalanobis").fit(train).score(test)[0],
                               get_scorer("mahalanobis").fit(TRAIN).score(TEST)[0], rtol=1e-9)


@pytest.mark.parametrize("name", DEFAULT_SCORERS)
def test_far_images_of_no_class_score_higher(name):
    generator = np.random.default_rng(5)
    z = generator.normal(size=(100, 12))
    z[:, 4:] += 3
    anomalies = Features(generator.normal(size=(100, 4)) * 0.5, z)
    scorer = get_scorer(name).fit(TRAIN)
    scores = np.concatenate([scorer.score(TEST), scorer.score(anomalies)])
    assert auroc(scores, np.repeat([False, True], [200, 100])) > 0.75


def test_own_score_is_the_methods_own():
    own = ("reconstruction_error",)
    np.testing.assert_array_equal(get_scorer("reconstruction_error", own).fit(TRAIN).score(TEST),
                                  TEST.own["reconstruction_error"])
    with pytest.raises(ValueError, match="no own score"):
        get_scorer("reconstruction_error", own).fit(TRAIN).score(Features(TEST.logits, TEST.z))
    with pytest.raises(ValueError, match="registered"):
        get_scorer("msp", ["msp"])


def test_unknown_names_and_duplicates_are_refused():
    with pytest.raises(ValueError, match="did you mean 'energy'"):
        get_scorer("enrgy")
    with pytest.raises(ValueError, match="did you mean 'reconstruction_error'"):
        get_scorer("reconstruction_eror", ["reconstruction_error"])

    class Again(Scorer):
        info = ScorerInfo("msp", "", "", 0, "", "logit", frozenset())

    with pytest.raises(ValueError, match="registered already"):
        register(Again)


def test_missing_labels_and_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="training labels"):
        get_scorer("mahalanobis").fit(Features(TRAIN.logits, TRAIN.z))
    with pytest.raises(ValueError, match="one length"):
        Features(TRAIN.logits, TRAIN.z[:5])
    with pytest.raises(ValueError, match="not finite"):
        get_scorer("knn").fit(Features(TRAIN.logits, np.full_like(TRAIN.z, np.nan)))


@pytest.mark.parametrize("scale", [0.2, 1.0, 7.0])
def test_temperature_against_a_fine_grid(scale):
    logits = TRAIN.logits * scale
    temperature = best_temperature(logits, TRAIN.labels)
    grid = temperature * np.linspace(0.98, 1.02, 401)  # steps of 1e-4 of T
    values = [nll(logits / t, TRAIN.labels) for t in grid]
    assert abs(grid[int(np.argmin(values))] - temperature) <= 1.01e-4 * temperature
    assert temperature == pytest.approx(best_temperature(TRAIN.logits, TRAIN.labels) * scale, rel=1e-6)


def test_temperature_is_at_least_as_good_as_pytorch_oods():
    """Its LBFGS stops early (50 steps of 0.01), so the likelihoods are compared, not the temperatures."""
    logits = torch.tensor(TRAIN.logits, dtype=torch.float64)
    theirs = detector.TemperatureScaling(None).fit_logits(logits, torch.tensor(TRAIN.labels)).t.item()
    ours = best_temperature(TRAIN.logits, TRAIN.labels)
    assert nll(TRAIN.logits / ours, TRAIN.labels) < nll(TRAIN.logits / theirs, TRAIN.labels)
    assert nll(TRAIN.logits / theirs, TRAIN.labels) < nll(TRAIN.logits, TRAIN.labels)


def test_temperature_where_nothing_can_be_said():
    separable = np.eye(4)[TRAIN.labels] * 5
    assert best_temperature(separable, TRAIN.labels) == 1.0
    assert best_temperature(separable, TRAIN.labels, bounds=(2.0, 5.0)) == 2.0
    assert best_temperature(-separable, TRAIN.labels) == 100.0
    with pytest.raises(ValueError, match="finite"):
        best_temperature(np.full((2, 2), np.inf), [0, 1])


def test_settled_parameters_are_complete_and_ready_for_json():
    settled = settle_parameters(TRAIN, default_scorers(["reconstruction_error"]), own=["reconstruction_error"])
    assert json.loads(json.dumps(settled)) == settled
    assert list(settled) == default_scorers(["reconstruction_error"])
    assert settled["msp"] == settled["entropy"] == {"temperature": best_temperature(TRAIN.logits, TRAIN.labels)}
    assert settled["energy"] == {"temperature": 1.0} and settled["knn"] == {"k": 10}
    assert settled["max_logit"] == settled["reconstruction_error"] == {}


def test_ranges_are_searched_by_the_objective():
    asked = []

    def objective(name, parameters):
        asked.append((name, parameters))
        return -abs(np.log(parameters.get("temperature", 1.0) / 4)) if name == "energy" else -parameters["k"]

    settled = settle_parameters(TRAIN, ["energy", "knn", "max_logit"], objective=objective, ranges={
        "energy": {"temperature": {"low": 0.25, "high": 16.0, "log": True, "points": 7}}, "knn": {"k": [3, 20]}})
    assert settled["energy"]["temperature"] == pytest.approx(4.0)
    assert settled["knn"] == {"k": 3} and isinstance(settled["knn"]["k"], int)
    assert asked[0] == ("energy", {"temperature": 1.0})  # the default first
    assert {name for name, _ in asked} == {"energy", "knn"}


def test_ties_and_nan_keep_the_default():
    for worth in (0.5, float("nan"), None):
        settled = settle_parameters(TRAIN, ["knn"], ranges={"knn": {"k": {"low": 1, "high": 20}}},
                                    objective=lambda name, parameters, worth=worth: worth)
        assert settled == {"knn": {"k": 10}}


def test_a_range_bounds_the_temperature():
    exact = best_temperature(TRAIN.logits, TRAIN.labels)
    settled = settle_parameters(TRAIN, ["msp"], ranges={"msp": {"temperature": {"low": exact * 2, "high": exact * 3}}})
    assert settled["msp"]["temperature"] == pytest.approx(exact * 2)


@pytest.mark.parametrize("ranges, message", [
    ({"knn": {"kk": [1]}}, "no such parameter"), ({"kn": {"k": [1]}}, "did you mean 'knn'"),
    ({"knn": {"k": {"low": 5, "high": 1}}}, "low <= high"), ({"knn": {"k": {"low": 0, "high": 1}}}, "low"),
    ({"knn": {"k": {"low": 1}}}, "low"), ({"knn": {"k": {"low": 1, "high": 2, "lgo": True}}}, "low"),
    ({"knn": {"k": []}}, "one or more"), ({"knn": {"k": [5]}}, "objective"), ({"knn": {"k": ["a"]}}, "number"),
    ({"knn": {"k": [0]}}, "positive"), ({"knn": {"k": {"low": 1, "high": float("nan")}}}, "low")])
def test_bad_ranges_are_refused(ranges, message):
    with pytest.raises(ValueError, match=message):
        settle_parameters(TRAIN, ["knn"], ranges=ranges)


def test_temperature_needs_labels():
    with pytest.raises(ValueError, match="labels"):
        settle_parameters(Features(TRAIN.logits, TRAIN.z), ["msp"])


@pytest.mark.parametrize(("total", "count"), [(1, 1), (14, 14), (40, 3), (256, 4), (1000, 14), (1023, 5), (5000, 14)])
def test_the_largest_are_found_by_blocks_as_by_sorting(total, count):
    values = np.random.default_rng(total).normal(size=(7, total)).astype(np.float32)
    values[3] = np.sort(values[3])  # all of them in neighbouring columns
    found = np.sort(scorer_latents._largest(values, count), axis=1)
    assert (found == np.sort(np.argsort(values, axis=1)[:, total - count:], axis=1)).all()
