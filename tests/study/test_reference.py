"""Tables told from the records, the README that holds them, and the command that lists what there is."""
from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import run

from study import reference
from study.errors import UserError

README = Path(__file__).parents[2] / "README.md"


def names_in(table):
    return [line.split("`")[1] for line in table.splitlines()[2:]]


def test_the_readme_is_up_to_date():
    text = README.read_text(encoding="utf-8")
    assert "<!-- methods:begin -->" in text and "<!-- scorers:begin -->" in text
    assert reference.rewritten(text) == text, "run: python -m study.reference README.md"


def test_every_record_has_its_line():
    from analysis.oracles import oracle_names
    from analysis.scorers import scorer_names
    from analysis.signals import signal_names
    from trainables.methods import built_in, get_method

    assert names_in(reference.methods_table()) == built_in()
    assert names_in(reference.scorers_table()) == scorer_names()
    assert names_in(reference.signals_table()) == signal_names()
    assert names_in(reference.oracles_table()) == oracle_names()
    for name, line in zip(built_in(), reference.methods_table().splitlines()[2:], strict=True):
        info = get_method(name).info
        assert all(f"`{score}`" in line for score in get_method(name).own_scorers)
        assert info.url in line and str(info.year) in line and f"| {info.relative_cost:g} |" in line


@pytest.mark.parametrize("table", reference.TABLES.values())
def test_tables_are_whole(table):
    from re import findall

    counts = {len(findall(r"(?<!\\)\|", line)) for line in table().splitlines()}
    assert len(counts) == 1


def test_blocks_are_replaced_and_the_rest_stays():
    old = "before\n<!-- methods:begin -->\nstale\n<!-- methods:end -->\nbetween\n<!-- oracles:begin --><!-- oracles:end -->\nafter"
    new = reference.rewritten(old)
    assert "stale" not in new and reference.methods_table() in new and reference.oracles_table() in new
    assert new.startswith("before\n") and "\nbetween\n" in new and new.endswith("\nafter")
    assert reference.rewritten(new) == new


@pytest.mark.parametrize("text", [
    "no markers", "<!-- methods:begin -->", "<!-- methods:end --><!-- methods:begin -->",
    "<!-- methods:begin --><!-- methods:end --><!-- scorers:begin -->",
    "<!-- methods:begin --><!-- methods:end -->" * 2,
])
def test_missing_markers_are_refused(text):
    with pytest.raises(UserError, match="needs one <!-- (methods|scorers):begin"):
        reference.rewritten(text)


def test_rewriting_a_file(tmp_path, capsys):
    path = tmp_path / "README.md"
    path.write_text("<!-- methods:begin --><!-- methods:end -->", encoding="utf-8")
    assert reference.main([str(path)]) == 0 and reference.main([str(path)]) == 0
    assert path.read_text(encoding="utf-8").count("`hybrid`") == 1
    assert capsys.readouterr().out.splitlines() == [f"{path}: written", f"{path}: up to date"]


def test_networks_and_sources_are_described_one_and_all():
    from analysis import plugins
    from study.sources import source_names
    from trainables.networks import network_names

    assert set(reference.NETWORKS) == set(network_names()) - set(plugins.names("network"))
    assert set(reference.SOURCES) == set(source_names()) - set(plugins.names("source"))


def test_the_command_lists_everything(tmp_path):
    done = run("methods", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found) == ["methods", "scorers", "signals", "oracles", "questions", "networks", "sources"]
    assert all(item["name"] and item["line"] and "\n" not in item["line"] for items in found.values() for item in items)
    text = reference.available_text(found, width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert all(f"\n  {item['name']} " in text for items in found.values() for item in items)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_plug_in_hides_no_others(plugin_folder, monkeypatch):
    from analysis import plugins

    offered = {"method": {"mine": "method=absent_module:Mine"}}
    monkeypatch.setattr(plugins, "installed", lambda kind: offered.get(kind, {}))
    found = {item["name"]: item["line"] for item in reference.available()["methods"]}
    assert found["mine"].startswith("cannot be loaded: method=absent_module:Mine: no module 'absent_module'")
    assert found["classifier"].startswith("cross-entropy")
