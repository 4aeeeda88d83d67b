"""Fixtures that several test files use: the command line as a user calls it, and one small finished study."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

#: A study of real digits that ends in seconds; every test that needs a finished study shares one run of it.
TINY = ["search.trials=2", "training.epochs=4", "training.batch_size=64", "name=tiny",
        'methods=["classifier", "hybrid"]']
ELSEWHERE = ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "ORACLEGAP_LEDGER_PASSWORD")
ORACLEGAP = [sys.executable, "-m", "study"]
#: A Ray cluster of one CPU for a study that is not about trials beside each other (``faults/test_driver.py`` and
#: ``test_cluster.py`` are): three tests run at a time as it is, and each worker takes 4 s of a core to import what it needs.
ONE_CPU = {"RAY_OVERRIDE_RESOURCES": '{"CPU": 1}'}
#: Ray's own 15 lets workers starve for as long as other tests compute, and then the driver waits for them.
os.environ.update({"RAY_worker_niceness": "0"})


def pytest_collection_modifyitems(items):
    """Files with real studies first, so that no worker is left alone with them in the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def _own_tracking(monkeypatch):
    """No test may reach a developer's MLflow server or Ray cluster."""
    for name in ELSEWHERE:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _figures_are_drawn_here(monkeypatch):
    """In the test's own process, where a layout that matplotlib gives up on is heard of (``test_plot_together.py`` has helpers)."""
    monkeypatch.setattr("analysis.plot_together.cores", lambda: 1)


def overrides(*pairs: str) -> list[str]:
    """``-o`` for each pair."""
    return [word for pair in pairs for word in ("-o", pair)]


def run(*arguments: str, cwd: Path, timeout: float = 240, **environment: str) -> subprocess.CompletedProcess:
    """Runs ``oraclegap`` as a process of its own."""
    return subprocess.run(
        [*ORACLEGAP, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=timeout,
        env={**{k: v for k, v in os.environ.items() if k not in ELSEWHERE}, "COLUMNS": "100", **ONE_CPU, **environment}, check=False,
    )


@pytest.fixture(scope="session")
def tiny_launch(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """(folder of runs, what the launch printed) of one finished digits study of two methods, made once for all workers of
    pytest-xdist."""
    from filelock import FileLock

    base = tmp_path_factory.getbasetemp()
    cwd = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "tiny-study"
    with FileLock(f"{cwd}.lock"):
        if not (cwd / "done.json").exists():
            cwd.mkdir()
            done = run("launch", "digits", *overrides(*TINY, "data.seeds=[0, 1]", "resources.address=\"local\""), cwd=cwd)
            (cwd / "done.json").write_text(json.dumps(vars(done)))
    done = subprocess.CompletedProcess(**json.loads((cwd / "done.json").read_text()))
    assert done.returncode == 0, done.stderr + done.stdout
    return cwd, done


@pytest.fixture(scope="session")
def tiny(tiny_launch) -> Path:
    """The folder of that study. Tests read it and leave it as it is."""
    return tiny_launch[0] / "runs" / "tiny"


def digits_npz(path: Path, *, change=None) -> Path:
    """The real digits as an npz file, after ``change(images, labels)``; class names are words."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = np.rint(data.images * 255 / 16).astype(np.uint8)
    labels = data.target.astype(np.int64)
    names = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    if change is not None:
        images, labels, names = change(images, labels, names)
    np.savez(path, images=images, labels=labels, class_names=names)
    return path


@pytest.fixture
def plugin_folder(tmp_path, monkeypatch) -> Iterator[Path]:
    """A working folder for modules with plug-ins; what a test loads from there is forgotten after it."""
    from analysis import plugins

    for kind in plugins.KINDS.values():
        importlib.import_module(kind.complete or kind.home)
    registries = [getattr(importlib.import_module(kind.home), kind.registry) for kind in plugins.KINDS.values()]
    before = [dict(registry) for registry in registries]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(plugins, "_loaded", {})
    monkeypatch.setattr(plugins, "_followed", set())
    monkeypatch.delenv(plugins.VARIABLE, raising=False)
    plugins._entry_points.cache_clear()
    yield tmp_path
    plugins._entry_points.cache_clear()
    for registry, known in zip(registries, before, strict=True):
        registry.clear()
        registry.update(known)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]
