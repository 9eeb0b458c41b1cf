"""The result of a proof: the promise and the measured time of each remedy. Its JSON is `laptime.remedy/1`.

No torch here, so that pages and terminals can read it. None stands for what isn't known on this machine, or doesn't
apply.
"""

from __future__ import annotations

import msgspec

from laptime.data.record import Environment, Interval, Scalar

SCHEMA = "laptime.remedy/1"
BASELINE = "eager"
NAMES = (BASELINE, "buffers", "static", "fusion", "graph", "compiled", "kernels", "fast")
"""Names of the remedies, in the order in which they are shown."""


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """The time per token that the baseline's trace and time alone predict for a remedy, as a range."""

    low_ms: float
    high_ms: float
    source: str
    assumptions: list[str]


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


class Recommendation(msgspec.Struct, frozen=True, kw_only=True):
    """The fastest remedy for a process that generates this many tokens, its preparation included."""

    tokens: int
    remedy: str
    seconds: float
    baseline_seconds: float


class RemedyReport(msgspec.Struct, frozen=True, kw_only=True):
    """The whole result. Its first row is the baseline."""

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

    def to_json(self) -> bytes:
        """The contract's JSON."""
        return msgspec.json.encode(self)
