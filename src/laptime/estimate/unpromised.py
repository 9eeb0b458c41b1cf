"""Rows of which nothing can be promised, and why: far larger than anything measured, or new where nothing was held out.

How times grow was looked at up to the largest sizes, and steps to the sizes just above were held out. What happens at a
hundred times as much no held-out row shows. A new group has a bound from the groups that were held out, if there were
any.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from laptime.data.stats import Floats
from laptime.estimate.basis import NEW, held_out_for, new_levels, new_names
from laptime.estimate.learn.card import ModelCard
from laptime.estimate.learn.fitting import Fitted
from laptime.estimate.learn.folds import Question
from laptime.estimate.table.table import Encoded

FARTHEST = 16.0
"""Up to this factor beyond the largest size, or the largest product of sizes, a bound is given."""
UNCHECKED = ": nothing shows what times do there"


def unpromised_reasons(
    fitted: Fitted, table: pl.DataFrame, rows: Encoded, questions: Sequence[Question]
) -> list[str | None]:
    """For each row why its bound would rest on nothing that was checked, else None."""
    larger = fitted.domain.larger(rows.numeric)
    reasons: list[str | None] = []
    for row, question in enumerate(questions):
        parts = []
        if larger[row] > np.log(FARTHEST) + 1e-9:
            parts.append(_too_large(fitted.card, rows.numeric[row], float(np.exp(larger[row]))))
        new = new_levels(fitted, rows, row) if question in NEW else []
        if question in NEW and not held_out_for(fitted, question, new):
            what = new_names(fitted, table, new, row)
            parts.append(f"{what} was never measured, and no other value could be held out to check a bound")
        reasons.append("; ".join(parts) or None)
    return reasons


def _too_large(card: ModelCard, numeric: Floats, factor: float) -> str:
    beyond = [
        (value / one.high, one.feature, value, one.high)
        for value, one in zip(numeric.tolist(), card.ranges, strict=False)
        if one.high > 0 and value > FARTHEST * one.high
    ]
    if not beyond:
        return (
            f"its sizes together are {factor:,.3g} times the largest work that was measured: nothing was checked there"
        )
    times, name, value, high = max(beyond)
    return f"{name} is {value:.15g}, {times:,.3g} times the largest that was measured ({high:.15g}){UNCHECKED}"
