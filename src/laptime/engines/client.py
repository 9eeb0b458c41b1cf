"""The client: sends one request of a load, and notes the instant of everything that comes back.

It also watches itself: a task that wants to wake every few milliseconds measures how late it wakes. That lateness is
what the client may add to every instant of an answer.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from laptime.data.record import Scalar
from laptime.engines.alarm import Alarm
from laptime.engines.loads import Load
from laptime.engines.questions import Question
from laptime.engines.request import Chunk, Instant, Outcome, RequestFlag, RequestSample
from laptime.engines.stream import Event, EventStream, Usage, read_event

WATCH_EVERY_S = 0.005
SWITCH_S = 0.0002
"""How long another thread of this process (the one that writes) may keep the client waiting."""
HIGHEST_BYTES = 64 << 20
"""An answer longer than this is given up."""

Done = Callable[[RequestSample], None]


@dataclass(frozen=True)
class Endpoint:
    """Where requests go. headers: may hold a key, so they are never recorded."""

    url: str
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    timeout_s: float = 120.0


@dataclass(frozen=True)
class LoadRun:
    """What came of one load. lateness_ms: how late the client's own task woke, each time. span_s: first to last."""

    requests: list[RequestSample]
    lateness_ms: list[float]
    span_s: float


@asynccontextmanager
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Connections that are kept open, with no limit of their number. No proxy, no cookies, no decompression."""
    connector = aiohttp.TCPConnector(limit=0, force_close=False)
    async with aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trace_configs=[_tracing()]
    ) as opened:
        yield opened


async def run_load(
    opened: aiohttp.ClientSession, endpoint: Endpoint, load: Load, asked: Sequence[tuple[Question, int]], done: Done
) -> LoadRun:
    """Send a load's requests and wait for all of them. `done` is called with each as it ends.

    asked: for each request its question, and which repeat of it this is.
    """
    requests: list[RequestSample] = []
    lateness: list[float] = []

    async def one(place: int, due_ns: int) -> None:
        question, repeat = asked[place]
        request = await ask(opened, endpoint, question, (load.name, repeat, due_ns))
        requests.append(request)
        done(request)

    watch = asyncio.create_task(_watch(lateness))
    was_on, switching_s = gc.isenabled(), sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.disable()  # a collection would stop the clock of every request that is open
    start = time.perf_counter_ns()
    try:
        if load.concurrency is not None:
            await _users(load.concurrency, len(asked), one)
        else:
            await _arrivals(load.arrivals_s, one)
    finally:
        watch.cancel()
        sys.setswitchinterval(switching_s)
        if was_on:
            gc.enable()
    return LoadRun(requests, lateness, (time.perf_counter_ns() - start) / 1e9)


async def _users(users: int, requests: int, one: Callable[[int, int], Any]) -> None:
    places = iter(range(requests))

    async def user() -> None:
        for place in places:
            await one(place, time.perf_counter_ns())

    await asyncio.gather(*(user() for _ in range(min(users, requests))))


async def _arrivals(arrivals_s: Sequence[float], one: Callable[[int, int], Any]) -> None:
    start = time.perf_counter_ns() + 10_000_000
    tasks: set[asyncio.Task[None]] = set()
    failed: list[BaseException] = []

    def ended(task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            failed.append(error)

    with Alarm() as alarm:
        for place, arrival in enumerate(arrivals_s):
            due = start + int(arrival * 1e9)
            await alarm.until(due)
            if failed:
                break
            task = asyncio.create_task(one(place, due))
            tasks.add(task)
            task.add_done_callback(ended)
    while tasks and not failed:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    if failed:
        raise failed[0]


async def _watch(lateness: list[float]) -> None:
    with Alarm() as alarm:
        while True:
            due = time.perf_counter_ns() + int(WATCH_EVERY_S * 1e9)
            await alarm.until(due)
            lateness.append((time.perf_counter_ns() - due) / 1e6)


class _Answer:
    """What is known so far of one answer."""

    def __init__(self) -> None:
        self.headers: Instant | None = None
        self.first_event: Instant | None = None
        self.chunks: list[Chunk] = []
        self.texts: list[str] = []
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.engine: dict[str, Scalar] = {}
        self.flags: set[RequestFlag] = set()
        self.status: int | None = None
        self.server_id: str | None = None
        self.error: str | None = None
        self.ended = False

    def take(self, ns: int, events: Sequence[Event], *, streamed: bool = True) -> None:
        """Note the events of one read."""
        if events and self.first_event is None:
            self.first_event = Instant(ns)
        if sum(bool(event.content) for event in events) > 1:
            self.flags.add("chunks-merged")
        for event in events:
            if event.content:
                self.texts.append(event.content)
                if streamed:
                    tokens = event.usage.output if event.usage else None
                    self.chunks.append(Chunk(ns, len(event.content), tokens))
            self.usage = event.usage or self.usage
            self.finish_reason = event.finish_reason or self.finish_reason
            self.engine = event.engine or self.engine
            self.server_id = self.server_id or event.id
            self.error = self.error or event.error
            self.ended = self.ended or event.last


async def ask(
    opened: aiohttp.ClientSession, endpoint: Endpoint, question: Question, plan: tuple[str, int, int]
) -> RequestSample:
    """Send one request and read its answer to the end. Whatever goes wrong is recorded, not raised.

    plan: the load's name, the repeat, and the instant at which the request was due.
    """
    load, repeat, due_ns = plan
    answer = _Answer()
    outcome: Outcome = "finished"
    started_unix_ms = time.time() * 1e3
    sent = time.perf_counter_ns()
    try:
        while True:
            try:
                outcome = await _exchange(opened, endpoint, question.body, answer)
                break
            except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
                if (
                    isinstance(error, aiohttp.ClientConnectorError)
                    or answer.headers
                    or "new-connection" in answer.flags
                ):
                    raise
                answer.flags.add(
                    "resent"
                )  # the server had closed the connection that was kept open; the next may be too
    except asyncio.TimeoutError:
        outcome, answer.error = "time-out", f"no end within {endpoint.timeout_s:g} s"
    except aiohttp.ClientConnectorError as error:
        outcome, answer.error = "no-connection", refused(error)
    except (aiohttp.ClientError, ConnectionError, ValueError) as error:
        outcome, answer.error = "cut-off", str(error) or type(error).__name__
    done = time.perf_counter_ns()
    usage = answer.usage or Usage(None, None, None)
    if outcome == "finished" and usage.output is None:
        answer.flags.add("no-usage")
    return RequestSample(
        load=load,
        request_id=question.id,
        repeat=repeat,
        outcome=outcome,
        due=Instant(due_ns),
        sent=Instant(sent),
        headers=answer.headers,
        first_event=answer.first_event,
        first_content=Instant(answer.chunks[0].ns) if answer.chunks else None,
        last_content=Instant(answer.chunks[-1].ns) if answer.chunks else None,
        done=Instant(done),
        prompt_tokens=usage.prompt,
        cached_tokens=usage.cached,
        output_tokens=usage.output,
        finish_reason=answer.finish_reason,
        status=answer.status,
        error=answer.error,
        chunks=answer.chunks,
        flags=sorted(answer.flags),
        server_id=answer.server_id,
        engine=answer.engine,
        text="".join(answer.texts) or None,
        started_unix_ms=started_unix_ms,
    )


async def _exchange(opened: aiohttp.ClientSession, endpoint: Endpoint, body: bytes, answer: _Answer) -> Outcome:
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream", **endpoint.headers}
    limit = aiohttp.ClientTimeout(total=endpoint.timeout_s)
    async with opened.post(
        endpoint.url, data=body, headers=headers, timeout=limit, allow_redirects=False, trace_request_ctx=answer
    ) as response:
        answer.headers = Instant(time.perf_counter_ns())
        answer.status = response.status
        if response.status != 200:
            reply = await response.content.read(2000)
            answer.error = f"HTTP {response.status}: {reply.decode('utf-8', 'replace')}"
            return "http-error"
        if "json" in response.content_type:
            answer.flags.add("not-streamed")
            answer.take(time.perf_counter_ns(), [read_event(await response.read())], streamed=False)
            return "stream-error" if answer.error else "finished"
        stream, size = EventStream(), 0
        async for block in response.content.iter_any():
            answer.take(time.perf_counter_ns(), stream.feed(block))
            size += len(block)
            if answer.error or size > HIGHEST_BYTES:
                answer.error = answer.error or f"the answer is longer than {HIGHEST_BYTES} bytes"
                return "stream-error"
        answer.take(time.perf_counter_ns(), stream.end())
    if answer.error:
        return "stream-error"
    if not answer.ended and answer.finish_reason is None:
        answer.error = "the stream ended without a finish reason"
        return "cut-off"
    return "finished"


def _tracing() -> aiohttp.TraceConfig:
    """Marks requests for which a connection had to be opened."""
    tracing = aiohttp.TraceConfig()

    async def opened(_: Any, context: Any, __: Any) -> None:
        if isinstance(context.trace_request_ctx, _Answer):
            context.trace_request_ctx.flags.add("new-connection")

    tracing.on_connection_create_end.append(opened)
    return tracing


def refused(error: aiohttp.ClientConnectorError) -> str:
    """Why a connection couldn't be made, as the system says it."""
    return str(error.os_error.strerror or error.os_error)
