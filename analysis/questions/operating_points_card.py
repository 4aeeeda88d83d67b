"""How the answer to ``operating_points`` is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis import summary_rows as rows
from analysis.card import Card, Figure, Table
from analysis.gaps import FROZEN_RULE
from analysis.plot_questions_operating import draw_risk_coverage, draw_transfer

TITLE = "What would it cost to reject?"
SCORES = {FROZEN_RULE: "frozen rule", "max_logit": "max logit", "msp": "MSP", "oracle_detector": "oracle detector"}
MEASURES = {
    "missed": "anomalies accepted where 95 % of nominal are", "fpr_at_95_tpr": "nominal rejected where 95 % of anomalies are",
    "equal_error_rate": "equal error rate", "oscr": "OSCR", "aurc_closed": "AURC, closed set", "aurc_open": "AURC, open set",
}
MAIN = "0.95"
FIGURE_METHODS = 4  # panels of curves


def _words(number: Mapping[str, Any], key: str = "") -> str:
    digits = 4 if key.startswith("aurc") else 3
    error = f" ± {rows.number(number['error'], digits)}" if number["error"] is not None else ""
    return rows.number(number["value"], digits) + error


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def card(result: Mapping[str, Any]) -> Card:
    lines = [(f"{method} · {SCORES[name]}", *(_words(found[key], key) for key in MEASURES))
             for method, table in result["methods"].items() for name, found in table.items()]
    points = Table(("method · score", *MEASURES.values()), tuple(lines), "Operating points of the selected trials",
                   "Mean ± standard error over splits with different nominal classes; none with one. Smaller is better but for "
                   "OSCR. AURC: mean share of errors among the accepted, from the most nominal image to all; open set: an "
                   "accepted anomaly is an error too, so it depends on how many anomalies there are.", folded=len(lines) > 24)
    moved = [(f"{method} · {100 * float(aimed):.0f} %", _percent(found["accepted"]), f"{found['within']} of {found['splits']}",
              _percent(found["missed"]))
             for method, table in result["transfer"].items() for aimed, found in table.items()]
    transfer = Table(("method · aimed at", "nominal test images accepted", "splits within chance", "anomalies accepted"),
                     tuple(moved), "Thresholds of the frozen rule, set on nominal validation images",
                     "Within chance: inside the central 95 % of a beta-binomial law, for images that are exchangeable. "
                     "Validation images also chose the trial, so that a little too few accepted is to be expected.",
                     folded=len(moved) > 24)
    return Card("operating_points", TITLE, headline(result), sentences(result), (points, transfer), figures(result))


def headline(result: Mapping[str, Any]) -> str:
    """What passes at 95 % acceptance, and whether thresholds hold."""
    shares = {method: table[FROZEN_RULE]["missed"]["value"] for method, table in result["methods"].items()}
    low, high = min(shares.values()), max(shares.values())
    passed = _percent(low) if len(shares) == 1 else f"{_percent(low)} to {_percent(high)}"
    oracles = [table["oracle_detector"]["missed"]["value"] for table in result["methods"].values() if "oracle_detector" in table]
    told = ""
    if oracles:
        told = f", of the oracle detector {_percent(min(oracles))}" + (
            f" to {_percent(max(oracles))}" if len(oracles) > 1 else "")
    of = f" (over {len(shares)} methods)" if len(shares) > 1 else ""
    return (f"Where 95 % of nominal images are accepted, {passed} of the anomalies pass the frozen rule{told}{of}; "
            f"{_held(result)}.")


def _held(result: Mapping[str, Any]) -> str:
    found = [table[MAIN] for table in result["transfer"].values()]
    within, of = sum(one["within"] for one in found), sum(one["splits"] for one in found)
    accepted = [share for one in found for share, _, _ in one["by_split"].values()]
    reach = _percent(min(accepted)) if len(accepted) == 1 else f"{_percent(min(accepted))} to {_percent(max(accepted))}"
    chance = "which chance allows" if within == of else f"which chance allows in {within} of {of}"
    return f"thresholds set for that on validation images accepted {reach} of nominal test images, {chance}"


def sentences(result: Mapping[str, Any]) -> tuple[str, ...]:
    """How the frozen rule ranks errors of classification, and where it stands between none and ideal."""
    told = []
    for method, curves in result["curves"].items():
        ours, ideal = curves["closed"][FROZEN_RULE], curves["closed"]["ideal"]
        half = min(range(len(ours["coverage"])), key=lambda index: abs(ours["coverage"][index] - 0.8))
        told.append(f"{method}, split {curves['split']}: of nominal images {_percent(ours['risk'][-1])} are classified wrongly, of "
                    f"the most nominal {100 * ours['coverage'][half]:.0f} % by the frozen rule {_percent(ours['risk'][half])} (best "
                    f"possible: {_percent(ideal['risk'][half])}).")
    return tuple(told[:FIGURE_METHODS])


def curves_data(result: Mapping[str, Any]) -> dict[str, Any]:
    """{"panels": [{"label", "lines": {score's title: {"coverage", "risk"}}}], "title"}: closed, then open set of each of the
    first methods."""
    titles = {**SCORES, "ideal": "best order"}
    panels = [{"label": f"{method}: {kind} set", "lines": {titles[name]: line for name, line in curves[kind].items()}}
              for method, curves in list(result["curves"].items())[:FIGURE_METHODS] for kind in ("closed", "open")]
    return {"panels": panels, "title": "Share of errors among the accepted images, against how many are accepted"}


def transfer_data(result: Mapping[str, Any]) -> dict[str, Any]:
    """{"lines": [{"label", "aimed", "accepted", "low", "high"}], one for each method, split and aim, "title"}."""
    lines = [{"label": f"{method}, split {split}", "aimed": float(aimed), "accepted": accepted, "low": low, "high": high}
             for method, table in result["transfer"].items() for aimed, found in table.items()
             for split, (accepted, low, high) in found["by_split"].items()]
    within, of = (sum(found[key] for table in result["transfer"].values() for found in table.values())
                  for key in ("within", "splits"))
    return {"lines": lines, "title": f"{within} of {of} thresholds accept as many nominal test images as chance allows"}


def figures(result: Mapping[str, Any]) -> tuple[Figure, ...]:
    curves, transfer = curves_data(result), transfer_data(result)
    ends = "; ".join(f"{panel['label']}: frozen rule {rows.number(panel['lines']['frozen rule']['risk'][-1])} at full coverage"
                     for panel in curves["panels"])
    return (
        Figure("risk-coverage", curves, draw_risk_coverage, f"Risk against coverage. {ends}.",
               "First split of each method. Open set: an accepted anomaly is an error too. Best order: errors last."),
        Figure("threshold-transfer", transfer, draw_transfer, f"Dots in bars. {transfer['title']}.",
               "Bar: where the accepted share should lie, 95 %. Filled dot: it does; hollow: it does not. Dashed: aimed at."),
    )
