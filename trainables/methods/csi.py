"""CSI with labels: supervised contrastive learning in which a shifted copy belongs to a class of its own.

loss = supervised contrastive loss over the joint labels (class, shift) of two views of every shifted copy
     + cross-entropy of a linear head over the 4K joint labels on the detached z.

The authors train encoder and projection first and the head afterwards on frozen features; here the head learns
alongside, and being on a detached z it has no more say in the features than there.

``logits`` are marginalised over the shifts: the mean over shifts S of the joint logits (·, S) of S(x), so that
``msp`` on them is the authors' labelled score.

Mixup and cutmix are left out: a positive pair needs one label, not parts of two.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.methods._contrastive import (
    PAPER,
    SHIFTS,
    VIEWS,
    Contrastive,
    ContrastiveModel,
    hard,
    supervised_contrastive,
)
from trainables.methods.base import MethodInfo


class CSI(Contrastive):
    info = MethodInfo(
        name="csi",
        title="CSI, labelled",
        summary="supervised contrastive learning over (class, shift) pairs; a linear head marginalised over the shifts",
        paper=PAPER,
        year=2020,
        url="https://arxiv.org/abs/2007.08176",
        pruning_safe=False,
        relative_cost=9.0,
    )
    own_scorers = ("csi_single", "csi_contrastive")

    def build(self, view_shape, num_classes, network, params) -> nn.Module:
        return ContrastiveModel(view_shape, SHIFTS * num_classes, network, params, tells_shifts=False)

    def loss(self, model, images, targets, params, generator) -> tuple[Tensor, dict[str, Tensor]]:
        z = model.encoder(model.views(images, generator))
        classes = model.head.out_features // SHIFTS
        joint = torch.cat([hard(targets) + classes * shift for shift in range(SHIFTS)]).repeat(VIEWS)
        contrastive = supervised_contrastive(model.projection(z), joint, temperature=params["temperature"])
        cross_entropy = F.cross_entropy(model.head(z.detach()), joint)
        return contrastive + cross_entropy, {"contrastive": contrastive.detach(), "joint": cross_entropy.detach()}

    @torch.no_grad()
    def embed(self, model, images) -> dict[str, Tensor]:
        latents = model.latents(images)
        each = self._conditional(model, latents)
        # p(class | x, no shift). The authors' "single" has a head of its own, trained on unshifted images alone.
        single = 1 - each[0].float().softmax(1).amax(1)
        return {"z": latents[0], "logits": each.mean(0), "csi_single": single,
                "csi_contrastive": self.score_parts(model, images, latents)[0]}

    @torch.no_grad()
    def logits(self, model, images) -> Tensor:
        return self._conditional(model, model.latents(images)).mean(0)

    def _conditional(self, model, latents: list[Tensor]) -> Tensor:
        """The joint logits (·, S) of S(x), for each shift S: SHIFTS×N×K."""
        return torch.stack([model.head(z).chunk(SHIFTS, 1)[shift] for shift, z in enumerate(latents)])


METHOD = CSI()
