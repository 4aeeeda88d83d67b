"""CSI without labels: SimCLR that tells an image from its own shifted copies, and the shifts from each other.

loss = NT-Xent over two views of every shifted copy, each (image, shift) an instance of its own
     + shift_weight · cross-entropy of a linear classifier of the shift on z
     + cross-entropy of a linear probe on the detached z of unshifted images, which gives ``logits``.

anomaly = −mean over shifts S of [λcon_S · max over training images m of cos(p_S(x), p_S(x_m)) · ‖p_S(x)‖
                                  + λcls_S · logit of S given S(x)], each λ one over its term's training mean.

Mixup and cutmix are left out: a positive pair needs one instance, not parts of two.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.methods._contrastive import PAPER, SHIFTS, VIEWS, Contrastive, ContrastiveModel, hard, nt_xent
from trainables.methods.base import MethodInfo


class CSIUnlabelled(Contrastive):
    info = MethodInfo(
        name="csi_unlabelled",
        title="CSI, unlabelled",
        summary="SimCLR with shifted copies as more negatives and a classifier of the shift; labels for a probe only",
        paper=PAPER,
        year=2020,
        url="https://arxiv.org/abs/2007.08176",
        pruning_safe=False,
        relative_cost=9.0,
    )
    own_scorers = ("csi", "csi_contrastive", "csi_shift")
    linear_head = True

    def build(self, view_shape, num_classes, network, params) -> nn.Module:
        return ContrastiveModel(view_shape, num_classes, network, params, tells_shifts=True)

    def loss(self, model, images, targets, params, generator) -> tuple[Tensor, dict[str, Tensor]]:
        count, targets = len(images), hard(targets)
        z = model.encoder(model.views(images, generator))
        contrastive = nt_xent(model.projection(z), temperature=params["temperature"])
        which = torch.arange(SHIFTS, device=z.device).repeat_interleave(count).repeat(VIEWS)
        shift = F.cross_entropy(model.shift_head(z), which)
        plain = z.detach().unflatten(0, (VIEWS, SHIFTS, count))[:, 0].flatten(0, 1)
        probe = F.cross_entropy(model.head(plain), targets.repeat(VIEWS))
        parts = {"contrastive": contrastive.detach(), "shift": shift.detach(), "probe": probe.detach()}
        return contrastive + params["shift_weight"] * shift + probe, parts

    @torch.no_grad()
    def embed(self, model, images) -> dict[str, Tensor]:
        latents = model.latents(images)
        contrastive, shift = self.score_parts(model, images, latents)
        return {"z": latents[0], "logits": model.head(latents[0]), "csi": contrastive + shift,
                "csi_contrastive": contrastive, "csi_shift": shift}

    @torch.no_grad()
    def logits(self, model, images) -> Tensor:
        return model.head(model.encoder(images))

    def head(self, model) -> tuple[Tensor, Tensor]:
        return model.head.weight, model.head.bias


METHOD = CSIUnlabelled()
