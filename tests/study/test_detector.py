"""The exported detector: the study's own scores, scikit-learn's shapes, files as a user gives them, nothing of a stranger's run."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import run
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import roc_auc_score

from study import OpenSetDetector, Study
from study.detect import detect, image_paths
from study.detector import equal_error_threshold
from study.errors import UserError
from study.images import BadImage


@pytest.fixture(scope="module")
def study(tiny, tmp_path_factory) -> Study:
    return Study.open(shutil.copytree(tiny, tmp_path_factory.mktemp("detector") / "tiny"))


@pytest.fixture(scope="module")
def export(study) -> Path:
    return study.export(method="classifier")


@pytest.fixture
def copy(export, tmp_path) -> Path:
    return Path(shutil.copytree(export, tmp_path / "export"))


@pytest.fixture(scope="module")
def tests(study):
    """Images of the sealed side, their class names (None of anomalies), and the row that the reveal measured."""
    vault = study.folder / "vault" / "0"
    nominal, anomalies = (np.load(vault / f"test_{side}_images.npy") for side in ("nominal", "anomaly"))
    classes = np.array(json.loads((study.folder / "view" / "0" / "manifest.json").read_text())["classes"], dtype=object)
    names = classes[np.load(vault / "test_nominal_labels.npy")]
    return np.concatenate([nominal, anomalies]), np.r_[names, np.full(len(anomalies), None)]


@pytest.mark.parametrize("method", ["classifier", "hybrid"])
def test_it_measures_what_the_reveal_measured(study, tests, method):
    images, names = tests
    detector = OpenSetDetector.load(study.export(method=method))
    label, score = detector.predict_and_score(images)
    (row,) = (row for row in study.summary()["rows"]
              if row["method"] == method and row["selected"] and row["state"] == "completed")
    truth = np.array([name is None for name in names])
    assert roc_auc_score(truth, score) == pytest.approx(row["scorer_auroc"], abs=1e-6)
    nearest = detector.classes_[detector.predict_proba(images[~truth]).argmax(axis=1)]
    assert (nearest == names[~truth]).mean() == pytest.approx(row["closed_set_accuracy"], abs=1e-9)
    assert set(label) <= {*detector.classes_, "anomaly"} and ((label == "anomaly") == (score > detector.threshold_)).all()


def test_the_shapes_are_those_of_scikit_learn(export, tests):
    detector, images = OpenSetDetector.load(export), tests[0][:7]
    assert detector.predict(images).shape == detector.anomaly_score(images).shape == (7,)
    probability = detector.predict_proba(images)
    assert probability.shape == (7, len(detector.classes_)) and np.allclose(probability.sum(axis=1), 1)
    assert detector.transform(images).shape[0] == 7 and detector.transform(images).ndim == 2
    assert np.allclose(detector.anomaly_score(images[..., 0]), detector.anomaly_score(images))  # grey without a channel axis
    assert np.allclose(detector.anomaly_score(images[3:4]), detector.anomaly_score(images)[3])  # whatever its neighbours
    assert detector.predict(images[:0]).shape == (0,) and detector.predict_proba(images[:0]).shape == (0, 6)
    assert detector.anomaly_score(np.repeat(np.kron(images[0, :, :, 0], np.ones((2, 2), np.uint8))[None, ..., None], 3, -1)).shape == (1,)


def test_a_single_image_is_not_taken_for_many(export):
    detector = OpenSetDetector.load(export)
    with pytest.raises(UserError, match=r"give images\[None\]"):
        detector.predict(np.zeros((8, 8, 1), np.uint8))
    detector.image_shape_ = (32, 32, 3)
    for shape in ((32, 32, 3), (48, 64, 3)):
        with pytest.raises(UserError, match=r"give images\[None\]"):
            detector.predict(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("bad", [np.zeros((2, 8, 8)), np.zeros((8, 8), np.uint8), np.zeros((2, 8, 8, 4), np.uint8), "x"])
def test_what_are_no_images_is_refused(export, bad):
    with pytest.raises(UserError, match="images must be uint8"):
        OpenSetDetector.load(export).predict(bad)


def test_the_threshold_is_chosen_by_acceptance_or_by_equal_errors(study, export, tests):
    detector = OpenSetDetector.load(export)
    validation = np.load(study.folder / "view" / "0" / "validation_images.npy")
    score = detector.anomaly_score(validation)
    for acceptance in (0.5, 0.9, 0.95, 1.0):
        accepted = (score <= detector.accept(acceptance).threshold_ + 1e-9).mean()
        assert acceptance - 0.5 / len(score) <= accepted <= acceptance + 1.5 / len(score)
    with pytest.raises(UserError, match="acceptance 1.5"):
        detector.accept(1.5)
    images, truth = tests[0], np.array([name is None for name in tests[1]])
    score = detector.balance(images, truth).anomaly_score(images)
    missed, refused = (score[truth] <= detector.threshold_).mean(), (score[~truth] > detector.threshold_).mean()
    assert abs(missed - refused) < 0.02
    with pytest.raises(UserError, match="both kinds"):
        detector.balance(images[:3], [False] * 3)


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=12))
def test_no_threshold_balances_the_errors_better(pairs):
    score, truth = np.array([s for s, _ in pairs], float), np.array([t for _, t in pairs])
    if truth.all() or not truth.any():
        return

    def difference(cut):
        return abs((score[truth] <= cut).mean() - (score[~truth] > cut).mean())

    levels = [*np.unique(score), *(np.unique(score) + 0.5)]
    assert difference(equal_error_threshold(score, truth)) == pytest.approx(min(map(difference, levels)))


# -- files --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path, tests) -> Path:
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for number in range(4):
        place = folder / "below" if number == 3 else folder
        Image.fromarray(tests[0][number, :, :, 0]).save(place / f"{number}.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (folder / "notes.txt").write_text("no image")
    return folder


def test_a_folder_as_a_user_gives_it(copy, photos, tests):
    done = run("detect", copy, photos, cwd=photos.parent)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(row["path"]).name for row in found] == ["0.png", "1.png", "2.png", "3.png"]
    assert done.returncode == 2 and done.stderr.strip() == f"oraclegap: {photos}/broken.jpg: not an image, or damaged"
    expected = OpenSetDetector.load(copy).anomaly_score(tests[0][:4])
    assert np.allclose([row["anomaly_score"] for row in found], expected, atol=1e-6)
    assert set(found[0]) == {"path", "label", "anomaly_score", "threshold", "is_anomaly"}


def test_other_forms_and_what_they_are_made_of(copy, photos):
    detector, out, errors = OpenSetDetector.load(copy), io.StringIO(), io.StringIO()
    assert detect(detector, image_paths([str(photos / "below")]), form="csv", out=out, errors=errors, progress=True) == 0
    (row,) = csv.DictReader(io.StringIO(out.getvalue()))
    assert row["path"].endswith("3.png") and float(row["threshold"]) == detector.threshold_
    assert "1 images: 1 " in errors.getvalue()
    table = io.StringIO()
    detect(detector, image_paths([str(photos / "0.png")]), form="table", out=table)
    assert table.getvalue().splitlines()[0].split() == ["score", "label", "path"]


def test_paths_are_found_once_in_order_and_missing_ones_named(photos):
    (photos / "below" / "loop").symlink_to(photos)
    names = [Path(path).name for path in image_paths([str(photos), "-"], [f"{photos}/0.png\n", "\n"])]
    assert names == ["0.png", "1.png", "2.png", "broken.jpg", "3.png", "0.png"]
    with pytest.raises(UserError, match="nothing.png: no such file"):
        list(image_paths([str(photos / "nothing.png")]))


def test_files_are_prepared_as_the_studys_were(copy, photos):
    Image.new("RGB", (40, 20), (9, 9, 9)).save(photos / "wide.png")
    good, bad = OpenSetDetector.load(copy).read([photos / "wide.png", photos / "broken.jpg"])
    assert good.shape == (8, 8, 1) and good.dtype == np.uint8 and isinstance(bad, BadImage)


# -- exports of strangers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "words"), [
    ("model.safetensors", "is corrupt"), ("detector.safetensors", "is corrupt"), ("detector.json", "cannot be read"),
])
def test_a_flipped_bit_is_noticed(copy, name, words):
    data = bytearray((copy / name).read_bytes())
    data[0 if name == "detector.json" else -1] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(UserError, match=words):
        OpenSetDetector.load(copy)


@pytest.mark.parametrize("change", [
    {"format": 99}, {"method": "no_such"}, {"network": "os:system"}, {"image_shape": [10**9, 10**9, 3]}, {"classes": []},
    {"scorer": {}}, {"params": None}, {"weights_sha256": 7}, {"image_shape": "x"}, {"threshold": "high"},
])
def test_a_record_that_makes_no_sense_is_one_line(copy, change):
    record = json.loads((copy / "detector.json").read_text())
    (copy / "detector.json").write_text(json.dumps(record | change))
    with pytest.raises(UserError) as caught:
        OpenSetDetector.load(copy)
    assert "\n" not in str(caught.value)


def test_a_plugin_of_an_export_runs_only_where_it_is_allowed(copy, photos, tmp_path):
    (tmp_path / "theirs.py").write_text("open('ran', 'w')\ndef net(*a): raise ValueError\n")
    record = json.loads((copy / "detector.json").read_text())
    (copy / "detector.json").write_text(json.dumps(record | {"plugins": ["network=theirs:net"]}))
    refused = run("detect", copy, photos / "0.png", cwd=tmp_path)
    assert refused.returncode == 2 and "runs the plug-in network=theirs:net; allow it" in refused.stderr
    assert not (tmp_path / "ran").exists()
    allowed = run("detect", copy, photos / "0.png", "--plugin", "network=theirs:net", cwd=tmp_path)
    assert allowed.returncode == 0 and (tmp_path / "ran").exists()


def test_an_export_of_an_earlier_version_knows_one_acceptance(copy):
    record = json.loads((copy / "detector.json").read_text())
    from trainables.files import read_arrays, write_arrays

    arrays = read_arrays(copy / "detector.safetensors")
    arrays.pop(".validation")
    os.remove(copy / "detector.safetensors")
    digest = write_arrays(copy / "detector.safetensors", arrays) if arrays else None
    record |= {"format": 1}
    record.pop("arrays_sha256") if digest is None else record.update(arrays_sha256=digest)
    (copy / "detector.json").write_text(json.dumps(record))
    detector = OpenSetDetector.load(copy).accept(0.95)
    assert detector.threshold_ == record["threshold"]
    with pytest.raises(UserError, match="export again"):
        detector.accept(0.9)


@pytest.mark.parametrize(("arguments", "words"), [
    (["nowhere", "x.png"], "holds no detector"), (["."], "IMAGES"), (["EXPORT", "no.png"], "no.png: no such file"),
    (["EXPORT", "x.png", "--threshold", "nan"], "finite"), (["EXPORT", "x.png", "--acceptance", "2"], "acceptance 2"),
    (["EXPORT", "x.png", "--threshold", "1", "--acceptance", "0.9"], "not --acceptance as well"),
])
def test_bad_input_is_one_line(copy, tmp_path, arguments, words):
    done = run("detect", *(str(copy) if word == "EXPORT" else word for word in arguments), cwd=tmp_path)
    assert done.returncode == 2 and words in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
