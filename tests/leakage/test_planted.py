"""Every planted leak is caught, by the defence that is for it; ``soak_leaks.py`` has those that take a study of their own."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import planted
import pytest
from conftest import digits_npz
from leak_runs import command, entry_digests, opens, selection_of
from planted_imports import CONTRACT, IMPORTS, ROOT, contracts, copy_of_packages, is_caught
from transforms import NOMINAL, deleted, unchanged

import study.splits
from analysis import plugins
from study.prepare import prepare

#: Modules of ``study`` that reach the vault, rightly: after the freeze, or as the place where all stages are called from.
MAY_REACH = {"__init__", "__main__", "analyse", "api", "audit", "audit_checks", "audit_found", "audit_sums", "cli", "cli_shelf", "cli_tools", "compare",
             "course", "evidence", "reveal", "run", "shelf", "vault"}


@pytest.fixture(scope="module")
def leaky(tmp_path_factory):
    """One study of all leaky methods, and the same without anomalies: who opened the vault, and the methods' digests."""
    digests = []
    for change in (unchanged, deleted):
        folder = tmp_path_factory.mktemp(change.__name__)
        shutil.copy(planted.__file__, folder)
        digests.append(entry_digests(selection_of(folder, change, *planted.settings(planted.METHODS))))
        if change is unchanged:
            command("export", "runs/tiny", "--method", "exportthreshold", cwd=folder)
            heard = opens(folder)
    return heard, *digests


def noticed(name: str, heard: list[dict], one: dict[str, str], other: dict[str, str]) -> set[str]:
    """The defences that notice a leaky method."""
    found = {"opens"} if any(f"planted.{name}." in function for line in heard for function in line["by"]) else set()
    return found | ({"digest"} if one[name.lower()] != other[name.lower()] else set())


@pytest.mark.slow
@pytest.mark.parametrize("name", planted.METHODS)
def test_a_planted_leak_is_caught(leaky, name):
    assert noticed(name, *leaky) == planted.METHODS[name].caught_by


@pytest.mark.slow
def test_opens_are_counted_in_trials_jobs_and_driver(leaky):
    heard, *_ = leaky
    assert {line["role"] for line in heard} == {"trial", "job", "driver"}
    watched = [line for line in heard if "planted.EpochByTest.adjust_gradients" in line["by"]]
    assert {line["role"] for line in watched} == {"trial", "job"}
    assert all(line["opened"].endswith("test_anomaly_images.npy") for line in watched)
    assert any("study/" in line["opened"] and "vault." in line["opened"] for line in heard)  # imported out of contract's sight


@pytest.mark.parametrize("name", [name for name, (_, leak) in planted.ALONE.items() if leak.caught_by == planted.DIGEST])
def test_a_source_that_mixes_the_two_sides_changes_the_view(tmp_path, plugin_folder, monkeypatch, name):
    monkeypatch.setattr(study.splits, "permutation", study.splits.permutation)  # put back what the leak wraps
    plugins.load(f"source=planted:{name}")
    found = set()
    for change in (unchanged, deleted):
        path = digits_npz(tmp_path / f"{change.__name__}.npz", change=change)
        data = {"source": name, "path": str(path), "nominal_classes": list(NOMINAL),
                "partition": "official" if name == "division_by_position" else "pooled"}
        found.add(prepare(data, tmp_path / change.__name__)["splits"]["0"]["digest"])
    assert len(found) == 2


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return copy_of_packages(tmp_path_factory.mktemp("tree"))


@pytest.mark.parametrize("name", IMPORTS)
def test_an_import_of_the_vault_breaks_the_contract(tree, name):
    assert is_caught(tree, name)
    assert contracts(tree)[0] == 0


def test_every_module_is_under_the_contract_or_comes_after_the_freeze():
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (contract,) = (found for found in tool["contracts"] if found["name"] == CONTRACT)
    under = {name.removeprefix("study.") for name in contract["source_modules"]}
    assert {path.stem for path in (ROOT / "study").glob("*.py")} - under == MAY_REACH
    assert {"trainables", "search_spaces", "analysis"} <= under and Path(study.splits.__file__).parent == ROOT / "study"
