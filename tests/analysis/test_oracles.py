"""What the oracles find, and what they are."""

import numpy as np
import pytest

from analysis.metrics import auroc
from analysis.oracle_neighbours import NEIGHBOURS, shares
from analysis.oracles import (
    FOREST_TREES,
    Oracle,
    OracleInfo,
    forest_oracle,
    get_oracle,
    linear_oracle,
    oracle_names,
    register,
)


def ring(seed, size=300):
    """Anomalies in a disc inside a ring of nominal images: there for a forest, not for a line."""
    generator = np.random.default_rng(seed)
    mask = np.arange(size) % 2 == 0
    angle, radius = generator.uniform(0, 2 * np.pi, size), np.where(mask, 0.5, 2.0) + 0.2 * generator.normal(size=size)
    z = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return z.astype(np.float32), mask


def test_the_forest_finds_what_a_line_cannot():
    z, mask = ring(0)
    test, truth = ring(1)
    assert auroc(forest_oracle(trees=50).fit(z, mask).anomaly_score(test), truth) > 0.97
    assert auroc(linear_oracle().fit(z, mask).anomaly_score(test), truth) < 0.65


def test_the_linear_oracle_finds_a_line_at_any_scale():
    generator = np.random.default_rng(0)
    mask = np.arange(400) % 4 == 0
    z = generator.normal(size=(400, 5))
    z[mask, 2] += 3
    scaled = z * [1e-4, 1.0, 1e5, 1.0, 0.0] + 7
    score = linear_oracle().fit(scaled[:200], mask[:200]).anomaly_score(scaled[200:])
    assert auroc(score, mask[200:]) > 0.95


def test_the_study_has_a_thousand_trees():
    z, mask = ring(0, size=40)
    assert FOREST_TREES == 1000
    oracle = get_oracle("forest").fit(z, mask)
    assert oracle.model_.n_estimators == 1000
    score = oracle.anomaly_score(ring(1, size=40)[0])
    np.testing.assert_allclose(score * 1000 % 1, np.round(score * 1000 % 1), atol=1e-6)  # leaves of one class: votes


def test_the_forest_depends_on_its_seed_alone():
    z, mask = ring(0)
    test, _ = ring(1)
    one, again, other = (forest_oracle(seed=seed, trees=20).fit(z, mask).anomaly_score(test) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    two_jobs = forest_oracle(seed=1, trees=20, n_jobs=2).fit(z, mask).anomaly_score(test)
    np.testing.assert_allclose(two_jobs, one, atol=1e-12)


def test_seeds_of_63_bits_are_taken():
    z, mask = ring(0, size=40)
    assert forest_oracle(seed=2**63 - 5, trees=5).fit(z, mask).anomaly_score(z).shape == (40,)


def test_the_library_used_is_recorded():
    z, mask = ring(0, size=40)
    assert forest_oracle(trees=5).fit(z, mask).backend_ in ("scikit-learn", "scikit-learn-intelex")


def test_duplicates_are_refused():
    class Again(Oracle):
        info = OracleInfo("forest", "", "", 0, "", frozenset())

    with pytest.raises(ValueError, match="registered already"):
        register(Again)
    with pytest.raises(ValueError, match="did you mean 'forest'"):
        get_oracle("forrest")


def test_forest_and_linear_come_first():
    assert oracle_names()[:2] == ["forest", "linear"] and {"knn", "boosted"} <= set(oracle_names())


@pytest.mark.parametrize("name", ["knn", "boosted"])
def test_the_other_kinds_find_what_a_line_cannot(name):
    z, mask = ring(0)
    test, truth = ring(1)
    assert auroc(get_oracle(name).fit(z, mask).anomaly_score(test), truth) > 0.97


def test_neighbours_are_those_of_scikit_learn():
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import StandardScaler

    z, mask = ring(0)
    z = z * np.float32([1, 1000])  # without standardising, the second alone would count
    test = ring(1)[0] * np.float32([1, 1000])
    oracle = get_oracle("knn").fit(z, mask)
    scaler = StandardScaler().fit(z)
    reference = KNeighborsClassifier(oracle.model_.k, weights="distance").fit(scaler.transform(z), mask)
    expected = reference.predict_proba(scaler.transform(test))[:, 1]
    np.testing.assert_allclose(oracle.anomaly_score(test), expected, atol=1e-4)


def test_k_is_that_of_the_best_leave_one_out_auroc():
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import StandardScaler

    generator = np.random.default_rng(0)
    mask = np.arange(60) % 3 == 0
    z = generator.normal(size=(60, 4)) + 0.8 * mask[:, None]
    scaled = StandardScaler().fit_transform(z)
    found = {}
    for k in [k for k in NEIGHBOURS if k < 60]:
        scores = [KNeighborsClassifier(k, weights="distance").fit(np.delete(scaled, i, 0), np.delete(mask, i))
                  .predict_proba(scaled[i : i + 1])[0, 1] for i in range(60)]
        found[k] = auroc(np.array(scores), mask)
    model = get_oracle("knn").fit(z, mask).model_
    assert model.aurocs == pytest.approx(found, abs=1e-6) and len(found) == 7  # 1 to 50: 100 neighbours there are not
    assert model.k == max(found, key=found.get)


def test_shares_of_neighbours_by_hand():
    found = shares(np.array([[1.0, 2.0, 4.0]]), np.array([[True, False, True]]))
    np.testing.assert_allclose(found, [[1, 1 / 1.5, 1.25 / 1.75]])
    twin = shares(np.array([[0.0, 1.0]]), np.array([[True, False]]))
    np.testing.assert_allclose(twin, [[1, 1]], atol=1e-8)


@pytest.mark.parametrize("name", ["knn", "boosted"])
def test_few_images_will_do(name):
    z = np.array([[0.0], [0.1], [0.2], [5.0]])
    score = get_oracle(name).fit(z, [0, 0, 0, 1]).anomaly_score(z)
    assert np.isfinite(score).all() and score.argmax() == 3
    assert get_oracle(name).fit(z[2:], [0, 1]).anomaly_score(z).shape == (4,)


def test_balance_gives_a_lone_anomaly_weight():
    generator = np.random.default_rng(0)
    z, mask = generator.normal(size=(101, 3)), np.arange(101) == 0
    z[0] = 3
    for make in (linear_oracle, lambda **more: forest_oracle(trees=30, **more)):
        plain, balanced = (make(balanced=flag).fit(z, mask).anomaly_score(z) for flag in (False, True))
        assert not np.array_equal(plain, balanced)
    assert linear_oracle(balanced=True).fit(z, mask).anomaly_score(z[:1])[0] > 0.9
    np.testing.assert_array_equal(linear_oracle().fit(z, mask).anomaly_score(z),
                                  get_oracle("linear").fit(z, mask).anomaly_score(z))
