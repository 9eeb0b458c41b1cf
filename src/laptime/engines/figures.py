"""What the requests of one load say together. Pure functions.

A request that failed never ended. It isn't left out: it counts as slower than every request that ended, since leaving
it out would make a server look fast by failing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import ceil, isfinite

import numpy as np

from laptime.data.record import Interval
from laptime.data.stats import median_interval, quantile, t_quantile, wilson
from laptime.engines.client import LoadRun
from laptime.engines.findings import lag_limit_ms
from laptime.engines.loads import Load
from laptime.engines.request import RequestSample, between_ms
from laptime.engines.result import Figure, Level, Percentile, Segments, Slo

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
BLOCKS = 8
"""Parts of a level, in the order of its requests, whose shares show how far neighbours resemble each other."""
FEWEST_IN_BLOCK = 5


def level_of(load: Load, run: LoadRun, slo: Slo | None) -> Level:
    """The figures of one load."""
    requests = sorted(run.requests, key=lambda request: request.due.ns)
    finished = [request for request in requests if request.outcome == "finished"]
    failed = [request for request in requests if request.outcome != "finished"]
    tokens = [request.output_tokens for request in finished if request.output_tokens is not None]
    good = None if slo is None else share_good(requests, slo)
    by_token = [request.itl_ms for request in finished if request.itl_ms]
    lates = [request.client_wait_ms for request in requests if request.client_wait_ms is not None]
    firsts = [first for one in finished if (first := between_ms(one.due, one.first_content or one.done)) is not None]
    limit = lag_limit_ms(quantile(firsts, 0.5) if firsts else 0.0)
    span_s = run.span_s
    return Level(
        name=load.name,
        kind=load.kind,
        concurrency=load.concurrency,
        rate_per_s=load.rate_per_s,
        planned=load.requests,
        finished=len(finished),
        failed=dict(sorted(Counter(request.outcome for request in failed).items())),
        span_s=span_s,
        requests_per_s=len(finished) / span_s if span_s > 0 else None,
        output_tokens_per_s=sum(tokens) / span_s if tokens and len(tokens) == len(finished) else None,
        total_ms=_figure(finished, failed, lambda request: request.total_ms),
        ttft_ms=_figure(finished, failed, lambda request: request.ttft_ms),
        tpot_ms=_figure(finished, failed, lambda request: request.tpot_ms),
        chunk_gap_ms=_pooled([request.chunk_gaps_ms for request in finished]),
        itl_ms=_pooled(by_token),
        itl_requests=len(by_token),
        segments=_segments(finished),
        prompt_tokens_mean=_mean([request.prompt_tokens for request in finished]),
        output_tokens_mean=_mean(tokens),
        tokens_per_chunk=_tokens_per_chunk(finished),
        cached_share=_cached_share(finished),
        good=good,
        goodput_per_s=None if good is None or span_s <= 0 else round(good.value * len(requests)) / span_s,
        growth=_growth(finished),
        late_p99_ms=quantile(lates, 0.99) if lates else None,
        lag_p99_ms=quantile(run.lateness_ms, 0.99) if run.lateness_ms else None,
        engine=_engine(finished),
        lag_limit_ms=limit,
        sent_late=sum(late > limit for late in lates),
        wakes=len(run.lateness_ms),
    )


def is_good(request: RequestSample, slo: Slo) -> bool:
    """Whether an answer kept every limit. A failed one didn't; nor did one whose time isn't known.

    An answer of fewer than two tokens has no time per token that could be too long.
    """
    if request.outcome != "finished":
        return False
    if slo.ttft_ms is not None and (request.ttft_ms is None or request.ttft_ms > slo.ttft_ms):
        return False
    one = request.output_tokens is not None and request.output_tokens < 2
    if slo.tpot_ms is not None and not one and (request.tpot_ms is None or request.tpot_ms > slo.tpot_ms):
        return False
    return slo.total_ms is None or request.total_ms <= slo.total_ms


def share_good(requests: Sequence[RequestSample], slo: Slo) -> Interval | None:
    """The share of good answers with a 95 % interval; None of no requests.

    Neighbouring requests share a queue, so they are no independent draws: the interval is the wider one of Wilson's and
    Student's over the shares of BLOCKS parts of the level.
    """
    if not requests:
        return None
    good = np.array([is_good(request, slo) for request in requests], dtype=np.float64)
    own = wilson(float(good.mean()), len(good))
    if len(good) < BLOCKS * FEWEST_IN_BLOCK or own.low is None or own.high is None:
        return own
    shares = np.array([block.mean() for block in np.array_split(good, BLOCKS)])
    half = t_quantile(BLOCKS - 1, 0.975) * float(shares.std(ddof=1)) / BLOCKS**0.5
    low, high = min(own.low, own.value - half), max(own.high, own.value + half)
    return Interval(own.value, max(0.0, low), min(1.0, high), own.n)


def _figure(
    finished: Sequence[RequestSample], failed: Sequence[RequestSample], of: Callable[[RequestSample], float | None]
) -> Figure:
    values = [value for request in finished if (value := of(request)) is not None]
    return _of_values(values, [request.total_ms for request in failed] if values or not finished else [])


def _pooled(lists: Sequence[Sequence[float]]) -> Figure:
    return _of_values([value for values in lists for value in values], [])


def _of_values(values: Sequence[float], waits: Sequence[float]) -> Figure:
    """waits: of failed requests, what they had waited when they were given up."""
    ordered = sorted(values)
    n = len(ordered) + len(waits)
    percentiles = [_percentile(q, ordered, waits, n) for q in QUANTILES]
    median = None
    if values:
        interval = median_interval([*values, *([float("inf")] * len(waits))])
        if isfinite(interval.value):
            high = interval.high if interval.high is not None and isfinite(interval.high) else None
            median = Interval(interval.value, interval.low if high is not None else None, high, n)
    return Figure(n=len(values), failed=len(waits), median=median, percentiles=percentiles)


def _percentile(q: float, ordered: Sequence[float], waits: Sequence[float], n: int) -> Percentile:
    """By nearest rank, so that it is a time that was measured. None where fewer than 1 / (1 - q) requests were sent."""
    rank = max(1, ceil(round(q * n, 9)))
    beyond = n - rank + 1
    if n < round(1 / (1 - q)):
        return Percentile(q=q, value_ms=None, at_least_ms=None, beyond=0)
    if rank <= len(ordered):
        return Percentile(q=q, value_ms=ordered[rank - 1], at_least_ms=None, beyond=beyond)
    return Percentile(q=q, value_ms=None, at_least_ms=max([*ordered[-1:], min(waits)]), beyond=beyond)


def _segments(finished: Sequence[RequestSample]) -> Segments | None:
    rows = []
    for request in finished:
        marks = (request.due, request.sent, request.first_event, request.first_content, request.last_content,
                 request.done)  # fmt: skip
        gaps = [between_ms(a, b) for a, b in pairwise(marks)]
        if all(gap is not None for gap in gaps):
            rows.append(gaps)
    if not rows:
        return None
    means = np.array(rows, dtype=np.float64).mean(axis=0).tolist()
    return Segments(
        client_wait_ms=means[0],
        first_event_ms=means[1],
        first_content_ms=means[2],
        streaming_ms=means[3],
        end_ms=means[4],
    )


def _tokens_per_chunk(finished: Sequence[RequestSample]) -> float | None:
    pairs = [(request.output_tokens, len(request.chunks)) for request in finished if request.output_tokens]
    chunks = sum(count for _, count in pairs)
    return sum(tokens or 0 for tokens, _ in pairs) / chunks if chunks else None


def _cached_share(finished: Sequence[RequestSample]) -> float | None:
    known = [(request.cached_tokens, request.prompt_tokens) for request in finished]
    pairs = [(cached, prompt) for cached, prompt in known if cached is not None and prompt]
    return sum(cached for cached, _ in pairs) / sum(prompt for _, prompt in pairs) if pairs else None


def _engine(finished: Sequence[RequestSample]) -> dict[str, float]:
    """The medians of what the engine itself said of its requests, by its own names."""
    values: dict[str, list[float]] = {}
    for request in finished:
        for name, value in request.engine.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                values.setdefault(name, []).append(float(value))
    return {name: quantile(numbers, 0.5) for name, numbers in sorted(values.items())}


def _growth(finished: Sequence[RequestSample]) -> float | None:
    """finished: in the order in which they were due."""
    quarter = len(finished) // 4
    if quarter < FEWEST_IN_BLOCK:
        return None
    totals = [request.total_ms for request in finished]
    return quantile(totals[-quarter:], 0.5) / quantile(totals[:quarter], 0.5)


def _mean(values: Sequence[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
