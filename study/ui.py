"""``oraclegap ui``: MLflow's own pages, opened on the studies' gaps.

The server listens on the loopback only and answers to exactly the two names a browser on this machine uses. MLflow
3.17's default patterns accept ``10.evil.com`` (``10.*``), which a page on the web can make point at 127.0.0.1; it has
no authentication, so no other address is offered: a colleague comes through ``ssh -L``.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from study.errors import EnvironmentProblem, UserError
from study.mlflow_server import check_server, tracking_uri, without_password
from study.mlflow_view import view_path

START_SECONDS = 60.0


def serve(
    root: Path, *, host: str = "127.0.0.1", port: int = 5000, open_browser: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Shows the studies under ``root`` in MLflow until interrupted; one line a study, with the address of its table.

    Raises UserError for an address others can reach or where no study was logged yet, EnvironmentProblem when the port
    is taken or MLflow does not start. With ``MLFLOW_TRACKING_URI`` naming a server, that one is shown, none started.
    """
    uri = tracking_uri(root)
    if uri.startswith(("http://", "https://")):
        check_server(uri)
        announce(without_password(uri).rstrip("/"), say=say, open_browser=open_browser)
        return
    with stop_signals(), server(root, uri=uri, host=host, port=port) as (address, process):
        announce(address, say=say, open_browser=open_browser)
        say("Ctrl-C ends it.")
        with contextlib.suppress(KeyboardInterrupt):
            process.wait()


@contextlib.contextmanager
def stop_signals() -> Iterator[None]:
    """Within, SIGTERM and a closed terminal end the server too, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def server(root: Path, *, uri: str, host: str, port: int) -> Iterator[tuple[str, subprocess.Popen]]:
    """A running MLflow server, (its address, its process); ended on leaving. ``port`` 0 takes a free one."""
    host, root = loopback(host), Path(root).resolve()
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise UserError(f"{root}: no study was logged to MLflow here yet; launch one, or name its folder with --root")
    port = free_port(host, port)
    # A browser names the server as it was told to; nothing else may, whatever name resolves to this machine.
    hosts = [f"{name}:{port}" for name in ("127.0.0.1", "localhost", f"[{host}]" if ":" in host else host)]
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1",
        "--allowed-hosts", ",".join(dict.fromkeys(hosts)),
        "--cors-allowed-origins", ",".join(dict.fromkeys(f"http://{name}" for name in hosts)),
        "--no-serve-artifacts", "--default-artifact-root", str(root / "mlartifacts"),
    ]  # fmt: skip
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, env=server_environment(uri), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )
        try:
            address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            wait_until_up(address, process, log)
            yield address, process
        finally:
            end(process)


def server_environment(uri: str) -> dict[str, str]:
    """This process's environment, with the store's address (a password may be in it: not on the command line)."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "_MLFLOW_"))}
    return inherited | {
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_AGENT_HINT": "1",
        "PYTHONSAFEPATH": "1",  # a folder named like a package, where the user stands, is not that package
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # two more processes, for features of language models
    }


def loopback(host: str) -> str:
    """``host`` as an address of this machine alone; UserError for any other."""
    if host == "localhost":
        return "127.0.0.1"
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return host
    raise UserError(
        f"--host {host}: MLflow's pages have no authentication, so they are shown on this machine only (127.0.0.1); "
        "from another one, `ssh -L 5000:127.0.0.1:5000 <this machine>` and open http://127.0.0.1:5000"
    )


def free_port(host: str, port: int) -> int:
    """``port``, or a free one for 0; EnvironmentProblem when it is taken."""
    if not 0 <= port < 65536:
        raise UserError(f"--port {port}: must be between 0 (a free one) and 65535")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as problem:
            raise EnvironmentProblem(
                f"port {port} of {host} cannot be used ({problem.strerror}); choose another with --port (0: a free one)"
            ) from None
        return probe.getsockname()[1]


def wait_until_up(address: str, process: subprocess.Popen, log) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=2) as answer:
            if answer.status == 200:
                return
        time.sleep(0.2)
    log.seek(0)
    lines = [line.strip() for line in log.read().splitlines() if line.strip()]
    raise EnvironmentProblem(f"MLflow's server did not start: {lines[-1][:200] if lines else 'it said nothing'}")


def end(process: subprocess.Popen) -> None:
    """Ends the server and what it started (they are a session of their own)."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
            return


def studies(address: str) -> list[tuple[str, str]]:
    """(name, experiment id) of the studies a server holds, the last changed first; empty where it may not be asked."""
    body = {"max_results": 1000, "order_by": ["last_update_time DESC"]}
    request = urllib.request.Request(
        f"{address}/api/2.0/mlflow/experiments/search", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            found = json.load(answer).get("experiments", [])
    except (OSError, ValueError):
        return []
    return [
        (experiment["name"], experiment["experiment_id"])
        for experiment in found
        if any(tag["key"] == "oraclegap.study" for tag in experiment.get("tags", []))
    ]


def announce(address: str, *, say: Callable[[str], None], open_browser: bool) -> None:
    found = studies(address)
    for name, experiment_id in found:
        say(f"{name}: {address}{view_path(experiment_id)}")
    if not found:
        say(f"MLflow: {address}")
    if open_browser:
        import webbrowser

        webbrowser.open(address + view_path(found[0][1]) if found else address)
