"""Do the methods do here what their authors say? Read from finished studies: ``claims.py runs/digits-all runs/cifar10-cpu``.

Each claim compares two numbers on the same splits, of the default configurations (trial 0, so that nothing was chosen),
and is printed as mean difference ± standard error over splits; with one split there is no error to give. Nothing here
decides anything: it is a check that a method runs as its authors mean it, and where it does not.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


def scorer(method: str, name: str) -> Callable[[dict], float | None]:
    """AUROC of one scorer of a method."""
    return lambda rows: rows[method]["scorers"].get(name) if method in rows else None


def signal(method: str, name: str) -> Callable[[dict], float | None]:
    """A nominal-only signal of a method."""
    return lambda rows: rows[method]["signals"].get(name) if method in rows else None


def column(method: str, name: str) -> Callable[[dict], float | None]:
    """Another number of a method's row."""
    return lambda rows: rows[method][name] if method in rows else None


@dataclass(frozen=True)
class Claim:
    """``first`` minus ``second`` should have the sign of ``expected``."""

    text: str
    source: str
    first: Callable[[dict], float | None]
    second: Callable[[dict], float | None]
    expected: int = 1


CLAIMS = [
    Claim("ensemble: lower validation NLL than one network", "Lakshminarayanan 2017",
          signal("deep_ensemble", "val_nll"), signal("classifier", "val_nll"), -1),
    Claim("ensemble: MSP of the mean softmax detects better than one network's", "Lakshminarayanan 2017",
          scorer("deep_ensemble", "msp"), scorer("classifier", "msp")),
    Claim("SVGD ensemble: MSP better than one network's", "D'Angelo & Fortuin 2021",
          scorer("svgd_ensemble", "msp"), scorer("classifier", "msp")),
    Claim("GODIN: −max h detects better than the classifier's MSP", "Hsu 2020",
          scorer("generalized_odin", "godin_h"), scorer("classifier", "msp")),
    Claim("GODIN: input perturbation helps −max h", "Hsu 2020",
          scorer("generalized_odin", "godin_h_perturbed"), scorer("generalized_odin", "godin_h")),
    Claim("JEM: its energy detects better than the classifier's MSP", "Grathwohl 2020",
          scorer("jem", "energy"), scorer("classifier", "msp")),
    Claim("JEM: approximate mass better than its energy", "Grathwohl 2020",
          scorer("jem", "approximate_mass"), scorer("jem", "energy")),
    Claim("CSI labelled: MSP marginalised over shifts better than of the image alone", "Tack 2020",
          scorer("csi", "msp"), scorer("csi", "csi_single")),
    Claim("CSI labelled: better than the classifier's MSP", "Tack 2020",
          scorer("csi", "msp"), scorer("classifier", "msp")),
    Claim("CSI unlabelled: combined score better than its contrastive part", "Tack 2020",
          scorer("csi_unlabelled", "csi"), scorer("csi_unlabelled", "csi_contrastive")),
    Claim("CSI unlabelled: combined score better than its shift part", "Tack 2020",
          scorer("csi_unlabelled", "csi"), scorer("csi_unlabelled", "csi_shift")),
    Claim("rotation as auxiliary task: MSP better than the classifier's", "Hendrycks 2019",
          scorer("auxiliary", "msp"), scorer("classifier", "msp")),
    Claim("hybrid: more for an oracle in z than in the classifier's", "the study, Q3",
          column("hybrid", "oracle_detector_auroc"), column("classifier", "oracle_detector_auroc")),
    Claim("hybrid: reconstruction error adds to max logit", "the study, Q3",
          scorer("hybrid", "reconstruction_and_max_logit"), scorer("hybrid", "max_logit")),
]


def defaults_by_split(summary: dict) -> dict[int, dict[str, dict]]:
    """{split: {method: row of trial 0}}, revealed rows only."""
    found: dict[int, dict[str, dict]] = {}
    for row in summary["rows"]:
        if row["trial"] == 0 and row["state"] == "completed" and row["scorer_auroc"] is not None:
            found.setdefault(row["split"], {})[row["method"]] = row
    return found


def differences(claim: Claim, splits: dict[int, dict[str, dict]]) -> list[float]:
    """First minus second, of every split that has both."""
    pairs = [(claim.first(rows), claim.second(rows)) for rows in splits.values()]
    return [a - b for a, b in pairs if a is not None and b is not None]


def line(claim: Claim, values: list[float]) -> str:
    """A row of the Markdown table."""
    if not values:
        return f"| {claim.text} | {claim.source} | – | 0 | not measured |"
    mean = statistics.fmean(values)
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    verdict = "as claimed" if mean * claim.expected > 0 else "not so"
    if len(values) > 1 and abs(mean) <= 2 * error:
        verdict = "within two standard errors of nothing"
    shown = f"{mean:+.3f}" if math.isnan(error) else f"{mean:+.3f} ± {error:.3f}"
    return f"| {claim.text} | {claim.source} | {shown} | {len(values)} | {verdict} |"


def main() -> None:
    """Prints one table for each study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="+", type=Path, help="folders of finished studies")
    for folder in parser.parse_args().studies:
        splits = defaults_by_split(json.loads((folder / "report" / "summary.json").read_text(encoding="utf-8")))
        print(f"\n{folder.name}, splits {sorted(splits)}\n")
        print("| claim | whose | difference | n splits | here |\n|---|---|--:|--:|---|")
        for claim in CLAIMS:
            print(line(claim, differences(claim, splits)))


if __name__ == "__main__":
    main()
