"""The checks of ``oraclegap audit``, in the order in which a study comes about. Each returns (state, words)."""

from __future__ import annotations

import json
from typing import Any

from analysis.summary_rows import plural
from study.audit_found import Found, Verdict, same, verdict
from study.audit_sums import reveals, summary
from study.ledger import TrialRecord
from study.reveal_log import contaminated
from study.selection import scorers_in_use
from study.warm_start import FILE as WARM_START
from study.warm_start import remembered
from trainables.data import MANIFEST, VIEW_PARTS, load_part, read_manifest, verify_folder
from trainables.files import canonical_json, derive_seed, digest_of, read_json

VAULT_PARTS = ("train", "validation", "test_nominal", "test_anomaly")


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
    return verdict(problems, f"{plural(files, 'file')} of {plural(len(found.spec.data.splits), 'split')}: each has the SHA-256 it was written with")


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
    remembered(found.spec, found.folder)  # raises where it is not what the sampler was given
    if (read_json(found.folder / WARM_START) or {}).get("digest") != found.stamp.get("warm_start"):
        problems.append(f"{found.folder / WARM_START} is not the one that stamp.json names")
    for trial in found.completed:
        home = found.home(trial)
        result, config = read_json(home / "result.json"), read_json(home / "config.json")
        if result is None or config is None:
            problems.append(f"{trial.key}: result.json or config.json is missing or torn")
        elif config != _record(found, trial):
            problems.append(f"{trial.key}: config.json is not what ledger, spec and view give")
        elif any(not same(trial.signals.get(name), value) for name, value in result["signals"].items()):
            problems.append(f"{trial.key}: result.json and ledger differ in a signal")
        else:
            problems += [f"{trial.key}: {name} is missing or not what was measured"
                         for name, digest in (("model.safetensors", result["weights_sha256"]),
                                              ("features.safetensors", result["features_sha256"]))
                         if not found.is_whole(home / name, digest)]
    ended = sum(trial.state in ("completed", "failed", "pruned") for trial in found.trials)
    asked = found.spec.search.trials * len(found.spec.methods) * len(found.spec.data.splits)
    if not problems and ended < asked:
        return "doubt", f"{ended} of {asked} trials ended; those that did are whole"
    if not problems and (removed := found.removed("trials")):
        return "doubt", f"{len(found.completed)} completed trials: ledger and files agree, but {removed}"
    return verdict(problems, f"{len(found.completed)} completed trials: ledger, files and SHA-256 agree")


def _record(found: Found, trial: TrialRecord) -> dict[str, Any]:
    """What config.json of a trial must hold."""
    return json.loads(canonical_json({
        "method": trial.method, "split": trial.split, "number": trial.number, "params": trial.params,
        "seed": derive_seed("trial", found.spec.data.seeds[0], trial.method, trial.split, trial.number),
        "training": found.spec.training.for_method(trial.method),
        "view_digest": read_manifest(found.folder / "view" / str(trial.split))["digest"],
    }))


def jobs(found: Found) -> Verdict:
    """Fold models, retrained seeds and oracle representations are what their results say."""
    problems, count = [], 0
    for folder in sorted((found.folder / "jobs").glob("*/*")):
        if not (folder / "result.json").exists() and not (folder / "model" / "result.json").exists():
            continue  # not finished; a launch runs it again
        stored, name = read_json(folder / "result.json") or {}, f"{folder.parent.name}/{folder.name}"
        count += 1
        inputs, result = stored.get("inputs"), stored.get("result") or {}
        if stored.get("inputs_digest") != digest_of(inputs) or stored.get("result_digest") != digest_of(result):
            problems.append(f"{name}: result.json is missing or was changed")
            continue
        files = {folder / file: digest for file, digest in result.get("files", {}).items()}
        model = read_json(folder / "model" / "result.json")
        if model and "weights_sha256" in model:
            files[folder / "model" / "model.safetensors"] = result.get("weights_sha256", model["weights_sha256"])
            files[folder / "model" / "features.safetensors"] = model["features_sha256"]
        elif "reason" not in result and (folder / "model").exists():
            problems.append(f"{name}: model/result.json is missing or torn")
        problems += [f"{name}: {path.relative_to(folder)} is missing or was changed"
                     for path, digest in files.items() if not found.is_whole(path, digest)]
    if not problems and (removed := found.removed("jobs")):
        return "doubt", f"{count} fold models, retrained seeds and oracle representations: the results are whole, but {removed}"
    return verdict(problems, f"{count} fold models, retrained seeds and oracle representations have their SHA-256")


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
    opened = [line["at"] for line in found.log if line["selection"] == digest and line["study"] == found.spec.name]
    if not opened:
        return "doubt", f"{found.folder.parent / 'reveals.jsonl'} does not tell when the vault was opened (the study was moved here, perhaps)"
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
    where = str(found.folder.parent)
    if source := found.spec.search.warm_start:
        where += f" or by {source}, whose trials the sampler remembered,"
    digests = [read_manifest(found.folder / "vault" / str(split))["digest"] for split in found.spec.data.splits]
    number = prior_reveals(found.folder, found.selection["digest"], digests)
    if number:
        return "doubt", f"{number} other selections under {where} had opened one of these vaults before"
    return "ok", f"no other selection under {where} had opened these vaults before"


# ---------------------------------------------------------------------------------------------------- made with what
def code(found: Found) -> Verdict:
    """With what it was made."""
    git, packages = found.stamp.get("git"), found.stamp.get("packages") or {}
    if not packages:
        return "doubt", "stamp.json is missing: nobody knows what made this"
    made = f"{found.stamp['made_at']} with oraclegap {packages.get('oraclegap', '?')}, torch {packages.get('torch', '?')}"
    if git and git["dirty"]:
        return "doubt", f"{made}, from commit {git['commit'][:8]} with uncommitted changes"
    return "ok", made + (f", commit {git['commit'][:8]}" if git else "")


def _seconds(moment: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(moment).timestamp()


CHECKS = {
    "data": data, "separation": separation, "trials": trials, "jobs": jobs, "selection": selection, "order": order,
    "earlier looks": earlier_looks, "reveals": reveals, "summary": summary, "code": code,
}
