"""The deployment files: what they start are commands that there are, with options that these take."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from study.cli import build_parser
from study.spec import StudySpec

DEPLOY = Path(__file__).parent.parent / "deploy"


def launches(text: str) -> list[list[str]]:
    """The arguments of each ``oraclegap launch`` in a text, to the end of its line or command."""
    return [shlex.split(found) for found in re.findall(r"oraclegap (launch [^|&\n]*)", text)]


def test_the_ray_job_launches_a_spec_that_there_is():
    job = yaml.safe_load((DEPLOY / "rayjob.yaml").read_text())
    (arguments,) = launches(job["spec"]["entrypoint"])
    options = build_parser().parse_args(arguments)
    assert StudySpec.load(options.spec, options.overrides).resources.address == "auto"
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}  # else neither operator nor submitter knows the token
    assert "||" not in job["spec"]["entrypoint"] or job["spec"]["submissionMode"] == "HTTPMode"
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for container in (group["template"]["spec"]["containers"][0] for group in groups):
        assert {"name": "studies", "mountPath": options.root} in container["volumeMounts"]  # shared, at the study's own path


def test_the_cluster_of_machines_is_what_ray_up_reads():
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((DEPLOY / "ray-cluster.yaml").read_text())
    validate_config(prepare_config(config))
    starts = [line for key in ("head_start_ray_commands", "worker_start_ray_commands") for line in config[key]]
    assert sum("RAY_AUTH_MODE=token" in line for line in starts) == 2


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_the_slurm_script_is_a_script_and_its_launch_one():
    path = DEPLOY / "slurm.sh"
    subprocess.run(["bash", "-n", path], check=True)
    text = path.read_text().replace("\\\n", " ")
    (arguments,) = [line.split(" -- ")[1] for line in text.splitlines() if "symmetric-run" in line]
    arguments = shlex.split(arguments)
    assert arguments[0] == "oraclegap"
    options = build_parser().parse_args([word if word != "$@" else "digits" for word in arguments[1:]])
    assert options.overrides == ['resources.address="$ADDRESS"'] and options.root == "$ROOT"
    assert "RAY_AUTH_MODE=token" in text


def test_every_file_is_told_of():
    told = (DEPLOY / "README.md").read_text()
    assert all(f"`{path.name}`" in told for path in DEPLOY.iterdir() if path.name != "README.md")
