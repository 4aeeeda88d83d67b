"""What every layer of a trained encoder says of an image: the mean of each stage's feature map, then z.

Stages are told by forward hooks while the method embeds the images, so a method that prepares its images first, or
holds several encoders, is read as it is used.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from trainables.augment import Normaliser
from trainables.inference import to_device
from trainables.methods import get_method
from trainables.methods._gradients import GRADIENT_BATCH
from trainables.networks import Residual, ResNet, SmallCNN

if TYPE_CHECKING:
    from trainables.data import View
    from trainables.methods.base import Method


def embed_layers(
    model: nn.Module, method: str | Method, images: np.ndarray, view: View, *, batch_size: int = 512,
    device: str | torch.device = "cpu",
) -> dict[str, np.ndarray]:
    """float32 arrays (N×C) of uint8 images N×H×W×C: "stage 1", "stage 2", … of the encoder, first to last, then "z"
    as the method embeds it.

    Several encoders (an ensemble) are joined, member after member. Of a network from elsewhere the outermost parts
    whose output is a map take the stages' place ("layer <name>"); where there is none, there is only "z". Of an
    encoder that a method uses more than once on a batch, the first use counts: every method embeds the untouched
    images first. Batches have at most ``GRADIENT_BATCH`` images, beyond which methods with input gradients go over
    them in parts. Of ``view`` only mean and std are used; the model is left in evaluation mode, without hooks.
    """
    method, normalise = get_method(method), Normaliser(view.mean, view.std, device)
    pixels = to_device(images, torch.device(device))
    # an empty array still makes one image, so that the shapes are right
    batches = pixels.split(min(batch_size, GRADIENT_BATCH)) if len(pixels) else [pixels.new_zeros(1, *pixels.shape[1:])]
    model.to(device).eval()
    found: list[dict[str, Tensor]] = []
    with _listening(model) as heard, torch.inference_mode():
        for batch in batches:
            heard.clear()
            z = method.embed(model, normalise(batch))["z"]
            found.append({**_joined(heard, len(batch)), "z": z.float()})
    names = [name for name in found[0] if all(name in part for part in found)]
    return {name: torch.cat([part[name] for part in found])[: len(pixels)].cpu().numpy() for name in names}


def encoders(model: nn.Module) -> list[nn.Module]:
    """The networks in a method's module, in order: its outermost parts that have a ``z_dim``; else the module
    itself."""
    found: list[nn.Module] = []
    seen: set[int] = set()
    for module in model.modules():
        if module is not model and isinstance(getattr(module, "z_dim", None), int) and id(module) not in seen:
            found.append(module)
            seen |= {id(inner) for inner in module.modules()}
    return found or [model]


def stages(encoder: nn.Module) -> dict[str, nn.Module]:
    """The parts whose outputs are looked at, by name, first to last."""
    if isinstance(encoder, SmallCNN):
        parts = [part for part in encoder.layers if isinstance(part, Residual)]
    elif isinstance(encoder, ResNet):
        parts = [getattr(encoder.net, f"layer{number}") for number in (1, 2, 3, 4)]
    else:
        children = dict(encoder.named_children())
        while len(children) == 1 and any(True for _ in next(iter(children.values())).children()):
            children = dict(next(iter(children.values())).named_children())
        return {f"layer {name}": part for name, part in children.items()}
    return {f"stage {number}": part for number, part in enumerate(parts, start=1)}


@contextlib.contextmanager
def _listening(model: nn.Module) -> Iterator[dict[tuple[str, int], Tensor]]:
    """What each stage of each encoder gave first, pooled: {(stage, encoder's number): N×C}. Emptied by the listener."""
    heard: dict[tuple[str, int], Tensor] = {}

    def listen(key: tuple[str, int]):
        def hook(module: nn.Module, inputs: tuple, output: object) -> None:
            # pooled at once: a ReLU in place may change the map right after
            if key not in heard and isinstance(output, Tensor) and output.ndim == 4:
                heard[key] = output.detach().float().mean((2, 3))
        return hook

    handles = []
    try:
        for number, encoder in enumerate(encoders(model)):
            for name, part in stages(encoder).items():
                handles.append(part.register_forward_hook(listen((name, number))))
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def _joined(heard: dict[tuple[str, int], Tensor], count: int) -> dict[str, Tensor]:
    """By stage, the encoders beside each other; maps of other than ``count`` images belong to none of them."""
    whole = {key: pooled for key, pooled in heard.items() if len(pooled) == count}
    names = dict.fromkeys(name for name, _ in whole)
    return {name: torch.cat([whole[key] for key in sorted(whole) if key[0] == name], 1) for name in names}
