"""Deep ensemble: M classifiers that share nothing but their hyperparameters.

Each has its own weights, order of the images and augmentation, and its own cross-entropy; the prediction is the mean of
their softmax outputs. The paper's optional adversarial training is left out.

The first member is, bit for bit, the plain classifier of the same seed and parameters (on one thread of a CPU), so that
an ensemble and its baseline differ in nothing but the members added.
"""

from __future__ import annotations

from torch import nn

from trainables.methods._ensemble import Ensemble
from trainables.methods.base import MethodInfo


class DeepEnsemble(Ensemble):
    info = MethodInfo(
        name="deep_ensemble",
        title="Deep ensemble",
        summary="M independently seeded classifiers, mean softmax; also scored by mutual information and mean max logit",
        paper="Lakshminarayanan, Pritzel & Blundell, Simple and Scalable Predictive Uncertainty Estimation using Deep "
        "Ensembles",
        year=2017,
        url="https://arxiv.org/abs/1612.01474",
        relative_cost=5.0,
    )

    def members(self, model) -> list[nn.Module]:
        return list(model.members)


METHOD = DeepEnsemble()
