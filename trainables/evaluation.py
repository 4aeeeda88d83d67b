"""What a model says of the view's own images: validation after each epoch; features and signals at the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from trainables.files import derive_seed
from trainables.inference import EVALUATION_BATCH, embed_all, to_device

if TYPE_CHECKING:
    from trainables.augment import Normaliser
    from trainables.data import View
    from trainables.methods.base import Method

SYNTHETIC_IMAGES = 2048  # validation images made abnormal, per transform


class Batches:
    """Normalised batches of uint8 images N×H×W×C, in order; may be gone through more than once."""

    def __init__(self, images: Tensor, normalise: Normaliser) -> None:
        self.images, self.normalise = images, normalise

    def __iter__(self) -> Iterator[Tensor]:
        return (self.normalise(batch) for batch in self.images.split(EVALUATION_BATCH))

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.images)


class Evaluation:
    """Holds the validation images on the training device. ValueError for a view without any."""

    def __init__(self, method: Method, view: View, normalise: Normaliser, device: torch.device) -> None:
        if len(view.validation_labels) == 0:
            raise ValueError("the view has no validation images")
        self.method, self.view, self.normalise, self.device = method, view, normalise, device
        self.validation = to_device(view.validation_images, device)
        self.labels = to_device(view.validation_labels, device)

    def validate(self, model: nn.Module, limit: int | None) -> tuple[float, float]:
        """NLL and accuracy on the first ``limit`` validation images of a fixed shuffle, or on all."""
        images, labels = self.validation, self.labels
        if limit is not None and limit < len(labels):
            index = self._subset(limit)
            images, labels = images[index], labels[index]
        logits = self._logits(model, images)
        nll = nn.functional.cross_entropy(logits.double(), labels).item()
        return nll, (logits.argmax(1) == labels).double().mean().item()

    def complete(self, model: nn.Module, params: dict) -> None:
        """The method's last look at the nominal images, before anything is scored."""
        model.eval()
        with torch.no_grad():
            self.method.complete(
                model, train=Batches(to_device(self.view.train_images, self.device), self.normalise),
                validation=Batches(self.validation, self.normalise), params=params,
            )

    def features_and_signals(self, model: nn.Module, *, seed: int) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """What ``features.safetensors`` holds, and the nominal-only signals of the trial that are defined."""
        from analysis.signals import computed_signals
        from trainables.synthetic import synthetic_outlier_auroc, unseen_transforms

        features = self._features(model)
        subset = self._subset(SYNTHETIC_IMAGES)
        train, validation = self._as_features(features, "train"), self._as_features(features, "validation")
        signals = {name: compute(train, validation) for name, compute in computed_signals().items()}
        signals["synthetic_outlier_auroc"] = synthetic_outlier_auroc(
            lambda images: self._logits(model, images), self.validation[subset],
            torch.from_numpy(features["validation/logits"]).to(self.device)[subset], seed=seed,
            transforms=unseen_transforms(self.method.trains_on),
        )
        # one that is undefined for this model (dead latents) is left out: no JSON holds a NaN
        return features, {name: float(value) for name, value in signals.items() if np.isfinite(value)}

    def _features(self, model: nn.Module) -> dict[str, np.ndarray]:
        validation = self._embed(model, self.validation)
        train = self._embed(model, to_device(self.view.train_images, self.device))
        features = {f"validation/{name}": tensor for name, tensor in validation.items()}
        features |= {f"train/{name}": train[name] for name in ("z", "logits")}
        if self.method.linear_head:
            weight, bias = self.method.head(model)
            features |= {"head/weight": weight.detach(), "head/bias": bias.detach()}
        return {name: tensor.float().cpu().numpy() for name, tensor in features.items()}

    def _as_features(self, features: dict[str, np.ndarray], part: str):
        from analysis.scorer_base import Features

        labels = self.view.train_labels if part == "train" else self.view.validation_labels
        own = {} if part == "train" else {name: features[f"{part}/{name}"] for name in self.method.own_scorers}
        return Features(features[f"{part}/logits"], features[f"{part}/z"], np.asarray(labels), own)

    def _embed(self, model: nn.Module, images: Tensor) -> dict[str, Tensor]:
        return embed_all(model, self.method, images, self.normalise, batch_size=EVALUATION_BATCH)

    def _logits(self, model: nn.Module, images: Tensor) -> Tensor:
        model.eval()
        with torch.inference_mode():
            return torch.cat([self.method.logits(model, batch).float() for batch in Batches(images, self.normalise)])

    def _subset(self, limit: int) -> Tensor:
        generator = torch.Generator().manual_seed(derive_seed("validation subset"))  # the same for every trial
        return torch.randperm(len(self.labels), generator=generator)[:limit].to(self.device)
