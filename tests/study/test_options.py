"""One study with everything that the default leaves out: splits, pruner, finalists, folds of every trial, post-hoc, weights to
start from."""

from __future__ import annotations

import json

import pytest
from conftest import overrides, run

from trainables.checkpoint import write_tensors
from trainables.files import sha256_of_file
from trainables.networks import build_network

pytestmark = pytest.mark.slow
PAIRS = [
    "name=options", "methods=['classifier']", "training.epochs=4", "training.batch_size=64", "search.trials=4",
    "analysis.questions=['signal_leaderboard', 'selection_regret']", "search.sampler=random", "search.max_concurrent=1", "search.pruner=successive_halving", "data.splits=[0, 1]", "selection.finalists=2",
    "selection.fold_trials=all", "selection.folds=2", "selection.scorer_rule=best", 'resources.address="local"',
    "search.posthoc.energy.temperature={low=0.5, high=5.0, log=true}", "search.posthoc.knn.k={low=1, high=20}",
    "search.space.classifier.learning_rate={low=1e-4, high=1.0, log=true}",
]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("options")
    write_tensors(cwd / "weights.safetensors", build_network("small_cnn", (8, 8, 1)).state_dict())
    done = run("launch", "digits", *overrides(*PAIRS, "training.pretrained=weights.safetensors"), cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return cwd / "runs" / "options"


def load(path):
    return json.loads(path.read_text())


def test_every_trial_of_both_splits_ended_and_the_pruner_had_its_say(study):
    rows = load(study / "report" / "summary.json")["rows"]
    assert [(r["split"], r["trial"]) for r in rows] == [(s, n) for s in (0, 1) for n in range(4)]
    assert {r["state"] for r in rows} == {"completed", "pruned"}
    for row in rows:
        assert (row["scorer_auroc"] is not None) == (row["state"] == "completed")
        if row["state"] == "pruned":
            lines = (study / "trials" / "classifier" / str(row["split"]) / str(row["trial"]) / "metrics.jsonl").read_text()
            assert 0 < len(lines.splitlines()) <= 4


def test_finalists_and_folds(study):
    selection, signals = load(study / "selection.json"), load(study / "folds.json")
    rows = load(study / "report" / "summary.json")["rows"]
    completed = {f"classifier/{r['split']}/{r['trial']}" for r in rows if r["state"] == "completed"}
    assert set(signals) == completed and all(0 <= value <= 1 for value in signals.values())
    assert all(r["signals"]["pseudo_novel_auroc"] == signals[f"classifier/{r['split']}/{r['trial']}"]
               for r in rows if r["state"] == "completed")
    assert [entry["split"] for entry in selection["selections"]] == [0, 1]
    for entry in selection["selections"]:
        judged = {f["trial"]: f["pseudo_novel_auroc"] for f in entry["finalists"]}
        assert 1 <= len(judged) <= 2 and judged[entry["trial"]] == max(judged.values())
        assert entry["scorer"] == "best" and len(entry["members"]) == 1 and len(entry["folds"]) == 2


def test_posthoc_parameters_were_settled_within_their_ranges(study):
    for entry in load(study / "selection.json")["selections"]:
        assert 0.5 <= entry["settled"]["energy"]["temperature"] <= 5
        assert 1 <= entry["settled"]["knn"]["k"] <= 20
        assert entry["settled"]["msp"] == entry["settled"]["entropy"]


def test_weights_to_start_from_are_told_of_everywhere(study):
    summary, stamp = (load(study / name) for name in ("report/summary.json", "stamp.json"))
    assert {row["pretrained"] for row in summary["rows"]} == {"weights.safetensors"}
    weights = study.parent.parent / "weights.safetensors"
    assert stamp["pretrained"] == {str(weights): sha256_of_file(weights)}
    page = (study / "report" / "index.html").read_text()
    assert "<td class=\"left\">weights.safetensors</td>" in page and "They may have been trained on the anomaly classes" in page


def test_other_weights_are_refused(study, tmp_path):
    """Whether launched from where it began or, by its folder, from elsewhere."""
    path = study.parent.parent / "weights.safetensors"
    kept = path.read_bytes()
    try:
        for change, words in (({}, "its SHA-256 differs"), ({"width": 0.5}, "do not fit")):
            write_tensors(path, build_network("small_cnn", (8, 8, 1), **change).state_dict())
            done = run("launch", study, cwd=tmp_path)
            assert done.returncode == 2 and words in done.stderr and len(done.stderr.strip().splitlines()) == 1
    finally:
        path.write_bytes(kept)


def test_the_second_split_can_be_exported(study):
    done = run("export", study, "--split", "1", cwd=study)
    assert done.returncode == 0 and (study / "export" / "classifier-split1" / "detector.json").exists()
    assert run("export", study, "--split", "7", cwd=study).returncode == 2
