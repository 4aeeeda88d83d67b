"""Sources: what is read from where, and that every malformed input ends in one clear line."""

from __future__ import annotations

import gzip
import os
import struct

import numpy as np
import pytest
from PIL import Image

from study.errors import EnvironmentProblem, OracleGapError, UserError
from study.folder_source import _check_memory, readable
from study.images import BadImage
from study.sources import LOADERS, open_source, register, source_names


def image(path, value=0, size=(4, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)


def arrays(count=12, classes=3, **more) -> dict:
    images = np.arange(count * 20, dtype=np.uint32).astype(np.uint8).reshape(count, 4, 5)
    return {"images": images, "labels": np.arange(count) % classes} | more


def failure(data) -> str:
    with pytest.raises(OracleGapError) as caught:
        open_source(data)
    message = str(caught.value)
    assert "\n" not in message and caught.value.exit_code in (2, 3)
    return message


def npz(path, **content):
    np.savez(path, **content)
    return {"source": "npz", "path": str(path)}


def test_the_registry():
    assert source_names() == ["digits", "cifar10", "cifar100", "fashion_mnist", "npz", "folder"]
    with pytest.raises(RuntimeError, match="twice"):
        register("digits")(LOADERS["digits"])
    assert "did you mean 'cifar10'" in failure({"source": "cifar"})


def test_digits_are_the_real_ones():
    source = open_source({"source": "digits"})
    assert source.class_names == tuple("0123456789") and len(source.labels) == 1797
    assert not source.flips_keep_labels and not source.rotations_keep_labels and source.is_test is None
    first = source.read([0])[0]
    assert first.shape == (8, 8, 1) and first.dtype == np.uint8 and first.max() > 230
    assert open_source({"source": "digits", "image_size": 16}).read([5])[0].shape == (16, 16, 1)


def test_flags_can_be_overruled():
    source = open_source({"source": "digits", "flips_keep_labels": True, "rotations_keep_labels": None})
    assert source.flips_keep_labels and not source.rotations_keep_labels


def test_npz_reads_images_labels_and_names(tmp_path):
    source = open_source(npz(tmp_path / "a.npz", **arrays(class_names=np.array(["x", "y", "z", "unused"]))))
    assert source.class_names == ("x", "y", "z", "unused")
    assert source.read([3])[0].shape == (4, 5, 1) and source.read([3])[0].flat[1] == 61
    assert source.labels.tolist() == [index % 3 for index in range(12)]
    unnamed = open_source(npz(tmp_path / "b.npz", images=arrays()["images"], labels=np.arange(12) % 2 * 5 + 2))
    assert unnamed.class_names == ("2", "7") and set(unnamed.labels.tolist()) == {0, 1}
    bytes_names = open_source(npz(tmp_path / "c.npz", **arrays(class_names=np.array([b"x", b"y", b"z"]))))
    assert bytes_names.class_names == ("x", "y", "z")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": None}, "'images' is missing"),
        ({"labels": None}, "'labels' is missing"),
        ({"images": np.zeros((12, 4, 5), np.float32)}, "uint8, not float32"),
        ({"images": np.zeros((12, 20), np.uint8)}, "N x H x W"),
        ({"images": np.zeros((12, 4, 5, 4), np.uint8)}, "1 or 3 channels"),
        ({"images": np.zeros((0, 4, 5), np.uint8), "labels": np.zeros(0, int)}, "empty"),
        ({"images": np.zeros((12, 0, 5), np.uint8)}, "empty"),
        ({"labels": np.zeros(11, int)}, "12 images but 11 labels"),
        ({"labels": np.zeros(12)}, "integers, not float64"),
        ({"labels": np.zeros((12, 1), int)}, "row of integers"),
        ({"labels": np.full(12, -1)}, "negative label -1"),
        ({"class_names": np.array(["x", "y"])}, "label 2 has no name"),
        ({"class_names": np.array(["x", "y", "x"])}, "one name twice"),
        ({"class_names": np.array(["x", "", "z"])}, "empty name"),
        ({"class_names": np.array([1, 2, 3])}, "row of strings"),
        ({"class_names": np.array([b"\xff", b"y", b"z"])}, "not valid Unicode"),
        ({"images": np.array([{}] * 12, dtype=object)}, "object arrays are not read"),
        ({"class_names": np.array(["x", "y", None], dtype=object)}, "object arrays are not read"),
    ],
)
def test_npz_malformations(tmp_path, change, words):
    content = {key: value for key, value in (arrays() | change).items() if value is not None}
    message = failure(npz(tmp_path / "bad.npz", **content))
    assert words in message and "bad.npz" in message


def test_npz_files_that_are_none(tmp_path):
    assert "is not a file" in failure({"source": "npz", "path": str(tmp_path / "no.npz")})
    assert "is not a file" in failure({"source": "npz", "path": str(tmp_path)})
    assert "needs a path" in failure({"source": "npz", "path": ""})
    (tmp_path / "text.npz").write_text("hello")
    assert "not an .npz" in failure({"source": "npz", "path": str(tmp_path / "text.npz")})
    np.save(tmp_path / "one.npy", np.zeros(3))
    assert "not an .npz" in failure({"source": "npz", "path": str(tmp_path / "one.npy")})
    data = npz(tmp_path / "flip.npz", **arrays())
    content = bytearray((tmp_path / "flip.npz").read_bytes())
    content[300] ^= 0xFF
    (tmp_path / "flip.npz").write_bytes(content)
    assert "cannot be read" in failure(data)
    (tmp_path / "cut.npz").write_bytes(content[:400])
    assert "not an .npz" in failure({"source": "npz", "path": str(tmp_path / "cut.npz")})


def test_folder_flat(tmp_path):
    for index, name in enumerate(["b", "a"]):
        image(tmp_path / name / "2.png", 10 * index + 2)
        image(tmp_path / name / "10.JPG", 10 * index + 1)
    image(tmp_path / "a" / ".hidden.png")
    (tmp_path / "a" / "notes.txt").write_text("x")
    (tmp_path / ".git").mkdir()
    source = open_source({"source": "folder", "path": str(tmp_path)})
    assert source.class_names == ("a", "b") and source.is_test is None
    assert [source.describe(index) for index in range(4)] == ["a/10.JPG", "a/2.png", "b/10.JPG", "b/2.png"]
    assert [int(array[0, 0, 0]) for array in source.read([1, 3])] == [12, 2]


def test_folder_official(tmp_path):
    image(tmp_path / "train" / "a" / "1.png", 1)
    image(tmp_path / "test" / "a" / "1.png", 2)
    image(tmp_path / "test" / "b" / "1.png", 3)
    source = open_source({"source": "folder", "path": str(tmp_path)})
    assert source.class_names == ("a", "b") and source.is_test.tolist() == [False, True, True]
    image(tmp_path / "bus" / "1.png", 4)  # then train and test are classes like any other, here without images
    source = open_source({"source": "folder", "path": str(tmp_path)})
    assert source.class_names == ("bus", "test", "train") and source.labels.tolist() == [0]


def test_folder_loops_of_links_end_and_no_file_counts_twice(tmp_path):
    root = tmp_path / "root"
    image(root / "a" / "1.png", 1)
    image(root / "b" / "1.png", 2)
    (root / "a" / "loop").symlink_to(root)
    (root / "a" / "again.png").symlink_to(root / "a" / "1.png")
    (root / "again").symlink_to(root)
    image(tmp_path / "elsewhere" / "1.png", 3)
    (root / "c").symlink_to(tmp_path / "elsewhere")
    source = open_source({"source": "folder", "path": str(root)})
    assert source.class_names == ("a", "again", "b", "c") and source.labels.tolist() == [0, 2, 3]


def test_folder_names_that_are_not_utf8(tmp_path):
    folder = os.path.join(os.fsencode(tmp_path), b"caf\xe9")
    os.mkdir(folder)
    Image.new("L", (2, 2), 9).save(tmp_path / "x.png")
    os.rename(tmp_path / "x.png", os.path.join(folder, b"n\xff.png"))
    source = open_source({"source": "folder", "path": str(tmp_path)})
    assert source.class_names == ("caf\\xe9",) and source.describe(0) == "caf\\xe9/n\\xff.png"
    assert source.read([0])[0][0, 0, 0] == 9
    assert readable("e\u0301") == "\u00e9" and readable("a\nb") == "a\\nb"


def test_folder_bad_files_have_reasons(tmp_path):
    image(tmp_path / "a" / "1.png", 1)
    (tmp_path / "a" / "0.png").write_bytes(b"")
    source = open_source({"source": "folder", "path": str(tmp_path)})
    bad, good = source.read([0, 1])
    assert bad == BadImage("empty file") and good.shape == (4, 4, 1)


def test_folder_paths_that_are_none(tmp_path):
    assert "is not a folder" in failure({"source": "folder", "path": str(tmp_path / "no")})
    assert "holds no images" in failure({"source": "folder", "path": str(tmp_path)})
    image(tmp_path / "1.png")  # images without a class
    assert "<class>" in failure({"source": "folder", "path": str(tmp_path)})


def test_full_size_photographs_without_image_size_are_refused(tmp_path):
    image(tmp_path / "a" / "big.png", 0, size=(3000, 3000))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with pytest.raises(EnvironmentProblem, match="image_size"):
        _check_memory(tmp_path, [str(tmp_path / "a" / "big.png")] * (memory // 9_000_000))
    _check_memory(tmp_path, [str(tmp_path / "a" / "big.png")] * 2)


@pytest.mark.parametrize("source", ["cifar10", "cifar100", "fashion_mnist"])
def test_missing_torchvision_files_name_path_and_remedy(tmp_path, source):
    for path in (tmp_path / "none", tmp_path):
        message = failure({"source": source, "path": str(path), "download": False})
        assert str(path) in message and "download = true" in message


def test_damaged_cifar_is_refused_before_it_is_unpickled(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]:
        (folder / name).write_bytes(b"cos\nsystem\n(S'touch /tmp/pwned'\ntR.")
    assert "does not hold cifar10" in failure({"source": "cifar10", "path": str(tmp_path)})


def write_cifar(folder, monkeypatch, kind):
    """A tiny archive in torchvision's format, whose MD5 torchvision is told to expect instead of the real one's."""
    import hashlib
    import pickle

    from torchvision import datasets

    fine = kind == "CIFAR100"
    names = {"train": ["train"], "test": ["test"]} if fine else {
        "train": [f"data_batch_{n}" for n in range(1, 6)], "test": ["test_batch"]}
    classes = [f"class{n}" for n in range(100 if fine else 10)]
    inner = folder / ("cifar-100-python" if fine else "cifar-10-batches-py")
    inner.mkdir(parents=True)
    cls, written = getattr(datasets, kind), {}
    contents = {"meta" if fine else "batches.meta": {"fine_label_names" if fine else "label_names": classes}}
    for part, files in names.items():
        for number, file in enumerate(files):
            pixels = np.full((4, 3072), number + (100 if part == "test" else 0), np.uint8)
            contents[file] = {"data": pixels, "fine_labels" if fine else "labels": [0, 1, 2, len(classes) - 1]}
    for name, content in contents.items():
        (inner / name).write_bytes(pickle.dumps(content))
        written[name] = hashlib.md5((inner / name).read_bytes()).hexdigest()
    monkeypatch.setattr(cls, "train_list", [[name, written[name]] for name in names["train"]])
    monkeypatch.setattr(cls, "test_list", [[name, written[name]] for name in names["test"]])
    meta = next(name for name in contents if "meta" in name)
    monkeypatch.setattr(cls, "meta", {**cls.meta, "filename": meta, "md5": written[meta]})


@pytest.mark.parametrize(("source", "kind", "classes", "train"), [("cifar10", "CIFAR10", 10, 20), ("cifar100", "CIFAR100", 100, 4)])
def test_cifar_files_as_torchvision_stores_them(tmp_path, monkeypatch, source, kind, classes, train):
    write_cifar(tmp_path / "root", monkeypatch, kind)
    found = open_source({"source": source, "path": str(tmp_path / "root")})
    assert len(found.class_names) == classes and found.class_names[-1] == f"class{classes - 1}"
    assert found.is_test.tolist() == [False] * train + [True] * 4
    assert found.labels[-4:].tolist() == [0, 1, 2, classes - 1]
    last = found.read([len(found.labels) - 1])[0]
    assert last.shape == (32, 32, 3) and (last == 100).all()
    assert found.flips_keep_labels and found.rotations_keep_labels


def write_fashion(folder, *, zipped: bool, count=(20, 10)):
    folder.mkdir(parents=True)
    for name, number in zip(("train", "t10k"), count, strict=True):
        pixels = (np.arange(number * 784) % 251).astype(np.uint8)
        files = {
            f"{name}-images-idx3-ubyte": struct.pack(">4I", 0x803, number, 28, 28) + pixels.tobytes(),
            f"{name}-labels-idx1-ubyte": struct.pack(">2I", 0x801, number) + bytes(i % 10 for i in range(number)),
        }
        for file, content in files.items():
            path = folder / (file + (".gz" if zipped else ""))
            path.write_bytes(gzip.compress(content) if zipped else content)


@pytest.mark.parametrize(("place", "zipped"), [("FashionMNIST/raw", False), ("FashionMNIST/raw", True), (".", True)])
def test_fashion_mnist_idx_files(tmp_path, place, zipped):
    write_fashion(tmp_path / "root" / place, zipped=zipped)
    source = open_source({"source": "fashion_mnist", "path": str(tmp_path / "root")})
    assert source.class_names[9] == "Ankle boot" and source.is_test.tolist() == [False] * 20 + [True] * 10
    assert source.labels[20:].tolist() == list(range(10))
    second = source.read([1])[0]
    assert second.shape == (28, 28, 1) and second.flat[0] == 784 % 251


@pytest.mark.parametrize("damage", ["missing", "cut", "magic", "labels"])
def test_fashion_mnist_damage(tmp_path, damage):
    write_fashion(tmp_path / "root", zipped=False)
    path = tmp_path / "root" / "train-images-idx3-ubyte"
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "magic":
        path.write_bytes(b"\0\0\x0d\x03" + path.read_bytes()[4:])
    else:
        (tmp_path / "root" / "train-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, 3) + b"\0\1\2")
    with pytest.raises(UserError, match=r"train|download"):
        open_source({"source": "fashion_mnist", "path": str(tmp_path / "root")})
