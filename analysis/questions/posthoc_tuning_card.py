"""The words, tables and figure data of ``posthoc_tuning``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis import summary_rows as rows
from analysis.card import Card, Figure, Table
from analysis.oracle_means import basis_words, difference_words, sign_of
from analysis.plot_questions_posthoc import draw_tuning

TITLE = "Does tuning the scorers' own parameters without labels pay?"
SETTLED = "settled"
CHOICES = {"settled": "as frozen", "feature_mixup_auroc": "mixed latents", "class_dropout_auroc": "classes left out",
           "val_nll": "validation NLL"}
MEANS = {"feature_mixup_auroc": "mixtures of two classes' latents",
         "class_dropout_auroc": "those of a class that the scorer's fit and the logits lack"}
FOUND = 0.05  # adjusted p


def card(result: Mapping[str, Any]) -> Card:
    data = figure_data(result)
    told = "; ".join(f"{line['scorer']} by {line['choice']} {rows.signed(line['value'])}" for line in data["lines"])
    figure = Figure("posthoc-tuning", data, draw_tuning, f"Dots with whiskers, a row for each scorer. {told}.",
                    "Test AUROC at the chosen parameters − at the default, 95 % intervals. Right of 0 it paid; filled: "
                    "beyond noise after Holm's correction.")
    return Card("posthoc_tuning", TITLE, headline(result), sentences(result),
                (differences_table(result), searches_table(result), parameters_table(result)), (figure,))


def verdict(result: Mapping[str, Any]) -> str:
    """Whether it pays, by which objective."""
    signs = {CHOICES[name]: sign_of(one["difference"]) for name, one in result["objectives"].items()}
    pays, costs = ([name for name, sign in signs.items() if sign == wanted] for wanted in (1, -1))
    if pays:
        also = f", and costs when chosen by {rows.listed(costs)}" if costs else ""
        return f"It pays beyond noise when chosen by {rows.listed(pays)}{also}"
    if costs:
        return f"It does not pay, and costs AUROC beyond noise when chosen by {rows.listed(costs)}"
    return "It does not pay beyond noise, whatever judges the settings"


def headline(result: Mapping[str, Any]) -> str:
    """The verdict and its numbers."""
    told = rows.listed(f"{difference_words(one['difference'])} by {CHOICES[name]}"
                       for name, one in result["objectives"].items())
    count = rows.plural(len(result["scorers"]), "scorer")
    return f"{verdict(result)}: tuning {count} on nominal features alone moved their mean test AUROC {told}."


def sentences(result: Mapping[str, Any]) -> tuple[str, ...]:
    said = ["The best setting is that which tells nominal validation images best from " + rows.listed(
        f"{MEANS[name]} ({CHOICES[name]})" for name in result["objectives"] if name in MEANS) +
        (", or has the least validation NLL." if "val_nll" in result["objectives"] else "."), _speed(result)]
    for name, one in result["objectives"].items():
        up, down = one["found"]
        moved = [c["choices"][name] for c in result["scorers"].values() if name in c["choices"]]
        changed = sum(choice["changed"] for choice in moved)
        rose, fell = (sum(choice[key] for choice in moved) for key in ("rose", "fell"))
        tests = f"{up} of {one['scorers']} scorers beyond noise, lowered it for {down}" if up or down else \
            f"none of {one['scorers']} scorers beyond noise"
        said.append(f"Chosen by {CHOICES[name]}: raised test AUROC for {tests} (Holm). Of {changed} choices other than "
                    f"the default it rose with {rose} and fell with {fell}.")
    ruled = {CHOICES[name]: found for name, found in result["rule"].items() if found}
    if ruled:
        told = rows.listed(f"{difference_words(found)} by {name}" for name, found in ruled.items())
        said.append(f"The frozen rule with its members' parameters tuned so would have had {told} AUROC.")
    return tuple(said)


def _speed(result: Mapping[str, Any]) -> str:
    took = {name: sum(choice["seconds"] for choice in one["choices"].values())
            for name, one in result["scorers"].items()}
    slowest = max(took, key=took.__getitem__)
    rate = result["settings"] / max(result["seconds"], 1e-9)
    alone = f", {rows.scorer_title(slowest)} alone {took[slowest]:.1f} s of it" if len(took) > 1 else ""
    return (f"{result['settings']:,} settings were tried in {result['seconds']:.1f} s ({rate:,.0f} a second{alone}) on "
            f"cached features of {rows.plural(result['trials'], 'selected trial')}; nothing was trained and no anomaly "
            "was seen.")


def differences_table(result: Mapping[str, Any]) -> Table:
    choices = [c for c in CHOICES if any(c in one["choices"] for one in result["scorers"].values())]
    lines = [(rows.scorer_title(name), rows.number(one["auroc"]),
              *(_difference(one["choices"].get(c)) for c in choices)) for name, one in _ordered(result).items()]
    found = [one["choices"][c]["difference"] for one in result["scorers"].values() for c in choices
             if c in one["choices"]]
    return Table(("scorer", "AUROC at the default", *(CHOICES[c] for c in choices)), tuple(lines),
                 "Test AUROC at the chosen parameters − at the default, mean over methods and splits",
                 f"95 % intervals {basis_words(found)}; * adjusted p ≤ {FOUND:g} (Holm over all searches). "
                 "As frozen: what the selection settled. The other columns: what chose the setting.")


def _difference(choice: Mapping[str, Any] | None) -> str:
    if choice is None:
        return rows.MISSING
    return difference_words(choice["difference"]) + (" *" if _sure(choice) else "")


def _sure(choice: Mapping[str, Any]) -> bool:
    return choice.get("p_adjusted") is not None and choice["p_adjusted"] <= FOUND


def searches_table(result: Mapping[str, Any]) -> Table:
    lines = [(f"{rows.scorer_title(name)} · {CHOICES[c]}", one["range"], str(choice["settings"]),
              rows.number(choice["seconds"], 2), rows.number(choice["before"]), rows.number(choice["after"]))
             for name, one in _ordered(result).items() for c, choice in one["choices"].items() if c != SETTLED]
    return Table(("scorer · chosen by", "searched", "settings", "seconds", "default", "best"), tuple(lines),
                 "The searches: settings tried, and what the objective said of the default and of the best",
                 "Mixed latents, classes left out: AUROC of nominal validation images against these stand-ins for "
                 "anomalies. Validation NLL: negated, in nats.", left=frozenset({1}), folded=True)


def parameters_table(result: Mapping[str, Any]) -> Table:
    lines = [(f"{rows.scorer_title(name)} · {CHOICES[c]}", _chosen(choice["parameters"]))
             for name, one in _ordered(result).items() for c, choice in one["choices"].items()]
    return Table(("scorer · chosen by", "parameters by method and split"), tuple(lines), "Parameters that were chosen",
                 left=frozenset({1}), folded=True)


def _chosen(by_trial: Mapping[str, Mapping[str, Any]]) -> str:
    """Equal choices once, with how many trials they are of."""
    told: dict[str, list[str]] = {}
    for trial, parameters in by_trial.items():
        text = ", ".join(f"{name} {rows.short(value)}" for name, value in parameters.items())
        told.setdefault(text, []).append(trial)
    return "; ".join(f"{text} ({rows.listed(trials) if len(trials) < 4 else f'{len(trials)} trials'})"
                     for text, trials in told.items())


def _ordered(result: Mapping[str, Any]) -> dict[str, Any]:
    """Scorers by what tuning moved them on average, most first."""
    def gain(one: Mapping[str, Any]) -> float:
        return rows.mean(choice["difference"]["mean"] for c, choice in one["choices"].items() if c != SETTLED) or 0.0

    return dict(sorted(result["scorers"].items(), key=lambda item: -gain(item[1])))


def figure_data(result: Mapping[str, Any]) -> dict[str, Any]:
    """{"title", "scorers": titles from the top, "choices": titles, "lines": [{"scorer", "choice", "value", "low",
    "high", "sure"}]}."""
    lines = [{"scorer": rows.scorer_title(name), "choice": CHOICES[c], "value": choice["difference"]["mean"],
              "low": choice["difference"]["low"], "high": choice["difference"]["high"], "sure": _sure(choice)}
             for name, one in _ordered(result).items() for c, choice in one["choices"].items() if c != SETTLED]
    return {"title": f"Tuning scorers without labels: {verdict(result)[0].lower()}{verdict(result)[1:]}",
            "scorers": list(dict.fromkeys(line["scorer"] for line in lines)),
            "choices": [CHOICES[c] for c in result["objectives"]], "lines": lines}
