"""``init``: what lies in a folder becomes a spec that runs, with a reason for each decision."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import run
from PIL import Image

from study.init import image_size, look, spec_text, write_spec
from study.spec import StudySpec


def photos(folder, counts, *, size=(8, 8), broken=0):
    random = np.random.default_rng(0)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            height, width = size if isinstance(size, tuple) else size(number)
            Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)).save(folder / name / f"{number}.png")
        for number in range(broken):
            (folder / name / f"broken{number}.jpg").write_bytes(b"\xff\xd8 nothing")
    return folder


def test_classes_are_nominal_but_those_named_and_those_too_rare(tmp_path):
    folder = photos(tmp_path / "my photos!", {"a": 30, "b": 25, "c": 22, "few": 3, 'quo"ted': 40})
    path, seen = write_spec(folder, anomalies=["c"], out=tmp_path / "my.toml")
    spec = StudySpec.load(path)
    assert spec.name == "my-photos" and spec.data.path == str(folder)
    assert spec.data.nominal_classes == ["a", "b", 'quo"ted'] and spec.data.anomaly_classes == ["c", "few"]
    assert spec.data.image_size == 0 and seen.counts["few"] == 3
    assert "Too rare to learn (fewer than 20), so never nominal: few." in path.read_text()


@pytest.mark.parametrize(("size", "expected"), [
    ((8, 8), 0), ((64, 64), 0), ((32, 32), 0), ((200, 300), 64), ((33, 70), 32), (lambda n: (50 + n % 2, 60), 48),
    (lambda n: (20 + n % 3, 90), 32), (lambda n: (500, 90 + n), 64),
])
def test_the_image_size_enlarges_no_more_than_half(tmp_path, size, expected):
    assert image_size(look(photos(tmp_path / "p", {"a": 20, "b": 20}, size=size))) == expected


def test_without_anomalies_the_spec_says_what_that_means(tmp_path):
    text = spec_text(look(photos(tmp_path / "p", {"a": 20, "b": 20})), name="x")
    assert "anomaly_classes = []" in text and "not measured" in text


def test_many_classes_stand_a_line_each(tmp_path):
    seen = look(photos(tmp_path / "p", {f"a class with a long name {n}": 20 for n in range(5)}))
    assert '\n    "a class with a long name 3",\n' in spec_text(seen, name="x")


@pytest.mark.parametrize(("counts", "options", "words"), [
    ({"a": 30, "b": 30}, ["--anomaly", "bb"], "--anomaly bb: no such class (did you mean 'b'?)"),
    ({"a": 30, "b": 3}, [], "at least 2 classes of 20 images"), ({"a": 30, "b": 30}, ["--anomaly", "b"], "at least 2 classes"),
    ({}, [], "is not a folder"), ({"a": 0}, [], "holds no images"), ({"a": 30, "b": 30}, ["--name", "../x"], "no path"),
])
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, counts, options, words):
    photos(tmp_path / "p", counts)
    done = run("init", "p", *options, cwd=tmp_path)
    assert done.returncode == 2 and words in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not list(tmp_path.glob("*.toml")) and not list(tmp_path.parent.glob("x.toml"))


def test_broken_files_are_told_and_nothing_is_overwritten(tmp_path):
    photos(tmp_path / "p", {"a": 20, "b": 20}, broken=2)
    done = run("init", "p", cwd=tmp_path)
    assert done.returncode == 0 and "4 of 44 files looked at cannot be used" in done.stdout
    assert done.stdout.rstrip().endswith("wrote p.toml; next: oraclegap launch p.toml")
    before = (tmp_path / "p.toml").read_text()
    again = run("init", "p", cwd=tmp_path)
    assert again.returncode == 2 and "is there already" in again.stderr and (tmp_path / "p.toml").read_text() == before


@pytest.mark.slow
def test_what_it_wrote_runs_and_the_detector_of_it_answers(tmp_path):
    """From a folder to a judgement of new images, without editing anything."""
    random = np.random.default_rng(1)
    for name, level in (("dark", 30), ("grey", 120), ("bright", 220), ("rare", 170)):
        (tmp_path / "p" / name).mkdir(parents=True)
        for number in range(3 if name == "rare" else 40):
            pixels = np.clip(random.normal(level, 12, (8, 8)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "p" / name / f"{number}.png")
    assert run("init", "p", cwd=tmp_path).returncode == 0
    quick = ("-o", "search.trials=1", "-o", "training.epochs=5", "-o", "methods=['classifier']", "-o", "analysis.questions=[]",
             "-o", 'resources.address="local"')
    done = run("launch", "p.toml", *quick, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert run("export", "runs/p", cwd=tmp_path).returncode == 0
    found = run("detect", "runs/p/export/classifier", "p/dark", "--format", "csv", cwd=tmp_path)
    assert found.returncode == 0 and found.stdout.count(",dark,") > 30, found.stdout
