"""Classes with too few images: an error, left out, or anomalies."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_splits import make_source, names

from study.errors import UserError
from study.plan import plan
from study.spec import StudySpec
from study.splits import PARTS, choose_classes, table_of

COUNTS = {"a": 30, "b": 25, "c": 40, "few": 5, "two": 2, "d": 30}
FOLDER = make_source(COUNTS)


def chosen(data, source=FOLDER, split=0):
    found = choose_classes(source, data, split)
    return names(source, found.nominal), names(source, found.anomaly)


@pytest.mark.parametrize(("data", "nominal", "anomaly"), [
    ({"rare": "drop"}, "a b few", "c d"),  # only what cannot be split
    ({"rare": "drop", "rare_below": 20}, "a b", "c d"),
    ({"rare": "drop", "rare_below": 26}, None, None),
    ({"rare": "anomaly"}, "a b few", "c two d"),
    ({"rare": "anomaly", "rare_below": 20}, "a b", "c few two d"),
    ({"rare": "anomaly", "rare_below": 20, "anomaly_classes": ["c"]}, "a b", "c few two"),
    ({"rare": "anomaly", "rare_below": 20, "anomaly_classes": []}, "a b", "few two"),
    ({"rare": "drop", "rare_below": 20, "anomaly_classes": ["c"]}, "a b", "c"),
])
def test_a_list_loses_its_rare_classes(data, nominal, anomaly):
    data = {"nominal_classes": ["a", "b", "few", "two"], **data}
    if nominal is None:
        with pytest.raises(UserError, match=r"1 nominal class with images enough \(3 are rare\)"):
            chosen(data)
    else:
        assert chosen(data) == (nominal.split(), anomaly.split())


def test_what_no_list_names_stays_out_and_a_named_anomaly_stays_one():
    data = {"nominal_classes": ["a", "b"], "rare_below": 20}
    assert chosen({**data, "rare": "anomaly", "anomaly_classes": ["c"]}) == (["a", "b"], ["c"])
    assert chosen({**data, "rare": "drop", "anomaly_classes": ["c", "few", "two"]}) == (["a", "b"], ["c", "few", "two"])
    assert chosen({**data, "rare": "drop"}) == (["a", "b"], ["c", "d"])


@pytest.mark.parametrize("split", range(5))
def test_a_number_is_drawn_among_the_others(split):
    able = make_source({name: count for name, count in COUNTS.items() if count >= 20})
    alone = chosen({"nominal_classes": 3}, able, split)
    assert chosen({"nominal_classes": 3, "rare": "drop", "rare_below": 20}, split=split) == alone
    nominal, anomaly = chosen({"nominal_classes": 3, "rare": "anomaly", "rare_below": 20}, split=split)
    assert nominal == alone[0] and set(anomaly) == {*alone[1], "few", "two"}
    with pytest.raises(UserError, match=r"5 asked for, the data set has 4 classes with images enough \(2 are rare\)"):
        chosen({"nominal_classes": 5, "rare": "drop", "rare_below": 20}, split=split)


@given(st.dictionaries(st.sampled_from("cdefgh"), st.integers(1, 60), min_size=1), st.sampled_from(["drop", "anomaly"]),
       st.integers(0, 30), st.sampled_from([["a", "b"], 2]))
def test_anomalies_never_decide_which_classes_are_nominal(anomalies, rare, below, wanted):
    """By name: whatever the anomalies' counts. By a number: whatever images the classes that were not drawn lose."""
    data = {"nominal_classes": wanted, "rare": rare, "rare_below": below}
    full = make_source({"a": 30, "b": 30, **dict.fromkeys("cdefgh", 60)})
    nominal, _ = chosen(data, full)
    counts = {name: 30 if name in "ab" else 60 if name in nominal else anomalies.get(name, 0) for name in "abcdefgh"}
    left, found = chosen(data, make_source(counts))
    assert left == nominal and not set(found) & set(left)


def test_an_error_names_the_class_and_what_to_do():
    data = {"nominal_classes": ["a", "few"], "rare_below": 20}
    with pytest.raises(UserError, match=r"class 'few' has 5 images, data\.rare_below asks for 20; .*data\.rare = \"drop\""):
        chosen(data)
    assert chosen({"nominal_classes": ["a", "b"], "rare_below": 20})[1] == ["c", "few", "two", "d"]  # anomalies may be rare
    assert chosen({"nominal_classes": ["a", "two"]})[0] == ["a", "two"]  # and what cannot be split fails where it is split
    with pytest.raises(UserError, match=r"class 'two' has 2 images, a split needs .*data\.rare"):
        table_of(FOLDER, (4,), {}, 0)


def test_an_anomaly_class_that_cannot_be_split_is_for_the_test():
    found = choose_classes(FOLDER, {"nominal_classes": ["a", "b"], "rare": "anomaly"}, 0)
    table = table_of(FOLDER, found.anomaly, {"rare": "anomaly"}, 0, anomalous=True)
    labels = {name: found.anomaly.index(FOLDER.class_names.index(name)) for name in ("two", "few")}
    assert table.parts[table.labels == labels["two"]].tolist() == [PARTS.index("test")] * 2
    assert set(table.parts[table.labels == labels["few"]].tolist()) == {0, 1, 2}
    assert (table_of(FOLDER, (4,), {"rare": "drop", "limit": 1}, 0, anomalous=True).parts == PARTS.index("test")).sum() == 1
    with pytest.raises(UserError, match="class 'two' has 2 images"):
        table_of(FOLDER, found.anomaly, {}, 0, anomalous=True)


def test_groups_and_the_official_division_decide_what_can_be_split():
    source = replace(make_source({"a": 9, "b": 9, "c": 9}), groups=tuple(f"g:{row % 3 if row < 18 else 0}" for row in range(27)))
    assert chosen({"nominal_classes": ["a", "b", "c"], "rare": "drop"}, source) == (["a", "b"], [])
    with pytest.raises(UserError, match="class 'c' has 1 group, a split needs at least 3"):
        table_of(source, (2,), {}, 0)
    source = make_source({"a": 9, "b": 9, "c": 9}, tests={"a": 2, "b": 7, "c": 0})
    data = {"nominal_classes": ["a", "b", "c"], "partition": "official", "rare": "anomaly"}
    assert chosen(data, source) == (["a", "b"], ["c"])


def test_an_expression_that_fits_no_nominal_name_is_a_mistake():
    source = replace(make_source({"a": 9, "b": 9, "c": 9}), groups=(*[f"f:{row}" for row in range(18)], *["g:x"] * 9))
    with pytest.raises(UserError, match=r"'\(z\)' names no group of a nominal class, whose first file is 0"):
        chosen({"nominal_classes": ["a", "b"], "group": "(z)"}, source)


@pytest.mark.parametrize(("data", "words"), [
    ({"rare": "keep"}, "data.rare: must be 'error', 'drop' or 'anomaly'"), ({"rare_below": -1}, "data.rare_below"),
    ({"rare_bellow": 3}, "did you mean 'rare_below'"),
])
def test_bad_values_are_found_in_the_spec(data, words):
    with pytest.raises(UserError) as caught:
        StudySpec.parse({"name": "x", "methods": ["classifier"], "data": data})
    assert words in str(caught.value)


def test_a_plan_counts_reveals_where_rare_classes_are_the_anomalies(tmp_path):
    spec = StudySpec.parse({"name": "x", "methods": ["classifier"], "data": {"anomaly_classes": [], "rare": "anomaly"}})
    assert plan(spec, tmp_path)["jobs"]["reveals"] > 0


@pytest.mark.parametrize(("nominal", "folds", "trained"), [(["a", "b"], 3, 0), (["a", "b", "c"], 3, 3), (6, 4, 4), ("osr", 3, 3)])
def test_the_plan_counts_only_fold_models_that_there_can_be(tmp_path, nominal, folds, trained):
    spec = StudySpec.parse({"name": "x", "methods": ["classifier"], "data": {"nominal_classes": nominal}, "selection": {"folds": folds}})
    assert plan(spec, tmp_path)["jobs"]["fold models"] == trained
