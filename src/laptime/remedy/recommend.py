"""Which remedy to use: for the user's output length, and for how long a process has to run before each pays."""

from __future__ import annotations

from collections.abc import Sequence

from laptime.remedy.result import Recommendation, RemedyRow

LENGTHS = (32, 128, 512, 2048, 8192, 32768)


def recommend(rows: Sequence[RemedyRow], new_tokens: int) -> list[Recommendation]:
    """For several numbers of tokens made in one process: the remedy with the least time, preparation included."""
    measured = [row for row in rows if row.tpot_ms is not None]
    base = measured[0]
    assert base.tpot_ms is not None
    made = []
    for tokens in sorted({*LENGTHS, new_tokens}):
        seconds = {row.name: _seconds(row, tokens) for row in measured}
        best = min(seconds, key=lambda name: seconds[name])
        made.append(
            Recommendation(tokens=tokens, remedy=best, seconds=seconds[best], baseline_seconds=seconds[base.name])
        )
    return made


def headline(rows: Sequence[RemedyRow]) -> str:
    """The point in one sentence."""
    base = rows[0]
    others = [row for row in rows[1:] if row.speedup is not None and row.tpot_ms is not None]
    if base.tpot_ms is None or not others:
        return "No remedy could be measured"
    best = min(others, key=lambda row: row.tpot_ms.value if row.tpot_ms else 0.0)
    assert best.tpot_ms is not None
    assert best.speedup is not None
    if (best.speedup.low if best.speedup.low is not None else best.speedup.value) <= 1:
        return f"No remedy is known to be faster than {base.tpot_ms.value:.3g} ms a token"
    sentence = (
        f"{best.title}: {best.tpot_ms.value:.3g} ms a token instead of {base.tpot_ms.value:.3g}, "
        f"{best.speedup.value:.3g} times as fast"
    )
    if best.pays_after_tokens and best.pays_after_tokens > 1:
        sentence += f"; it has paid for itself after {best.pays_after_tokens} tokens"
    return sentence


def _seconds(row: RemedyRow, tokens: int) -> float:
    assert row.tpot_ms is not None
    return round((row.prepare_s or 0.0) + tokens * row.tpot_ms.value / 1e3, 3)
