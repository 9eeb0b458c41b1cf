"""In what a row lies outside the training table: its sizes and names beside those that were measured, in words."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from laptime.estimate.learn.fitting import Fitted
from laptime.estimate.learn.folds import Question
from laptime.estimate.learn.named_numbers import unmeasured
from laptime.estimate.table.table import UNSEEN, Encoded

NAMED = 6
"""At most so many measured values of a column are named."""

LEAST = 1e-9
"""A smaller excess, as the logarithm of a factor, is rounding."""


def outside_reasons(
    fitted: Fitted, table: pl.DataFrame, rows: Encoded, questions: Sequence[Question]
) -> list[str | None]:
    """For each row what lies outside, as "crops 6 (measured: 2, 12)"; None inside."""
    between = unmeasured(fitted.named, rows.numeric)
    values = {one.column: one.values for one in fitted.named}
    low, high = fitted.domain.ranges()
    numeric = fitted.schema.numeric
    said: list[str | None] = []
    for row, question in enumerate(questions):
        if question in ("inside", "sibling", "unknown"):
            said.append(None)
            continue
        parts = []
        for place, name in enumerate(numeric):
            value = rows.numeric[row, place]
            if between[row, place]:
                parts.append(f"{_short(name)} {value:g} (measured: {_named(values[place])})")
            elif not _within(value, low[place], high[place]):
                measured = (
                    f"{low[place]:.6g}" if low[place] == high[place] else f"{low[place]:.6g} to {high[place]:.6g}"
                )
                parts.append(f"{_short(name)} {value:g} (measured: {measured})")
        for place, name in enumerate(fitted.schema.categorical):
            if rows.codes[row, place] == UNSEEN:
                parts.append(f"{_short(name)} {table[name][row]} (measured: {_named(fitted.schema.levels[name])})")
        if not parts and question == "beyond":
            parts.append("sizes that are measured each by itself, but not together")
        said.append(", ".join(parts) or None)
    return said


def _within(value: float, low: float, high: float) -> bool:
    room = LEAST * max(abs(low), abs(high), 1.0)
    return bool(low - room <= value <= high + room)


def _named(values: Sequence[object]) -> str:
    shown = [f"{value:g}" if isinstance(value, float) else str(value) for value in values[:NAMED]]
    return ", ".join(shown) + (f" and {len(values) - NAMED} more" if len(values) > NAMED else "")


def _short(name: str) -> str:
    return name.removeprefix("config.")
