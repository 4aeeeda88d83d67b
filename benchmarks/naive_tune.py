"""The same search as a careful user would write it with Ray Tune, Optuna, MLflow and a DataLoader, and without oraclegap.

    python benchmarks/naive_tune.py DATA.npz JOB.json OUT.json

Ray's own parts as their documentation shows them: a function trainable, ``OptunaSearch``, ``MLflowLoggerCallback``, one CPU
(or more) a trial, torchvision's transforms on PIL images, a ``DataLoader``. The network, its loss, the scorers and the forest
are oraclegap's own functions, so that what differs is how images reach the network and how trials are run; configurations are
handed over (``points_to_evaluate``), so that both train the same ones. What each trial is asked at the end is what a reveal
asks: every scorer, the linear probe and the oracle's forest on the test images; the best of each method is then trained on
all classes for its oracle representation.

``JOB.json``: {"methods": {name: [configuration, …]}, "epochs", "batch_size", "network", "cpus", "workers", "scorers", "flips",
"runs"}. ``OUT.json``: {method: [{"accuracy", "max_logit", "oracle_detector", "seconds"}, …], …}.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


class Images:
    """A map-style data set of PIL images, as torchvision's are."""

    def __init__(self, images, labels, transform):
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        from PIL import Image

        array = self.images[index]
        image = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
        return self.transform(image), int(self.labels[index])


def transforms(data, params, *, train: bool, flips: bool):
    """torchvision's own, with the strengths of the configuration."""
    from torchvision import transforms as T

    side = data["train_images"].shape[1]
    pixels = data["train_images"].reshape(-1, data["train_images"].shape[-1]) / 255
    steps = []
    if train:
        if padding := round(params["crop_padding"] * side):
            steps.append(T.RandomCrop(side, padding=padding, padding_mode="reflect"))
        if flips and params["flip"]:
            steps.append(T.RandomHorizontalFlip(params["flip"]))
        if params["randaugment"]:
            steps.append(T.RandAugment(int(params["randaugment_ops"]), round(30 * params["randaugment"])))
        if params["colour_jitter"]:
            steps.append(T.ColorJitter(brightness=params["colour_jitter"], contrast=params["colour_jitter"]))
    steps += [T.ToTensor(), T.Normalize(pixels.mean(0).tolist(), np.maximum(pixels.std(0), 1 / 255).tolist())]
    if train and params["cutout"]:
        area = params["cutout"] ** 2
        steps.append(T.RandomErasing(1.0, scale=(area, area + 1e-6), ratio=(1.0, 1.0)))
    return T.Compose(steps)


def mixed(images, targets, params, classes: int):
    """torchvision's MixUp and CutMix on a batch."""
    from torchvision.transforms import v2

    offered = [kind(alpha=params[name], num_classes=classes)
               for name, kind in (("mixup", v2.MixUp), ("cutmix", v2.CutMix)) if params[name]]
    return offered[np.random.randint(len(offered))](images, targets) if offered else (images, targets)


def learn(images, labels, classes, params, job, data, on_epoch):
    """One network, SGD under a one-cycle schedule."""
    import torch
    from torch.utils.data import DataLoader

    from trainables.methods import get_method

    method = get_method(job["method"])
    model = method.build(images.shape[1:], classes, job["network"], params)
    method.prepare(model, None)
    optimiser = torch.optim.SGD(method.parameter_groups(model, params), lr=params["learning_rate"],
                                momentum=params["momentum"], nesterov=True)
    loader = DataLoader(
        Images(images, labels, transforms(data, params, train=True, flips=job["flips"])), batch_size=job["batch_size"],
        shuffle=True, num_workers=job["workers"], persistent_workers=job["workers"] > 0,
    )
    steps, warmup = job["epochs"] * len(loader), params["warmup"]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: (
        0.2 + 0.8 * step / steps / warmup if step / steps < warmup else max(1e-3, (1 - step / steps) / (1 - warmup))))
    generator = torch.Generator()
    for epoch in range(job["epochs"]):
        model.train()
        total = 0.0
        for batch, targets in loader:
            batch, targets = mixed(batch, targets, params, classes)
            optimiser.zero_grad()
            loss, _ = method.loss(model, batch, targets, params, generator)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), params["gradient_clip"])
            optimiser.step()
            schedule.step()
            total += loss.item()
        if not math.isfinite(total):
            raise RuntimeError(f"diverged in epoch {epoch + 1}")
        on_epoch(model, epoch, total / len(loader))
    return model, method


def embed(model, method, images, params, job, data):
    """z and logits of images, through a DataLoader."""
    import torch
    from torch.utils.data import DataLoader

    plain = transforms(data, params, train=False, flips=False)
    loader = DataLoader(Images(images, np.zeros(len(images)), plain), batch_size=512, num_workers=job["workers"])
    model.eval()
    with torch.inference_mode():
        found = [method.embed(model, batch) for batch, _ in loader]
    return {name: torch.cat([part[name] for part in found]).float().numpy() for name in found[0]}


def forest(z, truth, asked, asked_truth, job) -> float:
    """The oracle detector's AUROC."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import roc_auc_score

    fitted = RandomForestClassifier(1000, random_state=0, n_jobs=job["cpus"]).fit(z, truth)
    return float(roc_auc_score(asked_truth, fitted.predict_proba(asked)[:, 1]))


def train(config, data=None, job=None):
    """The function trainable: trains one configuration and measures it on the test images."""
    import torch
    from ray import tune

    from analysis.metrics import auroc
    from analysis.oracles import linear_oracle
    from analysis.scorer_base import Features
    from analysis.scorers import fit_scorers, score_all

    torch.set_num_threads(job["cpus"])
    params, began = {**job["fixed"], **config}, time.perf_counter()
    labels, classes = data["train_labels"], int(data["train_labels"].max()) + 1

    def on_epoch(model, epoch, loss):
        logits = embed(model, method_of(job), data["validation_images"], params, job, data)["logits"]
        shown = {"epoch": epoch + 1, "train_loss": loss, "val_accuracy": float((logits.argmax(1) == data["validation_labels"]).mean())}
        if epoch + 1 < job["epochs"]:
            tune.report(shown)
        else:
            last.update(shown)

    last: dict = {}
    model, method = learn(data["train_images"], labels, classes, params, job, data, on_epoch)
    seconds = time.perf_counter() - began
    parts = {name: embed(model, method, data[f"{name}_images"], params, job, data) for name in (
        "train", "validation", "anomaly_validation", "test")}
    own = method.own_scorers
    as_features = {name: Features(part["logits"], part["z"], data.get(f"{name}_labels"), {n: part[n] for n in own})
                   for name, part in parts.items()}
    truth = data["test_is_anomaly"]
    fitted = fit_scorers(job["scorers"], as_features["train"], parameters={}, own=own)
    scores = score_all(fitted, as_features["test"])
    known = np.concatenate([parts["validation"]["z"], parts["anomaly_validation"]["z"]])
    known_truth = np.repeat([False, True], [len(parts["validation"]["z"]), len(parts["anomaly_validation"]["z"])])
    linear = linear_oracle(seed=0).fit(known, known_truth).anomaly_score(parts["test"]["z"])
    tune.report({
        **last, **{f"auroc_{name}": auroc(score, truth) for name, score in scores.items()},
        "auroc_linear_oracle": auroc(linear, truth), "train_seconds": seconds,
        "auroc_oracle_detector": forest(known, known_truth, parts["test"]["z"], truth, job),
    })


def method_of(job):
    from trainables.methods import get_method

    return get_method(job["method"])


def representation(config, data, job) -> float:
    """AUROC of the forest on a network trained on all classes."""
    params = {**job["fixed"], **config}
    nominal = int(data["train_labels"].max()) + 1
    images = np.concatenate([data["train_images"], data["anomaly_train_images"]])
    labels = np.concatenate([data["train_labels"], data["anomaly_train_labels"] + nominal])
    model, method = learn(images, labels, int(labels.max()) + 1, params, job, data, lambda *_: None)
    known = np.concatenate([data["validation_images"], data["anomaly_validation_images"]])
    truth = np.repeat([False, True], [len(data["validation_images"]), len(data["anomaly_validation_images"])])
    z, asked = (embed(model, method, part, params, job, data)["z"] for part in (known, data["test_images"]))
    return forest(z, truth, asked, data["test_is_anomaly"], job)


def space_of(configurations):
    """Searched parameters, with any range: every configuration is handed over."""
    from ray import tune

    names = [name for name, value in configurations[0].items()
             if any(other[name] != value for other in configurations)] or ["learning_rate"]
    searched = {}
    for name in names:
        values = sorted({configuration[name] for configuration in configurations})
        searched[name] = tune.choice(values) if len(values) == 1 else tune.uniform(values[0], values[-1])
    return searched


def main() -> None:
    """Runs every method's search, then its oracle representation."""
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search.optuna import OptunaSearch

    data_path, job_path, out_path = sys.argv[1:]
    job = json.loads(Path(job_path).read_text())
    with np.load(data_path) as file:
        data = dict(file)
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    found = {}
    for method, configurations in job["methods"].items():
        searched = space_of(configurations)
        here = {**job, "method": method, "fixed": {k: v for k, v in configurations[0].items() if k not in searched}}
        points = [{name: configuration[name] for name in searched} for configuration in configurations]
        results = tune.Tuner(
            tune.with_resources(tune.with_parameters(train, data=data, job=here), {"cpu": job["cpus"]}), param_space=None,
            tune_config=tune.TuneConfig(
                search_alg=OptunaSearch(searched, metric="val_accuracy", mode="max", points_to_evaluate=points),
                num_samples=len(points), max_concurrent_trials=max(1, os.cpu_count() // job["cpus"]),
            ),
            run_config=tune.RunConfig(
                name=method, storage_path=os.path.abspath(job["runs"]), verbose=1,
                callbacks=[MLflowLoggerCallback(tracking_uri=f"sqlite:///{os.path.abspath(job['runs'])}/mlflow.db",
                                                experiment_name=method)],
            ),
        ).fit()
        rows = [result.metrics for result in results if result.error is None]
        best = results.get_best_result("val_accuracy", "max", scope="last").config
        task = ray.remote(num_cpus=job["cpus"])(representation)
        found[method] = {
            "trials": [{"accuracy": r["val_accuracy"], "max_logit": r["auroc_max_logit"], "seconds": r["train_seconds"],
                        "oracle_detector": r["auroc_oracle_detector"]} for r in rows],
            "oracle_representation": ray.get(task.remote(best, data, here)),
        }
    Path(out_path).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
