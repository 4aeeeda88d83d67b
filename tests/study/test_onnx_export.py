"""``export --onnx``: one graph that gives PyTorch's numbers, for any number of images, and says what it is."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import run

import study.onnx_export as onnx_export
from analysis.fusion import FrozenRule
from analysis.scorers import DEFAULT_SCORERS
from analysis.torch_rule import Inexpressible, TorchRule
from search_spaces import get_space
from study import OpenSetDetector, Study
from study.errors import UserError
from study.folds import features_of
from trainables.inference import embed_with
from trainables.methods import get_method, method_names
from trainables.networks import NETWORKS, NORMALISATIONS

SHAPE, CLASSES = (8, 8, 1), 4
RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def exported(tiny, tmp_path_factory) -> Path:
    """The hybrid of the finished study, whose rule may have scores of its own."""
    study = Study.open(shutil.copytree(tiny, tmp_path_factory.mktemp("onnx") / "tiny"))
    return study.export("hybrid", onnx=True)


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_test_images_get_the_detectors_scores(exported, tiny):
    detector, graph = OpenSetDetector.load(exported), session(exported / "model.onnx")
    images = np.concatenate([np.load(tiny / "vault" / "0" / f"test_{side}_images.npy") for side in ("nominal", "anomaly")])
    logits, z, score = graph.run(None, {"images": images})
    assert np.abs(score - detector.anomaly_score(images)).max() < 1e-4
    assert np.abs(z - detector.transform(images)).max() < 1e-4
    assert (detector.labels(logits, score) == detector.predict(images)).all()
    for count in (1, 3, 300):  # whatever the number
        assert np.abs(graph.run(["anomaly_score"], {"images": images[:count]})[0] - score[:count]).max() < 1e-4


def test_the_file_says_what_it_is_and_is_on_record(exported):
    record = json.loads((exported / "detector.json").read_text())
    data = (exported / "model.onnx").read_bytes()
    assert record["onnx"]["sha256"] == hashlib.sha256(data).hexdigest() and record["onnx"]["without_score"] is None
    assert max(record["onnx"]["difference"].values()) <= 1e-4
    onnx.checker.check_model(data)
    said = {entry.key.removeprefix("oraclegap."): entry.value for entry in onnx.load_from_string(data).metadata_props}
    assert json.loads(said["classes"]) == record["classes"] and float(said["threshold"]) == record["threshold"]
    assert (said["study"], said["selection"], said["method"]) == ("tiny", record["selection"], "hybrid")
    assert "model.onnx" in (exported / "MODEL_CARD.md").read_text()
    assert not list(exported.parent.glob(".*"))
    (images,) = session(exported / "model.onnx").get_inputs()
    assert (images.name, images.type, images.shape) == ("images", "tensor(uint8)", ["N", 8, 8, 1])


# -- every method, with random weights and one layer, which traces in a quarter of the time -----------------------------


class OneLayer(torch.nn.Module):
    """An encoder; its stride leaves a row and a column over, which a gradient to the image must know."""

    def __init__(self, image_shape, *, width, normalisation):
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(image_shape[2], 16, 3, stride=2, padding=1), NORMALISATIONS[normalisation](16)
        self.z_dim = self.map_channels = 16

    def feature_map(self, images):
        return self.norm(self.conv(images)).relu()

    def forward(self, images):
        return self.feature_map(images).mean((2, 3))


def untrained(name: str) -> OpenSetDetector:
    """A detector of that method whose rule is the mean of some of the default scorers and all of the method's own."""
    method, params = get_method(name), {**get_space(name).default()}
    params |= {key: 2 for key in ("ensemble_size",) if key in params}
    torch.manual_seed(0)
    model = method.build(SHAPE, CLASSES, "one_layer", params).eval()
    if name == "generalized_odin":
        model.epsilon.fill_(0.02)  # so that the move along the input's gradient is in the graph
    mean, std = [0.4], [0.3]
    images = RANDOM.integers(0, 256, (96, *SHAPE), dtype=np.uint8)
    embedded = embed_with(model, name, images, mean=mean, std=std)
    own = method.own_scorers
    features = features_of(embedded, own, np.arange(96) % CLASSES)
    rule = FrozenRule("all_mean", ["max_logit", "entropy", "knn", "relative_mahalanobis", *own], own=own)
    rule.fit(features.select(slice(0, 48)), features.select(slice(48, 96)))
    record = {"study": "s", "method": name, "classes": [str(label) for label in range(CLASSES)], "image_shape": list(SHAPE),
              "mean": mean, "std": std, "threshold": rule.threshold(), "selection": "0", "weights_sha256": "0",
              "scorer": rule.description()}
    return OpenSetDetector(record, model, rule, None, device="cpu")


IN_FULL = ("generalized_odin", "deep_ensemble")  # the others as far as the trace: three seconds each are in the rest


@pytest.mark.parametrize("name", IN_FULL)
def test_a_methods_own_scores_are_in_the_graph(name, monkeypatch):
    monkeypatch.setitem(NETWORKS, "one_layer", OneLayer)
    monkeypatch.setattr(onnx_export, "OPTIMISE", False)  # half the time; the numbers are the same
    detector = untrained(name)
    images = RANDOM.integers(0, 256, (40, *SHAPE), dtype=np.uint8)
    data, difference = onnx_export._checked_graph(detector, TorchRule(detector._rule), images, None)
    assert set(difference) == {"logits", "z", "anomaly_score"} and max(difference.values()) <= 1e-4 and data


@pytest.mark.parametrize("name", [name for name in method_names() if name not in IN_FULL])
def test_a_method_traced_gives_its_scores_for_any_number_of_images(name, monkeypatch):
    monkeypatch.setitem(NETWORKS, "one_layer", OneLayer)
    detector = untrained(name)
    plain, traced_on = onnx_export._plain(detector, TorchRule(detector._rule))
    for count in (1, 40):
        assert count != len(traced_on)
        images = RANDOM.integers(0, 256, (count, *SHAPE), dtype=np.uint8)
        logits, z, score = plain(torch.from_numpy(images))
        expected = detector._embed(images)
        assert np.allclose(logits, expected["logits"], atol=1e-4) and np.allclose(z, expected["z"], atol=1e-4)
        assert np.allclose(score, detector._score(expected), atol=1e-4, rtol=1e-4)


def test_without_a_score_no_gradient_is_left_in_the_graph(monkeypatch):
    monkeypatch.setitem(NETWORKS, "one_layer", OneLayer)
    plain, _ = onnx_export._plain(untrained("jem"), None)
    done = [str(node.target) for node in plain.graph.nodes]
    assert sum("convolution" in name for name in done) == 1  # and not its gradient, too


# -- what cannot be a graph ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rule", "members", "words"), [
    ("ecdf_mean", ["msp", "knn"], "ecdf_mean counts"), ("fisher_sum", ["msp"], "normal tail"), ("openmax", ["openmax"], "openmax runs NumPy"),
])
def test_a_rule_that_has_no_form_as_a_graph_is_named(rule, members, words):
    with pytest.raises(Inexpressible, match=words):
        fitted(rule, members)


def test_families_are_weighed_as_the_rule_weighs_them():
    rule, features = frozen("family_mean", list(DEFAULT_SCORERS))
    score = TorchRule(rule)(torch.from_numpy(features.logits), torch.from_numpy(features.z), {})
    assert np.abs(score.numpy() - rule.score(features)).max() < 1e-9


def frozen(rule: str, members: list[str]):
    logits, z = RANDOM.normal(size=(120, 3)).astype(np.float32), RANDOM.normal(size=(120, 5)).astype(np.float32)
    features = features_of({"logits": logits, "z": z}, (), np.arange(120) % 3)
    return FrozenRule(rule, members).fit(features.select(slice(0, 80)), features.select(slice(80, 120))), features


def fitted(rule: str, members: list[str]) -> TorchRule:
    return TorchRule(frozen(rule, members)[0])


def test_without_a_score_the_graph_says_why(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "OPTIMISE", False)
    copy = Path(shutil.copytree(exported, tmp_path / "export"))
    record = json.loads((copy / "detector.json").read_text())
    record["scorer"] |= {"rule": "fisher_sum"}
    (copy / "detector.json").write_text(json.dumps(record))
    images = RANDOM.integers(0, 256, (20, *SHAPE), dtype=np.uint8)
    made = onnx_export.write_onnx(copy, images)
    assert made["outputs"] == ["logits", "z"] and "normal tail" in made["without_score"]
    said = {entry.key: entry.value for entry in onnx.load(copy / "model.onnx").metadata_props}
    assert said["oraclegap.anomaly_score"].startswith("left out: the rule fisher_sum")


def test_a_missing_package_is_one_line_and_nothing_is_written(tiny, tmp_path, monkeypatch):
    study = Study.open(shutil.copytree(tiny, tmp_path / "tiny"))
    monkeypatch.setattr(onnx_export, "PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(UserError, match=r"needs no_such_package; install with `pip install 'oraclegap\[onnx\]'`"):
        study.export("classifier", onnx=True)
    assert not (study.folder / "export").exists()


def test_the_command_line_refuses_an_alias_of_nothing(tiny):
    done = run("export", tiny, "--alias", "champion", cwd=tiny.parent)
    assert done.returncode == 2 and "--register" in done.stderr and len(done.stderr.splitlines()) == 1
