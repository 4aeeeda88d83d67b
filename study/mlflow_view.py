"""What MLflow's own pages show of a study: the columns of its runs table, and the leaderboard in its note.

MLflow's runs table shows no metric until the user picks some. Its saved views, though, keep a whole table (columns,
their order and widths, sorting, filter) in a tag of the experiment; written here, they stand in the page's "Views"
menu, and ``…/#/experiments/<id>/runs?viewStateShareKey=gaps`` opens on one. MLflow 3.17 reads the tag as ``{"name",
"createdAt", "updatedAt", "state": "<JSON>"}``, versions before saved views as the state itself: both are written.
"""

from __future__ import annotations

import json
from urllib.parse import quote

NOTE_TAG = "mlflow.note.content"
VIEW_KEY = "gaps"
RUN_NAME = "attributes.`Run Name`"
VIEW_TAG = "mlflow.sharedViewState."

#: Columns with their widths in pixels; what a study does not have shows no column.
MEASURED = {
    "tags.`selected`": 80,
    "metrics.`test/scorer_auroc`": 132,
    "metrics.`gap/extraction`": 116,
    "metrics.`gap/representation`": 146,
    "metrics.`oracle/detector_auroc`": 158,
    "metrics.`oracle/representation_auroc`": 200,
    "metrics.`gap/extraction_max_logit`": 184,
}
NOMINAL = {
    "metrics.`signal/val_accuracy`": 140,
    "metrics.`signal/synthetic_outlier_auroc`": 215,
    "metrics.`signal/pseudo_novel_auroc`": 190,
    "metrics.`signal/val_nll`": 110,
    "params.`reconstruction_weight`": 175,
    "params.`learning_rate`": 120,
    "tags.`state`": 90,
}
#: Key in the address → (name in the Views menu, columns from left to right, the one it is sorted by).
VIEWS = {
    VIEW_KEY: ("Gaps", MEASURED | NOMINAL, "metrics.`test/scorer_auroc`"),
    "search": ("Search (nominal data only)", {"tags.`state`": 90} | NOMINAL, "metrics.`signal/val_accuracy`"),
}
WORKFLOW = "workflowType=machine_learning"
LEADERBOARD_ROWS = 25  # MLflow keeps 8000 characters of a note


def experiment_tags() -> dict[str, str]:
    """Tags of the study's experiment: which kind of page it is, and the saved views of its runs table."""
    views = {f"{VIEW_TAG}{key}": saved_view(*view) for key, view in VIEWS.items()}
    return {"mlflow.experimentKind": "custom_model_development", **views}


def saved_view(name: str, columns: dict[str, int], order: str) -> str:
    """The tag value of one saved view."""
    state = {
        "searchFilter": "tags.method LIKE '%'",  # the trials, not the study's own run, which has no gap
        "orderByKey": order,
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": list(columns),
        "columnOrder": [RUN_NAME, *columns],
        "columnWidths": {RUN_NAME: 180, "attributes.`Created`": 150} | columns,
        "runsHiddenMode": "SHOW_ALL",
    }
    envelope = {"name": name, "createdAt": 0, "updatedAt": 0, "state": json.dumps(state, separators=(",", ":"))}
    return json.dumps(envelope | state, separators=(",", ":"))


def view_path(experiment_id: str) -> str:
    """The page of the study's trials, to be put behind a server's address.

    Without ``workflowType`` a browser that sees MLflow for the first time gets the pages for language models.
    """
    return f"/#/experiments/{quote(experiment_id)}/runs?viewStateShareKey={VIEW_KEY}&{WORKFLOW}"


def experiment_note(experiment_id: str) -> str:
    return f"[The gaps of every trial]({view_path(experiment_id)[1:]}); also under *Views*."


def leaderboard(rows: list[dict], *, experiment_id: str, run_ids: dict[str, str]) -> str:
    """A Markdown table of ``rows`` (of summary.json), the selected ones first, then by the AUROC of their scorer."""
    ranked = sorted(rows, key=lambda row: (not row.get("selected"), -(row.get("scorer_auroc") or -1.0)))
    names = ("scorer_auroc", "oracle_detector_auroc", "oracle_representation_auroc", "extraction_gap",
             "representation_gap")
    lines = [
        "| trial | | scorer | oracle detector | oracle representation | extraction gap | representation gap |",
        "|:--|:--|--:|--:|--:|--:|--:|",
    ]
    for row in ranked[:LEADERBOARD_ROWS]:
        key = f"{row['method']}/{row['split']}/{row['trial']}"
        run_id = run_ids.get(key)
        name = f"[{key}](#/experiments/{experiment_id}/runs/{run_id}?{WORKFLOW})" if run_id else key
        mark = "**selected**" if row.get("selected") else row.get("state", "")
        cells = ["–" if row.get(column) is None else f"{row[column]:.3f}" for column in names]
        lines.append(f"| {name} | {mark} | " + " | ".join(cells) + " |")
    if len(ranked) > LEADERBOARD_ROWS:
        lines.append(f"\n{len(ranked) - LEADERBOARD_ROWS} more in the table of runs.")
    return "\n".join(lines)
