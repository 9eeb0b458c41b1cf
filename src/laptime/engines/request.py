"""One request to a serving engine: its instants, what it was made of, how it ended. Unknown is None, never 0.

All instants are perf_counter_ns of one host. Each says who took it, so that an engine's own instants can stand beside
the client's, once an adapter inside an engine gives them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from laptime.data.outside import DAMAGE, read_part
from laptime.data.record import Failure, Sample, Scalar, StageTimes, config_id
from laptime.errors import LaptimeError

Source = Literal["client", "engine"]
RequestFlag = Literal["chunks-merged", "not-streamed", "new-connection", "resent", "no-usage", "aborted", "shared-step",
                      "preempted", "surplus-step", "cross-host"]  # fmt: skip
Outcome = Literal["finished", "time-out", "http-error", "stream-error", "cut-off", "no-connection"]

REQUEST_FLAGS: dict[RequestFlag, str] = {
    "chunks-merged": "several chunks came in one read of the connection, so they share an instant",
    "not-streamed": "the answer came whole, so nothing is known of its tokens' instants",
    "new-connection": "a connection was opened for this request, and its total holds that time",
    "resent": "the server had closed the connection that was kept open, so the request was sent once more",
    "no-usage": "the endpoint counted no tokens",
    "aborted": "the engine gave the request up",
    "shared-step": "the engine computed other requests in the same step",
    "preempted": "the engine took its memory away for other requests and began it again",
    "surplus-step": "the engine computed a step for it after the last token that it gave out",
    "cross-host": "client and engine ran on different hosts, so their clocks are not joined",
}


class Instant(msgspec.Struct, frozen=True, array_like=True):
    """One instant in perf_counter_ns, and who took it."""

    ns: int
    source: Source = "client"


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """What one event of the stream carried. tokens: output tokens so far, where the endpoint counts them in each."""

    ns: int
    characters: int
    tokens: int | None = None


class RequestSample(msgspec.Struct, frozen=True, kw_only=True):
    """One request. due: when the load wanted it sent. done: the end of the answer, or when it was given up.

    arrival, handed (to the engine's core), queued, scheduled, first_token, last_token and delivered (to its HTTP
    server) are the engine's own; a client alone leaves them None. server_id: the id that the answer itself names.
    engine_id: the engine's own name of the request. engine: what the engine itself says of the request, by its own
    definitions and names.
    """

    load: str
    request_id: str
    repeat: int  # below 0 for warm-up
    outcome: Outcome
    due: Instant
    sent: Instant | None = None
    headers: Instant | None = None
    first_event: Instant | None = None
    first_content: Instant | None = None
    last_content: Instant | None = None
    done: Instant
    server_id: str | None = None
    engine_id: str | None = None
    arrival: Instant | None = None
    handed: Instant | None = None
    queued: Instant | None = None
    scheduled: Instant | None = None
    first_token: Instant | None = None
    last_token: Instant | None = None
    delivered: Instant | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    finish_reason: str | None = None
    status: int | None = None
    error: str | None = None
    chunks: list[Chunk] = []
    flags: list[RequestFlag] = []
    engine: dict[str, Scalar] = {}
    text: str | None = None
    started_unix_ms: float = 0.0

    @property
    def total_ms(self) -> float:
        """From when the request was due to the end of its answer (or to when it was given up)."""
        return (self.done.ns - self.due.ns) / 1e6

    @property
    def client_wait_ms(self) -> float | None:
        """How late the client sent it."""
        return between_ms(self.due, self.sent)

    @property
    def ttft_ms(self) -> float | None:
        """From when the request was due to the first content."""
        return between_ms(self.due, self.first_content)

    @property
    def tpot_ms(self) -> float | None:
        """(last content - first content) / (N - 1), N counted by the endpoint; None with fewer than two tokens.

        None also where all content came in one chunk: nothing is known of the tokens in it.
        """
        stream = between_ms(self.first_content, self.last_content)
        if stream is None or self.output_tokens is None or self.output_tokens < 2 or len(self.chunks) < 2:
            return None
        return stream / (self.output_tokens - 1)

    @property
    def chunk_gaps_ms(self) -> list[float]:
        """The gaps between chunks of content; a chunk can hold several tokens."""
        return [(b.ns - a.ns) / 1e6 for a, b in zip(self.chunks, self.chunks[1:], strict=False)]

    @property
    def itl_ms(self) -> list[float] | None:
        """The N - 1 gaps between tokens; None unless as many chunks came as tokens, each counted where they are."""
        counts = [chunk.tokens for chunk in self.chunks]
        one_each = all(tokens is None or tokens == place for place, tokens in enumerate(counts, start=1))
        return self.chunk_gaps_ms if len(counts) == self.output_tokens and one_each else None


def between_ms(start: Instant | None, end: Instant | None) -> float | None:
    """The time between two instants; None if one is unknown."""
    return None if start is None or end is None else (end.ns - start.ns) / 1e6


def record_of(request: RequestSample, config: dict[str, Scalar], worker: str) -> Sample | Failure:
    """A request as the sample (or the failure) that every verb of laptime reads.

    Nothing of the engine's stages is known to a client, so they are None and all of the total is other.
    """
    if request.outcome != "finished":
        return Failure(
            config_id=config_id(config),
            sample_id=request.request_id,
            repeat=request.repeat,
            worker=worker,
            config=config,
            error=f"{request.outcome}: {request.error}" if request.error else request.outcome,
            started_unix_ms=request.started_unix_ms,
        )
    stages = StageTimes(
        vision_ms=None, prefill_ms=None, decode_ms=None, other_ms=request.total_ms, total_ms=request.total_ms
    )
    return Sample(
        config_id=config_id(config),
        sample_id=request.request_id,
        repeat=request.repeat,
        worker=worker,
        config=config,
        stages=stages,
        host_stages=stages,
        ttft_ms=request.ttft_ms,
        tpot_ms=request.tpot_ms,
        itl_ms=request.itl_ms,
        output_tokens=request.output_tokens,
        decode_forwards=None,
        prompt_tokens=request.prompt_tokens,
        image_tokens=None,
        generated_tokens=request.output_tokens or 0,
        started_unix_ms=request.started_unix_ms,
        text=request.text,
    )


class RequestOutline(msgspec.Struct, frozen=True, kw_only=True):
    """What a RequestSample says of how it went, without its chunks and its text."""

    load: str
    request_id: str
    repeat: int
    outcome: Outcome
    due: Instant
    sent: Instant | None = None
    first_content: Instant | None = None
    done: Instant


class ClientWakes(msgspec.Struct, frozen=True, kw_only=True):
    """How late the client's own task woke during a load: so much it may have added to any instant of an answer."""

    load: str
    wakes: int
    p95_ms: float
    p99_ms: float


Line = TypeVar("Line", RequestSample, RequestOutline, ClientWakes)


def read_requests(folder: str | Path, begins: str = "") -> list[RequestSample]:
    """The requests that a run folder holds (requests-*.jsonl); a half-written last line is left out.

    begins: what the worker's name begins with. Raises LaptimeError for a damaged line.
    """
    return _lines(folder, f"requests-{begins}*.jsonl", RequestSample)


def read_outlines(folder: str | Path) -> list[RequestOutline]:
    """The requests that a client sent, in outline, as read_requests reads them whole. Raises LaptimeError as that."""
    return _lines(folder, "requests-client.jsonl", RequestOutline)


def read_wakes(folder: str | Path) -> list[ClientWakes]:
    """How late the client woke, load by load; a resumed load has several.

    Raises LaptimeError for a damaged line.
    """
    return _lines(folder, "wakes-client.jsonl", ClientWakes)


def _lines(folder: str | Path, pattern: str, kind: type[Line]) -> list[Line]:
    decoder = msgspec.json.Decoder(kind)
    requests: list[Line] = []
    for file in sorted(Path(folder).glob(pattern)):
        content = read_part(file)
        try:
            requests += decoder.decode_lines(content[: content.rfind(b"\n") + 1])
        except DAMAGE as error:
            raise LaptimeError(f"{file}: not requests of laptime ({error}); remove that line") from error
    return requests
