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


#: What trains, for a trial of the search as for a job; and what a trial needs to be one of Ray Tune's (1.6 s on 2 cores).
MODULES, TUNES = ("torch", "trainables.fit", "trainables.methods"), ("ray.tune", "trainables.trainable")


def _tell(word: str) -> None:
    if READY in os.environ:
        with contextlib.suppress(OSError):  # the folder goes with the driver
            (Path(os.environ[READY]) / word).touch()


def _comes_late() -> bool:
    """Whether every CPU has had its trial's worker: this one is for jobs, or, seldom, takes the place of one that died."""
    if READY not in os.environ:
        return False
    with contextlib.suppress(OSError):
        return sum(1 for _ in Path(os.environ[READY]).glob("*.began")) >= (os.cpu_count() or 1)
    return True


_late = _comes_late()
_tell(f"{os.getpid()}.began")
for _name in MODULES if _late else (*MODULES, *TUNES):
    importlib.import_module(_name)
    _tell(f"{os.getpid()}.{_name}")
_tell(str(os.getpid()))
