"""A timeline as the plain rows that were written, so that two formats can be compared line by line."""

from __future__ import annotations

from laptime.trace.read.timeline import Activity, GpuTimeline, RangeKind
from tests.trace.write_traces import ActivityRow, CallRow, RangeRow

RANGE_NAMES = {
    RangeKind.NVTX: "nvtx",
    RangeKind.CPU_OP: "cpu_op",
    RangeKind.PYTHON: "python",
    RangeKind.PROFILER: "profiler",
}


def activity_rows(timeline: GpuTimeline) -> list[ActivityRow]:
    """The activities, in the timeline's order."""
    a = timeline.activities
    columns = (
        a.start_ns,
        a.end_ns,
        a.name,
        a.kind,
        a.device,
        a.stream,
        a.correlation,
        a.process,
        a.graph_node,
        a.bytes,
    )
    return [
        ActivityRow(
            start_ns=start,
            end_ns=end,
            name=timeline.strings[name],
            kind=Activity(kind).name.lower(),
            device=device,
            stream=stream,
            correlation=None if correlation < 0 else correlation,
            process=process,
            graph_node=None if node < 0 else node,
            bytes=None if moved < 0 else moved,
        )
        for start, end, name, kind, device, stream, correlation, process, node, moved in zip(
            *(column.tolist() for column in columns), strict=True
        )
    ]


def call_rows(timeline: GpuTimeline) -> list[CallRow]:
    """The API calls, in the timeline's order."""
    c = timeline.calls
    columns = (c.start_ns, c.end_ns, c.name, c.correlation, c.process, c.thread)
    return [
        CallRow(start, end, timeline.strings[name], correlation, process, thread)
        for start, end, name, correlation, process, thread in zip(*(column.tolist() for column in columns), strict=True)
    ]


def range_rows(timeline: GpuTimeline) -> list[RangeRow]:
    """The host ranges, in the timeline's order."""
    r = timeline.ranges
    columns = (r.start_ns, r.end_ns, r.name, r.kind, r.process, r.thread)
    return [
        RangeRow(start, end, timeline.strings[name], RANGE_NAMES[RangeKind(kind)], process, thread)
        for start, end, name, kind, process, thread in zip(*(column.tolist() for column in columns), strict=True)
    ]


def by_time(rows: list) -> list:
    """Rows in an order that does not depend on the file's."""
    return sorted(rows, key=lambda row: (row.start_ns, row.end_ns, repr(row)))
