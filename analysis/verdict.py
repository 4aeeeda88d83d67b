"""Which method won, by how much, whether to believe it, and where the information is lost: a summary in plain words.

Pure function of the summary (and, where given, the frozen selection and the spec). It never announces a winner within
noise (`comparison` says what that means); one split can give a lead, never a result.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis import cautions as _cautions
from analysis import summary_rows as rows
from analysis.cautions import Caution
from analysis.comparison import Comparison, by_split, compare, mean_interval, method_mean, revealed_order

NAMED = 3  # more methods than this are counted: a headline is one short line


@dataclass(frozen=True)
class Verdict:
    """`headline` is one short line; `sentences` say the rest in order; `cautions` the most serious first.

    kind: "winner" | "lead" | "noise" | "single" | "nominal_only" | "nothing".
    trust: "believe" | "lead" | "doubt" | "none", with `trust_text` in words.
    """

    kind: str
    headline: str
    sentences: tuple[str, ...]
    trust: str
    trust_text: str
    cautions: tuple[Caution, ...]
    gaps: tuple[str, ...]
    frozen_winner: str | None
    revealed_winner: str | None
    comparison: Comparison | None


def verdict(
    summary: Mapping[str, Any],
    *,
    selection: Mapping[str, Any] | None = None,
    spec: Mapping[str, Any] | None = None,
) -> Verdict:
    """Words for the first screen. Never raises for missing numbers; see `Verdict` for the fields."""
    if summary.get("nominal_only"):
        return _nominal_only(summary, selection, spec)
    ranking = rows.frozen_ranking(summary, selection)
    order = revealed_order(summary)
    warnings = tuple(_cautions.find(summary, spec=spec))
    if not order and rows.selected_rows(summary):
        return Verdict(
            "nothing", "The selection is frozen; its anomalies are not revealed yet", tuple(_chosen_words(summary)),
            "none", "There are no test numbers to believe yet.", warnings, (), next(iter(ranking), None), None, None,
        )
    if not order:
        return Verdict(
            "nothing", "Nothing was revealed", ("No selected trial has an AUROC, so there is nothing to compare.",),
            "none", "There are no test numbers to believe.", warnings, (), next(iter(ranking), None), None, None,
        )
    rivals = [compare(summary, order[0], other, rivals=len(order) - 1) for other in order[1:]]
    kind, headline = _headline(summary, order, rivals, ranking)
    sentences = [*_ranking_sentences(summary, order, rivals, ranking), *_cost_sentences(summary, ranking or order)]
    trust, trust_text = _trust(kind, rivals, warnings, summary)
    return Verdict(
        kind, headline, tuple(sentences), trust, trust_text, warnings, tuple(gap_sentences(summary)),
        next(iter(ranking), None), order[0], rivals[0] if rivals else None,
    )


# ------------------------------------------------------------------------------------------------- words
def _repeats(summary: Mapping[str, Any]) -> str:
    splits = len({row.get("split", 0) for row in rows.selected_rows(summary)})
    seeds = 1 + max((len(rows.retrained_rows(summary, *key)) for key in rows.groups(summary)), default=0)
    names = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five"}
    return f"{names.get(splits, splits)} split{'s' * (splits != 1)}, {names.get(seeds, seeds)} seed{'s' * (seeds != 1)}"


def _margin(comparison: Comparison) -> str:
    if comparison.low is None:
        return f"{rows.signed(comparison.difference)}, no interval known"
    pair = [comparison.low, comparison.high]
    return f"{rows.signed(comparison.difference)} {rows.bounds(pair, sign=True)}"


def _headline(
    summary: Mapping[str, Any], order: list[str], rivals: list[Comparison], ranking: list[str]
) -> tuple[str, str]:
    best = order[0]
    if not rivals:
        auroc = rows.number(method_mean(summary, best, "scorer_auroc"))
        return "single", f"{best} finds anomalies with AUROC {auroc}; no other method was revealed to compare it with"
    if not all(item.beyond_noise for item in rivals):
        near = [item.second for item in rivals if not item.beyond_noise]
        several = f"all {len(rivals)} others" if len(near) == len(rivals) else f"{len(near)} of {len(rivals)} others"
        whom = rows.listed(near) if len(near) <= NAMED else several
        return "noise", f"No winner: {best} is ahead of {whom}, but within noise"
    lead = rows.number(rivals[0].difference)
    several = min(item.splits for item in rivals) > 1
    chosen = ranking and ranking[0] != best
    tail = f", although the selection ranked {ranking[0]} first" if chosen else ""
    if several:
        return "winner", f"{best} wins by {lead} AUROC{tail}"
    return "lead", f"{best} leads by {lead} AUROC{tail}"


def _ranking_sentences(
    summary: Mapping[str, Any], order: list[str], rivals: list[Comparison], ranking: list[str]
) -> list[str]:
    best, said = order[0], []
    if not rivals:
        said.append(_alone(summary, best))
    if rivals:
        versus = rivals[0]
        means = [rows.number(mean) for mean in versus.means or (
            method_mean(summary, name, "scorer_auroc") for name in (best, versus.second))]
        said.append(
            f"On test images {best} reaches AUROC {means[0]} and {versus.second} {means[1]}: {_margin(versus)} "
            f"({_basis_words(versus)})."
        )
        if versus.drowned_by_seeds:
            said.append("Training the same configuration with another seed moves AUROC by more than that.")
    if ranking and len(order) > 1:
        if ranking[0] == best:
            said.append(f"Without any label the selection also ranked {best} first.")
        elif ranking[0] in order:
            sure = all(item.beyond_noise for item in rivals if item.second == ranking[0])
            said.append(
                f"The selection, which saw no label, ranked {ranking[0]} first: "
                + ("it chose the method that detects worse." if sure else "the difference is within noise.")
            )
        else:
            said.append(f"The selection ranked {ranking[0]} first, but that has no revealed number.")
    return said


def _alone(summary: Mapping[str, Any], method: str) -> str:
    """How sure the AUROC of the only method is."""
    values = {split: row["scorer_auroc"] for split, row in by_split(summary, method).items()}
    if len(values) > 1:
        span = f"{rows.number(min(values.values()))} to {rows.number(max(values.values()))}"
        return f"Over {len(values)} splits its AUROC runs from {span}."
    (row,) = by_split(summary, method).values()
    pair = row.get("scorer_auroc_ci")
    return f"95 % interval {rows.bounds(pair)}, test images only." if rows.interval(pair) else "No interval is known."


def _basis_words(versus: Comparison) -> str:
    words = {
        "splits": f"95 % t interval over {versus.splits} splits",
        "images": "95 % interval, test images only",
        "paired": "paired 95 % interval, same test images",
        "none": "without an interval",
    }[versus.basis]
    return words if versus.rivals == 1 or versus.basis == "none" else f"{words}, widened for {versus.rivals} rivals"


def _cost_sentences(summary: Mapping[str, Any], ranking: list[str]) -> list[str]:
    """What not looking at labels cost, and what the search gained over the default configuration."""
    method = ranking[0] if ranking and method_mean(summary, ranking[0], "scorer_auroc") is not None else None
    if method is None:
        return []
    said = []
    regret = method_mean(summary, method, "regret")
    if regret is not None:
        honest = method_mean(summary, method, "regret_crossfit")
        cross = "" if honest is None else f" ({rows.number(honest)} when cross-fitted)"
        said.append(f"Selecting {method}'s trial and scorer without labels cost {rows.number(regret)} AUROC{cross}.")
    chosen = by_split(summary, method)
    if all(row.get("trial") == 0 for row in chosen.values()):
        searched = len(rows.trial_rows(summary, method)) > len(chosen)
        return [*said, *([f"The signal preferred no other of {method}'s trials to its default configuration."] * searched)]
    gains = []
    for split, row in chosen.items():
        default = [r for r in rows.trial_rows(summary, method, split) if r.get("trial") == 0]
        start = rows.finite(default[0].get("scorer_auroc")) if default else None
        if start is not None and row.get("trial") != 0:
            gains.append(row["scorer_auroc"] - start)
    gain = rows.mean(gains)
    if gain is not None:
        said.append(f"Against its default configuration the search changed {method}'s AUROC by {rows.signed(gain)}.")
    return said


def gap_sentences(summary: Mapping[str, Any]) -> list[str]:
    """One sentence per method: what the scorer reads, what is in z, what the architecture could hold."""
    said = []
    for method in rows.method_names(summary):
        means = {
            field: method_mean(summary, method, field)
            for field in ("scorer_auroc", "oracle_detector_auroc", "oracle_representation_auroc", "extraction_gap",
                          "representation_gap", "linear_oracle_auroc")
        }
        if means["scorer_auroc"] is None or means["oracle_detector_auroc"] is None:
            continue
        said.append(f"{method}: {_extraction_words(summary, method, means)} {_representation_words(means)}".strip())
    return said


def _extraction_words(summary: Mapping[str, Any], method: str, means: dict[str, float | None]) -> str:
    scorer, oracle, gap = means["scorer_auroc"], means["oracle_detector_auroc"], means["extraction_gap"]
    text = f"the scorer reads {rows.number(scorer)}, a forest with labelled anomalies {rows.number(oracle)} from the same z"
    if gap is None:
        return text + "."
    known = {split: row for split, row in by_split(summary, method).items()
             if rows.finite(row.get("extraction_gap")) is not None}
    independent = rows.over_distinct_classes(summary, {split: row["extraction_gap"] for split, row in known.items()})
    limits = [rows.interval(row.get("extraction_gap_ci")) for row in known.values()]
    pair = None
    if len(independent) > 1:
        pair = mean_interval(independent)
    elif None not in limits:  # one set of classes: the mean of its splits' intervals
        pair = tuple(sum(ends) / len(limits) for ends in zip(*limits))
    if pair is not None and pair[0] <= 0 <= pair[1]:
        return f"{text}: {rows.signed(gap)}, no extraction gap beyond noise."
    if gap < 0:
        return f"{text}: the scorer beats this oracle by {rows.number(-gap)} (a forest is not the best detector)."
    return f"{text}: at least {rows.number(gap)} is in z but not extracted."


def _representation_words(means: dict[str, float | None]) -> str:
    held, gap = means["oracle_representation_auroc"], means["representation_gap"]
    if held is None or gap is None:
        return ""
    if gap < -_cautions.LOST:
        return f"Training on all classes gave only {rows.number(held)} ({rows.signed(gap)}): it did not work."
    if gap <= 0:
        return f"Training on all classes gives {rows.number(held)}: no representation gap ({rows.signed(gap)})."
    extraction = means["extraction_gap"] or 0
    lesson = "most is lost in the representation" if gap > extraction else "most is lost by the scorer"
    return f"Training on all classes gives {rows.number(held)}, {rows.number(gap)} more: {lesson}."


def _trust(
    kind: str, rivals: list[Comparison], warnings: tuple[Caution, ...], summary: Mapping[str, Any]
) -> tuple[str, str]:
    repeats = _repeats(summary)
    if any(item.level == "stop" for item in warnings):
        return "doubt", "Do not believe these numbers: " + next(i.text for i in warnings if i.level == "stop")
    if kind == "noise":
        near = [item.second for item in rivals if not item.beyond_noise]
        equal = "the methods" if len(near) == len(rivals) else (
            rows.listed([rivals[0].first, *near]) if len(near) <= NAMED else f"{rivals[0].first} and those {len(near)}")
        return "none", f"Treat {equal} as equal ({repeats}); more splits or seeds would be needed to part them."
    if kind == "winner":
        careful = sum(item.level == "care" for item in warnings)
        if careful:
            word = "caution" if careful == 1 else f"{careful} cautions"
            return "lead", f"The difference holds over {repeats}; read the {word} first."
        return "believe", f"The difference holds over {repeats}."
    if not rivals and not repeats.startswith("one split, one"):
        return "lead", f"Measured on {repeats}."
    turn = "another choice of anomaly classes may turn the order round" if rivals else "another split may say otherwise"
    return "lead", f"{repeats[0].upper()}{repeats[1:]}: a lead, not a result; {turn}."


def _nominal_only(
    summary: Mapping[str, Any], selection: Mapping[str, Any] | None, spec: Mapping[str, Any] | None
) -> Verdict:
    ranking = rows.frozen_ranking(summary, selection)
    chosen = rows.selected_rows(summary)
    names = list(dict.fromkeys(row["method"] for row in chosen))
    first = ranking[0] if ranking else (names[0] if len(names) == 1 else None)
    headline = f"{first} was selected; there is nothing to reveal" if first else "There is nothing to reveal"
    return Verdict(
        "nominal_only", headline, tuple(_chosen_words(summary)), "none",
        "The data holds no anomalies, so how well any of this detects them is not known.",
        tuple(_cautions.find(summary, spec=spec)), (), first, None, None,
    )


def _chosen_words(summary: Mapping[str, Any]) -> list[str]:
    """What was selected, without any test number: a sentence for each trial, or for each method where these are many."""
    chosen = rows.selected_rows(summary)
    if len(chosen) <= 2 * NAMED:
        return [f"{row['method']}, split {row.get('split', 0)}: trial {row.get('trial')}, {row.get('signal')} "
                f"{rows.number(row.get('signal_value'), 4)}." for row in chosen]
    said = []
    for method in dict.fromkeys(row["method"] for row in chosen):
        mine = [row for row in chosen if row["method"] == method]
        values = [value for row in mine if (value := rows.finite(row.get("signal_value"))) is not None]
        span = " to ".join(dict.fromkeys(rows.number(end, 4) for end in (min(values), max(values)))) if values else rows.MISSING
        said.append(f"{method}: {mine[0].get('signal')} {span} over {rows.plural(len(mine), 'split')}.")
    return said
