"""Data that no study can be made of: one line that names it, exit 2, and nothing left behind."""

from __future__ import annotations

import json

import pytest
from bad_data import CASES
from conftest import overrides, run

from study import cli
from study.prepare import prepare

AS_PROCESSES = ("npz of one class", "folder with HTML for an image", "CIFAR-10 whose batches would run a program")


def given(data: dict) -> list[str]:
    return overrides(*(f"data.{key}={json.dumps(value)}" for key, value in data.items()))


def check(name, folder, before, code, said):
    assert code == 2 and len(said.splitlines()) == 1 and said.startswith("oraclegap: ") and len(said) < 900, said
    assert all(word in said for word in CASES[name][1]), said
    left = {path.relative_to(folder) for path in folder.rglob("*")} - before
    assert not left, left


@pytest.mark.parametrize("name", CASES)
def test_bad_data_is_one_line_and_exit_2(name, tmp_path, monkeypatch, capfd):
    """A launch in this process, whose prepare is not a child of it: a start of Python each would take minutes."""
    def here(spec, folder, *, skip_bad):
        prepare(spec.data.model_dump(exclude={"seeds"}), folder, skip_bad=skip_bad)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("study.run.prepare_data", here)
    data = CASES[name][0](tmp_path)
    before = {path.relative_to(tmp_path) for path in tmp_path.rglob("*")}
    code = cli.main(["launch", "digits", "--offline", *given(data)])
    check(name, tmp_path, before, code, capfd.readouterr().err.strip())


@pytest.mark.parametrize("name", AS_PROCESSES)
def test_as_a_user_meets_it(name, tmp_path):
    data = CASES[name][0](tmp_path)
    before = {path.relative_to(tmp_path) for path in tmp_path.rglob("*")}
    done = run("launch", "digits", "--offline", *given(data), cwd=tmp_path)
    check(name, tmp_path, before, done.returncode, done.stderr.strip())
