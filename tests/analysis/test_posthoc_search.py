"""Searches of scorers' own parameters: objectives against naive loops, and nothing but nominal features used."""

import dataclasses
import itertools

import fake_evidence
import numpy as np
import optuna
import pytest

from analysis.metrics import auroc, nll
from analysis.posthoc import best_temperature
from analysis.posthoc_search import DROPOUT, IMAGES, MIXUP, NLL, Contrast, Nominal, Rescore, drawn, objective_of, search
from analysis.posthoc_spaces import LIBRARY, library_space, space_of, words
from analysis.scorers import Features, fit_scorers, get_scorer, scorer_class, scorer_names

E = fake_evidence.trial_evidence(images=40, distance=2.0)
NOMINAL = Nominal(E.train, E.validation)
WITH_PARAMETERS = [name for name in scorer_names() if scorer_class(name).info.parameters]


def outcome(found):
    return dataclasses.replace(found, seconds=0.0)


def test_mixtures_are_of_two_classes_and_their_logits_are_those_of_the_head():
    contrast, = NOMINAL.contrasts(MIXUP, 0)
    weight, bias = E.train.head
    assert np.allclose(contrast.images.z @ weight.T + bias, contrast.images.logits, atol=1e-4)
    count = len(E.validation)
    assert contrast.is_anomaly.sum() == count and not contrast.is_anomaly[:count].any()
    assert np.array_equal(contrast.images.z[:count], E.validation.z)
    labels = np.asarray(E.validation.labels)
    corners = Features(np.eye(3, dtype=np.float32)[labels], np.eye(3, dtype=np.float32)[labels], labels)
    mixed = Nominal(E.train, corners).contrasts(MIXUP, 0)[0].images.z[count:]
    assert np.allclose(mixed.sum(axis=1), 1, atol=1e-6) and ((mixed > 0).sum(axis=1) == 2).all()
    assert np.sort(mixed)[:, -1].max() <= 0.7 + 1e-6 and np.sort(mixed)[:, 1].min() >= 0.3 - 1e-6


@pytest.mark.parametrize("name", ["msp", "knn", "gmm", "react", "vim", "nnguide"])
def test_dropout_is_the_naive_loop_at_every_setting(name):
    value_of = objective_of(name, NOMINAL, DROPOUT)
    space = space_of(name, E.train)
    (parameter, limits), = space.items()
    settings = limits["options"][:3] if "options" in limits else [limits["low"], 1e-3, limits["high"]]
    for setting in [*settings, settings[0]]:  # back to the first: no fit may be left over
        naive = []
        for c in range(3):
            kept = E.train.labels != c
            head = tuple(np.delete(part, c, axis=0) for part in E.train.head)
            train = Features(np.delete(E.train.logits, c, 1)[kept], E.train.z[kept],
                             (E.train.labels - (E.train.labels > c))[kept], head=head)
            images = Features(np.delete(E.validation.logits, c, 1), E.validation.z)
            score = get_scorer(name).fit(train, {parameter: setting}).score(images)
            naive.append(auroc(score, E.validation.labels == c))
        assert value_of({parameter: setting}) == pytest.approx(np.mean(naive), abs=1e-9)


def test_openmax_shares_a_fit_among_settings_that_its_fit_does_not_read():
    contrast, = NOMINAL.contrasts(MIXUP, 0)
    rescore = Rescore("openmax", contrast)
    for revised in (1, 3):
        parameters = {"tail_size": 10, "revised_classes": revised}
        fresh = get_scorer("openmax").fit(contrast.train, parameters).score(contrast.images)
        assert np.array_equal(rescore(parameters), fresh)
    assert len(rescore._kept) == 1


def test_temperature_by_nll_is_that_of_the_root_finder():
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 300)
    logits = 5 * (np.eye(4)[labels] + random.normal(0, 0.6, (300, 4)))
    nominal = Nominal(Features(logits, logits, labels), Features(logits, logits, labels))
    exact = best_temperature(logits, labels)
    found = search("energy", nominal, NLL)
    assert found.value == pytest.approx(-nll(logits / exact, labels), abs=1e-3) and found.value > found.default_value
    assert found.parameters["temperature"] == pytest.approx(exact, rel=0.1)
    perfect = Features(20 * np.eye(4)[labels], logits, labels)  # NLL falls for ever: it says nothing
    silent = search("msp", Nominal(perfect, perfect), NLL)
    assert silent.value is None and silent.parameters == {"temperature": 1.0} and silent.settings == 1


@pytest.mark.parametrize(("name", "count"), [("gen", 14), ("dice", 5)])
def test_small_grids_are_tried_in_full(name, count):
    found = search(name, NOMINAL, MIXUP)
    space = space_of(name, E.train)
    options = (one["options"] for one in space.values())
    combinations = [dict(zip(space, values)) for values in itertools.product(*options)]
    value_of = objective_of(name, NOMINAL, MIXUP)
    values = [value_of(one) for one in combinations]
    assert found.settings == len(combinations) == count and len(set(values)) > 2
    assert found.value == max(values) == value_of(found.parameters) and found.default_value == value_of(found.default)


@pytest.mark.parametrize("name", ["gmm", "gen"])  # a continuous space, and a grid larger than the budget
def test_a_budget_is_kept_and_the_same_seed_finds_the_same(name):
    before = optuna.logging.get_verbosity()
    found = search(name, NOMINAL, DROPOUT, settings=9, seed=3)
    assert 2 <= found.settings <= 9 and found.value >= found.default_value
    assert outcome(found) == outcome(search(name, Nominal(E.train, E.validation), DROPOUT, settings=9, seed=3))
    assert optuna.logging.get_verbosity() == before
    assert search(name, NOMINAL, DROPOUT, settings=1).settings == 1


def test_ties_keep_the_default():
    found = search("msp", NOMINAL, DROPOUT, settings=20)  # of two logits left, a temperature changes no order
    assert found.parameters == found.default == {"temperature": 1.0} and found.value == found.default_value


def test_a_search_needs_nothing_but_nominal_features():
    blind = dataclasses.replace(E, test=None, outliers=None, test_labels=None, test_anomaly_class=None,
                                outlier_class=None, stored={}, anomaly_classes=())
    for objective in (MIXUP, DROPOUT, NLL):
        assert outcome(search("msp", blind, objective, settings=8)) == outcome(search("msp", E, objective, settings=8))


def test_parameters_that_count_images_shrink_with_them():
    half = E.train.select(np.arange(0, len(E.train), 2))
    contrast = Contrast(half, E.validation, np.zeros(len(E.validation), bool), share=0.5)
    assert np.allclose(Rescore("knn", contrast)({"k": 10}), fit_scorers(["knn"], half, parameters={"knn": {"k": 5}})[
        "knn"].score(E.validation), atol=1e-6)
    many = Features(np.zeros((3000, 2)), np.arange(6000.0).reshape(3000, 2), np.zeros(3000, int))
    some = drawn(many, np.random.default_rng(0))
    assert len(some) == IMAGES and (np.diff(some.z[:, 0]) > 0).all()


def test_the_library_s_spaces_are_read_as_it_names_them():
    for name, (_, parameters) in LIBRARY.items():
        assert set(library_space(name)) == set(parameters) == set(scorer_class(name).info.parameters)
    assert library_space("knn") == {"k": [50, 100, 200, 500, 1000]} and library_space("msp") == {}
    assert "gamma 0.01 … 10 (7 values)" in words(space_of("gen", E.train))


@pytest.mark.parametrize("name", WITH_PARAMETERS)
def test_every_scorer_has_a_legal_space_around_its_default(name):
    space, info = space_of(name, E.train), scorer_class(name).info
    assert set(space) == set(info.parameters)
    for parameter, limits in space.items():
        values = limits.get("options") or [limits["low"], limits["high"]]
        default = info.parameters[parameter]
        assert len(values) > 1 and values == sorted(set(values)) and values[0] <= default <= values[-1]
        for value in values:
            assert type(value) is type(default)
            scorer_class(name).restore({}, {parameter: value})
    assert space_of("knn", E.train)["k"]["options"] == [1, 2, 5, 10, 20, 50, 100]  # 80 images a class
    assert space_of("gen", E.train)["largest"]["options"] == [2, 100]  # 3 classes: 3, 5, 10 … are as 100


def test_what_cannot_be_searched():
    with pytest.raises(ValueError, match="no parameters"):
        search("max_logit", E, MIXUP)
    with pytest.raises(ValueError, match="unknown objective"):
        search("knn", E, "test_auroc")
    with pytest.raises(ValueError, match="no temperature"):
        search("knn", E, NLL)
    two = Nominal(*(Features(part.logits[:, :2], part.z, np.minimum(part.labels, 1))
                    for part in (E.train, E.validation)))
    assert search("knn", two, DROPOUT).value is None  # one class would be left
    broken = dataclasses.replace(E.validation, z=np.full_like(E.validation.z, np.nan))
    assert search("knn", Nominal(E.train, broken), MIXUP).value is None
    alone = Features(E.validation.logits, E.validation.z, np.zeros(len(E.validation), int))
    assert search("knn", Nominal(E.train, alone), MIXUP).value is None  # nothing to mix with
