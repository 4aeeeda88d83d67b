"""``oraclegap export --onnx``: an exported detector as one ONNX graph, from uint8 images to its anomaly score.

The graph is traced from the code that scores images here (normalising, encoder, head, the method's own scores, the frozen
rule), input gradients included, and is kept only if ONNX Runtime gives the same numbers for it as PyTorch. Where the
rule cannot be written as a graph, or its score comes out otherwise, the graph holds logits and latents alone and says why.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from study.detector import OpenSetDetector
from study.errors import EnvironmentProblem, UserError, one_line
from trainables.files import write_atomic

FILE = "model.onnx"
PACKAGES = ("onnx", "onnxruntime", "onnxscript")
OPSET, OPTIMISE = 20, True
#: Largest difference from PyTorch that is accepted: absolute in standardised scores of nominal images, whose standard
#: deviation is about 1; elsewhere relative to what is larger than 1, since float32 has no more digits.
TOLERANCE = 1e-4
CHECKED_IMAGES, NOISE_IMAGES = 256, 32


def require_onnx() -> None:
    """UserError that says what to install, unless all of PACKAGES are there. Imports none of them."""
    lacking = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if lacking:
        raise UserError(f"--onnx needs {', '.join(lacking)}; install with `pip install 'oraclegap[onnx]'`")


def write_onnx(export: Path, images: np.ndarray, *, allowed_plugins=()) -> dict[str, Any]:
    """Writes ``model.onnx`` into the folder of an exported detector and returns its record.

    ``images``: nominal images (N, H, W, C), uint8, on which graph and PyTorch are compared. The record: ``sha256``,
    ``outputs``, ``without_score`` (None, or why the graph has no ``anomaly_score``), ``difference`` (largest of each
    output). UserError where a package is missing or the method has no graph, EnvironmentProblem where the graph gives
    other logits or latents than PyTorch.
    """
    require_onnx()
    from analysis.torch_rule import Inexpressible, TorchRule

    detector = OpenSetDetector.load(export, allowed_plugins=allowed_plugins)
    # of every class: they lie class by class
    images = images[np.linspace(0, len(images) - 1, min(len(images), CHECKED_IMAGES)).astype(int)]
    reason, rule = None, None
    try:
        rule = TorchRule(detector._rule)
        data, difference = _checked_graph(detector, rule, images, None)
    except Inexpressible as error:
        reason = str(error)
    except _Differs as error:
        reason = f"its score comes out otherwise ({error})"
    except Exception as error:  # what a tracer says of code it cannot follow is of no fixed kind
        reason = f"its scores have no form as a graph ({one_line(f'{type(error).__name__}: {error}', 120)})"
    if reason is not None:
        try:
            data, difference = _checked_graph(detector, None, images, reason)
        except _Differs as error:
            raise EnvironmentProblem(f"{FILE} is not written: ONNX Runtime comes to other numbers than PyTorch ({error})") from None
        except Exception as error:
            raise UserError(f"--onnx: {detector.record_['method']} has no form as a graph: "
                            f"{one_line(f'{type(error).__name__}: {error}', 200)}") from error
    write_atomic(export / FILE, data)
    return {"file": FILE, "sha256": hashlib.sha256(data).hexdigest(), "outputs": list(difference), "without_score": reason,
            "difference": difference, "tolerance": TOLERANCE}


def metadata(record: Mapping[str, Any], *, without_score: str | None) -> dict[str, str]:
    """What the file says of itself, from the export's ``detector.json``; values are text, lists JSON."""
    return {
        "oraclegap.study": record["study"], "oraclegap.method": record["method"],
        "oraclegap.classes": json.dumps(record["classes"], ensure_ascii=False),
        "oraclegap.image_shape": json.dumps(record["image_shape"]),
        "oraclegap.threshold": repr(float(record["threshold"])), "oraclegap.selection": record["selection"],
        "oraclegap.weights_sha256": record["weights_sha256"],
        "oraclegap.anomaly_score": f"left out: {without_score}" if without_score else
                                   "score > threshold is an anomaly; standardised on nominal validation images",
    }


class _Differs(Exception):
    """ONNX Runtime and PyTorch disagree; says where and by how much."""


def _checked_graph(
    detector: OpenSetDetector, rule, images: np.ndarray, without_score: str | None
) -> tuple[bytes, dict[str, float]]:
    """The graph's bytes, and the largest difference of each output. Raises _Differs, and whatever a tracer raises."""
    model = _graph(detector, rule)
    for name, text in metadata(detector.record_, without_score=without_score).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = name, text
    data = model.SerializeToString()
    return data, _differences(detector, data, images, scored=rule is not None)


def _graph(detector: OpenSetDetector, rule):
    """The ONNX ModelProto of images → logits, z and, with a ``TorchRule``, anomaly_score; any number of images."""
    import torch

    outputs = ["logits", "z", *(["anomaly_score"] if rule is not None else [])]
    with _silence(), torch.no_grad():
        plain, images = _plain(detector, rule)
        program = torch.onnx.export(plain, (images,), dynamo=True, opset_version=OPSET, optimize=OPTIMISE, verbose=False,
                                    input_names=["images"], output_names=outputs,
                                    dynamic_shapes=({0: torch.export.Dim("N")},))
        return program.model_proto


def _plain(detector: OpenSetDetector, rule):
    """The same as plain tensor operations, a torch.fx module, and images to call it with.

    There buffers are numbers and input gradients have become operations of their own; torch.export alone stops at both.
    """
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    height, width, channels = detector.image_shape_
    # The tracer takes axes of one length for one axis, so the number of images must be no other axis's.
    count = next(number for number in (5, 7, 11, 13) if number not in (height, width, channels))
    images = torch.zeros((count, height, width, channels), dtype=torch.uint8)
    with torch.no_grad():
        traced = make_fx(_whole(detector, rule), tracing_mode="symbolic", decomposition_table=_decompositions(),
                         _allow_non_fake_inputs=True)(images)
    traced.graph.eliminate_dead_code()  # own scores that no output asks for
    traced.recompile()
    return traced, images


def _whole(detector: OpenSetDetector, rule):
    """The module from uint8 images N×H×W×C to (logits, z[, score])."""
    import torch

    from trainables.augment import Normaliser
    from trainables.methods import get_method

    method, record = get_method(detector.record_["method"]), detector.record_
    normaliser = Normaliser(record["mean"], record["std"])

    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model, self.rule = detector._model, rule
            self.register_buffer("scale", normaliser.scale)
            self.register_buffer("shift", normaliser.shift)

        def forward(self, images):
            found = method.embed(self.model, (images.float() * self.scale + self.shift).permute(0, 3, 1, 2))
            logits, z = found["logits"].float(), found["z"].float()
            return (logits, z) if self.rule is None else (logits, z, self.rule(logits, z, found))

    return Whole().eval().requires_grad_(False)


def _decompositions() -> dict:
    """torch's own, and what ONNX has no operation for: a convolution's gradient to its input, and hypot."""
    import torch
    from torch._decomp import core_aten_decompositions

    aten = torch.ops.aten

    def input_gradient(gradient, x, weight, bias_sizes, stride, padding, dilation, transposed, output_padding, groups, wanted):
        if transposed or wanted[1] or wanted[2]:
            raise NotImplementedError("the gradient of a convolution to more than its input")
        # rows and columns that the stride left over at the lower and right border
        left = [x.shape[2 + axis] - ((gradient.shape[2 + axis] - 1) * stride[axis] - 2 * padding[axis]
                                     + dilation[axis] * (weight.shape[2 + axis] - 1) + 1) for axis in range(len(stride))]
        return aten.convolution(gradient, weight, None, stride, padding, dilation, True, left, groups), None, None

    def hypot(a, b):
        return (a * a + b * b).sqrt()

    return {**core_aten_decompositions(), aten.convolution_backward.default: input_gradient, aten.hypot.default: hypot}


def _differences(detector: OpenSetDetector, data: bytes, images: np.ndarray, *, scored: bool) -> dict[str, float]:
    """The largest difference of each output between ONNX Runtime and PyTorch: of nominal images together, of one alone,
    and of noise. Raises _Differs beyond TOLERANCE."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    noise = np.random.default_rng(0).integers(0, 256, (NOISE_IMAGES, *detector.image_shape_), dtype=np.uint8)
    largest: dict[str, float] = {}
    for words, batch in (("nominal images", images), ("one image", images[:1]), ("noise", noise)):
        found = dict(zip([output.name for output in session.get_outputs()], session.run(None, {"images": batch})))
        expected = detector._embed(batch)
        if scored:
            expected["anomaly_score"] = detector._score(expected)
        for name, values in found.items():
            off = np.abs(values.astype(np.float64) - expected[name])
            if name != "anomaly_score" or batch is noise:
                off = off / np.maximum(1, np.abs(expected[name]))
            worst = float(off.max(initial=0.0))
            if values.shape != expected[name].shape or not worst <= TOLERANCE:
                raise _Differs(f"{name} of {words} by {worst:.1e}")
            largest[name] = max(largest.get(name, 0.0), worst)
    return largest


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without the exporters' many lines, which say nothing to a user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels):
                logger.setLevel(level)
