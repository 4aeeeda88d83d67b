"""Plug-ins: what is loaded, under which name, and in one line what is wrong with one that is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from analysis import plugins
from analysis.oracles import get_oracle, oracle_names
from analysis.plugins import PluginError
from analysis.scorers import get_scorer, scorer_names
from analysis.signals import computed_signals, get_signal, signal_names, trial_signal_names

SCORER = """
from analysis.scorer_base import Scorer, ScorerInfo

class Mine(Scorer):
    info = ScorerInfo("{name}", "t", "p", 2024, "u", "distance", frozenset({{"z"}}))
    def _score(self, features):
        return features.z.sum(axis=1)
"""
SIGNAL = """
from analysis.signals import SignalInfo
mine = SignalInfo("{name}", "t", "maximize", "1", frozenset({{"train/z"}}), "p", "u", lambda train, validation: 0.25)
"""
ORACLE = """
from analysis.oracles import LinearOracle, OracleInfo
class Mine(LinearOracle):
    info = OracleInfo("{name}", "t", "p", 2024, "u", frozenset({{"z", "is_anomaly"}}))
"""
NETWORK = "def {name}(image_shape, *, width, normalisation):\n    return None\n"
METHOD = """
from search_spaces import Space, get_space
from trainables.methods.classifier import Classifier
import dataclasses
class Mine(Classifier):
    info = dataclasses.replace(Classifier.info, name="{name}")
    def search_space(self):
        return Space("{name}", get_space("classifier").parameters)
"""


def write(folder, module, text, name="mine"):
    (folder / f"{module}.py").write_text(text.format(name=name))


@pytest.mark.parametrize(("kind", "text", "attribute"), [
    ("scorer", SCORER, "Mine"), ("signal", SIGNAL, "mine"), ("oracle", ORACLE, "Mine"), ("method", METHOD, "Mine"),
])
def test_the_object_tells_its_kind_and_its_name(plugin_folder, kind, text, attribute):
    write(plugin_folder, "told", text)
    plugin = plugins.load(f"told:{attribute}")
    assert (plugin.kind, plugin.name, plugin.reference) == (kind, "mine", f"{kind}=told:{attribute}")
    assert plugins.load(plugin.reference) is plugin and plugins.load(f"told:{attribute}", kind) is plugin
    assert plugins.names(kind) == ["mine"] and plugins.reference_of(kind, "mine") == plugin.reference


def test_registries_find_what_was_loaded(plugin_folder):
    from search_spaces import get_space, space_names
    from study.sources import open_source, source_names
    from trainables.methods import get_method, method_names
    from trainables.networks import build_network, network_names

    for module, text in (("a", SCORER), ("b", SIGNAL), ("c", ORACLE), ("d", METHOD), ("e", NETWORK)):
        write(plugin_folder, module, text)
    (plugin_folder / "f.py").write_text(
        "from study.sources import from_arrays\nimport numpy as np\n"
        "def mine(data):\n    return from_arrays('x', np.zeros((4, 8, 8), np.uint8), np.arange(4) % 2, 'ab', data)\n")
    for reference in ("a:Mine", "b:mine", "c:Mine", "d:Mine", "network=e:mine", "source=f:mine"):
        plugins.load(reference)
    assert get_scorer("mine").info.name == "mine" and scorer_names()[-1] == "mine"
    assert get_signal("mine").title == "t" and signal_names()[-1] == trial_signal_names()[-1] == "mine"
    assert computed_signals()["mine"](None, None) == 0.25
    assert get_oracle("mine").info.name == oracle_names()[-1] == "mine"
    assert get_method("mine").info.name == method_names()[-1] == space_names()[-1] == "mine"
    assert get_space("mine").default() == get_space("classifier").default()
    assert build_network("mine", (8, 8, 1)) is None and network_names()[-1] == "mine"
    assert open_source({"source": "mine"}).name == source_names()[-1] == "mine"  # whatever it calls itself


@pytest.mark.parametrize(("reference", "words"), [
    ("told", ["'told'", "module:name"]), ("told:", ["module:name"]), ("../told:mine", ["module:name"]),
    ("absent_pkg.told:mine", ["absent_pkg.told:mine", "no module 'absent_pkg'", "here ("]),
    ("told:absent", ["told:absent", "no 'absent'"]), ("__main__:mine", ["__main__"]),
    ("broken:mine", ["cannot be imported", "SyntaxError"]), ("raises:mine", ["cannot be imported", "KeyError"]),
    ("leaves:mine", ["cannot be imported", "SystemExit"]), ("lacks:mine", ["lacks:mine", "absent_dependency"]),
    ("told:number", ["told:number", "int"]), ("told:function", ["network=told:function"]),
    ("networks=told:function", ["no kind 'networks'"]), ("network=told:number", ["a function", "int"]),
    ("scorer=told:mine", ["analysis.scorer_base.Scorer", "SignalInfo"]),
    ("signal=told:function", ["an instance of analysis.signals.SignalInfo"]),
    ("method=told:mine", ["trainables.methods.base.Method"]), ("network=told:partial", ["name"]),
    ("told:Abstract", ["told:Abstract", "abstract"]), ("told:odd", ["'a/b'"]), ("told:up", ["direction"]),
])
def test_what_is_wrong_is_one_line(plugin_folder, reference, words):
    write(plugin_folder, "told", SIGNAL + """
import dataclasses, functools
from trainables.methods.base import Method
number = 3
function = lambda image_shape: None
partial = functools.partial(function)
odd, up = dataclasses.replace(mine, name="a/b"), dataclasses.replace(mine, name="up", direction="up")
class Abstract(Method):
    pass
""")
    (plugin_folder / "broken.py").write_text("def (")
    (plugin_folder / "raises.py").write_text("{}['x']")
    (plugin_folder / "leaves.py").write_text("import sys\nsys.exit(1)")
    (plugin_folder / "lacks.py").write_text("import absent_dependency")
    with pytest.raises(PluginError) as caught:
        plugins.load(reference)
    line = str(caught.value)
    assert "\n" not in line and all(word in line for word in words), line


def test_the_place_says_which_kind_is_needed(plugin_folder):
    write(plugin_folder, "told", SIGNAL)
    write(plugin_folder, "nets", NETWORK)
    assert plugins.load("nets:mine", "network").reference == "network=nets:mine"
    with pytest.raises(PluginError, match=r"signal=told:mine: a scorer is needed here, not a signal"):
        plugins.load("signal=told:mine", "scorer")


@pytest.mark.parametrize(("text", "reference", "taken"), [
    (SCORER, "told:Mine", "max_logit"), (SIGNAL, "told:mine", "val_nll"), (ORACLE, "told:Mine", "forest"),
    (METHOD, "told:Mine", "hybrid"), (NETWORK, "network=told:resnet18", "resnet18"),
    (NETWORK, "source=told:folder", "folder"),
])
def test_a_built_in_name_is_taken(plugin_folder, text, reference, taken):
    write(plugin_folder, "told", text, taken)
    with pytest.raises(PluginError, match=f"told:.*{taken}"):
        plugins.load(reference)
    assert plugins.names(reference.partition("=")[0]) == []


def test_another_plug_ins_name_is_taken(plugin_folder):
    write(plugin_folder, "one", SCORER)
    write(plugin_folder, "two", SCORER)
    plugins.load("one:Mine")
    with pytest.raises(PluginError, match="two:Mine"):
        plugins.load("two:Mine")
    assert plugins.load("one:Mine").reference == "scorer=one:Mine"


def test_one_that_enters_itself_is_fine(plugin_folder):
    write(plugin_folder, "told", SCORER.replace("class Mine", "from analysis.scorers import register\n@register\nclass Mine"))
    assert plugins.load("told:Mine").name == "mine"


def test_a_method_without_a_space_is_refused(plugin_folder):
    write(plugin_folder, "told", METHOD.replace("def search_space", "def other"))
    with pytest.raises(PluginError, match="search_space"):
        plugins.load("told:Mine")


# -- installed packages -------------------------------------------------------------------------------------------


def install(folder, group, name, value, *, package="first"):
    info = folder / f"{package}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")
    sys.path.append(str(folder))
    plugins._entry_points.cache_clear()


def test_an_entry_point_is_listed_at_once_and_imported_when_needed(plugin_folder):
    write(plugin_folder, "told", SIGNAL)
    install(plugin_folder, "oraclegap.signals", "mine", "told:mine")
    assert signal_names()[-1] == "mine" and "told" not in sys.modules
    assert "mine" not in computed_signals()  # installed is not asked for
    assert get_signal("mine").name == "mine" and "mine" in computed_signals()


@pytest.mark.parametrize(("name", "words"), [("other", "'mine', but its entry point 'other'"), ("val_ece", "val_ece")])
def test_an_entry_point_keeps_the_rules_too(plugin_folder, name, words):
    write(plugin_folder, "told", SIGNAL, "mine" if name == "other" else name)
    install(plugin_folder, "oraclegap.signals", name, "told:mine")
    with pytest.raises(PluginError, match=words):
        plugins.load_installed("signal", name)


def test_two_packages_may_not_offer_one_name(plugin_folder):
    write(plugin_folder, "told", SIGNAL)
    install(plugin_folder, "oraclegap.signals", "mine", "told:mine")
    install(plugin_folder, "oraclegap.signals", "mine", "other:mine", package="second")
    with pytest.raises(PluginError, match="same name, 'mine'"):
        signal_names()


# -- other processes ----------------------------------------------------------------------------------------------


def test_another_process_finds_them_by_the_environment(plugin_folder, tmp_path_factory):
    """Also where the module lies neither in its folder nor on its path; and of the kind that is looked up alone."""
    write(plugin_folder, "told", SIGNAL)
    write(plugin_folder, "nets", NETWORK)
    variables = plugins.environment([plugins.load("told:mine").reference, plugins.load("network=nets:mine").reference])
    code = ("import sys; from analysis.signals import computed_signals; print(computed_signals()['mine'](None, None),"
            " 'nets' in sys.modules, 'torch' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path_factory.mktemp("elsewhere"), text=True,
                          capture_output=True, env={**os.environ, **variables, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.stdout.split() == ["0.25", "False", "False"], done.stderr


def test_no_plug_ins_need_no_environment():
    assert plugins.environment([]) == {}


def test_places_are_top_level_files_and_folders(plugin_folder):
    write(plugin_folder, "told", SIGNAL)
    (plugin_folder / "pack" / "inner").mkdir(parents=True)
    (plugin_folder / "pack" / "__init__.py").write_text("")
    write(plugin_folder / "pack" / "inner", "deep", SCORER)
    references = [plugins.load("told:mine").reference, plugins.load("pack.inner.deep:Mine").reference]
    assert plugins.places(references) == [str(plugin_folder / "pack"), str(plugin_folder / "told.py")]
    told = json.loads(plugins.environment(references)[plugins.VARIABLE])
    assert told == {"plugins": sorted(references), "path": [str(plugin_folder)]}


def test_installed_packages_are_not_sent():
    assert sys.modules["numpy"].__file__ and plugins.places(["source=numpy:zeros"]) == []
