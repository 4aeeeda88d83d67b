"""The command line: quick help, one line and exit 2 for bad input, a plan that starts nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from conftest import run

COMMANDS = ("plan", "launch", "status", "freeze", "reveal", "analyse", "report", "compare", "audit", "export", "detect", "doctor",
            "init", "methods", "ui", "list", "clean", "completion")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_imports_nothing_heavy(command):
    """Time varies with the machine; what makes it long is what gets imported."""
    code = (
        "import sys\nfrom study.cli import main\n"
        f"try:\n    main({[command, '--help'] if command else ['--help']!r})\nexcept SystemExit as end:\n"
        "    assert end.code == 0\n"
        "heavy = {'torch', 'ray', 'mlflow', 'optuna', 'pydantic', 'numpy', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: oraclegap" in done.stdout and time.monotonic() - started < 5


BAD = {
    "no such spec": (["launch", "digitz"], "did you mean 'digits'"),
    "no such file": (["launch", "nothing.toml"], "no such file"),
    "a folder as spec": (["launch", "."], "is a folder"),
    "misspelt key": (["launch", "digits", "-o", "search.trails=3"], "did you mean 'trials'"),
    "no trials": (["launch", "digits", "-o", "search.trials=0"], "search.trials"),
    "no such study": (["status", "runs/nothing"], "no study here"),
    "freeze of nothing": (["freeze", "runs/nothing"], "no study here"),
    "reveal of nothing": (["reveal", "runs/nothing"], "no study here"),
    "export of nothing": (["export", "runs/nothing"], "no study here"),
    "report of nothing": (["report", "runs/nothing"], "no study here"),
    "ui without studies": (["ui"], "no study"),
    "analysis of nothing": (["analyse", "runs/nothing"], "no study here"),
    "audit of nothing": (["audit", "runs/nothing"], "no study here"),
    "comparison of nothing": (["compare", "runs/nothing", "runs/other"], "no study here"),
    "list of nothing": (["list"], "no such folder"),
    "cleaning of nothing": (["clean", "runs/nothing"], "no study here"),
    "completion of no shell": (["completion", "csh"], "'bash', 'zsh', 'fish'"),
    "no such command": (["lunch", "digits"], "`oraclegap --help` shows what there is"),
    "no such option": (["launch", "digits", "--ofline"], "`oraclegap --help` shows"),
    "two keys in one override": (["launch", "digits", "-o", "data.limit=1\nsearch.trials=2"], "more than one key"),
    "a spec's name of 5000 letters": (["launch", "x" * 5000], "too long"),
    "groups by no expression": (["launch", "folder", "-o", "data.path=.", "-o", "data.group=^(bee"], "data.group"),
    "groups of digits": (["launch", "digits", "-o", "data.group=^(.+)_\\d+"], "has no file names"),
    "ui open to all": (["ui", "--host", "0.0.0.0"], "0.0.0.0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_exit_2_and_writes_nothing(name, tmp_path):
    arguments, words = BAD[name]
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr and list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(tmp_path):
    assert "Traceback" in run("launch", "digitz", "--debug", cwd=tmp_path).stderr


def test_plan_says_what_would_run_and_starts_nothing(tmp_path):
    done = run("plan", "digits", "--json", cwd=tmp_path)
    plan = json.loads(done.stdout)
    assert plan["jobs"]["trials"] == 24 and plan["jobs"]["fold models"] == 9 and plan["jobs"]["reveals"] == 24
    assert plan["first_configurations"]["hybrid/0"][0]["reconstruction_weight"] > 0
    assert plan["disk_bytes"] > 1e6 and list(tmp_path.iterdir()) == []
    text = run("plan", "digits", "-o", "data.anomaly_classes=[]", cwd=tmp_path).stdout
    assert "24 trials" in text and "oracle" not in text.split("search space")[0] and "learning_rate" in text


def test_a_tracking_server_that_is_down_is_told_at_once(tmp_path):
    started = time.monotonic()
    done = run("launch", "digits", cwd=tmp_path, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert done.returncode == 3 and "--offline" in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert time.monotonic() - started < 20 and not (tmp_path / "runs").exists()


def test_a_file_store_is_refused_with_the_command_that_moves_it(tmp_path):
    done = run("launch", "digits", cwd=tmp_path, MLFLOW_TRACKING_URI=str(tmp_path / "mlruns"))
    assert done.returncode == 2 and "mlflow migrate-filestore" in done.stderr
