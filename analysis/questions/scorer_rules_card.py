"""The words, tables and figure data of ``scorer_rules``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis import summary_rows as rows
from analysis.card import Card, Figure, Table
from analysis.fusion import RULES, rule_needs_folds
from analysis.gaps import FROZEN_RULE
from analysis.paired_tests import NOISE, OTHER_WAY, UNKNOWN, YES
from analysis.plot_questions_rules import draw_rules

TITLE = "How should several scorers become one detector?"
FINALISTS = 3
ACROSS = ("finalists_frozen_rule", "finalists_all_mean")
ALL = "all methods"
KINDS = {"frozen": "frozen rule", "means": "rule without fold models",
         "folds": "rule that ranks scorers by fold models", "finalists": f"mean over {FINALISTS} trials",
         "scorer": "one scorer, always the same"}
TITLES = {
    FROZEN_RULE: "frozen rule", "best": "best by fold models", "top_half_mean": "mean of the better half",
    "top3_mean": "mean of the best three", "all_mean": "mean of all", "family_mean": "mean of the families",
    "ecdf_mean": "mean of empirical CDFs", "fisher_sum": "Fisher's sum", "fisher_family": "Fisher's sum over families",
    "finalists_frozen_rule": f"frozen rule over {FINALISTS} trials",
    "finalists_all_mean": f"mean of all over {FINALISTS} trials",
}
VERDICTS = {YES: "better", OTHER_WAY: "worse", NOISE: "within noise", UNKNOWN: "not known"}



def kind_of(name: str) -> str:
    """Key of ``KINDS``."""
    if name == FROZEN_RULE:
        return "frozen"
    if name in ACROSS:
        return "finalists"
    if name in RULES:
        return "folds" if rule_needs_folds(name) else "means"
    return "scorer"


def whole(result: Mapping[str, Any]) -> str:
    """The entry that speaks for the study: the mean over methods, or the only method."""
    return ALL if ALL in result["methods"] else next(iter(result["methods"]), "")


def title_of(name: str) -> str:
    return TITLES.get(name, rows.scorer_title(name))


def headline(result: Mapping[str, Any]) -> str:
    """Whether a rule beats the frozen one beyond noise, with the difference."""
    found = result["methods"].get(whole(result), {}).get("rules") or {}
    if FROZEN_RULE not in found:
        return "The frozen rule was not measured."
    tested = {name: rule["against"] for name, rule in found.items()
              if rule["against"] and result["kinds"][name] != "scorer"}
    frozen = (f"the frozen rule ({rows.listed(title_of(name) for name in result['rule'])}, AUROC "
              f"{rows.number(found[FROZEN_RULE]['auroc'])})")
    if not tested or all(test["verdict"] == UNKNOWN for test in tested.values()):
        return f"Nothing tells whether another rule would beat {frozen}."
    ahead = sorted((name for name, test in tested.items() if test["verdict"] == YES),
                   key=lambda name: -tested[name]["difference"])
    if ahead:
        where = " on these images" if tested[ahead[0]]["basis"] == "images" else ""
        told = rows.listed(f"{title_of(name)} ({_difference(tested[name])})" for name in ahead)
        return f"Beyond noise{where}, {told} {'beats' if len(ahead) == 1 else 'beat'} {frozen}."
    name = max(tested, key=lambda name: tested[name]["difference"])
    if tested[name]["difference"] <= 0:
        return f"No other rule is ahead of {frozen}."
    low = tested[name]["low"]
    alone = "; beyond 0 by itself, not as one of so many" if low is not None and low > 0 else ""
    return (f"No rule beats {frozen} beyond noise, {rows.plural(len(tested), 'rule')} tested; the most ahead is "
            f"{title_of(name)} ({_difference(tested[name])}{alone}).")


def _difference(test: Mapping[str, Any]) -> str:
    return f"{rows.signed(test['difference'])} {rows.bounds([test['low'], test['high']], sign=True)}".strip()


def sentences(result: Mapping[str, Any]) -> list[str]:
    """What is to be known beside the table."""
    one = result["methods"].get(whole(result)) or {"rules": {}}
    found = one["rules"]
    if FROZEN_RULE not in found:
        return []
    said = ["The best single scorer of each trial, named by test labels, reaches "
            f"{rows.number(one['best_single']['auroc'])}; the loss of the frozen rule against it is "
            f"{_loss(found[FROZEN_RULE])}."]
    said += _fused_ahead(result, found)
    worse = [name for name, rule in found.items() if rule["against"] and rule["against"]["verdict"] == OTHER_WAY]
    if worse:
        said.append(f"Worse than the frozen rule beyond noise: {rows.listed(title_of(name) for name in worse)}.")
    if any(name in found for name in ACROSS):
        said.append(f"Across {FINALISTS} trials: the selected one and the next most accurate on validation images, so "
                    f"{FINALISTS} models look at each image; the others cost one.")
    return said


def _fused_ahead(result: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """That a fused score is ahead of the best single scorer, one trial's and several trials' apart."""
    said = []
    for kinds, where in ((("means", "folds"), "of the same trial"), (("finalists",), f"over {FINALISTS} trials")):
        fused = [name for name in found if result["kinds"][name] in kinds and found[name]["loss"] < -0.0005]
        if fused:
            best = min(fused, key=lambda name: found[name]["loss"])
            ahead = rows.number(-found[best]["loss"])
            error = found[best]["loss_error"]
            spread = f" ± {rows.number(error)}" if error is not None else ""
            said.append(f"{title_of(best)} by {ahead}{spread} ({where})")
    return [f"A fused score can be ahead of that best single scorer: {rows.listed(said)}."] if said else []


def _loss(rule: Mapping[str, Any]) -> str:
    error = rule["loss_error"]
    spread = f" ± {rows.number(error)}" if error is not None else ""
    return rows.signed(rule["loss"]) + spread


def table(result: Mapping[str, Any], method: str = "") -> Table:
    """Every rule and scorer of a method (the mean over methods by default), least loss first."""
    method = method or whole(result)
    one = result["methods"][method]
    lines = []
    for name, rule in sorted(one["rules"].items(), key=lambda item: item[1]["loss"]):
        error, test = rule["standard_error"], rule["against"]
        area = rows.number(rule["auroc"]) + (f" ± {rows.number(error)}" if error is not None else "")
        cells = (_difference(test), VERDICTS[test["verdict"]]) if test else (rows.MISSING, rows.MISSING)
        lines.append((title_of(name), area, _loss(rule), *cells, KINDS[result["kinds"][name]], str(rule["splits"])))
    tests = [rule["against"] for rule in one["rules"].values() if rule["against"]]
    basis = {"splits": "over splits (t interval)", "images": "over test images: one set of classes",
             "none": "without interval"}
    whence = basis[tests[0]["basis"]] if tests else ""
    return Table(
        ("rule", "AUROC", "loss", "against frozen rule", "verdict", "kind", "splits"), tuple(lines),
        f"{method}: rules on the selected trials, loss against the best single scorer in hindsight",
        "Means ± standard error over splits; a negative loss is ahead of every single scorer. Difference to the frozen "
        f"rule {whence}, 95 %; a verdict needs p < 0.05 after Holm, over all rules or over all single scorers.",
        left=frozenset({4, 5}), folded=method != whole(result))


def card(result: Mapping[str, Any]) -> Card:
    names = [whole(result), *(name for name in result["methods"] if name != whole(result))]
    figures, data = [], rules_data(result)
    if data["lines"]:
        told = "; ".join(f"{line['title']} {rows.signed(line['value'])}" for line in data["lines"])
        figures.append(Figure("scorer-rules", data, draw_rules, f"Dots with whiskers. {data['title']}. Loss: {told}.",
                              f"{whole(result)}. Whiskers: ± standard error over splits; ticks: single splits. Filled: "
                              "differs from the frozen rule beyond noise. Left of 0: ahead of the best single scorer."))
    return Card("scorer_rules", TITLE, headline(result), tuple(sentences(result)),
                tuple(table(result, name) for name in names if name), tuple(figures))


def rules_data(result: Mapping[str, Any]) -> dict[str, Any]:
    """{"lines": [{"name", "title", "kind", "value" (loss), "error", "by_split", "sure"}], least first, "frozen": its
    loss, "kinds": titles, "title"}."""
    found = (result["methods"].get(whole(result)) or {"rules": {}})["rules"]
    lines = [{"name": name, "title": title_of(name), "kind": result["kinds"][name], "value": rule["loss"],
              "error": rule["loss_error"], "by_split": list(rule["by_split"].values()),
              "sure": bool(rule["against"]) and rule["against"]["verdict"] in (YES, OTHER_WAY)}
             for name, rule in found.items()]
    lines.sort(key=lambda line: line["value"])
    better = sum(line["sure"] and found[line["name"]]["against"]["verdict"] == YES and line["kind"] != "scorer"
                 for line in lines)
    title = f"{rows.plural(better, 'rule')} beyond noise better than the frozen one" if better else \
        "No rule beats the frozen one beyond noise"
    frozen = found[FROZEN_RULE]["loss"] if FROZEN_RULE in found else None
    return {"lines": lines, "frozen": frozen, "kinds": dict(KINDS), "title": title}
