"""optuna-dashboard on the ledger of a study that is being searched, as the README says: a server of its own, read only."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from test_ledger import a_spec, outcome

from study.ledger import Ledger
from study.ui import free_port

pytest.importorskip("optuna_dashboard")


def asked(address: str, path: str, method: str = "GET") -> dict:
    with urllib.request.urlopen(urllib.request.Request(f"{address}/api/{path}", method=method), timeout=20) as answer:
        return json.load(answer)


def test_it_shows_a_running_search_and_cannot_change_it(tmp_path):
    ledger = Ledger(a_spec(), tmp_path)
    ledger.tell("classifier", 0, ledger.ask("classifier", 0), outcome(0.75))
    ledger.ask("classifier", 0), ledger.ask("hybrid", 0)
    port = free_port("127.0.0.1", 0)
    server = subprocess.Popen([sys.executable, "-c", "from optuna_dashboard._cli import main; main()", "--server", "wsgiref",
                               "--port", str(port), f"sqlite:///file:{tmp_path}/ledger.db?mode=ro&uri=true"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
        while True:
            try:
                names = {s["study_name"]: s["study_id"] for s in asked(address, "studies")["study_summaries"]}
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline
                time.sleep(0.1)
        assert set(names) == {"classifier/0", "hybrid/0"}
        shown = asked(address, f"studies/{names['classifier/0']}")
        assert [trial["state"] for trial in shown["trials"]] == ["Complete", "Running"]
        assert shown["trials"][0]["values"] == [0.75] and shown["objective_names"] == ["val_accuracy"]
        ledger.tell("hybrid", 0, ledger.unfinished("hybrid", 0)[0], outcome(0.5))  # the search is not held up by who looks
        with pytest.raises(urllib.error.HTTPError):
            asked(address, f"studies/{names['hybrid/0']}", method="DELETE")
        assert len(ledger.storage.get_all_studies()) == 2
    finally:
        server.terminate()
        server.wait(20)
