"""Which groups or levels were held out to check the bound of one that was never measured, in words."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from laptime.estimate.learn.card import ModelCard
from laptime.estimate.learn.fitting import Fitted
from laptime.estimate.learn.selection import Question
from laptime.estimate.table.table import UNSEEN, Encoded

NEW = ("level", "group", "sibling")
"""Questions about what was never measured, and was held out to be answered."""
NAMED = 8
"""At most so many are named."""


def held_out_for(card: ModelCard, question: Question) -> list[str]:
    """What was held out in turn for this question: groups or levels by their names."""
    asked = "group" if question == "sibling" else question
    by_question = {choice.question: choice.folds for choice in card.choices}
    return by_question.get(asked, by_question.get("group", []) if asked == "level" else [])


def new_names(fitted: Fitted, table: pl.DataFrame, rows: Encoded, row: int) -> str:
    """What is new in a row: the levels that were never measured, else its group."""
    schema = fitted.schema
    new = [name for name, code in zip(schema.categorical, rows.codes[row].tolist(), strict=True) if code == UNSEEN]
    names = new or [name for name in schema.group if name in table.columns]
    return " and ".join(f"{name} {table[name][row]}" for name in names)


def bases(fitted: Fitted, table: pl.DataFrame, rows: Encoded, questions: Sequence[Question]) -> list[str | None]:
    """For each row of a new group or level what its bound was checked on, else None."""
    said: list[str | None] = []
    for row, question in enumerate(questions):
        held = held_out_for(fitted.card, question) if question in NEW else []
        if not held:
            said.append(None)
            continue
        names = ", ".join(held[:NAMED]) + (f" and {len(held) - NAMED} more" if len(held) > NAMED else "")
        few = "" if len(fitted.by_question[question].residuals) else "; too few to check a bound"
        ways = f"{len(held)} others were held out in turn" if len(held) > 1 else "one other was held out"
        said.append(f"{new_names(fitted, table, rows, row)} was never measured: {ways} ({names}){few}")
    return said
