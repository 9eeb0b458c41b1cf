"""A load on an endpoint that never ran: two levels, one failed request, figures that are known."""

from __future__ import annotations

from laptime.engines.client import LoadRun
from laptime.engines.figures import level_of
from laptime.engines.findings import findings_of
from laptime.engines.loads import Load, concurrency, constant
from laptime.engines.request import Chunk, Instant, RequestSample
from laptime.engines.result import SCHEMA, ServeReport, Slo
from laptime.measure.host import describe_host


def answered(load: Load, place: int, first_ms: float, gap_ms: float = 10, outcome: str = "finished") -> RequestSample:
    """Four tokens, one a chunk; due 100 ms after the one before."""

    def at(ms: float) -> Instant:
        return Instant(round((100 * place + ms) * 1e6))

    instants = [at(first_ms + gap_ms * token) for token in range(4)]
    return RequestSample(
        load=load.name, request_id=f"made-up-{place}", repeat=0, outcome=outcome, due=at(0), sent=at(0.5),
        headers=at(2), first_event=at(3), first_content=instants[0], last_content=instants[-1],
        done=at(first_ms + 3 * gap_ms + 1), prompt_tokens=20, cached_tokens=0, output_tokens=4, finish_reason="stop",
        chunks=[Chunk(instant.ns, 5) for instant in instants],
    )  # fmt: skip


def a_load(*, failures: int = 1) -> ServeReport:
    """One at once, then 40 a second, 120 requests each; the first ones of the second level fail."""
    slo = Slo(ttft_ms=60, tpot_ms=30)
    levels = []
    for load, first_ms, failed in ((concurrency(1, 120), 20, 0), (constant(40, 120), 45, failures)):
        requests = [
            answered(load, place, first_ms + place / 10, outcome="time-out" if place < failed else "finished")
            for place in range(120)
        ]
        levels.append(level_of(load, LoadRun(requests, [0.1] * 200, 12.0 if load.kind == "concurrency" else 3.0), slo))
    return ServeReport(
        schema=SCHEMA, url="http://127.0.0.1:8000/v1/chat/completions", api="chat", model="known", folder=None,
        config={"new_tokens": 4}, slo=slo, warmup=2, levels=levels, largest=None,
        findings=findings_of(levels, fixed_prompts=False), environment=describe_host(),
    )  # fmt: skip
