"""Where images come from: a registry of sources, each an index that is cheap to make and images that are read on demand.

``open_source(data)`` gives a ``Source``: one label per image, the class names, which images are an official test set.
``source.read(indices)`` then decodes only what a split needs. Sources: digits, folder, cifar10, cifar100, fashion_mnist,
npz. A new one is one function with ``@register("name")``, or a plug-in (``analysis.plugins``).

Whether a flip (left-right) or a rotation (by quarter turns) keeps a label is a property of the source, known before any
image is seen: photographs of things survive both; digits survive neither (a 6 becomes a 9). For images of an unknown
kind rotation counts as unsafe everywhere and flips as safe in a ``folder`` (photographs as a rule), unsafe in an
``npz``; ``[data] flips_keep_labels`` and ``rotations_keep_labels`` overrule.
"""

from __future__ import annotations

import contextlib
import sys
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from analysis import plugins
from study.array_files import read_idx, read_npz
from study.errors import EnvironmentProblem, OracleGapError, UserError, nearest, one_line
from study.groups import group_keys
from study.images import BadImage, conform

LONGEST_NAME = 255  # as of a folder, which is what names a class elsewhere
Reader = Callable[[Sequence[int]], "list[np.ndarray | BadImage]"]


@dataclass(frozen=True, eq=False)
class Source:
    """An index of a data set.

    labels: (N,) int64 into class_names; is_test: (N,) bool, or None where no official test set exists;
    read(indices) → per index a uint8 (h, w, 1 or 3) array or a BadImage; describe(index) → a name for messages, which with
    ``file_names`` is the image's path relative to data.path. groups: (N,) keys of ``study.groups``, or None without any.
    """

    name: str
    labels: np.ndarray
    class_names: tuple[str, ...]
    read: Reader
    describe: Callable[[int], str]
    is_test: np.ndarray | None = None
    flips_keep_labels: bool = False
    rotations_keep_labels: bool = False
    file_names: bool = False
    groups: tuple[str | None, ...] | None = None


LOADERS: dict[str, Callable[[dict], Source]] = {}


def register(name: str):
    """Enter a loader(data: dict) -> Source under ``name``; RuntimeError for a name already taken."""

    def enter(loader):
        if name in LOADERS:
            raise RuntimeError(f"source {name!r} is registered twice")
        LOADERS[name] = loader
        return loader

    return enter


def source_names() -> list[str]:
    """Every source there is, in the order of registration, then those of installed plug-ins."""
    import study.folder_source  # noqa: F401  registers itself; imported here because it imports this module

    return [*LOADERS, *(name for name in plugins.names("source") if name not in LOADERS)]


def open_source(data: dict) -> Source:
    """The source a [data] table asks for. UserError for an unknown source, a missing path or unusable content."""
    name = data.get("source", "digits")
    known = source_names()
    try:
        found = name in LOADERS or plugins.seek("source", name)
    except plugins.PluginError as error:
        raise UserError(f"data.source: {error}") from error
    if not found:
        raise UserError(f"data.source: unknown source {name!r}{nearest(str(name), known)}; one of {', '.join(known)}")
    try:
        source = LOADERS[name](data)
    except (OracleGapError, MemoryError):
        raise
    except Exception as error:  # of a plug-in, as a rule
        raise UserError(f"data.source: {name}: {type(error).__name__}: {one_line(error, 300)}") from error
    if not isinstance(source, Source):
        raise UserError(f"data.source: {name} gives a {type(source).__name__}, not a study.sources.Source")
    flags = {"name": name}  # by which a study that goes on knows its data
    for key in ("flips_keep_labels", "rotations_keep_labels"):
        if data.get(key) is not None:
            flags[key] = bool(data[key])
    if group := data.get("group"):
        if not source.file_names:
            raise UserError(f"data.group: source {name!r} has no file names to tell groups by; leave it empty")
        flags["groups"] = group_keys([source.describe(index) for index in range(len(source.labels))], group)
    return replace(source, **flags)


def needed_path(data: dict) -> Path:
    """``data.path`` as a path that can be looked up; UserError for none, a name too long, a loop of links, no such home."""
    text = str(data.get("path") or "")
    if not text:
        raise UserError(f"data.path: source {data['source']!r} needs a path")
    try:
        path = Path(text).expanduser()
        path.resolve()
        path.exists()
    except OSError as error:
        raise UserError(f"data.path: {one_line(text, 200)}: {error.strerror}") from None
    except RuntimeError as error:  # pathlib's word for a loop, and for a user without a home
        raise UserError(f"data.path: {one_line(text, 200)}: {one_line(error, 200)}") from None
    return path


def from_arrays(name: str, images: np.ndarray, labels: np.ndarray, class_names, data: dict, **facts) -> Source:
    """A Source over arrays in memory: images uint8 (N, H, W[, C])."""
    if images.ndim == 3:
        images = images[..., None]
    size = int(data.get("image_size") or 0)
    shape = (size, size, images.shape[3]) if size else images.shape[1:]

    def read(indices: Sequence[int]) -> list[np.ndarray | BadImage]:
        return [conform(images[index], shape) for index in indices]

    return Source(
        name=name,
        labels=np.asarray(labels, dtype=np.int64),
        class_names=tuple(str(item) for item in class_names),
        read=read,
        describe=lambda index: f"image {index}",
        **facts,
    )


@register("digits")
def _digits(data: dict) -> Source:
    """scikit-learn's 1,797 real 8x8 digits, embedded: no path, no network."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255.0 / 16.0)).astype(np.uint8)
    return from_arrays("digits", images, bunch.target, [str(name) for name in bunch.target_names], data)


@register("cifar10")
def _cifar10(data: dict) -> Source:
    return _cifar(data, "CIFAR10", "cifar-10-batches-py")


@register("cifar100")
def _cifar100(data: dict) -> Source:
    return _cifar(data, "CIFAR100", "cifar-100-python")


def _cifar(data: dict, kind: str, inner: str) -> Source:
    """torchvision's own CIFAR files; torchvision compares their MD5 before it opens the pickled batches."""
    root = needed_path(data)
    if root.name == inner:  # torchvision wants the folder around it
        root = root.parent
    if not data.get("download") and not (root / inner).is_dir():
        raise _missing(data, root)
    from torchvision import datasets

    parts = []
    for train in (True, False):
        with _torchvision(data, root):
            parts.append(getattr(datasets, kind)(str(root), train=train, download=bool(data.get("download"))))
    images = np.concatenate([part.data for part in parts])
    labels = np.concatenate([np.asarray(part.targets) for part in parts])
    is_test = np.repeat([False, True], [len(part.data) for part in parts])
    return from_arrays(
        data["source"], images, labels, parts[0].classes, data,
        is_test=is_test, flips_keep_labels=True, rotations_keep_labels=True,
    )  # fmt: skip


@register("fashion_mnist")
def _fashion_mnist(data: dict) -> Source:
    """Fashion-MNIST's four idx files, plain or gzipped, where torchvision or a distribution's package puts them."""
    root = needed_path(data)
    folder = next((place for place in _fashion_places(root) if _idx_file(place, "t10k-labels-idx1-ubyte")), None)
    if folder is None:
        if not data.get("download"):
            raise _missing(data, root)
        from torchvision import datasets

        with _torchvision(data, root):
            datasets.FashionMNIST(str(root), download=True)
        folder = root / "FashionMNIST" / "raw"
    images, labels, sizes = [], [], []
    for part in ("train", "t10k"):
        images.append(_read_idx(folder, f"{part}-images-idx3-ubyte", 3))
        labels.append(_read_idx(folder, f"{part}-labels-idx1-ubyte", 1))
        sizes.append(len(labels[-1]))
        if len(images[-1]) != len(labels[-1]) or labels[-1].max(initial=0) > 9:
            raise UserError(f"{folder}: the {part} images and labels do not fit each other; fetch the files again")
    names = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
    return from_arrays(
        "fashion_mnist", np.concatenate(images), np.concatenate(labels), names, data,
        is_test=np.repeat([False, True], sizes), flips_keep_labels=True, rotations_keep_labels=True,
    )  # fmt: skip


def _fashion_places(root: Path) -> list[Path]:
    return [root / "FashionMNIST" / "raw", root / "raw", root]


def _idx_file(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _read_idx(folder: Path, name: str, dimensions: int) -> np.ndarray:
    path = _idx_file(folder, name)
    if path is None:
        raise UserError(f"{folder / name} is missing; fetch it or set download = true")
    found = read_idx(path, dimensions)
    if dimensions == 3 and found.shape[1:] != (28, 28):
        raise UserError(f"{path} is damaged (images of {found.shape[2]}x{found.shape[1]}, not 28x28); fetch it again")
    return found


def _missing(data: dict, root: Path) -> UserError:
    return UserError(
        f"data.path: {root} does not hold {data['source']} as torchvision stores it; "
        "put the files there or set download = true"
    )


@contextlib.contextmanager
def _torchvision(data: dict, root: Path):
    """torchvision's errors in our words; its progress bar goes to stderr, stdout carries the result."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except OSError as error:  # URLError is one, too
        what = "cannot be fetched or written" if data.get("download") else "cannot be read"
        raise EnvironmentProblem(f"{data['source']} {what} at {root}: {error}") from None
    except RuntimeError:
        raise _missing(data, root) from None
    except Exception as error:
        raise UserError(f"{root}: {data['source']} is damaged ({type(error).__name__}); fetch it again") from None


@register("npz")
def _npz(data: dict) -> Source:
    """A NumPy archive: images uint8 (N, H, W[, 1 or 3]), labels integer (N,), optional class_names (label → name).

    Without ``class_names`` a class is named by its label. Pickled (object) arrays are refused.
    """
    path = needed_path(data)
    arrays = read_npz(path, ("images", "labels"), ("class_names",))
    images, labels = arrays["images"], arrays["labels"]
    if images.dtype != np.uint8:
        raise UserError(f"{path}: images must be uint8, not {images.dtype}; scale them to 0..255")
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        raise UserError(f"{path}: images must be N x H x W, or N x H x W x C with 1 or 3 channels, not {images.shape}")
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise UserError(f"{path}: labels must be a row of integers, not {labels.dtype} of shape {labels.shape}")
    if len(labels) != len(images):
        raise UserError(f"{path}: {len(images)} images but {len(labels)} labels")
    if images.size == 0:
        raise UserError(f"{path}: images is empty, shape {images.shape}")
    if int(labels.min()) < 0:
        raise UserError(f"{path}: labels holds the negative label {int(labels.min())}")
    if "class_names" in arrays:
        names = _npz_names(path, arrays["class_names"], int(labels.max()))
    else:
        present, labels = np.unique(labels, return_inverse=True)
        names = [str(label) for label in present]
    return from_arrays("npz", images, labels, names, data)


def _npz_names(path: Path, names: np.ndarray, last: int) -> list[str]:
    if names.ndim != 1 or names.dtype.kind not in "US":
        raise UserError(f"{path}: class_names must be a row of strings, not {names.dtype} of shape {names.shape}")
    try:
        texts = [name.decode() if isinstance(name, bytes) else str(name) for name in names.tolist()]
        "".join(texts).encode()
    except UnicodeError:
        raise UserError(f"{path}: class_names is not valid Unicode") from None
    if last >= len(texts):
        raise UserError(f"{path}: label {last} has no name, class_names holds {len(texts)}")
    texts = [unicodedata.normalize("NFC", text) for text in texts]
    if len(set(texts)) != len(texts) or not all(text.strip() for text in texts):
        raise UserError(f"{path}: class_names holds an empty name or one name twice")
    for text in texts:
        if not text.isprintable() or len(text) > LONGEST_NAME:
            raise UserError(
                f"{path}: the class name {one_line(repr(text), 80)} is longer than {LONGEST_NAME} characters or holds "
                "some that cannot be shown; rename it"
            )
    return texts
