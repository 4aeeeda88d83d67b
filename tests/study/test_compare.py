"""``oraclegap compare`` on a real finished study and changed copies of it."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest

from analysis.metrics import auroc
from analysis.uncertainty import paired_delong
from study.compare import as_json, compare, text
from study.errors import UserError
from trainables.files import read_arrays, read_json, write_arrays, write_json


@pytest.fixture
def copy(tiny, tmp_path):
    """A second study of the same data: a copy of the first under another root."""
    folder = tmp_path / "elsewhere" / "tiny"
    shutil.copytree(tiny, folder)
    return folder


def change_summary(folder, **over):
    path = folder / "report" / "summary.json"
    write_json(path, {**read_json(path), **over})


def spoil(folder, method: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Makes the frozen rule of a method's selected trial guess; returns its scores before and after, and the mask."""
    summary = read_json(folder / "report" / "summary.json")
    row = next(r for r in summary["rows"] if r["method"] == method and r["selected"] and not r["retrained"])
    path = folder / "reveal" / method / "0" / f"{row['trial']}.safetensors"
    arrays = dict(read_arrays(path))
    before = arrays["score/frozen_rule"]
    anomalies = read_json(folder / "vault" / "0" / "manifest.json")["counts"]["test_anomaly"]
    mask = np.arange(len(before)) >= len(before) - anomalies
    arrays["score/frozen_rule"] = np.random.default_rng(0).random(len(before))
    write_arrays(path, arrays)
    for other in summary["rows"]:
        if other["method"] == method and other["selected"]:
            other.update(scorer_auroc=auroc(arrays["score/frozen_rule"], mask))
    write_json(folder / "report" / "summary.json", summary)
    return before, arrays["score/frozen_rule"], mask


def digest(folder):
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_planted_difference_is_found_by_paired_delong(tiny, copy):
    before, after, mask = spoil(copy, "hybrid")
    found = compare([tiny, copy]).data
    lines = {line["method"]: line for line in found["differences"] if line["method"] == line["against"]}
    item, expected = lines["hybrid"]["measures"]["scorer"], paired_delong(after, before, mask)
    assert item["basis"] == "paired"
    assert (item["difference"], item["low"], item["high"]) == pytest.approx(expected[:3], abs=1e-12)
    assert (lines["hybrid"]["verdict"], lines["hybrid"]["sure"]) == ("lower", "lead")
    assert lines["classifier"]["verdict"] == "noise" and lines["classifier"]["measures"]["scorer"]["difference"] == 0
    assert lines["hybrid"]["measures"]["oracle"]["difference"] == 0
    assert {"oracle", "representation", "max_logit", "accuracy"} <= set(lines["hybrid"]["measures"])
    assert found["data"] == [{"label": "elsewhere/tiny", "shared_splits": [[0, 0]], "splits": [1, 1], "same_nominal": True}]


def test_the_studies_are_left_as_they_were_and_the_page_is_written(tiny, copy, tmp_path):
    before = digest(tiny), digest(copy)
    made = compare([tiny, copy], out=tmp_path / "made" / "here")
    assert (digest(tiny), digest(copy)) == before
    names = {path.name for path in made.page.parent.iterdir()}
    assert names == {"index.html", "compare.json", "differences.svg", "differences.png", "ladders.svg", "ladders.png"}
    stored = json.loads((made.page.parent / "compare.json").read_text())
    assert stored == json.loads(as_json(made)) and stored["schema_version"] == 1
    assert [study["label"] for study in stored["studies"]] == ["runs/tiny", "elsewhere/tiny"]
    assert "runs/tiny" in made.page.read_text()
    assert max(map(len, text(made, width=80).splitlines())) <= 80
    assert "Their specs are alike" in text(made, width=80)


def test_what_differs_is_read_from_spec_and_stamp(tiny, copy):
    path = copy / "spec.toml"
    path.write_text(path.read_text().replace("trials = 2", "trials = 3").replace('name = "tiny"', 'name = "second"'))
    stamp = read_json(copy / "stamp.json")
    write_json(copy / "stamp.json", {**stamp, "packages": {**stamp["packages"], "torch": "0.0.1"}, "vaults": {}})
    found = compare([tiny, copy]).data
    assert found["spec"] == [{"key": "search.trials", "values": [2, 3]}]
    assert [item["key"] for item in found["versions"]] == ["packages.torch"]
    assert [study["label"] for study in found["studies"]] == ["tiny", "second"]
    # without the digests of the sealed images nothing says that they are the same
    assert found["data"][0]["shared_splits"] == []
    assert {line["measures"]["scorer"]["basis"] for line in found["differences"]} == {"images"}


def refused(folders, words):
    with pytest.raises(UserError) as caught:
        compare(folders)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_errors_are_one_line(tiny, copy, tmp_path):
    refused([], "two or more studies")
    refused([tiny], "two or more studies")
    refused([tiny, copy, tiny.parent / "." / "tiny"], "given twice")
    (tmp_path / "link").symlink_to(tiny)
    refused([tiny, tmp_path / "link"], "given twice")
    refused([tiny, tmp_path], "no study here")
    refused([tmp_path / "none", tiny], "no study here")
    with pytest.raises(UserError, match="a study lies here"):
        compare([tiny, copy], out=copy)


def test_unfinished_studies_are_refused_with_what_to_do(tiny, copy):
    kept = read_json(copy / "report" / "summary.json")
    change_summary(copy, rows=[{**row, "scorer_auroc": None} for row in kept["rows"]])
    refused([tiny, copy], "not revealed yet; run `oraclegap reveal")
    change_summary(copy, digest="0" * 64)
    refused([tiny, copy], "another selection")
    (copy / "report" / "summary.json").unlink()
    refused([tiny, copy], "run `oraclegap report")
    (copy / "selection.json").unlink()
    refused([tiny, copy], "nothing is frozen")


def test_a_study_without_anomalies_is_told_in_words(tiny, copy):
    kept = read_json(copy / "report" / "summary.json")
    change_summary(copy, nominal_only=True, rows=[
        {**row, "scorer_auroc": None, "oracle_detector_auroc": None, "extraction_gap": None,
         "representation_gap": None, "oracle_representation_auroc": None, "scorers": {}} for row in kept["rows"]])
    made = compare([tiny, copy])
    assert "elsewhere/tiny holds no anomalies" in text(made, width=100)
    assert made.data["studies"][1]["vaults"] == {}
    assert all(line["verdict"] == "unknown" for line in made.data["differences"])


def test_a_trial_whose_reveal_failed_leaves_the_others_comparable(tiny, copy):
    entry = next(e for e in read_json(copy / "selection.json")["selections"] if e["method"] == "hybrid")
    (copy / "reveal" / "hybrid" / "0" / f"{entry['trial']}.json").unlink()
    basis = {line["method"]: line["measures"]["scorer"]["basis"] for line in compare([tiny, copy]).data["differences"]}
    assert basis["classifier"] == "paired" and basis["hybrid"] != "paired"
