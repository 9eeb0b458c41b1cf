"""A GpuTimeline in memory from the same plain rows that the writers take: no file, no reader."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from laptime.trace.read.timeline import Activities, Activity, ApiCalls, GpuTimeline, RangeKind, Ranges, Source
from tests.trace.write_traces import ActivityRow, CallRow, RangeRow

KINDS = {kind.name.lower(): kind for kind in RangeKind}


def build(
    activities: Iterable[ActivityRow] = (),
    calls: Iterable[CallRow] = (),
    ranges: Iterable[RangeRow] = (),
    *,
    format: str = "kineto",
) -> GpuTimeline:
    """The timeline of the rows, its columns sorted by (start, end) as readers sort them."""
    names: dict[str, int] = {}

    def name(text: str) -> int:
        return names.setdefault(text, len(names))

    def columns(rows: list[tuple], dtypes: tuple) -> list[np.ndarray]:
        rows.sort(key=lambda row: row[:2])
        table = list(zip(*rows, strict=True)) if rows else [()] * len(dtypes)
        return [np.array(column, dtype=dtype) for column, dtype in zip(table, dtypes, strict=True)]

    i32, i64, i8 = np.int32, np.int64, np.int8
    work = [
        (
            *(a.start_ns, a.end_ns, a.device, a.stream, a.process, name(a.name), Activity[a.kind.upper()]),
            -1 if a.correlation is None else a.correlation,
            -1 if a.graph_node is None else a.graph_node,
            -1 if a.bytes is None else a.bytes,
        )
        for a in activities
    ]
    api = [(c.start_ns, c.end_ns, c.process, c.thread, name(c.name), c.correlation) for c in calls]
    host = [(r.start_ns, r.end_ns, r.process, r.thread, name(r.name), KINDS[r.kind]) for r in ranges]
    return GpuTimeline(
        Source(format, "built", None),
        Activities(*columns(work, (i64, i64, i32, i32, i32, i32, i8, i64, i64, i64))),
        ApiCalls(*columns(api, (i64, i64, i32, i64, i32, i64))),
        Ranges(*columns(host, (i64, i64, i32, i64, i32, i8))),
        tuple(names),
        (),
    )
