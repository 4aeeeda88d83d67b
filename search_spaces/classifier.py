"""Search space of ``trainables/methods/classifier.py``, and the parameters that every trained method shares."""

from __future__ import annotations

from search_spaces.base import Choice, Fixed, Float, Parameter, Space

FRACTION = (0.0, 1.0)
POSITIVE = (1e-12, 1e12)


def optimiser_parameters() -> dict[str, Parameter]:
    """SGD with Nesterov momentum under a one-cycle schedule."""
    return {
        "learning_rate": Float(low=0.02, high=1.0, log=True, default=0.3, legal=POSITIVE, role="nuisance",
                               why="peak of the one-cycle schedule; below 0.02 few epochs do not converge"),
        "weight_decay": Float(low=1e-5, high=5e-3, log=True, default=5e-4, legal=POSITIVE, role="nuisance",
                              why="on weights only, neither biases nor normalisation; acts as learning_rate times it"),
        "momentum": Fixed(0.9, legal=(0.0, 0.999), why="trades off against learning_rate, which is searched"),
        "gradient_clip": Fixed(5.0, legal=(0.0, 1e12), why="largest norm of a step's gradient, 0 for none; ordinary steps "
                                                           "stay below it, while without it a hybrid of large weight "
                                                           "diverges at most learning rates"),
        "warmup": Fixed(0.2, legal=FRACTION, why="share of all steps in which the learning rate rises"),
    }


def augmentation_parameters() -> dict[str, Parameter]:
    """Strengths for trainables/augment.py; 0 switches each off."""
    return {
        "crop_padding": Float(low=0.0, high=0.25, default=0.125, legal=(0.0, 0.5), role="scientific",
                              why="random shift as a fraction of the side; 0.125 is the usual 4 of 32 pixels"),
        "flip": Fixed(0.5, legal=FRACTION, why="probability of a mirror image, used only where the source says that "
                                               "it keeps the label"),
        "cutout": Float(low=0.0, high=0.5, default=0.0, legal=FRACTION, role="scientific",
                        why="side of the erased square as a fraction of the image's"),
        # a few values with "none" among them, since a draw from a range is never 0 and so never without mixing
        "mixup": Choice((0.0, 0.2, 1.0), default=0.0, legal=(0.0, 10.0), role="scientific",
                        why="alpha of Beta(alpha, alpha); helps accuracy, is suspected to harm max logit"),
        "cutmix": Choice((0.0, 1.0), default=0.0, legal=(0.0, 10.0), role="scientific",
                         why="alpha of Beta(alpha, alpha), whose draw sets the box's area; with mixup, one of the two a "
                             "batch; soft labels bound the logits that detection reads"),
        "randaugment": Choice((0.0, 0.2, 0.5), default=0.0, legal=FRACTION, role="scientific",
                              why="RandAugment's magnitude, 1 its largest (its 30); long-tuned open-set classifiers "
                                  "took 0.2. Turns stay within 30 degrees and nothing is mirrored, but where colour, "
                                  "shade or place is the label, fix it at 0"),
        "randaugment_ops": Fixed(1, legal=(1, 8), why="operations an image; 1 is what those took, and each "
                                                      "costs the same again"),
        "colour_jitter": Float(low=0.0, high=0.4, default=0.0, legal=FRACTION, role="scientific",
                               why="largest relative change of brightness and contrast"),
    }


def classifier_parameters() -> dict[str, Parameter]:
    return {
        **optimiser_parameters(),
        "label_smoothing": Float(low=0.0, high=0.2, default=0.0, legal=(0.0, 0.9), role="scientific",
                                 why="bounds the logits, which is what most scorers read"),
        "dropout": Float(low=0.0, high=0.5, default=0.0, legal=(0.0, 0.95), role="nuisance",
                         why="on z before the head"),
        **augmentation_parameters(),
        "width": Fixed(1.0, legal=(0.1, 8.0), why="multiplies the channels of small_cnn; cost grows with its square"),
    }


def space() -> Space:
    return Space("classifier", classifier_parameters(),
                 note="Accuracy rises with augmentation; whether detection does too is what the search is for.")
