"""The View: what a trial sees, and that it can do no harm to it."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.data import View, manifest_digest, verify_folder
from trainables.files import canonical_json


def make_view(*, per_class=4, classes=("a", "b", "c", "d"), shape=(3, 2, 1)) -> View:
    """Every image's pixels hold its class's letter, so that images and labels can be held against each other."""
    labels = np.repeat(np.arange(len(classes)), per_class).astype(np.int64)
    images = np.stack([np.full(shape, ord(classes[label]), dtype=np.uint8) for label in labels])
    return View(
        classes=tuple(classes), image_shape=shape, mean=(0.5,), std=(0.25,), flips_keep_labels=True,
        rotations_keep_labels=False, digest="d" * 64, split=0, train_images=images, train_labels=labels,
        validation_images=images[::2], validation_labels=labels[::2],
    )  # fmt: skip


def write_view(folder, view: View):
    folder.mkdir(parents=True)
    import hashlib

    files = {}
    for part in ("train", "validation"):
        for kind in ("images", "labels"):
            path = folder / f"{part}_{kind}.npy"
            np.save(path, getattr(view, f"{part}_{kind}"))
            files[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest = {
        "split": 0, "source": "npz", "classes": list(view.classes), "image_shape": list(view.image_shape),
        "mean": list(view.mean), "std": list(view.std), "flips_keep_labels": True, "rotations_keep_labels": False,
        "counts": {}, "duplicates_moved": 0, "files": files,
    }  # fmt: skip
    manifest["digest"] = manifest_digest(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2))  # formatting does not count, content does
    return folder


def letters(view: View) -> list[tuple[str, str]]:
    """(class name by label, class name by pixels) of every training and validation image."""
    pairs = []
    for images, labels in ((view.train_images, view.train_labels), (view.validation_images, view.validation_labels)):
        pairs += [(view.classes[label], chr(image[0, 0, 0])) for image, label in zip(images, labels, strict=True)]
    return pairs


def test_load_maps_read_only_plain_arrays(tmp_path):
    view = make_view()
    loaded = View.load(write_view(tmp_path / "0", view), verify=True)
    assert loaded.classes == view.classes and loaded.image_shape == (3, 2, 1) and loaded.std == (0.25,)
    np.testing.assert_array_equal(loaded.train_images, view.train_images)
    np.testing.assert_array_equal(loaded.validation_labels, view.validation_labels)
    assert type(loaded.train_images) is np.ndarray
    with pytest.raises(ValueError, match="read-only"):
        loaded.train_images[0] = 0
    copy = pickle.loads(pickle.dumps(loaded, protocol=5))
    np.testing.assert_array_equal(copy.train_images, view.train_images)


def test_verify_names_the_changed_file(tmp_path):
    folder = write_view(tmp_path / "0", make_view())
    verify_folder(folder)
    path = folder / "validation_images.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="validation_images.npy was changed"):
        verify_folder(folder)
    path.unlink()
    with pytest.raises(ValueError, match="validation_images.npy is missing"):
        verify_folder(folder)


def test_verify_refuses_a_file_that_does_not_belong(tmp_path):
    folder = write_view(tmp_path / "0", make_view())
    (folder / "anomaly_images.npy").write_bytes(b"")
    with pytest.raises(ValueError, match="anomaly_images.npy does not belong"):
        verify_folder(folder)


@pytest.mark.parametrize("change", [{"classes": ["a", "b", "c", "z"]}, {"mean": [0.1]}, {"digest": "0" * 64}])
def test_load_refuses_a_changed_manifest(tmp_path, change):
    folder = write_view(tmp_path / "0", make_view())
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | change))
    with pytest.raises(ValueError, match="manifest.json was changed"):
        View.load(folder)


def test_load_says_what_is_missing_or_damaged(tmp_path):
    with pytest.raises(ValueError, match="not prepared"):
        View.load(tmp_path)
    folder = write_view(tmp_path / "0", make_view())
    (folder / "train_labels.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(ValueError, match="train_labels.npy cannot be read"):
        View.load(folder)
    np.save(folder / "train_labels.npy", np.zeros(3, dtype=np.int64))
    with pytest.raises(ValueError, match="train arrays do not fit"):
        View.load(folder)


def test_pickled_arrays_are_not_read(tmp_path):
    folder = write_view(tmp_path / "0", make_view())
    np.save(folder / "train_labels.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="cannot be read"):
        View.load(folder)


@given(st.permutations(range(4)).flatmap(lambda order: st.integers(1, 4).map(lambda count: order[:count])))
def test_restrict_keeps_images_with_their_class(keep):
    view = make_view()
    part = view.restrict(keep)
    assert part.classes == tuple("abcd"[index] for index in keep)
    pairs = letters(part)
    assert len(pairs) == 6 * len(keep) and all(name == pixel for name, pixel in pairs)
    assert set(part.train_labels.tolist()) == set(range(len(keep)))
    assert (part.mean, part.std) == (view.mean, view.std) and part.digest != view.digest
    assert part.digest == view.restrict(keep).digest


def test_fold_is_a_partition_of_validation():
    view = make_view()
    kept, (images, labels) = view.restrict([0, 2]), view.held_out([1, 3])
    assert len(kept.validation_labels) + len(labels) == len(view.validation_labels)
    assert set(labels.tolist()) == {1, 3}
    assert all(chr(image[0, 0, 0]) == view.classes[label] for image, label in zip(images, labels, strict=True))


@pytest.mark.parametrize("wrong", [[0, 0], [4], [-1]])
def test_restrict_refuses_what_is_no_class(wrong):
    with pytest.raises(ValueError, match="distinct classes"):
        make_view().restrict(wrong)


def test_with_classes_appends_for_training_only():
    view = make_view()
    images = np.stack([np.full(view.image_shape, ord(name), dtype=np.uint8) for name in "xyx"])
    wider = view.with_classes(images, np.array([0, 1, 0]), ["x", "y"])
    assert wider.classes == ("a", "b", "c", "d", "x", "y") and wider.num_classes == 6
    assert all(name == pixel for name, pixel in letters(wider))
    assert len(wider.train_labels) == len(view.train_labels) + 3 and wider.train_labels.dtype == np.int64
    np.testing.assert_array_equal(wider.validation_labels, view.validation_labels)
    other = view.with_classes(images[::-1].copy(), np.array([0, 1, 0]), ["x", "y"])
    assert len({view.digest, wider.digest}) == 2
    assert other.digest == wider.digest  # x y x reversed is x y x
    assert view.with_classes(images, np.array([0, 1, 1]), ["x", "y"]).digest != wider.digest


def test_with_classes_refuses_what_does_not_fit():
    view = make_view()
    good = np.zeros((1, *view.image_shape), dtype=np.uint8)
    with pytest.raises(ValueError, match="do not fit"):
        view.with_classes(good[:, :2], np.array([0]), ["x"])
    with pytest.raises(ValueError, match="do not fit"):
        view.with_classes(good.astype(np.float32), np.array([0]), ["x"])
    with pytest.raises(ValueError, match="outside"):
        view.with_classes(good, np.array([1]), ["x"])


def test_canonical_json_is_one_text():
    assert canonical_json({"b": [1, 2.5], "a": "é"}) == '{"a":"é","b":[1,2.5]}'
