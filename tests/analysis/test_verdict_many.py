"""The verdict's words for many methods, and for methods that lack splits."""
from __future__ import annotations

import fake_summaries as fake

from analysis import comparison
from analysis.verdict import verdict


def study(aurocs):
    """{method: AUROC by split, None where every trial failed} as a summary of one trial each."""
    rows = []
    for method, values in aurocs.items():
        for split, auroc in enumerate(values):
            row = fake.trial_row(method, split, 0, 0.8, fake.np.random.default_rng(0))
            done = {"scorer_auroc": auroc, "scorer_auroc_ci": [auroc - 0.02, auroc + 0.02], "selected": True} if auroc else None
            rows.append(row | (done or {"state": "failed", "scorer_auroc": None}))
    return {"study": "s", "rows": rows}


def test_a_method_that_failed_on_the_hard_split_is_not_ahead_for_it():
    made = study({"a": [0.95, None], "b": [0.80, 0.70]})
    assert comparison.revealed_order(made) == ["b", "a"]
    assert "reaches AUROC 0.800 and a 0.950: −0.150" in verdict(made).sentences[0]


def test_many_rivals_are_counted_few_are_named():
    found = verdict(study({f"m{i}": [0.9 - 0.001 * i] for i in range(9)}))
    assert found.headline == "No winner: m0 is ahead of all 8 others, but within noise"
    assert found.trust_text.startswith("Treat the methods as equal")
    assert "widened for 8 rivals" in found.sentences[0]


def test_only_those_within_noise_are_called_equal():
    found = verdict(study({"a": [0.9], "b": [0.89], "c": [0.6], "d": [0.5]}))
    assert found.headline == "No winner: a is ahead of b, but within noise"
    assert found.trust_text.startswith("Treat a and b as equal")


def test_what_many_methods_selected_is_told_by_method():
    made = fake.nominal_only(methods=fake.NINE, splits=(0, 1, 2), trials=2)
    sentences = verdict(made, selection=fake.selection(made)).sentences
    assert len(sentences) == 9 and all("over 3 splits" in sentence for sentence in sentences)


def test_the_gap_of_splits_of_one_class_set_is_judged_by_all_their_intervals():
    """Not by the first one's, which lies about another gap."""
    made = study({"a": [0.90, 0.90, 0.90]}) | {"nominal_classes": {str(split): ["x", "y"] for split in range(3)}}
    for row, gap in zip(made["rows"], (0.01, 0.06, 0.05), strict=True):
        row.update(extraction_gap=gap, extraction_gap_ci=[gap - 0.03, gap + 0.03])
    (said,) = verdict(made).gaps
    assert said.endswith("at least 0.040 is in z but not extracted.")
    for row in made["rows"]:
        row["extraction_gap_ci"] = [row["extraction_gap"] - 0.05, row["extraction_gap"] + 0.05]
    (said,) = verdict(made).gaps
    assert said.endswith("+0.040, no extraction gap beyond noise.")
