"""Scorers over the detectors of pytorch-ood 0.4: importing this registers them; the library loads when one is used.

Latents and logits: ``gen``, ``kl_matching``, ``openmax`` (``_logits``); ``react``, ``ash``, ``scale``, ``lts``,
``vra``, ``dice`` (``_energy``); ``she``, ``gmm``, ``fdbd``, ``nci``, ``nnguide``, ``pnml``, ``vim``, ``gradnorm``
(``_latents``). Most need the linear head, and none draws random numbers.

Not here: what the registry has already (MaxSoftmax, TemperatureScaling, Entropy, MaxLogit, EnergyBased, KNN,
Mahalanobis, RMD; MultiMahalanobis of one layer); what needs images and gradients to them or dropout (ODIN,
MahalanobisODIN, MCD), or gradients of more than the head (GradUncertainty, NACUE); maps of several layers or unpooled
ones (Gram, RankFeat); text embeddings (MCM); weights learned in training (WeightedEBO).
"""

from __future__ import annotations

from analysis import (
    scorer_pytorch_ood_energy,  # noqa: F401
    scorer_pytorch_ood_latents,  # noqa: F401
    scorer_pytorch_ood_logits,  # noqa: F401
)
