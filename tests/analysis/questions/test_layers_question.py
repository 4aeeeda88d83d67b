"""Layers: information that only an early one holds is found there, and where all hold it nothing is claimed."""

import dataclasses

import numpy as np
import oracle_cases
import pytest

from analysis.metrics import auroc
from analysis.oracle_means import small_oracle_scores
from analysis.questions import get_question
from analysis.uncertainty import paired_delong

QUESTION = get_question("layers")


def evidence(strengths: dict[str, float], *, seed=0, **more):
    """By layer, how far anomalies lie from nominal images along one of its features."""
    e = oracle_cases.placed({"a": (0, 0), "b": (0, 0)}, seed=seed, **more)
    random = np.random.default_rng([seed, 1])
    parts = (np.zeros(len(e.validation), bool), np.ones(len(e.outliers), bool), e.is_anomaly)
    found = {name: tuple((random.normal(size=(len(mask), 4)) + strength * mask[:, None]).astype(np.float32)
                         for mask in parts) for name, strength in strengths.items()}
    return dataclasses.replace(e, layers=lambda: found)


def test_what_only_an_early_layer_holds_is_found_there():
    result, card = oracle_cases.answered(QUESTION, [evidence({"stage 1": 1.5, "stage 2": 0.2, "z": 0.2})])
    best = result["best"]["classifier"]
    assert (best["layer"], best["verdict"]) == ("stage 1", "earlier")
    assert result["mean"]["linear"]["stage 1"]["low"] > 0 and "have lost something" in card.headline
    assert "stage 1" in card.headline


def test_where_the_latents_hold_the_most():
    result, card = oracle_cases.answered(QUESTION, [evidence({"stage 1": 0.0, "stage 2": 0.3, "z": 1.5})])
    best = result["best"]["classifier"]
    assert (best["layer"], best["verdict"]) == ("z", "latents")
    assert "hold the most" in card.headline and "stage 2" in card.headline


def test_no_difference_is_no_finding():
    result, card = oracle_cases.answered(QUESTION, [evidence({"stage 1": 0.8, "z": 0.8}, seed=2)])
    assert result["best"]["classifier"]["verdict"] == "not told apart" and "lost nothing that shows" in card.headline


def test_numbers_are_those_of_the_layer():
    e = evidence({"stage 1": 0.5, "z": 1.0})
    found, layers = QUESTION.measure(e), e.layers()
    one, z = (small_oracle_scores("linear", *layers[name], seed=0, threads=1) for name in ("stage 1", "z"))
    assert found["linear"]["stage 1"]["auroc"][0] == auroc(one, e.is_anomaly)
    assert found["linear"]["stage 1"]["minus_z"] == list(paired_delong(one, z, e.is_anomaly)[:3])
    assert found["linear"]["z"]["minus_z"] is None and found["widths"] == {"stage 1": 4, "z": 4}
    assert found["layers"] == ["stage 1", "z"]


def test_a_stage_that_is_z_itself_is_left_out():
    e = evidence({"stage 1": 0.5, "z": 1.0})
    layers = e.layers()
    twice = {"stage 1": layers["stage 1"], "stage 2": tuple(part + 1e-7 for part in layers["z"]), "z": layers["z"]}
    assert QUESTION.measure(dataclasses.replace(e, layers=lambda: twice))["layers"] == ["stage 1", "z"]
    alone = {"stage 2": twice["stage 2"], "z": twice["z"]}
    assert QUESTION.measure(dataclasses.replace(e, layers=lambda: alone)) is None
    assert QUESTION.measure(dataclasses.replace(e, layers=lambda: None)) is None
    oracle_cases.check_nothing_measured(QUESTION)


def test_methods_with_other_layers_and_without_any():
    trials = [evidence({"stage 1": 0.2, "z": 1.0}), evidence({"layer 0": 0.2, "z": 1.0}, method="hybrid"),
              dataclasses.replace(evidence({"z": 1.0}), method="jem")]
    result, card = oracle_cases.answered(QUESTION, trials)
    assert result["methods"]["hybrid"]["layers"] == ["layer 0", "z"]
    assert set(result["mean"]["linear"]) == {"stage 1", "layer 0"}
    assert result["unread"] == ["jem"] and "jem" in " ".join(card.sentences)


def test_means_over_splits():
    trials = [evidence({"stage 1": 0.3, "z": 1.0}, seed=s, split=s) for s in (0, 1, 2)]
    result, _ = oracle_cases.answered(QUESTION, trials)
    each = [QUESTION.measure(t)["linear"]["stage 1"]["minus_z"][0] for t in trials]
    found = result["methods"]["classifier"]["linear"]["stage 1"]["minus_z"]
    assert found["mean"] == pytest.approx(np.mean(each)) and found["basis"] == "splits"
    assert found["standard_error"] == pytest.approx(np.std(each, ddof=1) / np.sqrt(3))
