"""Cautions of studies with many methods and splits: one sentence for one reason, and nothing lost."""
from __future__ import annotations

import fake_summaries as fake

from analysis import cautions


def test_places_are_gathered_by_method():
    assert cautions.where([("a", 0)]) == "a (split 0)"
    assert cautions.where([("a", 0), ("b", 0), ("a", 2)]) == "a (splits 0, 2) and b (split 0)"


def test_one_sentence_for_each_edge_of_a_parameter():
    made = fake.nine(methods=("classifier", "hybrid", "csi"), trials=3)
    for row in made["rows"]:
        row["params"] = {"learning_rate": 1.0 if row["method"] != "csi" else 0.021, "mixup": 0.25}
    texts = [c.text for c in cautions.find(made) if "edge" in c.text]
    assert len(texts) == 2
    assert texts[0].startswith("classifier (splits 0, 1, 2) and hybrid (splits 0, 1, 2): the selected learning_rate (1) lies at the upper")
    assert texts[1].startswith("csi (splits 0, 1, 2): the selected learning_rate (0.021) lies at the lower")


def test_worse_than_chance_and_lost_representations_are_gathered():
    made = fake.nine(methods=("classifier", "hybrid"), trials=2)
    for row in made["rows"]:
        if row["selected"] and row["method"] == "hybrid":
            row.update(scorer_auroc=0.4 + 0.01 * row["split"], oracle_representation_auroc=0.6, representation_gap=-0.2)
    texts = [c.text for c in cautions.find(made)]
    assert "hybrid (splits 0, 1, 2): the frozen rule is worse than chance (0.400 to 0.420)." in texts
    assert sum("cannot be trusted" in text for text in texts) == 1


def test_blind_signals_are_gathered():
    made = fake.nine(methods=("classifier", "hybrid"), trials=8, splits=(0, 1))
    for row in made["rows"]:
        row["signal_value"] = -row["scorer_auroc"]
    found = [c.text for c in cautions.find(made, spec=fake.spec(sampler="random")) if "hardly orders" in c.text]
    assert found == ["classifier (splits 0, 1) and hybrid (splits 0, 1): val_accuracy hardly orders the trials by AUROC "
                     "(Kendall τ −1.00)."]


def test_a_method_that_failed_everywhere_is_named_once():
    texts = [c.text for c in cautions.find(fake.nine(failed={"jem": 12}))]
    assert "No trial was selected for jem (splits 0, 1, 2)." in texts
    assert any("36 of 324 trials failed (jem 36)" in text for text in texts)


def test_a_representation_that_could_not_be_trained_is_explained():
    made = fake.nine(methods=("classifier", "hybrid"), trials=2)
    assert not [c for c in cautions.find(made) if "no oracle representation" in c.text]
    for row in made["rows"]:
        if row["selected"] and row["method"] == "hybrid" and row["split"] == 1:
            row.update(representation_reason="diverged: validation loss is nan", oracle_representation_auroc=None)
    found = [c.text for c in cautions.find(made) if "no oracle representation" in c.text]
    assert found == ["hybrid (split 1): no oracle representation, its training failed (diverged: validation loss is nan)."]
