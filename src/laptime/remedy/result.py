"""The result of a proof: the promise and the measured time of each remedy. Its JSON is `laptime.remedy/1`.

No torch here, so that pages and terminals can read it. None stands for what isn't known on this machine, or doesn't
apply.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import msgspec

from laptime.data.record import Environment, Interval, Scalar
from laptime.data.shown import Shown

SCHEMA = "laptime.remedy/1"
BASELINE = "eager"
NAMES = (BASELINE, "buffers", "static", "fusion", "graph", "compiled", "kernels", "fast", "whole")
"""Names of the remedies, in the order in which they are shown."""


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """The time per token that the baseline's trace and time alone predict for a remedy, as a range."""

    low_ms: float
    high_ms: float
    source: str
    assumptions: list[str]


class StageFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of a remedy's calls: measured, promised, and the least time that its operations and bytes allow."""

    stage: str  # vision, prefill, decode
    measured: Interval
    promise: Promise | None = None
    floor_ms: float | None = None
    kept: bool | None = None


class AnswerTime(msgspec.Struct, frozen=True, kw_only=True):
    """The time of one answer of this many tokens by a remedy, from generate() to its return."""

    tokens: int
    remedy: str
    ms: float
    measured: bool  # calls of this length were measured; else it is computed from the stages of another length
    promised_low_ms: float | None = None
    promised_high_ms: float | None = None
    kept: bool | None = None
    baseline_ms: float
    pays_after_answers: int | None = None  # None where the baseline is as fast


class RemedyRow(msgspec.Struct, frozen=True, kw_only=True):
    """One remedy: the promise, and what was measured. A row with `failed` says why nothing was measured."""

    name: str
    title: str
    parts: list[str]  # of buffers, fusion, graph
    promise: Promise | None = None
    failed: str | None = None
    tpot_ms: Interval | None = None
    speedup: Interval | None = None  # baseline over remedy, over pairs of neighbouring calls
    call_ms: Interval | None = None  # the whole generate(): prefill and all tokens
    kept: bool | None = None  # the measured time per token lies within the promise
    kernels_per_step: int | None = None
    launches_per_step: int | None = None
    gap_share: float | None = None  # of a traced step
    allocations_per_step: float | None = None
    gb_per_s: float | None = None  # weights and cache read in a step, over its time
    bandwidth_share: float | None = None  # of the measured copy bandwidth
    prepare_s: float | None = None  # compiling, capturing
    pays_after_tokens: int | None = None
    memory_bytes: int | None = None  # peak above the baseline's
    tokens_same: bool | None = None
    first_difference: int | None = None  # position among the new tokens
    logit_gap: float | None = None  # the baseline's token minus the other's, by the baseline's logits there
    bf16_steps: float | None = None  # that gap in steps of bfloat16 at the logit's size
    stages: list[StageFigures] = []


class Recommendation(msgspec.Struct, frozen=True, kw_only=True):
    """The fastest remedy for a process that generates this many tokens, its preparation included."""

    tokens: int
    remedy: str
    seconds: float
    baseline_seconds: float


class RemedyReport(Shown, msgspec.Struct, frozen=True, kw_only=True):
    """The whole result. Its first row is the baseline."""

    ROWS: ClassVar[str] = "rows"

    schema: str = SCHEMA
    model: str
    headline: str
    config: dict[str, Scalar]
    environment: Environment
    copy_gb_per_s: float | None
    weight_bytes: int | None  # read in a step
    cache_bytes: int | None  # read in a step, in the middle of the call
    floor_ms: float | None  # both over the copy bandwidth
    rounds: int
    rows: list[RemedyRow]
    recommendations: list[Recommendation]
    notes: list[str]
    dense_tflop_per_s: float | None = None  # of a large product
    answers: list[AnswerTime] = []
    baseline_alone_ms: float | None = None  # a token of the baseline's last call before the others were prepared

    def to_json(self) -> bytes:
        """The contract's JSON."""
        return msgspec.json.encode(self)


TOKENS = (32, 128, 512, 2048, 8192, 32768)
"""Numbers of tokens for which a remedy is recommended, beside the user's own."""
UNSTEADY = 1.5
"""From this factor on, between the baseline alone and between the others, the headline trusts no speed-up."""
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
    alone_ms: float | None = None,
) -> str:
    """The result in one sentence, about `leader(rows)`; where the baseline was unsteady, that comes first.

    number, count: write the measured numbers and the counts. alone_ms: RemedyReport.baseline_alone_ms.
    """
    said = _measured(rows, number, count)
    if not is_unsteady(rows, alone_ms) or alone_ms is None:
        return said
    base_ms = _ms(rows[0])
    times = number(max(base_ms / alone_ms, alone_ms / base_ms))
    return (
        f"No factor can be trusted on this machine now: the baseline took {number(alone_ms)} ms a token alone and "
        f"{number(base_ms)} between the others, {times} times as {'long' if base_ms > alone_ms else 'fast'}. "
        f"Between them: {said}"
    )


def is_unsteady(rows: Sequence[RemedyRow], alone_ms: float | None) -> bool:
    """Whether the baseline's time alone and between the others differ so much that no factor can be trusted."""
    if alone_ms is None or alone_ms <= 0 or rows[0].tpot_ms is None or rows[0].tpot_ms.value <= 0:
        return False
    return not 1 / UNSTEADY < _ms(rows[0]) / alone_ms < UNSTEADY


def _measured(rows: Sequence[RemedyRow], number: Callable[[float], str], count: Callable[[int], str]) -> str:
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
