"""Why each gap was there: what the thread that launched the next work was doing meanwhile, by time.

A gap [g0, g1) ends with an activity that some call L launched. Until L returned, the gap is the launching
thread's: it is split over what the thread was innermost in (allocation, synchronize, the launch itself, …);
what no API call covers is the host not launching, and the operator or Python frame it was in has a name where
the trace has one. What is left after L returned is the launch's way to the device when L returned inside the
gap, and `queued` when L had returned before it: the work was there and the GPU took the time by itself.
Of each gap the parts sum to its duration exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from laptime.trace.api import CAUSES, HOST, LAUNCH, PROFILER, QUEUED, SYNCHRONIZE, UNKNOWN, plain_name, purposes
from laptime.trace.gaps import DeviceGaps, largest
from laptime.trace.host_segments import Segments, flatten, overlay, owner_at, time_within
from laptime.trace.kernel_names import short_name
from laptime.trace.result import CauseTime, HostTime, LargeGap
from laptime.trace.timeline import GpuTimeline, Int64, RangeKind

_PROFILER_OWNER = -2


@dataclass(frozen=True, eq=False, slots=True)
class GapCauses:
    """One row per gap, one column per cause of CAUSES; rows sum to the gap's duration."""

    time_ns: Int64  # (gaps, causes)
    main: npt.NDArray[np.int8]  # index of the cause with the most time
    api: Int64  # name id of the call that the thread was in for longest; -1 for none. Large gaps only
    host: Int64  # name id of the range that the thread was in for longest; -1 for none. Large gaps only
    by_name_ns: Int64  # per string: time of all gaps that the host was innermost in that range


def gap_causes(timeline: GpuTimeline, gaps: DeviceGaps, launched: Int64, *, detailed: int = 20) -> GapCauses:
    """The causes of one device's gaps.

    Args:
        timeline: the trace.
        gaps: the device's gaps.
        launched: for each activity the index of its call, -1 without one (`timeline.launches`).
        detailed: for how many of the longest gaps the call and the range are named.
    """
    count = len(gaps.gap_start_ns)
    time_ns = np.zeros((count, len(CAUSES)), dtype=np.int64, order="F")  # by columns: unused ones cost no memory
    api, host = np.full(count, -1, dtype=np.int64), np.full(count, -1, dtype=np.int64)
    by_name = np.zeros(len(timeline.strings), dtype=np.int64)
    g0, g1 = gaps.gap_start_ns, gaps.gap_end_ns
    if count == 0 or len(timeline.calls.start_ns) == 0:
        time_ns[:, UNKNOWN] = g1 - g0
        return GapCauses(time_ns, _main(time_ns), api, host, by_name)

    call = launched[gaps.after]
    returned = np.where(call >= 0, timeline.calls.end_ns[call], g1)
    host_end = np.clip(returned, g0, g1)
    rest = g1 - host_end
    in_gap = returned > g0
    # Kernels of one graph replay share a call that may still run: between them it is the GPU's own time.
    same = (call >= 0) & (call == launched[gaps.before])
    host_end, rest = np.where(same, g0, host_end), np.where(same, g1 - g0, rest)
    queued = same | ~in_gap
    time_ns[:, QUEUED] = np.where(queued, rest, 0)
    time_ns[:, LAUNCH] = np.where(queued, 0, rest)
    del returned, rest, in_gap, same, queued  # a trace has millions of gaps

    is_long = np.zeros(count, dtype=bool)
    is_long[largest(g1 - g0, detailed)] = True
    for thread, mine in _launching_threads(timeline, gaps, call):
        segments, interval_name, purpose = _thread_segments(timeline, thread)
        label = np.full(len(segments.owner), HOST, dtype=np.int8)
        owned = segments.owner >= 0
        label[owned] = purpose[segments.owner[owned]]
        label[segments.owner == _PROFILER_OWNER] = PROFILER
        # Work without a launch record that starts while the thread waits for the device was launched before.
        unlinked = mine[call[mine] < 0]
        waiting = owner_at(segments, g1[unlinked] - 1)
        purpose_then = np.append(purpose, np.int8(-1))[np.maximum(waiting, -1)]  # -1 where no call is open
        waits = unlinked[purpose_then == SYNCHRONIZE]
        time_ns[waits, QUEUED] = g1[waits] - g0[waits]
        host_end[waits] = g0[waits]
        begin, end = g0[mine], host_end[mine]
        uncovered = end - begin
        for cause, spent in time_within(segments, label, begin, end, but=HOST):
            time_ns[mine, cause] += spent
            uncovered -= spent
        time_ns[mine, HOST] += uncovered
        _add_named(by_name, segments, label, interval_name, begin, end)
        for gap in mine[is_long[mine]]:
            api[gap], host[gap] = _longest_in(segments, label, interval_name, int(g0[gap]), int(host_end[gap]))
    return GapCauses(time_ns, _main(time_ns), api, host, by_name)


def _main(time_ns: Int64) -> npt.NDArray[np.int8]:
    """For each row the column with the most time, the first on a tie."""
    main = np.zeros(len(time_ns), dtype=np.int8)
    most = time_ns[:, 0].copy()
    for cause in range(1, time_ns.shape[1]):
        more = time_ns[:, cause] > most
        if more.any():
            main[more] = cause
            most[more] = time_ns[more, cause]
    return main


def _launching_threads(
    timeline: GpuTimeline, gaps: DeviceGaps, call: Int64
) -> Iterator[tuple[tuple[int, int], npt.NDArray[np.intp]]]:
    """Each (process, thread) with the gaps that it ended. A gap whose next activity has no call goes to the
    thread that launched most of that process' work (of all work, when that process has no calls)."""
    calls = timeline.calls
    if (calls.process == calls.process[0]).all() and (calls.thread == calls.thread[0]).all():
        yield (int(calls.process[0]), int(calls.thread[0])), np.arange(len(call))
        return
    keys = np.stack([calls.process.astype(np.int64), calls.thread], axis=1)
    threads, inverse = np.unique(keys, axis=0, return_inverse=True)
    owner = inverse.ravel()
    linked = call >= 0
    gap_thread = np.where(linked, owner[call], -1)
    usual = np.bincount(owner, minlength=len(threads))
    if linked.any():
        usual = np.bincount(gap_thread[linked], minlength=len(threads))
    process = timeline.activities.process[gaps.after]
    for own in np.unique(process[~linked]):
        of_process = np.where(threads[:, 0] == own, usual, -1)
        best = int(np.argmax(of_process if of_process.max() > 0 else usual))
        gap_thread[~linked & (process == own)] = best
    for i in np.unique(gap_thread):
        yield (int(threads[i, 0]), int(threads[i, 1])), np.flatnonzero(gap_thread == i)


def _thread_segments(
    timeline: GpuTimeline, thread: tuple[int, int]
) -> tuple[Segments, npt.NDArray[np.int32], npt.NDArray[np.int8]]:
    """The thread's calls and ranges, flattened; with each interval's name id and purpose."""
    calls, ranges = timeline.calls, timeline.ranges
    mine = np.flatnonzero((calls.process == thread[0]) & (calls.thread == thread[1]))
    named = np.flatnonzero(
        (ranges.process == thread[0]) & (ranges.thread == thread[1]) & (ranges.kind != RangeKind.PROFILER)
    )
    segments = flatten(
        np.concatenate([calls.start_ns[mine], ranges.start_ns[named]]),
        np.concatenate([calls.end_ns[mine], ranges.end_ns[named]]),
    )
    name = np.concatenate([calls.name[mine], ranges.name[named]])
    purpose = np.concatenate([purposes(calls.name[mine], timeline.strings), np.full(len(named), HOST, dtype=np.int8)])
    overhead = ranges.kind == RangeKind.PROFILER
    same_process = overhead & (ranges.process == thread[0])
    rows = np.flatnonzero(same_process if same_process.any() else overhead)
    return overlay(segments, ranges.start_ns[rows], ranges.end_ns[rows], _PROFILER_OWNER), name, purpose


def _add_named(
    by_name: Int64,
    segments: Segments,
    label: npt.NDArray[np.int8],
    name: npt.NDArray[np.int32],
    begin: Int64,
    end: Int64,
) -> None:
    """Add the host's time in gaps [begin, end) to the names of the ranges it was innermost in."""
    chosen = np.flatnonzero((label == HOST) & (segments.owner >= 0))
    if len(chosen) == 0 or len(begin) == 0:
        return
    edges = np.stack([begin, end], axis=1).ravel()  # gaps of a device are disjoint and in order
    inside = np.tile(np.array([1, 0], dtype=np.int8), len(begin))[:-1]
    window = Segments(edges, np.zeros(len(inside), dtype=np.int32))
    named = time_within(window, inside, segments.edge_ns[chosen], segments.edge_ns[chosen + 1], but=0)
    spent = next(iter(named))[1]
    np.add.at(by_name, name[segments.owner[chosen]], spent)


def _longest_in(
    segments: Segments, label: npt.NDArray[np.int8], name: npt.NDArray[np.int32], begin: int, end: int
) -> tuple[int, int]:
    """Name ids of the call and of the range that cover most of [begin, end); -1 for none."""
    first = max(int(np.searchsorted(segments.edge_ns, begin, side="right")) - 1, 0)
    last = min(int(np.searchsorted(segments.edge_ns, end, side="left")), len(segments.owner))
    owner = segments.owner[first:last]
    spent = np.minimum(segments.edge_ns[first + 1 : last + 1], end) - np.maximum(segments.edge_ns[first:last], begin)
    is_host = label[first:last] == HOST

    def most(chosen: npt.NDArray[np.bool_]) -> int:
        names, inverse = np.unique(name[owner[chosen]], return_inverse=True)
        return int(names[np.bincount(inverse, weights=spent[chosen]).argmax()]) if len(names) else -1

    owned = (owner >= 0) & (spent > 0)
    return most(owned & ~is_host), most(owned & is_host)


def cause_times(causes: GapCauses, chosen: npt.NDArray[np.intp] | None = None) -> list[CauseTime]:
    """Gap time by cause over all gaps, or over those chosen; most time first."""
    time_ns = causes.time_ns if chosen is None else causes.time_ns[chosen]
    main = causes.main if chosen is None else causes.main[chosen]
    totals, gaps = time_ns.sum(axis=0), np.bincount(main, minlength=len(CAUSES))
    rows = [CauseTime(CAUSES[i], int(gaps[i]), int(totals[i])) for i in np.flatnonzero(totals)]
    return sorted(rows, key=lambda row: -row.total_ns)


UNNAMED = "(host code outside any recorded operator)"


def host_times(causes: GapCauses, strings: tuple[str, ...], count: int = 15) -> list[HostTime]:
    """The operators and frames that the host was in while the GPU waited and no API call ran, most time first."""
    order = np.argsort(-causes.by_name_ns, kind="stable")[:count]
    rows = [HostTime(strings[i], int(causes.by_name_ns[i])) for i in order if causes.by_name_ns[i] > 0]
    unnamed = int(causes.time_ns[:, HOST].sum() - causes.by_name_ns.sum())
    if unnamed > 0:
        rows.append(HostTime(UNNAMED, unnamed))
    return sorted(rows, key=lambda row: -row.total_ns)


def large_gaps(timeline: GpuTimeline, gaps: DeviceGaps, causes: GapCauses, count: int = 20) -> list[LargeGap]:
    """The longest gaps with their neighbours and causes, longest first."""
    strings, activities = timeline.strings, timeline.activities
    rows = []
    for i in largest(gaps.gap_end_ns - gaps.gap_start_ns, count):
        before = strings[activities.name[gaps.before[i]]]
        after = strings[activities.name[gaps.after[i]]]
        api, host = int(causes.api[i]), int(causes.host[i])
        main = int(causes.main[i])
        rows.append(
            LargeGap(
                start_ns=int(gaps.gap_start_ns[i]),
                duration_ns=int(gaps.gap_end_ns[i] - gaps.gap_start_ns[i]),
                before=before,
                after=after,
                before_short=short_name(before),
                after_short=short_name(after),
                cause=CAUSES[main],
                cause_ns=int(causes.time_ns[i, main]),
                api=plain_name(strings[api]) if api >= 0 else None,
                host=strings[host] if host >= 0 else None,
                shares=cause_times(causes, np.array([i])),
            )
        )
    return rows
