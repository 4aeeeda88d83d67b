"""Reasons to doubt a search, a selection or a measurement, one check a function; `cautions` puts them in order.

Each check takes (summary, spec) and yields a `Caution` for each reason; none raises for what is missing.
"""
from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist, stdev
from typing import Any

from analysis import plot_data
from analysis import summary_rows as rows
from analysis.comparison import by_split, compare, revealed_order

WIDE = 0.15  # a 95 % interval of AUROC wider than this leaves nothing to compare
NO_ORDER = 0.1  # a Kendall τ below this is no relation worth the name
SATURATED = 0.99  # accuracies that all lie above this are parted by a handful of images
LUCKY = 1.5  # times chance: below it nothing was learnt
FAILING = 0.5  # share of a method's trials
ENOUGH = 4  # failed and completed trials each, to say which parameter parts them
SURE = 0.05


@dataclass(frozen=True)
class Caution:
    """level: "stop" (do not believe the numbers), "care" (read them with care), "note" (good to know)."""

    level: str
    text: str


def where(places: Iterable[tuple[str, Any]]) -> str:
    """hybrid (split 0) and csi (splits 0, 2): methods and splits in words."""
    splits: dict[str, list[str]] = {}
    for method, split in places:
        splits.setdefault(method, []).append(str(split))
    return rows.listed(f"{method} (split{'s' * (len(names) > 1)} {', '.join(names)})"
                       for method, names in splits.items())


def place(row: rows.Row) -> tuple[str, Any]:
    """The method and split of a row."""
    return row["method"], row.get("split", 0)


def span(values: Iterable[object], digits: int = 3) -> str:
    """0.412, or 0.412 to 0.466."""
    known = [value for value in map(rows.finite, values) if value is not None] or [None]
    return " to ".join(dict.fromkeys((rows.number(min(known), digits), rows.number(max(known), digits))))


def completed(summary: Mapping[str, Any], method: str, split: object) -> list[rows.Row]:
    """The completed trials of a method and split."""
    return [row for row in rows.trial_rows(summary, method, split) if rows.is_completed(row)]


def seed_spread(summary: Mapping[str, Any], method: str) -> float | None:
    """Standard deviation of the frozen rule's AUROC over training seeds, pooled over splits; None without a repeat."""
    variances = []
    for split, row in by_split(summary, method).items():
        again = [rows.finite(other.get("scorer_auroc")) for other in rows.retrained_rows(summary, method, split)]
        values = [value for value in (rows.finite(row.get("scorer_auroc")), *again) if value is not None]
        if len(values) > 1:
            variances.append(stdev(values) ** 2)
    return (sum(variances) / len(variances)) ** 0.5 if variances else None


# ---------------------------------------------------------------------------------------------- measurement
def noisy_seeds(summary: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[Caution]:
    """The best method's lead over others is no more than what another seed does to the same configuration."""
    order = revealed_order(summary)
    rivals = [compare(summary, order[0], other) for other in order[1:]]
    drowned = [item for item in rivals if item.drowned_by_seeds]
    if drowned:
        spreads = {name: seed_spread(summary, name) for name in (order[0], *(item.second for item in drowned))}
        moves = rows.listed(f"{name} ±{rows.number(value)}" for name, value in spreads.items() if value is not None)
        leads = rows.listed(f"{item.second} ({rows.number(item.difference)})" for item in drowned)
        yield Caution("care", f"Seeds are noisier than the differences: training again moves AUROC ({moves}, standard "
                              f"deviation) by too much to tell {order[0]} from {leads}.")


def wide_intervals(summary: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[Caution]:
    """So few test anomalies, or nominal test images, that the AUROC itself is hardly known."""
    found = {place(row): pair[1] - pair[0] for row in rows.selected_rows(summary)
             if (pair := rows.interval(row.get("scorer_auroc_ci"))) is not None and pair[1] - pair[0] > WIDE}
    if found:
        yield Caution("care", f"{where(found)}: few test images: the 95 % interval of the AUROC is "
                              f"{span(found.values(), 2)} wide.")


def nothing_learnt(summary: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[Caution]:
    """A selected network that guesses the nominal classes tells nothing about detection with learnt features."""
    found, classes = {}, summary.get("nominal_classes") or {}
    for row in rows.selected_rows(summary):
        accuracy, names = rows.accuracy(row), classes.get(str(row.get("split", 0))) or []
        if accuracy is not None and len(names) > 1 and accuracy <= LUCKY / len(names):
            found[place(row)] = accuracy
    if found:
        yield Caution("care", f"{where(found)}: closed-set accuracy {span(found.values())} is close to guessing; the "
                              "network has learnt nothing that its AUROC could speak for.")


def saturated(summary: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[Caution]:
    """Where every trial classifies all but perfectly, accuracy leaves nothing to choose by."""
    found: dict[tuple[str, Any], list[float]] = {}
    for method, split in rows.groups(summary):
        done = completed(summary, method, split)
        values = [rows.finite(row.get("signal_value")) for row in done]
        tied = len(set(values)) == 1
        by_accuracy = all(row.get("signal") == "val_accuracy" for row in done)
        if len(done) > 1 and by_accuracy and None not in values and min(values) >= SATURATED and not tied:
            found[method, split] = values
    if found:
        ends = span(value for values in found.values() for value in values)
        yield Caution("care", f"{where(found)}: all trials reach val_accuracy {ends}, so near perfect that it leaves "
                              "little to choose by.")


# ------------------------------------------------------------------------------------------------ selection
def tied(summary: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[Caution]:
    """All trials, or the best of them, have one and the same value of the signal: the tie-break chose."""
    everywhere, some, names, most = [], {}, set(), False
    for row in rows.selected_rows(summary):
        values = [rows.finite(other.get("signal_value")) for other in completed(summary, *place(row))]
        mine = rows.finite(row.get("signal_value"))
        if len(values) < 2 or mine is None:
            continue
        names.add(str(row.get("signal")))
        if len(set(values)) == 1:
            everywhere.append(place(row))
        elif values.count(mine) > 1 and _alone_final(spec):
            some[place(row)] = values.count(mine) - 1
            most = most or values.count(mine) * 2 >= len(values)
    signal = rows.listed(sorted(names))
    if everywhere:
        yield Caution("care", f"{where(everywhere)}: all trials tie in {signal}, so the tie-break (validation NLL, "
                              "then the lower number) decided the selection.")
    if some:
        counts = " to ".join(dict.fromkeys(str(end) for end in (min(some.values()), max(some.values()))))
        others = "another trial has" if counts == "1" else f"{counts} other trials have"
        yield Caution("care" if most else "note", f"{where(some)}: {others} the selected one's {signal}; "
                                                  "validation NLL decided between them.")


def _alone_final(spec: Mapping[str, Any]) -> bool:
    return int(rows.finite((spec.get("selection") or {}).get("finalists")) or 1) == 1


def no_better_than_default(summary: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[Caution]:
    """The search chose another trial than the default configuration (the first), and that detects no better."""
    lost = {}
    for method in rows.method_names(summary):
        gains = []
        for split, row in by_split(summary, method).items():
            start = next((r for r in completed(summary, method, split) if r.get("trial") == 0), None)
            default = rows.finite((start or {}).get("scorer_auroc"))
            if default is not None and row.get("trial") != 0:
                gains.append(row["scorer_auroc"] - default)
        if gains and sum(gains) <= 0:
            lost[method] = sum(gains) / len(gains)
    if lost:
        words = rows.listed(f"{method} ({rows.signed(gain)})" for method, gain in lost.items())
        yield Caution("note", f"The selected trial detects no better than the default configuration: {words}.")


def fallback_rule(summary: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[Caution]:
    """The spec's rule ranks scorers by fold models; without them freeze averages all scorers instead."""
    wanted = (spec.get("selection") or {}).get("scorer_rule")
    found = [place(row) for row in rows.selected_rows(summary)
             if wanted and row.get("scorer") == "all_mean" and wanted != "all_mean"]
    if found:
        yield Caution("care", f"{where(found)}: there were no fold models to rank scorers by (too few classes, or "
                              f"their training failed), so all scorers are averaged instead of {wanted}.")


def blind_signal(summary: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[Caution]:
    """The selecting signal does not order trials by AUROC, and which of the other signals would have.

    Only where trials were drawn at random: among trials that a sampler chose by the signal, τ says little."""
    if plot_data.bias_of(spec):
        return
    blind, others, tried = [], {}, 0
    for method in rows.method_names(summary):
        chosen = next((str(row["signal"]) for row in rows.trial_rows(summary, method) if row.get("signal")), None)
        if chosen is None:
            continue
        tau, _ = signal_tau(summary, method, None)
        if tau is None or tau.value >= NO_ORDER:
            continue
        blind.append((chosen, method, tau))
        names = {name for row in rows.trial_rows(summary, method) for name in row.get("signals") or {}} - {chosen}
        tried = max(tried, len(names))
        for name in sorted(names):
            other, draws = signal_tau(summary, method, name)
            if other is not None and _holds(other, draws, len(names)):
                others.setdefault(name, []).append((method, other))
    for signal in dict.fromkeys(signal for signal, _, _ in blind):
        words = rows.listed(f"{method} {_tau_words(tau)}" for name, method, tau in blind if name == signal)
        told = rows.listed(f"{name} ({rows.listed(f'{method} {_tau_words(tau)}' for method, tau in found)})"
                           for name, found in others.items())
        more = f" Of {rows.plural(tried, 'other signal')}, {told or 'none'} does beyond noise." if tried else ""
        yield Caution("care", f"{signal} hardly orders the trials by AUROC: Kendall τ {words}.{more}")


def _tau_words(tau: Any) -> str:
    return f"{rows.signed(tau.value, 2)} {rows.bounds([tau.low, tau.high], 2, sign=True)}".rstrip()


def signal_tau(summary: Mapping[str, Any], method: str, signal: str | None) -> tuple[Any, int]:
    """(mean τ of a signal over the splits or None, number of distinct class sets in it), right order positive.
    `signal` None: the one that selected."""
    from analysis.rank_correlation import kendall_tau, mean_tau

    taus, counts = {}, {}
    for split in rows.split_names(summary):
        pairs = []
        for row in completed(summary, method, split):
            name = str(row.get("signal")) if signal is None else signal
            x = rows.finite(row.get("signal_value") if signal is None else (row.get("signals") or {}).get(name))
            y = rows.finite(row.get("scorer_auroc"))
            if x is not None and y is not None:
                pairs.append((-x if plot_data.lower_is_better(name) else x, y))
        taus[split], counts[split] = kendall_tau([x for x, _ in pairs], [y for _, y in pairs]), len(pairs)
    known = {split: tau for split, tau in taus.items() if tau is not None}
    return mean_tau(summary, taus, counts), len(rows.over_distinct_classes(summary, known))


def _holds(tau: Any, draws: int, tried: int) -> bool:
    """Whether τ stays above 0 when its interval is widened for the number of signals that were tried."""
    if tau.low is None or tau.low <= 0:
        return False
    if tau.basis == "splits":
        from scipy.stats import t

        reach = (tau.high - tau.low) / 2 * t.ppf(1 - 0.025 / tried, draws - 1) / t.ppf(0.975, draws - 1)
        return bool(tau.value - reach > 0)
    near, quantile = min(tau.value, 0.99), NormalDist().inv_cdf
    reach = (math.atanh(near) - math.atanh(tau.low)) * quantile(1 - 0.025 / tried) / quantile(0.975)
    return math.atanh(near) > reach


# ------------------------------------------------------------------------------------------------- the search
def failing_methods(summary: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[Caution]:
    """Methods of whose trials half or more failed, and what parts the failed from the completed."""
    for method in rows.method_names(summary):
        trials = rows.trial_rows(summary, method)
        bad = [row for row in trials if row.get("state") == "failed"]
        if not bad or not any(map(rows.is_completed, trials)):  # then nothing was selected, which is said already
            continue
        diverged = sum(str(row.get("reason") or "").startswith("diverged") for row in bad)
        region = failing_region(trials)
        if region or len(bad) >= FAILING * len(trials):
            why = f", {diverged} of them diverged" if 0 < diverged < len(bad) else ", all diverged" * (diverged > 0)
            text = f"{method}: {len(bad)} of {rows.plural(len(trials), 'trial')} failed{why}"
            level = "care" if len(bad) >= FAILING * len(trials) else "note"
            yield Caution(level, f"{text}{f'; {region}' if region else ''}.")


def failing_region(trials: Iterable[rows.Row]) -> str:
    """The parameter that parts failed from completed trials best, in words; empty where none does beyond chance.

    Mann-Whitney for numbers, Fisher's exact test for each option of a choice, at 0.05 divided among all tests.
    """
    kept = [row for row in trials if row.get("state") == "failed" or rows.is_completed(row)]
    failed = [row.get("state") == "failed" for row in kept]
    if min(sum(failed), len(failed) - sum(failed)) < ENOUGH:
        return ""
    tests: list[tuple[float, str]] = []
    for name in dict.fromkeys(name for row in kept for name in row.get("params") or {}):
        values = [(row.get("params") or {}).get(name) for row in kept]
        if len({str(value) for value in values}) > 1:
            tests += _number_test(name, values, failed) or _choice_tests(name, values, failed)
    if not tests:
        return ""
    p_value, words = min(tests)
    return words if p_value * len(tests) < SURE else ""


def _number_test(name: str, values: list, failed: list[bool]) -> list[tuple[float, str]]:
    from scipy.stats import mannwhitneyu

    numbers = [rows.finite(value) for value in values]
    if None in numbers:
        return []
    bad, good = ([x for x, f in zip(numbers, failed, strict=True) if f is wanted] for wanted in (True, False))
    side = "high" if sum(bad) / len(bad) > sum(good) / len(good) else "low"
    words = (f"they lie where {name} is {side} ({_ends(bad)}; completed {_ends(good)})")
    return [(float(mannwhitneyu(bad, good).pvalue), words)]


def _ends(values: list[float]) -> str:
    return " to ".join(dict.fromkeys(rows.short(end) for end in (min(values), max(values))))


def _choice_tests(name: str, values: list, failed: list[bool]) -> list[tuple[float, str]]:
    from scipy.stats import fisher_exact

    tests = []
    for option in dict.fromkeys(map(str, values)):
        inside = [f for value, f in zip(values, failed, strict=True) if str(value) == option]
        outside = [f for value, f in zip(values, failed, strict=True) if str(value) != option]
        table = [[sum(part), len(part) - sum(part)] for part in (inside, outside)]
        words = f"{table[0][0]} of {len(inside)} with {name} {option} failed, {table[1][0]} of {len(outside)} without"
        tests.append((float(fisher_exact(table, alternative="greater").pvalue), words))
    return tests


# ---------------------------------------------------------------------------------------------- the questions
def unanswered(summary: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[Caution]:
    """Questions that did not apply, by reason, and those whose answer could not be computed."""
    for key, level, words in (("not_applicable", "note", "not answered"), ("error", "care", "could not be computed")):
        reasons: dict[str, list[str]] = {}
        for name, found in (summary.get("questions") or {}).items():
            if isinstance(found, Mapping) and found.get(key):
                reasons.setdefault(str(found[key]).rstrip("."), []).append(str(name))
        for reason, names in reasons.items():
            one = "Question" if len(names) == 1 else "Questions"
            yield Caution(level, f"{one} {words}: {rows.listed(names)} ({reason}).")
