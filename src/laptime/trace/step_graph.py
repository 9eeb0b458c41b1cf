"""A step's dependency graph: what each activity had to wait for.

An activity waits for its launch by the host, for the activity before it on its stream, and for activities of other
streams where an event or the order of communication says so. The host launches in order; between two launches it works
for the launch, does other work, or waits for the device.

Source: the critical path of Holistic Trace Analysis and of Chakra's execution traces is built from the same edges.
"""

from __future__ import annotations

import re

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.trace.api import FREE, MEMCPY, SYNCHRONIZE, purposes
from laptime.trace.device_time import COMMUNICATION, copy_direction, kinds
from laptime.trace.gaps import DeviceGaps, covered_ns
from laptime.trace.read.distinct import each_once
from laptime.trace.read.timeline import GpuTimeline, Int8, Int32, Int64, RangeKind
from laptime.trace.replay import Timing
from laptime.trace.step_ranges import PROFILER_STEP
from laptime.trace.steps import StepFrame

MOST = 30_000
"""A step of more activities is not replayed."""

STAGED = 4
"""A copy that ends after its call by less than this part of the call's time held the host."""

LOADER = re.compile(r"data_?loader|datapipe|next_?batch|fetch_?batch|load_?batch", re.IGNORECASE)
"""How ranges are named in which a data loader works."""

_OPTIMIZER = "Optimizer."

VIEW = re.compile(
    r"aten::(unbind|split(_with_sizes)?|tensor_split|chunk|unflatten|flatten|view(_as)?|_unsafe_view|reshape|(un)?squeeze|"
    r"select|slice|narrow|permute|transpose|t|expand(_as)?|as_strided|detach|movedim|swapaxes|result_type)"
)
"""Operators that give a tensor another shape and make the device work on nothing: a replay doesn't call them."""

RELEASE_NS = 1_000
"""Clocks of host and device differ by about this: work that ended so much after a call's end was waited for."""

LATENCY_NS, LONGEST_LATENCY_NS = 4_000, 50_000
"""From the beginning of a launch call to its work, where the trace doesn't show it, and at most."""

RESIDUAL_NS, LONGEST_RESIDUAL_NS = 1_000, 5_000
"""Between two activities that were queued on one stream: where the trace doesn't show it, and at most."""

AWAY_NS, TIMES_USUAL = (200_000, 1_000_000), 20
"""A host in no call for longer does other work than launching: from the first where that is so many times as long as
usual and no layer is being launched, from the second in any case."""

PIECES_NS = 1_000_000
"""A host that launches nothing and waits for nothing for so long does other work, whatever it calls meanwhile."""

BEHIND_NS, TIMES_BEHIND = 100_000, 10
"""The same of a host that waited for the device, or worked on something else since: it looks at what it got. From then
on each such time counts, until it launches as usual again."""


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
    host = _host(timeline, launched, order, first, following)
    lanes, stream = np.unique(activities.stream[rows], return_inverse=True)
    kind, call = kinds(timeline, rows), launched[rows]
    start, end = activities.start_ns[rows], activities.end_ns[rows]
    begun = start - timeline.calls.start_ns[call]
    apart = start[1:] - end[:-1]
    queued = (begun[1:] > apart + 2 * LATENCY_NS) & (stream[1:] == stream[:-1])
    seen = begun[1:][(call[1:] >= 0) & ~queued & (begun[1:] > 0) & (apart > LATENCY_NS)]
    close = apart[queued & (apart >= 0) & (apart < LONGEST_RESIDUAL_NS)]
    return StepGraph(
        rows=rows,
        duration_ns=np.maximum(end - start, 0),
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


class _Host(msgspec.Struct):
    """What the host did between the launches of a step, while it is being counted. Lists have one entry per activity:
    time before and after the wait that precedes its launch."""

    count: int
    waits: list[int] = msgspec.field(default_factory=list)
    launching: tuple[list[int], list[int]] = msgspec.field(default_factory=lambda: ([], []))
    away: tuple[list[int], list[int]] = msgspec.field(default_factory=lambda: ([], []))
    # before which launches streams waited: for events of when
    records: dict[int, list[int]] = msgspec.field(default_factory=dict)
    # other work's begins and ends
    elsewhere: tuple[list[int], list[int]] = msgspec.field(default_factory=lambda: ([], []))

    def __post_init__(self) -> None:
        self.waits = [0] * self.count
        for part in (*self.launching, *self.away):
            part.extend([0] * self.count)

    def spend(self, at: int, time_ns: int, *, away: bool = False) -> None:
        """Host time before the launch of activity `at`; behind the last one lies the next step's first."""
        if time_ns > 0 and at <= self.count:
            kind = self.away if away else self.launching
            kind[1 if self.waits[at % self.count] else 0][at % self.count] += time_ns

    def wait(self, at: int, back: int) -> None:
        """A wait before the launch of activity `at`, for the one that lies so many launches back."""
        if at <= self.count and self.waits[at % self.count] != back:
            for early, late in (self.launching, self.away):
                early[at % self.count] += late[at % self.count]
                late[at % self.count] = 0
            self.waits[at % self.count] = back


def _host(timeline: GpuTimeline, launched: Int64, order: Int32, first: int, following: int | None) -> _Host:
    """Walk through the API calls from the first launch of the step to the first of the next.

    Args:
        timeline: the trace.
        launched: for each activity the index of its call, -1 without one.
        order, first: activities in the order of their launches, and where the step's begin.
        following: when the next step's first launch begins.
    """
    calls, activities = timeline.calls, timeline.activities
    own = launched[order[first:]]
    host, known = _Host(len(own)), own[own >= 0]
    opened = int(calls.start_ns[known].min())
    launching = np.maximum.accumulate(np.where(own >= 0, calls.start_ns[own], opened))
    if following is not None and following > launching[-1]:
        launching = np.append(launching, following)
    inside = np.arange(np.searchsorted(calls.start_ns, opened), np.searchsorted(calls.start_ns, launching[-1], "right"))
    of_process = calls.process[inside] == calls.process[known[0]]
    threads = each_once(calls.thread[known])
    inside = inside[of_process & np.isin(calls.thread[inside], threads)]
    start, end = calls.start_ns[inside].tolist(), calls.end_ns[inside].tolist()
    names = [timeline.strings[name] for name in calls.name[inside].tolist()]
    held = np.isin(purposes(calls.name[inside], timeline.strings), (SYNCHRONIZE, MEMCPY, FREE)).tolist()
    place = np.searchsorted(launching, calls.start_ns[inside]).tolist()  # the launch that a call stands before, or is
    is_launch = np.isin(inside, known).tolist()
    usual = int(np.median(np.diff(calls.start_ns[inside]))) if len(inside) > 1 else 0
    long = max(min(max(TIMES_USUAL * usual, AWAY_NS[0]), AWAY_NS[1]), 2 * usual)
    ends = activities.end_ns[order]
    by_end = np.argsort(ends, kind="stable")
    starts = np.where(launched[order] >= 0, calls.start_ns[launched[order]], activities.start_ns[order])
    behind_wait = min(max(TIMES_BEHIND * usual, BEHIND_NS), long)
    reach, recorded, least = opened, opened, long
    in_pieces = _in_pieces(calls.start_ns[inside], calls.end_ns[inside], np.array(is_launch) | _waits(held, names))
    for i, name in enumerate(names):
        at, gap = place[i], start[i] - reach
        if gap > 0:
            pieces = in_pieces[i] >= max(least, PIECES_NS)  # together they are long, whatever the host calls between
            other = gap - _launching_ns(timeline, threads, reach, start[i]) if gap >= least or pieces else gap
            away = other >= least or (pieces and other > 0)
            host.spend(at, other, away=away)
            host.spend(at, gap - other)
            if away:
                host.elsewhere[0].append(reach)
                host.elsewhere[1].append(reach + other)
            elif is_launch[i]:
                least = long
        if start[i] >= launching[-1]:
            break
        behind = at + 1 if is_launch[i] else at
        spent, found = end[i] - max(start[i], reach), -1
        free = is_launch[i] and _returns_at_once(timeline, order[first + at], name)
        if held[i] and "Query" not in name and not free:
            found = _held_by(ends, by_end, starts, (start[i], end[i]), first + at if is_launch[i] else None)
        if found >= 0:
            host.wait(behind, first + behind - found)
            least = behind_wait
            spent = end[i] - max(start[i], reach, min(int(ends[found]), end[i]))
            if spent >= AWAY_NS[1] and "ynchronize" in name:  # it waited for something that is not in the trace
                host.spend(behind, spent, away=True)
                spent = 0
        elif "EventRecord" in name:
            recorded = start[i]
        elif "WaitEvent" in name:
            host.records.setdefault(at % host.count, []).append(recorded)
        host.spend(behind, max(spent, 0))
        reach = max(reach, end[i])
    return host


def _waits(held: list[bool], names: list[str]) -> npt.NDArray[np.bool_]:
    """Which calls may hold the host; one that only asks holds nobody."""
    return np.array([one and "Query" not in name for one, name in zip(held, names, strict=True)], dtype=np.bool_)


def _in_pieces(start_ns: Int64, end_ns: Int64, parts: npt.NDArray[np.bool_]) -> list[int]:
    """For each call how long the host was in none, together, between the launch or wait before it and the next one.

    Args:
        start_ns, end_ns: the calls'.
        parts: which of them launch or wait.
    """
    if len(start_ns) == 0:
        return []
    none_ns = np.maximum(start_ns - np.concatenate([start_ns[:1], np.maximum.accumulate(end_ns)[:-1]]), 0)
    part = np.cumsum(np.concatenate([[0], parts[:-1]]))
    together: list[int] = np.bincount(part, weights=none_ns).astype(np.int64)[part].tolist()
    return together


def _launching_ns(timeline: GpuTimeline, threads: Int64, begin_ns: int, end_ns: int) -> int:
    """How much of a time without API calls the host was on the way to a launch, or the profiler at work.

    An operator that reaches over an end of that time launches there, and an optimizer prepares its launches. What lies
    between two steps of the profiler is its own.
    """
    ranges = timeline.ranges
    near = np.flatnonzero((ranges.start_ns <= end_ns) & (ranges.end_ns >= begin_ns) & np.isin(ranges.thread, threads))
    names = [timeline.strings[name] for name in ranges.name[near].tolist()]
    start, end = ranges.start_ns[near], ranges.end_ns[near]
    steps = np.array([name.startswith(PROFILER_STEP) for name in names], dtype=np.bool_)
    loads = np.array([bool(LOADER.search(name)) for name in names], dtype=np.bool_)
    view = np.array([VIEW.fullmatch(name) is not None for name in names], dtype=np.bool_)
    operator = (ranges.kind[near] == RangeKind.CPU_OP) & ~steps & ~loads  # both are operators in 2021's format
    operator &= (start < begin_ns) | (end > end_ns) | view
    chosen = operator | np.array([name.startswith(_OPTIMIZER) for name in names], dtype=np.bool_)
    begins, ends = start[chosen].tolist(), end[chosen].tolist()
    if np.count_nonzero(steps) > 1:
        order = np.argsort(start[steps])
        begins += end[steps][order][:-1].tolist()
        ends += start[steps][order][1:].tolist()
    if not begins:
        return 0
    covered = _covered(begins, ends, begin_ns, end_ns)
    inner = (ranges.kind[near] == RangeKind.CPU_OP) & ~steps & ~view & (start >= begin_ns) & (end <= end_ns)
    inner &= end - start >= AWAY_NS[0]  # it called nothing: the host computes, as when it turns numbers into others
    return covered - min(_covered(start[inner].tolist(), end[inner].tolist(), begin_ns, end_ns), covered)


def _covered(begins: list[int], ends: list[int], begin_ns: int, end_ns: int) -> int:
    """How much of a time some ranges cover."""
    if not begins:
        return 0
    order = np.argsort(begins, kind="stable")
    first, last = np.array(begins)[order], np.maximum(np.array(ends), np.array(begins))[order]
    return int(covered_ns(first, last, np.array([begin_ns]), np.array([end_ns]))[0])


def _returns_at_once(timeline: GpuTimeline, row: int, call: str) -> bool:
    """Whether the call that launched an activity never holds the host, though that may have ended before the call did.

    It is asynchronous, and what it moves stays on the device or lies in pinned memory.
    """
    name = timeline.strings[timeline.activities.name[row]]
    way, memory = copy_direction(name)
    inside = "memset" in name.lower() or way == "device to device"
    return "async" in call.lower() and (inside or memory not in (None, "pageable"))


def _held_by(
    ends: Int64, by_end: npt.NDArray[np.intp], starts: Int64, call_ns: tuple[int, int], own: int | None
) -> int:
    """Which activity a call waited for, -1 for none: a copy for itself, a synchronisation for what ended last.

    Args:
        ends, by_end, starts: ends of activities, their order, and the times at which they were launched.
        call_ns: when the call began and ended.
        own: the activity that the call itself launched.
    """
    begun, ended = call_ns
    if own is not None:
        # A pageable copy returns when its last part is staged, just before it ends.
        return own if ends[own] <= ended + max(RELEASE_NS, (ended - begun) // STAGED) else -1
    found = int(np.searchsorted(ends, ended + RELEASE_NS, side="right", sorter=by_end)) - 1
    while found >= 0 and starts[by_end[found]] > begun:
        found -= 1
    return int(by_end[found]) if found >= 0 else -1


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
