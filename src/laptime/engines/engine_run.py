"""What a plug-in inside an engine wrote: its processes, its requests, its steps and its load."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from laptime.data.outside import DAMAGE, read_part
from laptime.engines.request import RequestSample, read_requests
from laptime.engines.request_logs import read_log
from laptime.engines.step import StepSample, read_steps
from laptime.errors import LaptimeError


class EngineInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One process of an engine: which version, which host, and how surely its clocks were joined (in ns)."""

    engine: str
    version: str
    pid: int
    boot_id: str | None
    clock_offset_ns: int
    clock_error_ns: int
    created_unix_ms: float


class EngineLoad(msgspec.Struct, frozen=True, kw_only=True):
    """How many requests ran and waited at one instant, and how full the cache of keys and values was (0 to 1)."""

    ns: int
    running: int
    waiting: int
    cache_share: float


@dataclass(frozen=True)
class EngineRun:
    """All of it, in order of time. steps: by rank; rank 0's are those that a request's life is drawn from."""

    folder: str
    infos: list[EngineInfo]
    requests: list[RequestSample]
    steps: dict[int, list[StepSample]]
    load: list[EngineLoad]


def read_engine_run(folder: str | Path) -> EngineRun:
    """Read what LAPTIME_VLLM named, or a request log that an engine wrote itself.

    Raises LaptimeError where there is nothing, or something else.
    """
    place = Path(folder)
    if place.is_file():
        return read_request_log(place)
    infos = [_decoded(file, EngineInfo) for file in sorted(place.glob("engine-*.json"))]
    if not place.exists():
        raise LaptimeError(f"{folder}: no such folder; an engine that is started with LAPTIME_VLLM={folder} makes it")
    if not infos:
        raise LaptimeError(f"{folder}: no engine wrote there; start it with LAPTIME_VLLM={folder}")
    requests = sorted(read_requests(place, "vllm-"), key=lambda request: request.due.ns)
    load: list[EngineLoad] = []
    for file in sorted(place.glob("load-*.jsonl")):
        content = read_part(file)
        try:
            load += msgspec.json.Decoder(EngineLoad).decode_lines(content[: content.rfind(b"\n") + 1])
        except DAMAGE as error:
            raise LaptimeError(f"{file}: not a load of laptime ({error}); remove that line") from error
    load.sort(key=lambda one: one.ns)
    return EngineRun(str(folder), infos, requests, read_steps(place), load)


def boot_id() -> str | None:
    """What tells this start of this machine from all others; None where it isn't known. Clocks join only within one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _decoded(file: Path, type_: type[EngineInfo]) -> EngineInfo:
    try:
        return msgspec.json.decode(read_part(file), type=type_)
    except DAMAGE as error:
        raise LaptimeError(f"{file}: not a description of an engine ({error}); name another folder") from error


def read_request_log(file: Path) -> EngineRun:
    """A log that an engine wrote itself: its requests without steps. Raises LaptimeError for another file."""
    found = read_log(file)
    if found is None:
        raise LaptimeError(f"{file}: no request log of SGLang or TensorRT-LLM; name one, or the folder of a plug-in")
    engine, requests = found
    info = EngineInfo(
        engine=engine, version="", pid=0, boot_id=None, clock_offset_ns=0, clock_error_ns=0, created_unix_ms=0.0
    )
    return EngineRun(str(file), [info], sorted(requests, key=lambda request: request.due.ns), {}, [])
