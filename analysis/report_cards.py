"""The cards of a report: what each question found, from summary.json alone, and their figures and tables as files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.card import Card, Figure
from analysis.questions import NAMES, get_question


def cards_of(summary: Mapping[str, Any]) -> tuple[list[Card], list[tuple[str, str]]]:
    """The answered questions in the order of the report, and (title, why not) of the others that were asked.

    An answer that an older version left in another form is named among the others: the report must not fail for it.
    """
    cards, unanswered = [], []
    answers = summary.get("questions") or {}
    for name in NAMES:
        found = answers.get(name)
        if found is None:
            continue
        question = get_question(name)
        reason = found.get("not_applicable") or (f"could not be computed: {found['error']}" if "error" in found else "")
        if not reason:
            try:
                cards.append(question.card(found))
            except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
                reason = f"could not be shown ({type(error).__name__}: {error}); `oraclegap analyse` asks it again"
        if reason:
            unanswered.append((question.title, reason))
    return cards, unanswered


def figures_of(cards: list[Card]) -> dict[str, Figure]:
    """Every card's figures, by name; ValueError where two share a name, since they are files."""
    found: dict[str, Figure] = {}
    for figure in (figure for card in cards for figure in card.figures):
        if figure.name in found:
            raise ValueError(f"two figures are called {figure.name!r}")
        found[figure.name] = figure
    return found


def tables(cards: list[Card]) -> dict[str, bytes]:
    """Every card's tables as CSV files: ``<question>.csv``, ``<question>-2.csv`` …"""
    return {f"{card.name}{f'-{number}' if number > 1 else ''}.csv": table.csv().encode()
            for card in cards for number, table in enumerate(card.tables, 1)}
