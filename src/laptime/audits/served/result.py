"""What another program's result file says, in one form. Unknown is None, never 0. Times are ms."""

from __future__ import annotations

from typing import Literal

import msgspec


class ServedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request as the program saw it. start_s: on any clock. client_queue_ms: what it waited inside the client.

    per_token_ms: the program's own figure. gaps_ms: between chunks, where it keeps them. chunks: their number.
    """

    ttft_ms: float | None = None
    total_ms: float | None = None
    per_token_ms: float | None = None
    gaps_ms: list[float] | None = None
    chunks: int | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    start_s: float | None = None
    client_queue_ms: float | None = None
    error: str | None = None


class StatedFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What a result says of a load as a whole. times: kind ("TTFT", "request", "token", "gap") to statistic, ms.

    The rates are per second. call_rate: tokens a second, the mean over calls that are timed one by one.
    """

    duration_s: float | None = None
    times: dict[str, dict[str, float]] = {}
    requests_rate: float | None = None
    output_rate: float | None = None
    tokens_rate: float | None = None
    call_rate: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None


class ServedLevel(msgspec.Struct, frozen=True, kw_only=True):
    """One load. requests: those that it keeps one by one, failed ones too; empty where only totals are kept.

    planned, finished, failed: as it counts them. rate_per_s: asked. p99: whether it gives a 99th percentile.
    """

    name: str
    requests: list[ServedRequest] = []
    planned: int | None = None
    finished: int | None = None
    failed: int | None = None
    rate_per_s: float | None = None
    achieved_per_s: float | None = None
    concurrency: int | None = None
    shared_prefix_tokens: int | None = None
    output_mean: float | None = None
    p99: bool = True
    stated: StatedFigures = StatedFigures()

    @property
    def good(self) -> list[ServedRequest]:
        """Requests that ended well, in the order in which they began where that is known."""
        good = [request for request in self.requests if request.error is None]
        known = all(request.start_s is not None for request in good)
        return sorted(good, key=lambda request: request.start_s or 0.0) if known else good


class ServedResult(msgspec.Struct, frozen=True, kw_only=True):
    """One result. program: its name. ttft_from: where its TTFT begins. batches: it times batches and not requests.

    gaps_named: what the program calls the things between which its gaps lie.
    """

    program: str
    source: str
    levels: list[ServedLevel]
    ttft_from: str | None
    batches: bool = False
    gaps_named: Literal["tokens", "chunks"] = "tokens"
