"""One whole study of real digits through the command line: what it leaves on disk, in MLflow and on the screen."""

from __future__ import annotations

import json
import math
import re
import shutil
import tomllib

import numpy as np
import pytest
from conftest import TINY, digits_npz, overrides, run

from study import Study, StudySpec
from study.errors import UserError
from study.selection import selection_digest
from trainables.files import sha256_of_file

pytestmark = pytest.mark.slow
RUN_KEYS = {
    "method", "split", "seed", "trial", "state", "reason", "selected", "scorer", "signal", "signal_value",
    "closed_set_accuracy", "scorer_auroc", "scorer_auroc_ci", "scorers", "oracle_detector_auroc", "linear_oracle_auroc",
    "oracle_representation_auroc", "extraction_gap", "extraction_gap_ci", "extraction_gap_max_logit",
    "representation_gap", "regret", "regret_crossfit",
}


def finite(value) -> bool:
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    if isinstance(value, list):
        return all(map(finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def test_every_trial_leaves_its_files(tiny):
    names = {"config.json", "metrics.jsonl", "model.safetensors", "features.safetensors", "result.json"}
    for method in ("classifier", "hybrid"):
        for number in range(2):
            folder = tiny / "trials" / method / "0" / str(number)
            assert {path.name for path in folder.iterdir()} == names
            result = json.loads((folder / "result.json").read_text())
            assert sha256_of_file(folder / "model.safetensors") == result["weights_sha256"]
            epochs = [json.loads(line)["epoch"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
            assert epochs == [1, 2, 3, 4]
    assert not list(tiny.rglob("*.pkl")) and not (tiny / ".tune").exists()


def test_the_summary_has_a_row_for_every_trial_and_retrained_seed(tiny):
    summary = json.loads((tiny / "report" / "summary.json").read_text())
    rows = summary["rows"]
    assert [(r["method"], r["state"], r["seed"]) for r in rows] == [
        (method, state, seed) for method in ("classifier", "hybrid")
        for state, seed in (("completed", 0), ("completed", 0), ("retrained", 1))
    ]
    for row in rows:
        assert set(row) >= RUN_KEYS and finite(row)
        assert all(0 <= row[k] <= 1 for k in ("scorer_auroc", "oracle_detector_auroc", "oracle_representation_auroc"))
        assert row["extraction_gap"] == pytest.approx(row["oracle_detector_auroc"] - row["scorer_auroc"], abs=1e-12)
        gap = row["oracle_representation_auroc"] - row["oracle_detector_auroc"]
        assert row["representation_gap"] == pytest.approx(gap, abs=1e-12)
        assert row["regret"] >= 0
    assert summary["prior_reveals"] == 0 and not summary["contaminated"] and not summary["nominal_only"]
    assert sum(row["selected"] and row["state"] == "completed" for row in rows) == 2
    for row in rows[2], rows[5]:
        assert row["trial"] == next(r["trial"] for r in rows if r["method"] == row["method"] and r["selected"])


def test_the_representation_that_was_trained_is_the_one_in_every_row(tiny):
    """A job's result and the scores that its rows are computed from are two files: they must tell the same."""
    rows = json.loads((tiny / "report" / "summary.json").read_text())["rows"]
    stored = [json.loads(path.read_text()) for path in (tiny / "jobs" / "representation").glob("*/result.json")]
    assert len(stored) == 2
    for job in stored:
        of_method = [r for r in rows if r["method"] == job["inputs"]["method"]]
        assert {round(r["oracle_representation_auroc"], 12) for r in of_method} == {round(job["result"]["auroc"], 12)}
        assert job["result"]["auroc"] > 0.9  # digits: the architecture can hold nearly everything


def test_the_selection_is_what_the_rule_says(tiny):
    selection = json.loads((tiny / "selection.json").read_text())
    assert selection["digest"] == selection_digest(selection)
    study = Study.open(tiny)
    trials = study.trials()
    for entry in selection["selections"]:
        mine = trials[trials.method == entry["method"]]
        best = mine.sort_values(["signals_val_accuracy", "signals_val_nll"], ascending=[False, True]).iloc[0]
        assert entry["trial"] == best.number and len(entry["folds"]) == 3
        means = {name: np.mean([fold["auroc"][name] for fold in entry["folds"]]) for name in entry["folds"][0]["auroc"]}
        ranked = sorted(means, key=means.get, reverse=True)
        assert entry["members"] == ranked[: math.ceil(len(ranked) / 2)]
        held_out = [name for fold in entry["folds"] for name in fold["held_out"]]
        view = json.loads((tiny / "view" / "0" / "manifest.json").read_text())
        assert sorted(held_out) == sorted(view["classes"])


def test_frozen_rule_of_a_row_can_be_computed_again_from_its_scores(tiny):
    """A naive loop over the definition, from the per-image scores and the trial's own validation images."""
    from sklearn.metrics import roc_auc_score

    from analysis.scorers import get_scorer
    from study.folds import cached_features
    from trainables.data import View
    from trainables.files import read_arrays
    from trainables.fit import read_features

    selection = Study.open(tiny).selection
    entry = next(e for e in selection["selections"] if e["method"] == "classifier")
    view = View.load(tiny / "view" / "0")
    for number in range(2):
        arrays = read_arrays(tiny / "reveal" / "classifier" / "0" / f"{number}.safetensors")
        cached = read_features(tiny / "trials" / "classifier" / "0" / str(number))
        train = cached_features(cached, "train", (), view.train_labels)
        validation = cached_features(cached, "validation", ())
        total = 0.0
        for name in entry["members"]:
            nominal = get_scorer(name).fit(train, entry["settled"].get(name)).score(validation)
            total = total + (arrays[f"score/{name}"] - nominal.mean()) / nominal.std()
        row = json.loads((tiny / "reveal" / "classifier" / "0" / f"{number}.json").read_text())["result"]
        anomalies = len(total) - len(np.load(tiny / "vault" / "0" / "test_nominal_labels.npy"))
        truth = np.r_[np.zeros(len(total) - anomalies), np.ones(anomalies)]
        assert roc_auc_score(truth, total) == pytest.approx(row["scorer_auroc"], abs=1e-9)
        assert roc_auc_score(truth, arrays["score/oracle_detector"]) == pytest.approx(row["oracle_detector_auroc"])


def children(folder):
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{folder.parent}/mlflow.db")
    experiments = [e.experiment_id for e in client.search_experiments()]
    return client.search_runs(experiments, max_results=1000)


def test_mlflow_holds_one_parent_and_a_child_a_trial_with_its_gaps(tiny):
    runs = children(tiny)
    kids = [r for r in runs if "mlflow.parentRunId" in r.data.tags]
    assert len(runs) == 5 and len(kids) == 4 and {r.info.status for r in runs} == {"FINISHED"}
    for kid in kids:
        assert {"gap/extraction", "gap/representation", "oracle/detector_auroc", "test/scorer_auroc",
                "signal/val_accuracy", "val/nll", "train/loss"} <= set(kid.data.metrics)
        assert {"method", "split", "seed", "selected"} <= set(kid.data.tags) and "learning_rate" in kid.data.params
        assert len(kid.data.metrics) <= 30  # twelve of them signals
    assert sum(kid.data.tags["selected"] == "true" for kid in kids) == 2


def test_launching_a_finished_study_again_changes_nothing(tiny_launch, tmp_path):
    shutil.copytree(tiny_launch[0], tmp_path / "copy")
    tiny = tmp_path / "copy" / "runs" / "tiny"
    before = {p: sha256_of_file(p) for p in tiny.rglob("*") if p.is_file() and "report" not in p.parts}
    spec = (tiny / "spec.toml").read_text()
    metrics = {r.info.run_id: r.data.metrics for r in children(tiny)}
    nowhere = 'resources.address="127.0.0.1:1"'  # where no cluster is: none is asked for
    done = run("launch", "digits", *overrides(*TINY, "data.seeds=[0, 1]", nowhere), cwd=tmp_path / "copy")
    assert done.returncode == 0 and "completed in" not in done.stdout and "fold" not in done.stdout
    changed = [p.name for p, digest in before.items() if sha256_of_file(p) != digest]
    assert set(changed) <= {"stamp.json", "lock", "spec.toml"}
    assert (tiny / "spec.toml").read_text() == re.sub(r"(?m)^address = .*$", 'address = "127.0.0.1:1"', spec)
    assert {r.info.run_id: r.data.metrics for r in children(tiny)} == metrics
    assert len((tiny.parent / "reveals.jsonl").read_text().splitlines()) == 1


def test_another_spec_under_the_same_name_is_refused_by_key(tiny_launch):
    done = run("launch", "digits", *overrides(*TINY, "data.seeds=[0, 1]", "data.limit=99"), cwd=tiny_launch[0])
    assert done.returncode == 2 and "data.limit" in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_what_the_launch_printed(tiny_launch):
    out = tiny_launch[1].stdout
    assert sum(" completed in " in line for line in out.splitlines()) == 4
    assert "frozen: classifier/0 trial" in out and "report: " in out and "Traceback" not in out + tiny_launch[1].stderr
    assert tiny_launch[1].stderr == ""


def test_status_and_report_as_json(tiny_launch, tiny):
    status = json.loads(run("status", tiny, "--json", cwd=tiny_launch[0]).stdout)
    assert status["stage"] == "revealed" and status["ended"] == status["total"] == 4
    report = json.loads(run("report", tiny, "--json", cwd=tiny_launch[0]).stdout)
    assert len(report["rows"]) == 6
    page = (tiny / "report" / "index.html").read_text()
    assert "classifier" in page and "src=\"http" not in page and "<svg" in page


def test_export_is_the_frozen_best_and_can_be_launched_again(tiny, tmp_path):
    from analysis.fusion import FrozenRule
    from study.folds import cached_features
    from trainables.data import View
    from trainables.files import read_arrays
    from trainables.fit import read_features
    from trainables.methods import get_method

    copy = tmp_path / "tiny"
    shutil.copytree(tiny, copy)
    study = Study.open(copy)
    folder = study.export()
    assert folder.name == study.selection["method_ranking"][0]["method"]
    entry = next(e for e in study.selection["selections"] if e["method"] == folder.name)
    assert sha256_of_file(folder / "model.safetensors") == entry["weights_sha256"]
    detector = json.loads((folder / "detector.json").read_text())
    arrays = read_arrays(folder / "detector.safetensors") if (folder / "detector.safetensors").exists() else {}
    rule = FrozenRule.from_state(detector["scorer"], arrays)
    trial = copy / "trials" / folder.name / "0" / str(entry["trial"])
    own = get_method(folder.name).own_scorers
    scores = rule.score(cached_features(read_features(trial), "validation", own))
    assert 0.94 <= (scores <= detector["threshold"]).mean() <= 0.97
    assert detector["classes"] == list(View.load(copy / "view" / "0").classes)
    again = StudySpec.load(folder / "config.toml")
    assert again.search.trials == 1 and again.methods == [folder.name]
    fixed = again.space(folder.name)
    assert not fixed.searched() and fixed.default() == json.loads((trial / "config.json").read_text())["params"]
    card = (folder / "MODEL_CARD.md").read_text()
    assert "Without any anomaly" in card and entry["weights_sha256"] in card
    with pytest.raises(UserError, match="did you mean 'hybrid'"):
        study.export("hybird")


def test_a_tampered_selection_is_not_revealed_or_exported(tiny, tmp_path):
    copy = tmp_path / "tiny"
    shutil.copytree(tiny, copy)
    text = (copy / "selection.json").read_text()
    (copy / "selection.json").write_text(text.replace('"scorer": "top_half_mean"', '"scorer": "best"'))
    for command in ("reveal", "export"):
        done = run(command, copy, cwd=tmp_path)
        assert done.returncode == 2 and "was changed after it was frozen" in done.stderr


def test_a_study_without_anomalies_works_up_to_export(tmp_path):
    digits_npz(tmp_path / "digits.npz")
    pairs = [*TINY, "data.source=npz", "data.path=digits.npz", "data.anomaly_classes=[]", "methods=['classifier']",
             "search.trials=1", 'resources.address="local"', 'data.nominal_classes=["one", "two", "three", "four"]']
    done = run("launch", "digits", *overrides(*pairs), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "nothing to reveal" in done.stdout
    summary = json.loads((tmp_path / "runs" / "tiny" / "report" / "summary.json").read_text())
    assert summary["nominal_only"] and summary["rows"][0]["scorer_auroc"] is None
    assert not (tmp_path / "runs" / "tiny" / "reveal").exists()
    exported = run("export", "runs/tiny", cwd=tmp_path)
    assert exported.returncode == 0 and "detector.json" in exported.stdout
    config = tomllib.loads((tmp_path / "runs" / "tiny" / "export" / "classifier" / "config.toml").read_text())
    assert config["data"]["path"] == str(tmp_path / "digits.npz")


def test_a_mistake_in_the_data_can_be_corrected_under_the_same_name(tmp_path):
    """The second split fails after the first was written: nothing of it may survive into the corrected study."""
    def few(images, labels, names):
        keep = [*range(600), *next((i,) for i in range(600, 1797) if labels[i] == 9)]
        keep = [i for i in keep if labels[i] != 8] + [i for i in range(1797) if labels[i] == 8][:2]
        return images[keep], labels[keep], names

    digits_npz(tmp_path / "digits.npz", change=few)
    pairs = ["name=tiny", "data.source=npz", "data.path=digits.npz", "data.nominal_classes=4", "data.splits=[0,1,2,3,4,5]"]
    failed = run("launch", "digits", "--offline", *overrides(*pairs), cwd=tmp_path)
    assert failed.returncode == 2 and "eight" in failed.stderr
    study = tmp_path / "runs" / "tiny"
    assert not (study / "spec.toml").exists()
    fixed = [*pairs[:3], 'data.nominal_classes=["one","two","three"]', "data.limit=20", "data.anomaly_classes=['zero']",
             *TINY[:3], "methods=['classifier']", "search.trials=1", 'resources.address="local"']
    done = run("launch", "digits", "--offline", "--stop-after", "search", *overrides(*fixed), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((study / "view" / "0" / "manifest.json").read_text())
    assert manifest["classes"] == ["one", "two", "three"] and sum(manifest["counts"].values()) <= 60
    assert [path.name for path in (study / "view").iterdir()] == ["0"]


def test_a_reveal_under_another_selection_is_not_reported(tiny, tmp_path):
    """Re-frozen, not yet revealed again: the old numbers are gone and the study is marked."""
    from trainables.files import read_json, write_json

    copy = tmp_path / "tiny"
    shutil.copytree(tiny, copy)
    selection = read_json(copy / "selection.json")
    for entry in selection["selections"]:
        entry["members"] = entry["members"][:1]
    selection["digest"] = selection_digest(selection)
    write_json(copy / "selection.json", selection)
    summary = Study.open(copy).summary()
    assert summary["contaminated"] and not summary["revealed"]
    assert all(row["scorer_auroc"] is None for row in summary["rows"])
    status = Study.open(copy).status()
    assert status["stage"] == "frozen" and status["contaminated"] and "launch" in status["next"]
    assert "Contaminated" in (Study.open(copy).export() / "MODEL_CARD.md").read_text()
