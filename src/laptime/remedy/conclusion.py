"""What follows from the measured rows: the remedy that the result speaks of, its sentence, the recommendations.

The headline, the page's tiles and the recommendations all come from `is_faster` and `leader`, so they can't contradict
each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from laptime.remedy.result import Recommendation, RemedyRow

TOKENS = (32, 128, 512, 2048, 8192, 32768)
"""Numbers of tokens for which a remedy is recommended, beside the user's own."""
ROUNDS_FOR_AN_INTERVAL = 6
"""The fewest rounds that give the 95 % interval of a median (laptime.data.stats.median_interval)."""


def is_faster(row: RemedyRow) -> bool:
    """Whether the remedy is faster than the baseline: the low end of its speed-up is above 1.

    With too few rounds for an interval the median decides; the headline then says so.
    """
    if row.speedup is None:
        return False
    return (row.speedup.value if row.speedup.low is None else row.speedup.low) > 1


def leader(rows: Sequence[RemedyRow]) -> RemedyRow:
    """The row that the result speaks of: the fastest remedy that is faster than the baseline.

    If none is, the remedy with the least time per token, provided that its median speed-up is above 1. Else the
    baseline. rows: the first is the baseline, and it was measured.
    """
    measured = [row for row in rows[1:] if row.speedup is not None and row.tpot_ms is not None]
    faster = [row for row in measured if is_faster(row)]
    hopeful = [row for row in measured if row.speedup is not None and row.speedup.value > 1]
    return min(faster or hopeful or rows[:1], key=_ms)


def plain_number(value: float) -> str:
    """Three significant digits without an exponent: 2.37, 27.4, 1235."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def headline(
    rows: Sequence[RemedyRow],
    number: Callable[[float], str] = plain_number,
    count: Callable[[int], str] = str,
) -> str:
    """The result in one sentence, about `leader(rows)`. number, count: write the measured numbers and the counts."""
    row, base_ms = leader(rows), number(_ms(rows[0]))
    if not any(other.speedup is not None for other in rows[1:]):
        return "No remedy could be measured"
    if row.speedup is None:
        return f"No remedy was faster than the baseline: {base_ms} ms a token"
    if not is_faster(row):
        low, high = (number(end or 0.0) for end in (row.speedup.low, row.speedup.high))
        return (
            f"No remedy is proven faster than the baseline's {base_ms} ms a token. {row.title} comes nearest: "
            f"{number(row.speedup.value)} times as fast, 95 % interval {low} to {high}"
        )
    sentence = (
        f"{row.title}: {number(_ms(row))} ms a token instead of {base_ms}, {number(row.speedup.value)} times as fast"
    )
    if row.speedup.low is None:
        rounds = f"{row.speedup.n} round{'' if row.speedup.n == 1 else 's'}"
        return f"{sentence} in {rounds}; {ROUNDS_FOR_AN_INTERVAL} rounds would show how sure that is"
    if row.pays_after_tokens and row.pays_after_tokens > 1:
        sentence += f"; its preparation pays after {count(row.pays_after_tokens)} tokens"
    return sentence


def recommend(rows: Sequence[RemedyRow], new_tokens: int) -> list[Recommendation]:
    """For several numbers of tokens in one process: the remedy with the least time, its preparation included.

    Only remedies that are faster than the baseline are recommended. new_tokens: the user's number, added to the list.
    """
    base = rows[0]
    choices = [base, *(row for row in rows[1:] if row.tpot_ms is not None and is_faster(row))]
    recommendations = []
    for tokens in sorted({*TOKENS, new_tokens}):
        seconds = {row.name: round((row.prepare_s or 0.0) + tokens * _ms(row) / 1e3, 3) for row in choices}
        best = min(seconds, key=lambda name: seconds[name])
        recommendations.append(
            Recommendation(tokens=tokens, remedy=best, seconds=seconds[best], baseline_seconds=seconds[base.name])
        )
    return recommendations


def _ms(row: RemedyRow) -> float:
    assert row.tpot_ms is not None
    return row.tpot_ms.value
