"""What a load on an endpoint came to. Its JSON is `laptime.serve/1`. Unknown is None, never 0."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from laptime.data.finding import Finding
from laptime.data.record import Environment, Interval, Scalar
from laptime.data.shown import Shown

SCHEMA = "laptime.serve/1"


class Slo(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer must keep to be good; None: no limit. share: of all requests that must be good."""

    ttft_ms: float | None = None
    tpot_ms: float | None = None
    total_ms: float | None = None
    share: float = 0.95


class Percentile(msgspec.Struct, frozen=True, kw_only=True):
    """One percentile over all measured requests, failed ones counted as slower than every finished one.

    at_least_ms: where the percentile falls on failed requests, their shortest wait is all that is known.
    beyond: requests at or beyond it; a percentile with none behind it is None.
    """

    q: float
    value_ms: float | None
    at_least_ms: float | None
    beyond: int


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One time over a level's requests. n: finished requests that have it; failed: those counted as slower."""

    n: int
    failed: int
    median: Interval | None
    percentiles: list[Percentile]


class Segments(msgspec.Struct, frozen=True, kw_only=True):
    """Where a mean finished request's time went as its client saw it, in ms. They sum to the mean total."""

    client_wait_ms: float
    first_event_ms: float
    first_content_ms: float
    streaming_ms: float
    end_ms: float


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """One load and what came of it. Times count from when a request was due.

    itl_requests: finished requests whose chunks held one token each, so that gaps between tokens are known.
    growth: the median total of the last quarter of requests over that of the first.
    late_p99_ms: how late the client sent. lag_p99_ms: how late the client's own task woke, `wakes` times. sent_late:
    requests that it sent later than it may. Both counts are None in a result from before they were kept.
    """

    name: str
    kind: str
    concurrency: int | None
    rate_per_s: float | None
    planned: int
    finished: int
    failed: dict[str, int]
    span_s: float
    requests_per_s: float | None
    output_tokens_per_s: float | None
    total_ms: Figure
    ttft_ms: Figure
    tpot_ms: Figure
    chunk_gap_ms: Figure
    itl_ms: Figure
    itl_requests: int
    segments: Segments | None
    prompt_tokens_mean: float | None
    output_tokens_mean: float | None
    tokens_per_chunk: float | None
    cached_share: float | None
    good: Interval | None
    goodput_per_s: float | None
    growth: float | None
    late_p99_ms: float | None
    lag_p99_ms: float | None
    engine: dict[str, float]
    lag_limit_ms: float | None = None
    sent_late: int | None = None
    wakes: int | None = None


class LargestLoad(msgspec.Struct, frozen=True, kw_only=True):
    """The largest arrival rate within the SLO, as a range.

    keeps_per_s: the largest rate that surely kept it. misses_per_s: the smallest that surely missed it. Between them
    the requests that were sent don't decide. None: no rate of that kind was found.
    """

    keeps_per_s: float | None
    misses_per_s: float | None
    visits: list[tuple[float, Interval, Literal["keeps", "misses", "undecided"]]]
    stopped: str


class ServeReport(Shown, msgspec.Struct, frozen=True, kw_only=True):
    """The whole result of `laptime serve-bench`."""

    ROWS: ClassVar[str] = "levels"

    schema: str
    url: str
    api: str
    model: str | None
    folder: str | None
    config: dict[str, Scalar]
    slo: Slo | None
    warmup: int
    levels: list[Level]
    largest: LargestLoad | None
    findings: list[Finding]
    environment: Environment
