"""Which groups or levels were held out to check the bound of one that was never measured, in words."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from laptime.estimate.learn.fitting import Fitted
from laptime.estimate.learn.folds import Question
from laptime.estimate.learn.named_numbers import unmeasured
from laptime.estimate.table.table import UNSEEN, Encoded

NEW = ("level", "group", "sibling")
"""Questions about what was never measured, and was held out to be answered."""
TOO_FEW = "; too few to check a bound"
NAMED = 8
"""At most so many are named."""


def held_out_for(fitted: Fitted, question: Question, new: Sequence[str]) -> list[str]:
    """What was held out in turn for a row of this question: groups, or levels of its new columns, by their names."""
    by_question = {choice.question: choice.folds for choice in fitted.card.choices}
    if question == "level" and "level" in by_question:
        return [fold for fold in by_question["level"] if any(fold.startswith(f"{column} ") for column in new)]
    return by_question.get("group", []) if question in NEW else []


def new_levels(fitted: Fitted, rows: Encoded, row: int) -> list[str]:
    """The columns of a row whose name was never measured."""
    between = unmeasured(fitted.named, rows.numeric[row : row + 1])[0]
    return [
        name for name, new in zip(fitted.schema.features, [*between, *(rows.codes[row] == UNSEEN)], strict=True) if new
    ]


def new_names(fitted: Fitted, table: pl.DataFrame, new: Sequence[str], row: int) -> str:
    """What is new in a row: the levels that were never measured, else its group."""
    names = new or [name for name in fitted.schema.group if name in table.columns]
    return " and ".join(f"{name} {table[name][row]}" for name in names)


def bases(fitted: Fitted, table: pl.DataFrame, rows: Encoded, questions: Sequence[Question]) -> list[str | None]:
    """For each row of a new group or level what its bound was checked on, else None."""
    said: list[str | None] = []
    for row, question in enumerate(questions):
        new = new_levels(fitted, rows, row) if question in NEW else []
        held = held_out_for(fitted, question, new)
        if not held:
            said.append(None)
            continue
        names = ", ".join(held[:NAMED]) + (f" and {len(held) - NAMED} more" if len(held) > NAMED else "")
        calibrated = fitted.by_question[question]
        checked = len(calibrated.residuals) or (len(new) == 1 and new[0] in calibrated.groups)
        few = "" if checked else TOO_FEW
        ways = f"{len(held)} others were held out in turn" if len(held) > 1 else "one other was held out"
        said.append(f"{new_names(fitted, table, new, row)} was never measured: {ways} ({names}){few}")
    return said
