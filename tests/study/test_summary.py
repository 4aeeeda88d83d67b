"""What summary.json says of the spaces that were searched."""
from __future__ import annotations

import json

from study import Study
from study.summary import _ranges


def ranges(method, **overrides):
    return _ranges(Study.from_spec("digits", overrides={"methods": ["classifier", "hybrid"], **overrides}).spec, method)


def test_ranges_hold_bounds_role_and_the_spaces_order():
    found = ranges("hybrid")
    assert next(iter(found)) == "reconstruction_weight"  # the first scientific parameter is what the report draws
    assert found["reconstruction_weight"] == {"low": 1e-3, "high": 10.0, "log": True, "role": "scientific", "natural": []}
    assert found["learning_rate"]["role"] == "nuisance"
    assert found["cutout"]["natural"] == ["lower"] and found["mixup"]["options"] == [0.0, 0.2, 1.0]
    assert "momentum" not in found  # fixed
    assert list(json.loads(json.dumps(found))) == list(found)


def test_a_list_of_numbers_is_told_by_its_options_and_words_not_at_all():
    found = ranges("hybrid", **{"search.space.hybrid.reconstruction_weight": [0.1, 1.0], "search.space.hybrid.mixup": 0.0,
                                "search.space.hybrid.cross_entropy_weight": [1.0, 0.0]})
    assert found["reconstruction_weight"] == {"options": [0.1, 1.0], "role": "scientific"}
    assert found["cross_entropy_weight"]["options"] == [1.0, 0.0]
    assert "mixup" not in found
