"""Search space of ``trainables/methods/jem.py``: an energy beside the classifier, its sampler, and no batch norm.

Step size, noises and buffer are the paper's, for images of −1..1. An epoch costs about 17 times a classifier's with 20
steps of the sampler, half of that with 10: on a CPU take few epochs and few trials.
"""

from __future__ import annotations

from search_spaces.base import Choice, Fixed, Float, Space
from search_spaces.classifier import FRACTION, POSITIVE, augmentation_parameters, optimiser_parameters

NOT_DATA = "makes images that are not of the data, whose density would be learned as theirs; a spec may open it"


def space() -> Space:
    return Space(
        "jem",
        {
            "energy_weight": Float(
                low=0.1, high=3.0, log=True, default=1.0, legal=(0.0, 1e6), role="scientific",
                why="of log p(x) beside log p(y | x), 1 in the paper; on digits 0.1 ran away at learning rates from "
                    "0.1, as little held the slopes down that the sampler climbs, and 10 cost a third of the accuracy"),
            "sgld_steps": Choice((20, 10), default=20, legal=(1, 1000), role="nuisance",
                                 why="20 in the paper; 10 cost half and on digits were no less accurate or stable"),
            "sgld_step_size": Fixed(1.0, legal=POSITIVE, why="the paper's, for images of -1..1"),
            "sgld_noise": Fixed(0.01, legal=(0.0, 1e3),
                                why="the paper's; far below what the step size asks for, so that the sampler climbs "
                                    "more than it wanders"),
            "buffer_size": Fixed(10_000, legal=(1, 10_000_000),
                                 why="the paper's; at most the number of training images is used, so that chains are "
                                     "continued once an epoch on small sets too"),
            "reinitialised": Fixed(0.05, legal=FRACTION, why="the paper's; share of chains begun anew from noise"),
            "input_noise": Fixed(0.03, legal=(0.0, 1e3), why="the paper's, on the training images, where the density "
                                                             "would else be asked to rise without bound"),
            **optimiser_parameters(),
            "learning_rate": Float(low=0.02, high=0.5, log=True, default=0.15, legal=POSITIVE, role="nuisance",
                                   why="peak of the one-cycle schedule; on digits 0.5 still learned, 1 ended in dead "
                                       "units and 2 diverged; the paper took Adam at 1e-4"),
            "gradient_clip": Fixed(1.0, legal=(0.0, 1e12),
                                   why="largest norm of a step's gradient; ordinary ones are 1 to 3, and with 5 "
                                       "learning rates from 0.2 were unstable on digits"),
            **augmentation_parameters(),
            **{name: Fixed(0.0, legal=legal, why=NOT_DATA) for name, legal in
               (("cutout", FRACTION), ("mixup", (0.0, 10.0)), ("cutmix", (0.0, 10.0)))},
            "width": Fixed(1.0, legal=(0.1, 8.0), why="multiplies small_cnn's channels; cost grows with its square"),
        },
        note="Does a density learned with the labels detect better? Many trials diverge, which is their result.",
    )
