"""The one training loop: a method, a view and a configuration in; weights, features and nominal-only signals out.

Runs without Ray, MLflow and Optuna. Every random number comes from (seed, epoch), and each epoch ends in a checkpoint,
so a run killed and resumed gives the weights of an uninterrupted one, bit for bit on one thread.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from trainables import checkpoint
from trainables.augment import Augmenter, Normaliser, mix
from trainables.backbone import load_backbone, weights_digest
from trainables.evaluation import Evaluation
from trainables.files import derive_seed, digest_of, write_atomic, write_json
from trainables.inference import embed_images, load_model, pick_device, read_features, read_result, to_device
from trainables.methods import get_method
from trainables.methods.base import Diverged
from trainables.precision import autocast
from trainables.sampling import epoch_order
from trainables.sgd import SGD

if TYPE_CHECKING:
    from trainables.data import View
    from trainables.methods.base import Method

__all__ = ["Diverged", "TrainSettings", "Training", "derive_seed", "embed_images", "fit", "load_model", "pick_device",
           "read_features", "read_result"]

RUNNING_VALIDATION = 2048  # images judged after an epoch whose numbers decide nothing; the last epoch takes all
STEPS_BETWEEN_CHECKS = 50  # of a finite loss: each waits for the device, none wastes the rest of a long epoch


@dataclass(frozen=True)
class TrainSettings:
    """What all trials of a study share; the searched parameters are in ``params``."""

    network: str = "small_cnn"
    epochs: int = 30
    early_stopping: bool = False  # keep the epoch of the best val_accuracy instead of the last
    batch_size: int = 128
    sampler: str = "uniform"  # uniform: every image once an epoch; balanced: every class equally often
    precision: str = "auto"  # of training: float32, bfloat16, or auto: bfloat16 on CUDA and float32 on a CPU
    pretrained: str = ""  # a file of weights for the encoder to start from
    freeze_backbone: bool = False  # and to stay at
    pretrained_sha256: str = ""  # which the file must have, where it is given
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
        self, *, method: str | Method, view: View, params: dict, settings: TrainSettings, seed: int,
        folder: Path | None = None,
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
        val_nll, val_accuracy = self.evaluation.validate(self.model, limit)
        if not math.isfinite(val_nll):
            raise Diverged(f"validation loss is {val_nll} after epoch {self.epoch + 1}")
        row = {
            "epoch": self.epoch + 1, "train_loss": train_loss, "val_nll": val_nll, "val_accuracy": val_accuracy,
            "learning_rate": rate, "seconds": time.monotonic() - started, "time": time.time(),
        }
        self.rows.append(row)
        if self.settings.early_stopping and (self.best is None or val_accuracy > self.best["val_accuracy"]):
            weights = {name: tensor.detach().clone() for name, tensor in self._kept_weights().items()}
            self.best = {"epoch": self.epoch, "val_accuracy": val_accuracy, "weights": weights}
        if self.folder is not None:
            self.result = self._stored_result()
            if self.result is None:
                self._write_rows()
                self._save()
        return row

    def finish(self) -> dict:
        """Signals of the kept epoch; writes weights, features and result; returns the result."""
        if self.result is not None:
            return self.result
        if not self.done:
            raise RuntimeError(f"{self.epoch} of {self.settings.epochs} epochs are trained: call step()")
        if self.best is not None:
            self.model.load_state_dict(self.best["weights"], strict=False)  # all but what only training needs
        self.evaluation.complete(self.model, self.params)
        features, signals = self.evaluation.features_and_signals(self.model, seed=derive_seed(self.seed, "synthetic"))
        result = {
            "signals": signals,
            "stop_epoch": self.best["epoch"] if self.best is not None else self.epoch,
            "train_seconds": sum(row["seconds"] for row in self.rows),
            "epochs": self.epoch,
            "parameters_count": sum(p.numel() for p in self.model.parameters()),
            "device": str(self.device),
            "identity": self.identity,
        }
        weights = self._kept_weights()
        tensors = {name: torch.from_numpy(array) for name, array in features.items()}
        if self.folder is None:
            result |= {"weights_sha256": _digest(weights), "features_sha256": _digest(tensors)}
        else:
            result["weights_sha256"] = checkpoint.write_tensors(self.folder / "model.safetensors", weights)
            result["features_sha256"] = checkpoint.write_tensors(self.folder / "features.safetensors", tensors)
            self._write_rows()
            write_json(self.folder / "result.json", result)
            checkpoint.delete_checkpoints(self.folder)
        self.result = result
        return result

    # -- inside ---------------------------------------------------------------------------------------------------

    def _identity(self) -> str:
        """Digest of all that decides the weights, so that no folder is continued as another trial."""
        settings = {k: v for k, v in asdict(self.settings).items()
                    if k in ("network", "epochs", "early_stopping", "batch_size")}
        for name, before in (("sampler", "uniform"), ("precision", "auto")):
            if (value := getattr(self.settings, name)) != before:  # left out where it is, as before there was another
                settings[name] = value
        if self.settings.pretrained:
            digest = weights_digest(self.settings.pretrained, expected=self.settings.pretrained_sha256)
            settings |= {"pretrained": digest, "freeze": self.settings.freeze_backbone}
        parts = [self.method.info.name, self.params, settings, self.seed, self.view.digest, list(self.view.classes),
                 len(self.view.train_labels)]
        return digest_of(parts)

    def _stored_result(self) -> dict | None:
        """What this or another process that had the trial has finished."""
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
        if self.settings.pretrained:
            load_backbone(self.model, self.settings.pretrained, freeze=self.settings.freeze_backbone)
        self.method.prepare(self.model, view)
        self.optimiser = SGD(self.method.parameter_groups(self.model, self.params), momentum=self.params["momentum"],
                             clipped=[part.parameters() for part in self.method.clipped(self.model)])
        normalise = Normaliser(view.mean, view.std, device)
        self.augment = Augmenter(to_device(view.train_images, device), normalise, self.params,
                                 flips_keep_labels=view.flips_keep_labels)
        self.labels = to_device(view.train_labels, device)
        self.host_labels = torch.from_numpy(np.array(view.train_labels))  # where orders are drawn
        self.lanes: list[torch.cuda.Stream | None] | None = None
        self.evaluation = Evaluation(self.method, view, normalise, device)

    def _train_epoch(self, epoch: int) -> tuple[float, float]:
        """Mean loss and the last learning rate."""
        total_epochs, members = self.settings.epochs, self.method.members(self.model)
        steps = max(1, round(len(self.labels) / self.settings.batch_size))
        streams = [_Stream(self, epoch, number, steps) for number in range(len(members))]
        lanes = self._lanes(len(members))
        self.model.train()
        total = torch.zeros((), device=self.device)
        for step in range(steps):
            rate = one_cycle((epoch - 1 + step / steps) / total_epochs, peak=self.params["learning_rate"],
                             warmup=self.params["warmup"])
            self.optimiser.zero_grad()
            losses = []
            with self._joined(lanes):
                for lane, stream, member in zip(lanes, streams, members):
                    with torch.cuda.stream(lane):
                        loss = stream.loss(member, step)
                        loss.backward()  # at once: no two members' activations are held on a CPU
                        losses.append(loss.detach())
            self.method.adjust_gradients(self.model, self.params)
            if self.params["gradient_clip"]:
                self.optimiser.clip(self.params["gradient_clip"])
            self.optimiser.step(rate)
            total += sum(losses) * (len(streams[0].order[step]) / len(members))
            if step % STEPS_BETWEEN_CHECKS == STEPS_BETWEEN_CHECKS - 1 or step == steps - 1:
                _check_finite(total, f"training loss is {{}} in epoch {epoch}")
        return (total / len(self.labels)).item(), rate

    def _lanes(self, count: int) -> list[torch.cuda.Stream | None]:
        """On CUDA a stream for each of several members, so that small networks share the card; elsewhere none.

        Made once: the allocator keeps the free memory of every stream apart.
        """
        if self.lanes is None:
            several = self.device.type == "cuda" and count > 1
            self.lanes = [torch.cuda.Stream(self.device) if several else None for _ in range(count)]
        return self.lanes

    @contextlib.contextmanager
    def _joined(self, lanes: list[torch.cuda.Stream | None]) -> Iterator[None]:
        """What the lanes do comes after all that was asked before, and before all that is asked next."""
        lanes = [lane for lane in lanes if lane is not None]
        current = torch.cuda.current_stream(self.device) if lanes else None
        for lane in lanes:
            lane.wait_stream(current)
        yield
        for lane in lanes:
            current.wait_stream(lane)

    def _kept_weights(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in self.model.state_dict().items()
                if name not in self.method.training_only}

    def _save(self) -> None:
        names = {id(p): name for name, p in self.model.named_parameters()}
        tensors = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"momentum/{names[id(parameter)]}": buffer for parameter, buffer in self.optimiser.momenta.items()}
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
                    self.optimiser.momenta[parameter].copy_(part["momentum"][name])
            self.rows = record["rows"]
            self.best = {**record["best"], "weights": part["best"]} if "best" in record else None
        self._write_rows()  # those of epochs that will be trained again go

    def _write_rows(self) -> None:
        """All of them, every time: a process that was only thought dead may still have this trial and write the same."""
        self.folder.stat()  # a folder that has vanished must not come back without what was in it
        text = "".join(json.dumps(row) + "\n" for row in self.rows)
        write_atomic(self.folder / "metrics.jsonl", text, durable=False)


class _Stream:
    """The batches of one member in one epoch: an order and random numbers of its own.

    Those of the first member are those of a method without members, so that the first of an ensemble is the plain
    network of the same seed.
    """

    def __init__(self, training: Training, epoch: int, number: int, steps: int) -> None:
        key = (epoch, number) if number else (epoch,)
        self.training, device = training, training.device
        self.host = torch.Generator().manual_seed(derive_seed(training.seed, "order", *key))
        self.generator = torch.Generator(device).manual_seed(derive_seed(training.seed, "augment", *key))
        # even batches: no tiny last one, no image left out
        order = epoch_order(training.host_labels, training.settings.sampler, self.host)
        self.order = order.to(device).tensor_split(steps)

    def loss(self, member: nn.Module, step: int) -> Tensor:
        training, index = self.training, self.order[step]
        images, targets = training.augment.batch(index, self.generator), training.labels[index]
        images, targets = mix(images, targets, training.params, num_classes=len(training.view.classes),
                              generator=self.host)
        with autocast(training.device, training.settings.precision):
            loss, _ = training.method.loss(member, images, targets, training.params, self.generator)
        return loss


def _check_finite(total: Tensor, message: str) -> None:
    value = total.item()
    if not math.isfinite(value):
        raise Diverged(message.format(value))


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


def _digest(tensors: dict[str, Tensor]) -> str:
    from safetensors.torch import save

    return checkpoint.sha256(save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))
