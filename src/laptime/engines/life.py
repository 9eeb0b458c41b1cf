"""A request's life: its time cut into spans without a hole, by its own instants and the engine's steps. Pure functions.

Two answers are kept apart. A request's *time* in a step that it shares is the whole step, since it waits for all of it.
Its *cost* is the step's time by its share of the step's tokens. Costs add up over requests to the time of the steps;
times don't.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Literal

import msgspec

from laptime.engines.request import Instant, RequestSample
from laptime.engines.step import Row, StepSample

SpanKind = Literal[
    "client",
    "transport",
    "preprocessing",
    "queue",
    "start",
    "vision",
    "others-vision",
    "prefill",
    "decode",
    "beside-prefill",
    "stalled",
    "between",
    "output",
    "return",
]

SPAN_WORDS: dict[SpanKind, str] = {
    "client": "due until the client sent it",
    "transport": "sent until it arrived in the engine: HTTP and JSON",
    "preprocessing": "arrival until it was given to the engine's core: tokens and images made",
    "queue": "given to the core until scheduled",
    "start": "scheduled until its first step began",
    "vision": "its own images encoded",
    "others-vision": "other requests' images encoded within its step",
    "prefill": "steps with tokens of its prompt",
    "decode": "steps that decode it, without anybody's prompt",
    "beside-prefill": "steps that decode it and hold another request's prompt",
    "stalled": "steps of other requests without it, between its own",
    "between": "no step: the engine between two of its steps",
    "output": "end of its last step until its last token was given to the HTTP server",
    "return": "given to the HTTP server until the client had the end of the answer",
}
"""Each kind of span in words, in the order of a life."""

STAGE_OF: dict[SpanKind, str | None] = {
    "client": "other",
    "transport": "other",
    "preprocessing": "preprocessing",
    "queue": "queue",
    "start": "other",
    "vision": "vision",
    "others-vision": None,
    "prefill": "prefill",
    "decode": "decode",
    "beside-prefill": "decode",
    "stalled": None,
    "between": None,
    "output": "other",
    "return": "other",
}
"""The stage that a kind of span belongs to; None: prefill before the first token, decode after it."""

SOON_NS = 50_000
"""An instant may precede the one before it by this much (rounding of vLLM's float seconds, brackets of its clock)."""


class Span(msgspec.Struct, frozen=True, array_like=True):
    """A part of a request's life. step: the number of the engine's step, where it is one."""

    kind: SpanKind
    begin: int
    end: int
    step: int | None = None


class RequestLife(msgspec.Struct, frozen=True, kw_only=True):
    """One request over the engine's steps. Its spans have no hole: they sum to its total to the nanosecond.

    stages: in ns, of the same sum. cost_ns: its share of its steps by tokens; None where no steps are known, as the
    numbers of steps. decode_steps: steps after the first token. out_of_order_ns: the largest amount by which an instant
    preceded the one before it; 0 is right. ttft_ns: begin to the engine's first token.
    """

    request: RequestSample
    spans: list[Span]
    stages: dict[str, int]
    kinds: dict[str, int]
    cost_ns: int | None
    prefill_cost_ns: int | None
    steps: int | None
    prefill_steps: int | None
    decode_steps: int | None
    ttft_ns: int
    out_of_order_ns: int

    @property
    def total_ns(self) -> int:
        """From the first instant to the last."""
        return self.spans[-1].end - self.spans[0].begin

    @property
    def tokens_per_step(self) -> float | None:
        """Output tokens after the first for each decode step: above 1 with speculative decoding."""
        tokens = self.request.output_tokens
        return (tokens - 1) / self.decode_steps if tokens is not None and tokens > 1 and self.decode_steps else None


def lives_of(
    requests: Sequence[RequestSample], steps: Sequence[StepSample]
) -> tuple[list[RequestLife], list[RequestSample]]:
    """The lives of finished requests, and those of which the engine's instants or steps are missing.

    steps: of one worker, in order. Where an engine shows none, a life is cut by the request's own instants alone.
    """
    if not steps:
        coarse = [(request, _coarse(request)) for request in requests]
        return [life for _, life in coarse if life], [request for request, life in coarse if not life]
    numbers = {new.request_id: new.number for step in steps for new in step.new}
    own: dict[int, list[tuple[StepSample, Row]]] = {}
    for step in steps:
        for row in step.rows:
            own.setdefault(row.number, []).append((step, row))
    begins = [step.begin for step in steps]
    lives: list[RequestLife] = []
    missing: list[RequestSample] = []
    for request in requests:
        mine = own.get(numbers.get(request.engine_id or request.request_id, -1), [])
        life = _life(request, mine, steps, begins) if mine else None
        if life is None:
            missing.append(request)
        else:
            lives.append(life)
    return lives, missing


def _life(
    request: RequestSample,
    mine: Sequence[tuple[StepSample, Row]],
    steps: Sequence[StepSample],
    begins: Sequence[int],
) -> RequestLife | None:
    scheduled, first, last = request.scheduled, request.first_token, request.last_token
    if request.arrival is None or scheduled is None or first is None or last is None or request.delivered is None:
        return None
    used = [(step, row) for step, row in mine if step.end <= last.ns + SOON_NS]  # an asynchronous engine runs ahead
    if not used:
        return None
    line = _until_handed(request, request.arrival)
    line.until("queue", scheduled.ns)
    line.until("start", used[0][0].begin)
    for place, (step, row) in enumerate(used):
        if place:
            _between(line, steps, begins, used[place - 1][0], step)
        _within(line, step, row)
    line.until("output", request.delivered.ns)
    line.until("return", request.done.ns)
    prefill = [(step, row) for step, row in used if row.prefill]
    return RequestLife(
        request=_flagged(request, mine, used),
        spans=line.spans,
        stages=_stages(line.spans, max((step.end for step, _ in used if step.end <= first.ns + SOON_NS), default=0)),
        kinds=_sums(line.spans),
        cost_ns=sum(_cost(step, row) for step, row in used),
        prefill_cost_ns=sum(_cost(step, row) for step, row in prefill),
        steps=len(used),
        prefill_steps=len(prefill),
        decode_steps=len(used) - len(prefill),
        ttft_ns=first.ns - request.due.ns,
        out_of_order_ns=line.out_of_order,
    )


def _until_handed(request: RequestSample, arrival: Instant) -> _Line:
    """A life from when the request was due until the engine's core was given it, or until its arrival."""
    line = _Line(request.due.ns)
    if request.sent is not None:
        line.until("client", request.sent.ns)
        line.until("transport", arrival.ns)
    else:
        line.until("client", arrival.ns)
    if request.handed is not None:
        line.until("preprocessing", request.handed.ns)
    return line


def _coarse(request: RequestSample) -> RequestLife | None:
    scheduled, first, last = request.scheduled, request.first_token, request.last_token
    if request.arrival is None or first is None or last is None:
        return None
    line = _until_handed(request, request.arrival)
    if scheduled is not None:
        line.until("queue", scheduled.ns)
    line.until("prefill", first.ns)
    line.until("decode", last.ns)
    if request.delivered is not None:
        line.until("output", request.delivered.ns)
    line.until("return", request.done.ns)
    return RequestLife(
        request=request,
        spans=line.spans,
        stages=_stages(line.spans, first.ns),
        kinds=_sums(line.spans),
        cost_ns=None,
        prefill_cost_ns=None,
        steps=None,
        prefill_steps=None,
        decode_steps=None,
        ttft_ns=first.ns - request.due.ns,
        out_of_order_ns=line.out_of_order,
    )


class _Line:
    """Spans one after the other; an instant that precedes the last one is noted and moved to it."""

    def __init__(self, begin: int) -> None:
        self.spans: list[Span] = []
        self.at = begin
        self.out_of_order = 0

    def until(self, kind: SpanKind, ns: int, step: int | None = None) -> None:
        self.out_of_order = max(self.out_of_order, self.at - ns)
        if ns > self.at:
            self.spans.append(Span(kind, self.at, ns, step))
            self.at = ns


def _within(line: _Line, step: StepSample, row: Row) -> None:
    kind: SpanKind = "prefill" if row.prefill else "beside-prefill" if step.mixed else "decode"
    if step.encoder is not None:
        line.until(kind, step.encoder[0], step.number)
        line.until("vision" if row.images else "others-vision", step.encoder[1], step.number)
    line.until(kind, step.end, step.number)


def _between(
    line: _Line, steps: Sequence[StepSample], begins: Sequence[int], before: StepSample, after: StepSample
) -> None:
    """The time between two steps of a request: steps without it, and no step at all."""
    for step in steps[bisect_left(begins, before.end) : bisect_left(begins, after.begin)]:
        line.until("between", step.begin)
        line.until("stalled", step.end, step.number)
    line.until("between", after.begin)


def _stages(spans: Sequence[Span], first_step: int) -> dict[str, int]:
    """first_step: the end of the step that gave the first token; decode begins there."""
    sums: dict[str, int] = {}
    for span in spans:
        stage = STAGE_OF[span.kind] or ("prefill" if span.begin < first_step else "decode")
        sums[stage] = sums.get(stage, 0) + span.end - span.begin
    return sums


def _sums(spans: Sequence[Span]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for span in spans:
        sums[span.kind] = sums.get(span.kind, 0) + span.end - span.begin
    return sums


def _cost(step: StepSample, row: Row) -> int:
    return (step.end - step.begin) * row.tokens // max(step.tokens, 1)


def _flagged(
    request: RequestSample, mine: Sequence[tuple[StepSample, Row]], used: Sequence[tuple[StepSample, Row]]
) -> RequestSample:
    flags = set(request.flags)
    if any(len(step.rows) > 1 for step, _ in used):
        flags.add("shared-step")
    if len(mine) > len(used):
        flags.add("surplus-step")
    return msgspec.structs.replace(request, flags=sorted(flags))
