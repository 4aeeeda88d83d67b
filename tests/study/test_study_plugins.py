"""A study with plug-ins: its spec, its processes, and the guide ``trainables/methods/ADDING.md``, block by block."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest
from conftest import overrides, run

import trainables.methods
from analysis import plugins
from study.api import Study
from study.errors import UserError
from study.launch import check_spec
from study.runtime import _runtime_env
from study.spec import StudySpec

GUIDE = Path(trainables.methods.__file__).with_name("ADDING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(?:# file: (\S+)\n|# (run)\n)?(.*?)```", GUIDE, re.S)
FILES = {name: text for _, name, _, text in BLOCKS if name}
RUNS = [text for _, _, runs, text in BLOCKS if runs]
REFERENCES = ["method=toy:Cosine", "network=nets:tiny", "scorer=scores:Centroid", "signal=signals:participation_ratio",
              "source=pictures:inverted_digits"]
LIGHT = ["search.trials=1", "training.epochs=2", "training.batch_size=64", "data.limit=60", "selection.folds=2",
         'methods=["toy:Cosine"]', 'resources.address="local"', "analysis.questions=['signal_leaderboard', 'layers', 'roc']"]


@pytest.fixture
def guide(plugin_folder):
    """A working folder with the guide's files."""
    for name, text in FILES.items():
        (plugin_folder / name).write_text(text)
    return plugin_folder


def test_the_guide_holds_what_this_file_looks_for():
    assert set(FILES) == {"toy.py", "nets.py", "scores.py", "signals.py", "pictures.py", "mine.toml"} and len(RUNS) == 2
    shown = [tomllib.loads(text) for language, name, _, text in BLOCKS if language == "toml" and not name]
    assert shown[0]["plugins"] == REFERENCES
    assert list(shown[1]["project"]["entry-points"]) == ["oraclegap.methods"]


@pytest.mark.parametrize("number", range(len(RUNS)))
def test_the_guides_checks_pass(guide, monkeypatch, number):
    monkeypatch.syspath_prepend(guide)
    exec(compile(RUNS[number], f"ADDING.md, block {number}", "exec"), {})


def test_two_files_are_all_that_a_method_inside_the_project_needs(tmp_path):
    """The guide's method in a copy of the project, its search space moved to the other folder."""
    root = Path(__file__).parents[2]
    for package in ("analysis", "search_spaces", "trainables"):
        shutil.copytree(root / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    head, body, tail = re.fullmatch(r"(.*)    def search_space\(self\):\n(.*?)\n(    def build.*)", FILES["toy.py"], re.S).groups()
    (tmp_path / "trainables" / "methods" / "cosine.py").write_text(f"{head}{tail}\n\nMETHOD = Cosine()\n")
    (tmp_path / "search_spaces" / "cosine.py").write_text(
        "from search_spaces.base import Fixed, Float, Space\n"
        "from search_spaces.classifier import augmentation_parameters, optimiser_parameters\n\n\n"
        f"def space():\n{textwrap.dedent(body).replace('return', '    return', 1)}")
    code = "from trainables.checks import check_method as check; check('cosine'); print(check.__code__.co_filename)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, text=True, capture_output=True,
                          env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.stdout.strip() == str(tmp_path / "trainables" / "checks.py"), done.stderr


# -- the spec -----------------------------------------------------------------------------------------------------


def test_a_spec_has_plain_names_and_lists_its_plug_ins(guide):
    spec = StudySpec.load("mine.toml")
    assert spec.methods == ["classifier", "cosine"] and spec.plugins == REFERENCES
    assert (spec.data.source, spec.training.network) == ("inverted_digits", "tiny")
    assert spec.selection.signal == "participation_ratio" and spec.selection.scorers == ["msp", "max_logit", "centroid"]
    assert spec.space("cosine").parameters["scale"].high == 16
    again = StudySpec.parse(tomllib.loads(spec.to_toml()))
    assert again == spec and not spec.changes(again) and spec.to_table()["plugins"] == REFERENCES


def test_written_by_hand_in_any_order_it_is_the_same_spec(guide):
    table = tomllib.loads((guide / "mine.toml").read_text())
    plain = tomllib.loads(StudySpec.parse(table).to_toml())
    plain["plugins"] = ["source=pictures:inverted_digits", "toy:Cosine", "network=nets:tiny", "scores:Centroid",
                        "signals:participation_ratio", "method=toy:Cosine"]
    assert StudySpec.parse(plain) == StudySpec.parse(table)


def test_every_place_takes_a_reference(guide):
    spec = StudySpec.parse({"name": "x", "methods": ["classifier", "hybrid"],
                            "training": {"hybrid": {"network": "nets:tiny"}},
                            "selection": {"scorer_rule": "scores:Centroid", "folds": 0}})
    assert spec.training.for_method("hybrid")["network"] == "tiny" and spec.selection.scorer_rule == "centroid"
    assert spec.plugins == ["network=nets:tiny", "scorer=scores:Centroid"]
    assert StudySpec.load("digits", ["training.network=nets:tiny"]).training.network == "tiny"


def test_a_spec_that_uses_what_another_has_loaded_lists_it_too(guide):
    plugins.load("scores:Centroid")
    spec = StudySpec.parse({"name": "x", "methods": ["classifier"], "selection": {"scorers": ["centroid"]}})
    assert spec.plugins == ["scorer=scores:Centroid"]
    assert "centroid" not in StudySpec.parse({"name": "x", "methods": "all"}).methods


def test_a_spec_without_any_has_no_such_key():
    spec = StudySpec.parse({"name": "x", "methods": ["classifier"]})
    assert spec.plugins == [] and "plugins" not in spec.to_table() and "plugins" not in spec.to_toml()


@pytest.mark.parametrize(("change", "words"), [
    ({"methods": ["toy:Cosin"]}, ["my.toml: methods: ", "toy:Cosin", "no 'Cosin'"]),
    ({"methods": ["nets:tiny"]}, ["methods: nets:tiny", "trainables.methods.base.Method"]),
    ({"methods": ["toy:Cosine", "cosine"]}, ["methods", "twice"]),
    ({"training": {"network": "absent:tiny"}}, ["training.network: absent:tiny", "no module 'absent'"]),
    ({"training": {"classifier": {"network": "absent:tiny"}}}, ["training.classifier.network: absent:tiny"]),
    ({"selection": {"signal": "scores:Centroid"}}, ["selection.signal: scores:Centroid", "SignalInfo"]),
    ({"selection": {"scorers": ["msp", "toy:Cosine"]}}, ["selection.scorers: toy:Cosine", "Scorer"]),
    ({"data": {"source": "pictures:absent"}}, ["data.source: pictures:absent", "no 'absent'"]),
    ({"plugins": ["pictures:inverted_digits"]}, ["plugins: pictures", "source=pictures:inverted_digits"]),
    ({"plugins": "toy:Cosine"}, ["plugins", "list"]), ({"plugins": [3]}, ["plugins", "[3]"]),
    ({"plugins": ["bad:named"]}, ["bad:named", "'msp'"]), ({"plugins": ["bad:rule"]}, ["'best'", "meaning of its own"]),
    ({"methods": ["bad:Spaceless"]}, ["methods", "bad:Spaceless", "search_space"]),
    ({"methods": ["bad:Elsewhere"]}, ["methods", "describes 'cosine', not 'elsewhere'"]),
    ({"methods": ["bad:Broken"]}, ["methods", "low 2 is not below high 1"]),
    ({"search": {"pruner": "median"}, "selection": {"signal": "signals:participation_ratio"}}, ["pruner", "every epoch"]),
])
def test_a_mistake_is_one_line_that_names_it(guide, change, words):
    (guide / "bad.py").write_text("""
from dataclasses import replace
from scores import Centroid
from search_spaces import Float
from toy import Cosine

def method(name, **more):
    return type(name, (Cosine,), {"info": replace(Cosine.info, name=name), **more})

class named(Centroid):
    info = replace(Centroid.info, name="msp")

class rule(Centroid):
    info = replace(Centroid.info, name="best")

Spaceless = method("spaceless", search_space=None)
Elsewhere = method("elsewhere")
Broken = method("broken", search_space=lambda self: Float(low=2.0, high=1.0, default=1.5))
""")
    with pytest.raises(UserError) as caught:
        StudySpec.parse({"name": "x", "methods": ["classifier"], **change}, where="my.toml")
    line = str(caught.value)
    assert line.startswith("my.toml: ") and "\n" not in line and all(word in line for word in words), line


def test_the_command_line_says_so_and_ends_with_2(guide):
    done = run("plan", "mine.toml", *overrides("training.network=nets:huge"), cwd=guide)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "training.network: nets:huge: the module nets has no 'huge'" in done.stderr


def test_torch_is_not_imported_for_a_signal_or_a_source(guide):
    """For a scorer it is: whether a method has a score of that name is known to the methods alone."""
    code = """if True:
        import sys
        from study.spec import StudySpec
        StudySpec.parse({"name": "x", "methods": ["classifier"], "data": {"source": "pictures:inverted_digits"},
                         "selection": {"signal": "signals:participation_ratio"}})
        sys.exit("torch" in sys.modules)
    """
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(guide)])
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}).returncode == 0


# -- its processes ------------------------------------------------------------------------------------------------


def test_a_running_cluster_is_sent_the_modules(guide):
    spec = StudySpec.load("mine.toml")
    sent = _runtime_env(spec.plugins)
    assert [Path(place).name for place in sent["py_modules"]] == ["nets.py", "pictures.py", "scores.py", "signals.py",
                                                                  "toy.py"]
    assert json.loads(sent["env_vars"][plugins.VARIABLE]) == {"plugins": REFERENCES, "path": [str(guide)]}


def test_a_worker_that_lacks_the_module_leaves_the_trial_open(guide, monkeypatch):
    from trainables.methods import get_method
    from trainables.trial import ENVIRONMENT, failure_reason

    monkeypatch.setenv(plugins.VARIABLE, json.dumps({"plugins": ["method=nowhere:Mine"], "path": []}))
    with pytest.raises(plugins.PluginError) as caught:
        get_method("mine")
    assert failure_reason(caught.value).startswith(f"{ENVIRONMENT}method=nowhere:Mine: no module 'nowhere'")


@pytest.mark.slow
def test_the_guides_study_runs_to_its_end_and_opens_again(guide):
    spec = StudySpec.load("mine.toml", LIGHT)
    study = Study.from_spec(spec).launch(offline=True)
    (trial,) = study.trials().to_dict("records")
    assert trial["state"] == "completed" and trial["signals_participation_ratio"] > 1
    (row,) = study.summary()["rows"]
    assert {"msp", "max_logit", "centroid"} <= set(row["scorers"]) and 0 <= row["scorers"]["centroid"] <= 1
    assert row["signal"] == "participation_ratio" and row["oracle_representation_auroc"] is not None
    assert plugins.VARIABLE not in os.environ

    check_spec(StudySpec.load("mine.toml", LIGHT), study.folder)  # launched again, it would go on
    done = run("export", "runs/mine", cwd=guide)  # in a new process
    assert done.returncode == 0, done.stderr
    exported = study.folder / "export" / "cosine"
    detector = json.loads((exported / "detector.json").read_text())
    assert (detector["method"], detector["network"]) == ("cosine", "tiny")
    assert StudySpec.load(exported / "config.toml").plugins == REFERENCES
    (guide / "toy.py").unlink()
    done = run("status", "runs/mine", cwd=guide)
    assert done.returncode == 2 and "runs/mine/spec.toml: plugins: method=toy:Cosine: no module 'toy'" in done.stderr


SHIPPED = """
import os, shutil, sys
sys.path.append("code")
from analysis import plugins
from study import runtime
from study.spec import ResourcesSpec
for name, value in runtime.QUIET.items():
    os.environ.setdefault(name, value)
import ray

references = [plugins.load("pack.signals:participation_ratio").reference, plugins.load("source=pictures:inverted_digits").reference]
ray.init(address="local", include_dashboard=False, num_cpus=1, log_to_driver=False, logging_level="ERROR",
         runtime_env=runtime._runtime_env(references))
shutil.rmtree("code")  # another machine never had it

def look():
    import sys
    from analysis.signals import get_signal
    from study.sources import open_source
    return get_signal("participation_ratio").name, open_source({"source": "inverted_digits"}).name

print(*ray.get(ray.remote(look).remote()))
with runtime.ray_cluster(ResourcesSpec(), references):
    print("known")
try:
    with runtime.ray_cluster(ResourcesSpec(), references[:1]):
        pass
except runtime.EnvironmentProblem as problem:
    print(problem)
"""


@pytest.mark.slow
def test_modules_reach_workers_that_never_had_them(guide):
    """A package and a single file, by Ray's py_modules; and a connection made without plug-ins is refused."""
    (guide / "code" / "pack").mkdir(parents=True)
    (guide / "code" / "pack" / "__init__.py").write_text("")
    (guide / "signals.py").rename(guide / "code" / "pack" / "signals.py")
    (guide / "pictures.py").rename(guide / "code" / "pictures.py")
    path = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", SHIPPED], cwd=guide, text=True, capture_output=True, timeout=120,
                          env={**os.environ, "PYTHONPATH": path})
    assert done.stdout.splitlines()[:2] == ["participation_ratio inverted_digits", "known"], done.stderr
    assert "call ray.shutdown() first" in done.stdout


def test_the_exported_spec_of_one_method_names_no_scorer_of_another():
    from study.export import one_trial_spec

    spec = StudySpec.parse({"name": "x", "methods": ["classifier", "csi"], "selection": {
        "scorers": ["msp", "csi_contrastive", "vim"], "scorer_rule": "all_mean", "folds": 0}})
    for method, scorers in (("classifier", ["msp", "vim"]), ("csi", ["msp", "csi_contrastive"])):
        made = one_trial_spec(spec, {"method": method, "split": 0}, spec.space(method).default())
        assert made.selection.scorers == scorers and made.methods == [method]
