"""Data sets that no study can be made of: a builder of the data gives the ``[data]`` keys, the words are of the one line."""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

Builder = Callable[[Path], dict]
CASES: dict[str, tuple[Builder, tuple[str, ...]]] = {}
IMAGES = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
LABELS = np.repeat(np.arange(3), 20)


def case(name: str, *words: str):
    def enter(builder: Builder) -> Builder:
        CASES[name] = (builder, words)
        return builder

    return enter


# -- npz archives
def npz(name: str, *words: str, more: dict | None = None, **arrays) -> None:
    """A case of an archive whose arrays differ from a good one's; None leaves one out."""
    def build(folder: Path) -> dict:
        whole = {"images": IMAGES, "labels": LABELS, **arrays}
        np.savez(folder / "d.npz", **{key: value for key, value in whole.items() if value is not None})
        return {"source": "npz", "path": "d.npz", "nominal_classes": 2, **(more or {})}

    CASES[name] = (build, words)


npz("npz without images", "'images' is missing", images=None)
npz("npz without labels", "'labels' is missing", labels=None)
npz("npz with other names", "'images' is missing", images=None, labels=None, x=IMAGES, y=LABELS)
npz("npz of pickled images", "object arrays are not read", images=np.array([{"run": "me"}] * 60, dtype=object))
npz("npz of pickled labels", "object arrays are not read", labels=np.array([len] * 60, dtype=object))
npz("npz of floats", "must be uint8", "float32", images=(IMAGES / 255).astype(np.float32))
npz("npz of NaN", "must be uint8", images=np.full((60, 8, 8), np.nan))
npz("npz of signed integers", "must be uint8", images=IMAGES.astype(np.int64))
npz("npz of flat images", "N x H x W", images=IMAGES.reshape(60, 64))
npz("npz of five channels", "1 or 3 channels", images=np.zeros((60, 8, 8, 5), np.uint8))
npz("npz channels first", "1 or 3 channels", images=np.zeros((60, 3, 8, 8), np.uint8))
npz("npz of no images", "empty", images=IMAGES[:0], labels=LABELS[:0])
npz("npz of images without size", "empty", images=np.zeros((60, 0, 8), np.uint8))
npz("npz of float labels", "row of integers", labels=LABELS.astype(float))
npz("npz of text labels", "row of integers", labels=np.array(["a"] * 60))
npz("npz of one-hot labels", "row of integers", labels=np.eye(3, dtype=int)[LABELS])
npz("npz of too few labels", "60 images but 59 labels", labels=LABELS[:-1])
npz("npz of a negative label", "negative label -1", labels=LABELS - 1)
npz("npz of a label without a name", "label 2 has no name", class_names=np.array(["a", "b"]))
npz("npz of one name twice", "one name twice", class_names=np.array(["a", "b", "a"]))
npz("npz of an empty name", "empty name", class_names=np.array(["a", " ", "c"]))
npz("npz of a name with an escape sequence", "cannot be shown", class_names=np.array(["a", "b\x1b[2J", "c"]))
npz("npz of a name longer than a folder's", "longer than 255", class_names=np.array(["a", "b" * 300, "c"]))
npz("npz of numbers as names", "row of strings", class_names=np.arange(3))
npz("npz of one class", "class", labels=np.zeros(60, int))
npz("npz with a class of two images", "2 images", more={"nominal_classes": ["0", "2"]},
    labels=np.repeat([0, 1, 2], [30, 28, 2]))
npz("npz of copies of one image", "image", images=np.repeat(IMAGES[:1], 60, axis=0))
npz("npz without the nominal class asked for", "'nine'", more={"nominal_classes": ["0", "nine"]})
npz("npz with a class index beyond", "7", more={"nominal_classes": [0, 7]})
npz("npz without the anomaly class asked for", "'nine'", more={"nominal_classes": ["0", "1"], "anomaly_classes": ["nine"]})
npz("npz with a class on both sides", "'1'", more={"nominal_classes": ["0", "1"], "anomaly_classes": ["1"]})
npz("npz with more nominal classes than there are", "4", more={"nominal_classes": 4})


@case("npz that would unpack to a thousand times its size", "decompression bomb")
def _bomb(folder: Path) -> dict:
    np.savez_compressed(folder / "d.npz", images=np.zeros((1200, 256, 256), np.uint8), labels=np.zeros(1200, int))
    return {"source": "npz", "path": "d.npz"}


@case("npz whose path is too long", "data.path", "too long")
def _long_path(folder: Path) -> dict:
    return {"source": "npz", "path": "x" * 5000}


@case("npz behind a loop of links", "data.path")
def _loop(folder: Path) -> dict:
    (folder / "d.npz").symlink_to("e.npz")
    (folder / "e.npz").symlink_to("d.npz")
    return {"source": "npz", "path": "d.npz"}


@case("npz that is not there", "d.npz", "not a file")
def _missing(folder: Path) -> dict:
    return {"source": "npz", "path": "d.npz"}


@case("npz that is a folder", "not a file")
def _a_folder(folder: Path) -> dict:
    (folder / "d.npz").mkdir()
    return {"source": "npz", "path": "d.npz"}


@case("npz that is text", "not an .npz archive")
def _text(folder: Path) -> dict:
    (folder / "d.npz").write_text("<html>404</html>")
    return {"source": "npz", "path": "d.npz"}


@case("npz of no bytes", "not an .npz archive")
def _empty_file(folder: Path) -> dict:
    (folder / "d.npz").touch()
    return {"source": "npz", "path": "d.npz"}


@case("npz cut short", "d.npz")
def _cut(folder: Path) -> dict:
    np.savez(folder / "d.npz", images=IMAGES, labels=LABELS)
    data = (folder / "d.npz").read_bytes()
    (folder / "d.npz").write_bytes(data[: len(data) // 2])
    return {"source": "npz", "path": "d.npz"}


@case("npz with a flipped byte", "cannot be read")
def _flipped(folder: Path) -> dict:
    np.savez_compressed(folder / "d.npz", images=IMAGES, labels=LABELS)
    data = bytearray((folder / "d.npz").read_bytes())
    data[400] ^= 255
    (folder / "d.npz").write_bytes(data)
    return {"source": "npz", "path": "d.npz"}


@case("npz that claims a trillion images", "d.npz is damaged", "claims 64000000000000 bytes and holds 0")
def _claims(folder: Path) -> dict:
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000, 8, 8), }"
    header = header.ljust(117) + b"\n"
    with zipfile.ZipFile(folder / "d.npz", "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
        archive.writestr("labels.npy", b"")
    return {"source": "npz", "path": "d.npz"}


@case("npz whose member points outside", "'images' is missing")
def _outside(folder: Path) -> dict:
    with zipfile.ZipFile(folder / "d.npz", "w") as archive:
        archive.writestr("../../images.npy", b"\x93NUMPY")
    return {"source": "npz", "path": "d.npz"}


# ----------------------------------------------------------------------------------------------------- image folders
def photos(folder: Path, *, classes=("ant", "bee", "cat"), count: int = 12, side: int = 16) -> dict:
    from PIL import Image

    random = np.random.default_rng(1)
    for name in classes:
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / name / f"{number:02d}.png")
    return {"source": "folder", "path": "photos", "nominal_classes": ["ant", "bee"]}


@case("folder that is not there", "photos")
def _no_folder(folder: Path) -> dict:
    return {"source": "folder", "path": "photos"}


@case("folder with nothing in it", "photos")
def _empty_folder(folder: Path) -> dict:
    (folder / "photos").mkdir()
    return {"source": "folder", "path": "photos"}


@case("folder that is a file", "photos")
def _file(folder: Path) -> dict:
    (folder / "photos").write_text("x")
    return {"source": "folder", "path": "photos"}


@case("folder without a path", "path")
def _no_path(folder: Path) -> dict:
    return {"source": "folder"}


@case("folder of images and no classes", "photos")
def _no_classes(folder: Path) -> dict:
    made = photos(folder, classes=("ant",))
    for path in (folder / "photos" / "ant").iterdir():
        path.rename(folder / "photos" / path.name)
    (folder / "photos" / "ant").rmdir()
    return made


@case("folder of one class", "class")
def _one_class(folder: Path) -> dict:
    return {**photos(folder, classes=("ant",)), "nominal_classes": 2}


@case("folder with an empty class", "bee")
def _empty_class(folder: Path) -> dict:
    made = photos(folder)
    for path in (folder / "photos" / "bee").iterdir():
        path.unlink()
    return made


@case("folder with two images of a class", "bee")
def _few(folder: Path) -> dict:
    made = photos(folder)
    for path in sorted((folder / "photos" / "bee").iterdir())[2:]:
        path.unlink()
    return made


def spoiled(name: str, *words: str):
    """A folder in which one nominal and one anomalous file are replaced by what the builder writes."""
    def enter(write: Callable[[Path], None]) -> None:
        def build(folder: Path) -> dict:
            made = photos(folder)
            for place in ("ant/03.png", "cat/05.png"):
                (folder / "photos" / place).unlink()
                write(folder / "photos" / place)
            return made

        CASES[name] = (build, ("ant/03.png", "cat/05.png", "--skip-bad", *words))

    return enter


@spoiled("folder with a file of no bytes")
def _nothing(path: Path) -> None:
    path.touch()


@spoiled("folder with HTML for an image")
def _html(path: Path) -> None:
    path.write_text("<html>403 Forbidden</html>")


@spoiled("folder with an image cut short")
def _cut_image(path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.random.default_rng(2).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:300])


@spoiled("folder with an animation")
def _animation(path: Path) -> None:
    from PIL import Image

    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "green")]
    frames[0].save(path, format="PNG", save_all=True, append_images=frames[1:])


@spoiled("folder with a decompression bomb")
def _bomb(path: Path) -> None:
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
                     + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b""))


@spoiled("folder with a pipe for an image")
def _pipe(path: Path) -> None:
    os.mkfifo(path)


@spoiled("folder with a link to nothing")
def _dangling(path: Path) -> None:
    path.symlink_to("nowhere.png")


@spoiled("folder with a link to itself")
def _loop(path: Path) -> None:
    path.symlink_to(path.name)


@case("folder of mixed sizes", "image_size")
def _sizes(folder: Path) -> dict:
    from PIL import Image

    made = photos(folder)
    Image.new("RGB", (20, 16)).save(folder / "photos" / "ant" / "00.png")
    return made


@case("folder divided officially without its test half", "photos")
def _half(folder: Path) -> dict:
    made = photos(folder)
    (folder / "photos" / "train").mkdir()
    for name in ("ant", "bee", "cat"):
        (folder / "photos" / name).rename(folder / "photos" / "train" / name)
    return {**made, "nominal_classes": ["ant", "bee"]}


# ------------------------------------------------------------------------------------------------- torchvision's files
@case("CIFAR-10 that is not there", "download = true")
def _no_cifar(folder: Path) -> dict:
    return {"source": "cifar10", "path": "."}


@case("CIFAR-10 whose batches would run a program", "cifar10")
def _hostile(folder: Path) -> dict:
    inner = folder / "cifar-10-batches-py"
    inner.mkdir()
    for name in ("batches.meta", "data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"):
        (inner / name).write_bytes(b"cos\nsystem\n(S'touch executed'\ntR.")
    return {"source": "cifar10", "path": "."}


@case("CIFAR-100 that is not there", "download = true")
def _no_cifar100(folder: Path) -> dict:
    return {"source": "cifar100", "path": "."}


def idx(folder: Path, **changed: bytes) -> dict:
    files = {"train-images-idx3-ubyte": struct.pack(">IIII", 0x803, 20, 28, 28) + bytes(20 * 784),
             "train-labels-idx1-ubyte": struct.pack(">II", 0x801, 20) + bytes(range(10)) * 2,
             "t10k-images-idx3-ubyte": struct.pack(">IIII", 0x803, 10, 28, 28) + bytes(10 * 784),
             "t10k-labels-idx1-ubyte": struct.pack(">II", 0x801, 10) + bytes(range(10))}
    for name, content in {**files, **{key.replace("_", "-"): value for key, value in changed.items()}}.items():
        (folder / name).write_bytes(content)
    return {"source": "fashion_mnist", "path": "."}


@case("Fashion-MNIST that is not there", "download = true")
def _no_fashion(folder: Path) -> dict:
    return {"source": "fashion_mnist", "path": "."}


@case("Fashion-MNIST cut short", "train-images-idx3-ubyte", "damaged")
def _cut_idx(folder: Path) -> dict:
    return idx(folder, train_images_idx3_ubyte=struct.pack(">IIII", 0x803, 20, 28, 28) + bytes(100))


@case("Fashion-MNIST of another kind", "t10k-labels-idx1-ubyte", "damaged")
def _other_idx(folder: Path) -> dict:
    return idx(folder, t10k_labels_idx1_ubyte=struct.pack(">II", 0xD01, 10) + bytes(40))


@case("Fashion-MNIST of impossible size", "train-images-idx3-ubyte", "damaged")
def _huge_idx(folder: Path) -> dict:
    return idx(folder, train_images_idx3_ubyte=struct.pack(">IIII", 0x803, 2**31, 2**31, 2**31) + bytes(100))


@case("Fashion-MNIST with labels of another set", "do not fit")
def _labels_idx(folder: Path) -> dict:
    return idx(folder, train_labels_idx1_ubyte=struct.pack(">II", 0x801, 10) + bytes(10))
