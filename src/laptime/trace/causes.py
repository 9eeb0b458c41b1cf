"""Why each gap was there: what the thread that launched the next work was doing meanwhile, by time.

A gap [g0, g1) ends with an activity that some call L launched. Until L returned, the gap is the launching
thread's: it is split over what the thread was innermost in (allocation, synchronize, the launch itself, …);
what no API call covers is the host not launching, and the operator or Python frame it was in has a name where
the trace has one. What is left after L returned is the launch's way to the device when L returned inside the
gap, and `queued` when L had returned before it, or is long: the work was there and the GPU took the time by itself.
Of each gap the parts sum to its duration exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.trace.api import (
    CAUSES,
    HOST,
    LAUNCH,
    PROFILER,
    QUEUED,
    START_UP,
    SYNCHRONIZE,
    UNKNOWN,
    plain_name,
    purposes,
)
from laptime.trace.completeness import launched_before
from laptime.trace.gaps import DeviceGaps, largest
from laptime.trace.host_segments import Segments, flatten, overlay, owner_at, pieces, stretch
from laptime.trace.kernel_names import short_name
from laptime.trace.read.distinct import each_once
from laptime.trace.read.tables import Column
from laptime.trace.read.timeline import GpuTimeline, Int8, Int32, Int64, RangeKind
from laptime.trace.result import CauseTime, HostTime, LargeGap
from laptime.trace.start_up import start_up_calls

_PROFILER_OWNER = -2

_OWNERLESS = np.array([PROFILER, HOST], dtype=np.int8)
"""What the owners -2 and -1 of segments count as."""

LATE_NS = 1_000_000
"""A device that begins work later than this after its launch call returned waits for something else than the launch."""

_BLOCK = 8_192
"""Gaps in one block. A trace has millions of gaps, and what a block needs stays in the processor's cache."""


class GapCauses(msgspec.Struct, frozen=True, eq=False):
    """One row per gap, one column per cause of CAUSES; rows sum to the gap's duration."""

    time_ns: Int32 | Int64  # (gaps, causes), 32 bits where the longest gap fits
    main: Int8  # index of the cause with the most time
    longest: Mapping[int, tuple[int, int]]  # large gaps: name ids of the call and of the range longest in; -1 for none
    by_name_ns: Int64  # per string: time of all gaps that the host was innermost in that range


class _Thread(msgspec.Struct, frozen=True, eq=False):
    """A host thread, flattened. Of each of its intervals the name id and the purpose."""

    segments: Segments
    profiler_ns: tuple[Int64, Int64]  # when the profiler's own work began and ended, which counts before all else
    name: Int32
    purpose: Int8  # and behind them that of the profiler's own work, and of none: owners of -2 and -1


class _Filled(msgspec.Struct, frozen=True, eq=False):
    """GapCauses while its arrays are being filled; `is_long` marks the gaps whose call and range are named."""

    time_ns: Int32 | Int64
    by_name: Int64
    longest: dict[int, tuple[int, int]]
    is_long: npt.NDArray[np.bool_]


def gap_causes(timeline: GpuTimeline, gaps: DeviceGaps, launched: Int64, *, detailed: int = 20) -> GapCauses:
    """The causes of one device's gaps.

    Args:
        timeline: the trace.
        gaps: the device's gaps.
        launched: for each activity the index of its call, -1 without one (`timeline.launches`).
        detailed: for how many of the longest gaps the call and the range are named.
    """
    length = gaps.gap_end_ns - gaps.gap_start_ns
    small = length.max(initial=0) < 2**31
    shape = (len(length), len(CAUSES))
    time_ns = np.zeros(shape, dtype=np.int32 if small else np.int64, order="F")  # unused columns cost no memory
    by_name = np.zeros(len(timeline.strings), dtype=np.int64)
    longest: dict[int, tuple[int, int]] = {}
    if len(length) == 0 or len(timeline.calls.start_ns) == 0:
        time_ns[:, UNKNOWN] = length
        return GapCauses(time_ns, _main(time_ns), longest, by_name)
    is_long = np.zeros(len(length), dtype=bool)
    is_long[largest(length, detailed)] = True
    del length
    filled = _Filled(time_ns, by_name, longest, is_long)
    start_up = start_up_calls(timeline, launched)
    ready = launched_before(timeline, launched)[gaps.after] if (launched < 0).any() else None
    for (process, thread), rows in _launching_threads(timeline, gaps, launched):
        host = _flattened(timeline, process, thread, start_up)
        for first in range(0, len(rows), _BLOCK):
            _add_block(timeline, gaps, launched, host, rows[first : first + _BLOCK], filled, ready)
    return GapCauses(time_ns, _main(time_ns), longest, by_name)


def _add_block(
    timeline: GpuTimeline,
    gaps: DeviceGaps,
    launched: Int64,
    host: _Thread,
    block: npt.NDArray[np.intp],
    filled: _Filled,
    ready: npt.NDArray[np.bool_] | None,
) -> None:
    """Add to `filled` a block of gaps, in order of time, that one host thread ended.

    `ready`: for each gap whether its next work was launched before the capture; None where no launch is missing.
    """
    time_ns = filled.time_ns
    begin, gap_end = gaps.gap_start_ns[block], gaps.gap_end_ns[block]
    call = launched[gaps.after[block]]
    linked = call >= 0
    returned = np.where(linked, timeline.calls.end_ns[call], gap_end)
    # Kernels of one graph replay share a call that may still run: between them it is the GPU's own time.
    queued = (linked & (call == launched[gaps.before[block]])) | (returned <= begin)
    end = np.where(queued, begin, np.minimum(returned, gap_end))

    part = stretch(host.segments, int(begin[0]), int(gap_end[-1]))
    segments = Segments(host.segments.edge_ns[part.start : part.stop + 1], host.segments.owner[part])
    own_begin, own_end = host.profiler_ns
    own = slice(*(int(np.searchsorted(*one)) for one in ((own_end, begin[0]), (own_begin, gap_end[-1]))))
    segments = overlay(segments, own_begin[own], own_end[own], _PROFILER_OWNER)
    # Work without a launch record that starts while the thread waits for the device was launched before.
    unlinked = np.flatnonzero(~linked)
    waiting = owner_at(segments, gap_end[unlinked] - 1)
    waits = unlinked[host.purpose[waiting] == SYNCHRONIZE]
    if ready is not None:
        waits = each_once(np.concatenate([waits, np.flatnonzero(ready[block])]))
    queued[waits] = True
    end[waits] = begin[waits]

    rest = gap_end - end
    late = queued | (rest > LATE_NS)  # it waits for an event, or for a GPU that another works on
    time_ns[block, QUEUED] = np.where(late, rest, 0)
    time_ns[block, LAUNCH] = np.where(late, 0, rest)
    uncovered = end - begin
    parts = pieces(segments, begin, end)
    owner = segments.owner[parts.segment]
    cause = host.purpose[owner]
    called = cause != HOST
    spent, of = parts.time_ns[called], parts.window[called]
    by_cause = time_ns.T.reshape(-1)  # one cause after the other, as they lie in memory
    np.add.at(by_cause, cause[called].astype(np.intp) * len(time_ns) + block[of], spent.astype(time_ns.dtype))
    np.subtract.at(uncovered, of, spent)
    time_ns[block, HOST] += uncovered.astype(time_ns.dtype)
    named = ~called & (owner >= 0)
    np.add.at(filled.by_name, host.name[owner[named]], parts.time_ns[named])
    for i in np.flatnonzero(filled.is_long[block]).tolist():
        filled.longest[int(block[i])] = _longest_in(segments, host, int(begin[i]), int(end[i]))


def _main(time_ns: Int32 | Int64) -> Int8:
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
    timeline: GpuTimeline, gaps: DeviceGaps, launched: Int64
) -> Iterator[tuple[tuple[int, int], npt.NDArray[np.intp]]]:
    """Each (process, thread) with the gaps that it ended. A gap whose next activity has no call goes to the
    thread that launched most of that process' work (of all work, when that process has no calls)."""
    calls = timeline.calls
    if (calls.process == calls.process[0]).all() and (calls.thread == calls.thread[0]).all():
        yield (int(calls.process[0]), int(calls.thread[0])), np.arange(len(gaps.after))
        return
    call = launched[gaps.after]
    keys = np.stack([calls.process.astype(np.int64), calls.thread], axis=1)
    threads, inverse = np.unique(keys, axis=0, return_inverse=True)
    owner = inverse.ravel()
    linked = call >= 0
    gap_thread = np.where(linked, owner[call], -1)
    usual = np.bincount(owner, minlength=len(threads))
    if linked.any():
        usual = np.bincount(gap_thread[linked], minlength=len(threads))
    process = timeline.activities.process[gaps.after]
    for own in each_once(process[~linked]):
        of_process = np.where(threads[:, 0] == own, usual, -1)
        best = int(np.argmax(of_process if of_process.max() > 0 else usual))
        gap_thread[~linked & (process == own)] = best
    for i in each_once(gap_thread):
        yield (int(threads[i, 0]), int(threads[i, 1])), np.flatnonzero(gap_thread == i)


def _flattened(timeline: GpuTimeline, process: int, thread: int, start_up: npt.NDArray[np.bool_]) -> _Thread:
    """The thread's calls and ranges, and the profiler's own work. `start_up`: for each call whether it is a slow first
    one."""
    calls, ranges = timeline.calls, timeline.ranges
    own_calls = _rows((calls.process == process) & (calls.thread == thread))
    named = _rows((ranges.process == process) & (ranges.thread == thread) & (ranges.kind != RangeKind.PROFILER))
    # Ranges first: of a call and a range with the same times, as in whole microseconds, the call is the inner one.
    start = _together(ranges.start_ns[named], calls.start_ns[own_calls])
    segments = flatten(start, _together(ranges.end_ns[named], calls.end_ns[own_calls]))
    called = calls.name[own_calls]
    purpose = purposes(called, timeline.strings)
    purpose[start_up[own_calls]] = START_UP
    name = _together(ranges.name[named], called)
    purpose = np.concatenate([np.full(len(name) - len(called), HOST, np.int8), purpose, _OWNERLESS])
    overhead = ranges.kind == RangeKind.PROFILER
    same_process = overhead & (ranges.process == process)
    rows = np.flatnonzero(same_process if same_process.any() else overhead)
    begin, end = ranges.start_ns[rows], np.maximum(ranges.end_ns[rows], ranges.start_ns[rows])
    return _Thread(segments, (begin, np.maximum.accumulate(end)), name, purpose)


def _rows(chosen: npt.NDArray[np.bool_]) -> slice | npt.NDArray[np.intp]:
    """Where it is true; all rows as a slice, which copies nothing."""
    return slice(None) if chosen.all() else np.flatnonzero(chosen)


def _together(first: Column, second: Column) -> Column:
    return np.concatenate([first, second]) if len(second) else first


def _longest_in(segments: Segments, host: _Thread, begin: int, end: int) -> tuple[int, int]:
    """Name ids of the call and of the range that cover most of [begin, end); -1 for none.

    No range is named where the host was for longer in none at all.
    """
    first = max(int(np.searchsorted(segments.edge_ns, begin, side="right")) - 1, 0)
    last = min(int(np.searchsorted(segments.edge_ns, end, side="left")), len(segments.owner))
    owner = segments.owner[first:last]
    spent = np.minimum(segments.edge_ns[first + 1 : last + 1], end) - np.maximum(segments.edge_ns[first:last], begin)
    is_host = host.purpose[owner] == HOST

    def most(chosen: npt.NDArray[np.bool_], least: int) -> int:
        names, inverse = np.unique(host.name[owner[chosen]], return_inverse=True)
        if not len(names):
            return -1
        total = np.bincount(inverse, weights=spent[chosen])
        return int(names[total.argmax()]) if total.max() >= least else -1

    owned = (owner >= 0) & (spent > 0)
    nowhere = end - begin - int(spent[(owner != -1) & (spent > 0)].sum())
    return most(owned & ~is_host, 0), most(owned & is_host, nowhere)


def cause_times(causes: GapCauses, chosen: npt.NDArray[np.intp] | None = None) -> list[CauseTime]:
    """Gap time by cause over all gaps, or over those chosen; most time first."""
    time_ns = causes.time_ns if chosen is None else causes.time_ns[chosen]
    main = causes.main if chosen is None else causes.main[chosen]
    totals, gaps = time_ns.sum(axis=0, dtype=np.int64), np.bincount(main, minlength=len(CAUSES))
    rows = [CauseTime(CAUSES[i], int(gaps[i]), int(totals[i])) for i in np.flatnonzero(totals)]
    return sorted(rows, key=lambda row: -row.total_ns)


UNNAMED = "(host code outside any recorded operator)"


def host_times(causes: GapCauses, strings: tuple[str, ...], count: int = 15) -> list[HostTime]:
    """The operators and frames that the host was in while the GPU waited and no API call ran, most time first."""
    order = np.argsort(-causes.by_name_ns, kind="stable")[:count]
    rows = [HostTime(strings[i], int(causes.by_name_ns[i])) for i in order if causes.by_name_ns[i] > 0]
    unnamed = int(causes.time_ns[:, HOST].sum(dtype=np.int64) - causes.by_name_ns.sum())
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
        api, host = causes.longest.get(int(i), (-1, -1))
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
