"""What the two forms of CSI share: shifts, contrastive losses, the model, and the contrastive score.

CSI (Tack et al. 2020, https://arxiv.org/abs/2007.08176) is SimCLR in which shifted copies of an image, turned or
with its quarters swapped, count as *other* images: what is told from its own shifts is told from novel images, too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.augment import deviations
from trainables.methods._simclr_augment import SimCLRAugment, fixed_crops
from trainables.methods.base import Bank, ImageBatches, Method
from trainables.networks import build_network

PAPER = ("Tack, Mo, Jeong & Shin, CSI: Novelty Detection via Contrastive Learning on Distributionally Shifted "
         "Instances")
VIEWS = 2
SHIFTS = 4
KINDS = ("rotation", "permutation", "noise")
NOISE_LEVELS = (0.0, 0.25, 0.5, 1.0)  # deviations of a normalised pixel
SIMILARITIES = 2**24  # at a time: 64 MiB


class Shifts(nn.Module):
    """The four shifts of an image, the first of which leaves it as it is.

    ``rotation``: quarter turns; ``permutation``: halves swapped left and right, top and bottom, both; ``noise``:
    Gaussian, fresh in training and one fixed pattern otherwise. ``auto`` is rotation where the view says that it
    keeps labels and the image is square, else permutation, which suits every image. What it came to is kept with the
    weights. ValueError for a shift that is unknown or does not suit the images.
    """

    def __init__(self, view_shape: tuple[int, int, int], shift: str) -> None:
        super().__init__()
        height, width, channels = view_shape
        if shift not in ("auto", *KINDS):
            raise ValueError(f"shift {shift!r} is not one of auto, {', '.join(KINDS)}")
        if shift == "rotation" and height != width:
            raise ValueError(f"shift 'rotation' needs square images, these are {height}×{width}")
        self.automatic, self.square = shift == "auto", height == width
        self.register_buffer("kind", torch.tensor(KINDS.index("permutation" if self.automatic else shift)))
        if shift == "noise":
            self.register_buffer("pattern", torch.randn(channels, height, width))
            # of each channel, normalised: what the augmentation cuts to
            self.register_buffer("darkest", torch.full((channels, 1, 1), -2.0))
            self.register_buffer("brightest", torch.full((channels, 1, 1), 2.0))

    def describe(self, view) -> None:
        if KINDS[int(self.kind)] == "noise":
            mean, std = torch.as_tensor(view.mean, dtype=torch.float32), deviations(view.std)
            self.darkest.copy_((-mean / std).view_as(self.darkest))
            self.brightest.copy_(((1 - mean) / std).view_as(self.brightest))
        if self.automatic:
            turns = view.rotations_keep_labels and self.square
            self.kind.fill_(KINDS.index("rotation" if turns else "permutation"))

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> list[Tensor]:
        """``images`` under each of the shifts in turn."""
        kind = KINDS[int(self.kind)]
        if kind == "rotation":
            return [torch.rot90(images, quarter, (2, 3)) for quarter in range(SHIFTS)]
        if kind == "permutation":
            down, right = images.shape[2] // 2, images.shape[3] // 2
            return [images.roll((-down * rows, -right * columns), (2, 3)) for rows in (0, 1) for columns in (0, 1)]
        pattern = self.pattern
        if generator is not None:
            pattern = torch.randn(images.shape, generator=generator, device=images.device)
        noisy = [(images + level * pattern).clamp(self.darkest, self.brightest) for level in NOISE_LEVELS[1:]]
        return [images, *noisy]


def _log_similarity(p: Tensor, temperature: float) -> Tensor:
    """Log softmax over all other rows of the cosine / temperature, −inf on the diagonal."""
    with torch.autocast(p.device.type, enabled=False):  # whose matrix product would round the cosines to bf16
        unit = F.normalize(p.float(), dim=1)
        similarity = unit @ unit.T / temperature
    similarity = similarity.masked_fill(torch.eye(len(p), dtype=torch.bool, device=p.device), -torch.inf)
    return similarity.log_softmax(1)


def nt_xent(p: Tensor, *, temperature: float) -> Tensor:
    """SimCLR's loss (Chen et al. 2020) of 2N projections, the N of one view after the N of the other.

    A row's one positive is the same instance in the other view; all other rows are its negatives.
    """
    rows = torch.arange(len(p), device=p.device)
    return -_log_similarity(p, temperature)[rows, rows.roll(len(p) // 2)].mean()


def supervised_contrastive(p: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    """Khosla et al. 2020 (L_out): a row's positives are all others of its label, each of the same weight.

    A row without positives does not count; two views of each image leave none.
    """
    logs = _log_similarity(p, temperature)
    positives = (labels[:, None] == labels[None]).fill_diagonal_(False)
    counts = positives.sum(1)
    each = logs.masked_fill(~positives, 0).sum(1) / counts.clamp_min(1)
    return -each.sum() / (counts > 0).sum().clamp_min(1)


class ContrastiveModel(nn.Module):
    """Encoder, projection (a two-layer MLP on z) and a linear head on z; with what scoring needs."""

    def __init__(
        self, view_shape: tuple[int, int, int], outputs: int, network: str, params: dict, *, tells_shifts: bool
    ) -> None:
        super().__init__()
        self.encoder = build_network(network, view_shape, width=params["width"])
        z_dim, p_dim = self.encoder.z_dim, int(params["projection_dim"])
        self.projection = nn.Sequential(nn.Linear(z_dim, z_dim), nn.ReLU(inplace=True), nn.Linear(z_dim, p_dim))
        self.head = nn.Linear(z_dim, outputs)
        self.shift_head = nn.Linear(z_dim, SHIFTS) if tells_shifts else None
        self.shifts = Shifts(view_shape, params["shift"])
        self.augment = SimCLRAugment(view_shape[2], params)
        self.crops = int(params["score_crops"])
        self.bank = Bank(SHIFTS, 0, p_dim)  # directions of training images' projections, under each shift
        self.register_buffer("contrastive_scale", torch.ones(SHIFTS))  # λcon
        self.register_buffer("shift_scale", torch.ones(SHIFTS))  # λcls

    def views(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """(VIEWS·SHIFTS·N)×C×H×W: for each view, for each shift, the images, each augmented by itself."""
        shifted = [copy for _ in range(VIEWS)
                   for copy in self.shifts(self.augment.mirrored(images, generator), generator)]
        return self.augment(torch.cat(shifted), generator)

    def latents(self, images: Tensor) -> list[Tensor]:
        """z of the images under each shift, of which the first is none."""
        return [self.encoder(copy) for copy in self.shifts(images)]

    def projected(self, images: Tensor, latents: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Projections (SHIFTS×N×D) and, if it tells shifts, each shift's own logit (SHIFTS×N) of the image under that
        shift; both means over the crops, as the authors' code takes them. ``latents``: of whole images."""
        if self.crops == 1:
            latents = [[z] for z in latents]
        else:
            latents = [[self.encoder(crop) for crop in fixed_crops(copy, self.crops)] for copy in self.shifts(images)]
        p = torch.stack([torch.stack([self.projection(z).float() for z in crops]).mean(0) for crops in latents])
        if self.shift_head is None:
            return p, p.new_zeros(p.shape[:2])
        own = [torch.stack([self.shift_head(z)[:, shift].float() for z in crops]).mean(0)
               for shift, crops in enumerate(latents)]
        return p, torch.stack(own)


def nearest(p: Tensor, bank: Tensor) -> Tensor:
    """Per row of ``p`` (N×D) the largest cosine with a row of ``bank`` (M×D, unit length) times its own length.

    The length alone if the bank is empty.
    """
    if len(bank) == 0:
        return p.norm(dim=1)
    with torch.autocast(p.device.type, enabled=False):
        return torch.cat([(part @ bank.T).amax(1) for part in p.split(max(1, SIMILARITIES // len(bank)))])


class Contrastive(Method):
    """Base of both forms: what is kept for scoring, and the score."""

    trains_on = frozenset({"rotation", "jigsaw", "noise"})  # the shifts that a spec may choose

    def prepare(self, model, view) -> None:
        model.shifts.describe(view)
        model.augment.describe(view)

    def clipped(self, model) -> list[nn.Module]:
        """The head by itself, so that its gradient does not shorten the encoder's."""
        parts = [part for part in (model.encoder, model.projection, model.shift_head) if part is not None]
        return [nn.ModuleList(parts), model.head]

    def complete(self, model, *, train: ImageBatches, validation: ImageBatches, params: dict) -> None:
        """Bank and λs. λ is one over the training mean of its term where, as in the paper, a training image's nearest
        neighbour is itself: then the contrastive term is the projection's length."""
        count = sum(len(images) for images in train)
        size = min(count, int(params["bank_size"]))
        kept = torch.arange(size) * count // max(size, 1)  # evenly spaced, whatever the order of the images
        rows, lengths, logits, start = [], 0.0, 0.0, 0
        for images in train:
            p, own = model.projected(images, model.latents(images))
            here = kept[(kept >= start) & (kept < start + len(images))] - start
            rows.append(F.normalize(p[:, here.to(p.device)], dim=2))
            lengths, logits, start = lengths + p.norm(dim=2).sum(1), logits + own.sum(1), start + len(images)
        if not rows:
            return
        model.bank.rows = torch.cat(rows, 1)
        model.contrastive_scale.copy_(1 / (lengths / count).clamp_min(1e-6))
        # a shift classifier that learnt nothing has a mean logit about 0, whose inverse would swamp the other term
        model.shift_scale.copy_(1 / (logits / count).clamp_min(0.1))

    def score_parts(self, model, images: Tensor, latents: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Contrastive and shift part of the anomaly score (N each, higher = more anomalous): means over the shifts."""
        p, own = model.projected(images, latents)
        similarity = torch.stack([nearest(*pair) for pair in zip(p, model.bank.rows)])
        return (-(similarity * model.contrastive_scale[:, None]).mean(0),
                -(own * model.shift_scale[:, None]).mean(0))


def hard(targets: Tensor) -> Tensor:
    """Class indices of soft targets: a contrastive positive is one or is not."""
    return targets.argmax(1) if targets.ndim == 2 else targets
