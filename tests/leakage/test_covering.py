"""The covering array holds what it should, and the transforms touch what they should."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from conftest import digits_npz
from covering import covering_array, pairs_of, possible_pairs, possible_study, study_factors, study_rows
from transforms import NOMINAL, TRANSFORMS, all_but_deleted, anomalous, changed_nominal_image, few, unchanged

from study.errors import UserError
from study.search import prunable_methods
from study.spec import StudySpec


def held(rows):
    return set().union(*map(pairs_of, rows))


@pytest.mark.parametrize("sizes", [(2, 2), (3, 1, 4), (5, 4, 3, 2), (3,) * 7, (11, 9, 6, 4, 3)])
def test_every_pair_is_held_by_few_rows(sizes):
    factors = {f"f{index}": range(size) for index, size in enumerate(sizes)}
    rows = covering_array(factors)
    assert held(rows) == possible_pairs(factors, lambda row: True) and all(list(row) == list(factors) for row in rows)
    least = np.prod(sorted(sizes)[-2:])  # each pair of the two largest needs a row of its own
    assert least <= len(rows) <= 1.7 * least and rows == covering_array(factors)


def test_what_is_not_allowed_is_in_no_row_and_all_else_is():
    factors = {"a": "xyz", "b": "123", "c": "pq"}
    allowed = lambda row: not (row.get("a") == "x" and row.get("b") in ("2", "3"))  # noqa: E731
    rows = covering_array(factors, allowed)
    assert all(map(allowed, rows)) and held(rows) == possible_pairs(factors, allowed)
    assert len(possible_pairs(factors, allowed)) == 9 + 6 + 6 - 2


def test_rows_grow_from_an_array_of_fewer_factors():
    factors = {"a": "xyz", "b": "123", "c": "pqr"}
    shorter = covering_array({"a": "xyz", "b": "123"})
    rows = covering_array(factors, among=shorter)
    assert held(rows) == possible_pairs(factors, lambda row: True)
    assert all({"a": row["a"], "b": row["b"]} in shorter for row in rows)
    with pytest.raises(ValueError, match="no row can hold"):
        covering_array(factors, among=shorter[:-1])


def test_the_studies_hold_every_pair():
    factors, rows = study_factors(), study_rows()
    assert {name: len(values) for name, values in factors.items()} == {
        "sampler": 4, "pruner": 3, "signal": 11, "transform": 6, "method": 9}
    assert held(rows) == possible_pairs(factors, possible_study) and all(map(possible_study, rows))
    for name, values in factors.items():
        assert {row[name] for row in rows} == set(values)
    assert len(rows) < 120 and len({(row["sampler"], row["pruner"], row["signal"]) for row in rows}) < 50


def test_what_is_left_out_is_what_a_spec_refuses_or_a_search_ignores():
    factors = study_factors()
    for pruner, signal in product(factors["pruner"], factors["signal"]):
        table = {"name": "x", "methods": factors["method"], "search": {"pruner": pruner}, "selection": {"signal": signal}}
        if possible_study({"pruner": pruner, "signal": signal}):
            pruned = prunable_methods(StudySpec.parse(table))
            assert pruner == "none" or pruned == {
                method for method in factors["method"] if possible_study({"pruner": pruner, "method": method})}
        else:
            with pytest.raises(UserError, match="search.pruner"):
                StudySpec.parse(table)


# -- transforms ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    archive = np.load(digits_npz(tmp_path_factory.mktemp("digits") / "digits.npz"))
    return archive["images"], archive["labels"], archive["class_names"]


def nominal_part(images, labels, names):
    """Images and class names, in order; and the classes, in theirs."""
    mask = ~anomalous(labels, names)
    return images[mask].tobytes(), names[labels[mask]].tolist(), [name for name in names if name in NOMINAL]


def anomalous_part(images, labels, names):
    mask = anomalous(labels, names)
    return images[mask].tobytes(), names[labels[mask]].tolist()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("change", [*TRANSFORMS.values(), all_but_deleted], ids=lambda change: change.__name__)
def test_a_transform_changes_anomalies_and_no_nominal_image(digits, change, seed):
    before = [array.copy() for array in digits]
    after = change(*digits, seed=seed)
    assert all((one == other).all() for one, other in zip(digits, before, strict=True))  # it has changed copies
    assert nominal_part(*after) == nominal_part(*digits) and anomalous_part(*after) != anomalous_part(*digits)
    assert after[0].dtype == np.uint8 and len(after[0]) == len(after[1]) and after[1].max() < len(after[2])
    assert all((one == other).all() for one, other in zip(after, change(*digits, seed=seed), strict=True))


@pytest.mark.parametrize("name", [name for name in TRANSFORMS if name != "deleted"])
def test_seeds_draw_other_changes(digits, name):
    found = {str(anomalous_part(*TRANSFORMS[name](*digits, seed=seed))) for seed in range(5)}
    assert len(found) >= 3


def test_how_many_anomalies_there_are(digits):
    count = {name: anomalous(*change(*digits)[1:]).sum() for name, change in TRANSFORMS.items()}
    whole = anomalous(*digits[1:]).sum()
    assert count.pop("deleted") == 0 and count.pop("multiplied by ten") == 10 * whole and set(count.values()) == {whole}


def test_the_control_changes_nominal_images_and_nothing_else(digits):
    after = changed_nominal_image(*digits)
    assert nominal_part(*after) != nominal_part(*digits) and anomalous_part(*after) == anomalous_part(*digits)


def test_few_leaves_out_nominal_images_alone(digits):
    images, labels, names = few(*digits)
    assert anomalous_part(images, labels, names) == anomalous_part(*digits)
    assert (np.bincount(labels)[np.isin(names, NOMINAL)] == 60).all() and unchanged(*digits)[0] is digits[0]
