"""Requests as engines themselves record them: SGLang's exported request log, TensorRT-LLM's performance metrics, the
outputs of transformers' continuous batching. Instants only, no steps; unknown is None.

Each engine's instants are of one clock of its own. They are put in order on that clock, from its first instant on, so
a request's stages are right and no client is joined to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from laptime.engines.request import Instant, Outcome, RequestSample
from laptime.errors import LaptimeError

Object = dict[str, Any]


class BatchedOutput(Protocol):
    """What transformers' continuous batching gives of a request: public fields of GenerationOutput, in perf_counter."""

    request_id: str
    prompt_ids: Sequence[int]
    generated_tokens: Sequence[int]
    error: str | None
    created_time: float
    lifespan: tuple[float, float]
    timestamps: Sequence[float] | None


def requests_of_batching(outputs: Mapping[str, BatchedOutput] | Iterable[BatchedOutput]) -> list[RequestSample]:
    """The requests of transformers' continuous batching. Token instants need record_timestamps=True there."""
    many = outputs.values() if isinstance(outputs, Mapping) else outputs
    requests: list[RequestSample] = []
    for one in many:
        instants = list(one.timestamps or ())
        began, ended = one.lifespan
        created = _at(one.created_time)
        done = _at(ended) if ended >= 0 else None
        assert created is not None
        requests.append(
            RequestSample(
                load="transformers", request_id=str(one.request_id), repeat=0,
                outcome="finished" if one.error is None and done is not None else "cut-off",
                due=created, arrival=created, scheduled=_at(began) if began >= 0 else None,
                first_token=_at(instants[0]) if instants else None, last_token=_at(instants[-1]) if instants else None,
                delivered=done, done=done or created, prompt_tokens=len(one.prompt_ids),
                output_tokens=len(one.generated_tokens), error=one.error,
            )
        )  # fmt: skip
    return requests


def read_log(file: Path) -> tuple[str, list[RequestSample]] | None:
    """The engine and its requests, of a log that is recognised; None for another file.

    Raises LaptimeError for a log that begins as one and is damaged.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise LaptimeError(f"{file}: {error.strerror}") from error
    rows = _rows(content)
    for engine, recognise, read in LOGS:
        if rows and recognise(rows[0]):
            try:
                return engine, [request for place, row in enumerate(rows) if (request := read(row, place)) is not None]
            except (KeyError, TypeError, ValueError) as error:
                raise LaptimeError(
                    f"{file}: looks like a log of {engine}, but {error!r} is not as it writes"
                ) from error
    return None


def _rows(content: bytes) -> list[Object]:
    try:
        value = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            value = [
                msgspec.json.decode(line) for line in content[: content.rfind(b"\n") + 1].splitlines() if line.strip()
            ]
        except (msgspec.DecodeError, UnicodeDecodeError):
            return []
    rows = value if isinstance(value, list) else [value]
    return rows if all(isinstance(row, dict) for row in rows) else []


def _sglang(row: Object, place: int) -> RequestSample | None:
    """meta_info of a request. prefill_finished_ts is the first token; queue_time is a length after the hand-over."""
    meta = row.get("meta_info", row)
    received, handed = meta.get("request_received_ts"), meta.get("request_sent_to_scheduler_ts")
    first, last = meta.get("prefill_finished_ts"), meta.get("decode_finished_ts")
    sent, queue = meta.get("response_sent_to_client_ts"), meta.get("queue_time")
    if received is None:
        return None
    arrival = _required(received)
    base = handed or received
    reason = meta.get("finish_reason")
    kind = reason.get("type") if isinstance(reason, dict) else reason
    done = _at(sent) or _at(last) or arrival
    return RequestSample(
        load="sglang", request_id=str(meta.get("id", place)), repeat=0, outcome=_outcome(kind), due=arrival,
        arrival=arrival, handed=_at(handed), scheduled=None if queue is None else _at(base + queue),
        first_token=_at(first), last_token=_at(last) or _at(first), delivered=_at(sent), done=done,
        prompt_tokens=meta.get("prompt_tokens"), cached_tokens=meta.get("cached_tokens"),
        output_tokens=meta.get("completion_tokens"), finish_reason=kind, started_unix_ms=received * 1e3,
        engine={name: meta[name] for name in ("queue_time", "prefill_launch_delay", "prefill_launch_latency",
                                              "inference_time", "e2e_latency", "decode_throughput")
                if isinstance(meta.get(name), (int, float))},
    )  # fmt: skip


def _tensorrt(row: Object, place: int) -> RequestSample | None:
    """One entry of /perf_metrics. server_arrival_time is the HTTP server's, arrival_time the executor's."""
    metrics = row.get("perf_metrics", row)
    timing, cache = metrics.get("timing_metrics") or {}, metrics.get("kv_cache_metrics") or {}
    received, arrival = timing.get("server_arrival_time"), timing.get("arrival_time")
    if arrival is None:
        return None
    begin = _required(received if received is not None else arrival)
    last = _at(timing.get("last_token_time"))
    return RequestSample(
        load="tensorrt-llm", request_id=str(row.get("request_id", place)), repeat=0, outcome="finished", due=begin,
        arrival=begin, handed=_at(arrival) if received is not None else None,
        scheduled=_at(timing.get("first_scheduled_time")), first_token=_at(timing.get("first_token_time")),
        last_token=last, delivered=last, done=last or begin,
        output_tokens=row.get("num_output_tokens"), prompt_tokens=row.get("num_prompt_tokens"),
        engine={name: value for name, value in cache.items() if isinstance(value, (int, float))},
    )  # fmt: skip


Read = Callable[[Object, int], RequestSample | None]

LOGS: tuple[tuple[str, Callable[[Object], bool], Read], ...] = (
    ("sglang", lambda row: "request_received_ts" in row.get("meta_info", row), _sglang),
    ("tensorrt-llm", lambda row: "timing_metrics" in (row.get("perf_metrics") or row), _tensorrt),
)
"""Each engine that writes a log of its requests, how the log is recognised, and how a row is read."""


def _outcome(kind: str | None) -> Outcome:
    return "cut-off" if kind == "abort" else "finished"


def _at(seconds: Any) -> Instant | None:
    return None if seconds is None else Instant(round(float(seconds) * 1e9), "engine")


def _required(seconds: Any) -> Instant:
    return Instant(round(float(seconds) * 1e9), "engine")
