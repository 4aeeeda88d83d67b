"""The README's table of a finished study: per method the means over its splits ± standard error.

    python benchmarks/study_table.py runs/cifar10 [runs/digits …]

Read from each study's report/summary.json: the trials that nominal images alone selected, of the searched seed. Gaps are
AUROC; regret is what not seeing labels cost, cross-fitted in parentheses.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def main() -> None:
    """Prints one table for each folder."""
    from analysis.over_splits import markdown

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", type=Path, metavar="STUDY", help="a finished study's folder")
    for folder in parser.parse_args().studies:
        try:
            summary = json.loads((folder / "report" / "summary.json").read_text(encoding="utf-8"))
        except OSError as error:
            sys.exit(f"study_table: {error.filename}: {error.strerror}; is this a finished study?")
        counts = ", ".join(f"{number} {state}" for state, number in summary["counts"].items() if number)
        print(f"### {summary['study']} ({counts}; selection {summary['digest'][:16]})\n\n{markdown(summary)}\n")


if __name__ == "__main__":
    main()
