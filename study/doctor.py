"""Doctor: can a study run here, and on every node of the cluster? Asked before hours are spent on finding out.

Each check is one line: ok, a doubt (to be known), or a failure with what to do about it. Nothing is left behind.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from study.errors import EnvironmentProblem, OracleGapError, UserError, one_line
from study.spec import ResourcesSpec, StudySpec
from study.spec_file import first_error

#: Whose versions must be the same on every node: what trials run on.
COMPARED = ("torch", "torchvision", "ray", "numpy", "scikit-learn", "safetensors")
USED = ("ray", "torch", "torchvision", "scikit-learn", "optuna", "mlflow", "numpy")
OWN = ("study", "trainables", "search_spaces", "analysis")
CLOCK_SECONDS, FREE_BYTES, ANSWER_SECONDS = 5.0, 2**31, 60.0


@dataclass(frozen=True)
class Finding:
    """``state``: "ok", "doubt" (to be known) or "failed" (a study would fail, or be wrong)."""

    name: str
    state: str
    words: str


def doctor(spec: StudySpec | None = None, *, root: str | Path = "runs", address: str | None = None) -> dict[str, Any]:
    """{"well": whether no check failed, "checks": [{"name", "state", "words"}…]} of this machine and of the cluster of
    ``spec`` or ``address`` (``"auto"``: one that runs here, else none is started)."""
    resources = spec.resources if spec else ResourcesSpec()
    try:
        resources = ResourcesSpec(**{**resources.model_dump(), "address": address}) if address else resources
    except ValidationError as error:
        raise UserError(f"--address: {first_error(error, ResourcesSpec)}") from None
    found = [found for check in (_python, _packages, _own_packages) for found in check()]
    found += _storage(Path(root)) + _services(Path(root), spec)
    found += _cluster(resources, Path(root), _asks_for_bfloat16(spec))
    return {"well": all(row.state != "failed" for row in found), "checks": [vars(row) for row in found]}


def doctor_text(found: dict[str, Any]) -> str:
    """The checks as lines, and what they come to."""
    signs = {"ok": "ok    ", "doubt": "?     ", "failed": "FAILED"}
    width = max(len(row["name"]) for row in found["checks"])
    lines = [f"{signs[row['state']]}  {row['name']:<{width}}  {one_line(row['words'], 400)}" for row in found["checks"]]
    failed = [row["name"] for row in found["checks"] if row["state"] == "failed"]
    return "\n".join([*lines, "", f"A study would fail here: {', '.join(failed)}." if failed else "A study can run here."])


def _python() -> list[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    return [Finding("python", "ok" if sys.version_info >= (3, 11) else "failed", f"{version}, {sys.executable}")]


def _packages() -> list[Finding]:
    versions = _versions(USED)
    missing = [name for name, version in versions.items() if not version]
    told = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    return [Finding("packages", "failed" if missing else "ok", f"missing: {', '.join(missing)}" if missing else told)]


def _versions(names: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ""
    return found


def _own_packages() -> list[Finding]:
    """Ours have plain names: a folder `analysis` where the user stands would be taken for one of them by some programs."""
    home, foreign = Path(__file__).resolve().parent.parent, []
    for name in OWN:
        spec = util.find_spec(name)
        place = Path(spec.origin).resolve().parent if spec and spec.origin else None
        if place != home / name:
            foreign.append(f"{name} is taken from {place or 'a folder without __init__.py'}, not from {home}")
    here = [name for name in OWN if (Path.cwd() / name).exists() and (Path.cwd() / name).resolve() != home / name]
    if foreign:
        return [Finding("names", "failed", f"{foreign[0]}; rename or remove it")]
    if here:
        return [Finding("names", "doubt", f"a folder {here[0]!r} lies here; programs that search the current folder first would "
                                          "take it for ours")]
    return [Finding("names", "ok", f"{', '.join(OWN)} are those in {home}")]


# ---------------------------------------------------------------------------------------------------------- services
def _storage(root: Path) -> list[Finding]:
    place = root.resolve()
    while not place.exists():
        place = place.parent
    try:
        probe = place / f".oraclegap-{uuid.uuid4().hex}"
        began = time.perf_counter()
        with open(probe, "wb") as file:
            file.write(b"\0" * 2**16)
            os.fsync(file.fileno())
        seconds = time.perf_counter() - began
        probe.unlink()
    except OSError as error:
        return [Finding("storage", "failed", f"{place} cannot be written: {error.strerror}; choose a place with --root")]
    free = shutil.disk_usage(place).free
    words = f"{place}: {free / 2**30:.0f} GiB free, a durable write takes {1000 * seconds:.0f} ms"
    return [Finding("storage", "doubt" if free < FREE_BYTES or seconds > 1 else "ok", words)]


def _services(root: Path, spec: StudySpec | None) -> list[Finding]:
    from study.ledger_storage import check_database
    from study.mlflow_server import check_server, tracking_uri, without_password

    def tracking() -> str:
        uri = tracking_uri(root)
        check_server(uri)
        return without_password(uri)

    found = [_asked("mlflow", tracking)]
    if spec and spec.resources.ledger:
        found.append(_asked("ledger", lambda: check_database(spec) or spec.resources.ledger))
    return found


def _asked(name: str, question: Callable[[], str]) -> Finding:
    try:
        return Finding(name, "ok", question())
    except OracleGapError as error:
        return Finding(name, "failed", str(error))


# ----------------------------------------------------------------------------------------------------------- cluster
def _cluster(resources: ResourcesSpec, root: Path, bfloat16: bool) -> list[Finding]:
    """Every node of a cluster that runs; of a local one that a launch would start, this machine."""
    from study.runtime import joined_cluster

    try:
        with joined_cluster(resources) as (ray, notes):
            if ray is None:
                here = _look(None)
                return [Finding("cluster", "ok", f"none runs here: a launch starts one of {os.cpu_count()} CPUs"),
                        *_processors({"this machine": here}, bfloat16), *_gpus({"this machine": here}, resources)]
            nodes = dict(_ask_nodes(ray, root))
            return [*_nodes(nodes), *_same(nodes), *_clocks(nodes), *_shared(nodes, root),
                    *_processors(nodes, bfloat16), *_gpus(nodes, resources),
                    *(Finding("token", "doubt", note) for note in notes)]
    except EnvironmentProblem as error:
        return [Finding("cluster", "failed", str(error))]


def _ask_nodes(ray, root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, what ``_look`` saw there) of every node, or {"error": …}."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    probe = root.resolve() / f".oraclegap-{uuid.uuid4().hex}"
    made = not probe.parent.exists()
    probe.parent.mkdir(parents=True, exist_ok=True)
    probe.write_text("seen")
    try:
        asked = {}
        for node in (node for node in ray.nodes() if node["Alive"]):
            where = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
            asked[node["NodeID"]] = (node, time.time(), ray.remote(_look).options(
                num_cpus=0, scheduling_strategy=where, max_retries=0).remote(str(probe)))
        for node, sent, answer in asked.values():
            name = f"{node['NodeName']} ({node['NodeID'][:6]})"
            try:
                seen = ray.get(answer, timeout=ANSWER_SECONDS)
                yield name, {**seen, "resources": node["Resources"], "sent": sent, "received": time.time()}
            except Exception as error:  # whatever a node cannot do is what is looked for
                yield name, {"error": one_line(getattr(error, "cause", None) or error, 200)}
    finally:
        probe.unlink(missing_ok=True)
        if made:
            probe.parent.rmdir()


def _look(probe: str | None) -> dict[str, Any]:
    """Runs on a node: what is there."""
    import torch

    from trainables.precision import cpu_has_bfloat16

    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {"python": sys.version.split()[0], "versions": _versions(COMPARED), "time": time.time(), "gpus": gpus,
            "sees": bool(probe) and Path(probe).exists(), "bfloat16": cpu_has_bfloat16(),
            "mps": bool(os.environ.get("CUDA_MPS_PIPE_DIRECTORY")) or Path("/tmp/nvidia-mps/control").exists()}


def _nodes(nodes: dict[str, dict]) -> list[Finding]:
    silent = [f"{name}: {seen['error']}" for name, seen in nodes.items() if "error" in seen]
    if silent:
        return [Finding("nodes", "failed", f"{len(silent)} of {len(nodes)} cannot run our code: {silent[0]}; install oraclegap "
                                           "there, in the Python that its `ray start` uses")]
    cpus = sum(seen["resources"].get("CPU", 0) for seen in nodes.values())
    return [Finding("nodes", "ok", f"{len(nodes)} answer, {cpus:g} CPUs in all")]


def _same(nodes: dict[str, dict]) -> list[Finding]:
    mine = {"python": sys.version.split()[0], **_versions(COMPARED)}
    for name, seen in _answering(nodes):
        theirs = {"python": seen["python"], **seen["versions"]}
        differ = [f"{key} {theirs[key] or 'missing'} (here {mine[key]})" for key in mine if theirs[key] != mine[key]]
        if differ:
            return [Finding("versions", "failed", f"{name} has {', '.join(differ)}; install the same everywhere")]
    return [Finding("versions", "ok", "the same on every node")]


def _clocks(nodes: dict[str, dict]) -> list[Finding]:
    """The order of freeze and reveal is told by clocks."""
    off = {name: max(seen["sent"] - seen["time"], seen["time"] - seen["received"], 0) for name, seen in _answering(nodes)}
    worst = max(off, key=off.get, default=None)
    if worst and off[worst] > CLOCK_SECONDS:
        return [Finding("clocks", "failed", f"{worst} is off by {off[worst]:.0f} s; set it, by NTP for instance")]
    return [Finding("clocks", "ok", f"within {CLOCK_SECONDS:g} s")]


def _shared(nodes: dict[str, dict], root: Path) -> list[Finding]:
    blind = [name for name, seen in _answering(nodes) if not seen["sees"]]
    if blind:
        return [Finding("shared storage", "failed", f"{root.resolve()} is not the same place on {', '.join(blind)}; choose one "
                                                    "that all share, with --root")]
    return [Finding("shared storage", "ok", f"{root.resolve()} is seen from every node")]


def _asks_for_bfloat16(spec: StudySpec | None) -> bool:
    """Whether any method's training does, other than by ``"auto"``."""
    return spec is not None and any(
        spec.training.for_method(method).get("precision") == "bfloat16" for method in spec.methods)


def _processors(nodes: dict[str, dict], asked: bool) -> list[Finding]:
    """Nothing where CPUs cannot train in bfloat16 and nobody asks them to."""
    with_it = {name: seen["bfloat16"] for name, seen in _answering(nodes) if not seen["gpus"]}
    lacking = [name for name, has in with_it.items() if not has]
    if asked and lacking:
        return [Finding("bfloat16", "doubt", f"{lacking[0]} has no AMX and no GPU: training.precision = \"bfloat16\" is many times "
                                             "slower there than \"float32\"")]
    if not with_it or lacking:
        return []
    words = "asked for, and every CPU has it (AMX)" if asked else (
        "every CPU has it (AMX): training.precision = \"bfloat16\" may train faster here")
    return [Finding("bfloat16", "ok", words)]


def _gpus(nodes: dict[str, dict], resources: ResourcesSpec) -> list[Finding]:
    from study.runtime import trials_on_a_card

    found = [gpu for _, seen in _answering(nodes) for gpu in seen["gpus"]]
    if not found:
        words = "none: trials run on CPUs" if resources.gpus_per_trial else "none, and none is asked for"
        return [Finding("GPUs", "doubt" if resources.gpus_per_trial else "ok", words)]
    measured = resources.gpus_per_trial == "auto"
    many = 0 if measured or not resources.gpus_per_trial else trials_on_a_card(resources.gpus_per_trial)
    unserved = [name for name, seen in _answering(nodes) if seen["gpus"] and not seen["mps"]]
    words = f"{len(found)} ({', '.join(sorted(set(found)))}), " + ("as many trials on each as fit" if measured else
                                                                   f"{many} trials on each")
    if (many > 1 or measured) and unserved:
        return [Finding("GPUs", "doubt", f"{words}; no CUDA MPS on {unserved[0]}, so they take turns")]
    return [Finding("GPUs", "ok", words)]


def _answering(nodes: dict[str, dict]) -> Iterator[tuple[str, dict]]:
    return ((name, seen) for name, seen in nodes.items() if "error" not in seen)
