"""λ (or any method's chief parameter) against AUROC in one or more finished studies, side by side.

    python benchmarks/lambda_curve.py runs/digits runs/cifar10 [--method hybrid] [--parameter reconstruction_weight]
        [--split 0] [--out lambda]

Writes <out>.svg and <out>.png and prints the marked choices: the one made from nominal images alone, and the one that
labelled test images would have made, with their AUROCs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def main() -> None:
    """Draws one panel for each study and split."""
    from analysis import curves
    from analysis.plot_base import finish, save
    from analysis.plot_curves import draw_parameter

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", type=Path, metavar="STUDY", help="a finished study's folder")
    parser.add_argument("--method", default="hybrid")
    parser.add_argument("--parameter", default="reconstruction_weight")
    parser.add_argument("--split", type=int, help="default: every split")
    parser.add_argument("--out", type=Path, default=Path("lambda"), help="the files' path without its ending")
    options = parser.parse_args()
    found = {}
    try:
        for folder in options.studies:
            summary = json.loads((folder / "report" / "summary.json").read_text(encoding="utf-8"))
            name = summary["study"] if summary["study"] not in found else str(folder)
            found[name] = curves.parameter_curve(summary, options.method, options.parameter, split=options.split)
        data = curves.side_by_side(found)
    except OSError as error:
        sys.exit(f"lambda_curve: {error.filename}: {error.strerror}; is this a finished study?")
    except ValueError as error:
        sys.exit(f"lambda_curve: {error}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    paths = save(finish(options.out.name, data, draw_parameter, data["title"], data["note"]), options.out.parent)
    print(curves.marks_table(data))
    print(f"\n{data['note']}\n{', '.join(map(str, paths))}".lstrip())


if __name__ == "__main__":
    main()
