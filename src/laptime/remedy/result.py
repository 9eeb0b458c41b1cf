"""RemedyReport: what each remedy promised and what it delivered. Its JSON is the contract `laptime.remedy/1`.

No torch here: pages and terminals read it. `None` means not known on this machine or not applicable.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from laptime.data.record import Environment, Interval, Scalar

SCHEMA = "laptime.remedy/1"


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """What the baseline's trace says a remedy would bring, before it is applied: time per token as a range."""

    low_ms: float
    high_ms: float
    source: str
    assumptions: list[str]


class RemedyRow(msgspec.Struct, frozen=True, kw_only=True):
    """One remedy: promise and delivery. A row with `failed` says why there is nothing to show."""

    name: str
    title: str
    parts: list[str]  # of buffers, fusion, graph
    promise: Promise | None = None
    failed: str | None = None
    tpot_ms: Interval | None = None
    speedup: Interval | None = None  # of the baseline over this, pair by pair of neighbouring calls
    call_ms: Interval | None = None  # the whole generate(): prefill and all tokens
    kept: bool | None = None  # the measured time per token lies within the promise
    kernels_per_step: int | None = None
    launches_per_step: int | None = None
    gap_share: float | None = None  # of a traced step
    allocations_per_step: float | None = None
    gb_per_s: float | None = None  # weights and cache read a step, over its time
    bandwidth_share: float | None = None  # of the measured copy bandwidth
    prepare_s: float | None = None  # compiling, capturing
    pays_after_tokens: int | None = None
    memory_bytes: int | None = None  # peak above the baseline's
    tokens_same: bool | None = None
    first_difference: int | None = None  # position among the new tokens
    logit_gap: float | None = None  # by the baseline's logits there: its token's minus the other's
    bf16_steps: float | None = None  # that gap in steps of bfloat16 at the logit's size


class Recommendation(msgspec.Struct, frozen=True, kw_only=True):
    """What is fastest for so many tokens in one process, preparation included."""

    tokens: int
    remedy: str
    seconds: float
    baseline_seconds: float


class RemedyReport(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer; the first row is the baseline."""

    schema: str = SCHEMA
    model: str
    headline: str
    config: dict[str, Scalar]
    environment: Environment
    copy_gb_per_s: float | None
    weight_bytes: int | None  # read a step
    cache_bytes: int | None  # read a step, on average over the call
    floor_ms: float | None  # both over the copy bandwidth
    rounds: int
    rows: list[RemedyRow]
    recommendations: list[Recommendation]
    notes: list[str]

    def to_json(self) -> bytes:
        """The contract's JSON."""
        return msgspec.json.encode(self)


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
