"""The checks of an audit that compute again what was measured: reveals from scores, the summary from reveals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from study.audit_found import Found, Verdict, alike, is_whole, listed, same, verdict
from study.ledger import TrialRecord
from study.selection import frozen_rule
from trainables.data import read_manifest
from trainables.files import canonical_json, digest_of, read_arrays, read_json


def reveals(found: Found) -> Verdict:
    """Every measured number is of this selection and of the trial's weights; AUROCs are computed again from the scores."""
    if not found.revealed:
        return "open", "nothing is revealed yet"
    problems, unmeasured, again = [], [], 0
    for entry in found.entries():
        folder = found.folder / "reveal" / entry["method"] / str(entry["split"])
        vault = read_manifest(found.folder / "vault" / str(entry["split"]))
        mask = np.repeat([False, True], [vault["counts"]["test_nominal"], vault["counts"].get("test_anomaly", 0)])
        for trial in found.completed:
            if (trial.method, trial.split) != (entry["method"], entry["split"]) or not vault.get("anomaly_classes"):
                continue
            weights = (read_json(found.home(trial) / "result.json") or {}).get("weights_sha256")
            path = folder / f"{trial.number}.json"
            problems += _seed_problems(found, entry, path, trial)
            if "reason" in ((read_json(path) or {}).get("result") or {}):
                unmeasured.append(trial.key)
                continue
            problem = _reveal_problem(path, entry, vault, mask, weights)
            again += not problem
            problems += [f"{trial.key}: {problem}"] if problem else []
    if not problems and unmeasured:
        return "doubt", f"{listed(unmeasured)} could not be measured; the AUROCs of {again} others are those of their scores"
    return verdict(problems, f"AUROCs of {again} trials, computed again from the scores of every test image, are those reported")


def _seed_problems(found: Found, entry: dict[str, Any], path: Path, trial: TrialRecord) -> list[str]:
    """Reveals of the selected configuration's other seeds, as far as they were trained, are whole."""
    problems = []
    for seed in found.spec.data.seeds[1:] if trial.number == entry["trial"] else []:
        other = path.with_name(f"{trial.number}-{seed}.json")
        stored = read_json(other) if other.exists() else None
        whole = stored and stored.get("inputs_digest") == digest_of(stored["inputs"]) \
            and stored.get("result_digest") == digest_of(stored["result"]) \
            and all(is_whole(other.parent / name, digest) for name, digest in stored["result"].get("files", {}).items())
        if other.exists() and not whole:
            problems.append(f"{trial.key} seed {seed}: {other.name} or its scores were changed")
    return problems


def _reveal_problem(path: Path, entry: dict[str, Any], vault: dict, mask: np.ndarray, weights: str | None) -> str:
    from analysis.metrics import auroc

    stored = read_json(path) or {}
    inputs, result = stored.get("inputs") or {}, stored.get("result") or {}
    if stored.get("inputs_digest") != digest_of(inputs) or stored.get("result_digest") != digest_of(result):
        return f"{path.name} is missing or was changed"
    if inputs["rule"] != frozen_rule(entry):
        return "measured under another selection"
    if inputs["weights"] != weights or inputs["vault"] != vault["digest"]:
        return "measured with other weights or another vault"
    for name, digest in result["files"].items():
        if not is_whole(path.parent / name, digest):
            return f"{name} is missing or was changed"
    scores = read_arrays(path.with_suffix(".safetensors"))
    told = {**result["scorers"], "frozen_rule": result["scorer_auroc"], "oracle_detector": result["oracle_detector_auroc"],
            "linear_oracle": result["linear_oracle_auroc"]}
    wrong = [name for name, value in told.items()
             if value is not None and not same(auroc(scores[f"score/{name}"], mask), value)]
    return f"AUROC of {wrong[0]} is not that of its scores" if wrong else ""


def summary(found: Found) -> Verdict:
    """report/summary.json says what the reveals say."""
    from study.analyse import gathered

    path = found.folder / "report" / "summary.json"
    if not path.exists() or not found.selection:
        return "open", "there is no report yet"
    stored = read_json(path)
    if not isinstance(stored, dict):
        return "failed", f"{path} is torn; `oraclegap report` writes it anew"
    made = json.loads(canonical_json(gathered(found.study.ledger(), found.folder)))  # as JSON says it: keys are text
    moved = not any(line["selection"] == made["digest"] for line in found.log)  # whose earlier looks are told elsewhere
    differ = [key for key in {**made, **stored}
              if not (moved and key == "prior_reveals") and not alike(stored.get(key), made.get(key))]
    if "rows" in differ and len(stored.get("rows") or []) == len(made["rows"]):
        pairs = zip(stored["rows"], made["rows"], strict=True)
        first = next((new, [k for k in new if not alike(old.get(k), new[k])]) for old, new in pairs
                     if not alike(old, new))
        row, keys = first
        return "failed", f"summary.json differs in {row['method']}/{row['split']}/{row['trial']}: {', '.join(keys[:4])}"
    if differ:
        return "failed", f"summary.json differs in {', '.join(differ[:4])}; `oraclegap report` writes it anew"
    return "ok", f"summary.json has the {len(made['rows'])} rows that ledger and reveals give"
