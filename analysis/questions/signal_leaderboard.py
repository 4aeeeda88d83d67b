"""Which nominal-only signal should be trusted to choose a trial, and does any beat not choosing at all?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from analysis import leaderboard as board
from analysis import leaderboard_asides as asides
from analysis import summary_rows as rows
from analysis.card import Card, Figure, Table
from analysis.evidence import StudyEvidence, TrialEvidence
from analysis.gaps import finite_or_none
from analysis.plot_data import bias_of
from analysis.plot_questions_signals import draw_regret, draw_tau
from analysis.questions import Question
from analysis.rank_correlation import ENOUGH_SPLITS
from analysis.signals import get_signal, missing_signals, signal_names

MAIN = "frozen_rule"
FEW_TRIALS = 8
RULE_TITLES = {
    "borda": "mean rank of accuracy, NLL and synthetic outliers", "borda_folds": "the same and pseudo-novel AUROC",
    "best_elsewhere": "the signal of the best τ on other splits", "ridge": "ridge regression learned on other splits",
    "ridge_folds": "the same with pseudo-novel AUROC",
}


def measure(evidence: TrialEvidence) -> dict[str, Any]:
    """{"signals": every signal of the trial}: those it recorded, and those of the registry that came after it."""
    later = missing_signals(evidence.signals, evidence.train, evidence.validation)
    return finite_or_none({"signals": {**later, **evidence.signals}})


def applicable(study: StudyEvidence) -> str:
    most = max((len(sweep.numbers) for table in _sweeps(study).values() for sweep in table.values()), default=0)
    if most < FEW_TRIALS:
        return (f"No method has {FEW_TRIALS} completed and revealed trials of one split (the most is {most}): "
                "too few to say how well a signal orders them.")
    return ""


def _sweeps(study: StudyEvidence, splits: Iterable[Any] | None = None) -> dict[str, dict[Any, board.Sweep]]:
    return board.sweeps(study.summary, study.of("signal_leaderboard"), None if splits is None else set(splits))


def compute(study: StudyEvidence) -> dict[str, Any]:
    """``leaderboard`` of every split:

    "biased": why the trials favour a signal, or ""; "prior_reveals", "contaminated": as in the summary; "signal": the
    one that selected; "splits", "class_sets": how many; "rules": {name: {"title", "kind", "cost", "direction"}} with
    kind "signal", "mean of ranks" or "learned"; "baselines", "targets": titles by name; "best_fixed": {method: scorer};
    "methods": {method, or "all methods" for their mean: {target: {"trials", "best", "spread", "rules", "baselines",
    "learned"}}}. A rule: {"tau": {"value", "low", "high", "basis", "splits", "by_split", "p_value",
    "adjusted", "verdict" (against 0)}, "regret": {"value", "error",
    "splits", "by_split"}, "against": {baseline: {"difference" (baseline's regret − the rule's), "low", "high",
    "p_value", "adjusted", "verdict", "splits"}}}. "lambda": ``leaderboard_asides.lambda_choice`` of each
    method that has λ, by method; "augmentation": ``leaderboard_asides.augmentation`` by method.
    """
    return leaderboard(study)


def leaderboard(study: StudyEvidence, *, splits: Iterable[Any] | None = None) -> dict[str, Any]:
    """What ``compute`` describes, of some splits only: defaults are chosen on some and reported on others."""
    summary, found = study.summary, _sweeps(study, splits)
    names = {split for table in found.values() for split in table}
    known = summary.get("nominal_classes") or {}
    classes = {split: frozenset(known.get(str(split), [f"split {split}"])) for split in names}
    selecting = str((study.spec.get("selection") or {}).get("signal") or next(
        (row.get("signal") for row in rows.trial_rows(summary) if row.get("signal")), "val_accuracy"))
    raw = {method: {target: board.measure_target(table, classes, target, selecting) for target in board.TARGETS}
           for method, table in found.items()}
    if len(raw) > 1:
        raw[board.ALL] = {target: board.averaged([one[target] for one in raw.values()]) for target in board.TARGETS}
    methods = {method: {target: board.judged(summary, one) for target, one in table.items() if one["best"]}
               for method, table in raw.items()}
    lambdas = {method: asides.lambda_choice(summary, method, table, classes, MAIN) for method, table in found.items()}
    strong = {method: asides.augmentation(summary, table, MAIN) for method, table in found.items()}
    rules = list(dict.fromkeys(name for table in methods.values() for one in table.values() for name in one["rules"]))
    return finite_or_none(_rounded({
        "biased": bias_of(study.spec), "prior_reveals": summary.get("prior_reveals") or 0,
        "contaminated": bool(summary.get("contaminated")), "signal": selecting, "splits": sorted(map(str, names)),
        "class_sets": len(set(classes.values())), "rules": {name: _record(name) for name in rules},
        "baselines": dict(board.BASELINES), "targets": dict(board.TARGETS),
        "best_fixed": {method: board.best_fixed(table) for method, table in found.items()}, "methods": methods,
        "lambda": {method: one for method, one in lambdas.items() if one},
        "augmentation": {method: one for method, one in strong.items() if one},
    }))


def _rounded(value: Any) -> Any:
    """Ten digits, as in selection.json: beyond them floats say how sums were ordered."""
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return float(f"{value:.10g}") if isinstance(value, float) else value


def _record(name: str) -> dict[str, Any]:
    if name in signal_names():
        info = get_signal(name)
        return {"title": info.title, "kind": "signal", "cost": info.cost, "direction": info.direction}
    folds = name.endswith("_folds") or name == "best_elsewhere"
    kind = "mean of ranks" if name in board.BORDA else "learned"
    cost = ("1 to 1 + folds" if name == "best_elsewhere" else "1 + folds") if folds else "1"
    return {"title": RULE_TITLES[name], "kind": kind, "cost": cost, "direction": "maximize"}


# ------------------------------------------------------------------------------------------------------- words
def whole(result: Mapping[str, Any]) -> str:
    """The entry that speaks for the study: the mean over methods, or the only method."""
    return board.ALL if board.ALL in result["methods"] else next(iter(result["methods"]), "")


def headline(result: Mapping[str, Any]) -> str:
    """Which signals beat the default and a random trial, in one sentence, with the regrets."""
    found = result["methods"].get(whole(result), {}).get(MAIN)
    if not found:
        return "No trial was measured with the frozen rule."
    signals = [name for name in found["rules"] if result["rules"][name]["kind"] == "signal"]
    ahead = {base: _verdicts(found, signals, base, "better") for base in ("default", "random")}
    best = min(signals, key=lambda name: _regret(found["rules"][name], worst=True), default=None)
    if best is None:
        return "No signal is known for half of the trials."
    lost = f"choosing by {best} lost {_mean(found['rules'][best]['regret'])} AUROC"
    bases = " and ".join(f"{_mean(found['baselines'][base]['regret'])} {word}" for base, word in
                         (("default", "by the default configuration"), ("random", "by a random trial"))
                         if base in found["baselines"])
    if result["class_sets"] < ENOUGH_SPLITS:
        return f"Too few splits to name a signal: at best {lost}, against {bases}."
    both = [name for name in ahead["random"] if name in ahead["default"]]
    if both:
        verb = "chooses" if len(both) == 1 else "choose"
        return (f"{_listed_some(both)} {verb} better than both the default configuration and a "
                f"random trial: at best {lost}, against {bases}.")
    if ahead["random"]:
        return (f"No signal chooses better than the default configuration beyond noise; "
                f"{_listed_some(ahead['random'])} better than a random trial: at best {lost}, against {bases}.")
    if ahead["default"]:
        return (f"{_listed_some(ahead['default'])} better than the default configuration, but none better than a "
                f"random trial beyond noise: at best {lost}, against {bases}.")
    return ("No signal chooses better than the default configuration or a random trial beyond noise: "
            f"at best {lost}, against {bases}.")


def _listed_some(names: list[str], most: int = 4) -> str:
    return rows.listed(names if len(names) <= most else [*names[:most], f"{len(names) - most} more"])


def _verdicts(found: Mapping[str, Any], names: Iterable[str], base: str, verdict: str) -> list[str]:
    chosen = [name for name in names if (found["rules"][name]["against"].get(base) or {}).get("verdict") == verdict]
    return sorted(chosen, key=lambda name: _regret(found["rules"][name]))


def _regret(rule: Mapping[str, Any], *, worst: bool = False) -> tuple[int, float]:
    """Sorts rules: those of most splits first, then by regret."""
    value = rule["regret"]["value"]
    return (-rule["regret"]["splits"] if worst else 0, float("inf") if value is None else value)


def _mean(found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return rows.MISSING
    return rows.number(found["value"]) + (f" ± {rows.number(found['error'])}" if found["error"] is not None else "")


def table(result: Mapping[str, Any], *, method: str = "", target: str = MAIN) -> Table:
    """The leaderboard of one method (the mean over methods by default): rules by regret, baselines among them."""
    method = method or whole(result)
    found = result["methods"][method][target]
    lines = []
    for name, rule in found["rules"].items():
        verdicts = tuple(_against(rule["against"].get(base)) for base in board.BASELINES)
        lines.append((_regret(rule)[1], (name, _tau(rule["tau"]), _mean(rule["regret"]), *verdicts,
                                         result["rules"][name]["cost"], str(rule["regret"]["splits"]))))
    blank = (rows.MISSING,) * len(board.BASELINES)
    for name, base in found["baselines"].items():
        value = base["regret"]["value"]
        lines.append((float("inf") if value is None else value,
                      (f"baseline: {result['baselines'][name]}", rows.MISSING, _mean(base["regret"]), *blank,
                       "1" if name == "hindsight" else "none", str(base["regret"]["splits"]))))
    lines.append((0.0, ("baseline: test labels", "+1.00", "0.000", *blank, "test labels",
                        str(found["best"]["splits"]))))
    cells = tuple(cells for _, cells in sorted(lines, key=lambda item: item[0]))
    basis = next((rule["tau"]["basis"] for rule in found["rules"].values() if rule["tau"]["value"] is not None), "none")
    whence = {"splits": "t interval over splits", "trials": "interval over trials of these splits alone",
              "none": "too few trials or splits for an interval"}[basis]
    return Table(
        ("signal", "Kendall τ", "regret", "against default", "against random", "against hindsight scorer", "cost",
         "splits"), cells, f"{method}, AUROC of the {result['targets'][target]}"
               + (f" (biased: {result['biased']})" if result["biased"] else ""),
        f"τ: {whence}. Regret: AUROC below the best trial's, mean ± standard error over splits. “Against”: AUROC "
        "gained over the baseline, paired over splits; a verdict needs p < 0.05 after Holm over all rules of the "
        "column. Cost in trainings of a trial. The hindsight scorer is another one, so that its regret may be negative; "
        "the default is itself among the trials that a signal may choose. What is learned needs labels of other splits.",
        left=frozenset({3, 4, 5, 6}), folded=not (method == whole(result) and target == MAIN))


def _against(found: Mapping[str, Any] | None) -> str:
    if not found or found["difference"] is None:
        return rows.MISSING
    return f"{rows.signed(found['difference'])}, {found['verdict']}"


def _tau(tau: Mapping[str, Any]) -> str:
    if tau["value"] is None:
        return rows.MISSING
    return f"{rows.signed(tau['value'], 2)} {rows.bounds([tau['low'], tau['high']], 2, sign=True)}".strip()


def markdown(result: Mapping[str, Any], *, method: str = "", target: str = MAIN) -> str:
    """The table for a README."""
    return table(result, method=method, target=target).markdown()


def card(result: Mapping[str, Any]) -> Card:
    methods = result["methods"]
    tables = [table(result)] if MAIN in methods.get(whole(result), {}) else []
    wanted = [*((whole(result), target) for target in result["targets"]), *((method, MAIN) for method in methods)]
    tables += [table(result, method=method, target=target) for method, target in dict.fromkeys(wanted)
               if target in methods.get(method, {}) and (method, target) != (whole(result), MAIN)]
    return Card("signal_leaderboard", QUESTION.title, headline(result), tuple(sentences(result)), tuple(tables),
                tuple(_figures(result)))


def sentences(result: Mapping[str, Any]) -> list[str]:
    """What is to be known beside the table."""
    said = []
    if result["biased"]:
        said.append(f"Biased: {result['biased']}, so that the signal that steered looks better or worse than it is.")
    count = result["prior_reveals"]
    said.append("No earlier reveal of these anomalies is on record here." if not count else
                f"These anomalies had been revealed before ({rows.plural(count, 'time')}): a signal chosen after "
                "looking at them is not untouched by them.")
    found = result["methods"].get(whole(result), {}).get(MAIN)
    if found:
        names = list(found["rules"])
        below = [name for name in names if found["rules"][name]["tau"]["verdict"] == "worse"]
        if below:
            said.append(f"{_listed_some(below)} order{'s' if len(below) == 1 else ''} trials the wrong way round.")
        worse = _verdicts(found, names, "default", "worse")
        if worse:
            said.append(f"Choosing by {_listed_some(worse)} is worse than keeping the default configuration.")
    said += [asides.lambda_sentence(one) for one in result["lambda"].values()]
    return said + [asides.augmentation_sentence(method, one) for method, one in result["augmentation"].items()]


# ----------------------------------------------------------------------------------------------------- figures
def tau_data(result: Mapping[str, Any], *, target: str = MAIN) -> dict[str, Any]:
    """{"lines": [{"name", "kind", "value", "low", "high", "sure", "by_split"}], best first, "title"}."""
    lines = []
    for name, rule in result["methods"][whole(result)][target]["rules"].items():
        tau = rule["tau"]
        if tau["value"] is not None:
            lines.append({"name": name, "kind": result["rules"][name]["kind"], "value": tau["value"], "low": tau["low"],
                          "high": tau["high"], "sure": tau["verdict"] in ("better", "worse"),
                          "by_split": [v for v in tau["by_split"].values() if v is not None]})
    lines.sort(key=lambda line: -line["value"])
    right = sum(line["sure"] and line["value"] > 0 for line in lines)
    if result["class_sets"] < ENOUGH_SPLITS:
        title = "How well signals order trials: too few splits to name any"
    else:
        title = f"{right or 'None'} of {len(lines)} ways to rank trials order them rightly beyond noise"
    return {"lines": lines, "title": title}


def regret_data(result: Mapping[str, Any], *, target: str = MAIN) -> dict[str, Any]:
    """{"lines": [{"name", "kind", "value", "error", "by_split", "beats"}], least first, "baselines": {name: regret},
    "titles", "title"}."""
    found, lines = result["methods"][whole(result)][target], []
    for name, rule in found["rules"].items():
        regret = rule["regret"]
        if regret["value"] is not None:
            beats = all((rule["against"].get(base) or {}).get("verdict") == "better" for base in ("default", "random"))
            lines.append({"name": name, "kind": result["rules"][name]["kind"], "value": regret["value"],
                          "error": regret["error"], "beats": beats,
                          "by_split": [v for v in regret["by_split"].values() if v is not None]})
    lines.sort(key=lambda line: line["value"])
    bases = {name: base["regret"]["value"] for name, base in found["baselines"].items()
             if base["regret"]["value"] is not None}
    beating = sum(line["beats"] for line in lines)
    title = f"{beating or 'None'} of {len(lines)} ways to choose a trial beat both the default and a random trial"
    if result["class_sets"] < ENOUGH_SPLITS:
        title = "What choosing by a signal loses: too few splits to name a winner"
    short = {"default": "default configuration", "random": "random trial",
             "hindsight": "best fixed scorer in hindsight"}
    return {"lines": lines, "baselines": bases, "titles": {name: short[name] for name in bases},
            "title": title}


def _figures(result: Mapping[str, Any]) -> list[Figure]:
    made = []
    if not result["methods"].get(whole(result), {}).get(MAIN):
        return made
    tau, regret = tau_data(result), regret_data(result)
    if tau["lines"]:
        told = "; ".join(f"{line['name']} {rows.signed(line['value'], 2)}" for line in tau["lines"])
        made.append(Figure("signal-tau", tau, draw_tau, f"Dots with whiskers. {tau['title']}. Kendall τ: {told}.",
                           f"{whole(result)}, frozen rule. Whiskers: 95 % intervals of each alone. Filled: "
                           "beyond noise over splits after Holm over all. Line at 0: no relation."))
    if regret["lines"]:
        told = "; ".join(f"{line['name']} {rows.number(line['value'])}" for line in regret["lines"])
        bases = "; ".join(f"{regret['titles'][name]} {rows.number(value)}"
                          for name, value in regret["baselines"].items())
        made.append(Figure("signal-regret", regret, draw_regret,
                           f"Dots with whiskers. {regret['title']}. Regret: {told}. Baselines: {bases}.",
                           f"{whole(result)}, frozen rule. Whiskers: ± standard error over splits. Filled: better than "
                           "both default and random trial beyond noise (Holm)."))
    return made


QUESTION = Question(
    name="signal_leaderboard", title="Which signal should be trusted to choose without labels?", measure=measure,
    compute=compute, card=card, applicable=applicable, scope="trial",
)
