"""Freeze: the only definition of "best", computed from nominal images alone.

Stage 1: the cheap signal picks the trial of each (method, split). Stage 2: fold models of that trial rank the scorers
and so fix the scorer rule. The outcome is ``selection.json``; its digest covers everything that was chosen and nothing
that depends on when or where. The vault is not needed here, and this module cannot reach it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from study.errors import EnvironmentProblem, UserError
from study.folds import cached_features, deal_folds, train_fold
from study.jobs import Job, in_store, run_jobs, settings_of
from study.ledger import Ledger, TrialRecord
from study.ranking import best_trials, rank_methods, rounded
from study.runtime import Cluster
from study.spec import StudySpec
from trainables.files import derive_seed, digest_of, read_json, write_json


def freeze(
    ledger: Ledger, folder: Path, cluster: Cluster, *, views: dict[int, Any],
    on_job: Callable[[Job, dict], None] | None = None,
) -> dict[str, Any]:
    """Chooses trial and scorer rule of every (method, split) and writes ``selection.json``.

    Freezing again gives the same digest and leaves the file alone unless trials were added. ``views`` maps a split to
    its ``View``. Returns the selection.
    """
    spec = ledger.spec
    references = {split: in_store(view) for split, view in views.items()}
    plans = {name: _Plan(spec, folder, cluster, views[name[1]], references[name[1]], ledger.trials(*name))
             for name in ledger.names()}
    plans = {name: plan for name, plan in plans.items() if plan.finalists}
    for plan in plans.values():
        plan.settle_parameters()
    jobs = [job for plan in plans.values() for job in plan.fold_jobs()]
    results = run_jobs(jobs, folder, cluster, on_done=on_job)
    needed = {job.key for plan in plans.values() for job in plan.fold_jobs_of(plan.finalists)}
    for job, result in zip(jobs, results, strict=True):
        if job.key in needed and result.get("reason", "").startswith(("worker died", "oom")):
            # Not the configuration's fault: the next launch may do better, and must not choose otherwise.
            raise EnvironmentProblem(f"{job.label} could not be finished ({result['reason']}); launch again to retry it")
    if not plans:
        raise UserError(f"{folder}: no trial completed, so there is nothing to select; `oraclegap status {folder}` lists why")
    write_json(folder / "folds.json", {key: v for plan in plans.values() for key, v in plan.fold_signals().items()})
    chosen = [plan.choose() for plan in plans.values()]
    selection = {"study": spec.name, "rule": spec.selection.model_dump(), "selections": chosen,
                 "method_ranking": rank_methods(chosen, spec)}
    selection["digest"] = selection_digest(selection)
    stored = read_json(folder / "selection.json")
    if stored and stored.get("digest") == selection["digest"] == selection_digest(stored):
        return stored
    selection["frozen_at"] = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(folder / "selection.json", selection)
    return selection


def frozen_selection(folder: Path) -> dict[str, Any]:
    """``selection.json`` with its digest verified."""
    selection = read_json(folder / "selection.json")
    if selection is None:
        raise UserError(f"{folder}: nothing is frozen yet, and anomalies stay sealed until then; run `oraclegap freeze {folder}` first")
    if selection.get("digest") != selection_digest(selection):
        raise UserError(f"{folder}/selection.json was changed after it was frozen (its digest differs); `oraclegap freeze {folder}` "
                        "freezes again")
    return selection


def frozen_rule(entry: dict[str, Any]) -> dict[str, Any]:
    """The part of an entry of ``selection.json`` by which images are scored."""
    return {key: entry[key] for key in ("scorer", "members", "parameters", "settled")}


def selection_digest(selection: dict[str, Any]) -> str:
    """SHA-256 of what was chosen: the canonical JSON without ``study``, ``digest`` and ``frozen_at``."""
    return digest_of({k: v for k, v in selection.items() if k not in ("study", "digest", "frozen_at")})


class _Plan:
    """What one (method, split) needs to be frozen."""

    def __init__(self, spec: StudySpec, folder: Path, cluster: Cluster, view, reference, trials: list[TrialRecord]):
        self.spec, self.folder, self.view, self.reference = spec, folder, view, reference
        self.trials, self.cluster = trials, cluster
        self._judged: dict[int, dict[str, Any]] = {}
        self.finalists = best_trials(trials, spec, validation_images=len(view.validation_labels))
        if self.finalists:
            from trainables.methods import get_method

            self.method, self.split = self.finalists[0].method, self.finalists[0].split
            built = get_method(self.method)
            self.own = built.own_scorers
            self.scorers = scorers_in_use(spec, self.own, linear_head=built.linear_head)
            self.settings = settings_of(spec, folder, cluster, self.method)
            self.folds = deal_folds(view.classes, spec.selection.folds, self.split)

    def settle_parameters(self) -> None:
        """Temperatures and the like, on the best trial's cached nominal validation features."""
        from analysis.posthoc import settle_parameters
        from trainables.fit import read_features

        features = cached_features(
            read_features(self._trial_folder(self.finalists[0])), "validation", self.own, self.view.validation_labels
        )
        ranges = {name: table for name, table in self.spec.search.posthoc.items() if name in self.scorers}
        objective = self._synthetic_objective() if ranges else None
        settled = settle_parameters(features, self.scorers, own=self.own, ranges=ranges, objective=objective)
        self.parameters = {name: {k: rounded(v) for k, v in table.items()} for name, table in settled.items()}

    def fold_jobs(self) -> list[Job]:
        """The fold models of the finalists; with ``fold_trials = "all"`` of every completed trial."""
        return self.fold_jobs_of(self._fold_trials())

    def fold_jobs_of(self, trials: list[TrialRecord]) -> list[Job]:
        """The fold models of given trials."""
        return [self._fold_job(trial, fold) for trial in trials for fold in range(len(self.folds))]

    def _fold_trials(self) -> list[TrialRecord]:
        others = [t for t in self.trials if t.state == "completed" and t not in self.finalists]
        return [*self.finalists, *(others if self.spec.selection.folds_every_trial(self.method) else [])]

    def fold_signals(self) -> dict[str, float]:
        """``pseudo_novel_auroc`` of every trial that has fold models, each with its own ranking of the scorers."""
        judged = {trial.key: self._judge(trial)["novel"] for trial in self._fold_trials()}
        return {key: value for key, value in judged.items() if value is not None}

    def _judge(self, trial: TrialRecord) -> dict[str, Any]:
        """What the fold models of a trial say: the rule's members, and how well they notice held-out classes.

        Remembered, since finalists are asked for their signal and for the choice, and reading verifies whole arrays.
        """
        if trial.number not in self._judged:
            self._judged[trial.number] = self._read_folds(trial)
        return self._judged[trial.number]

    def _read_folds(self, trial: TrialRecord) -> dict[str, Any]:
        from analysis.fusion import members_of, rank_scorers

        folds = self.fold_jobs_of([trial])
        results = [job.result(self.folder) for job in folds]
        usable = [(job, r) for job, r in zip(folds, results, strict=True) if r and "auroc" in r]
        # Without folds there is no ranking, and the rules that are left do not ask for one.
        ranking = rank_scorers([r["auroc"] for _, r in usable], self.scorers) if usable else self.scorers
        rule = self._rule(bool(usable))
        members = members_of(rule, ranking)
        novel = _fused_auroc([job.folder(self.folder) for job, _ in usable], rule, members, self.own)
        return {"trial": trial, "rule": rule, "members": members, "novel": novel, "folds": results}

    def choose(self) -> dict[str, Any]:
        """The entry of ``selection.json``."""
        judged = [self._judge(trial) for trial in self.finalists]
        best = max(judged, key=lambda j: -1.0 if j["novel"] is None else j["novel"]) if len(judged) > 1 else judged[0]
        return self._entry(best, judged)

    def _entry(self, best: dict[str, Any], judged: list[dict[str, Any]]) -> dict[str, Any]:
        trial = best["trial"]
        result = read_json(self._trial_folder(trial) / "result.json")
        signals = {name: rounded(value) for name, value in trial.signals.items()}
        if best["novel"] is not None:
            signals["pseudo_novel_auroc"] = best["novel"]
        used = self.parameters
        return {
            "method": self.method, "split": self.split, "trial": trial.number, "scorer": best["rule"],
            "members": best["members"], "parameters": {n: used[n] for n in best["members"] if used[n]},
            "signals": signals,
            "finalists": [{"trial": j["trial"].number, "pseudo_novel_auroc": j["novel"]} for j in judged],
            "folds": [_fold_record(held_out, r) for held_out, r in zip(self.folds, best["folds"], strict=True)],
            "settled": {name: table for name, table in used.items() if table},
            "stop_epoch": result["stop_epoch"], "weights_sha256": result["weights_sha256"],
        }

    def _rule(self, folds_usable: bool) -> str:
        """The spec's rule, or the plain average where there are no folds to rank scorers by."""
        from analysis.fusion import rule_needs_folds

        rule = self.spec.selection.scorer_rule
        return "all_mean" if rule_needs_folds(rule) and not folds_usable else rule

    def _trial_folder(self, trial: TrialRecord) -> Path:
        from trainables.trial import trial_folder

        return trial_folder(self.folder, trial.method, trial.split, trial.number)

    def _fold_job(self, trial: TrialRecord, fold: int) -> Job:
        seed = derive_seed("fold", self.spec.data.seeds[0], trial.method, trial.split, trial.number, fold)
        plain = {"params": trial.params, "seed": seed, "held_out": self.folds[fold], "scorers": self.scorers,
                 "parameters": self.parameters}
        training = self.spec.training.for_method(self.method)
        return Job(
            kind="fold", run=train_fold, label=f"fold {fold} of {trial.key}",
            inputs={**plain, "method": self.method, "training": training, "view": self.view.digest},
            arguments={**plain, "method": self.method, "settings": self.settings, "view": self.reference},
        )

    def _synthetic_objective(self) -> Callable[[str, dict], float]:
        """``synthetic_outlier_auroc`` of a scorer with given parameters, on the best trial's cached features."""
        from trainables.methods import get_method
        from trainables.synthetic import unseen_transforms

        trial = self.finalists[0]
        transforms = list(unseen_transforms(get_method(self.method).trains_on))
        job = Job(
            kind="synthetic", run=embed_synthetic, label=f"synthetic outliers of {trial.key}",
            inputs={"trial": trial.key, "params": trial.params, "view": self.view.digest, "transforms": transforms,
                    "weights": read_json(self._trial_folder(trial) / "result.json")["weights_sha256"]},
            arguments={"trial_folder": self._trial_folder(trial), "view": self.reference, "method": self.method,
                       "params": trial.params, "settings": self.settings, "transforms": transforms},
        )
        (result,) = run_jobs([job], self.folder, self.cluster)
        if "reason" in result:
            raise EnvironmentProblem(f"{job.label} failed ({result['reason']}); launch again to retry it")
        return synthetic_objective(
            job.folder(self.folder) / "synthetic.safetensors", self._trial_folder(trial), self.view, self.own
        )


def scorers_in_use(spec: StudySpec, own: tuple[str, ...], *, linear_head: bool = True) -> list[str]:
    """The scorers that a method is judged by: the spec's, or the default set and the method's own.

    A scorer named in the rule is in use whether listed or not. A listed one that only another method has, or that
    reads the weights of a linear head which the method lacks, is left out.
    """
    from analysis.fusion import RULES
    from analysis.scorers import DEFAULT_SCORERS, usable_scorers

    known = usable_scorers(own, linear_head=linear_head)
    names = [name for name in spec.selection.scorers if name in known] or [*DEFAULT_SCORERS, *own]
    rule = spec.selection.scorer_rule
    return names if rule in RULES or rule in names or rule not in known else [*names, rule]


def embed_synthetic(
    *, folder: Path, trial_folder: Path, view, method: str, params, settings, transforms: list[str]
) -> dict[str, Any]:
    """Job: embeds the synthetic outliers of a trial into ``synthetic.safetensors`` (``<transform>/<feature>``)."""
    import torch

    from trainables.files import write_arrays
    from trainables.fit import embed_images, load_model, pick_device
    from trainables.synthetic import TRANSFORMS

    model = load_model(trial_folder, view_shape=view.image_shape, num_classes=len(view.classes), method=method,
                       network=settings.network, params=params)
    arrays = {}
    for name in transforms:
        generator = torch.Generator().manual_seed(derive_seed("posthoc", view.digest, name))
        images = TRANSFORMS[name](torch.from_numpy(np.array(view.validation_images)), generator).numpy()
        embedded = embed_images(model, method, images, view, device=pick_device(settings))
        arrays.update({f"{name}/{key}": value for key, value in embedded.items()})
    written = write_arrays(folder / "synthetic.safetensors", arrays)
    return {"transforms": transforms, "files": {"synthetic.safetensors": written}}


def synthetic_objective(path: Path, trial_folder: Path, view, own: tuple[str, ...]) -> Callable[[str, dict], float]:
    """``objective(scorer, parameters)``: mean AUROC of that scorer between untouched and transformed images."""
    from analysis.metrics import auroc
    from analysis.scorers import get_scorer
    from trainables.files import read_arrays
    from trainables.fit import read_features

    synthetic, cached = read_arrays(path), read_features(trial_folder)
    train = cached_features(cached, "train", own, view.train_labels)
    nominal = cached_features(cached, "validation", own)
    transforms = sorted({key.split("/")[0] for key in synthetic})
    outliers = [cached_features(synthetic, name, own) for name in transforms]

    def objective(name: str, parameters: dict) -> float:
        scorer = get_scorer(name, own=own).fit(train, parameters)
        if not outliers:
            return math.nan
        untouched = scorer.score(nominal)
        is_outlier = np.r_[np.zeros(len(untouched), bool), np.ones(len(untouched), bool)]
        return float(np.mean([auroc(np.r_[untouched, scorer.score(o)], is_outlier) for o in outliers]))

    return objective


def _fused_auroc(folders: list[Path], rule: str, members: list[str], own: tuple[str, ...]) -> float | None:
    """Mean over folds of the rule's AUROC, from the standardised scores that the fold jobs left."""
    from analysis.fusion import fused_fold_auroc
    from analysis.scorers import scorer_class
    from trainables.files import read_arrays

    families = {name: scorer_class(name, own).info.family for name in members}
    values = []
    for folder in folders:
        scores = read_arrays(folder / "scores.safetensors")
        standardised = {name: scores[name] for name in members}
        values.append(fused_fold_auroc(rule, standardised, families, scores["is_held_out"]))
    return rounded(np.mean(values)) if values else None


def _fold_record(held_out: list[str], result: dict[str, Any] | None) -> dict[str, Any]:
    kept = {k: v for k, v in (result or {}).items() if k in ("auroc", "val_accuracy", "reason")}
    return {"held_out": held_out, **kept}
