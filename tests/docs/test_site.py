"""The documentation: it builds without a warning, every key has a meaning, every output was recorded, and its notebook runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ONE_CPU

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.mark.slow
def test_the_site_builds_strictly_and_asks_no_other_host(tmp_path):
    done = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path.relative_to(tmp_path / "site"): path.read_text() for path in (tmp_path / "site").rglob("index.html")}
    assert len(pages) >= 14
    for name, text in pages.items():
        assert not re.search(r'<(script|img)[^>]+src="https?:|<link[^>]+rel="stylesheet"[^>]+href="https?:', text), name
        assert "generated:" not in text and "--8&lt;--" not in text, name
    assert "warm_start" in pages[Path("reference/spec/index.html")] and "oraclegap audit" in pages[Path("reference/commands/index.html")]


def test_every_picture_and_output_is_there_and_none_is_left_over():
    text = "\n".join(path.read_text() for path in DOCS.rglob("*.md"))
    shown = set(re.findall(r'--8<-- "output/([^"]+)"', text))
    assert shown == {path.name for path in (DOCS / "output").iterdir()}
    assert {Path(name).name for name in re.findall(r"\]\((?:\.\./)?images/([^)]+)\)", text)} == {
        path.name for path in (DOCS / "images").iterdir()}


def test_the_outputs_name_no_folder_of_who_recorded_them():
    for path in (DOCS / "output").iterdir():
        assert "/tmp/" not in path.read_text() and "Traceback" not in path.read_text(), path.name


@pytest.mark.slow
def test_the_notebook_runs_from_beginning_to_end(tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name, value in ONE_CPU.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(DOCS / "notebooks" / "first_study.ipynb", as_version=4)
    kept = [bool(cell.get("outputs")) for cell in notebook.cells if cell.cell_type == "code"]
    NotebookClient(notebook, timeout=170, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert (tmp_path / "runs" / "notebook" / "report" / "index.html").exists()
    assert [bool(cell.outputs) for cell in notebook.cells if cell.cell_type == "code"] == kept and all(kept)
