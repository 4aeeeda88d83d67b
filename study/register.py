"""``oraclegap export --register``: an exported detector as a version of a registered model, in the study's own MLflow.

It is a LoggedModel of the run of its *trial*, where its parameters and metrics are, so that the registry leads to them; a
study that was run offline has no such run, and the model then stands in the study's experiment by itself. The active run
and the tracking address of whoever calls stay as they were. The model's code is ``pyfunc_model``
and a copy of these packages; it is served without an installation of oraclegap, and nothing in it is pickled.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from analysis import plugins
from study.errors import EnvironmentProblem, UserError, one_line
from study.mlflow_server import check_server, tracking_uri, without_password

#: What scoring images imports; pinned to what is installed here.
REQUIREMENTS = ("mlflow", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "pandas", "safetensors", "pillow",
                "pytorch-ood")
CODE = ("study", "trainables", "search_spaces", "analysis")
METRICS = ("val/", "signal/", "test/", "oracle/", "gap/")
MAX_DESCRIPTION = 5000  # of MLflow's table
#: MLflow refuses the others only after the version has been made.
ALIAS = re.compile(r"(?!v\d+$)(?!latest$)[A-Za-z0-9_-]{1,255}")


@dataclass(frozen=True)
class Registered:
    """``uri`` names the version (``models:/NAME/VERSION``); ``model_id`` the LoggedModel that it was made from."""

    name: str
    version: str
    uri: str
    model_id: str
    run_id: str | None
    alias: str | None


def register(study: Path, export: Path, *, name: str, alias: str | None = None) -> Registered:
    """Logs the exported detector in folder ``export`` of the study in folder ``study`` and registers it as ``name``;
    ``alias`` then points at that version.

    UserError for a name or alias that MLflow does not take, EnvironmentProblem for a server that does not answer.
    """
    if not name.strip() or re.search(r"[/:]", name):
        raise UserError(f"--register {name!r}: a model's name holds neither '/' nor ':' and is not empty")
    if alias is not None and not ALIAS.fullmatch(alias):
        raise UserError(f"--alias {alias!r}: letters, digits, '-' and '_', but neither 'latest' nor like 'v2'")
    uri = tracking_uri(study.parent)
    check_server(uri)
    from study.mlflow_store import Store
    from study.tracking import study_identity

    try:
        store = Store(uri=uri, artifacts=study.parent / "mlartifacts", study=study.name, study_id=study_identity(study))
        record = json.loads((export / "detector.json").read_text(encoding="utf-8"))
        known = store.known.get(record["trial"])
        return _register(store, export, record, uri=uri, name=name, alias=alias, run_id=known.run_id if known else None)
    except Exception as error:
        from mlflow.exceptions import MlflowException

        if isinstance(error, MlflowException) and error.error_code == "INVALID_PARAMETER_VALUE":
            raise UserError(f"--register {name!r}: MLflow refuses it: {one_line(error, 200)}") from None
        if isinstance(error, (MlflowException, OSError)):
            raise EnvironmentProblem(f"MLflow at {without_password(uri)}: {one_line(without_password(str(error)), 200)}") from None
        raise


def _register(
    store, export: Path, record: dict[str, Any], *, uri: str, name: str, alias: str | None, run_id: str | None
) -> Registered:
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    client = store.client
    registry = MlflowClient(tracking_uri=uri, registry_uri=uri)  # else it is MLflow's default: a new file where one stands
    try:
        registry.create_registered_model(name, tags={"oraclegap": "detector"})
    except MlflowException as problem:
        if problem.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    tags = {"oraclegap.study": record["study"], "oraclegap.method": record["method"],
            "oraclegap.selection": record["selection"], "oraclegap.threshold": repr(float(record["threshold"])),
            "oraclegap.contaminated": str(bool(record["contaminated"])).lower()}
    params = {key: str(value) for key, value in record["params"].items()}
    model = client.create_logged_model(store.experiment_id, name=f"{record['method']}-detector", source_run_id=run_id,
                                       tags=tags, params=params, model_type="open-set detector")
    try:
        # Beside the export, not in the system's temporary folder: nothing is written outside runs/.
        with tempfile.TemporaryDirectory(dir=export.parent, prefix=".register-") as folder:
            _save(Path(folder) / "model", export, record, model=model, run_id=run_id)
            client.log_model_artifacts(model.model_id, str(Path(folder) / "model"))
        client.finalize_logged_model(model.model_id, "READY")
    except BaseException:
        client.finalize_logged_model(model.model_id, "FAILED")  # never one that seems to be on its way for ever
        raise
    if run_id is not None:
        _link(client, run_id, model.model_id)
    card = (export / "MODEL_CARD.md").read_text(encoding="utf-8")
    with _tracking_at(uri):
        made = registry.create_model_version(name, source=f"models:/{model.model_id}", run_id=run_id, tags=tags,
                                             description=card[:MAX_DESCRIPTION], model_id=model.model_id, await_creation_for=0)
    # MLflow's own way from the model to its versions; the way back is the version's source.
    client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": json.dumps([{"name": name, "version": made.version}])})
    if alias is not None:
        registry.set_registered_model_alias(name, alias, made.version)
    return Registered(name, str(made.version), f"models:/{name}/{made.version}", model.model_id, run_id, alias)


@contextlib.contextmanager
def _tracking_at(uri: str) -> Iterator[None]:
    """Within, the process's tracking address is ``uri``: a store in a database looks a model up there, whatever its own."""
    import mlflow

    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


def _save(target: Path, export: Path, record: dict[str, Any], *, model, run_id: str | None) -> None:
    """The MLflow model's folder: code, the export as artifact ``detector``, signature, requirements."""
    import mlflow.pyfunc
    import numpy as np
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, *record["image_shape"]))]),
        outputs=Schema([ColSpec(DataType.string, "label"), ColSpec(DataType.double, "anomaly_score"),
                        ColSpec(DataType.boolean, "is_anomaly")]),
    )
    packages = Path(__file__).parents[1]
    detector = shutil.copytree(export, target.with_name("detector"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about type hints and an example, which the signature makes needless
        mlflow.pyfunc.save_model(
            target, python_model=str(Path(__file__).with_name("pyfunc_model.py")), artifacts={"detector": str(detector)},
            code_paths=[*(str(packages / name) for name in CODE), *plugins.places(record.get("plugins", []))],
            signature=signature, pip_requirements=_requirements(),
            model_config={"plugins": record["plugins"]} if record.get("plugins") else None,
            mlflow_model=Model(model_uuid=model.model_id, run_id=run_id, model_id=model.model_id,
                               artifact_path=model.artifact_location),
        )


def _requirements() -> list[str]:
    return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in REQUIREMENTS]


def _link(client, run_id: str, model_id: str) -> None:
    """The model as an output of its run, and the run's metrics as the model's, each on the data it was measured on."""
    from mlflow.entities import LoggedModelOutput, Metric

    client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
    run, now = client.get_run(run_id), int(time.time() * 1000)
    inputs = run.inputs.dataset_inputs if run.inputs else []
    nominal = {"dataset_name": inputs[0].dataset.name, "dataset_digest": inputs[0].dataset.digest} if inputs else {}
    metrics = [
        Metric(key, value, now, 0, model_id=model_id, run_id=run_id, **(nominal if key.startswith(("val/", "signal/")) else {}))
        for key, value in run.data.metrics.items() if key.startswith(METRICS)
    ]
    if metrics:
        client.log_batch(run_id, metrics=metrics)
