"""What MLflow runs of a registered detector: "models from code", so nothing is pickled.

MLflow copies this file into the model and executes it when the model is loaded; nothing here imports it. Images (N, H, W, C)
uint8 in; out a table of ``label`` (a class or "anomaly"), ``anomaly_score`` (higher = more anomalous) and ``is_anomaly``.
"""

from __future__ import annotations

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Detector(PythonModel):
    def load_context(self, context) -> None:
        """Loads the export in the model's folder ``detector``, every file compared with its SHA-256 on record."""
        from study.detector import OpenSetDetector

        allowed = (context.model_config or {}).get("plugins", [])  # those of the study that was registered
        self.detector = OpenSetDetector.load(context.artifacts["detector"], allowed_plugins=allowed)

    def predict(self, context, model_input: np.ndarray, params=None):
        """A DataFrame of N rows, in the order of the images."""
        import pandas

        label, score = self.detector.predict_and_score(model_input)
        return pandas.DataFrame({"label": label.astype(str), "anomaly_score": score,
                                 "is_anomaly": score > self.detector.threshold_})


set_model(Detector())
