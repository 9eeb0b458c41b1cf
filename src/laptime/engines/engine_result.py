"""What an engine's own marks came to. Its JSON is `laptime.engine/1`. Unknown is None, never 0."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from laptime.data.finding import Finding
from laptime.data.record import Interval
from laptime.data.shown import Shown
from laptime.engines.life import RequestLife, SpanKind
from laptime.engines.step import StepSample

SCHEMA = "laptime.engine/1"


class StageFigure(msgspec.Struct, frozen=True, kw_only=True):
    """One stage (or kind of span) over the requests of a load. mean_ms: over all of them, 0 where one has none."""

    median: Interval
    mean_ms: float
    share: float


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """One figure that several programs give, in ms, medians over the requests that have both.

    here: from this engine's instants and steps. there: as the other says. difference: median of there - here.
    why: what the difference is, by definition.
    """

    name: str
    whose: str
    here_ms: float
    there_ms: float
    difference_ms: float
    largest_ms: float
    n: int
    why: str


class EngineLevel(msgspec.Struct, frozen=True, kw_only=True):
    """The requests of one load. kinds: mean ms of each kind of span; they sum to the mean total, as the stages do.

    cost_ms: mean share of the steps by tokens. out_of_order_ms: the largest amount by which an instant preceded the one
    before it. tokens_per_step: of decoding; above 1 with speculative decoding.
    """

    name: str
    requests: int
    total: StageFigure
    stages: dict[str, StageFigure]
    kinds: dict[SpanKind, float]
    cost_ms: float | None
    ttft_ms: Interval
    decode_per_token_ms: Interval | None
    prompt_tokens_mean: float | None
    output_tokens_mean: float | None
    cached_share: float | None
    tokens_per_step: float | None
    chunked: int | None
    preempted: int
    shared: int | None
    out_of_order_ms: float
    beside: list[Beside]


class StepFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The steps of the engine. busy_ms: their sum. gaps_ms: between two steps while a request ran.

    skew_ms: how much later the last of several workers ended a step than the first, median and largest.
    """

    steps: int
    mixed: int
    with_images: int
    busy_ms: float
    gap: Interval | None
    gaps_ms: float
    decode_step: Interval | None
    prefill_step: Interval | None
    mixed_step: Interval | None
    tokens_mean: float
    requests_mean: float
    requests_most: int
    skew: Interval | None
    workers: int


class EngineReport(Shown, msgspec.Struct, frozen=True, kw_only=True):
    """The whole result of `laptime engine`. lives and shown_steps: what the page draws."""

    ROWS: ClassVar[str] = "levels"

    schema: str = SCHEMA
    source: str
    client: str | None
    engine: str
    version: str
    clock_error_ns: int
    cross_host: bool
    requests: int
    left_out: dict[str, int]
    levels: list[EngineLevel]
    steps: StepFigures | None
    waiting_most: int | None
    cache_share_most: float | None
    findings: list[Finding]
    lives: list[RequestLife]
    shown_steps: list[StepSample]
