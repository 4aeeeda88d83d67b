"""List, clean, completion, a quiet launch and a study that was moved: what a terminal sees of real studies."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import run

from study import Study
from study.clean import KINDS, RECORD, kinds_of, pieces, remove
from study.errors import UserError
from study.ledger import launch_lock
from study.shelf import is_driven, studies, text

pytestmark = pytest.mark.slow


@pytest.fixture
def study(tiny, tmp_path):
    """A copy of the finished study, its root's log of reveals beside it."""
    shutil.copytree(tiny, tmp_path / "runs" / "tiny")
    shutil.copy(tiny.parent / "reveals.jsonl", tmp_path / "runs")
    return tmp_path / "runs" / "tiny"


def tree(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_list_has_a_line_for_every_study_whatever_is_wrong_with_one(study):
    root = study.parent
    (root / "damaged").mkdir()
    (root / "damaged" / "spec.toml").write_text("name = [")
    os.utime(root / "damaged" / "spec.toml", (0, 0)), os.utime(root / "damaged", (0, 0))
    with launch_lock(study):
        running = studies(root)
    rows = studies(root)
    assert [row["study"] for row in rows] == ["tiny", "damaged"] and [row["running"] for row in running] == [True, False]
    tiny = rows[0]
    assert (tiny["state"], tiny["ended"], tiny["total"], tiny["running"]) == ("revealed", 4, 4, False)
    selection = json.loads((study / "selection.json").read_text())
    best = next(e for e in selection["selections"] if e["method"] == selection["method_ranking"][0]["method"])
    assert tiny["best"]["trial"] == best["trial"] and tiny["best"]["selected"]
    assert tiny["bytes"] == sum(len(data) for data in tree(study).values())
    assert rows[1]["state"] == "unreadable" and "not valid TOML" in rows[1]["problem"]
    shown = text(rows, width=100).splitlines()
    assert len(shown) == 4 and "4/4" in shown[1] and "revealed" in shown[1] and "\x1b" not in "".join(shown)
    done = run("list", "--json", cwd=root.parent)
    assert done.returncode == 0 and [row["study"] for row in json.loads(done.stdout)] == ["tiny", "damaged"]


def test_cleaning_takes_what_nobody_needs_and_an_audit_sees_no_difference(study):
    before = Study.open(study).audit()
    kept = tree(study)
    (study / ".tune" / "search").mkdir(parents=True)
    stale = [study / ".tune" / "search" / "tuner.pkl", study / "trials" / "hybrid" / "0" / "1" / f"checkpoint-000003-{'0' * 64}.safetensors",
             study / "report" / ".summary.json.77.tmp"]
    for path in stale:
        path.write_bytes(b"x" * 1000)
    done = run("clean", study, cwd=study.parent)
    assert done.returncode == 2 and "--yes" in done.stderr and "3.0 kB" in done.stdout and all(path.exists() for path in stale)
    assert all(path.name in done.stdout for path in stale)
    done = run("clean", study, "--yes", cwd=study.parent)
    assert done.returncode == 0 and "deleted 3.0 kB" in done.stdout
    assert tree(study).keys() - {"lock"} == kept.keys() - {"lock"} and not (study / ".tune").exists()
    assert Study.open(study).audit()["checks"] == before["checks"]
    assert "nothing to clean" in run("clean", study, "--yes", cwd=study.parent).stdout


def test_what_a_later_question_needs_goes_by_name_alone_and_the_audit_says_so(study):
    Study.open(study).export()
    before, opened = tree(study), Study.open(study)
    found = pieces(opened, kinds_of("all"))
    assert {piece.kind for piece in found} == {"exports", "job-models", "features", "models"}
    chosen = {f"{e['method']}/{e['split']}/{e['trial']}" for e in opened.selection["selections"]}
    remove(opened, found)
    after = tree(study)
    gone = before.keys() - after.keys()
    assert gone == {str(piece.path.relative_to(study)) for piece in found} and {k: after[k] for k in before if k in after} == {
        k: before[k] for k in before if k in after}
    for name in ("ledger.db", "spec.toml", "selection.json", "stamp.json", "reveal/hybrid/0/0.json", "report/summary.json"):
        assert name in after
    assert all(f"trials/{key}/model.safetensors" in after for key in chosen)
    audit = {check["name"]: check for check in Study.open(study).audit()["checks"]}
    assert {name for name, check in audit.items() if check["state"] == "failed"} == set()
    for name in ("trials", "jobs"):
        assert audit[name]["state"] == "doubt" and "removed by `oraclegap clean`" in audit[name]["words"]
    assert Study.open(study).report().exists() and Study.open(study).export().exists()
    # Lost is not cleaned, and a record of another file is no excuse.
    record = json.loads((study / RECORD).read_text())
    name = next(name for name in record["files"] if name.startswith("trials/"))
    (study / RECORD).write_text(json.dumps({**record, "files": {**record["files"], name: "0" * 64}}))
    audit = {check["name"]: check["state"] for check in Study.open(study).audit()["checks"]}
    assert audit["trials"] == "failed"


def test_what_is_still_needed_is_refused(study, tmp_path):
    with pytest.raises(UserError, match="--what feature: .*did you mean 'features'"):
        kinds_of("feature")
    assert kinds_of("all") == list(KINDS)
    with launch_lock(study):
        done = run("clean", study, "--yes", cwd=tmp_path)
    assert done.returncode == 2 and "is being driven by process" in done.stderr
    # no class is called an anomaly, but the rare ones are: they lie in the vault and have not been looked at
    before, kept = ((study / name).read_bytes() for name in ("spec.toml", "report/summary.json"))
    (study / "spec.toml").write_text(Study.open(study).spec.changed({"data.anomaly_classes": [], "data.rare": "anomaly"}).to_toml())
    (study / "report" / "summary.json").unlink()
    with pytest.raises(UserError, match="not revealed yet"):
        pieces(Study.open(study), kinds_of("features"))
    # and one that was found at its end to hold none is as finished as it can be
    (study / "report" / "summary.json").write_text(json.dumps({**json.loads(kept), "revealed": False, "nominal_only": True}))
    assert pieces(Study.open(study), kinds_of("features"))
    (study / "spec.toml").write_bytes(before)
    (study / "report" / "summary.json").unlink()  # it stands as before the reveal
    with pytest.raises(UserError, match="not revealed yet.*finish it first with `oraclegap launch"):
        pieces(Study.open(study), ["features"])


@pytest.mark.parametrize(("answer", "words"), [("n\n", "nothing was deleted"), ("y\n", "deleted 1.0 kB")])
def test_on_a_terminal_it_asks(study, answer, words):
    import pty

    (study / ".tune").mkdir()
    (study / ".tune" / "x").write_bytes(b"x" * 1000)
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-m", "study", "clean", str(study)], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    while b"[y/N]" not in said:
        said += os.read(ours, 1000)
    os.write(ours, answer.encode())
    assert process.wait(60) == 0
    said += os.read(ours, 1000)
    os.close(ours)
    assert words in said.decode() and (study / ".tune").exists() == (answer == "n\n")


@pytest.mark.long
def test_a_study_that_was_cleaned_and_moved_goes_on_where_it_is_and_trains_nothing_again(study, tmp_path):
    """One measurement is taken back, so that there is something left to do."""
    remove(Study.open(study), pieces(Study.open(study), kinds_of("all")))
    chosen = next(e for e in Study.open(study).selection["selections"] if e["method"] == "hybrid")["trial"]
    before = {name: data for name, data in tree(study).items() if name.startswith(("trials", "jobs", "selection", "ledger", "cleaned"))}
    (tmp_path / "elsewhere").mkdir()
    moved = study.rename(tmp_path / "elsewhere" / "tiny")
    lost = moved / "reveal" / "hybrid" / "0" / f"{chosen}.json"
    known = json.loads(lost.read_text())["result"]
    lost.unlink()
    done = run("launch", moved, "--offline", "--quiet", "-o", 'resources.address="local"', cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.splitlines() == [f"report: {moved / 'report' / 'index.html'}"], done.stderr + done.stdout
    assert not study.exists() and json.loads(lost.read_text())["result"]["scorer_auroc"] == known["scorer_auroc"]
    assert {name: tree(moved).get(name) for name in before} == before
    assert Study.open(moved).status()["next"] == f"oraclegap export {moved}"
    renamed = moved.rename(tmp_path / "elsewhere" / "other")
    done = run("launch", renamed / "spec.toml", "--offline", cwd=tmp_path)
    assert done.returncode == 2 and "is called tiny" in done.stderr
    assert Study.from_spec(renamed, overrides=["name=new"]).folder.as_posix() == "runs/new"


def test_whether_it_is_driven_is_known_without_touching_the_lock(tmp_path):
    assert is_driven(tmp_path) is False
    with launch_lock(tmp_path / "x"):
        assert is_driven(tmp_path / "x") is True
        (tmp_path / "x" / "spec.toml").touch()
    assert is_driven(tmp_path / "x") is False
