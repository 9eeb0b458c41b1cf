"""Durations that can't be: a stream runs one after the other, so nothing on it lasts over what ran later there."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from msgspec.structs import asdict, replace

from laptime.data.finding import Finding
from laptime.trace.kernel_names import communicates
from laptime.trace.lanes import by_lane
from laptime.trace.read.distinct import each_once
from laptime.trace.read.timeline import Activities, Activity, GpuTimeline, Int64

SWALLOWED = 8
"""A kernel that holds this many later kernels of its own stream from start to end has an impossible duration."""

FEW_SWALLOWED = 2
"""Where hardly anything else overlaps on a stream, so many are enough; copies and memsets are judged there too."""

RARE = 50
"""One in so many of a stream's activities may have a wrong record; where more overlap, streams were merged."""

PDL_NS = 2_000
"""Kernels of one stream may overlap this much by design (programmatic dependent launch)."""


UNLIKE = 1_000
"""Work that lasts so many times as long as all other of its name, and beyond all else in the file, is doubtful."""

ALIKE = 3
"""Others of its name that there must be."""

TIMES_ALIKE, FEW_ALIKE = 5, 4
"""In a graph a kernel's duration is doubted where it is so many times the usual one of its name, and fewer than one in
so many are."""

SLACK_NS = 1_000_000
"""Clocks of host and device differ by less than this."""

LASTS_NS = 4_000
"""A kernel that usually lasts this long is not rounded to nothing."""

FEW_ZERO = 0.02
"""Up to this share of kernels may have lost their times before busy time is called unsupported."""

FAR_NS = 1_000_000
"""A capture whose first work comes later than this has a clock that began elsewhere."""

_WAITS_FOR_ALL = re.compile(r"(?:Device|Ctx)Synchronize")


def bounded(timeline: GpuTimeline) -> GpuTimeline:
    """The timeline with impossible durations cut where the stream's next work begins, by when they had ended.

    Work whose times were not taken is left out, with a finding.
    Only where the rest of the stream runs one after the other: elsewhere the file's times stay as they are. The last
    work of all is cut where the host's wait for the whole device returned.
    """
    timeline = _timed(timeline)
    rows, end_ns = _on_serial_streams(timeline)
    last = doubtful(timeline)
    waited_ns = _waited_for(timeline, last)
    if waited_ns is not None and last not in rows:
        rows, end_ns = np.append(rows, last), np.append(end_ns, waited_ns)
    if len(rows) == 0:
        return timeline
    a = timeline.activities
    cut = tuple((int(row), int(a.end_ns[row] - a.start_ns[row])) for row in rows)
    ends = a.end_ns.copy()
    ends[rows] = end_ns
    return replace(timeline, activities=replace(a, end_ns=ends), cut=(*timeline.cut, *cut))


def untimed(activities: Activities) -> npt.NDArray[np.bool_]:
    """Activities at time 0 in a capture whose clock is far from it: the profiler could not take their times.

    CUPTI writes a start and an end of 0 then. Work that lasts, from a start of 0 on, may be the trace's first.
    """
    zero: npt.NDArray[np.bool_] = activities.start_ns == 0
    if zero.any() and not zero.all():
        first, last = int(activities.start_ns[~zero].min()), int(activities.end_ns[~zero].max())
        if first > max(last - first, FAR_NS):
            return zero
    return np.zeros(len(zero), dtype=np.bool_)


def _timed(timeline: GpuTimeline) -> GpuTimeline:
    lost = untimed(timeline.activities)
    lost &= timeline.activities.end_ns == 0
    if not lost.any():
        return timeline
    columns = {name: column[~lost] if len(column) else column for name, column in asdict(timeline.activities).items()}
    count = int(np.count_nonzero(lost))
    message = "activities have a start of 0, which means not measured: they are left out"
    finding = Finding(code="zero-timestamps", severity="severe", message=message, count=count)
    return replace(timeline, activities=Activities(**columns), findings=(*timeline.findings, finding))


def overlong(timeline: GpuTimeline) -> Int64:
    """Indices of activities whose recorded duration can't be or is doubtful, those that `bounded` cut among them."""
    last = doubtful(timeline)
    return each_once(np.concatenate([_impossible(timeline), np.array([last] if last >= 0 else [], dtype=np.int64)]))


def _impossible(timeline: GpuTimeline) -> Int64:
    cut = np.array([row for row, _ in timeline.cut], dtype=np.int64)
    parts = [cut, _on_serial_streams(timeline)[0], _over_many(timeline), _over_many_nodes(timeline)]
    return each_once(np.concatenate(parts))


def doubtful(timeline: GpuTimeline) -> int:
    """The activity that lasts beyond all else in the file, UNLIKE times as long as all others of its name; else -1.

    Communication is left out: it lasts for as long as another rank is late.
    """
    a = timeline.activities
    if len(a.end_ns) <= ALIKE:
        return -1
    row = int(np.argmax(a.end_ns))
    lasts = int(a.end_ns[row] - a.start_ns[row])
    others = np.flatnonzero(a.name == a.name[row])
    others = others[others != row]
    if len(others) < ALIKE or lasts <= UNLIKE * max(int((a.end_ns[others] - a.start_ns[others]).max()), 1):
        return -1
    ends = [int(part.end_ns.max()) for part in (timeline.calls, timeline.ranges) if len(part.end_ns)]
    ends.append(int(np.partition(a.end_ns, -2)[-2]))
    alone = 2 * (int(a.end_ns[row]) - max(ends)) > lasts
    return row if alone and not communicates(timeline.strings[a.name[row]]) else -1


def _waited_for(timeline: GpuTimeline, row: int) -> int | None:
    """When a wait for the whole device returned that began after an activity and ended long before it; else None."""
    a, calls = timeline.activities, timeline.calls
    if row < 0 or len(calls.end_ns) == 0 or (a.device != a.device[row]).any():
        return None
    waits = np.array([_WAITS_FOR_ALL.search(name) is not None for name in timeline.strings], dtype=np.bool_)
    began, ended = calls.start_ns > a.start_ns[row], calls.end_ns < a.end_ns[row] - SLACK_NS
    same = (calls.process == a.process[row]) | (a.process[row] < 0)
    found = np.flatnonzero(waits[calls.name] & began & ended & same)
    return int(calls.end_ns[found].min()) if len(found) else None


def doubtful_duration(timeline: GpuTimeline) -> Iterator[Finding]:
    """Says that the last work of all lasts unlike all others of its name."""
    row = doubtful(timeline)
    if row >= 0 and row not in _impossible(timeline):
        a = timeline.activities
        yield Finding(
            code="doubtful-duration",
            severity="severe",
            message=f"the last work of the GPU is recorded to last {int(a.end_ns[row] - a.start_ns[row])} ns, beyond"
            f" all else in the file and over {UNLIKE} times as long as all others of its name: if that is wrong, so"
            " are the span and the busy time",
            count=1,
        )


def overlong_kernels(timeline: GpuTimeline) -> Iterator[Finding]:
    """Says that there are such durations."""
    rows = _impossible(timeline)
    if len(rows):
        longest = max(
            int((timeline.activities.end_ns - timeline.activities.start_ns)[rows].max()),
            max((duration for _, duration in timeline.cut), default=0),
        )
        whole = len(rows) == len(timeline.cut)
        yield Finding(
            code="overlong-kernels",
            severity="severe",
            message="work of the GPU is recorded to last over later work of its own stream, or over a wait for all of"
            f" it, which can't be (up to {longest} ns): "
            + (
                "it counts up to there, so busy time is at most what is shown"
                if whole
                else "these durations are wrong, and so is the busy time around them"
            ),
            count=len(rows),
        )


def zero_durations(timeline: GpuTimeline) -> Iterator[Finding]:
    """Kernels recorded to last no time, of names that usually last: their times were lost, and so was busy time.

    Where times are rounded, a short kernel lasts 0; so the usual one of its name must last LASTS_NS.
    """
    a = timeline.activities
    kernels = np.flatnonzero(a.kind == Activity.KERNEL)
    lasts = a.end_ns[kernels] - a.start_ns[kernels]
    zero = lasts <= 0
    if not zero.any():
        return
    if zero.all():
        yield Finding(
            code="zero-durations",
            severity="severe",
            message="every kernel is recorded to last no time: these times were lost, so how long the GPU worked and"
            " waited isn't known",
            count=len(kernels),
        )
        return
    count = 0
    for name in each_once(a.name[kernels[zero]]).tolist():
        own = lasts[a.name[kernels] == name]
        timed = own[own > 0]
        if len(timed) and np.median(timed) >= LASTS_NS:
            count += len(own) - len(timed)
    if count:
        yield Finding(
            code="zero-durations",
            severity="severe" if count > FEW_ZERO * len(kernels) else "warning",
            message=f"{count} of {len(kernels)} kernels are recorded to last no time: others of their names do last, so"
            " these times were lost, and the GPU worked for longer, and waited less, than is shown",
            count=count,
        )


def _over_many(timeline: GpuTimeline, *, of_graphs: bool = False) -> Int64:
    """Kernels, those of graphs or all others, that last over SWALLOWED or more later ones of their stream."""
    a = timeline.activities
    order, same = by_lane(a, np.flatnonzero((a.kind == Activity.KERNEL) & ((a.graph_node >= 0) == of_graphs)))
    if len(order) <= SWALLOWED:
        return order[:0]
    ahead, behind = order[:-SWALLOWED], order[SWALLOWED:]
    lane = np.concatenate([[0], np.cumsum(~same)])
    held = (lane[:-SWALLOWED] == lane[SWALLOWED:]) & (a.end_ns[ahead] >= a.end_ns[behind])
    found: Int64 = ahead[held & (a.start_ns[behind] > a.start_ns[ahead])]
    return found


def _over_many_nodes(timeline: GpuTimeline) -> Int64:
    """Kernels of a graph that last over SWALLOWED or more later ones of their stream, as no other of their name does.

    Branches of a graph may run side by side under one stream's number: they do so in each replay.
    """
    a, found = timeline.activities, _over_many(timeline, of_graphs=True)
    if len(found) == 0:
        return found
    lasts = a.end_ns - a.start_ns
    unlike, nodes = np.zeros(len(found), dtype=np.bool_), (a.kind == Activity.KERNEL) & (a.graph_node >= 0)
    for name in each_once(a.name[found]).tolist():
        alike = np.sort(lasts[nodes & (a.name == name)])
        own = a.name[found] == name
        if len(alike) > ALIKE and np.count_nonzero(own) < len(alike) / FEW_ALIKE:
            unlike |= own & (lasts[found] > TIMES_ALIKE * alike[len(alike) // 2])
    impossible: Int64 = found[unlike]
    return impossible


def _on_serial_streams(timeline: GpuTimeline) -> tuple[Int64, Int64]:
    """Rare activities that last over FEW_SWALLOWED or more of a stream on which hardly anything else overlaps.

    Returns:
        their indices, and when the next activity of their stream begins.
    """
    a = timeline.activities
    order, same = by_lane(a, np.flatnonzero((a.kind != Activity.GRAPH) & (a.graph_node < 0)))
    none = order[:0]
    if len(order) <= FEW_SWALLOWED:
        return none, none
    start, end = a.start_ns[order], a.end_ns[order]
    over = np.where(same, end[:-1] - start[1:], 0) > PDL_NS
    if not over.any():
        return none, none
    launch = a.correlation[order]
    together = (launch[1:] == launch[:-1]) & (launch[1:] >= 0)  # one graph launch, whose nodes may run side by side
    lane = np.concatenate([[0], np.cumsum(~same)])
    held = over & ~together & (start[1:] > start[:-1])
    for further in range(1, FEW_SWALLOWED + 1):
        inside = np.zeros(len(held), dtype=np.bool_)
        many = len(order) - further
        inside[:many] = (lane[further:] == lane[:many]) & (end[further:] <= end[:many])
        held &= inside
    count, lanes = int(lane[-1]) + 1, lane[:-1]
    sizes = np.bincount(lane, minlength=count)
    wrong = np.bincount(lanes[held], minlength=count)
    others = np.bincount(lanes[over & ~held], minlength=count)
    serial = wrong + others <= np.maximum(sizes // RARE, 1)
    found = np.flatnonzero(held & serial[lanes])
    return order[found], start[found + 1]
