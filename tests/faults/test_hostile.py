"""Files that somebody else made: no code of theirs runs, and nothing is written where they point."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import run
from PIL import Image

from study import Study
from study.audit import audit
from study.errors import OracleGapError
from trainables import checkpoint


class Payload:
    """Makes a file where it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.fixture
def mark(tmp_path):
    """What a payload would make; it must not be there in the end."""
    path = tmp_path / "executed"
    pickle.loads(pickle.dumps(Payload(path)))
    assert path.exists()  # the payload is one
    path.unlink()
    yield path
    assert not path.exists()


@pytest.fixture
def copy(tiny, tmp_path) -> Path:
    """A finished study of which nothing else depends."""
    return Path(shutil.copytree(tiny, tmp_path / "runs" / "tiny"))


def poisoned(mark: Path, path: Path) -> bytes:
    """What ``torch.save`` writes of a dictionary with a payload in it."""
    torch.save({"weights": Payload(mark)}, path)
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["pickle", "torch", "no record", "record that is no JSON", "header of 2**60 bytes"])
def test_a_checkpoint_that_is_none_is_passed_over(tmp_path, mark, kind):
    from safetensors.torch import save

    good = checkpoint.save_checkpoint(tmp_path, 3, {"w": torch.ones(2)}, {"epoch": 3})
    evil = {
        "pickle": lambda: pickle.dumps(Payload(mark)), "torch": lambda: poisoned(mark, tmp_path / "t"),
        "no record": lambda: save({"w": torch.ones(2)}),
        "record that is no JSON": lambda: save({"w": torch.ones(2)}, metadata={"record": "[" * 100_000}),
        "header of 2**60 bytes": lambda: (2**60).to_bytes(8, "little") + b"{}",
    }[kind]()
    path = tmp_path / f"checkpoint-000009-{hashlib.sha256(evil).hexdigest()}.safetensors"
    path.write_bytes(evil)
    tensors, record = checkpoint.newest_checkpoint(tmp_path)
    assert record == {"epoch": 3} and tensors["w"].tolist() == [1, 1] and good.exists() and not path.exists()


def test_weights_that_would_run_a_program_do_not(copy, mark, tmp_path):
    """In place of the selected trial's, with its digest written into every file that says one."""
    evil = poisoned(mark, tmp_path / "t")
    entry = json.loads((copy / "selection.json").read_text())["selections"][0]
    trial = copy / "trials" / entry["method"] / str(entry["split"]) / str(entry["trial"])
    old, new = entry["weights_sha256"], hashlib.sha256(evil).hexdigest()
    (trial / "model.safetensors").write_bytes(evil)
    for path in (trial / "result.json", copy / "selection.json"):
        path.write_text(path.read_text().replace(old, new))
    with pytest.raises(OracleGapError):
        Study.open(copy).export(method=entry["method"])
    assert not audit(Study.open(copy))["believed"]


@pytest.mark.parametrize("name", ["view", "vault", "features", "config", "result"])
def test_arrays_and_records_that_are_pickles_are_not_opened_as_such(copy, mark, name):
    path = {"view": copy / "view/0/train_images.npy", "vault": copy / "vault/0/test_anomaly_images.npy",
            "features": copy / "trials/classifier/0/0/features.safetensors", "config": copy / "trials/classifier/0/0/config.json",
            "result": copy / "trials/classifier/0/0/result.json"}[name]
    path.unlink()
    if path.suffix == ".npy":
        np.save(path, np.array([Payload(mark)], dtype=object), allow_pickle=True)
    else:
        path.write_bytes(pickle.dumps(Payload(mark)))
    assert not audit(Study.open(copy))["believed"]


@pytest.mark.parametrize("place", ["export", "export/classifier", "export/.classifier.tmp"])
def test_an_export_follows_no_link(copy, tmp_path, place):
    shutil.rmtree(copy / "export", ignore_errors=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    (copy / place).parent.mkdir(exist_ok=True)
    (copy / place).symlink_to(outside)
    with pytest.raises(OracleGapError, match="is a link to another place"):
        Study.open(copy).export(method="classifier")
    assert not list(outside.iterdir())


@pytest.mark.long
def test_names_of_classes_are_text_wherever_they_are_shown(tmp_path):
    """A folder named like a page's code, and one like a terminal's."""
    random = np.random.default_rng(0)
    for name in ("<img src=x onerror=alert(1)>", "[link](javascript:alert(1))", "b\x1b[2Jc", "d"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(30):
            pixels = random.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    pairs = ["data.source=folder", "data.path=photos", "data.nominal_classes=2", "search.trials=1", "training.epochs=1",
             "methods=['classifier']", "name=names", "selection.folds=0", "selection.scorer_rule=max_logit",
             'resources.address="local"', "analysis.questions=['per_class', 'leave_one_class_out', 'latent_map']"]
    done = run("launch", "digits", *(word for pair in pairs for word in ("-o", pair)), cwd=tmp_path)
    shown = done.stdout + done.stderr + run("status", "runs/names", cwd=tmp_path).stdout
    assert "\x1b[2J" not in shown, shown
    if done.returncode == 2:  # refused, which is as well
        assert "\\x1b" in done.stderr
        (tmp_path / "photos" / "b\x1b[2Jc").rename(tmp_path / "photos" / "c")
        done = run("launch", "digits", *(word for pair in pairs for word in ("-o", pair)), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "runs" / "names" / "report" / "index.html").read_text()
    assert "<img src=x" not in page and "href=\"javascript" not in page
