"""What is a trial's whoever trains it, a worker of the search or a job: its folder, its settings, the reason of its failure.

Without Ray, whose Tune costs 1.6 s to import (2 cores).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

#: Reasons that belong to a configuration, and would come again on any machine.
FORESEEN = ("diverged",)
#: How torch's libraries say that memory is short where they raise a plain RuntimeError.
NO_MEMORY = re.compile(r"out of memory|can't allocate memory|ALLOC_FAILED", re.IGNORECASE)
#: Opens the reason of a failure that is the machine's and not the configuration's: a full disk, a vanished folder.
ENVIRONMENT = "environment: "


def trial_folder(study_folder: str | Path, method: str, split: int, number: int) -> Path:
    """``trials/<method>/<split>/<number>`` of a study."""
    return Path(study_folder) / "trials" / method / str(split) / str(number)


def train_settings(shared: dict[str, Any], method: str):
    """The ``TrainSettings`` of a method on the resources that this process was given."""
    from trainables.fit import TrainSettings

    gpus, training = shared["gpus_per_trial"], shared["training"][method]
    return TrainSettings(
        **training, pretrained_sha256=shared.get("weights", {}).get(training.get("pretrained"), ""),
        threads=max(1, int(shared["cpus_per_trial"])),
        device="auto" if gpus else "cpu", gpu_memory_fraction=gpus if 0 < gpus < 1 else None,
    )


def failure_reason(error: BaseException) -> str:
    """One line for the ledger: ``diverged: …``, ``oom: …``, ``environment: …``, or the error's type and text."""
    import torch

    from analysis.plugins import PluginError
    from trainables.backbone import BackboneError
    from trainables.fit import Diverged, WrongFolder

    text = " ".join(str(error).split())[:300]
    if isinstance(error, Diverged):
        return f"diverged: {text}"
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or (
            isinstance(error, RuntimeError) and NO_MEMORY.search(text)):
        return f"oom: {text}"
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{ENVIRONMENT}{error.filename}: {error.strerror}"
    # a file of weights has been looked at by the driver: that it is missing or another one here is this machine's affair
    if isinstance(error, OSError | WrongFolder | PluginError | BackboneError):
        return f"{ENVIRONMENT}{text}"
    return f"{type(error).__name__}: {text}"
