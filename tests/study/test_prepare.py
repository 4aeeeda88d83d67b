"""prepare: what is written, that nothing of an anomaly reaches the view, and how bad input ends."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from study.errors import EnvironmentProblem, UserError
from study.prepare import channel_statistics, prepare
from study.vault import Vault
from trainables.data import View

NOMINAL = ["n0", "n1", "n2"]


def tree(folder) -> dict[str, str]:
    """Relative path → SHA-256 of every file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def write_npz(path, images, labels, names) -> dict:
    np.savez(path, images=images, labels=labels, class_names=np.array(names))
    return {"source": "npz", "path": str(path), "nominal_classes": NOMINAL, "splits": [0, 3]}


def made_up(seed=0, count=12):
    """Three nominal and two anomalous classes, with duplicates within and across the two sides."""
    generator = np.random.default_rng(seed)
    names = ["alien", "n0", "n1", "odd", "n2"]
    images = generator.integers(0, 256, (5 * count, 4, 4, 3), dtype=np.uint8)
    labels = np.repeat(np.arange(5), count)
    nominal = np.flatnonzero(np.isin(labels, [1, 2, 4]))
    images[nominal[3]] = images[nominal[0]] = images[nominal[20]]  # nominal copies
    images[1], images[2] = images[nominal[5]], images[nominal[30]]  # anomalous copies of nominal images
    images[3] = images[7]
    return images, labels, names


def tampered(action: str, seed: int):
    """The same nominal images in the same order; anomalies changed by ``action``."""
    images, labels, names = made_up()
    generator = np.random.default_rng(seed)
    odd = np.flatnonzero(np.isin(labels, [0, 3]))
    if action == "noise":
        images[odd] = generator.integers(0, 256, images[odd].shape)
    elif action == "permute":
        labels[odd] = generator.permutation(labels[odd])
    elif action == "delete":
        keep = ~np.isin(labels, [0, 3])
        images, labels = images[keep], labels[keep]
    elif action == "delete one class":
        keep = labels != 3
        images, labels, names = images[keep], labels[keep], [name for name in names if name != "odd"]
        labels[labels == 4] = 3  # its number goes with it
    elif action == "multiply":
        images, labels = np.concatenate([images] + [images[odd]] * 9), np.concatenate([labels] + [labels[odd]] * 9)
    elif action == "rename":
        names = [name if name in NOMINAL else f"zz{name}{seed}" for name in names]
    elif action == "reorder":  # other numbers for the classes, and images mixed among each other
        order = generator.permutation(5)
        order = np.array(sorted(order.tolist(), key=lambda index: (names[index] in NOMINAL) == bool(seed % 2)))
        order[np.isin(order, [1, 2, 4])] = [1, 2, 4]
        labels = np.argsort(order)[labels]
        names = [names[index] for index in order]
        places = np.argsort(generator.random(len(labels)))
        nominal = np.isin(labels[places], [names.index(name) for name in NOMINAL])
        places[nominal] = np.sort(places[nominal])
        images, labels = images[places], labels[places]
    elif action == "copies of nominal":
        nominal = np.flatnonzero(np.isin(labels, [1, 2, 4]))
        images[odd[4:16]] = images[generator.choice(nominal, 12)]
    return images, labels, names


ACTIONS = ["noise", "permute", "delete", "delete one class", "multiply", "rename", "reorder", "copies of nominal"]


@pytest.mark.parametrize("action", ACTIONS)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**20))
def test_no_anomaly_reaches_the_view(action, seed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("leak")
    plain = prepare(write_npz(folder / "a.npz", *made_up()), folder / "a")
    other = prepare(write_npz(folder / "b.npz", *tampered(action, seed)), folder / "b")
    assert tree(folder / "a" / "view") == tree(folder / "b" / "view")
    assert plain["splits"] == other["splits"]
    if action not in ("rename", "permute", "reorder"):
        assert tree(folder / "a" / "vault") != tree(folder / "b" / "vault")


def test_a_nominal_image_does_reach_the_view(tmp_path):
    """The positive control of the test above: it can tell views apart."""
    images, labels, names = made_up()
    first = prepare(write_npz(tmp_path / "a.npz", images, labels, names), tmp_path / "a")
    images[np.flatnonzero(labels == 4)] ^= 1
    second = prepare(write_npz(tmp_path / "b.npz", images, labels, names), tmp_path / "b")
    assert first["splits"]["0"]["digest"] != second["splits"]["0"]["digest"]


def test_view_and_vault_divide_the_images(tmp_path):
    images, labels, names = made_up(count=20)
    images[:] = np.random.default_rng(5).integers(0, 256, images.shape)  # no duplicates
    summary = prepare(write_npz(tmp_path / "a.npz", images, labels, names), tmp_path / "run")
    for split in ("0", "3"):
        view, vault = View.load(tmp_path / "run/view" / split), Vault.load(tmp_path / "run/vault" / split)
        assert view.classes == tuple(NOMINAL) and view.split == vault.split == int(split)
        assert summary["splits"][split]["counts"] == {"train": 36, "validation": 12}
        assert np.bincount(view.train_labels).tolist() == [12] * 3
        assert np.bincount(vault.test_nominal.labels).tolist() == [4] * 3
        everything = [view.train_images, view.validation_images, vault.test_nominal.images]
        everything += [part.images for part in (vault.train, vault.validation, vault.test_anomaly)]
        rows = {image.tobytes() for part in everything for image in part}
        assert rows == {image.tobytes() for image in images} and sum(map(len, everything)) == len(images)
        for array, label in zip(view.validation_images, view.validation_labels, strict=True):
            place = next(row for row in range(len(images)) if (images[row] == array).all())
            assert names[labels[place]] == view.classes[label]
    assert tree(tmp_path / "run/view/0") != tree(tmp_path / "run/view/3")


def test_duplicates_lie_in_one_part_and_are_counted_on_their_side(tmp_path):
    prepare(write_npz(tmp_path / "a.npz", *made_up()), tmp_path / "run")
    manifests = {
        (side, split): json.loads((tmp_path / "run" / side / split / "manifest.json").read_text())
        for side in ("view", "vault")
        for split in ("0", "3")
    }
    assert sum(manifests["view", split]["duplicates_moved"] for split in ("0", "3")) > 0
    for split in ("0", "3"):
        view, vault = View.load(tmp_path / "run/view" / split), Vault.load(tmp_path / "run/vault" / split)
        parts = [view.train_images, view.validation_images, vault.test_nominal.images]
        nominal = [{image.tobytes() for image in part} for part in parts]
        assert not (nominal[0] & nominal[1] or nominal[0] & nominal[2] or nominal[1] & nominal[2])
        assert sum(map(len, parts)) == 36  # moved, never lost
        parts = [{image.tobytes() for image in p.images} for p in (vault.train, vault.validation, vault.test_anomaly)]
        assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
        assert not set.union(*parts) & set.union(*nominal)
        assert manifests["vault", split]["anomalous_copies_dropped"] == vault.anomalous_copies_dropped == 2
        assert "anomal" not in json.dumps(manifests["view", split])


def test_official_test_images_stay_test_images(tmp_path):
    for share, offset in (("train", 0), ("test", 100)):
        for index, name in enumerate(["a", "b", "c"]):
            folder = tmp_path / "data" / share / name
            folder.mkdir(parents=True)
            for number in range(8 if share == "train" else 3):
                Image.new("L", (4, 4), offset + 20 * index + number).save(folder / f"{number}.png")
    Image.new("L", (4, 4), 101).save(tmp_path / "data/train/a/7.png")  # a copy of test/a/1.png
    data = {"source": "folder", "path": str(tmp_path / "data"), "nominal_classes": ["a", "b"], "partition": "official"}
    summary = prepare(data, tmp_path / "run")
    assert summary["splits"]["0"]["duplicates_moved"] == 1
    vault = Vault.load(tmp_path / "run/vault/0")
    values = vault.test_nominal.images[:, 0, 0, 0].tolist()
    assert sorted(values) == [100, 101, 101, 102, 120, 121, 122]
    assert sorted(vault.test_anomaly.images[:, 0, 0, 0].tolist()) == [140, 141, 142]


def write_folder(root, *, size=(6, 5), mode="L", classes=("a", "b", "x"), count=6):
    for index, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(count):
            value = 40 * index + number
            Image.new(mode, size, value if mode == "L" else (value, 0, 0)).save(root / name / f"{number}.png")
    return {"source": "folder", "path": str(root), "nominal_classes": ["a", "b"]}


def test_nominal_images_alone_decide_size_and_channels(tmp_path):
    data = write_folder(tmp_path / "data")
    plain = prepare(data, tmp_path / "plain")
    for number in range(6):
        Image.new("RGBA", (50 + number, 40), (200, 30 * number, 0, 255)).save(tmp_path / "data" / "x" / f"{number}.png")
    odd = prepare(data, tmp_path / "odd")
    assert plain["splits"]["0"]["image_shape"] == [5, 6, 1]
    assert tree(tmp_path / "plain/view") == tree(tmp_path / "odd/view") and plain["splits"] == odd["splits"]
    assert Vault.load(tmp_path / "odd/vault/0").train.images.shape[1:] == (5, 6, 1)
    Image.new("RGB", (6, 5), (1, 2, 3)).save(tmp_path / "data" / "b" / "0.png")
    assert prepare(data, tmp_path / "colour")["splits"]["0"]["image_shape"] == [5, 6, 3]


def test_mixed_nominal_sizes_are_listed_unless_image_size_is_given(tmp_path):
    data = write_folder(tmp_path / "data")
    for number in range(4):
        Image.new("L", (8, 8), 7 * number + 130).save(tmp_path / "data" / "b" / f"{number}.png")
    with pytest.raises(UserError, match=r"most are 6x5, not 4 files: b/0.png \(8x8\), .*image_size"):
        prepare(data, tmp_path / "run", skip_bad=True)
    assert not (tmp_path / "run" / "view").exists()
    assert prepare(data | {"image_size": 4}, tmp_path / "run")["splits"]["0"]["image_shape"] == [4, 4, 1]


def test_bad_files_of_both_sides_are_listed_and_can_be_skipped(tmp_path):
    data = write_folder(tmp_path / "data", count=20)
    for number in range(6):
        (tmp_path / "data" / "a" / f"{number}.png").write_bytes(b"")
        (tmp_path / "data" / "x" / f"{number}.png").write_text("no image")
    with pytest.raises(UserError) as caught:
        prepare(data, tmp_path / "run")
    message = str(caught.value)
    assert "12 unusable files: a/0.png (empty file)" in message and "x/3.png" in message and "and 2 more" in message
    assert "x/4.png" not in message and "--skip-bad" in message and not (tmp_path / "run").exists()
    summary = prepare(data, tmp_path / "run", skip_bad=True)
    assert summary["splits"]["0"]["skipped"] == [f"a/{number}.png (empty file)" for number in range(6)]
    vault = Vault.load(tmp_path / "run/vault/0")
    assert len(vault.skipped) == 6 and vault.skipped[0].startswith("x/0.png")
    assert "x/" not in (tmp_path / "run/view/0/manifest.json").read_text()
    view = View.load(tmp_path / "run/view/0")
    assert len(view.train_labels) + len(view.validation_labels) + len(vault.test_nominal) == 34


def test_a_bad_anomaly_leaves_the_view_as_it_is(tmp_path):
    data = write_folder(tmp_path / "data", count=20)
    prepare(data, tmp_path / "good")
    (tmp_path / "data/x/3.png").write_bytes(b"")
    prepare(data, tmp_path / "bad", skip_bad=True)
    assert tree(tmp_path / "good/view") == tree(tmp_path / "bad/view")


def test_classes_that_vanish_are_named(tmp_path):
    data = write_folder(tmp_path / "data")
    for number in range(6):
        (tmp_path / "data" / "a" / f"{number}.png").write_bytes(b"")
    with pytest.raises(UserError, match="class 'a' has no train image left because of unusable files"):
        prepare(data, tmp_path / "run", skip_bad=True)
    for number in range(6):
        Image.new("L", (6, 5), 99).save(tmp_path / "data" / "a" / f"{number}.png")
    with pytest.raises(UserError, match="class 'a' has no .* image left because of exact duplicates"):
        prepare(data, tmp_path / "run")


def test_prepared_data_is_verified_and_not_made_again(tmp_path):
    data = write_npz(tmp_path / "a.npz", *made_up())
    first = prepare(data, tmp_path / "run")
    os.remove(tmp_path / "a.npz")
    (tmp_path / "run/vault").rename(tmp_path / "away")  # as search has it
    assert prepare(data, tmp_path / "run")["splits"] == first["splits"]
    with pytest.raises(UserError, match="holds npz, not digits"):
        prepare({"source": "digits"}, tmp_path / "run")
    path = tmp_path / "run/view/0/train_images.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(UserError, match="train_images.npy was changed.*prepare again"):
        prepare(data, tmp_path / "run")


def test_what_a_killed_prepare_left_is_replaced(tmp_path):
    data = write_npz(tmp_path / "a.npz", *made_up())
    prepare(data, tmp_path / "whole")
    (tmp_path / "run/vault/0").mkdir(parents=True)
    (tmp_path / "run/vault/0/manifest.json").write_text("{}")
    (tmp_path / "run/view/.0.tmp99").mkdir(parents=True)
    (tmp_path / "run/view/.0.tmp99/train_images.npy").write_bytes(b"half")
    prepare(data, tmp_path / "run")
    assert tree(tmp_path / "whole") == tree(tmp_path / "run")


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match="cannot be written"):
        prepare(write_npz(tmp_path / "a.npz", *made_up()), tmp_path / "file")


@given(st.lists(st.integers(0, 255), min_size=1, max_size=60), st.integers(1, 3))
def test_channel_statistics(values, channels):
    images = np.array(values, dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(channels, axis=3)
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, (images / 255).mean(axis=(0, 1, 2)), atol=1e-8)
    np.testing.assert_allclose(std, np.maximum((images / 255).std(axis=(0, 1, 2)), 1 / 255), atol=1e-7)


def call(request) -> tuple[int, dict]:
    command = [sys.executable, "-m", "study.prepare"]
    done = subprocess.run(command, check=False, input=json.dumps(request), capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr and len(done.stdout.splitlines()) == 1
    return done.returncode, json.loads(done.stdout)


def test_the_process_answers_with_one_line(tmp_path):
    data = write_npz(tmp_path / "a.npz", *made_up())
    code, answer = call({"data": data, "folder": str(tmp_path / "run")})
    assert code == 0 and answer["ok"] and answer["summary"]["splits"]["3"]["classes"] == NOMINAL
    code, answer = call({"data": data | {"nominal_classes": ["n0", "n11"]}, "folder": str(tmp_path / "other")})
    assert (code, answer["ok"], answer["exit"]) == (2, False, 2) and "did you mean 'n1'" in answer["error"]
    code, answer = call({"data": data, "folder": str(tmp_path / "a.npz")})
    assert (code, answer["exit"]) == (3, 3)


def test_the_process_ends_with_the_one_that_started_it():
    reader, writer = os.pipe()  # stdin stays open, so that only its parent's death can end it
    starter = (
        "import subprocess, sys, time; "
        "print(subprocess.Popen([sys.executable, '-m', 'study.prepare']).pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", starter], stdin=reader, stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    time.sleep(1.0)
    os.kill(child, 0)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(child)
    parent.stdout.close()
    os.close(reader)
    os.close(writer)


def alive(pid: int) -> bool:
    """Running, that is: neither gone nor a zombie that nobody has waited for."""
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
