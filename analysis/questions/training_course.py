"""Does detection peak before the training ends? Scorer and oracles against the epoch, beside loss and gradient norm.

Of each selected configuration, trained once more (``[analysis] course``). The best epoch in hindsight is the maximum of noisy
numbers: it lies above the last one even where nothing changes any more, and nobody could have stopped there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis import summary_rows as rows
from analysis.card import Card, Figure, Table
from analysis.evidence import StudyEvidence
from analysis.oracle_means import difference_words, over, over_methods, selected_of, sign_of
from analysis.plot_questions_course import draw_course
from analysis.questions import Question
from analysis.rank_correlation import spearman

SCORES = {"frozen_rule": "frozen rule", "max_logit": "max logit", "linear": "linear probe", "forest": "small forest"}
BESIDE = {"train_loss": "training loss", "gradient_norm": "gradient norm", "val_accuracy": "validation accuracy"}
FIGURE_METHODS = 6


def applicable(study: StudyEvidence) -> str:
    return "" if selected_of(study, "training_course") else (
        "No training was repeated for its course; `oraclegap analyse STUDY --course 10` does it, at the cost of one training "
        "for each method and split.")


def compute(study: StudyEvidence) -> dict[str, Any]:
    """Keys: ``methods``: {method: {"epochs": where was measured, "curves": {score of ``SCORES``: [AUROC], "accuracy": [closed-set,
    test images]}, "training": {"epoch", each of ``BESIDE``: every epoch}, all means over splits, "best": {score: {"epoch": {split:
    the best}, "minus_last": AUROC there − at the last epoch, as ``oracle_means.over``}}, "rho": {score: {key of ``BESIDE``: mean
    over splits of Spearman's ρ over the points, or None}}, "splits", "reproduced": of them whose last weights are the trial's}};
    ``mean``: {score: "minus_last" as a mean over methods}. Splits are averaged where they were measured at the same epochs."""
    selected = selected_of(study, "training_course")
    gains = {score: {method: {split: found["best_minus_last"].get(score) for split, found in by_split.items()}
                     for method, by_split in selected.items()} for score in SCORES}
    return {
        "methods": {method: _of_method(study, by_split, {score: gains[score][method] for score in SCORES})
                    for method, by_split in selected.items()},
        "mean": {score: over_methods(study, found) for score, found in gains.items()},
    }


def _of_method(study: StudyEvidence, by_split: Mapping[Any, Mapping[str, Any]], gains: Mapping[str, Any]) -> dict[str, Any]:
    first = next(iter(by_split.values()))
    epochs = [point["epoch"] for point in first["points"]]
    alike = [found for found in by_split.values() if [point["epoch"] for point in found["points"]] == epochs]
    trained = [row["epoch"] for row in first["epochs"]]
    return {
        "epochs": epochs,
        "curves": {name: [rows.mean(found["points"][i][name] for found in alike) for i in range(len(epochs))]
                   for name in (*SCORES, "accuracy")},
        "training": {"epoch": trained, **{key: [rows.mean(found["epochs"][i][key] for found in alike) for i in range(len(trained))]
                                          for key in BESIDE}},
        "best": {score: {"epoch": {str(split): _best(found, score) for split, found in by_split.items()},
                         "minus_last": over(study, gains[score])} for score in SCORES},
        "rho": {score: {key: rows.mean(_rho(found, score, key) for found in by_split.values()) for key in BESIDE}
                for score in SCORES},
        "splits": len(by_split), "reproduced": sum(bool(found["reproduced"]) for found in by_split.values()),
    }


def _best(found: Mapping[str, Any], score: str) -> int | None:
    known = [point for point in found["points"] if point[score] is not None]
    return max(known, key=lambda point: point[score])["epoch"] if known else None


def _rho(found: Mapping[str, Any], score: str, key: str) -> float | None:
    at = {row["epoch"]: row[key] for row in found["epochs"]}
    pairs = [(at[point["epoch"]], point[score]) for point in found["points"] if point[score] is not None]
    return spearman(*map(list, zip(*pairs))) if len(pairs) > 2 else None


# ------------------------------------------------------------------------------------------------------------- card
def headline(result: Mapping[str, Any]) -> str:
    """What the last epoch lost against the best one, for the frozen rule and the oracle."""
    rule, forest = result["mean"]["frozen_rule"], result["mean"]["forest"]
    if rule is None:
        return "The frozen rule's scores were not finite along the course."
    lost = f"{rows.number(rule['mean'])} {rows.bounds([rule['low'], rule['high']])} AUROC"
    told = {0: f"The frozen rule's AUROC at the last epoch is not beyond noise below its best ({lost})",
            1: f"The frozen rule's AUROC peaks before the training ends: the last epoch is {lost} below the best",
            -1: f"The frozen rule's AUROC at the last epoch is above that of the points before ({lost})"}[sign_of(rule)]
    if rule["mean"] == 0:
        told = "The frozen rule's AUROC is highest at the last epoch"
    oracle = "" if forest is None else f"; the oracle's, on the same latents, {rows.number(forest['mean'])} below its own best"
    return f"{told}{oracle}. Part of this is luck of having {len(_first(result)['epochs'])} points to choose from."


def _first(result: Mapping[str, Any]) -> Mapping[str, Any]:
    return next(iter(result["methods"].values()))


def _reproduced(result: Mapping[str, Any]) -> str:
    same, of = (sum(found[key] for found in result["methods"].values()) for key in ("reproduced", "splits"))
    if same == of:
        return "Every repeated training ended with the weights of its trial, bit for bit."
    return (f"{same} of {of} repeated trainings ended with the weights of their trials, bit for bit; the others are of the same "
            "configuration and seed, but of another number of threads, device or version.")


def _epochs_words(found: Mapping[str, Any]) -> str:
    best = sorted({epoch for epoch in found["epoch"].values() if epoch is not None})
    return ", ".join(map(str, best)) or rows.MISSING


def figure_data(result: Mapping[str, Any]) -> dict[str, Any]:
    """{"panels": [{"label", "epochs", "curves": {score's title: [AUROC]}, "training": {"epoch", "training loss",
    "gradient norm"}}], "title"}."""
    panels = [{"label": method, "epochs": found["epochs"],
               "curves": {title: found["curves"][score] for score, title in SCORES.items()},
               "training": {"epoch": found["training"]["epoch"],
                            **{BESIDE[key]: found["training"][key] for key in ("train_loss", "gradient_norm")}}}
              for method, found in list(result["methods"].items())[:FIGURE_METHODS]]
    return {"panels": panels, "title": "AUROC along the training, and the training itself"}


def card(result: Mapping[str, Any]) -> Card:
    lines = tuple((f"{method} · {title}", rows.number(found["curves"][score][0]), rows.number(found["curves"][score][-1]),
                   _epochs_words(found["best"][score]), difference_words(found["best"][score]["minus_last"]),
                   *(rows.signed(found["rho"][score][key], 2) for key in BESIDE))
                  for method, found in result["methods"].items() for score, title in SCORES.items())
    table = Table(("method · score", "first point", "last epoch", "best epoch by split", "best − last", *(f"ρ with {t}" for t in
                   BESIDE.values())), lines, "AUROC along the training of the selected configurations",
                  "Best − last does not allow for the choice of the best. ρ over the points of one training: they follow each "
                  "other, so that it has no interval.", left=frozenset({3}), folded=len(lines) > 24)
    data = figure_data(result)
    told = "; ".join(f"{panel['label']}: frozen rule from {rows.number(panel['curves']['frozen rule'][0])} to "
                     f"{rows.number(panel['curves']['frozen rule'][-1])}" for panel in data["panels"])
    figure = Figure("training-course", data, draw_course, f"Lines over the epochs. {told}.",
                    "Above: AUROC on test images by the weights of that epoch. Below: training loss and gradient norm, "
                    "logarithmic. Means over splits.")
    return Card("training_course", QUESTION.title, headline(result), (_reproduced(result),), (table,), (figure,))


QUESTION = Question(name="training_course", title="Does detection peak before the training ends?", compute=compute, card=card,
                    applicable=applicable)
