"""A training repeated for its course: weights at some epochs, loss and gradient norm at all of them.

Sees what a trial sees, a view, and nothing else. The numbers of the training are not touched, so that on one thread the last
weights are those of the trial, bit for bit; ``weights_sha256`` says whether they are.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from trainables import checkpoint
from trainables.fit import Training, TrainSettings
from trainables.methods import get_method

if TYPE_CHECKING:
    from trainables.data import View


def course_epochs(epochs: int, points: int) -> list[int]:
    """At most ``points`` epochs of 1..epochs, evenly spaced, the first and the last among them; ascending."""
    if points < 1 or epochs < 1:
        raise ValueError(f"{points} points of {epochs} epochs are no course")
    if points == 1:
        return [epochs]
    last = min(points, epochs) - 1
    return sorted({1 + round((epochs - 1) * place / max(1, last)) for place in range(last + 1)})


def weights_name(epoch: int) -> str:
    """The file of the weights after an epoch."""
    return f"weights-{epoch:04d}.safetensors"


def train_course(
    *, folder: Path, view: View, method: str, params: dict[str, Any], settings: TrainSettings, seed: int, points: int
) -> dict[str, Any]:
    """Trains to the end and keeps the weights of ``course_epochs`` in ``folder`` (as ``weights_name``).

    Returns {"epochs": [{"epoch", "train_loss", "val_nll", "val_accuracy", "gradient_norm"}], "kept": epochs, "files": {name:
    SHA-256}, "weights_sha256": of the last epoch's, as a trial would write them, "train_seconds"}. ``gradient_norm``: mean over
    the steps of the L2 norm of all gradients, before a method or clipping changes them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    watched, norms = _watched(method)
    training = Training(method=watched, view=view, params=params, settings=settings, seed=seed)
    kept, files, rows = course_epochs(settings.epochs, points), {}, []
    while not training.done:
        row = training.step()
        rows.append({key: row[key] for key in ("epoch", "train_loss", "val_nll", "val_accuracy")})
        rows[-1]["gradient_norm"] = torch.stack(norms).mean().item()
        norms.clear()
        if row["epoch"] in kept:
            model = copy.deepcopy(training.model)  # which a method's last look may change: the training goes on without it
            training.evaluation.complete(model, params)
            tensors = {k: v for k, v in model.state_dict().items() if k not in training.method.training_only}
            name = weights_name(row["epoch"])
            files[name] = checkpoint.write_tensors(folder / name, tensors)
    result = training.finish()
    return {"epochs": rows, "kept": kept, "files": files, "weights_sha256": result["weights_sha256"],
            "train_seconds": result["train_seconds"]}


def _watched(method: str) -> tuple[Any, list[torch.Tensor]]:
    """The method with an ear at its gradients, and the list that the norms go to."""
    heard: list[torch.Tensor] = []
    watched = copy.copy(get_method(method))
    adjust = watched.adjust_gradients

    def listen(model: nn.Module, params: dict) -> None:
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        heard.append(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))).detach())
        adjust(model, params)

    watched.adjust_gradients = listen
    return watched, heard
