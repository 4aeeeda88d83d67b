"""Parameters, and how a spec narrows, widens, fixes and opens them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import Choice, Fixed, Float, Int, Space, get_space, space_names

SPACE = Space("demo", {
    "rate": Float(low=0.01, high=1.0, log=True, default=0.1, legal=(1e-9, 10.0)),
    "layers": Int(low=1, high=5, default=2, legal=(1, 20)),
    "kind": Choice(("a", "b"), default="b"),
    "weight": Choice((1.0, 0.0), legal=(0.0, 5.0)),
    "share": Fixed(0.5, legal=(0.0, 1.0)),
    "mode": Fixed("x"),
})


def test_default_searched_and_fixed_parts():
    assert SPACE.default() == {"rate": 0.1, "layers": 2, "kind": "b", "weight": 1.0, "share": 0.5, "mode": "x"}
    assert list(SPACE.searched()) == ["rate", "layers", "kind", "weight"]
    assert SPACE.fixed() == {"share": 0.5, "mode": "x"}


@pytest.mark.parametrize(("override", "default", "kind"), [
    ({"rate": 0.3}, 0.3, Fixed),
    ({"rate": 2}, 2.0, Fixed),
    ({"rate": {"low": 0.2}}, 0.2, Float),
    ({"rate": {"high": 0.05}}, 0.05, Float),
    ({"rate": {"low": 1e-4, "high": 5, "log": False}}, 0.1, Float),
    ({"rate": [0.5, 0.2]}, 0.2, Choice),
    ({"layers": {"low": 3, "high": 9}}, 3, Int),
    ({"layers": 4}, 4, Fixed),
    ({"kind": ["a"]}, "a", Choice),
    ({"kind": "a"}, "a", Fixed),
    ({"weight": [0.0, 0.9]}, 0.9, Choice),
    ({"weight": 0}, 0.0, Fixed),
    ({"weight": {"low": 0.1, "high": 2.0}}, 1.0, Float),
    ({"share": {"low": 0.6, "high": 0.9}}, 0.6, Float),
    ({"share": [0.1, 0.5]}, 0.5, Choice),
    ({"share": 0.25}, 0.25, Fixed),
    ({"mode": "y"}, "y", Fixed),
    ({"mode": ["y", "x"]}, "x", Choice),
    ({"mode": ["y", "z"]}, "y", Choice),
])
def test_narrowing(override, default, kind):
    narrowed = SPACE.narrowed(override)
    name = next(iter(override))
    assert narrowed.default()[name] == default and type(narrowed.default()[name]) is type(default)
    assert isinstance(narrowed.parameters[name], kind)
    narrowed.check(narrowed.default())
    assert SPACE.default()["rate"] == 0.1, "the original was changed"


@pytest.mark.parametrize(("override", "words"), [
    ({"rat": 1}, "did you mean 'rate'"),
    ({"zzz": 1}, "no parameter 'zzz'"),
    ({"rate": "high"}, "demo.rate: 'high' is not a number"),
    ({"rate": True}, "True is not a number"),
    ({"rate": math.nan}, "not finite"),
    ({"rate": {"low": 0.5, "high": 0.2}}, "low 0.5 is not below high 0.2"),
    ({"rate": {"low": 0.0}}, "outside"),
    ({"rate": {"low": -math.inf}}, "not finite"),
    ({"rate": {"from": 1}}, "unknown key 'from'"),
    ({"rate": {"log": 1}}, "not true or false"),
    ({"rate": []}, "empty"),
    ({"rate": [0.1, 0.1]}, "repeat"),
    ({"layers": 2.5}, "whole number"),
    ({"layers": 0}, "outside"),
    ({"kind": "c"}, "'c' is not one of"),
    ({"kind": {"low": 1, "high": 2}}, "takes no range"),
    ({"weight": -1}, "outside"),
    ({"share": {"low": 0.1}}, "both low and high"),
    ({"share": {"low": 0.0, "high": 1.0, "log": True}}, "log range"),
    ({"mode": 3}, "not of the kind"),
])
def test_a_bad_override_is_one_clear_line(override, words):
    with pytest.raises(ValueError) as caught:
        SPACE.narrowed(override)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@given(low=st.floats(1e-6, 1.0), factor=st.floats(1.01, 100.0), log=st.booleans())
def test_a_narrowed_default_always_lies_in_the_range(low, factor, log):
    space = Space("demo", {"p": Float(low=0.1, high=0.2, default=0.15)})
    narrowed = space.narrowed({"p": {"low": low, "high": low * factor, "log": log}})
    narrowed.check(narrowed.default())
    assert narrowed.parameters["p"].low == low and narrowed.parameters["p"].log is log


def test_check_wants_every_name_and_every_value_inside():
    good = SPACE.default()
    SPACE.check(good)
    for bad in ({**good, "rate": 2.0}, {**good, "kind": "c"}, {**good, "layers": 2.5}, {**good, "extra": 1},
                {k: v for k, v in good.items() if k != "mode"}):
        with pytest.raises(ValueError, match="demo"):
            SPACE.check(bad)


@pytest.mark.parametrize("make", [
    lambda: Float(low=0.0, high=1.0, log=True, default=0.5),
    lambda: Float(low=0.0, high=1.0, default=2.0),
    lambda: Float(low=0.0, high=1.0, default=0.5, role="odd"),
    lambda: Choice(()),
    lambda: Choice((1, 2), default=3),
])
def test_a_badly_written_space_file_fails_at_once(make):
    with pytest.raises(ValueError):
        make()


@pytest.mark.parametrize("name", space_names())
def test_every_space_can_be_fixed_as_a_whole_at_its_default(name):
    space = get_space(name)
    fixed = space.narrowed(space.default())
    assert fixed.default() == space.default() and not fixed.searched()


def test_hybrid_offers_what_the_study_asks():
    space = get_space("hybrid")
    weight = space.parameters["reconstruction_weight"]
    assert (weight.low, weight.high, weight.log) == (1e-3, 10.0, True)
    assert space.parameters["cross_entropy_weight"].options == (1.0, 0.0)
    assert set(get_space("classifier").parameters) < set(space.parameters)
