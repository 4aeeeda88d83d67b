"""Which signal should choose, on splits that the defaults were chosen on and on splits that they were not.

    python benchmarks/signals.py runs/signals-digits:0,1,2 runs/signals-fashion-mnist:0,1 \
        --untouched runs/signals-digits:3,4,5 runs/signals-fashion-mnist:2,3 runs/signals-cifar10:0,1

With `--method classifier` of that method alone, whose fold models (`selection.fold_trials`) the others may lack.

Reads revealed studies that `oraclegap analyse` has asked, and prints Markdown: for every signal, way to combine them and
baseline, the regret (AUROC of the frozen rule below the best trial's of the split) and Kendall's τ, means over methods and
the splits named; ordered by regret on the first group alone, and a mean over the groups of either kind.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from analysis import summary_rows as rows
from analysis.questions.signal_leaderboard import MAIN, leaderboard, whole
from study.analyse import measured
from study.evidence import load_study
from study.spec import StudySpec
from trainables.files import read_json


def group(text: str) -> tuple[Path, list[int]]:
    """runs/x:0,1 → the folder and its splits; no splits: all."""
    path, _, splits = text.partition(":")
    return Path(path), [int(split) for split in splits.split(",") if split]


def entry(text: str, method: str) -> dict[str, Any]:
    """One column: its title, and by rule or baseline (regret, τ), of a method or "" for the mean over all."""
    folder, splits = group(text)
    spec, summary = StudySpec.load(folder / "spec.toml"), read_json(folder / "report" / "summary.json")
    study = load_study(summary, spec, folder, measured(spec, folder))
    found = leaderboard(study, splits=splits or spec.data.splits)
    table = found["methods"][method or whole(found)][MAIN]
    values = {name: (rule["regret"]["value"], rule["tau"]["value"]) for name, rule in table["rules"].items()}
    titles = {f"baseline: {title}": table["baselines"][name]["regret"]["value"] for name, title in found["baselines"].items()
              if name in table["baselines"]}
    values |= {title: (value, None) for title, value in titles.items()}
    return {"title": f"{folder.name.removeprefix('signals-')} {', '.join(found['splits'])}", "values": values,
            "costs": {name: record["cost"] for name, record in found["rules"].items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("development", nargs="+", metavar="STUDY:SPLITS")
    parser.add_argument("--untouched", nargs="+", default=[], metavar="STUDY:SPLITS")
    parser.add_argument("--method", default="", help="of this method alone (default: mean over all)")
    options = parser.parse_args()
    development, untouched = ([entry(text, options.method) for text in texts] for texts in (options.development, options.untouched))
    names = list(dict.fromkeys(name for column in (*development, *untouched) for name in column["values"]))
    costs = {name: cost for column in (*development, *untouched) for name, cost in column["costs"].items()}

    def mean(columns: list[dict[str, Any]], name: str, index: int) -> float | None:
        known = [column["values"].get(name, (None, None))[index] for column in columns]
        return None if None in known else rows.mean(known)

    names.sort(key=lambda name: (mean(development, name, 0) is None, mean(development, name, 0)))
    header = ["chosen by", "cost", *(f"{column['title']}" for column in development), "**development**",
              *(f"{column['title']}" for column in untouched), *["**untouched**"] * bool(untouched)]
    print("| " + " | ".join(header) + " |\n|---|---|" + "--:|" * (len(header) - 2))
    for name in names:
        cells = [f"`{name}`" if name in costs else f"*{name.removeprefix('baseline: ')}*", costs.get(name, "")]
        for columns in (development, untouched):
            cells += [_cell(*column["values"].get(name, (None, None))) for column in columns]
            cells += [f"**{_cell(mean(columns, name, 0), mean(columns, name, 1))}**"] if columns else []
        print("| " + " | ".join(cells) + " |")


def _cell(regret: float | None, tau: float | None) -> str:
    if regret is None:
        return rows.MISSING
    return rows.number(regret) + (f" ({rows.signed(tau, 2)})" if tau is not None else "")


if __name__ == "__main__":
    main()
