"""Search space of ``trainables/methods/csi.py``, and what it shares with the unlabelled form.

Mixup and cutmix are no parameters: a positive pair needs one label, not parts of two. Nor is RandAugment: the method
has its own augmentation, and which it is, is part of the method.
"""

from __future__ import annotations

from search_spaces.base import Fixed, Float, Parameter, Space
from search_spaces.classifier import FRACTION, POSITIVE, optimiser_parameters

COUNT = (1.0, 1e9)
BY_ITSELF = "the method augments by itself, after the shifts, and would otherwise do it twice"


def contrastive_parameters() -> dict[str, Parameter]:
    return {
        **optimiser_parameters(),
        "temperature": Float(low=0.05, high=1.0, log=True, default=0.5, legal=POSITIVE, role="scientific",
                             why="of the contrastive softmax: the lower, the more near negatives count; paper 0.5"),
        "shift": Fixed("auto", options=("auto", "rotation", "permutation", "noise"),
                       why="auto turns square images whose source says that this keeps labels, and swaps the quarters "
                           "of others"),
        "crop_scale": Float(low=0.08, high=0.9, default=0.8, legal=(0.01, 1.0), role="scientific",
                            why="smallest area of a resized crop; the paper's 0.08 is meant for its hundreds of epochs: in "
                                "15 of digits, 0.8 gave the best nominal accuracy (benchmarks/README.md)"),
        "jitter_strength": Float(low=0.0, high=1.5, default=1.0, legal=(0.0, 2.0), role="scientific",
                                 why="of the colour jitter (0.4, 0.4, 0.4, 0.1): the features ignore what it changes"),
        "grey": Fixed(0.2, legal=FRACTION, why="probability of losing all colour, from the paper"),
        "projection_dim": Fixed(128, legal=COUNT, why="width of the contrastive space, from the paper"),
        "score_crops": Fixed(1, legal=(1.0, 64.0), why="crops averaged for a score, 1 the whole image; the paper's "
                                                       "10 cost as many passes"),
        "bank_size": Fixed(10_000, legal=COUNT, why="training images kept to look for the nearest, 2 KiB each, evenly "
                                                    "spaced if there are more; the paper kept all"),
        "crop_padding": Fixed(0.0, legal=(0.0, 0.5), why=BY_ITSELF),
        "flip": Fixed(0.0, legal=FRACTION, why=BY_ITSELF),
        "cutout": Fixed(0.0, legal=FRACTION, why=BY_ITSELF),
        "colour_jitter": Fixed(0.0, legal=FRACTION, why=BY_ITSELF),
        "width": Fixed(1.0, legal=(0.1, 8.0), why="multiplies the channels of small_cnn; cost grows with its square"),
    }


def space() -> Space:
    return Space("csi", contrastive_parameters(),
                 note="Slow, and sensitive to what the crops and the jitter teach the features to ignore.")
