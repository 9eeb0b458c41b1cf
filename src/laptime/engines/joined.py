"""A client's requests and an engine's, made one by the id that the answer named. Only where both read one clock."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from laptime.data.record import Failure, Sample, Scalar, StageTimes
from laptime.data.run_folder import read_info
from laptime.engines.engine_run import EngineRun
from laptime.engines.life import RequestLife
from laptime.engines.request import RequestSample, read_requests, record_of
from laptime.errors import LaptimeError

ENGINE_FIELDS = ("engine_id", "arrival", "handed", "queued", "scheduled", "first_token", "last_token", "delivered")


@dataclass(frozen=True)
class JoinedRequests:
    """Requests with the client's and the engine's instants. cross_host: they are not one clock's, so nothing is joined.

    client_only, engine_only: how many of either side have no partner. failed: the client's that did not end well.
    """

    requests: list[RequestSample]
    client_only: int
    engine_only: int
    failed: list[RequestSample]
    cross_host: bool = False


def join_client(run: EngineRun, client: Path | None) -> JoinedRequests:
    """The engine's requests, with the client's instants where a run folder of `laptime serve-bench` is given.

    Warm-up requests are left out of both. Raises LaptimeError where none of the client's requests is the engine's.
    """
    if client is None:
        return JoinedRequests(list(run.requests), 0, 0, [])
    info = read_info(client)
    sent = read_requests(client)
    boots = {one.boot_id for one in run.infos}
    if info.session.get("boot_id") is None or {info.session["boot_id"]} != boots:
        flagged = [_with_flag(request) for request in run.requests]
        return JoinedRequests(flagged, len(sent), len(flagged), [], cross_host=True)
    engine: dict[str, list[RequestSample]] = {}
    for request in run.requests:
        if request.server_id is not None:
            engine.setdefault(request.server_id, []).append(request)
    joined: list[RequestSample] = []
    failed: list[RequestSample] = []
    alone, used = 0, 0
    for request in sent:
        pair = engine.get(request.server_id or "") or engine.get(f"{request.server_id}-0") or []
        used += len(pair)
        if request.repeat < 0:
            continue
        if request.outcome != "finished":
            failed.append(request)
        elif len(pair) == 1:
            joined.append(merged(request, pair[0]))
        else:
            alone += 1
    if not joined and not used:
        raise LaptimeError(f"{client}: none of its requests was answered by the engine that wrote {run.folder}")
    joined.sort(key=lambda request: request.due.ns)
    return JoinedRequests(joined, alone, len(run.requests) - used, failed)


def merged(client: RequestSample, engine: RequestSample) -> RequestSample:
    """A client's request with the engine's instants; the engine's own figures keep their names."""
    return msgspec.structs.replace(
        client,
        **{name: getattr(engine, name) for name in ENGINE_FIELDS},
        cached_tokens=engine.cached_tokens if client.cached_tokens is None else client.cached_tokens,
        prompt_tokens=engine.prompt_tokens if client.prompt_tokens is None else client.prompt_tokens,
        output_tokens=engine.output_tokens if client.output_tokens is None else client.output_tokens,
        flags=sorted({*client.flags, *engine.flags}),
        engine={**client.engine, **engine.engine},
    )


def sample_of(life: RequestLife, config: dict[str, Scalar], worker: str) -> Sample | Failure:
    """A life as the sample that every verb of laptime reads: its stages sum to its total to the nanosecond."""
    request = life.request
    record = record_of(request, {**config, "load": request.load}, worker)
    if isinstance(record, Failure):
        return record
    ns = life.stages
    stages = StageTimes(
        preprocessing_ms=_ms(ns.get("preprocessing")),
        queue_ms=_ms(ns.get("queue", 0)),
        vision_ms=(ns.get("vision", 0)) / 1e6,
        prefill_ms=ns.get("prefill", 0) / 1e6,
        decode_ms=_ms(ns.get("decode")),
        other_ms=ns.get("other", 0) / 1e6,
        total_ms=life.total_ns / 1e6,
    )
    gaps = None
    if request.first_token is not None and request.last_token is not None and (request.output_tokens or 0) > 1:
        gaps = (request.last_token.ns - request.first_token.ns) / 1e6 / ((request.output_tokens or 0) - 1)
    return msgspec.structs.replace(
        record,
        stages=stages,
        host_stages=stages,
        ttft_ms=life.ttft_ns / 1e6,
        tpot_ms=gaps,
        itl_ms=None,
        decode_forwards=life.decode_steps,
    )


def _ms(ns: int | None) -> float | None:
    return None if ns is None else ns / 1e6


def _with_flag(request: RequestSample) -> RequestSample:
    return msgspec.structs.replace(request, flags=sorted({*request.flags, "cross-host"}))
