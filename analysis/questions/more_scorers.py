"""How would scorers that were not in use have done? Any scorer can be measured on a finished study, from cached features.

They were not candidates when the selection was frozen, so no rule and no regret counts them: naming the best of many after
the reveal is tuning on test labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis import summary_rows as rows
from analysis.card import Card, Table
from analysis.evidence import StudyEvidence, TrialEvidence
from analysis.gaps import finite_or_none
from analysis.metrics import auroc
from analysis.over_splits import mean_of
from analysis.questions import Question


def measure(evidence: TrialEvidence, *, scorers: Sequence[str] | str = ()) -> dict[str, Any] | None:
    """{scorer: test AUROC, or None where its scores are not finite} of those not in use; "all" means every one that this
    method can use."""
    from analysis.scorers import usable_scorers

    usable = usable_scorers(evidence.own, linear_head=evidence.linear_head)
    wanted = usable if scorers == "all" else [name for name in scorers if name in usable]
    return {name: _auroc(evidence, name) for name in wanted if name not in evidence.scorers} or None


def _auroc(evidence: TrialEvidence, name: str) -> float | None:
    try:
        return finite_or_none(auroc(evidence.score(name), evidence.is_anomaly))
    except ValueError:  # scores that are not numbers
        return None


def applicable(study: StudyEvidence) -> str:
    if not study.of("more_scorers"):
        return "No further scorer was asked for; `oraclegap analyse STUDY --scorers all` measures every one there is."
    return ""


def compute(study: StudyEvidence) -> dict[str, Any]:
    """{"scorers": {scorer: {method: {"auroc", "standard_error", "splits"}}}, "frozen_rule": {method: …}, "count"}: means over
    splits of the selected trials."""
    selected = {(row["method"], row.get("split", 0)): row for row in rows.selected_rows(study.summary)}
    found: dict[str, dict[str, dict[Any, float | None]]] = {}
    for (method, split, trial), values in study.of("more_scorers").items():
        if selected.get((method, split), {}).get("trial") != trial:
            continue
        for name, value in values.items():
            found.setdefault(name, {}).setdefault(method, {})[split] = value
    frozen: dict[str, dict[Any, float | None]] = {}
    for (method, split), row in selected.items():
        frozen.setdefault(method, {})[split] = rows.finite(row.get("scorer_auroc"))
    return {
        "scorers": {name: {m: _mean(study, by_split) for m, by_split in table.items()} for name, table in found.items()},
        "frozen_rule": {method: _mean(study, by_split) for method, by_split in frozen.items()}, "count": len(found),
    }


def _mean(study: StudyEvidence, by_split: Mapping[Any, float | None]) -> dict[str, Any]:
    mean = mean_of(study.summary, by_split)
    return {"auroc": mean.value, "standard_error": mean.error, "splits": mean.n}


def card(result: Mapping[str, Any]) -> Card:
    methods = list(result["frozen_rule"])
    best = {m: max((table[m]["auroc"] or 0.0 for table in result["scorers"].values() if m in table), default=0.0)
            for m in methods}
    ahead = [m for m in methods if best[m] > (result["frozen_rule"][m]["auroc"] or 0.0)]
    headline = (f"Of {result['count']} scorers that were not in use, the best would have been ahead of the frozen rule for "
                f"{rows.listed(ahead) if ahead else 'no method'}")
    lines = [("frozen rule", *(_words(result["frozen_rule"][m]) for m in methods))]
    lines += [(rows.scorer_title(name), *(_words(table.get(m)) for m in methods))
              for name, table in result["scorers"].items()]
    return Card(
        "more_scorers", QUESTION.title, f"{headline}.",
        ("The best of many, named after looking, is too good by chance: to use one, name it in a spec before the reveal.",),
        (Table(("scorer", *methods), tuple(lines), "AUROC of the selected trials, mean ± standard error over splits"),),
    )


def _words(found: Mapping[str, Any] | None) -> str:
    if not found or found["auroc"] is None:
        return rows.MISSING
    error = found["standard_error"]
    return rows.number(found["auroc"]) + (f" ± {rows.number(error)}" if error is not None else "")


QUESTION = Question(
    name="more_scorers", title="How would other scorers have done?", measure=measure, compute=compute, card=card,
    applicable=applicable, scope="trial", options=("scorers",),
)
