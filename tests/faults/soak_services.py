"""Takes away what a study stands on while it runs: the MLflow server, the ledger's PostgreSQL server, nodes of its cluster.

    python tests/faults/soak_services.py [--mlflow] [--restarts 10] [--nodes 10] [--seed 0]

The servers and the cluster are real; MLflow's stands behind a gate that can be shut, hang, be slow or fail. Every study must end
as the one that nobody disturbed, with the same trials, weights, signals, selection and points in MLflow: none lost, none twice.
`make soak` runs it, in about 15 minutes on two cores. Prints a line for each study and a table; exit 1 where anything differs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import optuna
from gate import Gate
from postgres import PASSWORD, Postgres
from soak_kills import fingerprint

from study.spec_checks import LEDGER_PASSWORD

METHODS, TRIALS, EPOCHS = ["classifier", "hybrid"], 4, 8  # as many trials as TPE draws at random: no matter who ends first
PAIRS = [f"methods={METHODS}", f"search.trials={TRIALS}", f"training.epochs={EPOCHS}", "training.batch_size=64",
         "analysis.questions=[]"]
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}


class Soak:
    """Runs studies in one folder and remembers what was wrong."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.random, self.counts, self.problems = folder, random.Random(seed), Counter(), []
        self.reference: dict[str, str] = {}

    def launch(self, name: str, *pairs: str, **environment: str) -> subprocess.Popen:
        words = (word for pair in (*PAIRS, f"name={name}", *pairs) for word in ("-o", pair))
        log = open(self.folder / f"{name}.log", "a")  # noqa: SIM115  (the process owns it)
        return subprocess.Popen([sys.executable, "-m", "study", "launch", "digits", *words], cwd=self.folder, stdout=log,
                                stderr=subprocess.STDOUT, env={**os.environ, **QUIET, **environment})

    def path(self, name: str) -> Path:
        return self.folder / "runs" / name

    def when(self, name: str, pattern: str, driver: subprocess.Popen) -> bool:
        """Waits for a file of the study; False where the launch ended first."""
        while driver.poll() is None:
            if any(self.path(name).glob(pattern)):
                return True
            time.sleep(0.05)
        return False

    def judge(self, name: str, code: int, *, more: Callable[[], None] = lambda: None) -> None:
        try:
            assert code == 0, f"exit {code}: {(self.folder / f'{name}.log').read_text()[-300:]}"
            found = {key: value for key, value in fingerprint(self.path(name)).items() if not key.startswith("reveal")}
            self.reference = self.reference or found
            differ = [key for key in self.reference if found.get(key) != self.reference[key]]
            assert not differ and found.keys() == self.reference.keys(), f"differs in {differ[:3]}"
            more()
            self.counts["studies whole"] += 1
            print(f"{name}: whole", flush=True)
        except (AssertionError, OSError, ValueError, KeyError) as error:
            self.problems.append(f"{name}: {' '.join(str(error).split())[:500]}")
            print(f"{name}: FAILED", flush=True)


# ------------------------------------------------------------------------------------------------------------------ MLflow
@contextlib.contextmanager
def mlflow_server(folder: Path) -> Iterator[tuple[int, Callable[[], None]]]:
    """(port, what kills it and starts it again)."""
    port, running = free_port(), []
    folder.mkdir(parents=True)

    def start() -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
                   "--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "artifacts")]
        with open(folder / "log", "a") as log:
            running.append(subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True))
        while running[-1].poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                return
            time.sleep(0.1)
        raise RuntimeError(f"the MLflow server ended: {(folder / 'log').read_text()[-500:]}")

    def stop() -> None:
        os.killpg(running[-1].pid, signal.SIGKILL)
        running.pop().wait()

    def restart() -> None:
        stop()
        time.sleep(3)
        start()

    start()
    try:
        yield port, restart
    finally:
        if running:
            stop()


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def points(uri: str, study: str) -> Counter:
    """How often each point (run, metric, step) of a study is in the server."""
    client = mlflow.MlflowClient(uri)
    (experiment,) = client.search_experiments(filter_string=f"name = '{study}'")
    runs = client.search_runs([experiment.experiment_id], max_results=5000)
    assert {run.info.status for run in runs} == {"FINISHED"}, "a run has not finished"
    found: Counter = Counter()
    for run in runs:
        key = run.data.tags.get("oraclegap.trial", "?")
        found[key, "run", 0] += 1
        for metric in run.data.metrics:
            found.update((key, metric, point.step) for point in client.get_metric_history(run.info.run_id, metric))
    return found


#: (name, the file whose appearance begins it, the mode of the gate or "restart", seconds; 0: until the launch has ended).
OUTAGES = (
    ("outage-at-start", "stamp.json", "closed", 10), ("outage-in-the-middle", "trials/*/0/1/metrics.jsonl", "closed", 10),
    ("outage-at-the-end", "selection.json", "closed", 0), ("outage-throughout", "stamp.json", "closed", 0),
    ("hung-in-the-middle", "trials/*/0/1/metrics.jsonl", "hung", 10), ("slow-throughout", "stamp.json", "slow", 0),
    ("failing-throughout", "stamp.json", "failing", 0), ("restarted-in-the-middle", "trials/*/0/1/metrics.jsonl", "restart", 0),
)


def mlflow_outages(soak: Soak) -> None:
    with mlflow_server(soak.folder / "server") as (port, restart):
        gate = Gate(port)
        uri, direct = f"http://127.0.0.1:{gate.port}", f"http://127.0.0.1:{port}"
        reached = {"MLFLOW_TRACKING_URI": uri}
        soak.judge("undisturbed", soak.launch("undisturbed", **reached).wait())
        expected = points(direct, "undisturbed")
        for name, pattern, mode, seconds in OUTAGES:
            driver = soak.launch(name, **reached)
            met = soak.when(name, pattern, driver)
            if mode == "restart":
                restart()
            else:
                gate.mode = mode
                time.sleep(seconds) if seconds else driver.wait()
                gate.mode = "open"
            code = driver.wait()
            soak.counts["launches again"] += (again := points(direct, name) != expected if mode != "closed" or seconds else True)
            code = soak.launch(name, **reached).wait() if again else code

            def compare(name=name, met=met) -> None:
                found = points(direct, name)
                soak.counts["points lost"] += sum((expected - found).values())
                soak.counts["points twice"] += sum((found - expected).values())
                assert met and found == expected, f"lost {list(expected - found)[:3]}, more {list(found - expected)[:3]}"
                soak.counts["MLflow outages"] += 1

            soak.judge(name, code, more=compare)
        gate.mode = "closed"
        began = time.monotonic()
        code, seconds = soak.launch("down-at-launch", **reached).wait(), time.monotonic() - began
        said = (soak.folder / "down-at-launch.log").read_text()
        if code != 3 or seconds > 5 or len(said.splitlines()) != 1 or soak.path("down-at-launch").exists():
            soak.problems.append(f"a server that is down at launch: exit {code} after {seconds:.1f} s: {said[-300:]}")
        print(f"down-at-launch: exit {code} after {seconds:.1f} s: {said.strip()}", flush=True)
        soak.counts["points in MLflow, each study"] = sum(expected.values())
        gate.close()


# -------------------------------------------------------------------------------------------------------------- PostgreSQL
def postgres_restarts(soak: Soak, number: int) -> None:
    """Crashes of the ledger's server at random moments, two a study; one launch must do."""
    with Postgres() as server:
        environment = {LEDGER_PASSWORD: PASSWORD}
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        for count in range(1, number + 1, 2):
            name = f"postgres-{count}"
            driver = soak.launch(name, f"resources.ledger={server.url}", "search.max_concurrent=1", **environment)
            soak.when(name, "trials/*/0/0/config.json", driver)
            for _ in range(2):
                time.sleep(soak.random.uniform(0.2, 4))
                soak.counts["PostgreSQL crashes"] += driver.poll() is None
                server.stop()
                time.sleep(soak.random.uniform(0, 2))
                server.start()

            def once(name=name) -> None:
                url = server.url.replace("oraclegap@", f"oraclegap:{PASSWORD}@")
                for method in METHODS:
                    loaded = optuna.load_study(study_name=f"{name}/{method}/0", storage=url)
                    states = {trial.number: trial.state.name for trial in loaded.trials}
                    assert states == dict.fromkeys(range(TRIALS), "COMPLETE"), states

            soak.judge(name, driver.wait(), more=once)


# ------------------------------------------------------------------------------------------------------------------- nodes
def node_losses(soak: Soak, number: int) -> None:
    """Nodes of a cluster die under their trials, two a study, and others come."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        for count in range(1, number + 1, 2):
            name = f"nodes-{count}"
            driver = soak.launch(name, f"resources.address={json.dumps(cluster.address)}", "search.max_concurrent=3")
            soak.when(name, "trials/*/0/0/metrics.jsonl", driver)
            for _ in range(2):
                time.sleep(soak.random.uniform(0.2, 5))
                soak.counts["nodes lost"] += driver.poll() is None
                cluster.remove_node(nodes.pop(0), allow_graceful=False)
                nodes.append(cluster.add_node(num_cpus=1))
            soak.judge(name, driver.wait())
    finally:
        cluster.shutdown()


def main() -> int:
    """What is asked for; without any, everything at the size of the committed table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", help="where the studies go (default: a temporary folder)")
    parser.add_argument("--mlflow", action="store_true")
    parser.add_argument("--restarts", type=int, default=0)
    parser.add_argument("--nodes", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not (options.mlflow or options.restarts or options.nodes):
        options.mlflow, options.restarts, options.nodes = True, 10, 10
    os.environ.update(QUIET)
    began, soak = time.monotonic(), Soak(Path(options.folder or tempfile.mkdtemp()), options.seed)
    soak.folder.mkdir(parents=True, exist_ok=True)
    if options.mlflow:
        mlflow_outages(soak)
    else:
        soak.judge("undisturbed", soak.launch("undisturbed").wait())
    postgres_restarts(soak, options.restarts) if options.restarts else None
    node_losses(soak, options.nodes) if options.nodes else None
    print(json.dumps({**soak.counts, "problems": len(soak.problems), "minutes": round((time.monotonic() - began) / 60, 1)}))
    print("\n".join(soak.problems))
    return 1 if soak.problems else 0


if __name__ == "__main__":
    sys.exit(main())
