"""A server on loopback that speaks OpenAI's streaming protocol with delays that the caller sets, and keeps the truth.

It notes the instant of every chunk that it writes, on the same clock as the client: that is the truth a client's
figures can be held against. No model, no library.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Plan:
    """How one answer goes.

    first_s: until the first content. gap_s: between chunks. chunks: how many tokens each one holds.
    role_first: an event without content comes at once. status: anything but 200 is an error. usage: "end", "each" chunk
    or "none". hang_up_after: close the connection after so many chunks. stall_s: a pause before the last chunk.
    error_after: an error event after so many chunks. cached: tokens of the prompt that came from a cache.
    together: all chunks in one write. whole: one answer that isn't streamed. close_after: the connection is closed
    once the next request begins to come.
    """

    first_s: float = 0.0
    gap_s: float = 0.0
    chunks: tuple[int, ...] = (1, 1, 1, 1)
    role_first: bool = False
    status: int = 200
    usage: str = "end"
    hang_up_after: int | None = None
    stall_s: float = 0.0
    error_after: int | None = None
    cached: int | None = None
    together: bool = False
    whole: bool = False
    close_after: bool = False


@dataclass
class Served:
    """One request as the server saw it. writes_ns: when it wrote each chunk of content."""

    body: dict
    path: str
    headers: dict[str, str]
    arrived_ns: int
    writes_ns: list[int] = field(default_factory=list)


class KnownServer:
    """Answers the n-th request by plan(n). `served` holds the truth of each."""

    def __init__(self, plan: Callable[[int], Plan], models: tuple[str, ...] = ("known",)) -> None:
        self.plan = plan
        self.models = models
        self.served: list[Served] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=4096)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                arrived = time.perf_counter_ns()
                lines = head.decode().split("\r\n")
                headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines[1:] if line)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                path = lines[0].split()[1]
                if path.endswith(("/models", "/health")):
                    _whole(writer, 200, {"data": [{"id": name} for name in self.models]})
                    continue
                served = Served(json.loads(body), path, headers, arrived)
                self.served.append(served)
                plan = self.plan(len(self.served) - 1)
                await self._answer(writer, served, plan)
                await writer.drain()
                if plan.close_after:
                    await reader.read(1)
                    writer.transport.abort()
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, served: Served, plan: Plan) -> None:
        if plan.status != 200:
            _whole(writer, plan.status, {"error": {"message": "no room"}})
            return
        chat = served.path.endswith("/chat/completions")
        usage = {"prompt_tokens": 10, "completion_tokens": sum(plan.chunks)}
        if plan.cached is not None:
            usage["prompt_tokens_details"] = {"cached_tokens": plan.cached}
        if plan.whole:
            await asyncio.sleep(plan.first_s)
            _whole(writer, 200, {"choices": [{"message": {"content": "all"}, "finish_reason": "stop"}], "usage": usage})
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        if plan.role_first:
            _event(writer, {"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        await asyncio.sleep(plan.first_s)
        held: list[dict] = []
        tokens = 0
        for place, size in enumerate(plan.chunks):
            if place == plan.hang_up_after:
                await writer.drain()
                writer.transport.abort()
                raise ConnectionError
            if place == plan.error_after:
                _event(writer, {"error": {"message": "out of memory"}})
            if place and place == len(plan.chunks) - 1 and plan.stall_s:
                await asyncio.sleep(plan.stall_s)
            elif place and plan.gap_s:
                await asyncio.sleep(plan.gap_s)
            tokens += size
            word = "word " * size
            event = {"choices": [{"delta": {"content": word}} if chat else {"text": word}]}
            if plan.usage == "each":
                event["usage"] = {"prompt_tokens": 10, "completion_tokens": tokens}
            held.append(event)
            if not plan.together:
                served.writes_ns.append(time.perf_counter_ns())
                _event(writer, *held)
                held = []
        if held:
            served.writes_ns.append(time.perf_counter_ns())
            _event(writer, *held)
        _event(writer, {"choices": [{"delta": {}, "finish_reason": "stop"}]})
        if plan.usage != "none":
            _event(writer, {"choices": [], "usage": usage})
        _chunk(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")


def _event(writer: asyncio.StreamWriter, *events: dict) -> None:
    events = tuple({"id": "chatcmpl-known", "object": "chat.completion.chunk", **event} for event in events)
    _chunk(writer, b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events))


def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


def _whole(writer: asyncio.StreamWriter, status: int, value: dict) -> None:
    data = json.dumps(value).encode()
    head = f"HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)


@contextmanager
def running(plan: Plan | Callable[[int], Plan], **options) -> Iterator[KnownServer]:
    """The server in a thread of its own, until the block ends."""
    server = KnownServer(plan if callable(plan) else lambda _: plan, **options)
    loop = asyncio.new_event_loop()
    ready = threading.Event()

    def serve() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(server.start())
        ready.set()
        loop.run_forever()
        open_ = asyncio.all_tasks(loop)
        for task in open_:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*open_, return_exceptions=True))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    ready.wait()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


if __name__ == "__main__":  # a process of its own, which can be killed: its argument is first_s, it prints its address
    with running(Plan(first_s=float(sys.argv[1]))) as alone:
        sys.stdout.write(f"{alone.url}\n")
        sys.stdout.flush()
        threading.Event().wait()
