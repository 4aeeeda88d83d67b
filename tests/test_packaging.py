"""The wheel as a user gets it: all packages and their data are in it, and it runs away from the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("study", "trainables", "search_spaces", "analysis")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from the sdist, as pip does where there is no wheel; both from a copy, so that no build folder appears in the
    checkout."""
    import shutil

    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in (*PACKAGES, "pyproject.toml", "README.md", "LICENSE"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    source = "from setuptools import build_meta; print(build_meta.build_sdist(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", f"import sys; {source}", str(out)], cwd=copy, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    pip("wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", str(out), str(out / done.stdout.split()[-1]))
    (built,) = out.glob("oraclegap-*.whl")
    return built


def pip(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments],
        capture_output=True, text=True, check=False,
    )
    assert done.returncode == 0, done.stderr


def test_it_holds_every_file_of_the_packages_and_nothing_else(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    listed = (path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file())
    files = {str(path) for path in listed if not any(part.startswith((".", "__pycache__")) for part in path.parts)}
    assert names == files


def test_it_runs_away_from_the_checkout(wheel, tmp_path):
    pip("install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}

    def run(*arguments: str) -> str:
        done = subprocess.run([sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True,
                              text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert Path(run("-c", "import study; print(study.__file__)").strip()).is_relative_to(tmp_path)
    assert json.loads(run("-m", "study", "plan", "digits", "--json"))["jobs"]["trials"] == 24
    template = "from analysis import report; print(report.__file__)"
    assert (Path(run("-c", template).strip()).parent / "templates" / "report.html").is_file()


@pytest.mark.parametrize(("missing", "arguments", "words"), [
    ("onnxruntime", ["export", "{study}", "--onnx"], "pip install 'oraclegap[onnx]'"),
    ("psycopg", ["launch", "digits", "-o", "resources.ledger=postgresql+psycopg://me@localhost/x"], "oraclegap[postgres]"),
])
def test_without_an_extra_one_line_says_what_to_install(tiny, tmp_path, missing, arguments, words):
    """As where it was never installed: Python finds no such module."""
    code = f"import sys; sys.modules[{missing!r}] = None; from study.cli import main; sys.exit(main(sys.argv[1:]))"
    told = [word.format(study=tiny) for word in arguments]
    done = subprocess.run([sys.executable, "-c", code, *told], cwd=tmp_path, capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 2 and words in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_the_container_copies_what_the_package_is_and_installs_extras_that_there_are():
    import tomllib

    text = (ROOT / "Containerfile").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    copied = {line.split()[1] for line in text.splitlines() if line.startswith("COPY") and line.split()[1] in PACKAGES}
    extras = set(text.split('".[')[1].split("]")[0].split(","))
    assert copied == set(PACKAGES) and extras <= set(project["optional-dependencies"])
    for name in " ".join(line.removeprefix("COPY ").rpartition(" ")[0] for line in text.splitlines() if line.startswith("COPY")).split():
        assert (ROOT / name).exists(), name
