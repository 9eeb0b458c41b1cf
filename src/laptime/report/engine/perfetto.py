"""Requests and steps as a trace for Perfetto (ui.perfetto.dev): a track for the steps, one for each request."""

from __future__ import annotations

from typing import Any

import msgspec

from laptime.engines.engine_result import EngineReport
from laptime.engines.step import StepSample
from laptime.report.kit.text import one_line

STEPS, REQUESTS = 1, 2
COLOURS = {
    "preprocessing": "olive", "queue": "yellow", "vision": "good", "others-vision": "good", "prefill": "bad",
    "decode": "thread_state_running", "beside-prefill": "rail_animation", "stalled": "terrible",
}  # fmt: skip

Event = dict[str, Any]


def engine_to_perfetto(report: EngineReport) -> bytes:
    """The lives and the steps that the page draws, as one JSON document."""
    origin = min(life.spans[0].begin for life in report.lives)
    events: list[Event] = [
        _meta("process_name", STEPS, 0, "engine"),
        _meta("process_name", REQUESTS, 0, "requests"),
        _meta("thread_name", STEPS, 1, "steps"),
        _meta("thread_name", STEPS, 2, "encoder, forward, sample"),
    ]
    for step in report.shown_steps:
        events += _step_events(step, origin)
    for place, life in enumerate(report.lives, start=1):
        request = life.request
        events.append(_meta("thread_name", REQUESTS, place, one_line(request.request_id, 80)))
        for span in life.spans:
            event = _slice(span.kind, REQUESTS, place, span.begin - origin, span.end - span.begin)
            colour = COLOURS.get(span.kind, "grey")
            events.append(event | {"cname": colour, "args": {} if span.step is None else {"step": span.step}})
    return msgspec.json.encode({"displayTimeUnit": "ms", "traceEvents": events})


def _step_events(step: StepSample, origin: int) -> list[Event]:
    arguments = {
        "tokens": step.tokens,
        "requests": len(step.rows),
        "with prompts": sum(row.prefill for row in step.rows),
        "images": sum(row.images for row in step.rows),
    }
    whole = _slice(f"step {step.number}", STEPS, 1, step.begin - origin, step.end - step.begin)
    events = [whole | {"args": arguments}]
    for name in ("encoder", "forward", "sample"):
        pair = getattr(step, name)
        if pair is not None:
            events.append(_slice(name, STEPS, 2, pair[0] - origin, pair[1] - pair[0]))
    return events


def _slice(name: str, pid: int, tid: int, start_ns: int, duration_ns: int) -> Event:
    return {"ph": "X", "cat": "laptime", "name": name, "pid": pid, "tid": tid, "ts": start_ns / 1000,
            "dur": duration_ns / 1000}  # fmt: skip


def _meta(name: str, pid: int, tid: int, shown: str) -> Event:
    return {"ph": "M", "pid": pid, "tid": tid, "name": name, "args": {"name": shown}}
