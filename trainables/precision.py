"""In which number format networks are trained: autocast to bfloat16, or float32 throughout."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch

#: ``auto``: bfloat16 on CUDA, float32 on a CPU, so that a study's numbers do not hang on which CPU trained a trial.
PRECISIONS = ("auto", "float32", "bfloat16")
CPUINFO = Path("/proc/cpuinfo")


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """The context in which a loss is computed; weights, optimiser, evaluation and features are float32 in any case.
    ValueError for a name that is none of ``PRECISIONS``."""
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; one of {', '.join(PRECISIONS)}")
    if precision == "bfloat16" or (precision == "auto" and device.type == "cuda"):
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()


def cpu_has_bfloat16() -> bool:
    """Whether this machine's CPU has matrix instructions for bfloat16 (AMX); without them it is many times slower than
    float32. False where the system does not say."""
    try:
        return "amx_bf16" in CPUINFO.read_text()
    except OSError:
        return False
