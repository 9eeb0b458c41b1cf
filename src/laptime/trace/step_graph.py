"""A step's dependency graph: what each activity had to wait for.

An activity waits for its launch by the host, for the activity before it on its stream, and for activities of other
streams where an event or the order of communication says so. The host launches in order; between two launches it works
for the launch, does other work, or waits for the device.

Source: the critical path of Holistic Trace Analysis and of Chakra's execution traces is built from the same edges.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.trace.device_time import COMMUNICATION, kinds
from laptime.trace.gaps import DeviceGaps
from laptime.trace.read.distinct import each_once
from laptime.trace.read.timeline import GpuTimeline, Int8, Int32, Int64
from laptime.trace.replay import Timing
from laptime.trace.step_host import host_work
from laptime.trace.steps import StepFrame

MOST = 30_000
"""A step of more activities is not replayed."""

LATENCY_NS, LONGEST_LATENCY_NS = 4_000, 50_000
"""From the beginning of a launch call to its work, where the trace doesn't show it, and at most."""

RESIDUAL_NS, LONGEST_RESIDUAL_NS = 1_000, 5_000
"""Between two activities that were queued on one stream: where the trace doesn't show it, and at most."""


class StepGraph(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """One step's activities in the order of their launches. Columns have one entry per activity; times in ns."""

    rows: Int32  # indices into Activities
    duration_ns: Int64
    stream: Int32  # numbered from 0
    kind: Int8  # index into device_time.KINDS
    waits: Int64  # how many launches back the work lies that the host waited for before this launch; 0: it didn't
    launching_ns: tuple[Int64, Int64]  # host time on the way to this launch, before and after that wait
    away_ns: tuple[Int64, Int64]  # other work of the host, likewise
    after: dict[int, tuple[int, ...]]  # activities that also wait for others: how many launches back these lie
    latency_ns: int  # from a launch call's beginning to its work
    residual_ns: int  # between two activities that were queued on one stream
    elsewhere_ns: tuple[Int64, Int64]  # when the host's other work began and ended, ascending

    def __len__(self) -> int:
        return len(self.rows)


def as_it_is(graph: StepGraph) -> Timing:
    """The step's own times."""
    host = [launching + away for launching, away in zip(graph.launching_ns, graph.away_ns, strict=True)]
    return Timing(
        duration_ns=graph.duration_ns,
        stream=graph.stream,
        host_ns=(host[0], host[1]),
        waits=graph.waits,
        after=graph.after,
        latency_ns=graph.latency_ns,
        residual_ns=graph.residual_ns,
    )


def step_graph(timeline: GpuTimeline, gaps: DeviceGaps, launched: Int64, frame: StepFrame) -> StepGraph | None:
    """The modal step's graph; None without steps, where launches of the step are not in the trace, and where
    several processes share the device.

    Args:
        timeline: the trace.
        gaps: the device's gaps.
        launched: for each activity the index of its call, -1 without one.
        frame: the steps.
    """
    modal = frame.modal_rows
    if frame.steps.wall_ns is None or len(modal) < 2 or len(modal) > MOST or (launched[modal] < 0).mean() > 0.1:
        return None
    activities = timeline.activities
    if len(each_once(activities.process[modal])) > 1:
        return None
    order, first, following = _launch_order(timeline, gaps, launched, modal)
    rows = order[first:]
    host = host_work(timeline, launched, order, first, following)
    lanes, stream = np.unique(activities.stream[rows], return_inverse=True)
    kind, call = kinds(timeline, rows), launched[rows]
    start, end = activities.start_ns[rows], activities.end_ns[rows]
    begun = start - timeline.calls.start_ns[call]
    apart = start[1:] - end[:-1]
    queued = (begun[1:] > apart + 2 * LATENCY_NS) & (stream[1:] == stream[:-1])
    seen = begun[1:][(call[1:] >= 0) & ~queued & (begun[1:] > 0) & (apart > LATENCY_NS)]
    close = np.maximum(apart[queued & (apart < LONGEST_RESIDUAL_NS)], 0)
    return StepGraph(
        rows=rows,
        duration_ns=_until_next(start, end, stream),
        stream=stream.astype(np.int32),
        kind=kind,
        waits=np.array(host.waits, dtype=np.int64),
        launching_ns=(np.array(host.launching[0], dtype=np.int64), np.array(host.launching[1], dtype=np.int64)),
        away_ns=(np.array(host.away[0], dtype=np.int64), np.array(host.away[1], dtype=np.int64)),
        after=_others(timeline, launched, order, first, host.records) if len(lanes) > 1 else {},
        latency_ns=min(int(np.median(seen)), LONGEST_LATENCY_NS) if len(seen) else LATENCY_NS,
        residual_ns=int(np.median(close)) if len(close) else RESIDUAL_NS,
        elsewhere_ns=(np.array(host.elsewhere[0], dtype=np.int64), np.array(host.elsewhere[1], dtype=np.int64)),
    )


def _until_next(start: Int64, end: Int64, stream: npt.NDArray[np.signedinteger]) -> Int64:
    """How long each activity holds its stream: dependent launches let the next one begin before it ends."""
    holds: Int64 = np.maximum(end - start, 0)
    by_stream = np.argsort(stream, kind="stable")
    own, behind = by_stream[:-1], by_stream[1:]
    early = (stream[own] == stream[behind]) & (start[behind] >= start[own]) & (start[behind] < end[own])
    holds[own[early]] = (start[behind] - start[own])[early]
    return holds


def _launch_order(
    timeline: GpuTimeline, gaps: DeviceGaps, launched: Int64, modal: Int32
) -> tuple[Int32, int, int | None]:
    """Activities up to the step's end in the order of their launches, where the step's begin, and the next launch.

    As many stand before the step's own as it has, so that waits can reach into the step before.
    """
    at = int(np.flatnonzero(gaps.rows == modal[0])[0])
    earlier, later = gaps.rows[max(at - len(modal), 0) : at], gaps.rows[at + len(modal) : at + 2 * len(modal)]
    parts = []
    for part in (earlier, modal):
        call = launched[part]
        when = np.where(call >= 0, timeline.calls.start_ns[call], timeline.activities.start_ns[part])
        parts.append(part[np.lexsort((timeline.activities.start_ns[part], when))])
    calls = launched[later]
    begun = timeline.calls.start_ns[calls[calls > launched[modal].max()]]
    following = int(begun.min()) if len(begun) else None
    return np.concatenate(parts).astype(np.int32), len(earlier), following


def _others(
    timeline: GpuTimeline, launched: Int64, order: Int32, first: int, records: dict[int, list[int]]
) -> dict[int, tuple[int, ...]]:
    """Which activities wait for work on other streams, as how many launches back that lies.

    Where a stream waited for events, its next launch waits for what had been launched elsewhere when they were
    recorded. Communication, and everything where no event is in the trace, waits for what had ended when it began.
    """
    activities, calls = timeline.activities, timeline.calls
    stream, start, end = (column[order] for column in (activities.stream, activities.start_ns, activities.end_ns))
    communicates = kinds(timeline, order) == COMMUNICATION
    starts = np.where(launched[order] >= 0, calls.start_ns[launched[order]], start)
    result: dict[int, tuple[int, ...]] = {}
    for at, events in records.items():
        if backs := _recorded(stream, starts, events, (first, first + at)):
            result[at] = backs
    for one in each_once(stream[first:]).tolist():
        mine = np.flatnonzero(stream == one)
        mine = mine[mine >= first]
        for other in each_once(stream).tolist():
            theirs = np.flatnonzero(stream == other)
            if other == one:
                continue
            by_end = theirs[np.argsort(end[theirs], kind="stable")]
            found = np.searchsorted(end[by_end], start[mine], side="right") - 1
            for i, at in zip(mine.tolist(), found.tolist(), strict=True):
                back = i - int(by_end[at])
                if at >= 0 and back > 0 and (not records or communicates[i] or communicates[by_end[at]]):
                    result[i - first] = (*result.get(i - first, ()), back)
    return result


def _recorded(stream: Int32 | Int64, starts: Int64, events: list[int], place: tuple[int, int]) -> tuple[int, ...]:
    """How many launches back the work lies that a launch waits for, where its stream waited for events before it.

    A trace doesn't say on which stream an event was recorded. As many streams are taken as events were waited for: on
    another than the main stream the main one first, which the work comes from, else those that were launched to last.
    The main stream is the one with the lowest number, as the default stream has it.

    Args:
        stream, starts: of all launches up to the step's end.
        events: when the events were recorded.
        place: where the step begins, and where the launch stands.
    """
    first, at = place
    own, main = int(stream[at]), int(stream.min())
    before = starts[:at] <= max(events)
    last = {int(lane): np.flatnonzero((stream[:at] == lane) & before) for lane in each_once(stream)}
    found = {lane: int(places[-1]) for lane, places in last.items() if len(places) and lane != own}
    if own != main and main not in found:  # the step before is not in the trace: it was as this one
        found[main] = int(np.flatnonzero(stream == main)[-1]) - (len(stream) - first)
    others = sorted(found.items(), key=lambda one: (own != main and one[0] == main, one[1]), reverse=True)
    return tuple(at - there for _, there in others[: len(events)])
