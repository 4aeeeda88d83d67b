"""Load of the machine that drives a study, in its MLflow run, on request.

``MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING=true``, MLflow's own variable, adds metrics ``system/…`` (processor, memory, disk,
network, GPUs where ``pynvml`` is installed) to the study's own run while it runs. Nothing is read from them, and a replay
does not repeat them.
"""

from __future__ import annotations

import logging
import os
from typing import Any

VARIABLE = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"


def wanted() -> bool:
    return os.environ.get(VARIABLE, "").strip().lower() in ("true", "1")


def start(uri: str, run_id: str) -> Any:
    """MLflow's monitor, at work in a thread of its own until ``finish()``; it ends by itself when the run does.

    ImportError that says what to install where ``psutil`` is missing.
    """
    import importlib.util

    if importlib.util.find_spec("psutil") is None:
        raise ImportError(f"{VARIABLE} needs psutil; `pip install psutil`")
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    logging.getLogger("mlflow.system_metrics").setLevel(logging.ERROR)  # that it starts and ends is of no interest
    monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=uri)
    monitor.start()
    return monitor
