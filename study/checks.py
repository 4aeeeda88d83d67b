"""What a data source promises, as a check that its author can run; see ``trainables.checks`` and ``analysis.checks``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from study.images import BadImage
from study.sources import Source


def check_source(loader: Callable[[dict], Source], data: dict) -> None:
    """Opens a source with the keys of a [data] table. AssertionError that says which promise of ``Source`` is broken."""
    name = getattr(loader, "name", getattr(loader, "__name__", "?"))

    def require(condition: bool, what: str) -> None:
        if not condition:
            raise AssertionError(f"source {name}: {what}")

    source = loader(data)
    require(isinstance(source, Source), f"gives a {type(source).__name__}, not a study.sources.Source")
    labels, classes = source.labels, source.class_names
    require(len(set(classes)) == len(classes) > 1, "class_names holds fewer than two names, or one of them twice")
    require(labels.dtype == np.int64 and labels.ndim == 1 and len(labels) > 0, "labels must be int64 (N,), N > 0")
    require(labels.min() >= 0 and labels.max() < len(classes), "a label is no index into class_names")
    require(source.is_test is None or (source.is_test.dtype == bool and source.is_test.shape == labels.shape),
            "is_test must be bool (N,), or None")
    some = list(range(min(5, len(labels))))[::-1]
    images = source.read(some)
    require(len(images) == len(some), f"read gives {len(images)} images for {len(some)} indices")
    for image in images:
        require(isinstance(image, BadImage) or (image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] in (1, 3)),
                "an image must be uint8 (h, w, 1 or 3), or a BadImage")
    for index, image in zip(some, images):
        (alone,) = source.read([index])
        same = alone == image if isinstance(image, BadImage) else np.array_equal(alone, image)
        require(same, f"image {index} differs when it is read by itself: is the order of the indices kept?")
        require(isinstance(source.describe(index), str), "describe(index) must give a text")
    if source.file_names:
        names = [source.describe(index) for index in range(len(labels))]
        require(len(set(names)) == len(names), "file_names: describe(index) must give each image a path of its own")
