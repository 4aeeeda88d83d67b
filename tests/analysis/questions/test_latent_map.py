"""The map of latents: a plane that no anomaly shapes, distances in all directions."""

import dataclasses

import fake_evidence
import numpy as np
import oracle_cases
import pytest
from sklearn.decomposition import PCA

from analysis.metrics import auroc
from analysis.questions.latent_map import POINTS, QUESTION
from analysis.scorers import Features

E = fake_evidence.trial_evidence(selected=True, distance=4.0)


def test_plane_is_that_of_scikit_learn_on_nominal_validation_images():
    found = QUESTION.measure(E)
    pca = PCA(2).fit(E.validation.z.astype(float))
    assert found["variance"] == pytest.approx(pca.explained_variance_ratio_.tolist())
    flat = pca.transform(E.test.z.astype(float)) / np.sqrt(pca.explained_variance_[0] * (1 - 1 / len(E.validation)))
    points = np.array(found["points"]["nominal"]["bee"])
    expected = flat[np.flatnonzero(E.test_labels == 1)][[0, -1]]
    signs = np.sign(expected[0] * points[0])
    assert np.allclose(points[[0, -1]], expected * signs, atol=1e-3)
    moved = dataclasses.replace(E, outliers=E.train, test=Features(
        E.test.logits, np.where(E.is_anomaly[:, None], 9.0, E.test.z).astype(np.float32)))
    assert QUESTION.measure(moved)["points"]["nominal"] == found["points"]["nominal"]


def test_nearest_class_and_distances_are_those_of_a_naive_loop():
    found = QUESTION.measure(E)
    means = [E.validation.z[E.validation.labels == c].astype(float).mean(axis=0) for c in range(3)]
    away = np.array([[np.linalg.norm(z - mean) for mean in means] for z in E.test.z.astype(float)])
    assert found["distance"][0] == pytest.approx(auroc(away.min(axis=1), E.is_anomaly), abs=1e-12)
    unit = away[~E.is_anomaly].min(axis=1).mean()
    for index, name in enumerate(E.anomaly_classes):
        of_class = E.test_anomaly_class == index
        to_mean = [np.linalg.norm(E.test.z[of_class].astype(float).mean(axis=0) - mean) for mean in means]
        nearest = int(np.argmin(to_mean))
        one = found["classes"][name]
        assert (one["nearest"], one["images"]) == (E.nominal_classes[nearest], 60)
        assert one["distance"] == pytest.approx(min(to_mean) / unit)
        assert one["share"] == pytest.approx(np.mean(away[of_class].argmin(axis=1) == nearest))


def test_points_are_thinned_alike_and_always_the_same():
    found = QUESTION.measure(E)
    counts = {name: len(p) for kind in found["points"].values() for name, p in kind.items()}
    assert 0.95 * POINTS < sum(counts.values()) <= POINTS < len(E.test)
    assert {counts[name] for name in E.nominal_classes} == {80} and {counts[name] for name in E.anomaly_classes} == {40}
    assert found == QUESTION.measure(E) and found["images"] == [360, 240]
    few = QUESTION.measure(fake_evidence.trial_evidence(images=8))
    assert sum(len(p) for kind in few["points"].values() for p in kind.values()) == 40  # all of them


def test_far_anomalies_and_several_methods():
    trials = [fake_evidence.trial_evidence(method=m, split=s, selected=True, distance=8.0, images=20)
              for m in ("classifier", "hybrid") for s in (0, 1, 2)]
    result, card = oracle_cases.answered(QUESTION, trials)
    assert card.headline.startswith("Anomalies lie farther") and "mean over 2 methods" in card.headline
    assert result["distance"]["basis"] == "splits"
    assert set(result["methods"]["hybrid"]["classes"]["dog"]["nearest"]) == set("012")
    assert [panel["label"] for panel in card.figures[0].data["panels"]] == ["classifier · split 0", "hybrid · split 0"]
    assert len(card.tables[1].cells) == 8


def test_anomalies_among_or_inside_the_classes_are_no_farther():
    among = oracle_cases.placed({"a": (0.0, 0.0, 0.0)}, images=100)
    one = dataclasses.replace(among, validation=dataclasses.replace(among.validation, labels=np.arange(200) % 3))
    _, card = oracle_cases.answered(QUESTION, [one])
    assert card.headline.startswith("That anomalies lie farther") and "is not beyond noise" in card.headline
    z = one.test.z * np.where(one.is_anomaly, 0.01, 1.0)[:, None].astype(np.float32)
    _, card = oracle_cases.answered(QUESTION, [dataclasses.replace(one, test=Features(one.test.logits, z))])
    assert card.headline.startswith("Anomalies lie nearer")


def test_maps_of_many_methods_draw_fewer_points():
    trials = [dataclasses.replace(E, method=f"m{i}") for i in range(5)]
    _, card = oracle_cases.answered(QUESTION, trials)
    assert [len(panel["nominal"]["bee"]) for panel in card.figures[0].data["panels"]] == [40] * 5


@pytest.mark.parametrize("z", [np.full((360, 6), np.nan), np.ones((360, 6)), np.ones((360, 1))])
def test_latents_without_a_plane(z):
    broken = dataclasses.replace(E.validation, z=z)
    assert QUESTION.measure(dataclasses.replace(E, validation=broken)) is None


def test_nothing_measured():
    oracle_cases.check_nothing_measured(QUESTION)
    assert QUESTION.measure(dataclasses.replace(E, test_labels=np.zeros(len(E.test), int))) is None
