"""A frozen rule as a torch module, for graphs that are exported: logits, latents and own scores in, one score out.

The same numbers as ``FrozenRule.score``, by the same steps and in float64, written in operations that a graph can hold.
What cannot be written so is refused by name (``Inexpressible``): a rule of empirical CDFs or of normal tails, a score
that follows gradients, a detector that runs NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from analysis.fusion import FrozenRule
from analysis.fusion_rules import BY_TAILS, ECDF_MEAN, SMALLEST_SD
from analysis.scorer_base import Scorer
from analysis.scorer_latents import SPARE_NEIGHBOURS
from analysis.scorer_pytorch_ood_base import DetectorScorer

#: pytorch-ood's detectors that are more than one pass of tensor operations, or another in a graph.
WITHOUT_GRAPH = {"openmax": "runs NumPy", "gradnorm": "follows a gradient image by image",
                 "gen": "clips probabilities where a graph rounds otherwise"}


class Inexpressible(ValueError):
    """Why a rule has no form as a graph, in a few words."""


class TorchRule(nn.Module):
    """``forward(logits (N, K), z (N, D), own {name: (N,)})`` gives the rule's anomaly score (N,), float64."""

    def __init__(self, rule: FrozenRule) -> None:
        """Raises Inexpressible naming the rule or the first member that has no form as a graph."""
        super().__init__()
        if rule.rule == ECDF_MEAN:
            raise Inexpressible("the rule ecdf_mean counts images, and its steps turn on the last digit of a score")
        if rule.rule in BY_TAILS:
            raise Inexpressible(f"the rule {rule.rule} needs the logarithm of a normal tail, which ONNX lacks")
        self.members = nn.ModuleList(_member(name, rule) for name in rule.members)
        families = [rule.families[name] for name in rule.members]
        # a mean of families' means is a weighted mean of the members
        by_family = rule.rule == "family_mean"
        weights = [1 / len(set(families)) / families.count(family) if by_family else 1 / len(families) for family in families]
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float64))
        fitted = [rule.standardisers_[name] for name in rule.members]
        self.register_buffer("means", torch.tensor([one.mean for one in fitted], dtype=torch.float64))
        self.register_buffer("sds", torch.tensor([max(one.sd, SMALLEST_SD) for one in fitted], dtype=torch.float64))

    def forward(self, logits: Tensor, z: Tensor, own: Mapping[str, Tensor]) -> Tensor:
        scores = torch.stack([member(logits, z, own).double() for member in self.members], 1)
        return ((scores - self.means) / self.sds * self.weights).sum(1)


class _Member(nn.Module):
    """One scorer: a function of (logits, z), its arrays as buffers."""

    def __init__(self, score: Callable[..., Tensor], arrays: Mapping[str, np.ndarray], parameters: Mapping) -> None:
        super().__init__()
        self.score, self.parameters_, self.names = score, dict(parameters), sorted(arrays)
        for name in self.names:
            self.register_buffer(f"array_{name}", torch.from_numpy(np.array(arrays[name])))

    def forward(self, logits: Tensor, z: Tensor, own: Mapping[str, Tensor]) -> Tensor:
        arrays = {name: getattr(self, f"array_{name}") for name in self.names}
        return self.score(logits.double(), z, arrays, self.parameters_)


class _Own(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, logits: Tensor, z: Tensor, own: Mapping[str, Tensor]) -> Tensor:
        return own[self.name]


class _Detector(nn.Module):
    """A detector of pytorch-ood, by the tensor function that it is kept as."""

    def __init__(self, scorer: DetectorScorer) -> None:
        super().__init__()
        self.reads, self.dtype = scorer.reads, torch.float32 if scorer.single else torch.float64
        self.predict = scorer._predictor(scorer.arrays_)

    def forward(self, logits: Tensor, z: Tensor, own: Mapping[str, Tensor]) -> Tensor:
        return self.predict((z if self.reads == "z" else logits).to(self.dtype))


def _member(name: str, rule: FrozenRule) -> nn.Module:
    scorer: Scorer = rule.scorers_[name]
    if name in rule.own:
        return _Own(name)
    if name in SCORES:
        return _Member(SCORES[name], scorer.arrays_, scorer.parameters_)
    if isinstance(scorer, DetectorScorer) and name not in WITHOUT_GRAPH:
        return _Detector(scorer)
    raise Inexpressible(f"the scorer {name} {WITHOUT_GRAPH.get(name, 'is a plug-in of NumPy')}")


# -- the scorers of scorer_logits and scorer_latents: (logits float64, z, arrays, parameters) → (N,) ----------------------


def _msp(logits: Tensor, z: Tensor, arrays, parameters) -> Tensor:
    ordered = (logits / parameters["temperature"]).topk(logits.shape[1], 1).values
    others = (ordered[:, 1:] - ordered[:, :1]).exp().sum(1)
    return others / (1 + others)


def _entropy(logits: Tensor, z: Tensor, arrays, parameters) -> Tensor:
    log_p = (logits / parameters["temperature"]).log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)


def _max_logit(logits: Tensor, z: Tensor, arrays, parameters) -> Tensor:
    return -logits.amax(1)


def _energy(logits: Tensor, z: Tensor, arrays, parameters) -> Tensor:
    return -parameters["temperature"] * (logits / parameters["temperature"]).logsumexp(1)


def _margin(logits: Tensor, z: Tensor, arrays, parameters) -> Tensor:
    if logits.shape[1] < 2:
        return torch.zeros_like(logits[:, 0])
    largest = logits.topk(2, 1).values
    return largest[:, 1] - largest[:, 0]


def _unit(z: Tensor) -> Tensor:
    values = z.double()
    return values / values.square().sum(1, keepdim=True).sqrt().clamp(min=1e-12)


def _knn(logits: Tensor, z: Tensor, arrays, parameters) -> Tensor:
    """Candidates by a float32 product, their distances in float64, as the scorer's own."""
    train, unit = arrays["train_unit"], _unit(z).float()
    k = min(int(parameters["k"]), len(train))
    near = (unit @ train.T).topk(min(k + SPARE_NEIGHBOURS, len(train)), 1).indices
    exact = (unit[:, None].double() - train[near].double()).square().sum(2)
    return exact.topk(k, 1, largest=False).values[:, -1].sqrt()


def _cosine_prototype(logits: Tensor, z: Tensor, arrays, parameters) -> Tensor:
    return 1 - (_unit(z) @ arrays["prototypes"].T).amax(1)


def _mahalanobis(logits: Tensor, z: Tensor, arrays, parameters) -> Tensor:
    whitened = z.double() @ arrays["whitening"]
    return (whitened[:, None] - arrays["means"]).square().sum(2).amin(1)


def _relative_mahalanobis(logits: Tensor, z: Tensor, arrays, parameters) -> Tensor:
    background = z.double() @ arrays["background_whitening"] - arrays["background_mean"]
    return _mahalanobis(logits, z, arrays, parameters) - background.square().sum(1)


SCORES: dict[str, Callable[..., Tensor]] = {
    "msp": _msp, "entropy": _entropy, "max_logit": _max_logit, "energy": _energy, "margin": _margin, "knn": _knn,
    "cosine_prototype": _cosine_prototype, "mahalanobis": _mahalanobis, "relative_mahalanobis": _relative_mahalanobis,
}
