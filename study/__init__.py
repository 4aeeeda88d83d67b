"""oraclegap: how much of what a classifier knows about anomalies do its anomaly scores extract?

``from study import Study, StudySpec, OpenSetDetector``; each is loaded on first use, so that ``oraclegap --help`` stays quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from study.api import Study
    from study.detector import OpenSetDetector
    from study.spec import StudySpec

__all__ = ["OpenSetDetector", "Study", "StudySpec"]


def __getattr__(name: str):
    if name == "Study":
        from study.api import Study

        return Study
    if name == "StudySpec":
        from study.spec import StudySpec

        return StudySpec
    if name == "OpenSetDetector":
        from study.detector import OpenSetDetector

        return OpenSetDetector
    raise AttributeError(f"module 'study' has no attribute {name!r}")
