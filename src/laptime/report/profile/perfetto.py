"""A run as a trace for Perfetto (ui.perfetto.dev): stages as slices, marks as instants, clocks as counters.

The Chrome JSON trace format: a process for each worker, in it a track for the device's timeline and one for the
host's. A slice for each sample holds the slices of its stages, without a hole, so their durations add up to the
sample's stages to the nanosecond. Times are microseconds after the first sample's start, with three decimals.
"""

from __future__ import annotations

from typing import Any

import msgspec

from laptime.data.record import Mark, Sample
from laptime.data.run_folder import Run
from laptime.measure.timeline import spans
from laptime.report.kit.text import one_line

Event = dict[str, Any]

DEVICE_TRACK, HOST_TRACK = 1, 2

_COLOURS = {
    "preprocessing": "olive",
    "queue": "yellow",
    "vision": "good",
    "audio": "terrible",
    "encode": "rail_load",
    "prefill": "bad",
    "decode": "thread_state_running",
    "other": "grey",
}
_COUNTERS = (("SM clock", "MHz", "sm_mhz"),
             ("Temperature", "°C", "temperature_c"), ("Power", "W", "power_w"))  # fmt: skip


def profile_to_perfetto(run: Run) -> bytes:
    """The whole run as one JSON document."""
    began = min((sample.started_unix_ms for sample in run.samples), default=0.0)
    workers = {worker: pid for pid, worker in enumerate(sorted({s.worker for s in run.samples}), start=1)}
    events: list[Event] = []
    for worker, pid in workers.items():
        events += _names(pid, worker, run.info.environment.device or "cpu")
    for sample in run.samples:
        start_ns = round((sample.started_unix_ms - began) * 1e6)
        events += _sample_events(sample, workers[sample.worker], start_ns)
    return msgspec.json.encode(
        {
            "displayTimeUnit": "ms",
            "otherData": {
                "laptime": run.info.laptime,
                "model": one_line(str(run.info.config.get("model", "")), 200),
                "began_unix_ms": began,
            },
            "traceEvents": events,
        }
    )


def _names(pid: int, worker: str, device: str) -> list[Event]:
    def meta(name: str, tid: int, /, **arguments: Any) -> Event:
        return {"ph": "M", "pid": pid, "tid": tid, "name": name, "args": arguments}

    return [
        meta("process_name", 0, name=f"laptime worker {one_line(worker, 64)}"),
        meta("thread_name", DEVICE_TRACK, name=f"device ({one_line(device, 64)})"),
        meta("thread_sort_index", DEVICE_TRACK, sort_index=DEVICE_TRACK),
        meta("thread_name", HOST_TRACK, name="host"),
        meta("thread_sort_index", HOST_TRACK, sort_index=HOST_TRACK),
    ]


def _sample_events(sample: Sample, pid: int, start_ns: int) -> list[Event]:
    events: list[Event] = []
    for track, stages in ((DEVICE_TRACK, sample.stages), (HOST_TRACK, sample.host_stages)):
        on_host = track == HOST_TRACK
        at = {"pid": pid, "tid": track}
        events.append(
            at | {"ph": "X", "cat": "sample", "name": one_line(sample.sample_id, 200) or "sample", "ts": _us(start_ns),
                  "dur": _us(round(stages.total_ms * 1e6)), "args": _arguments(sample)}
        )  # fmt: skip
        events += [
            at | {"ph": "X", "cat": "stage", "name": part.stage, "ts": _us(start_ns + part.begin_ns),
                  "dur": _us(part.end_ns - part.begin_ns), "cname": _COLOURS[part.stage]}
            for part in (spans(sample.marks, host=on_host) if sample.marks else ())
        ]  # fmt: skip
        events += [
            at | {"ph": "i", "s": "t", "cat": "mark", "name": one_line(mark.kind, 64),
                  "ts": _us(start_ns + _instant(mark, on_host))}
            for mark in sample.marks
        ]  # fmt: skip
    end = start_ns + round(sample.stages.total_ms * 1e6)
    for name, unit, field in _COUNTERS:
        value = getattr(sample.gpu, field, None)
        if value is not None:
            events.append({"ph": "C", "pid": pid, "name": name, "ts": _us(end), "args": {unit: value}})
    return events


def _arguments(sample: Sample) -> dict[str, Any]:
    return {
        "key": "/".join((sample.config_id, one_line(sample.sample_id, 200), str(sample.repeat))),
        "ttft_ms": sample.ttft_ms,
        "tpot_ms": sample.tpot_ms,
        "output_tokens": sample.output_tokens,
        "flags": ", ".join(sample.flags),
    }


def _instant(mark: Mark, on_host: bool) -> int:
    return mark.host_ns if on_host else mark.device_ns


def _us(ns: int) -> float:
    return ns / 1000
