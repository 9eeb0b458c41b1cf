"""What the host did between the launches of a step: it works for a launch, does other work, or waits for the device."""

from __future__ import annotations

import re

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.trace.api import FREE, MEMCPY, SYNCHRONIZE, purposes
from laptime.trace.device_time import copy_direction
from laptime.trace.gaps import covered_ns
from laptime.trace.name_marks import marked
from laptime.trace.read.distinct import each_once
from laptime.trace.read.timeline import Activity, GpuTimeline, Int32, Int64, RangeKind
from laptime.trace.step_ranges import PROFILER_STEP

STAGED = 4
"""A copy that ends after its call by less than this part of the call's time held the host."""

LOADER = re.compile(r"data_?loader|datapipe|^(?!.*schedul).*(?:next|fetch|load)_?batch", re.IGNORECASE)
"""How ranges are named in which a data loader works. A server's scheduler chooses its next batch of requests."""

_HOLDS_NOBODY = re.compile(r"Query|(?:Free|Memset\w*)Async", re.IGNORECASE)
"""Calls that only ask, or free or fill memory when the device comes to it: a memset of no bytes makes it do nothing."""

_OPTIMIZER, _BACKWARD = "Optimizer.", "autograd::engine"

VIEW = re.compile(
    r"aten::(unbind|split(_with_sizes)?|tensor_split|chunk|unflatten|flatten|view(_as)?|_unsafe_view|reshape|(un)?squeeze|"
    r"select|slice|narrow|permute|transpose|t|expand(_as)?|as_strided|detach|movedim|swapaxes|result_type)"
)
"""Operators that give a tensor another shape and make the device work on nothing: a replay doesn't call them."""

RELEASE_NS = 1_000
"""Clocks of host and device differ by about this: work that ended so much after a call's end was waited for."""

AWAY_NS, TIMES_USUAL = (200_000, 1_000_000), 20
"""A host in no call for longer does other work than launching: from the first where that is so many times as long as
usual and no layer is being launched, from the second in any case."""

PIECES_NS = 1_000_000
"""A host that launches nothing and waits for nothing for so long does other work, whatever it calls meanwhile."""

BEHIND_NS, TIMES_BEHIND = 100_000, 10
"""The same of a host that waited for the device, or worked on something else since: it looks at what it got. From then
on each such time counts, until it launches as usual again."""


class HostWork(msgspec.Struct):
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
            at = at if at < self.count else 0
            (self.away if away else self.launching)[1 if self.waits[at] else 0][at] += time_ns

    def wait(self, at: int, back: int) -> None:
        """A wait before the launch of activity `at`, for the one that lies so many launches back."""
        if at <= self.count and self.waits[at % self.count] != back:
            for early, late in (self.launching, self.away):
                early[at % self.count] += late[at % self.count]
                late[at % self.count] = 0
            self.waits[at % self.count] = back


def host_work(timeline: GpuTimeline, launched: Int64, order: Int32, first: int, following: int | None) -> HostWork:
    """Walk through the API calls from the first launch of the step to the first of the next.

    Args:
        timeline: the trace.
        launched: for each activity the index of its call, -1 without one.
        order, first: activities in the order of their launches, and where the step's begin.
        following: when the next step's first launch begins.
    """
    calls, activities = timeline.calls, timeline.activities
    own = launched[order[first:]]
    host, known = HostWork(len(own)), own[own >= 0]
    opened = int(calls.start_ns[known].min())
    launching = np.maximum.accumulate(np.where(own >= 0, calls.start_ns[own], opened))
    if following is not None and following > launching[-1]:
        launching = np.append(launching, following)
    inside = np.arange(np.searchsorted(calls.start_ns, opened), np.searchsorted(calls.start_ns, launching[-1], "right"))
    of_process = calls.process[inside] == calls.process[known[0]]
    threads = each_once(calls.thread[known])
    inside = inside[of_process & np.isin(calls.thread[inside], threads)]
    start, end = calls.start_ns[inside].tolist(), calls.end_ns[inside].tolist()
    names, strings = calls.name[inside], timeline.strings
    waits = np.isin(purposes(names, strings), (SYNCHRONIZE, MEMCPY, FREE))
    waits &= ~marked(names, strings, lambda name: _HOLDS_NOBODY.search(name) is not None)
    records = marked(names, strings, lambda name: "EventRecord" in name).tolist()
    awaits = marked(names, strings, lambda name: "WaitEvent" in name).tolist()
    place = np.searchsorted(launching, calls.start_ns[inside]).tolist()  # the launch that a call stands before, or is
    launches = np.isin(inside, known)
    is_launch, held = launches.tolist(), waits.tolist()
    usual = int(np.median(np.diff(calls.start_ns[inside]))) if len(inside) > 1 else 0
    long = max(min(max(TIMES_USUAL * usual, AWAY_NS[0]), AWAY_NS[1]), 2 * usual)
    ends = activities.end_ns[order]
    by_end = np.argsort(ends, kind="stable")
    starts = np.where(launched[order] >= 0, calls.start_ns[launched[order]], activities.start_ns[order])
    behind_wait = min(max(TIMES_BEHIND * usual, BEHIND_NS), long)
    reach, recorded, least, last = opened, opened, long, int(launching[-1])
    in_pieces = _in_pieces(calls.start_ns[inside], calls.end_ns[inside], launches | waits)
    trained_ns = _first_backward_ns(timeline, opened, last)
    for i, at in enumerate(place):
        gap = start[i] - reach
        if 0 < gap < least and in_pieces[i] < PIECES_NS:  # nearly all are short
            host.spend(at, gap)
            if is_launch[i]:
                least = long
        elif gap > 0:
            pieces = in_pieces[i] >= max(least, PIECES_NS)  # together they are long, whatever the host calls between
            other = gap - _launching_ns(timeline, threads, reach, start[i]) if gap >= least or pieces else gap
            if reach > trained_ns and is_launch[i] and not _brings(timeline, int(order[first + at])):
                other = 0  # it clips gradients, or averages weights: all that comes of it are launches
            away = other >= least or (pieces and other > 0)
            host.spend(at, other, away=away)
            host.spend(at, gap - other)
            if away:
                host.elsewhere[0].append(reach)
                host.elsewhere[1].append(reach + other)
            elif is_launch[i]:
                least = long
        if start[i] >= last:
            break
        behind = at + 1 if is_launch[i] else at
        spent, found = end[i] - (start[i] if gap > 0 else reach), -1
        if held[i] and not (is_launch[i] and _returns_at_once(timeline, order[first + at], strings[names[i]])):
            found = _held_by(ends, by_end, starts, (start[i], end[i]), first + at if is_launch[i] else None)
        if found >= 0:
            host.wait(behind, first + behind - found)
            least = behind_wait
            spent = end[i] - max(start[i], reach, min(int(ends[found]), end[i]))
            if spent >= AWAY_NS[1] and "ynchronize" in strings[names[i]]:  # it waited for something outside the trace
                host.spend(behind, spent, away=True)
                spent = 0
        elif records[i]:
            recorded = start[i]
        elif awaits[i]:
            host.records.setdefault(at % host.count, []).append(recorded)
        host.spend(behind, spent)
        if end[i] > reach:
            reach = end[i]
    return host


def _first_backward_ns(timeline: GpuTimeline, begin_ns: int, end_ns: int) -> int:
    """When the first backward operator of a step begins; its end where it has none."""
    ranges = timeline.ranges
    inside = (ranges.start_ns >= begin_ns) & (ranges.start_ns < end_ns)
    inside &= marked(ranges.name, timeline.strings, lambda name: name.startswith(_BACKWARD))
    return int(ranges.start_ns[inside].min(initial=end_ns))


def _brings(timeline: GpuTimeline, row: int) -> bool:
    """Whether an activity is a copy from the host: what the host worked on comes to the device."""
    way, _ = copy_direction(timeline.strings[timeline.activities.name[row]])
    return timeline.activities.kind[row] == Activity.MEMCPY and way != "device to device"


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
