"""Reveal: the first moment at which anomalies are looked at, and only under a frozen selection.

Every completed trial is embedded on the vault's images; scorers, the frozen rule and the oracles are measured on the
same test images. All of it is jobs: resumable one by one, identical when run again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from study.errors import UserError
from study.folds import cached_features, features_of
from study.jobs import Job, in_store, run_jobs, settings_of
from study.ledger import Ledger, TrialRecord
from study.ranking import best_trials, finalists_of
from study.reveal_log import log_reveal
from study.runtime import Cluster
from study.selection import frozen_rule, frozen_selection, scorers_in_use
from study.vault import Vault
from trainables.files import derive_seed, read_json, write_json

FOREST_SEED = 0


def reveal(
    ledger: Ledger, folder: Path, cluster: Cluster, *, views: dict[int, Any],
    on_job: Callable[[Job, dict], None] | None = None,
) -> list[dict[str, Any]]:
    """Measures every completed trial and retrained seed; returns the results of all jobs (none without anomalies).

    Raises ``UserError`` without a frozen selection whose digest verifies, or where trials came after it.
    """
    selection = frozen_selection(folder)
    _require_current(selection, ledger, folder, views)
    try:
        vaults = {split: Vault.load(folder / "vault" / str(split)) for split in ledger.spec.data.splits}
    except ValueError as error:
        raise UserError(str(error)) from None
    if not any(vault.has_anomalies for vault in vaults.values()):
        return []
    log_reveal(folder, ledger.spec.name, selection["digest"], sorted(v.digest for v in vaults.values()))
    stamp = read_json(folder / "stamp.json") or {}
    write_json(folder / "stamp.json", {**stamp, "vaults": {str(split): v.digest for split, v in vaults.items()}})
    references = {split: in_store(view) for split, view in views.items()}
    entries = [e for e in selection["selections"] if vaults[e["split"]].has_anomalies]
    plans = [_Reveal(ledger, folder, cluster, e, references[e["split"]], vaults[e["split"]]) for e in entries]
    trained = {plan: [plan.representation_job(), *plan.retrain_jobs()] for plan in plans}
    missing = {plan: {job.key for job in jobs} for plan, jobs in trained.items()}
    longest_first = [jobs[0] for jobs in trained.values()] + [job for jobs in trained.values() for job in jobs[1:]]

    def then(job: Job) -> list[Job]:
        """Its reveals, where no other of its (method, split) is left to train: none waits for those of another."""
        plan = next((plan for plan, keys in missing.items() if job.key in keys), None)
        if plan is None:
            return []
        missing[plan].remove(job.key)
        return [] if missing[plan] else plan.reveal_jobs()

    return run_jobs(longest_first, folder, cluster, on_done=on_job, then=then)


def _require_current(selection: dict[str, Any], ledger: Ledger, folder: Path, views: dict[int, Any]) -> None:
    """The choice must have been made among all trials that there are: once anomalies are seen, none can be made again."""
    chosen = {(e["method"], e["split"]): finalists_of(e) for e in selection["selections"]}
    for name in ledger.names():
        trials = best_trials(ledger.trials(*name), ledger.spec, validation_images=len(views[name[1]].validation_labels))
        if [trial.number for trial in trials] != chosen.get(name, []):
            raise UserError(f"{folder}: trials of {name[0]}, split {name[1]}, came after the selection was frozen, which would choose "
                            f"otherwise now; run `oraclegap freeze {folder}` first")


class _Reveal:
    """The jobs of one (method, split)."""

    def __init__(self, ledger: Ledger, folder: Path, cluster: Cluster, entry: dict, view, vault: Vault):
        from trainables.methods import get_method

        self.spec, self.folder, self.entry, self.view, self.vault = ledger.spec, folder, entry, view, vault
        self.method, self.split = entry["method"], entry["split"]
        self.trials = [t for t in ledger.trials(self.method, self.split) if t.state == "completed"]
        self.selected = next(t for t in self.trials if t.number == entry["trial"])
        self.settings = settings_of(self.spec, folder, cluster, self.method)
        self.training = self.spec.training.for_method(self.method)
        built = get_method(self.method)
        self.scorers = scorers_in_use(self.spec, built.own_scorers, linear_head=built.linear_head)
        self.latent_parts = built.latent_parts(self.selected.params)

    def representation_job(self) -> Job:
        """The selected configuration trained on all classes."""
        seed = derive_seed("representation", self.spec.data.seeds[0], self.method, self.split, self.selected.number)
        plain = {"method": self.method, "params": self.selected.params, "seed": seed}
        return Job(
            kind="representation", run=train_representation, label=f"oracle representation of {self.method}/{self.split}",
            inputs={**plain, "training": self.training, "vault": self.vault.digest, "view": self._view_digest()},
            arguments={**plain, "view": self.view, "vault_folder": self._vault_folder(), "settings": self.settings},
        )

    def retrain_jobs(self) -> list[Job]:
        """The frozen configuration for every seed but the first, on nominal images as the trial was."""
        return [self._retrain_job(seed) for seed in self.spec.data.seeds[1:]]

    def reveal_jobs(self) -> list[Job]:
        """One for every completed trial, then one for every retrained seed."""
        from trainables.trial import trial_folder

        jobs = [
            self._job(trial, trial_folder(self.folder, trial.method, trial.split, trial.number), seed=None)
            for trial in self.trials
        ]
        for seed in self.spec.data.seeds[1:]:
            job = self._retrain_job(seed)
            if "weights_sha256" in (job.result(self.folder) or {}):
                jobs.append(self._job(self.selected, job.folder(self.folder) / "model", seed=seed))
        return jobs

    def _retrain_job(self, seed: int) -> Job:
        derived = derive_seed("trial", seed, self.method, self.split, self.selected.number)
        plain = {"method": self.method, "params": self.selected.params, "seed": derived}
        return Job(
            kind="retrain", run=retrain, label=f"seed {seed} of {self.selected.key}",
            inputs={**plain, "training": self.training, "view": self._view_digest()},
            arguments={**plain, "view": self.view, "settings": self.settings},
        )

    def _job(self, trial: TrialRecord, model_folder: Path, *, seed: int | None) -> Job:
        name = f"{trial.number}" if seed is None else f"{trial.number}-{seed}"
        target = self.folder / "reveal" / self.method / str(self.split) / f"{name}.json"
        representation = self.representation_job()
        found = representation.result(self.folder) or {}
        rule = frozen_rule(self.entry)
        # a forest for each member of an ensemble costs as much as all else, so only what was chosen gets them
        parts = self.latent_parts if trial.number == self.selected.number else 1
        plain = {"method": self.method, "params": trial.params, "rule": rule, "scorers": self.scorers,
                 "latent_parts": parts, "representation_reason": found.get("reason")}
        weights = (read_json(model_folder / "result.json") or {}).get("weights_sha256")
        return Job(
            kind="reveal", run=reveal_trial, label=f"reveal of {trial.key}" + (f" seed {seed}" if seed else ""),
            inputs={**plain, "trial": trial.number, "seed": self.spec.data.seeds[0] if seed is None else seed,
                    "split": self.split, "weights": weights, "vault": self.vault.digest,
                    "view": self._view_digest(), "representation": found.get("weights_sha256")},
            arguments={
                **plain, "view": self.view, "vault_folder": self._vault_folder(), "settings": self.settings,
                "model_folder": model_folder.resolve(), "scores_path": target.with_suffix(".safetensors"),
                "representation": representation.folder(self.folder) if "auroc" in found else None,
            },
            result_path=target,
        )

    def _view_digest(self) -> str:
        return read_json(self.folder / "view" / str(self.split) / "manifest.json")["digest"]

    def _vault_folder(self) -> Path:
        return (self.folder / "vault" / str(self.split)).resolve()


def train_representation(
    *, folder: Path, view, vault_folder: Path, method: str, params: dict, seed: int, settings
) -> dict[str, Any]:
    """Job: trains on all classes, nominal and anomalous, and measures a forest on that network's z.

    Leaves the forest's test scores in ``scores.safetensors``.
    """
    from analysis.metrics import auroc
    from trainables.files import write_arrays
    from trainables.fit import fit, load_model

    vault = Vault.load(vault_folder)
    nominal = len(view.classes)
    everything = view.with_classes(vault.train.images, vault.train.labels, vault.anomaly_classes)
    everything = dataclasses.replace(
        everything,
        validation_images=np.concatenate([view.validation_images, vault.validation.images]),
        validation_labels=np.concatenate([view.validation_labels, vault.validation.labels + nominal]),
    )
    fitted = fit(method=method, view=everything, params=params, settings=settings, seed=seed, folder=folder / "model")
    model = load_model(
        folder / "model", view_shape=view.image_shape, num_classes=len(everything.classes), method=method,
        network=settings.network, params=params,
    )
    embed = _embedder(model, method, everything, settings)
    z = embed(everything.validation_images)["z"]
    is_anomaly = everything.validation_labels >= nominal
    test, test_is_anomaly = _test_set(vault)
    score = _forest(z, is_anomaly, settings).anomaly_score(embed(test)["z"])
    written = write_arrays(folder / "scores.safetensors", {"oracle_representation": score})
    return {"auroc": auroc(score, test_is_anomaly), "val_accuracy": fitted["signals"]["val_accuracy"],
            "train_seconds": fitted["train_seconds"], "weights_sha256": fitted["weights_sha256"],
            "files": {"scores.safetensors": written}}


def retrain(*, folder: Path, view, method: str, params: dict, seed: int, settings) -> dict[str, Any]:
    """Job: trains the frozen configuration with another seed, as a trial is trained."""
    from trainables.fit import fit

    return fit(method=method, view=view, params=params, settings=settings, seed=seed, folder=folder / "model")


def reveal_trial(
    *, folder: Path, model_folder: Path, view, vault_folder: Path, method: str, params: dict, settings,
    rule: dict[str, Any], scorers: list[str], latent_parts: int, representation: Path | None,
    representation_reason: str | None, scores_path: Path,
) -> dict[str, Any]:
    """Job: every number of one trial's summary row. Leaves per-image scores and the vault's features beside it."""
    from analysis.fusion import FrozenRule
    from analysis.gaps import evaluate_scores
    from analysis.oracles import linear_oracle
    from analysis.scorers import fit_scorers, score_all
    from trainables.files import read_arrays, write_arrays
    from trainables.fit import load_model, read_features, read_result
    from trainables.methods import get_method

    own, vault, cached = get_method(method).own_scorers, Vault.load(vault_folder), read_features(model_folder)
    model = load_model(model_folder, view_shape=view.image_shape, num_classes=len(view.classes), method=method,
                       network=settings.network, params=params)
    embed = _embedder(model, method, view, settings)
    images, is_anomaly = _test_set(vault)
    embedded, learned_from = embed(images), embed(vault.validation.images)
    test = features_of(embedded, own)
    train = cached_features(cached, "train", own, view.train_labels)
    validation = cached_features(cached, "validation", own, view.validation_labels)

    fitted = fit_scorers(scorers, train, parameters=rule["settled"], own=own)
    scores = score_all(fitted, test)
    frozen = FrozenRule(rule["scorer"], rule["members"], rule["parameters"], own=own)
    frozen_score = frozen.fit_scores(score_all(fitted, validation)).fuse_scores(scores)

    z = np.concatenate([validation.z, learned_from["z"]])
    z_is_anomaly = np.r_[np.zeros(len(validation.z), bool), np.ones(len(learned_from["z"]), bool)]
    forest = _forest(z, z_is_anomaly, settings).anomaly_score(test.z)
    linear = linear_oracle(seed=FOREST_SEED).fit(z, z_is_anomaly).anomaly_score(test.z)
    upper = read_arrays(representation / "scores.safetensors")["oracle_representation"] if representation else None
    correct = np.zeros(len(is_anomaly), bool)
    correct[~is_anomaly] = test.logits[~is_anomaly].argmax(1) == vault.test_nominal.labels
    row = evaluate_scores(
        is_anomaly=is_anomaly, scorers=scores, frozen=frozen_score, oracle_detector=forest, linear_oracle=linear,
        oracle_representation=upper, correct=correct,
    )
    arrays = {f"score/{name}": value for name, value in {**scores, "frozen_rule": frozen_score}.items()}
    arrays |= {"score/oracle_detector": forest, "score/linear_oracle": linear}
    arrays |= {f"test/{name}": value for name, value in embedded.items()}
    arrays |= {f"validation_anomaly/{name}": value for name, value in learned_from.items()}
    row["files"] = {scores_path.name: write_arrays(scores_path, arrays)}
    row["member_oracle_aurocs"] = _member_oracles(z, z_is_anomaly, test.z, is_anomaly, latent_parts, settings)
    trained = read_result(model_folder)
    row["representation_reason"] = representation_reason
    return {**row, "signals": trained["signals"], "train_seconds": trained["train_seconds"]}


def _member_oracles(z, z_is_anomaly, test_z, is_anomaly, parts: int, settings) -> list[float] | None:
    """The oracle detector's AUROC on each member's own latents, where z is a concatenation of several."""
    from analysis.metrics import auroc

    if parts == 1:
        return None
    pairs = zip(np.split(z, parts, axis=1), np.split(test_z, parts, axis=1))
    return [auroc(_forest(known, z_is_anomaly, settings).anomaly_score(asked), is_anomaly) for known, asked in pairs]


def _test_set(vault: Vault) -> tuple[np.ndarray, np.ndarray]:
    """All test images (nominal first) and which of them are anomalies."""
    images = np.concatenate([vault.test_nominal.images, vault.test_anomaly.images])
    is_anomaly = np.r_[np.zeros(len(vault.test_nominal.labels), bool), np.ones(len(vault.test_anomaly.labels), bool)]
    return images, is_anomaly


def _embedder(model, method: str, view, settings) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    from trainables.fit import embed_images, pick_device

    device = pick_device(settings)
    return lambda images: embed_images(model, method, images, view, device=device)


def _forest(z: np.ndarray, is_anomaly: np.ndarray, settings):
    from analysis.oracles import forest_oracle

    return forest_oracle(seed=FOREST_SEED, n_jobs=settings.threads).fit(z, is_anomaly)
