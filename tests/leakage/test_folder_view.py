"""A folder of real digits, with groups and rare classes: nothing that happens to its anomalies reaches the view."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from study.checks import check_source
from study.errors import UserError
from study.folder_source import _folder
from study.prepare import prepare
from study.vault import Vault
from trainables.data import View

CLASSES = {"three": (3, 60), "five": (5, 48), "seven": (7, 36), "zero": (0, 40), "one": (1, 30), "two": (2, 2)}
NOMINAL = ["three", "five", "seven"]
PHOTOS = 3  # of a specimen, at most
GROUP = r"^(.+)_\d+\."


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    found = load_digits()
    return np.rint(found.images * (255 / 16)).astype(np.uint8), found.target


@pytest.fixture
def photos(tmp_path, digits) -> Path:
    """photos/<class>/s<specimen>_<number>.png; the first nominal image lies in a second specimen once more."""
    images, labels = digits
    for name, (label, count) in CLASSES.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        for place, image in enumerate(images[labels == label][:count]):
            Image.fromarray(image).save(tmp_path / "photos" / name / f"s{place // PHOTOS:02d}_{place % PHOTOS}.png")
    shutil.copy(tmp_path / "photos/three/s00_0.png", tmp_path / "photos/three/s07_9.png")
    return tmp_path / "photos"


def data_of(photos: Path, **more) -> dict:
    return {"source": "folder", "path": str(photos), "nominal_classes": [*NOMINAL, "two"], "rare": "anomaly", "rare_below": 20,
            "group": GROUP, "splits": [0, 2], **more}


def tree(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file()}


def anomalies(photos: Path) -> list[Path]:
    return sorted(path for name in ("zero", "one", "two") for path in (photos / name).iterdir())


def permuted(photos: Path) -> None:
    paths = anomalies(photos)
    contents = [path.read_bytes() for path in paths]
    for path, place in zip(paths, np.random.default_rng(0).permutation(len(paths))):
        path.write_bytes(contents[place])


def removed(photos: Path) -> None:
    shutil.rmtree(photos / "one")
    for path in anomalies_of(photos / "zero")[3 * PHOTOS:]:
        path.unlink()


def anomalies_of(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def files_renamed(photos: Path) -> None:
    """Other groups, and those of nominal specimens."""
    for name in ("zero", "one"):
        for place, path in enumerate(anomalies_of(photos / name)):
            path.rename(path.with_name(f"s{place % 9:02d}_{100 + place}.png" if place % 2 else f"free{place}.png"))


def classes_renamed(photos: Path) -> None:
    (photos / "zero").rename(photos / "AAA")
    (photos / "one").rename(photos / "zzz")


def copies_of_nominal(photos: Path) -> None:
    for place, path in enumerate(anomalies_of(photos / "three")):
        shutil.copy(path, photos / "zero" / f"copy{place % 4}_{place}.png")


def a_rare_class_more(photos: Path) -> None:
    (photos / "zz rare").mkdir()
    Image.new("L", (8, 8), 77).save(photos / "zz rare" / "s00_0.png")


@pytest.mark.parametrize("more", [
    {}, {"rare": "drop"}, {"nominal_classes": NOMINAL}, {"anomaly_classes": ["zero"]}, {"limit": 30}], ids=str)
@pytest.mark.parametrize("change", [permuted, removed, files_renamed, classes_renamed, copies_of_nominal, a_rare_class_more],
                         ids=lambda change: change.__name__)
def test_no_anomaly_reaches_the_view_of_a_folder(photos, tmp_path, change, more):
    if change is classes_renamed and "anomaly_classes" in more:
        pytest.skip("a class that is asked for by name has to be there")
    data = data_of(photos, **more)
    plain = prepare(data, tmp_path / "plain")
    change(photos)
    changed = prepare(data, tmp_path / "changed")
    assert tree(tmp_path / "plain/view") == tree(tmp_path / "changed/view") and plain["splits"] == changed["splits"]


def test_a_nominal_file_of_another_group_does_reach_it(photos, tmp_path):
    """The positive control: names of nominal files, too, decide what the view holds."""
    prepare(data_of(photos), tmp_path / "plain")
    for path in anomalies_of(photos / "five"):
        path.rename(path.with_name(f"other{path.name}"))
    prepare(data_of(photos), tmp_path / "renamed")
    assert tree(tmp_path / "plain/view") != tree(tmp_path / "renamed/view")


def specimens(photos: Path) -> dict[bytes, set[str]]:
    """By an image's pixels, the class and specimen of each file of it."""
    found: dict[bytes, set[str]] = {}
    for path in photos.glob("*/*.png"):
        found.setdefault(np.asarray(Image.open(path)).tobytes(), set()).add(f"{path.parent.name}/{path.name.split('_')[0]}")
    return found


@pytest.mark.parametrize("table", [False, True])
def test_no_specimen_lies_in_two_parts(photos, tmp_path, table):
    """With names and with a table; copies tie the specimens they lie in together."""
    known, data = specimens(photos), data_of(photos)
    if table:
        lines = [f"{path.relative_to(photos)},{path.name.split('_')[0]}" for path in photos.glob("*/*.png")]
        (tmp_path / "who.csv").write_text("\n".join(["path,group", *lines]))
        data["group"] = str(tmp_path / "who.csv")
    summary = prepare(data, tmp_path / "run")
    manifest = json.loads((tmp_path / "run/view/0/manifest.json").read_text())
    assert manifest["groups"] == {"five": 16, "seven": 12, "three": 20} and summary["splits"]["0"]["classes"] == sorted(NOMINAL)
    view, vault = View.load(tmp_path / "run/view/0"), Vault.load(tmp_path / "run/vault/0")
    assert vault.anomaly_classes == ("one", "two", "zero") and "two" not in json.dumps(manifest)
    for sides in ((view.train_images, view.validation_images, vault.test_nominal.images),
                  (vault.train.images, vault.validation.images, vault.test_anomaly.images)):
        seen = [{specimen for image in part for specimen in known[image.tobytes()]} for part in sides]
        assert all(seen) and not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    counts = [len(view.train_labels), len(view.validation_labels), len(vault.test_nominal)]
    assert sum(counts) == 145 and np.allclose(np.array(counts) / 145, [0.6, 0.2, 0.2], atol=0.07)
    rare = vault.anomaly_classes.index("two")
    assert (vault.test_anomaly.labels == rare).sum() == 2 and rare not in vault.train.labels


@pytest.mark.parametrize(("change", "words"), [
    (lambda photos: {"group": "(nothing)"}, "'(nothing)' names no group of a nominal class, whose first file is five/s00_0.png"),
    (lambda photos: {"group": "^(s)"}, "0 nominal class with images enough (4 are rare)"),
    (lambda photos: {"group": "^(s)", "rare": "error", "rare_below": 0}, "class 'five' has 1 group,"),
    (lambda photos: {"group": "absent.csv"}, "data.group: absent.csv: No such file"),
    (lambda photos: {"group": table_without(photos, "five")}, "the table does not list five/s00_0.png and 47 more"),
    (lambda photos: {"rare_below": 50}, "are rare"), (lambda photos: {"rare": "error"}, "class 'two' has 2 images"),
    (lambda photos: {"anomaly_classes": []}, "no anomaly is left for train"),
])
def test_what_cannot_be_divided_is_one_line(photos, tmp_path, change, words):
    with pytest.raises(UserError) as caught:
        prepare({**data_of(photos), **change(photos)}, tmp_path / "run")
    assert words in str(caught.value) and "\n" not in str(caught.value) and not (tmp_path / "run/view/0").exists()


def table_without(photos: Path, missing: str) -> str:
    lines = [f"{path.relative_to(photos)},{path.stem}" for path in photos.glob("*/*.png") if path.parent.name != missing]
    path = photos.parent / "who.csv"
    path.write_text("\n".join(["path,group", *lines]))
    return str(path)


def test_the_folder_keeps_the_promise_of_its_file_names(photos):
    check_source(_folder, {"source": "folder", "path": str(photos)})
