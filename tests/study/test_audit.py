"""The audit believes a finished study, and no longer once anything that a number rests on was touched."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from conftest import run

from study import Study
from study.selection import selection_digest
from trainables.files import digest_of, read_arrays, read_json, write_arrays, write_json

pytestmark = pytest.mark.slow


@pytest.fixture
def copy(tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "tiny")
    shutil.copy(tiny.parent / "reveals.jsonl", tmp_path)
    return tmp_path / "tiny"


def failed(folder):
    found = Study.open(folder).audit()
    names = [check["name"] for check in found["checks"] if check["state"] == "failed"]
    assert found["believed"] == (not names)
    return names, " ".join(check["words"] for check in found["checks"] if check["state"] == "failed")


def flip(path, at=-100):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def weights(study):
    flip(study / "trials" / "hybrid" / "0" / "1" / "model.safetensors")
    return ["trials"], "hybrid/0/1: model.safetensors"


def features(study):
    flip(study / "trials" / "classifier" / "0" / "0" / "features.safetensors")
    return ["trials"], "features.safetensors"


def signal(study):
    path = study / "trials" / "classifier" / "0" / "0" / "result.json"
    result = read_json(path)
    result["signals"]["val_accuracy"] -= 0.01
    write_json(path, result)
    return ["trials"], "differ in a signal"


def nominal_image(study):
    flip(study / "view" / "0" / "train_images.npy")
    return ["data"], "train_images.npy was changed"


def sealed_image(study):
    flip(study / "vault" / "0" / "test_anomaly_images.npy")
    return ["data"], "test_anomaly_images.npy was changed"


def an_anomaly_to_train_on(study):
    """As a leak in prepare would: manifests and digests all fit, but one sealed image lies in the view."""
    from trainables.data import manifest_digest
    from trainables.files import sha256_of_file

    view = study / "view" / "0"
    images = np.load(view / "train_images.npy")
    images[0] = np.load(study / "vault" / "0" / "test_anomaly_images.npy")[0]
    np.save(view / "train_images.npy", images)
    manifest = read_json(view / "manifest.json")
    manifest["files"]["train_images.npy"] = sha256_of_file(view / "train_images.npy")
    manifest["digest"] = manifest_digest(manifest)
    write_json(view / "manifest.json", manifest)
    return ["data", "separation"], "1 train images lie in the vault too"


def another_trial(study):
    """Chosen by hand, with a digest that fits."""
    selection = read_json(study / "selection.json")
    selection["selections"][0]["trial"] = 1 - selection["selections"][0]["trial"]
    selection["digest"] = selection_digest(selection)
    write_json(study / "selection.json", selection)
    return ["selection", "order"], "signals say"


def another_scorer(study):
    selection = read_json(study / "selection.json")
    selection["selections"][0]["members"] = selection["selections"][0]["members"][::-1]
    selection["digest"] = selection_digest(selection)
    write_json(study / "selection.json", selection)
    return ["selection", "order", "reveals"], "fold models say"


def the_digest_alone(study):
    text = (study / "selection.json").read_text()
    (study / "selection.json").write_text(text.replace('"scorer": "top_half_mean"', '"scorer": "best"'))
    return ["selection", "reveals", "summary"], "was changed after it was frozen"


def a_reveal_before_the_freeze(study):
    log = study.parent / "reveals.jsonl"
    line = json.loads(log.read_text().splitlines()[0])
    log.write_text(json.dumps({**line, "at": "2020-01-01T00:00:00+00:00"}) + "\n")
    return ["order"], "before the selection was frozen"


def a_better_number(study):
    """In the reveal's record, with digests that fit: the scores beside it say otherwise."""
    path = study / "reveal" / "classifier" / "0" / "0.json"
    stored = read_json(path)
    stored["result"]["scorer_auroc"] = min(1.0, stored["result"]["scorer_auroc"] + 0.01)
    stored["result_digest"] = digest_of(stored["result"])
    write_json(path, stored)
    return ["reveals", "summary"], "AUROC of frozen_rule is not that of its scores"


def better_scores(study):
    path = study / "reveal" / "classifier" / "0" / "0.safetensors"
    arrays = read_arrays(path)
    arrays["score/frozen_rule"][-1] += 1
    write_arrays(path, arrays)
    return ["reveals"], "0.safetensors is missing or was changed"


def a_better_summary(study):
    path = study / "report" / "summary.json"
    summary = read_json(path)
    summary["rows"][1]["extraction_gap"] -= 0.01
    write_json(path, summary)
    return ["summary"], "classifier/0/1: extraction_gap"


TAMPERED = [weights, features, signal, nominal_image, sealed_image, an_anomaly_to_train_on, another_trial, another_scorer,
            the_digest_alone, a_reveal_before_the_freeze, a_better_number, better_scores, a_better_summary]


@pytest.mark.parametrize("tamper", TAMPERED, ids=lambda tamper: tamper.__name__)
def test_what_was_touched_is_named(copy, tamper):
    expected, words = tamper(copy)
    names, said = failed(copy)
    assert set(expected) <= set(names) and words in said


def test_an_honest_study_is_believed(copy, tiny_launch):
    assert failed(copy) == ([], "")
    done = run("audit", copy, cwd=copy.parent)
    assert done.returncode == 0, done.stdout
    assert "chosen without an anomaly" in done.stdout and "✗" not in done.stdout and len(done.stdout.splitlines()) < 25
    weights(copy)
    done = run("audit", copy, "--json", cwd=copy.parent)
    assert done.returncode == 1 and json.loads(done.stdout)["believed"] is False


def test_nothing_is_written_or_lost(copy):
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file() and path.suffix != ".db"}
    Study.open(copy).audit()
    assert before == {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file() and path.suffix != ".db"}


def test_before_the_reveal_only_what_is_there_is_checked(copy):
    shutil.rmtree(copy / "reveal")
    shutil.rmtree(copy / "report")
    (copy.parent / "reveals.jsonl").unlink()
    found = Study.open(copy).audit()
    assert found["stage"] == "frozen" and found["believed"]
    assert {c["name"] for c in found["checks"] if c["state"] == "open"} >= {"separation", "order", "reveals", "summary"}
    flip(copy / "selection.json", 5)
    assert run("audit", copy, cwd=copy.parent).returncode in (1, 2)
