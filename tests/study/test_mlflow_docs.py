"""``docs/howto/mlflow.md``: every filter in it finds what its words say in the store of a real study."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs" / "howto" / "mlflow.md"
#: Which runs (tags, metrics, params as dictionaries; the name) each filter should find, said in Python.
MEANT = {
    "tags.method LIKE '%'": lambda r: "method" in r.data.tags,
    "tags.`oraclegap.trial` = 'study'": lambda r: "method" not in r.data.tags,
    "tags.selected = 'true'": lambda r: r.data.tags.get("selected") == "true",
    "tags.method = 'classifier'": lambda r: r.data.tags.get("method") == "classifier",
    "attributes.run_name = 'classifier/0/1'": lambda r: r.info.run_name == "classifier/0/1",
    "tags.state = 'completed'": lambda r: r.data.tags.get("state") == "completed",
    "tags.state != 'completed'": lambda r: r.data.tags.get("state", "completed") != "completed",
    "tags.method LIKE '%' AND tags.split = '0'": lambda r: r.data.tags.get("split") == "0",
    "metrics.`signal/val_accuracy` > 0.5 AND metrics.`gap/extraction` > 0.0":
        lambda r: r.data.metrics.get("signal/val_accuracy", 0) > 0.5 and r.data.metrics.get("gap/extraction", 0) > 0,
    "metrics.`gap/extraction` < 0": lambda r: r.data.metrics.get("gap/extraction", 0) < 0,
    "metrics.`gap/extraction_max_logit` > 0.01 AND tags.selected = 'true'":
        lambda r: r.data.metrics.get("gap/extraction_max_logit", 0) > 0.01 and r.data.tags.get("selected") == "true",
    "params.width = '1.0' AND tags.method = 'classifier'":
        lambda r: r.data.params.get("width") == "1.0" and r.data.tags.get("method") == "classifier",
    "params.`search.sampler` = 'tpe'": lambda r: r.data.params.get("search.sampler") == "tpe",
    "dataset.name = 'digits-nominal-0'": lambda r: any(i.dataset.name == "digits-nominal-0" for i in r.inputs.dataset_inputs),
    "tags.`oraclegap.not_finite` LIKE '%'": lambda r: "oraclegap.not_finite" in r.data.tags,
    "tags.`oraclegap.changed.search.trials` LIKE '%'": lambda r: "oraclegap.changed.search.trials" in r.data.tags,
}
#: None of these is in a study that went well.
FINDS_NOTHING = ("tags.state != 'completed'", "oraclegap.not_finite", "oraclegap.changed", "`gap/extraction` < 0",
                 "extraction_max_logit")


def filters() -> list[str]:
    section = DOCS.read_text().split("## Finding runs")[1].split("\n## ")[0]
    cells = [line.rpartition(" | ")[2].rstrip("| ") for line in section.splitlines() if line.startswith("| ")][1:]
    return [found for cell in cells for pair in re.findall(r"``(.+?)``|(?<!`)`([^`]+)`(?!`)", cell) for found in pair if found]


@pytest.fixture(scope="module")
def client(tiny, tmp_path_factory):
    from study.mlflow_store import quiet_mlflow

    quiet_mlflow(server=False)
    from mlflow.tracking import MlflowClient

    database = shutil.copy(tiny.parent / "mlflow.db", tmp_path_factory.mktemp("docs") / "mlflow.db")
    return MlflowClient(tracking_uri=f"sqlite:///{database}")


def test_every_filter_of_the_page_is_tried():
    assert set(filters()) == set(MEANT)


@pytest.mark.parametrize("text", MEANT)
def test_a_filter_finds_what_its_words_say(client, text):
    everything = client.search_runs(["1"])
    found = client.search_runs(["1"], filter_string=text)
    expected = {run.info.run_name for run in everything if MEANT[text](run)}
    assert {run.info.run_name for run in found} == expected
    assert expected or any(part in text for part in FINDS_NOTHING)


def test_the_parents_note_is_a_leaderboard_with_a_link_to_every_trial(client):
    (parent,) = client.search_runs(["1"], filter_string="tags.`oraclegap.trial` = 'study'")
    trials = client.search_runs(["1"], filter_string="tags.method LIKE '%'")
    note = parent.data.tags["mlflow.note.content"]
    assert trials and all(f"[{t.info.run_name}](#/experiments/1/runs/{t.info.run_id}" in note for t in trials)
