"""A small engine run whose truth is known: three requests over five steps, in milliseconds of a clock from 0."""

from __future__ import annotations

from pathlib import Path

import msgspec

from laptime.engines.engine_run import EngineInfo, EngineLoad, boot_id
from laptime.engines.request import Instant, RequestSample
from laptime.engines.step import NewRow, Row, StepSample


def ms(value: float) -> int:
    return round(value * 1e6)


def step(number: int, begin: float, end: float, rows: list[Row], new: list[NewRow] = (), **parts) -> StepSample:
    pairs = {name: (ms(a), ms(b)) for name, (a, b) in parts.items()}
    return StepSample(number=number, rank=0, rows=list(rows), new=list(new), begin=ms(begin), end=ms(end),
                      host_begin=ms(begin), host_end=ms(end), **pairs)  # fmt: skip


STEPS = [
    step(0, 10, 20, [Row(0, 8, True)], [NewRow(0, "a", 8, 0)]),
    step(1, 21, 25, [Row(0, 1, False)]),
    # b brings an image; a decodes beside its prompt
    step(2, 26, 46, [Row(0, 1, False), Row(1, 9, True, 1)], [NewRow(1, "b", 16, 7)], encoder=(27, 33)),
    step(3, 47, 51, [Row(1, 1, False)]),  # without a
    step(4, 52, 56, [Row(0, 1, False), Row(1, 1, False)]),
    step(5, 57, 61, [Row(1, 1, False)]),  # after the last token that b gave out
]


def request(name: str, arrival: float, handed: float, scheduled: float, tokens: tuple[float, float], output: int,
            prompt: int, cached: int) -> RequestSample:  # fmt: skip
    def at(value: float) -> Instant:
        return Instant(ms(value), "engine")

    first, last = tokens
    return RequestSample(
        load="engine", request_id=name, engine_id=name, server_id=f"chatcmpl-{name}", repeat=0, outcome="finished",
        due=at(arrival), arrival=at(arrival), handed=at(handed), queued=at(scheduled - 0.01), scheduled=at(scheduled),
        first_token=at(first), last_token=at(last), delivered=at(last + 1), done=at(last + 1), prompt_tokens=prompt,
        cached_tokens=cached, output_tokens=output, finish_reason="stop",
        engine={"queued_time": 0.00001, "prefill_time": (first - scheduled) / 1e3,
                "decode_time": (last - first) / 1e3, "e2e_latency": (last + 1 - arrival) / 1e3,
                "time_to_first_token": (first - arrival) / 1e3},
    )  # fmt: skip


REQUESTS = [
    request("a", 1, 3, 9.5, (20.5, 56.5), 4, 8, 0),
    request("b", 5, 8, 25.5, (46.5, 56.5), 3, 16, 7),
]


def write(folder: Path, requests: list[RequestSample] = REQUESTS, steps: list[StepSample] = STEPS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    info = EngineInfo(engine="vllm", version="0.32.0", pid=7, boot_id=boot_id(), clock_offset_ns=0, clock_error_ns=55,
                      created_unix_ms=0.0)  # fmt: skip
    (folder / "engine-7.json").write_bytes(msgspec.json.encode(info))
    load = [EngineLoad(ns=ms(30), running=2, waiting=1, cache_share=0.25)]
    for name, values in (("requests-vllm-7", requests), ("steps-rank0-7", steps), ("load-vllm0-7", load)):
        lines = b"".join(msgspec.json.encode(value) + b"\n" for value in values)
        (folder / f"{name}.jsonl").write_bytes(lines + b'{"half')  # a server that was killed in the middle of a line
    return folder
