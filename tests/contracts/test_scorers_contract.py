"""Every registered scorer, and a method's own, keeps the same contract: a new entry is tested once it exists."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from analysis.scorer_base import FAMILIES
from analysis.scorers import Features, get_scorer, needs_head, scorer_class, scorer_names

OWN = ("reconstruction_error",)
NAMES = scorer_names(OWN)
PARTS = ("z", "logits", "labels")


def head(classes, width):
    """A head that tells the classes of ``features`` apart."""
    return np.eye(classes, width, dtype=np.float32), np.linspace(-0.1, 0.1, classes, dtype=np.float32)


def features(seed, size=120, classes=3, width=8, dtype=np.float32):
    generator = np.random.default_rng(seed)
    labels = np.arange(size) % classes
    z = generator.normal(size=(size, width))
    z[np.arange(size), labels] += 3
    return Features((z[:, :classes] + generator.normal(size=(size, classes))).astype(dtype), z.astype(dtype), labels,
                    {"reconstruction_error": generator.random(size)}, head(classes, width))


TRAIN, TEST = features(0), features(1, size=60)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def fitted(name, train=TRAIN, parameters=None):
    return get_scorer(name, OWN).fit(train, parameters)


def other(parameters):
    """Legal values that are not the defaults: integers twice as large, shares half."""
    return {key: 2 * value if isinstance(value, int) else value / 2 for key, value in parameters.items()}


def test_the_record_is_whole(name):
    info = scorer_class(name, OWN).info
    assert info.name == name and info.title and info.paper and info.family in FAMILIES and info.needs
    allowed = {*PARTS, "head", *(f"train_{part}" for part in PARTS), *(f"own:{own}" for own in OWN)}
    assert info.needs <= allowed and set(info.at_most) <= set(info.parameters)
    assert name in OWN or (1950 < info.year < 2100 and info.url.startswith("https://"))


def test_scores_are_finite_float64_vectors_and_repeat(name):
    scores = fitted(name).score(TEST)
    assert scores.shape == (len(TEST),) and scores.dtype == np.float64 and np.isfinite(scores).all()
    assert len(np.unique(scores)) > len(TEST) // 2
    np.testing.assert_array_equal(scores, fitted(name).score(TEST))


def test_fit_returns_itself_and_leaves_its_input_alone(name):
    train = features(0)
    for values in (train.logits, train.z, train.labels):
        values.flags.writeable = False
    for values in train.head:
        values.flags.writeable = False
    scorer = get_scorer(name, OWN)
    assert scorer.fit(train) is scorer
    test = features(1)
    before = [test.z.copy(), test.logits.copy(), test.own["reconstruction_error"].copy()]
    scorer.score(test)
    for old, new in zip(before, [test.z, test.logits, test.own["reconstruction_error"]], strict=True):
        np.testing.assert_array_equal(old, new)


def test_an_image_is_scored_alone(name):
    """The score of an image depends on no other: not on the batch, not on its place in it."""
    scorer = fitted(name)
    whole = scorer.score(TEST)
    order = np.random.default_rng(0).permutation(len(TEST))
    np.testing.assert_allclose(scorer.score(TEST.select(order)), whole[order], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(scorer.score(TEST.select([7])), whole[[7]], rtol=1e-6, atol=1e-7)


def test_test_labels_are_not_read(name):
    blind = Features(TEST.logits, TEST.z, None, TEST.own)
    np.testing.assert_array_equal(fitted(name).score(blind), fitted(name).score(TEST))


def test_what_is_not_needed_is_not_read(name):
    needs = scorer_class(name, OWN).info.needs
    scorer = fitted(name)
    expected = scorer.score(TEST)
    for part in ("z", "logits"):
        junk = np.full_like(getattr(TEST, part), 1e3)
        changed = Features(**{"z": TEST.z, "logits": TEST.logits, "own": TEST.own, part: junk})
        assert np.array_equal(scorer.score(changed), expected) == (part not in needs)


def test_state_restores_the_scorer_through_safetensors(name, tmp_path):
    from safetensors.numpy import load_file, save_file

    kind = scorer_class(name, OWN)
    parameters = other(kind.info.parameters)
    scorer = fitted(name, parameters=parameters)
    assert scorer.parameters_ == parameters
    state = scorer.state()
    assert all(isinstance(values, np.ndarray) for values in state.values())
    if state:
        save_file({key: np.ascontiguousarray(values) for key, values in state.items()}, tmp_path / "state.safetensors")
        state = load_file(tmp_path / "state.safetensors")
    again = kind.from_state(state)
    assert again.parameters_ == parameters
    np.testing.assert_array_equal(again.score(TEST), scorer.score(TEST))


def test_float32_and_float64_agree(name):
    train = Features(TRAIN.logits.astype(np.float64), TRAIN.z.astype(np.float64), TRAIN.labels, TRAIN.own,
                     tuple(part.astype(np.float64) for part in TRAIN.head))
    test = Features(TEST.logits.astype(np.float64), TEST.z.astype(np.float64), None, TEST.own)
    np.testing.assert_allclose(fitted(name).score(TEST), fitted(name, train).score(test), rtol=1e-5, atol=1e-6)


def constant(size):
    ones = np.full((size, 6), 0.1, dtype=np.float32)
    return Features(ones[:, :3], ones, np.arange(size) % 3, {"reconstruction_error": np.zeros(size)},
                    head(3, 6))


HARD = {
    "constant features": constant(30),
    "all zero": Features(np.zeros((9, 3)), np.zeros((9, 6)), np.arange(9) % 3, {"reconstruction_error": np.zeros(9)},
                         head(3, 6)),
    "one image a class": features(3, size=3),
    "a class of one image": features(4, size=31).select([0, *range(1, 31, 3), *range(2, 31, 3)]),
    "fewer images than features": features(5, size=12, width=40),
    "a class missing": features(6).select(np.arange(120) % 3 != 1),
    "two classes": features(7, classes=2),
    "huge values": Features(TRAIN.logits * 1e4, TRAIN.z * 1e6, TRAIN.labels, TRAIN.own, TRAIN.head),
    "a head of zeros": Features(np.zeros((120, 3)), TRAIN.z, TRAIN.labels, TRAIN.own, (np.zeros((3, 8)), np.zeros(3))),
}


@pytest.mark.parametrize("case", HARD)
def test_hard_cases_give_finite_scores(name, case):
    train = HARD[case]
    generator = np.random.default_rng(0)
    test = Features(train.logits + generator.normal(size=train.logits.shape),
                    train.z + generator.normal(size=train.z.shape), None, train.own)
    scorer = fitted(name, train)
    for given in (train, test):
        scores = scorer.score(given)
        assert scores.shape == (len(given),) and np.isfinite(scores).all()


def test_no_images_give_no_scores(name):
    assert fitted(name).score(TEST.select(slice(0, 0))).shape == (0,)


def test_unknown_parameters_and_bad_values_are_refused(name):
    with pytest.raises(ValueError, match="no parameter 'no_such'"):
        fitted(name, parameters={"no_such": 1})
    for parameter in scorer_class(name, OWN).info.parameters:
        for value in (0, -1.0, float("nan"), "1", None):
            with pytest.raises(ValueError, match=parameter):
                fitted(name, parameters={parameter: value})
    for parameter, largest in scorer_class(name, OWN).info.at_most.items():
        with pytest.raises(ValueError, match=f"{parameter} must be at most"):
            fitted(name, parameters={parameter: largest * 1.01})


def test_a_head_is_read_by_the_fit_of_those_that_need_it_and_by_no_other(name):
    headless = Features(TRAIN.logits, TRAIN.z, TRAIN.labels, TRAIN.own)
    expected = fitted(name).score(TEST)
    assert needs_head(name, OWN) == ("head" in scorer_class(name, OWN).info.needs)
    if needs_head(name, OWN):
        with pytest.raises(ValueError, match=f"scorer {name} needs the linear head"):
            fitted(name, headless)
        weight, bias = TRAIN.head
        mixed = Features(TRAIN.logits, TRAIN.z, TRAIN.labels, TRAIN.own, (weight + weight[::-1] / 2, bias + 1))
        assert not np.array_equal(fitted(name, mixed).score(TEST), expected)
    else:
        np.testing.assert_array_equal(fitted(name, headless).score(TEST), expected)
    np.testing.assert_array_equal(fitted(name).score(Features(TEST.logits, TEST.z, None, TEST.own)), expected)


def test_a_head_of_other_shapes_is_refused():
    weight, bias = TRAIN.head
    for wrong in ((weight.T, bias), (weight[:2], bias), (weight, bias[:2]), (weight, bias[:, None])):
        with pytest.raises(ValueError, match="a head of these logits and latents"):
            Features(TRAIN.logits, TRAIN.z, TRAIN.labels, TRAIN.own, wrong)
    assert TRAIN.select([0, 1]).head is TRAIN.head


def test_a_fitted_scorer_can_be_pickled_after_it_has_scored(name):
    if name in OWN:
        return  # made by a function, not exported
    scorer = fitted(name)
    expected = scorer.score(TEST)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(scorer)).score(TEST), expected)


def test_torchs_generator_is_left_alone(name):
    import torch

    before = torch.get_rng_state()
    fitted(name).score(TEST)
    assert torch.equal(torch.get_rng_state(), before)


def test_importing_analysis_does_no_work():
    """Heavy libraries load in the functions that need them, and nothing of the other packages ever does."""
    modules = ("metrics", "uncertainty", "scorers", "posthoc", "fusion", "oracles", "signals", "gaps")
    code = f"import sys, {', '.join(f'analysis.{module}' for module in modules)}; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"torch", "pytorch_ood", "sklearn", "scipy", "pandas", "matplotlib", "study", "trainables", "search_spaces",
             "ray"}
    assert "analysis.gaps" in loaded and not heavy & set(loaded)
