"""Self-supervised tasks beside cross-entropy on one latent: do they put more about anomalies into z?

loss = CE + w_rot · which quarter turn was this? + w_recolour · what were the colours of this grey image?
          + w_sobel · where are its edges?

- Rotation (Gidaris et al. 2018): a linear head on z, four ways, two (none and half) where images are not square. All
  images stand for no turn, and one half of each batch, each image under one drawn turn, for the others: an unbiased
  estimate of the mean over all turns.
- Recolouring: a decoder gives the image from the z of its grey version, squared error per pixel and channel, for
  the other half of the batch. Of a grey source that is plain reconstruction, of all images, and all are turned.
- Sobel: a decoder gives the magnitude of the grey image's gradient from the image's z, squared error per pixel.

So the encoder sees twice the images of a plain classifier, instead of the six times of all turns and the grey version.

The turned and grey versions that teach the encoder go through it in one batch with the images, as in Hendrycks et al.
2019: batch normalisation then sees in training the mixture that its running statistics, used in evaluation, describe.
A task of weight 0 is a probe: its head learns, with weight 1, from a detached z, of an encoder in evaluation mode, so
that its score still means something while the encoder is that of a method without the task.

Scores: ``rotation_confidence`` is −mean over turns of log P(the turn | the turned image), the transformation
classifier's lack of confidence (Golan & El-Yaniv 2018; the sum of logarithms is that of Hendrycks et al.);
``recolouring_error`` and ``sobel_error`` are the two tasks' errors on an image.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.methods.base import MethodInfo, dropout
from trainables.methods.classifier import Classifier, ClassifierModel
from trainables.methods.hybrid import Decoder
from trainables.randaugment import LUMINANCE


class AuxiliaryModel(ClassifierModel):
    def __init__(self, view_shape: tuple[int, int, int], num_classes: int, network: str, params: dict) -> None:
        super().__init__(view_shape, num_classes, network, params)
        height, width_px, _ = view_shape
        z_dim, width = self.encoder.z_dim, params["width"]
        self.turns = (0, 1, 2, 3) if height == width_px else (0, 2)  # quarter turns, by the rotation head's classes
        self.rotation = nn.Linear(z_dim, len(self.turns))
        self.recolouring = Decoder(z_dim, view_shape, width=width)
        self.sobel = Decoder(z_dim, (height, width_px, 1), width=width)


class Auxiliary(Classifier):
    info = MethodInfo(
        name="auxiliary",
        title="Auxiliary tasks (rotation, recolouring, Sobel)",
        summary="cross-entropy + three self-supervised tasks on the same `z`, each with a weight: which turn was it, "
        "what colours had the grey image, where are the edges",
        paper="Hendrycks, Mazeika, Kadavath & Song, Using Self-Supervised Learning Can Improve Model Robustness and "
        "Uncertainty; scoring: Golan & El-Yaniv, Deep Anomaly Detection Using Geometric Transformations",
        year=2019,
        url="https://arxiv.org/abs/1906.12340",
        relative_cost=2.6,
    )
    own_scorers = ("rotation_confidence", "recolouring_error", "sobel_error")
    trains_on = frozenset({"rotation"})

    def build(self, view_shape, num_classes, network, params) -> nn.Module:
        return AuxiliaryModel(view_shape, num_classes, network, params)

    def loss(self, model, images, targets, params, generator) -> tuple[Tensor, dict[str, Tensor]]:
        weights = {task: params[f"{task}_weight"] for task in ("rotation", "recolouring", "sobel")}
        in_colour = images.shape[1] > 1
        half = (len(images) + 1) // 2 if in_colour else len(images)
        first, last = images[:half], images[-half:]  # batches are shuffled, so any halves will do
        turn = torch.randint(1, len(model.turns), (half,), generator=generator, device=images.device)
        inputs = {"rotation": rotate(first, model.turns, turn)}
        if in_colour:
            inputs["recolouring"] = grey(last).expand_as(last)
        z, latents = _encode(model.encoder, images, inputs, {task for task in inputs if weights[task]})
        latents.setdefault("recolouring", z)  # a grey image is its own grey version
        latents["sobel"] = z
        latents = {task: latent if weights[task] else latent.detach() for task, latent in latents.items()}
        upright = z if weights["rotation"] else z.detach()

        read = dropout(z, params["dropout"], generator)
        parts = {
            "cross_entropy": F.cross_entropy(model.head(read), targets, label_smoothing=params["label_smoothing"]),
            "rotation": _rotation_loss(model, upright, latents["rotation"], turn),
            "recolouring": _error(model.recolouring(latents["recolouring"]), last).mean(),
            "sobel": _error(model.sobel(latents["sobel"]), sobel_magnitude(images)).mean(),
        }
        total = parts["cross_entropy"] + sum((weight or 1.0) * parts[task] for task, weight in weights.items())
        return total, {name: part.detach() for name, part in parts.items()}

    def clipped(self, model) -> list[nn.Module]:
        """Each task's head by itself: a probe's steep gradient must not shorten the encoder's step."""
        return [nn.ModuleList([model.encoder, model.head]), model.rotation, model.recolouring, model.sobel]

    @torch.no_grad()
    def embed(self, model, images) -> dict[str, Tensor]:
        z, logits = model(images)
        confidence = images.new_zeros(images.shape[0])  # len() would fix the number of images in a traced graph
        for label, turn in enumerate(model.turns):
            latent = model.encoder(torch.rot90(images, turn, (2, 3))) if turn else z
            confidence += model.rotation(latent).float().log_softmax(1)[:, label]
        grey_z = model.encoder(grey(images).expand_as(images)) if images.shape[1] > 1 else z
        return {
            "z": z,
            "logits": logits,
            "rotation_confidence": -confidence / len(model.turns),
            "recolouring_error": _error(model.recolouring(grey_z), images),
            "sobel_error": _error(model.sobel(z), sobel_magnitude(images)),
        }


def grey(images: Tensor) -> Tensor:
    """N×C×H×W → N×1×H×W, weighted as in ITU-R BT.601.

    The weights go on the normalised channels: grey is then the colour balance of the data's mean and deviation, which
    needs no constants from the data and lies in the range that the encoder knows.
    """
    if images.shape[1] == 1:
        return images
    return (images * images.new_tensor(LUMINANCE)[:, None, None]).sum(1, keepdim=True)


def sobel_magnitude(images: Tensor) -> Tensor:
    """Length of the gradient of the grey image, N×1×H×W; beyond the border the outermost pixel goes on.

    The kernels are [1, 2, 1]/4 across [−1, 0, 1]: a quarter of the customary ones, which keeps the map, of images of
    unit variance, near 1.
    """
    x = F.pad(grey(images.float()), (1, 1, 1, 1), mode="replicate")
    rows = (x[..., :-2, :] + 2 * x[..., 1:-1, :] + x[..., 2:, :]) / 4
    columns = (x[..., :-2] + 2 * x[..., 1:-1] + x[..., 2:]) / 4
    return torch.hypot(rows[..., 2:] - rows[..., :-2], columns[..., 2:, :] - columns[..., :-2, :])


def rotate(images: Tensor, turns: tuple[int, ...], label: Tensor) -> Tensor:
    """Image n turned by ``turns[label[n]]`` quarters, anticlockwise; without a wait for the GPU."""
    out = images
    for number, turn in enumerate(turns):
        if turn:
            chosen = (label == number)[:, None, None, None]
            out = torch.where(chosen, torch.rot90(images, turn, (2, 3)), out)
    return out


def _encode(
    encoder: nn.Module, images: Tensor, inputs: dict[str, Tensor], taught: set[str]
) -> tuple[Tensor, dict[str, Tensor]]:
    """z of the images and of each task's version of them: of the ``taught`` in one batch with the images, of the others
    without leaving a trace in the encoder."""
    together = [task for task in inputs if task in taught]
    parts = [images, *(inputs[task] for task in together)]
    z, *rest = encoder(torch.cat(parts)).split([len(part) for part in parts])
    latents = dict(zip(together, rest))
    probed = [task for task in inputs if task not in taught]
    if probed:
        training = encoder.training
        encoder.eval()
        with torch.no_grad():
            latents |= {task: encoder(inputs[task]) for task in probed}
        encoder.train(training)
    return z, latents


def _rotation_loss(model: AuxiliaryModel, upright: Tensor, turned: Tensor, turn: Tensor) -> Tensor:
    """The mean over all turns: the untouched image has its share, the drawn turn stands for all others."""
    share = 1 / len(model.turns)
    still = -model.rotation(upright).float().log_softmax(1)[:, 0].mean()
    return share * still + (1 - share) * F.cross_entropy(model.rotation(turned), turn)


def _error(drawn: Tensor, truth: Tensor) -> Tensor:
    """Mean squared error of each image."""
    return (drawn.float() - truth.float()).square().flatten(1).mean(1)


METHOD = Auxiliary()
