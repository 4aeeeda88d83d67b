"""Which class and which image goes where."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.errors import UserError
from study.sources import Source
from study.splits import (
    CIFAR10_NAMES,
    OSR_SPLITS,
    PARTS,
    Table,
    choose_classes,
    join_duplicates,
    permutation,
    split_class,
    table_of,
)


def make_source(counts: dict[str, int], *, tests: dict[str, int] | None = None) -> Source:
    """``counts`` images of each class; ``tests`` of them at the end of each class are official test images."""
    labels = np.repeat(np.arange(len(counts)), list(counts.values()))
    is_test = None
    if tests is not None:
        flags = [[False] * (n - tests[name]) + [True] * tests[name] for name, n in counts.items()]
        is_test = np.concatenate(flags).astype(bool)
    return Source("made", labels, tuple(counts), lambda rows: [], str, is_test=is_test)


LETTERS = make_source(dict.fromkeys("abcdefgh", 10))


def names(source, indices) -> list[str]:
    return [source.class_names[index] for index in indices]


def test_a_number_draws_by_split_seed_and_name():
    drawn = [tuple(names(LETTERS, choose_classes(LETTERS, {"nominal_classes": 4}, split).nominal)) for split in range(6)]
    assert all(len(set(four)) == 4 and list(four) == sorted(four) for four in drawn)
    assert len(set(drawn)) > 1
    backwards = make_source(dict.fromkeys("hgfedcba", 10))
    again = [set(names(backwards, choose_classes(backwards, {"nominal_classes": 4}, split).nominal)) for split in range(6)]
    assert again == [set(four) for four in drawn]  # the order of classes in the source plays no part


def test_rest_and_lists():
    chosen = choose_classes(LETTERS, {"nominal_classes": ["d", "a"]}, 0)
    assert names(LETTERS, chosen.nominal) == ["a", "d"] and names(LETTERS, chosen.anomaly) == list("bcefgh")
    chosen = choose_classes(LETTERS, {"nominal_classes": [0, "d"], "anomaly_classes": ["c", 1]}, 0)
    assert names(LETTERS, chosen.nominal) == ["a", "d"] and names(LETTERS, chosen.anomaly) == ["b", "c"]
    assert choose_classes(LETTERS, {"nominal_classes": [0, 1], "anomaly_classes": []}, 0).anomaly == ()


def test_classes_without_images_are_neither_drawn_nor_rest():
    source = make_source({"a": 5, "none": 0, "b": 5, "c": 5})
    chosen = choose_classes(source, {"nominal_classes": 2}, 0)
    assert 1 not in chosen.nominal + chosen.anomaly and len(chosen.anomaly) == 1


def test_integers_are_names_where_all_names_are_numbers():
    source = make_source({"3": 5, "5": 5, "8": 5})
    assert choose_classes(source, {"nominal_classes": [3, 8]}, 0).nominal == (0, 2)
    with pytest.raises(UserError, match="no class 0"):
        choose_classes(source, {"nominal_classes": [0, 3]}, 0)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"nominal_classes": ["a", "bb"]}, "no class 'bb'"),
        ({"nominal_classes": ["a", 8]}, "no class 8"),
        ({"nominal_classes": ["a", -1]}, "no class -1"),
        ({"nominal_classes": ["a", True]}, "neither a name nor an index"),
        ({"nominal_classes": ["a", "a", "b"]}, "named twice"),
        ({"nominal_classes": ["a", 0, "b"]}, "named twice"),
        ({"nominal_classes": ["a"]}, "at least 2"),
        ({"nominal_classes": []}, "at least 2"),
        ({"nominal_classes": 1}, "at least 2"),
        ({"nominal_classes": 9}, "has 8 classes"),
        ({"nominal_classes": "all"}, "not understood"),
        ({"nominal_classes": "osr"}, "CIFAR-10"),
        ({"nominal_classes": ["a", "b"], "anomaly_classes": ["b", "c"]}, "'b' is a nominal class"),
        ({"nominal_classes": ["a", "b"], "anomaly_classes": "none"}, "data.anomaly_classes"),
    ],
)
def test_wrong_classes(data, words):
    with pytest.raises(UserError) as caught:
        choose_classes(LETTERS, data, 0)
    assert words in str(caught.value) and "data." in str(caught.value)


def test_the_nearest_name_is_offered():
    source = make_source(dict.fromkeys(CIFAR10_NAMES, 5))
    with pytest.raises(UserError, match="did you mean 'airplane'"):
        choose_classes(source, {"nominal_classes": ["aeroplane", "cat"]}, 0)


def test_osr_sets_are_those_of_the_field_in_any_order_of_classes():
    backwards = make_source(dict.fromkeys(reversed(CIFAR10_NAMES), 5))
    for split, indices in enumerate(OSR_SPLITS):
        for source in (make_source(dict.fromkeys(CIFAR10_NAMES, 5)), backwards):
            chosen = choose_classes(source, {"nominal_classes": "osr"}, split)
            assert set(names(source, chosen.nominal)) == {CIFAR10_NAMES[index] for index in indices}
            assert len(chosen.anomaly) == 4
    assert len({frozenset(indices) for indices in OSR_SPLITS}) == 4
    with pytest.raises(UserError, match="not 5"):
        choose_classes(backwards, {"nominal_classes": "osr"}, 5)


@given(st.integers(0, 50), st.text(max_size=8), st.integers(0, 300))
def test_permutation_is_one_and_keyed(seed, name, count):
    order = permutation(seed, name, count)
    assert sorted(order.tolist()) == list(range(count))
    np.testing.assert_array_equal(order, permutation(seed, name, count))
    if count > 30:
        assert order.tolist() != permutation(seed + 1, name, count).tolist()
        assert order.tolist() != permutation(seed, name + "x", count).tolist()


def test_permutation_never_changes_between_versions():
    assert permutation(0, "cat", 8).tolist() == [0, 7, 4, 3, 2, 6, 1, 5]


@given(st.integers(3, 400), st.integers(0, 5))
def test_pooled_is_sixty_twenty_twenty(count, split):
    source = make_source({"x": 7, "a": count})
    parts = split_class(source, 1, {}, split)
    rows = np.concatenate([parts[name] for name in PARTS])
    assert sorted(rows.tolist()) == list(range(7, 7 + count))
    assert len(parts["test"]) == len(parts["validation"]) == max(1, round(0.2 * count))
    assert len(parts["train"]) >= 1


@given(st.integers(3, 100), st.integers(3, 120))
def test_limit_takes_the_first_of_the_same_order(count, limit):
    source = make_source({"a": count})
    parts = split_class(source, 0, {"limit": limit}, 0)
    rows = np.concatenate([parts[name] for name in PARTS])
    assert rows.tolist() == permutation(0, "a", count)[:limit].tolist()


@given(st.integers(2, 100), st.integers(1, 50), st.integers(0, 200))
def test_official_keeps_the_test_set_apart(train, test, limit):
    source = make_source({"a": train + test}, tests={"a": test})
    parts = split_class(source, 0, {"partition": "official", "limit": limit}, 0)
    assert all(len(parts[name]) for name in PARTS)
    assert (parts["test"] >= train).all() and (np.concatenate([parts["train"], parts["validation"]]) < train).all()
    if limit == 0 or limit >= train + test:
        assert len(parts["test"]) == test and len(parts["validation"]) == max(1, round(0.25 * train))
    else:
        assert sum(map(len, parts.values())) <= max(limit, 3) and len(parts["test"]) <= max(1, limit - 2)
    assert len(set(np.concatenate(list(parts.values())).tolist())) == sum(map(len, parts.values()))


@pytest.mark.parametrize(
    ("counts", "tests", "data", "words"),
    [
        ({"cat": 2}, None, {}, "class 'cat' has 2 images"),
        ({"cat": 0}, None, {}, "class 'cat' has 0 images"),
        ({"cat": 9}, None, {"limit": 2}, "data.limit"),
        ({"cat": 9}, None, {"partition": "official"}, "no official test"),
        ({"cat": 9}, {"cat": 0}, {"partition": "official"}, "class 'cat' has 9 images"),
        ({"cat": 9}, {"cat": 8}, {"partition": "official"}, "class 'cat' has 9 images"),
    ],
)
def test_classes_that_cannot_be_split(counts, tests, data, words):
    with pytest.raises(UserError) as caught:
        split_class(make_source(counts, tests=tests), 0, data, 0)
    assert words in str(caught.value)


def test_another_class_moves_no_image():
    """Rows shift when a class is put in front, the choice within a class does not."""
    alone, behind = make_source({"a": 30}), make_source({"0": 13, "a": 30})
    for split in range(3):
        first, second = split_class(alone, 0, {}, split), split_class(behind, 1, {}, split)
        assert all((first[name] + 13 == second[name]).all() for name in PARTS)


def test_duplicates_go_where_the_first_lies():
    table = Table(np.array([5, 2, 9, 4]), np.array([0, 0, 1, 1]), np.array([0, 1, 2, 0]))
    join_duplicates(table, [b"x", b"x", b"x", b"y"], test_first=False)
    assert table.parts.tolist() == [1, 1, 1, 0] and table.moved == 2
    table = Table(np.array([5, 2, 9, 4]), np.array([0, 0, 1, 1]), np.array([0, 1, 2, 0]))
    join_duplicates(table, [b"x", b"x", b"x", b"y"], test_first=True)
    assert table.parts.tolist() == [2, 2, 2, 0] and table.moved == 2


def test_an_empty_side_is_an_empty_table():
    table = table_of(LETTERS, (), {}, 0)
    join_duplicates(table, [], test_first=False)
    assert len(table.rows) == 0 and table.parts.dtype == np.int64 and table.moved == 0
