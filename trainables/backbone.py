"""Pretrained backbones: weights from a local file into every encoder of a model, to be fine-tuned or left as they are.

The file holds a state dict: safetensors, or torch's own format, which is read with ``weights_only=True`` so that no code in it
runs. Names may be those of torchvision, of this project's own ``model.safetensors``, or either behind ``module.``,
``backbone.``, ``encoder.``; a classifier on top (``fc``, ``head``, ``classifier``) is left out.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

import torch
from torch import Tensor, nn

from trainables.files import sha256_of_file

WRAPPERS = re.compile(r"^(module|model|backbone|encoder|net|members\.0)\.")
ON_TOP = ("fc.", "head.", "classifier.")


class BackboneError(ValueError):
    """The file is missing, no state dict, or does not fit the network."""


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a file, its names without wrappers. Raises ``BackboneError``."""
    path = Path(path).expanduser()
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            found = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise BackboneError(f"pretrained weights {path}: no such file") from None
    except Exception as error:  # torch and safetensors raise their own kinds for what is no such file
        raise BackboneError(f"pretrained weights {path} cannot be read: {' '.join(str(error).split())[:120]}") from None
    for key in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not any(isinstance(value, Tensor) for value in found.values()):
        raise BackboneError(f"pretrained weights {path}: no state dict of tensors")
    tensors = {_plain(name): tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(ON_TOP)}


def weights_digest(path: str | Path, *, expected: str = "") -> str:
    """SHA-256 of the file. Raises ``BackboneError`` where there is none, or it is not the ``expected`` one."""
    try:
        digest = sha256_of_file(Path(path).expanduser())
    except OSError as error:
        raise BackboneError(f"pretrained weights {path}: {error.strerror}") from None
    if expected and digest != expected:
        raise BackboneError(f"pretrained weights {path}: this machine's file is another one (its SHA-256 differs)")
    return digest


def load_backbone(model: nn.Module, path: str | Path, *, freeze: bool = False) -> list[nn.Module]:
    """Puts the weights into every encoder of ``model`` and returns these; ``freeze`` keeps them and their normalisation
    statistics as they are. Raises ``BackboneError`` unless every tensor of the encoder is in the file and fits."""
    weights = read_weights(path)
    encoders = [part for part in model.modules() if hasattr(part, "feature_map") and hasattr(part, "z_dim")]
    if not encoders:
        raise BackboneError("this method has no encoder that weights could be loaded into")
    for encoder in encoders:
        own = {_plain(name): name for name in encoder.state_dict()}
        lacking = [name for name in own if name not in weights and not name.endswith("num_batches_tracked")]
        if lacking:
            raise BackboneError(f"pretrained weights {path} do not fit: the network's {lacking[0]} is not among them "
                                f"({len(lacking)} of {len(own)} tensors are missing)")
        fitting = {name: weights[plain] for plain, name in own.items() if plain in weights}
        for name, tensor in encoder.state_dict().items():
            if name in fitting and fitting[name].shape != tensor.shape:
                raise BackboneError(
                    f"pretrained weights {path} do not fit: {_plain(name)} is {_shape(fitting[name])} there and {_shape(tensor)} "
                    "here; torchvision's own weights fit the networks named …_torchvision and colour images")
        encoder.load_state_dict(fitting, strict=False)
        if freeze:
            encoder.requires_grad_(False)
            encoder.__class__ = _frozen(type(encoder))
            encoder.train()
    return encoders


@functools.cache
def _frozen(network: type[nn.Module]) -> type[nn.Module]:
    """The network's class, but that it stays in evaluation mode: its statistics are the file's."""
    return type(f"Frozen{network.__name__}", (network,), {"train": lambda self, mode=True: network.train(self, False)})


def _plain(name: str) -> str:
    while (shorter := WRAPPERS.sub("", name)) != name:
        name = shorter
    return name


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"
