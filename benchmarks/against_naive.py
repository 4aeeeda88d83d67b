"""oraclegap beside the script that a careful user would write without it (`naive_tune.py`): the same trials, end to end.

    python benchmarks/against_naive.py [--data digits|cifar10] [--path …/cifar10] [--runs N] [--trials 8]

Each run launches a study (classifier and hybrid) as a command of its own, in a folder of its own, and then the script on the
same images, configurations, epochs, batch sizes, networks, scorers and oracles, also as a command. The study trains no fold
models here (`selection.folds = 0`, rule max logit) and asks no questions of the report, since the script knows no such thing;
all else that a study does (checkpoints, ledger, MLflow, freeze, reveal, table and report) it does. Prints seconds of wall clock from start to exit, how often the
study is faster, and how far the mean results of both are apart.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
#: What a run takes of each data set; CIFAR-10 in part, so that a run ends in minutes.
SIZES = {
    "digits": {"spec": "digits", "epochs": 30, "batch_size": 32, "cpus": 1, "workers": 0, "limit": 0},
    "cifar10": {"spec": "cifar10", "epochs": 6, "batch_size": 128, "cpus": 2, "workers": 2, "limit": 1000},
}


def command(arguments: list[str], *, log: Path) -> float:
    """Seconds of a command; its last words where it fails."""
    began = time.perf_counter()
    with open(log, "w") as file:
        code = subprocess.run([sys.executable, *arguments], stdout=file, stderr=subprocess.STDOUT, cwd=log.parent,
                              env={**os.environ, "PYTHONPATH": str(HERE.parent)}).returncode
    if code:
        raise SystemExit(f"{' '.join(arguments[:3])} ended with {code}:\n{log.read_text()[-2000:]}")
    return time.perf_counter() - began


def launch(folder: Path, size: dict, options) -> float:
    """Seconds of the study."""
    overrides = {
        "methods": '["classifier","hybrid"]', "search.trials": options.trials, "training.epochs": size["epochs"],
        "training.batch_size": size["batch_size"], "data.limit": size["limit"], "selection.folds": 0,
        "selection.scorer_rule": "max_logit", "analysis.questions": "[]", "resources.cpus_per_trial": size["cpus"], "resources.address": "local",
    }
    if options.data == "cifar10":
        overrides |= {"data.source": "folder", "data.path": str(Path(options.path).resolve())}
    arguments = [part for key, value in overrides.items() for part in ("-o", f"{key}={value}")]
    return command(["-m", "study", "launch", size["spec"], "--root", str(folder / "runs"), *arguments],
                   log=folder / "study.log")


def hand_over(folder: Path, size: dict) -> dict:
    """Writes the study's images and configurations for the script; returns what the study found."""
    from study.vault import Vault
    from trainables.data import View

    study = folder / "runs" / size["spec"]
    summary = json.loads((study / "report" / "summary.json").read_text())
    view, vault = View.load(study / "view" / "0"), Vault.load(study / "vault" / "0")
    tests = (vault.test_nominal.images, vault.test_anomaly.images)
    np.savez(
        folder / "data.npz", train_images=view.train_images, train_labels=view.train_labels,
        validation_images=view.validation_images, validation_labels=view.validation_labels,
        anomaly_train_images=vault.train.images, anomaly_train_labels=vault.train.labels,
        anomaly_validation_images=vault.validation.images, test_images=np.concatenate(tests),
        test_is_anomaly=np.repeat([False, True], [len(part) for part in tests]),
    )
    methods, found, scorers = {}, {}, []
    for row in (row for row in summary["rows"] if row["state"] == "completed"):
        trial = study / "trials" / row["method"] / "0" / str(row["trial"])
        methods.setdefault(row["method"], []).append(json.loads((trial / "config.json").read_text())["params"])
        result = json.loads((trial / "result.json").read_text())
        scorers = [name for name in row["scorers"] if not scorers or name in scorers]
        found.setdefault(row["method"], []).append({
            "accuracy": result["signals"]["val_accuracy"], "max_logit": row["scorers"]["max_logit"],
            "oracle_detector": row["oracle_detector_auroc"], "seconds": result["train_seconds"]})
    job = {"methods": methods, "epochs": size["epochs"], "batch_size": size["batch_size"], "network": "small_cnn",
           "cpus": size["cpus"], "workers": size["workers"], "flips": view.flips_keep_labels, "runs": str(folder / "naive"),
           "scorers": scorers}
    (folder / "naive").mkdir()
    (folder / "job.json").write_text(json.dumps(job))
    return found


def one_run(options, size: dict) -> tuple[float, float, dict[str, float], float]:
    """(seconds of the study, of the script, differences of mean results, ratio of training seconds)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = launch(folder, size, options)
        found = hand_over(folder, size)
        script = command([str(HERE / "naive_tune.py"), "data.npz", "job.json", "out.json"], log=folder / "naive.log")
        theirs = {method: part["trials"] for method, part in json.loads((folder / "out.json").read_text()).items()}
        mine, other = ([row for rows in part.values() for row in rows] for part in (found, theirs))
        if len(mine) != len(other):
            raise SystemExit(f"{len(mine)} trials against {len(other)}")
        apart = {key: statistics.mean(r[key] for r in mine) - statistics.mean(r[key] for r in other)
                 for key in ("accuracy", "max_logit", "oracle_detector")}
        return ours, script, apart, sum(r["seconds"] for r in other) / sum(r["seconds"] for r in mine)


def main() -> None:
    """Prints a line a run, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=tuple(SIZES), default="digits")
    parser.add_argument("--path", default="", help="a folder of CIFAR-10 images")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--trials", type=int, default=8, help="of each of the two methods")
    parser.add_argument("--workers", type=int, help="of the script's DataLoader")
    parser.add_argument("--epochs", type=int)
    options = parser.parse_args()
    size = dict(SIZES[options.data])
    size |= {key: value for key in ("workers", "epochs") if (value := getattr(options, key)) is not None}
    if options.data == "cifar10" and not options.path:
        parser.error("--path: where the CIFAR-10 images lie")
    forests = "scikit-learn-intelex (the extra `fast`)" if find_spec("sklearnex") else "scikit-learn"
    print(f"{options.data}: the study's forests by {forests}, the script's by scikit-learn", flush=True)
    ratios, training = [], []
    for run in range(options.runs):
        ours, script, apart, trained = one_run(options, size)
        ratios.append(script / ours)
        training.append(trained)
        told = ", ".join(f"{name} {value:+.3f}" for name, value in apart.items())
        print(f"{options.data}, run {run}: {2 * options.trials} trials: study {ours:.1f} s, script {script:.1f} s, "
              f"{script / ours:.2f} times; training alone {trained:.2f} times; study − script: {told}", flush=True)
    for name, values in (("end to end", ratios), ("training alone", training)):
        print(f"{options.data}, {name}: the study is {min(values):.2f}, {statistics.median(values):.2f}, {max(values):.2f} "
              f"times as fast (min, median, max; n = {len(values)})")


if __name__ == "__main__":
    main()
