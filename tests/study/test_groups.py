"""Photos of one specimen stay in one part, whatever the classes around them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_splits import make_source

from study.errors import UserError
from study.groups import check_group, divide, group_keys, joined
from study.spec import StudySpec
from study.splits import PARTS, Table, join_duplicates, split_class, table_of

SIZES = st.lists(st.integers(1, 30), min_size=3, max_size=40)  # images of each group of a class


def grouped(classes: dict[str, list[int]], *, tests: dict[str, int] | None = None):
    """A source whose classes hold groups of these sizes, their images in turns."""
    keys = []
    for sizes in classes.values():
        rounds = range(max(sizes, default=0))
        keys += [f"g:{group}" for turn in rounds for group, size in enumerate(sizes) if turn < size]
    return replace(make_source({name: sum(sizes) for name, sizes in classes.items()}, tests=tests), groups=tuple(keys))


def parts_of_groups(source, parts) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for part, rows in parts.items():
        for row in rows.tolist():
            found.setdefault(source.groups[row], set()).add(part)
    return found


@given(SIZES, st.integers(0, 5))
def test_no_group_is_divided_and_every_image_has_its_part(sizes, split):
    source = grouped({"other": [2, 2, 2], "a": sizes})
    parts = split_class(source, 1, {}, split)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(6, 6 + sum(sizes)))
    assert all(len(parts[name]) for name in PARTS)
    assert all(len(found) == 1 for found in parts_of_groups(source, parts).values())


@given(SIZES)
def test_parts_hold_their_share_up_to_a_group(sizes):
    parts = divide(sizes, (0.6, 0.2, 0.2))
    for part, share in enumerate((0.6, 0.2, 0.2)):
        held = sum(size for size, place in zip(sizes, parts) if place == part)
        assert held and abs(held - share * sum(sizes)) <= 1.6 * max(sizes)


def test_many_small_groups_come_near_sixty_twenty_twenty():
    sizes = np.random.default_rng(0).integers(1, 6, 300).tolist()
    held = np.bincount(divide(sizes, (0.6, 0.2, 0.2)), weights=sizes) / sum(sizes)
    assert held == pytest.approx([0.6, 0.2, 0.2], abs=0.01)


def test_a_giant_is_for_training():
    for place in range(5):
        sizes = [3, 3, 3, 3]
        sizes.insert(place, 80)
        assert divide(sizes, (0.6, 0.2, 0.2))[place] == 0
    assert sorted(divide([1, 1, 1], (0.6, 0.2, 0.2))) == [0, 1, 2]


@given(SIZES, SIZES, st.integers(0, 3))
def test_another_class_moves_no_image_of_a_grouped_one(sizes, others, split):
    alone, behind = grouped({"a": sizes}), grouped({"0": others, "a": sizes})
    first, second = split_class(alone, 0, {}, split), split_class(behind, 1, {}, split)
    assert all((first[name] + sum(others) == second[name]).all() for name in PARTS)
    again = split_class(alone, 0, {}, split)
    assert all((first[name] == again[name]).all() for name in PARTS)


def test_splits_and_class_names_draw_other_groups():
    source = grouped({"a": [2] * 30, "b": [2] * 30})
    drawn = {tuple(np.sort(split_class(source, index, {}, split)["test"] - 60 * index)) for index in (0, 1) for split in range(3)}
    assert len(drawn) == 6


def test_an_image_more_in_one_group_moves_few_others():
    before, after = grouped({"a": [2] * 40}), grouped({"a": [2] * 39 + [3]})
    first, second = (parts_of_groups(source, split_class(source, 0, {}, 0)) for source in (before, after))
    assert sum(first[key] != second[key] for key in first) < 20


@given(SIZES, st.integers(3, 60))
def test_a_limit_takes_the_same_images_as_without_groups(sizes, limit):
    source = grouped({"a": sizes})
    plain = split_class(replace(source, groups=None), 0, {"limit": limit}, 0)
    kept = {row for rows in plain.values() for row in rows.tolist()}
    if len({source.groups[row] for row in kept}) < 3:
        with pytest.raises(UserError, match=r"data\.limit: .* at least 3 groups"):
            split_class(source, 0, {"limit": limit}, 0)
    else:
        parts = split_class(source, 0, {"limit": limit}, 0)
        assert {row for rows in parts.values() for row in rows.tolist()} == kept
        assert all(len(found) == 1 for found in parts_of_groups(source, parts).values())


def test_official_divides_the_training_images_by_groups():
    source = replace(make_source({"a": 24}, tests={"a": 4}), groups=tuple(f"g:{row // 2}" for row in range(24)))
    parts = split_class(source, 0, {"partition": "official"}, 0)
    assert sorted(parts["test"].tolist()) == [20, 21, 22, 23] and (len(parts["train"]), len(parts["validation"])) == (16, 4)
    assert all(len(found) == 1 for found in parts_of_groups(source, parts).values())
    one = replace(source, groups=(*["g:x"] * 20, *["g:y"] * 4))
    with pytest.raises(UserError, match="class 'a' has 1 group in train, a split needs 2"):
        split_class(one, 0, {"partition": "official"}, 0)
    across = replace(source, groups=(*[f"g:{row}" for row in range(19)], *["g:x"] * 5))
    with pytest.raises(UserError, match="'x' of class 'a' has images in train and in test"):
        split_class(across, 0, {"partition": "official"}, 0)


def test_groups_are_those_of_a_class():
    source = grouped({"a": [4] * 5, "b": [4] * 5})
    table = table_of(source, (0, 1), {}, 0)
    assert len(set(table.groups.tolist())) == 10
    assert all(len(set(table.parts[table.groups == group].tolist())) == 1 for group in range(10))
    assert table.select(table.labels == 1).groups.tolist() == table.groups[table.labels == 1].tolist()


@given(st.data())
def test_copies_bring_their_groups_along(data):
    """Whatever is a copy of what: in the end neither a group nor an image lies in two parts, nor is one lost."""
    sizes = data.draw(st.lists(SIZES, min_size=1, max_size=2))
    source = grouped({f"c{number}": found for number, found in enumerate(sizes)})
    table = table_of(source, tuple(range(len(sizes))), {}, 0)
    keys = data.draw(st.lists(st.integers(0, 3 * len(table.rows)), min_size=len(table.rows), max_size=len(table.rows)))
    rows, test_first = table.rows.tolist(), data.draw(st.booleans())
    join_duplicates(table, keys, test_first=test_first)
    assert table.rows.tolist() == rows
    for owners in (table.groups.tolist(), keys):
        assert all(count == 1 for count in Counter(owner for owner, _ in set(zip(owners, table.parts.tolist()))).values())


def test_without_copies_nothing_moves_and_a_chain_of_copies_is_one():
    table = table_of(grouped({"a": [3] * 6}), (0,), {}, 0)
    before = table.parts.tolist()
    join_duplicates(table, list(range(18)), test_first=False)
    assert table.parts.tolist() == before and table.moved == 0
    assert joined([0, 0, 1, 1, 2], "abbcd") == [0, 0, 0, 0, 4]
    table = Table(np.array([5, 2, 9, 4]), np.zeros(4), np.array([0, 1, 1, 2]), groups=np.array([0, 1, 1, 2]))
    join_duplicates(table, [b"x", b"y", b"x", b"z"], test_first=False)
    assert table.parts.tolist() == [1, 1, 1, 2] and table.moved == 1


def test_keys_of_names_and_of_those_that_do_not_match():
    files = ["a/x1_0.png", "a/x1_1.png", "b/x1_2.png", "a/odd.png", "a/_3.png"]
    assert group_keys(files, r"^(.*?)_\d+") == ("g:x1", "g:x1", "g:x1", "f:a/odd.png", "f:a/_3.png")
    assert group_keys(["a/1(b).png"], r"^\d+(?:\((b)\))?") == ("g:b",) and group_keys(["a/1.png"], r"^\d+(x)?") == ("f:a/1.png",)


def test_a_table_gives_keys_by_path(tmp_path):
    path = tmp_path / "who.CSV"
    path.write_text("\ufeffgroup,path,note\nbee 1,a/1.png,x\n bee 1 ,./a//2.png,\n,a/caf\u0065\u0301.png,alone\nbee 1,a/1.png,again\n")
    found = group_keys(["a/1.png", "a/2.png", "a/caf\u00e9.png", "a/4.png"], str(path))
    assert found == ("g:bee 1", "g:bee 1", "f:a/caf\u00e9.png", None)


@pytest.mark.parametrize(("text", "words"), [
    (None, "No such file"), ("", "no column 'path'"), ("path,grp\na/1.png,x\n", "no column 'group'"),
    ("path,group\na/1.png\n", "line 2 lacks a value"), ("path,group\na/1.png,x\na/1.png,y\n", "line 3: a/1.png is in two"),
    (b"path,group\n\xff\xfe,x\n", "not a CSV table"), ("path,group\na,\"" + "x" * 200_000 + "\"\n", "not a CSV table"),
])
def test_a_bad_table_is_one_line(tmp_path, text, words):
    path = tmp_path / "who.csv"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as caught:
        group_keys(["a/1.png"], str(path))
    assert words in str(caught.value) and "data.group" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("group", "words"), [
    ("^(.*", "not a regular expression"), (r"^.*_\d+", "0 capturing groups"), (r"(a)(b)", "2 capturing groups"),
    ("(a{99999999999})", "not a regular expression"), ("nul\0", "NUL"), (" ", "blank"),
])
def test_a_bad_expression_is_found_in_the_spec(group, words):
    with pytest.raises(UserError) as caught:
        StudySpec.parse({"name": "x", "methods": ["classifier"],
                         "data": {"source": "folder", "path": "photos", "group": group}})
    assert words in str(caught.value) and "data.group" in str(caught.value) and "\n" not in str(caught.value)
    if words != "NUL" and words != "blank":
        with pytest.raises(UserError, match=r"data\.group"):
            group_keys(["a/1.png"], group)


def test_only_file_names_tell_groups():
    with pytest.raises(UserError, match=r"data\.group: source 'digits' has no file names"):
        StudySpec.parse({"name": "x", "methods": ["classifier"], "data": {"group": "(a)"}})
    check_group("")
    check_group("not there.csv")
