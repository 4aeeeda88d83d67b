"""``init``: what lies in a folder becomes a spec that runs, with a reason for each decision."""

from __future__ import annotations

import os

import numpy as np
import pytest
from conftest import run
from PIL import Image

from study.errors import UserError
from study.init import image_size, look, spec_text, write_spec
from study.prepare import prepare
from study.sources import open_source
from study.spec import StudySpec
from study.splits import choose_classes


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
    assert spec.data.nominal_classes == ["a", "b", "few", 'quo"ted'] and spec.data.anomaly_classes == ["c"]
    assert (spec.data.rare, spec.data.rare_below) == ("anomaly", 20)
    assert spec.data.image_size == 0 and seen.counts["few"] == 3
    assert "Too rare to learn (fewer than 20 images): few (3). \"anomaly\" makes them" in path.read_text()
    chosen = choose_classes(open_source(spec.data.model_dump()), spec.data.model_dump(), 0)
    assert (chosen.nominal, chosen.anomaly) == ((0, 1, 4), (2, 3))


@pytest.mark.parametrize(("counts", "anomalies", "rare", "found"), [
    ({"a": 30, "b": 25}, [], "error", "anomaly_classes = []"),
    ({"a": 30, "b": 25, "two": 2}, [], "drop", "too few even to measure"),
    ({"a": 30, "b": 25, "two": 2, "five": 5}, [], "anomaly", "Too rare to learn (fewer than 20 images): five (5), two (2)"),
    ({"a": 30, "b": 25, "c": 30, "two": 2}, ["c", "two"], "anomaly", "so all for the test: two."),
])
def test_rare_is_what_can_be_done_with_them(tmp_path, counts, anomalies, rare, found):
    path, _ = write_spec(photos(tmp_path / "p", counts), anomalies=anomalies, out=tmp_path / "p.toml")
    spec = StudySpec.load(path)
    assert spec.data.rare == rare and found in path.read_text()
    prepare(spec.data.model_dump(), tmp_path / "run")


def test_unequal_classes_are_drawn_and_counted_alike(tmp_path):
    for largest, sampler, signal in ((59, "uniform", "val_accuracy"), (60, "balanced", "val_balanced_accuracy")):
        folder = photos(tmp_path / str(largest), {"a": largest, "b": 20, "few": 2})
        path, _ = write_spec(folder, name="x", out=tmp_path / f"{largest}.toml")
        spec = StudySpec.load(path)
        assert (spec.training.sampler, spec.selection.signal) == (sampler, signal)
        assert ("3.0 times the images" in path.read_text()) == (sampler == "balanced")


NAMES = {  # of the photos of a class with 24 of them; what is suggested, and whether it is in force
    "numbers": (lambda n: f"{n}.png", None, False), "one stem": (lambda n: f"IMG_{n:04d}.png", None, False),
    "two stems": (lambda n: f"{'ab'[n % 2]}_{n}.png", None, False), "all alone": (lambda n: f"s{n}_1.png", None, False),
    "specimens": (lambda n: f"s{n // 4}_{n % 4}.png", r"^(.+)[ _-]\d+\.[^.]+$", True),
    "specimens from 1": (lambda n: f"bee {n // 3:02d}-{n % 3 + 1:02d}.png", r"^(.+)[ _-]\d+\.[^.]+$", True),
    "copies": (lambda n: f"b{n // 3}{f' ({n % 3})' if n % 3 else ''}.png", r"^(.+?)(?: ?\(\d+\))?\.[^.]+$", True),
    "some in series": (lambda n: f"stag{n // 2}_{n % 2 + 1}.png" if n < 10 else f"{n}.png", r"^(.+)[ _-]\d+\.[^.]+$", True),
    "a class numbered through": (lambda n: f"IMG_{n}.png" if n < 10 else f"{n}.png", None, False),
    "days": (lambda n: f"202406{n // 4 + 10}_{10 + n * n}.png", r"^(.+)[ _-]\d+\.[^.]+$", False),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_that_tell_specimens_are_noticed(tmp_path, name):
    named, group, sure = NAMES[name]
    folder = photos(tmp_path / "p", {"a": 24, "b": 24, "c": 24})
    for path in sorted(folder.glob("*/*.png"), reverse=True):
        path.rename(path.with_name(f"new{path.stem}.png"))
    for path in sorted(folder.glob("*/new*.png")):
        path.rename(path.with_name(named(int(path.stem.removeprefix("new")))))
    out, _ = write_spec(folder, anomalies=["c"], out=tmp_path / "p.toml")
    data, text = StudySpec.load(out).data.model_dump(), out.read_text()
    assert data["group"] == (group if sure else "") and (f"group = '{group}'" in text) == bool(group)
    assert ("# group = " in text) == bool(group and not sure)
    prepare(data | {"group": group or ""}, tmp_path / "run")


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
    ({"a": 30, "b": 30, "c": 2}, ["--anomaly", "c"], "--anomaly c: too few images to measure anything by"),
    ({}, [], "is not a folder"), ({"a": 0}, [], "holds no images"), ({"a": 30, "b": 30}, ["--name", "../x"], "no path"),
])
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, counts, options, words):
    photos(tmp_path / "p", counts)
    done = run("init", "p", *options, cwd=tmp_path)
    assert done.returncode == 2 and words in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not list(tmp_path.glob("*.toml")) and not list(tmp_path.parent.glob("x.toml"))


def test_a_place_that_cannot_be_written_and_a_folder_that_no_spec_can_name_leave_nothing(tmp_path):
    photos(tmp_path / "p", {"a": 20, "b": 20})
    with pytest.raises(UserError, match="none/x.toml cannot be written: No such file"):
        write_spec(tmp_path / "p", out=tmp_path / "none" / "x.toml")
    odd = os.fsdecode(bytes(tmp_path) + b"/p\xff")
    os.rename(tmp_path / "p", odd)
    with pytest.raises(UserError, match="a spec is UTF-8"):
        write_spec(odd, out=tmp_path / "x.toml")
    assert not list(tmp_path.glob("*.toml"))


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
