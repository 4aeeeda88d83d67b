"""Ledger, files and MLflow of a finished study against each other; used by the fault tests and the soak."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import optuna


def check_every_trial_once(study: Path, *, methods: list[str], trials: int, epochs: int) -> dict[str, int]:
    """Asserts that each of ``trials`` trials of each method ended once, everywhere; returns what was counted."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    files = 0
    for method in methods:
        loaded = optuna.load_study(study_name=f"{method}/0", storage=f"sqlite:///{study}/ledger.db")
        assert {t.number: t.state.name for t in loaded.trials} == {number: "COMPLETE" for number in range(trials)}
        for trial in loaded.trials:
            folder = study / "trials" / method / "0" / str(trial.number)
            result = json.loads((folder / "result.json").read_text())
            assert result["signals"]["val_accuracy"] == trial.value
            rows = [json.loads(line)["epoch"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
            assert rows == list(range(1, epochs + 1)), f"{method}/0/{trial.number}: epochs {rows}"
            files += 1
        assert len(list((study / "trials" / method / "0").iterdir())) == trials
    client = mlflow.MlflowClient(f"sqlite:///{study.parent}/mlflow.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()], max_results=5000)
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    keys = sorted((run.data.tags["method"], int(run.data.tags["number"])) for run in children)
    assert keys == sorted((method, number) for method in methods for number in range(trials))
    assert len(runs) == len(children) + 1 and {run.info.status for run in runs} == {"FINISHED"}
    for child in children:
        assert "gap/extraction" in child.data.metrics
        steps = [point.step for point in client.get_metric_history(child.info.run_id, "train/loss")]
        assert sorted(steps) == list(range(1, epochs + 1))
    assert json.loads((study / "selection.json").read_text())["selections"]
    return {"ledger": len(methods) * trials, "files": files, "mlflow_parents": 1, "mlflow_children": len(children),
            "running": sum(run.info.status == "RUNNING" for run in runs)}
