"""The one training loop: a method, a view and a configuration in; weights, features and nominal-only signals out.

Runs without Ray, MLflow and Optuna. Every random number comes from (seed, epoch), and each epoch ends in a checkpoint,
so a run killed and resumed gives the weights of an uninterrupted one, bit for bit on one thread.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from trainables import checkpoint
from trainables.augment import Augmenter, Normaliser, mixup
from trainables.files import derive_seed, digest_of, write_atomic, write_json
from trainables.inference import (
    EVALUATION_BATCH,
    embed_all,
    embed_images,
    load_model,
    pick_device,
    read_features,
    read_result,
    to_device,
)
from trainables.methods import get_method

if TYPE_CHECKING:
    from trainables.data import View

__all__ = ["Diverged", "TrainSettings", "Training", "derive_seed", "embed_images", "fit", "load_model", "pick_device",
           "read_features", "read_result"]

RUNNING_VALIDATION = 2048  # images judged after an epoch whose numbers decide nothing; the last epoch takes all
SYNTHETIC_IMAGES = 2048  # validation images made abnormal, per transform


class Diverged(RuntimeError):
    """Loss or weights became NaN or infinite: the trial has failed, and that is its outcome."""


@dataclass(frozen=True)
class TrainSettings:
    """What all trials of a study share; the searched parameters are in ``params``."""

    network: str = "small_cnn"
    epochs: int = 30
    early_stopping: bool = False  # keep the epoch of the best val_accuracy instead of the last
    batch_size: int = 128
    device: str = "auto"  # auto | cpu | cuda
    threads: int = 1
    gpu_memory_fraction: float | None = None  # enforced: more is an out-of-memory error


def one_cycle(progress: float, *, peak: float, warmup: float) -> float:
    """Learning rate at ``progress`` (0..1): linear from a fifth of the peak up, then linear to almost nothing."""
    if progress < warmup:
        return peak * (0.2 + 0.8 * progress / warmup)
    return peak * max(1e-3, (1 - progress) / (1 - warmup)) if warmup < 1 else peak


class WrongFolder(ValueError):
    """The folder holds another trial's files: going on would lose them or mix the two."""


class Training:
    """One trial, resumable epoch by epoch: ``while not t.done: t.step()``, then ``t.finish()``."""

    def __init__(
        self, *, method: str, view: View, params: dict, settings: TrainSettings, seed: int, folder: Path | None = None
    ) -> None:
        """With a ``folder``: continues from its newest intact checkpoint, and a finished one is done at once.

        ValueError if the folder belongs to another trial.
        """
        self.method, self.view, self.params, self.settings, self.seed = get_method(method), view, params, settings, seed
        self.folder = Path(folder) if folder is not None else None
        self.device = pick_device(settings)
        self.rows: list[dict] = []
        self.best: dict | None = None
        self.identity = self._identity()
        self.result = self._stored_result()
        if self.result is not None:
            self.rows = [{}] * self.result["epochs"]
            return
        self._prepare_model()
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._resume()

    @property
    def epoch(self) -> int:
        """Epochs trained so far."""
        return len(self.rows)

    @property
    def done(self) -> bool:
        return self.result is not None or self.epoch >= self.settings.epochs

    def step(self) -> dict:
        """Trains one epoch, writes its metrics row and a checkpoint; returns the row. Raises Diverged."""
        if self.done:
            raise RuntimeError("all epochs are trained: call finish()")
        started = time.monotonic()
        train_loss, rate = self._train_epoch(self.epoch + 1)
        last = self.epoch + 1 == self.settings.epochs
        limit = None if last or self.settings.early_stopping else RUNNING_VALIDATION
        val_nll, val_accuracy = self._validate(limit)
        if not math.isfinite(val_nll):
            raise Diverged(f"validation loss is {val_nll} after epoch {self.epoch + 1}")
        row = {
            "epoch": self.epoch + 1, "train_loss": train_loss, "val_nll": val_nll, "val_accuracy": val_accuracy,
            "learning_rate": rate, "seconds": time.monotonic() - started, "time": time.time(),
        }
        self.rows.append(row)
        if self.settings.early_stopping and (self.best is None or val_accuracy > self.best["val_accuracy"]):
            weights = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
            self.best = {"epoch": self.epoch, "val_accuracy": val_accuracy, "weights": weights}
        if self.folder is not None:
            with open(self.folder / "metrics.jsonl", "a") as file:
                file.write(json.dumps(row) + "\n")
            self._save()
        return row

    def finish(self) -> dict:
        """Signals of the kept epoch; writes weights, features and result; returns the result."""
        if self.result is not None:
            return self.result
        if not self.done:
            raise RuntimeError(f"{self.epoch} of {self.settings.epochs} epochs are trained: call step()")
        if self.best is not None:
            self.model.load_state_dict(self.best["weights"])
        features, signals = self._features_and_signals()
        result = {
            "signals": signals,
            "stop_epoch": self.best["epoch"] if self.best is not None else self.epoch,
            "train_seconds": sum(row["seconds"] for row in self.rows),
            "epochs": self.epoch,
            "parameters_count": sum(p.numel() for p in self.model.parameters()),
            "device": str(self.device),
            "identity": self.identity,
        }
        weights = self.model.state_dict()
        tensors = {name: torch.from_numpy(array) for name, array in features.items()}
        if self.folder is None:
            result |= {"weights_sha256": _digest(weights), "features_sha256": _digest(tensors)}
        else:
            result["weights_sha256"] = checkpoint.write_tensors(self.folder / "model.safetensors", weights)
            result["features_sha256"] = checkpoint.write_tensors(self.folder / "features.safetensors", tensors)
            write_json(self.folder / "result.json", result)
            checkpoint.delete_checkpoints(self.folder)
        self.result = result
        return result

    # -- inside ---------------------------------------------------------------------------------------------------

    def _identity(self) -> str:
        """Digest of all that decides the weights, so that no folder is continued as another trial."""
        settings = {k: v for k, v in asdict(self.settings).items()
                    if k in ("network", "epochs", "early_stopping", "batch_size")}
        parts = [self.method.info.name, self.params, settings, self.seed, self.view.digest, list(self.view.classes),
                 len(self.view.train_labels)]
        return digest_of(parts)

    def _stored_result(self) -> dict | None:
        result = read_result(self.folder) if self.folder is not None else None
        if result is not None and result["identity"] != self.identity:
            raise WrongFolder(f"{self.folder} holds the result of another trial (its configuration, data or seed differ)")
        return result

    def _prepare_model(self) -> None:
        view, device = self.view, self.device
        with torch.random.fork_rng(devices=[]):  # initialisers draw from global state: seed it, then put it back
            torch.manual_seed(derive_seed(self.seed, "weights"))
            model = self.method.build(view.image_shape, len(view.classes), self.settings.network, self.params)
        self.model = model.to(device, memory_format=torch.channels_last)
        self.optimiser = torch.optim.SGD(
            self.method.parameter_groups(self.model, self.params), lr=self.params["learning_rate"],
            momentum=self.params["momentum"], nesterov=self.params["momentum"] > 0, fused=True,
        )
        self.normalise = Normaliser(view.mean, view.std, device)
        self.augment = Augmenter(to_device(view.train_images, device), self.normalise, self.params,
                                 flips_keep_labels=view.flips_keep_labels)
        self.labels = to_device(view.train_labels, device)
        self.validation = to_device(view.validation_images, device)
        self.validation_labels = to_device(view.validation_labels, device)

    def _train_epoch(self, epoch: int) -> tuple[float, float]:
        """Mean loss and the last learning rate."""
        host = torch.Generator().manual_seed(derive_seed(self.seed, "order", epoch))
        generator = torch.Generator(self.device).manual_seed(derive_seed(self.seed, "augment", epoch))
        count, total_epochs = len(self.labels), self.settings.epochs
        steps = max(1, round(count / self.settings.batch_size))
        order = torch.randperm(count, generator=host).to(self.device)
        self.model.train()
        total = torch.zeros((), device=self.device)
        for step, index in enumerate(order.tensor_split(steps)):  # even batches: no tiny last one, no image left out
            rate = one_cycle((epoch - 1 + step / steps) / total_epochs, peak=self.params["learning_rate"],
                             warmup=self.params["warmup"])
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            images, targets = self.augment.batch(index, generator), self.labels[index]
            if self.params.get("mixup"):
                images, targets = mixup(images, targets, alpha=self.params["mixup"],
                                        num_classes=len(self.view.classes), generator=host)
            with _autocast(self.device):
                loss, _ = self.method.loss(self.model, images, targets, self.params, generator)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            if self.params["gradient_clip"]:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.params["gradient_clip"])
            self.optimiser.step()
            total += loss.detach() * len(index)
        mean = (total / count).item()
        if not math.isfinite(mean):
            raise Diverged(f"training loss is {mean} in epoch {epoch}")
        return mean, rate

    def _validate(self, limit: int | None) -> tuple[float, float]:
        """NLL and accuracy on the first ``limit`` validation images of a fixed shuffle, or on all."""
        if len(self.validation_labels) == 0:
            raise ValueError("the view has no validation images")
        images, labels = self.validation, self.validation_labels
        if limit is not None and limit < len(labels):
            index = self._validation_subset(limit)
            images, labels = images[index], labels[index]
        logits = self._embed(images)["logits"]
        nll = nn.functional.cross_entropy(logits.double(), labels).item()
        return nll, (logits.argmax(1) == labels).double().mean().item()

    def _validation_subset(self, limit: int) -> Tensor:
        generator = torch.Generator().manual_seed(derive_seed("validation subset"))  # the same for every trial
        return torch.randperm(len(self.validation_labels), generator=generator)[:limit].to(self.device)

    def _embed(self, images: Tensor) -> dict[str, Tensor]:
        return embed_all(self.model, self.method, images, self.normalise, batch_size=EVALUATION_BATCH)

    def _features_and_signals(self) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        from analysis import metrics
        from trainables.synthetic import DEFAULT_TRANSFORMS, synthetic_outlier_auroc

        validation = self._embed(self.validation)
        train = self._embed(to_device(self.view.train_images, self.device))
        features = {f"validation/{name}": tensor for name, tensor in validation.items()}
        features |= {f"train/{name}": train[name] for name in ("z", "logits")}
        features = {name: tensor.cpu().numpy() for name, tensor in features.items()}
        subset = self._validation_subset(SYNTHETIC_IMAGES)
        logits, labels = features["validation/logits"], np.asarray(self.view.validation_labels)
        signals = {
            "val_nll": metrics.nll(logits, labels),
            "val_accuracy": metrics.closed_set_accuracy(logits, labels),
            "val_ece": metrics.ece(logits, labels),
            "synthetic_outlier_auroc": synthetic_outlier_auroc(
                lambda images: self._embed(images)["logits"], self.validation[subset], validation["logits"][subset],
                seed=derive_seed(self.seed, "synthetic"),
                transforms=tuple(t for t in DEFAULT_TRANSFORMS if t not in self.method.trains_on),
            ),
        }
        return features, {name: float(value) for name, value in signals.items()}

    def _save(self) -> None:
        names = {id(p): name for name, p in self.model.named_parameters()}
        tensors = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        for parameter, state in self.optimiser.state.items():
            if state.get("momentum_buffer") is not None:
                tensors[f"momentum/{names[id(parameter)]}"] = state["momentum_buffer"]
        record = {"identity": self.identity, "rows": self.rows}
        if self.best is not None:
            tensors |= {f"best/{name}": tensor for name, tensor in self.best["weights"].items()}
            record["best"] = {"epoch": self.best["epoch"], "val_accuracy": self.best["val_accuracy"]}
        checkpoint.save_checkpoint(self.folder, self.epoch, tensors, record)

    def _resume(self) -> None:
        found = checkpoint.newest_checkpoint(self.folder)
        if found is not None:
            tensors, record = found
            if record["identity"] != self.identity:
                raise WrongFolder(f"{self.folder} holds checkpoints of another trial (configuration, data or seed differ)")
            part = {kind: {name.removeprefix(kind + "/"): tensor.to(self.device) for name, tensor in tensors.items()
                           if name.startswith(kind + "/")} for kind in ("model", "momentum", "best")}
            self.model.load_state_dict(part["model"])
            for name, parameter in self.model.named_parameters():
                if name in part["momentum"]:
                    # in the parameter's own layout, which the fused step takes for granted
                    self.optimiser.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(
                        part["momentum"][name])
            self.rows = record["rows"]
            self.best = {**record["best"], "weights": part["best"]} if "best" in record else None
        # rows of epochs that will be trained again go, and with them a half-written last line
        path = self.folder / "metrics.jsonl"
        if self.rows or path.exists():
            write_atomic(path, "".join(json.dumps(row) + "\n" for row in self.rows), durable=False)


def fit(
    *, method: str, view: View, params: dict, settings: TrainSettings, seed: int, folder: Path | None = None,
    report: Callable[[dict], None] | None = None,
) -> dict:
    """Trains to the end (``report`` gets each epoch's row) and returns the result of ``Training.finish``."""
    training = Training(method=method, view=view, params=params, settings=settings, seed=seed, folder=folder)
    while not training.done:
        row = training.step()
        if report is not None:
            report(row)
    return training.finish()


def _autocast(device: torch.device):
    """bf16 on CUDA; a CPU stays in float32, where bf16 is slower unless it has AMX."""
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else contextlib.nullcontext()


def _digest(tensors: dict[str, Tensor]) -> str:
    from safetensors.torch import save

    return checkpoint.sha256(save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))
