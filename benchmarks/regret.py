"""What choosing without labels costs, what tuning on labels would win, and how rules of fusion compare, as Markdown.

    python benchmarks/regret.py runs/signals-digits runs/signals-fashion-mnist runs/signals-cifar10

Reads the answers to `selection_regret` and `scorer_rules` in the summaries of studies that `oraclegap analyse` has asked; means
over methods.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from analysis import summary_rows as rows
from analysis.card import Table
from analysis.questions.selection_regret_card import GAINS, SELECTION
from trainables.files import read_json

ALL = "all methods"


def number(found: dict[str, Any] | None, *, sign: bool = True, interval: bool = False) -> str:
    """+0.013 ± 0.004, or with its interval."""
    if not found:
        return rows.MISSING
    text = (rows.signed if sign else rows.number)(found["value"])
    if interval and found.get("low") is not None:
        return f"{text} {rows.bounds([found['low'], found['high']], sign=sign)}"
    return text + (f" ± {rows.number(found['error'])}" if found.get("error") is not None else "")


def regret_table(studies: dict[str, Any]) -> Table:
    """A line a study: regret of the frozen selection, and the gains of a tuner with labels."""
    lines = []
    for name, questions in studies.items():
        one = questions["selection_regret"]["methods"][ALL]
        lost, tuning = one["regret"][SELECTION]["frozen_rule"], one["tuning"]
        crossfit = lost.get("crossfit")
        lines.append((name, number(lost["plain"], sign=False), number(crossfit, sign=False, interval=True),
                      *(number(tuning.get(key), interval=key in ("honest", "optimism")) for key in GAINS)))
    return Table(("study", "regret", "cross-fitted [95 %]", *GAINS.values()), tuple(lines))


def rules_table(studies: dict[str, Any]) -> Table:
    """A line a rule: its AUROC and its difference to the frozen rule, study by study."""
    found = {name: questions["scorer_rules"]["methods"][ALL]["rules"] for name, questions in studies.items()}
    names = list(dict.fromkeys(rule for table in found.values() for rule in table))
    lines = []
    for rule in names:
        cells = []
        for table in found.values():
            one = table.get(rule)
            against = (one or {}).get("against")
            cells.append(rows.MISSING if one is None else rows.number(one["auroc"]) if not against else
                         f"{rows.signed(against['difference'])} {rows.bounds([against['low'], against['high']], sign=True)} "
                         f"(p {against['p_adjusted']:.2f})")
        lines.append((rows.RULE_TITLES.get(rule, rows.scorer_title(rule)), *cells))
    return Table(("rule or scorer", *found), tuple(lines))


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", type=Path)
    studies = {path.name.removeprefix("signals-"): read_json(path / "report" / "summary.json")["questions"]
               for path in parser.parse_args().studies}
    print(regret_table(studies).markdown(), rules_table(studies).markdown(), sep="\n\n")


if __name__ == "__main__":
    main()
