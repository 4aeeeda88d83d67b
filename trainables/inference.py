"""A finished trial put to use: its result, features and model from the disk, verified, and images through the model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from trainables import checkpoint
from trainables.augment import Normaliser
from trainables.files import read_json
from trainables.methods import get_method

if TYPE_CHECKING:
    from trainables.data import View
    from trainables.fit import TrainSettings
    from trainables.methods.base import Method

EVALUATION_BATCH = 512
#: Of a card's memory, per process: the CUDA context and cuDNN's kernels, which torch's own count leaves out.
CONTEXT_BYTES = 600 * 2**20
# Here and once, since filters belong to the process, and images are embedded by several threads.
warnings.filterwarnings("ignore", message="The given NumPy array is not writable")


def fraction_for_tensors(share: float, total_bytes: int) -> float:
    """Of a process's ``share`` (0..1] of a card, what torch may fill: the rest is its CUDA context, which torch's limit does not
    count. Half of the share at least, on cards so small that a context is much of it."""
    return min(1.0, max(share / 2, share - CONTEXT_BYTES / total_bytes))


def pick_device(settings: TrainSettings) -> torch.device:
    """The device, set up: threads on a CPU, TF32 and the memory limit on CUDA."""
    torch.set_num_threads(settings.threads)
    name = settings.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        if settings.gpu_memory_fraction:
            total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
            torch.cuda.set_per_process_memory_fraction(fraction_for_tensors(settings.gpu_memory_fraction, total))
    return device


def read_result(folder: Path) -> dict | None:
    """``result.json`` of a finished trial, or None."""
    return read_json(Path(folder) / "result.json")


def read_features(folder: Path) -> dict[str, np.ndarray]:
    """Arrays "train/z" (N×D), "train/logits" (N×K), "validation/…" of a finished trial, verified."""
    result = _finished(folder)
    tensors = checkpoint.read_tensors(Path(folder) / "features.safetensors", result["features_sha256"])
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def load_model(
    folder: Path, *, view_shape: tuple[int, int, int], num_classes: int, method: str, network: str, params: dict
) -> nn.Module:
    """The trained module of a finished trial, verified, in evaluation mode on the CPU."""
    path = Path(folder) / "model.safetensors"
    return read_model(path, _finished(folder)["weights_sha256"], view_shape=view_shape, num_classes=num_classes,
                      method=method, network=network, params=params)


def read_model(
    path: Path, sha256: str, *, view_shape: tuple[int, int, int], num_classes: int, method: str, network: str, params: dict
) -> nn.Module:
    """The module whose weights lie at ``path``, in evaluation mode on the CPU; ValueError unless they are those of that
    SHA-256 and fit."""
    weights = checkpoint.read_tensors(path, sha256)
    built = get_method(method)
    with torch.random.fork_rng(devices=[]):
        model = built.build(view_shape, num_classes, network, params)
    lacking = model.load_state_dict(weights, strict=False)
    if lacking.unexpected_keys or set(lacking.missing_keys) - built.training_only:
        raise ValueError(f"{path} does not fit {method}: {lacking}")
    return model.to(memory_format=torch.channels_last).eval()


def embed_images(
    model: nn.Module, method: str | Method, images: np.ndarray, view: View, *, batch_size: int = EVALUATION_BATCH,
    device: str | torch.device = "cpu",
) -> dict[str, np.ndarray]:
    """float32 arrays "z" (N×D), "logits" (N×K) and the method's own scores (N) of uint8 images N×H×W×C.

    Of ``view`` only mean and std are used.
    """
    return embed_with(model, method, images, mean=view.mean, std=view.std, batch_size=batch_size, device=device)


def embed_with(
    model: nn.Module, method: str | Method, images: np.ndarray, *, mean: Sequence[float], std: Sequence[float],
    batch_size: int = EVALUATION_BATCH, device: str | torch.device = "cpu",
) -> dict[str, np.ndarray]:
    """``embed_images`` by the mean and standard deviation of each channel, scaled to 0..1."""
    method = get_method(method)
    normalise = Normaliser(mean, std, device)
    out = embed_all(model.to(device), method, to_device(images, torch.device(device)), normalise, batch_size=batch_size)
    return {name: tensor.cpu().numpy() for name, tensor in out.items()}


def embed_all(
    model: nn.Module, method: Method, images: Tensor, normalise: Normaliser, *, batch_size: int
) -> dict[str, Tensor]:
    model.eval()
    with torch.inference_mode():
        # an empty array still makes one (empty) batch, so that the shapes are right
        batches = [method.embed(model, normalise(batch)) for batch in images.split(batch_size)] if len(images) else [
            {k: v[:0] for k, v in method.embed(model, normalise(images.new_zeros(1, *images.shape[1:]))).items()}]
    return {name: torch.cat([batch[name] for batch in batches]).float() for name in batches[0]}


def _finished(folder: Path) -> dict:
    result = read_result(folder)
    if result is None:
        raise ValueError(f"{folder} has no result.json: its trial is not finished")
    return result


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """A tensor that is only ever read: Ray's arrays and memory maps are read-only, and are not copied on a CPU."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)
