"""What the checks of ``trainables/checks.py`` share: a method with its space, tiny images, and assertions that speak."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables import methods
from trainables.data import View
from trainables.methods.base import Method

SHAPES = ((8, 8, 1), (32, 32, 3), (20, 12, 3))
SMALL = SHAPES[0]
CLASSES, BATCH = 3, 6

@dataclass(frozen=True)
class Subject:
    """A method under test with the space that its configurations come from."""

    method: Method
    space: Any

    def params(self, **changed: Any) -> dict[str, Any]:
        """The default configuration, half as wide."""
        width = {"width": 0.5} if "width" in self.space.parameters else {}
        return {**self.space.default(), **width, **changed}

    def build(self, shape=SMALL, *, seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        return self.method.build(shape, CLASSES, "small_cnn", self.params())

    def loss(self, model: nn.Module, images: Tensor, targets: Tensor, *, seed: int = 2) -> tuple[Tensor, list[dict]]:
        """The sum over the members, and the parts of each."""
        outcomes = [self.method.loss(member, images, targets, self.params(), generator(seed + number))
                    for number, member in enumerate(self.method.members(model))]
        return sum(loss for loss, _ in outcomes), [parts for _, parts in outcomes]


def require(condition: bool, message: str) -> None:
    """A check's assertion, also under ``python -O``."""
    if not condition:
        raise AssertionError(message)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(shape=SMALL, *, count: int = BATCH) -> tuple[Tensor, Tensor]:
    """Noise with a bright bar that tells the class, N×C×H×W, and the labels."""
    height, width, channels = shape
    images, labels = torch.randn(count, channels, height, width, generator=generator(1)), torch.arange(count) % CLASSES
    for number, label in enumerate(labels.tolist()):
        start = label * width // CLASSES
        images[number, :, :, start : start + max(1, width // CLASSES)] += 2
    return images, labels


def view() -> View:
    """48 and 12 images of ``batch`` as a trial sees them."""
    images, labels = batch(count=60)
    pixels = (128 + 40 * images).clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()
    parts = np.split(pixels, [48]), np.split(labels.numpy(), [48])
    return View(classes=tuple("abc"), image_shape=SMALL, mean=(0.6,), std=(0.2,), flips_keep_labels=False,
                rotations_keep_labels=False, digest="checks", split=0, train_images=parts[0][0],
                train_labels=parts[1][0], validation_images=parts[0][1], validation_labels=parts[1][1])


def close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a.float(), b.float(), rtol=1e-4, atol=1e-5)


def subject_of(method: Method | type[Method] | str, space: Any) -> Subject:
    if isinstance(method, str):
        known = methods.get_method(method)
    else:
        known = method() if isinstance(method, type) else method
    if space is None:
        make = getattr(known, "search_space", None)
        # this package and search_spaces do not know each other; only whoever checks a method needs both
        space = make() if make else importlib.import_module("search_spaces").get_space(known.info.name)
    return Subject(known, space)


@contextlib.contextmanager
def named(what: str) -> Iterator[None]:
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{what}: {error}") from error


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """On one thread, where sums are the same in every run; leaves torch's random state as it was."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)


def require_own_name(method: Method) -> None:
    """Fails where another method goes by this one's name."""
    name = method.info.name
    if name in methods.built_in() or name in methods.PLUGINS:
        require(methods.get_method(name) is method, f"there is another method named {name!r}")
