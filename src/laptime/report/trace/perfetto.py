"""A trace for Perfetto's UI: the device's activities with tracks for gaps (by cause) and steps beside them.

Chrome's trace event format: complete events ("X"), times in microseconds written as decimals from integers.
Needs the timeline, since the analysis keeps the longest gaps and one step only.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from laptime.trace.analysis import views
from laptime.trace.api import CAUSES
from laptime.trace.durations import bounded
from laptime.trace.kernel_names import short_name
from laptime.trace.read.timeline import GpuTimeline
from laptime.trace.steps import DeviceView

_GAP_TRACK, _STEP_TRACK = 1_000_001, 1_000_002


def trace_to_perfetto(timeline: GpuTimeline, *, device: int | None = None) -> bytes:
    """The trace as one JSON document for Perfetto.

    device: this device only. Raises LaptimeError when it has no activity.
    """
    timeline = bounded(timeline)
    shown = views(timeline, device=device)
    origin = min((view.gaps.start_ns for view in shown), default=0)
    events = b",\n".join(_events(timeline, shown, origin))
    return b'{"displayTimeUnit":"ns","traceEvents":[\n' + events + b"\n]}\n"


def _events(timeline: GpuTimeline, shown: list[DeviceView], origin: int) -> Iterator[bytes]:
    activities = timeline.activities
    for view in shown:
        pid = view.gaps.device
        yield _name("process_name", pid, 0, f"GPU {pid}")
        yield _name("thread_name", pid, _STEP_TRACK, "laptime: steps")
        yield _name("thread_name", pid, _GAP_TRACK, "laptime: gaps by cause")
        yield _order(pid, _STEP_TRACK, -2)
        yield _order(pid, _GAP_TRACK, -1)
        for stream in sorted({int(s) for s in activities.stream[view.gaps.rows]}):
            yield _name("thread_name", pid, stream, f"stream {stream}")
        modal = view.frame.steps.modal
        steps = zip(view.frame.start_ns.tolist(), view.frame.end_ns.tolist(), strict=True)
        for i, (start, end) in enumerate(steps):
            label = f"step {i}{' (modal)' if i == modal else ''}"
            yield _span(label, "laptime.step", pid, _STEP_TRACK, start - origin, end - start)
        gap_start, gap_end = view.gaps.gap_start_ns.tolist(), view.gaps.gap_end_ns.tolist()
        for start, end, cause in zip(gap_start, gap_end, view.causes.main.tolist(), strict=True):
            yield _span(CAUSES[cause], "laptime.gap", pid, _GAP_TRACK, start - origin, end - start)
        rows = view.gaps.rows
        columns = (activities.start_ns[rows], activities.end_ns[rows], activities.name[rows], activities.stream[rows])
        for start, end, name, stream in zip(*(column.tolist() for column in columns), strict=True):
            yield _span(short_name(timeline.strings[name]), "gpu", pid, stream, start - origin, max(end - start, 0))


def _span(name: str, category: str, pid: int, tid: int, start_ns: int, duration_ns: int) -> bytes:
    quoted = msgspec.json.encode(name).decode()
    return (
        f'{{"ph":"X","name":{quoted},"cat":"{category}","pid":{pid},"tid":{tid},'
        f'"ts":{_us(start_ns)},"dur":{_us(duration_ns)}}}'
    ).encode()


def _us(ns: int) -> str:
    sign, ns = ("-", -ns) if ns < 0 else ("", ns)
    return f"{sign}{ns // 1000}.{ns % 1000:03d}"


def _name(kind: str, pid: int, tid: int, name: str) -> bytes:
    return msgspec.json.encode({"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": {"name": name}})


def _order(pid: int, tid: int, index: int) -> bytes:
    return msgspec.json.encode(
        {"ph": "M", "name": "thread_sort_index", "pid": pid, "tid": tid, "args": {"sort_index": index}}
    )
