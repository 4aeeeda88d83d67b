"""Plausible summaries, selections, specs and stamps to draw reports from: invented numbers, real shapes."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

SCORERS = ("msp", "entropy", "max_logit", "energy", "margin", "knn", "mahalanobis", "relative_mahalanobis")


def spread(auroc: float, images: int = 180) -> list[float]:
    """A symmetric interval of about the width that DeLong gives for so many images of each kind."""
    half = 1.96 * math.sqrt(max(auroc * (1 - auroc), 1e-4) / images)
    return [max(0.0, auroc - half), min(1.0, auroc + half)]


def params(method: str, random: np.random.Generator) -> dict[str, Any]:
    found: dict[str, Any] = {
        "learning_rate": float(10 ** random.uniform(-3, -0.7)),
        "weight_decay": float(10 ** random.uniform(-5, -2.5)),
        "label_smoothing": float(random.uniform(0, 0.2)),
        "augmentation": str(random.choice(["none", "crop", "crop+cutout"])),
    }
    if method == "hybrid":
        found["reconstruction_weight"] = float(10 ** random.uniform(-3, 1))
    return found


def trial_row(method: str, split: int, trial: int, level: float, random: np.random.Generator) -> dict[str, Any]:
    """A completed trial; `level` shifts its AUROC. The oracle lies above, the representation above that."""
    auroc = float(np.clip(level + random.normal(0, 0.03), 0.4, 0.99))
    oracle = min(0.995, auroc + 0.06 + float(random.uniform(0, 0.03)))
    accuracy = float(np.clip(0.94 + 0.4 * (auroc - level) + random.normal(0, 0.012), 0.5, 1.0))
    scorers = {name: float(np.clip(auroc + random.normal(-0.02, 0.03), 0.3, 0.999)) for name in SCORERS}
    if method == "hybrid":
        scorers["reconstruction_error"] = float(np.clip(auroc - 0.2 + random.normal(0, 0.04), 0.3, 0.99))
    return {
        "method": method, "split": split, "seed": 0, "trial": trial, "state": "completed", "reason": None,
        "selected": False, "scorer": "top_half_mean", "signal": "val_accuracy", "signal_value": accuracy,
        "closed_set_accuracy": accuracy - 0.005, "scorer_auroc": auroc, "scorer_auroc_ci": spread(auroc),
        "scorers": scorers, "oracle_detector_auroc": oracle, "oracle_detector_ci": spread(oracle),
        "linear_oracle_auroc": oracle - 0.02, "oracle_representation_auroc": None,
        "extraction_gap": oracle - auroc, "extraction_gap_ci": [oracle - auroc - 0.03, oracle - auroc + 0.03],
        "extraction_gap_max_logit": oracle - scorers["max_logit"], "representation_gap": None,
        "regret": None, "regret_crossfit": None, "aupr_anomaly": auroc - 0.1, "fpr_at_95_tpr": 1.2 * (1 - auroc),
        "equal_error_rate": 0.9 * (1 - auroc), "train_seconds": 4.0 + trial / 10, "representation_accuracy": None,
        "params": params(method, random),
        "signals": {"val_accuracy": accuracy, "val_nll": 1 - accuracy, "val_ece": 0.03,
                    "synthetic_outlier_auroc": float(np.clip(auroc + random.normal(0, 0.05), 0, 1))},
    }


def failed_row(method: str, split: int, trial: int, *, state: str = "failed", reason: str = "loss is NaN") -> dict[str, Any]:
    row = trial_row(method, split, trial, 0.8, np.random.default_rng(trial))
    kept = {"method", "split", "seed", "trial", "selected", "scorer", "signal", "params"}
    return {k: v if k in kept else None for k, v in row.items()} | {"state": state, "reason": reason, "scorers": None,
                                                                    "signals": None}


def finish(rows: list[dict[str, Any]]) -> None:
    """Selects by val_accuracy, gives the selected trial its representation and the group its regret."""
    for method, split in dict.fromkeys((r["method"], r["split"]) for r in rows):
        group = [r for r in rows if (r["method"], r["split"]) == (method, split)]
        done = [r for r in group if r["state"] == "completed"]
        if not done:
            continue
        best = max(done, key=lambda r: (r["signal_value"], -r["trial"]))
        top = max(max(r["scorer_auroc"], *r["scorers"].values()) for r in done)
        held = min(0.998, best["oracle_detector_auroc"] + 0.04)
        best.update(selected=True, oracle_representation_auroc=held, representation_accuracy=0.95,
                    oracle_representation_ci=spread(held), representation_gap=held - best["oracle_detector_auroc"],
                    representation_gap_ci=[held - best["oracle_detector_auroc"] + move for move in (-0.02, 0.02)])
        for row in done:
            row.update(regret=top - best["scorer_auroc"], regret_crossfit=0.6 * (top - best["scorer_auroc"]))


def summary(
    *, methods: tuple[str, ...] = ("classifier", "hybrid"), splits: tuple[int, ...] = (0,), trials: int = 12,
    levels: dict[str, float] | None = None, failed: dict[str, int] | None = None, seed: int = 0, **over: Any,
) -> dict[str, Any]:
    """`failed` = {method: number of its trials, from the last, that failed}; `over` replaces top-level fields."""
    random = np.random.default_rng(seed)
    levels = {"classifier": 0.83, "hybrid": 0.86, **(levels or {})}
    rows = [
        failed_row(method, split, trial) if trial >= trials - (failed or {}).get(method, 0)
        else trial_row(method, split, trial, levels.get(method, 0.8) - 0.02 * split, random)
        for split in splits for method in methods for trial in range(trials)
    ]
    finish(rows)
    states = [row["state"] for row in rows]
    return {
        "study": "digits", "digest": "b1f4" * 16, "prior_reveals": 0, "contaminated": False, "nominal_only": False,
        "counts": {state: states.count(state) for state in ("completed", "failed", "pruned")}, "duplicates": 0,
        "rows": rows, **over,
    }


def nominal_only(**over: Any) -> dict[str, Any]:
    """A study without anomalies: trained, selected, nothing revealed."""
    made = summary(**over) | {"nominal_only": True}
    nominal = {"method", "split", "seed", "trial", "state", "reason", "selected", "scorer", "signal", "signal_value",
               "params", "signals", "train_seconds"}
    made["rows"] = [{k: v if k in nominal else None for k, v in row.items()} for row in made["rows"]]
    return made


def retrained(made: dict[str, Any], *, seeds: int = 3, move: float = 0.03) -> dict[str, Any]:
    """Adds rows of the selected trials trained again; `move` is how far a seed shifts AUROC."""
    again = []
    for row in [r for r in made["rows"] if r["selected"] and r["state"] != "retrained"]:
        for seed in range(1, seeds + 1):
            auroc = row["scorer_auroc"] + move * (-1) ** seed
            again.append(row | {"state": "retrained", "seed": seed, "selected": True, "scorer_auroc": auroc})
    return made | {"rows": made["rows"] + again}


def selection(made: dict[str, Any], ranking: list[str] | None = None) -> dict[str, Any]:
    chosen = [row for row in made["rows"] if row["selected"]]
    return {
        "study": made["study"], "rule": "val_accuracy, then val_nll, then the lower number",
        "selections": [
            {"method": r["method"], "split": r["split"], "trial": r["trial"], "scorer": "top_half_mean",
             "members": ["max_logit", "energy", "knn", "relative_mahalanobis"],
             "parameters": {"msp": {"temperature": 1.31}, "knn": {"k": 10}}, "signals": r["signals"],
             "finalists": [r["trial"]], "folds": [{"held_out": ["2", "7"], "pseudo_novel_auroc": {"max_logit": 0.91}}],
             "stop_epoch": 30, "weights_sha256": "0a" * 32}
            for r in chosen
        ],
        "method_ranking": ranking or sorted({r["method"] for r in chosen}, reverse=True),
        "digest": made.get("digest"), "frozen_at": "2025-11-24T23:10:00Z",
    }


def spec(**search: Any) -> dict[str, Any]:
    return {
        "name": "digits", "methods": ["classifier", "hybrid"],
        "data": {"source": "digits", "nominal_classes": 6, "splits": [0], "seeds": [0]},
        "training": {"network": "small_cnn", "epochs": 30},
        "search": {"trials": 12, "sampler": "tpe", "pruner": "none",
                   "space": {"hybrid": {"reconstruction_weight": {"low": 1e-3, "high": 10.0, "log": True}}}, **search},
        "selection": {"signal": "val_accuracy", "folds": 3, "scorer_rule": "top_half_mean"},
    }


def stamp() -> dict[str, Any]:
    return {
        "command": "oraclegap launch digits", "versions": {"torch": "2.14.1", "ray": "2.60.0", "optuna": "5.0.0"},
        "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False}, "device": "cpu, 2 cores",
        "data": {"view/0": "c0" * 32, "vault/0": "d1" * 32},
    }


NINE = ("classifier", "hybrid", "generalized_odin", "deep_ensemble", "svgd_ensemble", "auxiliary", "csi", "csi_unlabelled", "jem")
CHIEF = {  # each method's own scientific parameter: its range as summary.json holds it
    "hybrid": ("reconstruction_weight", {"low": 1e-3, "high": 10.0, "log": True}),
    "generalized_odin": ("temperature", {"low": 0.1, "high": 10.0, "log": True}),
    "deep_ensemble": ("members", {"options": [2, 3, 5]}),
    "svgd_ensemble": ("repulsion", {"low": 0.0, "high": 1.0, "log": False}),
    "auxiliary": ("rotation_weight", {"low": 0.01, "high": 1.0, "log": True}),
    "csi": ("contrast_temperature", {"low": 0.05, "high": 1.0, "log": True}),
    "csi_unlabelled": ("shift_weight", {"low": 0.0, "high": 1.0, "log": False}),
    "jem": ("sgld_steps", {"low": 5, "high": 20, "log": False}),
}
OWN = {"hybrid": ("reconstruction_error",), "generalized_odin": ("negative_g",), "jem": ("negative_gradient_norm", "approximate_mass"),
       "deep_ensemble": ("mutual_information",), "csi_unlabelled": ("csi_score",)}


def nine(*, splits: tuple[int, ...] = (0, 1, 2), trials: int = 12, failed: dict[str, int] | None = None,
         methods: tuple[str, ...] = NINE) -> dict[str, Any]:
    """A study of many methods: spaces with roles, each its chief parameter and own scorers. In the hybrid more mixup
    helps accuracy and hurts detection, more cutout helps both; nothing else has an effect."""
    levels = {name: 0.78 + 0.02 * index for index, name in enumerate(methods)}
    made = summary(methods=methods, splits=splits, trials=trials, levels=levels, failed=failed or {}, seed=3)
    random = np.random.default_rng(11)
    shared = {"learning_rate": {"low": 0.02, "high": 1.0, "log": True, "role": "nuisance", "natural": []},
              **{name: {"low": 0.0, "high": 0.5, "log": False, "role": "scientific", "natural": ["lower"]}
                 for name in ("label_smoothing", "crop_padding", "cutout", "mixup", "colour_jitter")}}
    made["spaces"] = {}
    for method in methods:
        own = {CHIEF[method][0]: {**CHIEF[method][1], "role": "scientific"}} if method in CHIEF else {}
        option = {"cross_entropy_weight": {"options": [1.0, 0.0], "role": "scientific"}} if method == "hybrid" else {}
        made["spaces"][method] = {**own, **option, **shared}
    for row in made["rows"]:
        row["params"] = {name: _drawn(limits, random) for name, limits in made["spaces"][row["method"]].items()}
        if row["state"] != "completed":
            row["reason"] = "diverged: loss is NaN in epoch 3"
            continue
        for name in OWN.get(row["method"], ()):
            row["scorers"][name] = float(np.clip(row["scorer_auroc"] - 0.1 + random.normal(0, 0.04), 0.3, 0.99))
        if row["method"] == "hybrid":
            mixup, cutout = row["params"]["mixup"], row["params"]["cutout"]
            row["closed_set_accuracy"] = 0.85 + 0.1 * mixup + 0.1 * cutout + float(random.normal(0, 0.003))
            row["scorer_auroc"] += 0.3 * (cutout - mixup)
            row["oracle_detector_auroc"] += 0.1 * (cutout - mixup)
    return made


def _drawn(limits: dict[str, Any], random: np.random.Generator) -> Any:
    if "options" in limits:
        return limits["options"][int(random.integers(len(limits["options"])))]
    low, high = limits["low"], limits["high"]
    value = float(10 ** random.uniform(np.log10(low), np.log10(high)) if limits["log"] else random.uniform(low, high))
    return round(value) if isinstance(low, int) else value
