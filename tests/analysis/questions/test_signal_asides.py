"""λ and strong augmentation: planted answers are found, absent ones are not."""

import numpy as np
import pytest
from test_signal_leaderboard import planted, result_of

from analysis import leaderboard_asides as asides
from analysis.rank_correlation import spearman


def with_params(made, draw, *, effect=None, seed=3):
    random = np.random.default_rng(seed)
    for row in made["rows"]:
        row["params"] = draw(random)
        if effect:
            effect(row, random)
    return made


def lambdas(made, effect=None):
    return with_params(made, lambda r: {"reconstruction_weight": float(10 ** r.uniform(-3, 1)), "width": 1},
                       effect=effect)


def test_a_signal_that_chooses_lambda_better_is_named():
    made = lambdas(planted(splits=tuple(range(9))))
    for row in made["rows"]:  # accuracy is chance now, the synthetic signal right
        row["signals"] |= {"synthetic_outlier_auroc": row["scorer_auroc"], "val_accuracy": row["signals"]["val_ece"]}
    found = result_of(made)["lambda"]["classifier"]
    assert found["alone"] and found["rules"]["synthetic_outlier_auroc"]["verdict"] == "better"
    assert found["rules"]["synthetic_outlier_auroc"]["distance"] == 0 < found["accuracy_distance"]
    text = asides.lambda_sentence(found)
    assert "synthetic_outlier_auroc" in text.split("better")[0] and "val_nll" not in text.split("better")[0]


def test_none_is_named_where_accuracy_is_right():
    found = result_of(lambdas(planted()))["lambda"]["classifier"]
    assert not any(one["verdict"] == "better" for one in found["rules"].values())
    assert asides.lambda_sentence(found).startswith("No signal chooses classifier's trial, and with it λ, better")
    assert "val_nll" in asides.lambda_sentence(found).split("worse:")[1]


def test_distance_is_in_decades():
    made = planted(splits=(0,), trials=8)
    for row, value in zip(made["rows"], np.geomspace(1e-3, 1e4, 8), strict=True):
        row["params"] = {"reconstruction_weight": float(value), "width": row["trial"]}
        row["scorer_auroc"], row["signals"]["val_accuracy"] = 0.7 + 0.01 * row["trial"], float(row["trial"] == 4)
    found = result_of(made)["lambda"]["classifier"]
    assert found["accuracy_distance"] == pytest.approx(3) and not found["alone"]
    text = asides.lambda_sentence(found)
    assert "as far as so few splits can tell" in text and "λ's own rank correlation" in text


def test_a_method_without_lambda_has_no_answer():
    assert result_of(planted())["lambda"] == {} and result_of(planted())["augmentation"] == {}
    fixed = with_params(planted(), lambda r: {"reconstruction_weight": 1.0})
    assert result_of(fixed)["lambda"] == {}


def augmented(effect=None, seed=3):
    def draw(random):
        mixup, cutout = float(random.choice([0.0, 0.2, 1.0])), float(random.uniform(0, 0.5))
        return {"mixup": mixup, "cutout": cutout, "randaugment": 0.2}

    return with_params(planted(), draw, effect=effect, seed=seed)


def test_augmentation_that_raises_accuracy_and_hurts_detection_is_found():
    def effect(row, random):
        strength = row["params"]["mixup"] + row["params"]["cutout"] / 0.5
        row["scorer_auroc"] = 0.95 - 0.1 * strength + float(random.normal(0, 0.02))
        row["signals"]["val_accuracy"] = 0.7 + 0.1 * strength + float(random.normal(0, 0.02))

    found = result_of(augmented(effect))["augmentation"]["classifier"]
    assert found["parameters"] == ["mixup", "cutout"]
    assert found["finding"] == "helps classification, hurts detection"
    assert found["accuracy"]["low"] > 0 > found["detection"]["high"]
    assert "helps classification, hurts detection" in asides.augmentation_sentence("classifier", found)


def test_accuracy_that_misleads_among_strong_ones_alone_is_found():
    def effect(row, random):
        strong = row["params"]["mixup"] + row["params"]["cutout"] / 0.5 > 0.8
        row["signals"]["val_accuracy"] = (1 - row["scorer_auroc"]) if strong else row["scorer_auroc"]

    found = result_of(augmented(effect))["augmentation"]["classifier"]
    assert found["strong"]["tau"]["value"] < -0.3 and found["rest"]["tau"]["value"] > 0.3
    assert found["tau_difference"]["high"] < 0 < found["strong"]["regret"]
    assert found["strong"]["regret"] > found["rest"]["regret"] and found["regret_difference"]["difference"] < 0
    assert ": a difference," in asides.augmentation_sentence("classifier", found)
    assert found["strong"]["trials"] == found["rest"]["trials"] == 40


def test_no_effect_is_within_noise():
    found = result_of(augmented(seed=8))["augmentation"]["classifier"]
    assert found["finding"] == "within noise" and found["tau_difference"]["low"] < 0 < found["tau_difference"]["high"]
    assert "no difference beyond noise" in asides.augmentation_sentence("classifier", found)


def test_strength_counts_each_augmentation_by_its_largest_value():
    made = augmented(lambda row, random: row["signals"].update(val_accuracy=float(random.random())))
    made["rows"] = [row for row in made["rows"] if row["split"] == 0]
    largest = max(row["params"]["cutout"] for row in made["rows"])
    strength = [row["params"]["mixup"] + row["params"]["cutout"] / largest for row in made["rows"]]
    found = result_of(made)["augmentation"]["classifier"]
    expected = spearman(strength, [row["signals"]["val_accuracy"] for row in made["rows"]])
    assert found["accuracy"]["value"] == pytest.approx(expected)
