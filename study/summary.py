"""summary.json: one row for every ended trial and retrained seed, gathered from ledger, selection and reveals."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from study.errors import UserError
from study.ledger import Ledger, TrialRecord
from study.reveal_log import contaminated, prior_reveals
from study.selection import frozen_rule, frozen_selection
from study.spec import StudySpec
from study.summary_schema import SCHEMA_VERSION
from trainables.files import read_arrays, read_json

#: Keys that a reveal fills; a row without anomalies, or of a failed trial, holds null for each.
REVEALED = (
    "closed_set_accuracy", "scorer_auroc", "scorer_auroc_ci", "oracle_detector_auroc", "oracle_detector_ci",
    "linear_oracle_auroc", "member_oracle_aurocs", "oracle_representation_auroc", "oracle_representation_ci",
    "representation_reason", "extraction_gap", "extraction_gap_ci", "extraction_gap_p_value",
    "extraction_gap_max_logit", "representation_gap", "representation_gap_ci", "representation_gap_p_value",
    "aupr_anomaly", "aupr_nominal", "fpr_at_95_tpr", "equal_error_rate", "anomalies_missed_at_95_acceptance", "oscr",
)


def summarise(ledger: Ledger, folder: Path) -> dict[str, Any]:
    """Builds the summary, writes nothing. Needs a frozen selection; reveals may be missing."""
    spec, selection = ledger.spec, frozen_selection(folder)
    vaults = [read_json(folder / "vault" / str(split) / "manifest.json") for split in spec.data.splits]
    trials = ledger.trials()
    rows = []
    for method, split in ledger.names():
        entry = next((e for e in selection["selections"] if (e["method"], e["split"]) == (method, split)), None)
        rows += _rows_of(spec, folder, entry, [t for t in trials if (t.method, t.split) == (method, split)])
    if None in vaults:
        raise UserError(f"{folder / 'vault'}: the sealed side of the data is missing; put it back")
    digests = [vault["digest"] for vault in vaults if vault["anomaly_classes"]]
    return {
        "schema_version": SCHEMA_VERSION, "study": spec.name, "digest": selection["digest"], "frozen_at": selection["frozen_at"],
        "prior_reveals": prior_reveals(folder, selection["digest"], digests), "contaminated": contaminated(folder, selection["digest"]),
        "nominal_only": not digests, "revealed": any(row["scorer_auroc"] is not None for row in rows),
        "counts": {state: sum(t.state == state for t in trials) for state in ("completed", "failed", "pruned")},
        "duplicates": _duplicates(spec, folder, vaults), "method_ranking": selection["method_ranking"],
        "nominal_classes": {str(s): read_json(folder / "view" / str(s) / "manifest.json")["classes"]
                            for s in spec.data.splits},
        "spaces": {method: _ranges(spec, method) for method in spec.methods},
        "comparisons": _comparisons(spec, folder, rows), "rows": rows, "questions": {},
    }


def _rows_of(spec: StudySpec, folder: Path, entry: dict | None, trials: list[TrialRecord]) -> list[dict[str, Any]]:
    rows, measured = [], {}
    seeds, novel = spec.data.seeds, read_json(folder / "folds.json") or {}
    for trial in trials:
        if trial.state not in ("completed", "failed", "pruned"):
            continue
        found = _revealed(folder, trial, entry, seed=None)
        selected = entry is not None and trial.number == entry["trial"]
        if trial.key in novel:
            trial = replace(trial, signals={**trial.signals, "pseudo_novel_auroc": novel[trial.key]})
        rows.append(_row(spec, entry, trial, found, seed=seeds[0], selected=selected, state=trial.state))
        if found:
            measured[trial.number] = found
    for seed in seeds[1:] if entry and measured else []:
        trial = next(t for t in trials if t.number == entry["trial"])
        found = _revealed(folder, trial, entry, seed=seed)
        state = "retrained" if found else "failed"
        reason = None if found else "the retraining or its reveal failed; launch again to retry what can be"
        retrained = replace(trial, signals=(found or {}).get("signals", {}), reason=reason,
                            train_seconds=(found or {}).get("train_seconds"))
        rows.append(_row(spec, entry, retrained, found, seed=seed, selected=True, state=state))
    regrets = _regrets(entry, measured)
    return [{**row, **regrets} for row in rows]


def _row(spec, entry, trial: TrialRecord, found: dict | None, *, seed: int, selected: bool, state: str) -> dict:
    found = found or {}
    signal = spec.selection.signal
    return {
        "method": trial.method, "split": trial.split, "seed": seed, "trial": trial.number, "state": state,
        "retrained": seed != spec.data.seeds[0], "pretrained": Path(spec.training.pretrained_of(trial.method)).name or None,
        "reason": trial.reason, "selected": selected, "scorer": entry["scorer"] if entry else None,
        "members": entry["members"] if entry else None, "signal": signal, "signal_value": trial.signals.get(signal),
        "signals": trial.signals, "params": trial.params, "train_seconds": trial.train_seconds,
        **{key: found.get(key) for key in REVEALED}, "scorers": found.get("scorers", {}),
    }


def _revealed(folder: Path, trial: TrialRecord, entry: dict | None, *, seed: int | None) -> dict[str, Any] | None:
    """What was measured under the selection that stands, not under one before it."""
    name = f"{trial.number}.json" if seed is None else f"{trial.number}-{seed}.json"
    stored = read_json(folder / "reveal" / trial.method / str(trial.split) / name)
    result, rule = (stored or {}).get("result") or {}, (stored or {}).get("inputs", {}).get("rule")
    stands = entry is not None and rule == frozen_rule(entry)
    return result if stands and "scorer_auroc" in result else None


def _regrets(entry: dict | None, measured: dict[int, dict]) -> dict[str, float | None]:
    """AUROC lost by choosing without labels: over completed trials × (scorers and the frozen rule)."""
    from analysis.gaps import FROZEN_RULE, regret, regret_from_halves

    if entry is None or entry["trial"] not in measured:
        return {"regret": None, "regret_crossfit": None}
    table = {n: {**row["scorers"], FROZEN_RULE: row["scorer_auroc"]} for n, row in measured.items()}
    halves = {n: row["half_aurocs"] for n, row in measured.items()}
    return {"regret": regret(table, entry["trial"]), "regret_crossfit": regret_from_halves(halves, entry["trial"])}


def _comparisons(spec: StudySpec, folder: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Paired DeLong of the selected trials of every two methods of a split, on the same test images."""
    from analysis.uncertainty import paired_delong

    found = []
    for split in spec.data.splits:
        chosen = [r for r in rows if r["split"] == split and r["selected"] and r["state"] == "completed"
                  and r["scorer_auroc"] is not None]
        scores = [read_arrays(folder / "reveal" / r["method"] / str(split) / f"{r['trial']}.safetensors") for r in chosen]
        counts = read_json(folder / "vault" / str(split) / "manifest.json")["counts"]
        is_anomaly = np.repeat([False, True], [counts["test_nominal"], counts.get("test_anomaly", 0)])  # reveal's order
        for (first, mine), (second, theirs) in combinations(zip(chosen, scores, strict=True), 2):
            paired = paired_delong(mine["score/frozen_rule"], theirs["score/frozen_rule"], is_anomaly)
            found.append({
                "first": first["method"], "second": second["method"], "split": split,
                "difference": paired.difference, "ci": [paired.low, paired.high], "p_value": paired.p_value,
            })
    return found


def _ranges(spec: StudySpec, method: str) -> dict[str, dict[str, Any]]:
    """What was searched: bounds, or numeric options, and role of every numeric parameter, in the space's own order.

    ``natural`` names the edges beyond which there is nothing, such as a dropout of 0.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, p in spec.space(method).searched().items():
        if hasattr(p, "low"):
            found[name] = {"low": p.low, "high": p.high, "log": p.log, "role": p.role,
                           "natural": ["lower"] * (p.low <= p.legal[0]) + ["upper"] * (p.high >= p.legal[1])}
        elif p.numeric:
            found[name] = {"options": list(p.options), "role": p.role}
    return found


def _duplicates(spec: StudySpec, folder: Path, vaults: list[dict | None]) -> dict[str, int]:
    views = [read_json(folder / "view" / str(split) / "manifest.json") or {} for split in spec.data.splits]
    return {
        "nominal_moved": sum(view.get("duplicates_moved", 0) for view in views),
        "anomalous_copies_dropped": sum((vault or {}).get("anomalous_copies_dropped", 0) for vault in vaults),
        "skipped_files": sum(len((side or {}).get("skipped", [])) for side in [*views, *vaults]),
    }
