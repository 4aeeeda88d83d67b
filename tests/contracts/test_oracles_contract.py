"""Every registered oracle keeps the same contract."""

import numpy as np
import pytest

from analysis.metrics import auroc
from analysis.oracles import get_oracle, oracle_names


@pytest.fixture(params=oracle_names())
def make(request):
    """A new oracle; a slow forest is cut to few trees."""
    def new(seed=0):
        oracle = get_oracle(request.param, seed=seed)
        if hasattr(oracle, "trees"):
            oracle.trees = 40
        return oracle
    return new


def latents(seed, size=200, dtype=np.float32):
    generator = np.random.default_rng(seed)
    mask = np.arange(size) % 4 == 0
    return (generator.normal(size=(size, 6)) + 1.5 * mask[:, None]).astype(dtype), mask


def test_the_record_is_whole(make):
    info = make().info
    assert info.name in oracle_names() and info.title and info.paper and info.needs == {"z", "is_anomaly"}
    assert 1950 < info.year < 2100 and info.url.startswith("https://")


def test_anomalies_score_higher_on_unseen_images(make):
    oracle = make()
    assert oracle.fit(*latents(0)) is oracle
    test, mask = latents(1)
    score = oracle.anomaly_score(test)
    assert score.shape == (200,) and score.dtype == np.float64
    assert (score >= 0).all() and (score <= 1).all()
    assert auroc(score, mask) > 0.9
    assert oracle.backend_


def test_it_repeats_and_takes_integer_masks(make):
    z, mask = latents(0)
    test, _ = latents(1)
    np.testing.assert_array_equal(make().fit(z, mask).anomaly_score(test),
                                  make().fit(z, mask.astype(int)).anomaly_score(test))


def test_read_only_and_constant_input(make):
    z, mask = latents(0)
    z[:, 2] = 0.1
    z.flags.writeable = mask.flags.writeable = False
    assert np.isfinite(make().fit(z, mask).anomaly_score(z)).all()


def test_flipped_labels_flip_the_score(make):
    z, mask = latents(0)
    test, truth = latents(1)
    assert auroc(make().fit(z, ~mask).anomaly_score(test), truth) < 0.1


@pytest.mark.parametrize("z, mask, message", [
    (np.zeros((4, 2)), np.zeros(4), "both"), (np.zeros((4, 2)), np.ones(4), "both"),
    (np.zeros(4), np.arange(4) % 2, "latents"), (np.zeros((4, 2)), np.arange(3) % 2, "mask"),
    (np.full((4, 2), np.nan), np.arange(4) % 2, "finite")])
def test_bad_input_is_refused(make, z, mask, message):
    with pytest.raises(ValueError, match=message):
        make().fit(z, mask)


def test_latents_of_another_width_are_refused(make):
    oracle = make().fit(*latents(0))
    with pytest.raises(ValueError, match="6"):
        oracle.anomaly_score(np.zeros((3, 5)))
