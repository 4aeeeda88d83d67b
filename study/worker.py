"""What a worker of a cluster of our own imports before it is asked for anything, while the driver still prepares.

Ray imports this module as the worker starts (``study.runtime``), which then says how far it is, and that it is ready: who
asks Ray for a worker before that gets another one started beside it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from pathlib import Path

READY = "ORACLEGAP_WORKERS_READY"  # a folder: a file PID for each worker that is ready, PID.module for what it has got so far


def _tell(word: str) -> None:
    if READY in os.environ:
        with contextlib.suppress(OSError):  # the folder goes with the driver
            (Path(os.environ[READY]) / word).touch()


_tell(f"{os.getpid()}.began")
for _name in ("torch", "ray.tune", "trainables.fit", "trainables.methods", "trainables.trainable"):
    importlib.import_module(_name)
    _tell(f"{os.getpid()}.{_name}")
_tell(str(os.getpid()))
