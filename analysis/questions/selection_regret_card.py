"""The words, tables and figure data of ``selection_regret``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis import gaps
from analysis import summary_rows as rows
from analysis.card import Card, Figure, Table
from analysis.plot_questions_rules import draw_optimism, draw_regret

TITLE = "What does choosing without labels cost, and what would tuning on labels win?"
RULES = {gaps.FROZEN_RULE: "frozen rule", "max_logit": "max logit", "all_mean": "mean of all"}
SELECTION = "frozen selection"
ALL = "all methods"
GAINS = {"won": "apparent gain on all test images", "apparent": "apparent gain, half of the classes",
         "honest": "honest gain, on the other classes", "optimism": "optimism: apparent − honest"}


def whole(result: Mapping[str, Any]) -> str:
    """The entry that speaks for the study: the mean over methods, or the only method."""
    return ALL if ALL in result["methods"] else next(iter(result["methods"]), "")


def _words(number: Mapping[str, Any] | None, *, interval: bool = False, sign: bool = True) -> str:
    if not number or number["value"] is None:
        return rows.MISSING
    value = (rows.signed if sign else rows.number)(number["value"])
    if interval and number["low"] is not None:
        return f"{value} {rows.bounds([number['low'], number['high']], sign=sign)}"
    error = number["error"]
    return value + (f" ± {rows.number(error)}" if error is not None else "")


def headline(result: Mapping[str, Any]) -> str:
    """What selecting without labels lost, and what of a tuner's gain is optimism."""
    one = result["methods"][whole(result)]
    lost = one["regret"][SELECTION][gaps.FROZEN_RULE]
    plain = _words(lost["plain"], interval=True, sign=False)
    text = f"Selecting without labels lost {plain} AUROC against the best trial and scorer in hindsight"
    if "crossfit" in lost:
        text += f", {_words(lost['crossfit'], interval=True, sign=False)} when that best is found on other images"
    tuning = one["tuning"]
    if "honest" not in tuning:
        return f"{text}."
    honest = tuning["honest"]
    left = f"{_words(honest, interval=True)} on the others"
    if honest["low"] is None:
        left += " (one set of classes: no interval)"
    elif honest["low"] <= 0 <= honest["high"]:
        left += ", nothing beyond noise"
    return (f"{text}. Tuning on labels of half of the anomaly classes would have seemed to win "
            f"{_words(tuning['apparent'])} there, and won {left}.")


def sentences(result: Mapping[str, Any]) -> list[str]:
    """What is to be known beside the tables."""
    one = result["methods"][whole(result)]
    fewest, most = one["trials"]
    count = str(fewest) if fewest == most else f"{fewest} to {most}"
    said = [f"Best of {count} trials × the scorers in use and the frozen rule, of each method and split."]
    if "optimism" in one["tuning"]:
        classes = one["classes"][0] if one["classes"][0] == one["classes"][1] else "the"
        share = one["tuning"]["optimism"]["value"] / one["tuning"]["apparent"]["value"] \
            if one["tuning"]["apparent"]["value"] else None
        told = f", {share:.0%} of the gain that was seen" if share is not None and 0 <= share <= 1 else ""
        said.append(f"Optimism, the gain that was seen minus the gain on classes that were not: "
                    f"{_words(one['tuning']['optimism'], interval=True)}{told}. Means over "
                    f"{rows.plural(one['divisions'], 'balanced division')} of {classes} anomaly classes, both ways, "
                    "with other nominal images on each side.")
    else:
        said.append("Fewer than two anomaly classes: what tuning on labels would win on other classes is not known.")
    if result["class_sets"] < 2:
        said.append("All splits have one set of nominal classes, so no number has an interval over splits.")
    return said


def regret_table(result: Mapping[str, Any], method: str) -> Table:
    """Signals, least plain regret of the frozen rule first; plain and (cross-fitted) by rule."""
    table = result["methods"][method]["regret"]
    lines = [(name, *(_both(one.get(rule)) for rule in RULES), str(_splits(one))) for name, one in table.items()]
    order = sorted(lines, key=lambda line: (line[0] != SELECTION, _plain(table[line[0]])))
    return Table(("trial chosen by", *(f"{title}" for title in RULES.values()), "splits"), tuple(order),
                 f"{method}: AUROC below the best trial and scorer in hindsight, by scorer rule",
                 "Mean ± standard error over splits, cross-fitted mean in parentheses. The mean of all is not among "
                 "the candidates for the best, so that it may be ahead of it (negative).",
                 folded=method != whole(result))


def _plain(one: Mapping[str, Any]) -> float:
    found = one.get(gaps.FROZEN_RULE)
    return float("inf") if found is None else found["plain"]["value"]


def _splits(one: Mapping[str, Any]) -> int:
    return max(numbers["plain"]["splits"] for numbers in one.values())


def _both(numbers: Mapping[str, Any] | None) -> str:
    if not numbers:
        return rows.MISSING
    crossfit = f" ({rows.signed(numbers['crossfit']['value'])})" if "crossfit" in numbers else ""
    return _words(numbers["plain"]) + crossfit


def tuning_table(result: Mapping[str, Any]) -> Table:
    """Per method what tuning on test labels would have won over the frozen selection."""
    lines = [(method, *(_words(one["tuning"].get(key), interval=key in ("honest", "optimism")) for key in GAINS),
              str(one["tuning"]["won"]["splits"])) for method, one in result["methods"].items()]
    return Table(("method", *GAINS.values(), "splits"), tuple(lines),
                 "What tuning on test labels would have won over the frozen selection",
                 "AUROC of the best trial and scorer by test labels − the frozen selection's; mean ± standard "
                 "error or 95 % t interval over splits. Half of the classes are fewer images, so that chance has more "
                 "to offer there than among all test images.")


def regret_data(result: Mapping[str, Any]) -> dict[str, Any]:
    """{"lines": [{"name", "rule", "plain", "crossfit", "error" (of the plain), "by_split" (plain)}], grouped by signal,
    those of the least regret first, "rules": titles, "title"}."""
    table, lines = result["methods"][whole(result)]["regret"], []
    for name in sorted(table, key=lambda name: (name != SELECTION, _plain(table[name]))):
        for rule in RULES:
            numbers = table[name].get(rule)
            if numbers:
                lines.append({"name": name, "rule": rule, "plain": numbers["plain"]["value"],
                              "crossfit": (numbers.get("crossfit") or {}).get("value"),
                              "error": numbers["plain"]["error"],
                              "by_split": list(numbers["plain"]["by_split"].values())})
    lost = table[SELECTION][gaps.FROZEN_RULE]
    more = f", {_words(lost['crossfit'], sign=False)} cross-fitted" if "crossfit" in lost else ""
    return {"lines": lines, "rules": dict(RULES),
            "title": f"Selecting without labels lost {_words(lost['plain'], sign=False)} AUROC{more}"}


def optimism_data(result: Mapping[str, Any]) -> dict[str, Any]:
    """{"methods", "lines": [{"method", "kind" (of ``GAINS``), "value", "error", "by_split"}], "kinds": titles,
    "title"}."""
    lines = [{"method": method, "kind": kind, "value": number["value"], "error": number["error"],
              "by_split": list(number["by_split"].values())}
             for method, one in result["methods"].items() if "honest" in one["tuning"]
             for kind, number in ((kind, one["tuning"][kind]) for kind in GAINS)]
    title = ""
    if lines:
        tuning = result["methods"][whole(result)]["tuning"]
        title = "What tuning on labels seems to win, and what it wins on other classes"
        if "honest" in tuning:
            title = (f"Tuning on labels seems to win {_words(tuning['apparent'])}, on other classes "
                     f"{_words(tuning['honest'])}")
    return {"methods": list(dict.fromkeys(line["method"] for line in lines)), "lines": lines, "kinds": dict(GAINS),
            "title": title}


def card(result: Mapping[str, Any]) -> Card:
    names = [whole(result), *(name for name in result["methods"] if name != whole(result))]
    regret, tuned = regret_data(result), optimism_data(result)
    told = "; ".join(f"{line['name']} with {RULES[line['rule']]} {rows.signed(line['plain'])}"
                     for line in regret["lines"])
    figures = [Figure("selection-regret", regret, draw_regret,
                      f"Dots with whiskers. {regret['title']}. Regret: {told}.",
                      f"{whole(result)}. Filled: plain, ± standard error over splits; hollow: the best found on other "
                      "images; ticks: single splits.")]
    if tuned["lines"]:
        told = "; ".join(f"{line['method']}, {GAINS[line['kind']]} {rows.signed(line['value'])}"
                         for line in tuned["lines"])
        figures.append(Figure("tuning-optimism", tuned, draw_optimism, f"Dots with whiskers. {tuned['title']}. {told}.",
                              "Gain over the frozen selection, ± standard error over splits; ticks: single splits."))
    return Card("selection_regret", TITLE, headline(result), tuple(sentences(result)),
                (tuning_table(result), *(regret_table(result, name) for name in names)), tuple(figures))
