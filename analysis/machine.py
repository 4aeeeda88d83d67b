"""What the machine gives this process."""

from __future__ import annotations

import os


def cores() -> int:
    """Those that this process may use, which a container's cpuset or ``taskset`` may have cut (a quota of time is not seen)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
