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

from study.errors import UserError
from study.folds import cached_features, deal_folds, train_fold
from study.jobs import Job, run_jobs
from study.ledger import Ledger, TrialRecord
from study.runtime import Cluster
from study.search import shared_settings
from study.spec import StudySpec
from trainables.files import derive_seed, digest_of, read_json, write_json

#: Floats in selection.json keep this many digits: beyond it they say how sums were ordered, not what was measured.
DIGITS = 10


def freeze(
    ledger: Ledger, folder: Path, cluster: Cluster, *, views: dict[int, Any],
    on_job: Callable[[Job, dict], None] | None = None,
) -> dict[str, Any]:
    """Chooses trial and scorer rule of every (method, split) and writes ``selection.json``.

    Freezing again gives the same digest and leaves the file alone unless trials were added. ``views`` maps a split to
    its ``View``. Returns the selection.
    """
    import ray

    spec = ledger.spec
    references = {split: ray.put(view) for split, view in views.items()}
    plans = {name: _Plan(spec, folder, cluster, views[name[1]], references[name[1]], ledger.trials(*name))
             for name in ledger.names()}
    plans = {name: plan for name, plan in plans.items() if plan.finalists}
    for plan in plans.values():
        plan.settle_parameters()
    jobs = [job for plan in plans.values() for job in plan.fold_jobs()]
    run_jobs(jobs, folder, cluster, on_done=on_job)
    chosen = [plan.choose() for plan in plans.values()]
    selection = {"study": spec.name, "rule": spec.selection.model_dump(), "selections": chosen,
                 "method_ranking": rank_methods(chosen, spec)}
    selection["digest"] = selection_digest(selection)
    stored = read_json(folder / "selection.json")
    if stored and stored.get("digest") == selection["digest"]:
        return stored
    selection["frozen_at"] = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(folder / "selection.json", selection)
    return selection


def frozen_selection(folder: Path) -> dict[str, Any]:
    """``selection.json`` with its digest verified."""
    selection = read_json(folder / "selection.json")
    if selection is None:
        raise UserError(f"{folder}: nothing is frozen yet, and anomalies stay sealed until then; run `freeze` first")
    if selection.get("digest") != selection_digest(selection):
        raise UserError(f"{folder}/selection.json was changed after it was frozen (its digest differs); freeze again")
    return selection


def selection_digest(selection: dict[str, Any]) -> str:
    """SHA-256 of what was chosen: the canonical JSON without ``study``, ``digest`` and ``frozen_at``."""
    return digest_of({k: v for k, v in selection.items() if k not in ("study", "digest", "frozen_at")})


def order_of(trial: TrialRecord, signal: str) -> tuple:
    """Sorts trials best first: by the signal, then by validation NLL, then the lower number."""
    from analysis.signals import objective

    nll = trial.signals.get("val_nll", math.inf)
    return (-objective(trial.signals[signal], signal), nll if math.isfinite(nll) else math.inf, trial.number)


def best_trials(trials: list[TrialRecord], spec: StudySpec, *, validation_images: int) -> list[TrialRecord]:
    """The finalists, best first: the best trial by the signal and, where more are asked for, others that are within
    one standard error of it and as far from the chosen ones in the search space as can be."""
    signal = spec.selection.signal
    ended = sorted((t for t in trials if t.state == "completed"), key=lambda t: order_of(t, signal))
    if not ended:
        return []
    best, *others = ended
    bound = _within_one_standard_error(best, signal, validation_images)
    candidates = [trial for trial in others if bound(trial)]
    chosen = [best]
    while candidates and len(chosen) < spec.selection.finalists:
        far = max(candidates, key=lambda t: (min(_distance(spec, t, c) for c in chosen), -t.number))
        chosen.append(far)
        candidates.remove(far)
    return chosen


def rank_methods(chosen: list[dict[str, Any]], spec: StudySpec) -> list[dict[str, Any]]:
    """Methods by their mean cheap signal over splits; pseudo-novel AUROC on the common folds breaks ties."""
    from analysis.signals import objective

    signal, rows = spec.selection.signal, []
    for method in spec.methods:
        mine = [entry["signals"] for entry in chosen if entry["method"] == method]
        if not mine:
            continue
        novel = [signals.get("pseudo_novel_auroc") for signals in mine]
        rows.append({
            "method": method, signal: _rounded(np.mean([signals[signal] for signals in mine])),
            "pseudo_novel_auroc": None if None in novel else _rounded(np.mean(novel)),
        })
    return sorted(rows, key=lambda row: (-objective(row[signal], signal), -(row["pseudo_novel_auroc"] or 0.0)))


class _Plan:
    """What one (method, split) needs to be frozen."""

    def __init__(self, spec: StudySpec, folder: Path, cluster: Cluster, view, reference, trials: list[TrialRecord]):
        self.spec, self.folder, self.view, self.reference = spec, folder, view, reference
        self.trials, self.cluster = trials, cluster
        self.finalists = best_trials(trials, spec, validation_images=len(view.validation_labels))
        if self.finalists:
            from trainables.methods import get_method
            from trainables.trainable import train_settings

            self.method, self.split = self.finalists[0].method, self.finalists[0].split
            self.own = get_method(self.method).own_scorers
            self.scorers = scorers_in_use(spec, self.own)
            self.settings = train_settings(shared_settings(spec, folder, cluster), self.method)
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
        self.parameters = {name: {k: _rounded(v) for k, v in table.items()} for name, table in settled.items()}

    def fold_jobs(self) -> list[Job]:
        """The fold models of the finalists; with ``fold_trials = "all"`` of every completed trial."""
        wanted = list(self.finalists)
        if self.spec.selection.fold_trials == "all":
            wanted += [t for t in self.trials if t.state == "completed" and t not in wanted]
        return [self._fold_job(trial, fold) for trial in wanted for fold in range(len(self.folds))]

    def choose(self) -> dict[str, Any]:
        """The entry of ``selection.json``."""
        from analysis.fusion import members_of, rank_scorers

        judged = []
        for trial in self.finalists:
            folds = [self._fold_job(trial, fold) for fold in range(len(self.folds))]
            results = [job.result(self.folder) for job in folds]
            usable = [(job, r) for job, r in zip(folds, results, strict=True) if r and "auroc" in r]
            # Without folds there is no ranking, and the rules that are left do not ask for one.
            ranking = rank_scorers([r["auroc"] for _, r in usable], self.scorers) if usable else self.scorers
            rule = self._rule(bool(usable))
            members = members_of(rule, ranking)
            novel = _fused_auroc([job.folder(self.folder) for job, _ in usable], rule, members, self.own)
            judged.append({"trial": trial, "rule": rule, "members": members, "novel": novel, "folds": results})
        best = max(judged, key=lambda j: -1.0 if j["novel"] is None else j["novel"]) if len(judged) > 1 else judged[0]
        return self._entry(best, judged)

    def _entry(self, best: dict[str, Any], judged: list[dict[str, Any]]) -> dict[str, Any]:
        trial = best["trial"]
        result = read_json(self._trial_folder(trial) / "result.json")
        signals = {name: _rounded(value) for name, value in trial.signals.items()}
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
        from trainables.trainable import trial_folder

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
        trial = self.finalists[0]
        job = Job(
            kind="synthetic", run=embed_synthetic, label=f"synthetic outliers of {trial.key}",
            inputs={"trial": trial.key, "params": trial.params, "view": self.view.digest,
                    "weights": read_json(self._trial_folder(trial) / "result.json")["weights_sha256"]},
            arguments={"trial_folder": self._trial_folder(trial), "view": self.reference, "method": self.method,
                       "params": trial.params, "settings": self.settings},
        )
        run_jobs([job], self.folder, self.cluster)
        return synthetic_objective(
            job.folder(self.folder) / "synthetic.safetensors", self._trial_folder(trial), self.view, self.own
        )


def scorers_in_use(spec: StudySpec, own: tuple[str, ...]) -> list[str]:
    """The scorers that a method is judged by: the spec's, or the default set and the method's own.

    A scorer named in the rule is in use whether listed or not; a listed one that only another method has is left out.
    """
    from analysis.fusion import RULES
    from analysis.scorers import DEFAULT_SCORERS, scorer_names

    known = [*scorer_names(), *own]
    names = [name for name in spec.selection.scorers if name in known] or [*DEFAULT_SCORERS, *own]
    rule = spec.selection.scorer_rule
    return names if rule in RULES or rule in names or rule not in known else [*names, rule]


def embed_synthetic(*, folder: Path, trial_folder: Path, view, method: str, params, settings) -> dict[str, Any]:
    """Job: embeds the synthetic outliers of a trial into ``synthetic.safetensors`` (``<transform>/<feature>``)."""
    import torch

    from trainables.files import write_arrays
    from trainables.fit import embed_images, load_model, pick_device
    from trainables.synthetic import DEFAULT_TRANSFORMS, TRANSFORMS

    model = load_model(trial_folder, view_shape=view.image_shape, num_classes=len(view.classes), method=method,
                       network=settings.network, params=params)
    arrays = {}
    for name in DEFAULT_TRANSFORMS:
        generator = torch.Generator().manual_seed(derive_seed("posthoc", view.digest, name))
        images = TRANSFORMS[name](torch.from_numpy(np.array(view.validation_images)), generator).numpy()
        embedded = embed_images(model, method, images, view, device=pick_device(settings))
        arrays.update({f"{name}/{key}": value for key, value in embedded.items()})
    write_arrays(folder / "synthetic.safetensors", arrays)
    return {"transforms": list(DEFAULT_TRANSFORMS)}


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
        untouched = scorer.score(nominal)
        is_outlier = np.r_[np.zeros(len(untouched), bool), np.ones(len(untouched), bool)]
        return float(np.mean([auroc(np.r_[untouched, scorer.score(o)], is_outlier) for o in outliers]))

    return objective


def _fused_auroc(folders: list[Path], rule: str, members: list[str], own: tuple[str, ...]) -> float | None:
    """Mean over folds of the rule's AUROC, from the standardised scores that the fold jobs left."""
    from analysis.fusion import fuse
    from analysis.metrics import auroc
    from analysis.scorers import scorer_class
    from trainables.files import read_arrays

    families = {name: scorer_class(name, own).info.family for name in members}
    values = []
    for folder in folders:
        scores = read_arrays(folder / "scores.safetensors")
        fused = fuse(rule, {name: scores[name] for name in members}, families)
        values.append(auroc(fused, scores["is_held_out"].astype(bool)))
    return _rounded(np.mean(values)) if values else None


def _fold_record(held_out: list[str], result: dict[str, Any] | None) -> dict[str, Any]:
    kept = {k: v for k, v in (result or {}).items() if k in ("auroc", "val_accuracy", "reason")}
    return {"held_out": held_out, **kept}


def _within_one_standard_error(best: TrialRecord, signal: str, n: int) -> Callable[[TrialRecord], bool]:
    """Binomial for accuracy; the other signals have no closed form here, so only trials that tie count as equal."""
    value = best.signals[signal]
    error = math.sqrt(max(value * (1 - value), 0.0) / n) if signal == "val_accuracy" else 0.0
    return lambda trial: abs(trial.signals[signal] - value) <= error


def _distance(spec: StudySpec, a: TrialRecord, b: TrialRecord) -> float:
    """Euclidean distance in the unit cube of the searched parameters; a different choice counts 1."""
    total = 0.0
    for name, parameter in spec.space(a.method).searched().items():
        x, y = a.params[name], b.params[name]
        if hasattr(parameter, "low"):
            low, high = parameter.low, parameter.high
            scale = math.log if parameter.log else float
            total += ((scale(x) - scale(y)) / (scale(high) - scale(low))) ** 2
        else:
            total += x != y
    return math.sqrt(total)


def _rounded(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float | np.floating) else value
