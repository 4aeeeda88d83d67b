"""What a worker of a cluster of our own imports before it is asked for anything, while the driver still prepares.

Ray imports this module as the worker starts (``study.runtime``), which then says that it is ready: who asks Ray for a
worker before that gets another one started beside it.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import ray.tune  # noqa: F401

import trainables.fit
import trainables.methods
import trainables.trainable  # noqa: F401

READY = "ORACLEGAP_WORKERS_READY"  # a folder: a file for each worker that is ready

if READY in os.environ:
    with contextlib.suppress(OSError):  # the folder goes with the driver
        (Path(os.environ[READY]) / str(os.getpid())).touch()
