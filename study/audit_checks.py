"""The checks of ``oraclegap audit``, in the order in which a study comes about. Each returns (state, words)."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from study.audit import listed
from study.ledger import TrialRecord
from study.reveal_log import contaminated
from study.selection import frozen_rule, frozen_selection, scorers_in_use
from trainables.data import MANIFEST, VIEW_PARTS, load_part, read_manifest, verify_folder
from trainables.files import digest_of, read_arrays, read_json, sha256_of_file

if TYPE_CHECKING:
    from study.api import Study
    from study.spec import StudySpec

TOLERANCE = 1e-9
VAULT_PARTS = ("train", "validation", "test_nominal", "test_anomaly")
Verdict = tuple[str, str]


@dataclass(frozen=True, eq=False)
class Found:
    """What lies in a study's folder. ``selection`` as the file says, its digest not yet checked."""

    spec: StudySpec
    folder: Path
    study: Study
    trials: list[TrialRecord]
    selection: dict[str, Any] | None

    @classmethod
    def of(cls, study: Study) -> Found:
        trials = study.ledger().trials() if study.has_ledger() else []
        return cls(study.spec, study.folder, study, trials, read_json(study.folder / "selection.json"))

    @cached_property
    def revealed(self) -> bool:
        return any((self.folder / "reveal").glob("*/*/*.json"))

    @cached_property
    def stamp(self) -> dict[str, Any]:
        return read_json(self.folder / "stamp.json") or {}

    @property
    def completed(self) -> list[TrialRecord]:
        return [trial for trial in self.trials if trial.state == "completed"]

    def home(self, trial: TrialRecord) -> Path:
        from trainables.trainable import trial_folder

        return trial_folder(self.folder, trial.method, trial.split, trial.number)

    def entries(self) -> list[dict[str, Any]]:
        return frozen_selection(self.folder)["selections"] if self.selection else []


def verdict(problems: list[str], well: str) -> Verdict:
    return ("failed", listed(problems)) if problems else ("ok", well)


# ----------------------------------------------------------------------------------------------------------- data
def data(found: Found) -> Verdict:
    """Both sides of the prepared data are what was written; the stamp and the reveals name the same."""
    problems, files = [], 0
    for split in found.spec.data.splits:
        for side, known in (("view", (found.stamp.get("data") or {}).get(str(split), {}).get("view")),
                            ("vault", (found.stamp.get("vaults") or {}).get(str(split)))):
            folder = found.folder / side / str(split)
            try:
                manifest = verify_folder(folder)
            except (ValueError, OSError) as error:
                problems.append(str(error))
                continue
            files += len(manifest["files"])
            if known and known != manifest["digest"]:
                problems.append(f"{folder / MANIFEST} is not the one that stamp.json names")
    return verdict(problems, f"{files} files of {len(found.spec.data.splits)} splits have the SHA-256 they were written with")


def separation(found: Found) -> Verdict:
    """No image lies on both sides, and the view's classes are the nominal ones. Looks at the vault only after a reveal."""
    if not found.revealed:
        return "open", "images are compared across the two sides only once the anomalies are revealed"
    problems, count = [], 0
    for split in found.spec.data.splits:
        view, vault = found.folder / "view" / str(split), found.folder / "vault" / str(split)
        sealed = {row.tobytes() for part in VAULT_PARTS if (vault / f"{part}_images.npy").exists()
                  for row in load_part(vault, part)[0]}
        for part in VIEW_PARTS:
            images = load_part(view, part)[0]
            count += len(images)
            both = sum(row.tobytes() in sealed for row in images)
            if both:
                problems.append(f"split {split}: {both} {part} images lie in the vault too")
        shared = set(read_manifest(view)["classes"]) & set(read_manifest(vault).get("anomaly_classes", []))
        if shared:
            problems.append(f"split {split}: {', '.join(sorted(shared))} both nominal and anomalous")
    return verdict(problems, f"none of {count:,} nominal training and validation images is among the sealed ones")


# --------------------------------------------------------------------------------------------------------- trials
def trials(found: Found) -> Verdict:
    """Ledger and files tell the same of every trial, and the weights are those that were measured."""
    problems = []
    for trial in found.completed:
        home = found.home(trial)
        result, config = read_json(home / "result.json"), read_json(home / "config.json")
        if result is None or config is None:
            problems.append(f"{trial.key}: result.json or config.json is missing or torn")
        elif config.get("params") != trial.params:
            problems.append(f"{trial.key}: config.json and ledger differ in the configuration")
        elif any(not _same(trial.signals.get(name), value) for name, value in result["signals"].items()):
            problems.append(f"{trial.key}: result.json and ledger differ in a signal")
        else:
            problems += [f"{trial.key}: {name} is missing or not what was measured"
                         for name, digest in (("model.safetensors", result["weights_sha256"]),
                                              ("features.safetensors", result["features_sha256"]))
                         if not _is(home / name, digest)]
    ended = sum(trial.state in ("completed", "failed", "pruned") for trial in found.trials)
    asked = found.spec.search.trials * len(found.spec.methods) * len(found.spec.data.splits)
    if not problems and ended < asked:
        return "doubt", f"{ended} of {asked} trials ended; those that did are whole"
    return verdict(problems, f"{len(found.completed)} completed trials: ledger, files and SHA-256 agree")


# ------------------------------------------------------------------------------------------------------ selection
def selection(found: Found) -> Verdict:
    """selection.json is as it was frozen, by the rule of the spec, and what its signals lead to."""
    from analysis.fusion import members_of, rank_scorers, rule_needs_folds
    from study.ranking import best_trials
    from trainables.methods import get_method

    if not found.selection:
        return "open", "nothing is frozen yet"
    entries, problems = found.entries(), []
    if found.selection["rule"] != found.spec.selection.model_dump():
        problems.append("the rule in selection.json is not the one in spec.toml")
    for entry in entries:
        where = f"{entry['method']}/{entry['split']}"
        mine = [t for t in found.completed if (t.method, t.split) == (entry["method"], entry["split"])]
        images = len(load_part(found.folder / "view" / str(entry["split"]), "validation")[1])
        best = [t.number for t in best_trials(mine, found.spec, validation_images=images)]
        if entry["trial"] not in best:
            problems.append(f"{where}: trial {entry['trial']} was chosen, signals say {best[0]}")
        built = get_method(entry["method"])
        names = scorers_in_use(found.spec, built.own_scorers, linear_head=built.linear_head)
        folds = [fold["auroc"] for fold in entry["folds"] if "auroc" in fold]
        if rule_needs_folds(entry["scorer"]) and folds:
            expected = members_of(entry["scorer"], rank_scorers(folds, names))
            if expected != entry["members"]:
                problems.append(f"{where}: {', '.join(entry['members'])} were chosen, fold models say {', '.join(expected)}")
        problems += _fold_records_differ(found, entry, where)
    return verdict(problems, f"digest {found.selection['digest'][:16]} verifies; trials and scorers follow from nominal signals")


def _fold_records_differ(found: Found, entry: dict[str, Any], where: str) -> list[str]:
    """The fold AUROCs in selection.json are those of jobs that lie on the disk, whole."""
    known = []
    for path in (found.folder / "jobs" / "fold").glob("*/result.json"):
        stored = read_json(path) or {}
        if stored.get("result_digest") != digest_of(stored.get("result")):
            continue
        known.append((stored["inputs"]["held_out"], stored["result"].get("auroc")))
    lost = [fold["held_out"] for fold in entry["folds"]
            if "auroc" in fold and (fold["held_out"], fold["auroc"]) not in known]
    return [f"{where}: no fold model on the disk says what selection.json says of {', '.join(lost[0])}"] if lost else []


def order(found: Found) -> Verdict:
    """Frozen first, revealed after, and nothing chosen again with the answer known."""
    if not found.revealed:
        return "open", "nothing is revealed yet"
    digest, frozen_at = found.selection["digest"], found.selection["frozen_at"]
    if contaminated(found.folder, digest):
        return "failed", "contaminated: another selection of this study had been revealed before this one was frozen"
    log = found.folder.parent / "reveals.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")] if log.exists() else []
    opened = [line["at"] for line in lines if line["selection"] == digest and line["study"] == found.spec.name]
    if not opened:
        return "doubt", f"{log} does not tell when the vault was opened (the study was moved here, perhaps)"
    late = [trial.key for trial in found.completed if (trial.ended_at or 0) > _seconds(min(opened)) + 1]
    if min(opened) < frozen_at or late:
        return "failed", f"the vault was opened at {min(opened)}, before " + (
            f"the selection was frozen at {frozen_at}" if min(opened) < frozen_at else f"{late[0]} ended")
    return "ok", f"frozen at {frozen_at}, the vault first opened at {min(opened)}"


def earlier_looks(found: Found) -> Verdict:
    """Other selections that had opened the same vault: not this study's fault, but whoever tuned it may have known."""
    from study.reveal_log import prior_reveals

    if not found.revealed:
        return "open", "nothing is revealed yet"
    digests = [read_manifest(found.folder / "vault" / str(split))["digest"] for split in found.spec.data.splits]
    number = prior_reveals(found.folder, found.selection["digest"], digests)
    if number:
        return "doubt", f"{number} other selections under {found.folder.parent} had opened one of these vaults before"
    return "ok", f"no other selection under {found.folder.parent} had opened these vaults before"


# --------------------------------------------------------------------------------------------------- measurements
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
            if "reason" in ((read_json(path) or {}).get("result") or {}):
                unmeasured.append(trial.key)
                continue
            problem = _reveal_problem(path, entry, vault, mask, weights)
            again += not problem
            problems += [f"{trial.key}: {problem}"] if problem else []
    if not problems and unmeasured:
        return "doubt", f"{listed(unmeasured)} could not be measured; the AUROCs of {again} others are those of their scores"
    return verdict(problems, f"AUROCs of {again} trials, computed again from the scores of every test image, are the reported")


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
        if not _is(path.parent / name, digest):
            return f"{name} is missing or was changed"
    scores = read_arrays(path.with_suffix(".safetensors"))
    told = {**result["scorers"], "frozen_rule": result["scorer_auroc"], "oracle_detector": result["oracle_detector_auroc"],
            "linear_oracle": result["linear_oracle_auroc"]}
    wrong = [name for name, value in told.items()
             if value is not None and not _same(auroc(scores[f"score/{name}"], mask), value)]
    return f"AUROC of {wrong[0]} is not that of its scores" if wrong else ""


def summary(found: Found) -> Verdict:
    """report/summary.json says what the reveals say."""
    from study.summary import summarise

    stored = read_json(found.folder / "report" / "summary.json")
    if stored is None or not found.selection:
        return "open", "there is no report yet"
    made = summarise(found.study.ledger(), found.folder)
    differ = [key for key, value in made.items()
              if key not in ("questions", "prior_reveals") and not _alike(stored.get(key), value)]
    if "rows" in differ and len(stored.get("rows") or []) == len(made["rows"]):
        pairs = zip(stored["rows"], made["rows"], strict=True)
        first = next((new, [k for k in new if not _alike(old.get(k), new[k])]) for old, new in pairs
                     if not _alike(old, new))
        row, keys = first
        return "failed", f"summary.json differs in {row['method']}/{row['split']}/{row['trial']}: {', '.join(keys[:4])}"
    if differ:
        return "failed", f"summary.json differs in {', '.join(differ[:4])}; `oraclegap report` writes it anew"
    return "ok", f"summary.json has the {len(made['rows'])} rows that ledger and reveals give"


def code(found: Found) -> Verdict:
    """With what it was made."""
    git, packages = found.stamp.get("git"), found.stamp.get("packages") or {}
    if not packages:
        return "doubt", "stamp.json is missing: nobody knows what made this"
    made = f"{found.stamp['made_at']} with oraclegap {packages.get('oraclegap', '?')}, torch {packages.get('torch', '?')}"
    if git and git["dirty"]:
        return "doubt", f"{made}, from commit {git['commit'][:8]} with uncommitted changes"
    return "ok", made + (f", commit {git['commit'][:8]}" if git else "")


CHECKS = {
    "data": data, "separation": separation, "trials": trials, "selection": selection, "order": order,
    "earlier looks": earlier_looks, "reveals": reveals, "summary": summary, "code": code,
}


def _is(path: Path, digest: str) -> bool:
    return path.is_file() and sha256_of_file(path) == digest


def _same(one: Any, other: Any) -> bool:
    """Equal numbers up to rounding; null is null, NaN is NaN."""
    if one is None or other is None:
        return one is other
    return (math.isnan(one) and math.isnan(other)) or abs(one - other) <= TOLERANCE


def _alike(one: Any, other: Any) -> bool:
    """Equal JSON, numbers up to rounding."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, float) and isinstance(other, int | float) and not isinstance(other, bool):
        return _same(one, other)
    return one == other


def _seconds(moment: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(moment).timestamp()
