"""What a device's busy time went to: compute, communication, copies, memsets; each of them overlapped or exposed.

Compute are all kernels but those that communicate, and graphs recorded whole. Communication are collectives and copies
between devices. A part of an operation is exposed while no compute runs beside it. All sums are exact integers.
"""

from __future__ import annotations

import re

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.trace.gaps import DeviceGaps, union_ns
from laptime.trace.kernel_names import communicates
from laptime.trace.read.distinct import each_once
from laptime.trace.read.timeline import Activity, GpuTimeline, Int8, Int32, Int64
from laptime.trace.result import BusyTime, CopyTime, ProcessTime

KINDS: tuple[str, ...] = ("compute", "communication", "copy", "memset")
COMPUTE, COMMUNICATION, COPY, MEMSET = range(4)

_COPY = re.compile(
    r"Mem(?:cpy|copy) (?P<unified>unified )?(?P<way>(?P<source>[A-Z])to(?P<target>[A-Z]))(?: \((?P<memory>[^)]*)\))?",
    re.IGNORECASE,
)
_ROCM_COPY = re.compile(r"Copy(?P<source>Host|Device|Peer)To(?P<target>Host|Device|Peer)")
"""How ROCm's tracer names copies."""

_INTEL_COPY = re.compile(r"(?<![A-Za-z])(?P<source>[MDHS])2(?P<target>[MDHS])(?![A-Za-z])")
_MEMORIES = {"M": "host", "H": "host", "D": "device", "S": "shared"}
"""How Intel's tracer names copies, and between which memories: M2D."""

_PEER = "PtoP"

UNIFIED = "unified"
"""The host memory of copies by which the driver moves pages of unified memory."""


def kinds(timeline: GpuTimeline, rows: Int32) -> Int8:
    """For each of some activities its index into KINDS."""
    activities, strings = timeline.activities, timeline.strings
    kind, name = activities.kind[rows], activities.name[rows]
    shared = np.zeros(len(strings), dtype=np.bool_)
    for i in np.flatnonzero(np.bincount(name, minlength=len(strings))).tolist():
        shared[i] = communicates(strings[i]) or _way(strings[i]) == _PEER
    result = np.zeros(len(rows), dtype=np.int8)
    result[kind == Activity.MEMCPY] = COPY
    result[kind == Activity.MEMSET] = MEMSET
    if shared.any():
        result[shared[name] & ((kind == Activity.KERNEL) | (kind == Activity.MEMCPY))] = COMMUNICATION
    return result


def busy_times(timeline: GpuTimeline, gaps: DeviceGaps, within_ns: tuple[int, int] | None = None) -> list[BusyTime]:
    """The busy time of a device by kind, in the order of KINDS; kinds that did not occur are left out.

    `share_ns` parts the busy time: an instant belongs to the first kind in this order that ran, so that they sum to it.

    Args:
        timeline: the trace.
        gaps: the device's gaps.
        within_ns: only between these two times; an activity that reaches over an end is cut there.
    """
    rows = gaps.rows
    if within_ns is not None:
        rows = rows[: np.searchsorted(timeline.activities.start_ns[rows], within_ns[1])]
        rows = rows[timeline.activities.end_ns[rows] > within_ns[0]]
    start, end = _times(timeline, rows)
    if within_ns is not None:
        start, end = np.maximum(start, within_ns[0]), np.minimum(end, within_ns[1])
    kind = kinds(timeline, rows)
    compute = _union(start[kind == COMPUTE], end[kind == COMPUTE])
    beside, exposed_beside = _NOTHING, 0  # the other kinds so far, and how much of them has no compute beside it
    result = []
    for i in range(COMMUNICATION, len(KINDS)):
        own = kind == i
        if not own.any():
            continue
        mine = _union(start[own], end[own])
        beside = _both(beside, mine)
        exposed = beside.total_ns - _together_ns(beside, compute)
        result.append(
            BusyTime(
                kind=KINDS[i],
                count=int(own.sum()),
                sum_ns=int((end[own] - start[own]).sum()),
                busy_ns=mine.total_ns,
                exposed_ns=mine.total_ns - _together_ns(mine, compute),
                share_ns=exposed - exposed_beside,
            )
        )
        exposed_beside = exposed
    own = kind == COMPUTE
    if not own.any():
        return result
    busy = compute.total_ns
    alone = busy - _together_ns(compute, beside)
    total = int((end[own] - start[own]).sum())
    first = BusyTime(
        kind=KINDS[COMPUTE], count=int(own.sum()), sum_ns=total, busy_ns=busy, exposed_ns=alone, share_ns=busy
    )
    return [first, *result]


class _Union(msgspec.Struct, frozen=True, eq=False):
    """Disjoint intervals in time order."""

    start_ns: Int64
    end_ns: Int64
    before_ns: Int64  # how long all together last that come before each, and all of them

    @property
    def total_ns(self) -> int:
        return int(self.before_ns[-1])


_NOTHING = _Union(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(1, dtype=np.int64))


def _union(start: Int64, end: Int64) -> _Union:
    """The union of intervals; `start` ascending."""
    if len(start) == 0:
        return _NOTHING
    reach = np.maximum.accumulate(end)
    opens = np.flatnonzero(start[1:] > reach[:-1])
    first, last = start[np.concatenate([[0], opens + 1])], reach[np.concatenate([opens, [len(start) - 1]])]
    return _Union(first, last, np.concatenate([[0], np.cumsum(last - first)]))


def _both(one: _Union, other: _Union) -> _Union:
    if len(one.start_ns) == 0 or len(other.start_ns) == 0:
        return other if len(one.start_ns) == 0 else one
    start, end = np.concatenate([one.start_ns, other.start_ns]), np.concatenate([one.end_ns, other.end_ns])
    order = np.argsort(start, kind="stable")
    return _union(start[order], end[order])


def _together_ns(one: _Union, other: _Union) -> int:
    """How long both run at the same time."""
    few, many = (one, other) if len(one.start_ns) <= len(other.start_ns) else (other, one)
    return int(_covered_ns(many, few.start_ns, few.end_ns).sum())


def covered_ns(union_start: Int64, union_end: Int64, start: Int64, end: Int64) -> Int64:
    """How much of each interval a union of disjoint intervals covers; the union in time order."""
    before = np.concatenate([[0], np.cumsum(union_end - union_start)])
    return _covered_ns(_Union(union_start, union_end, before), start, end)


def _covered_ns(union: _Union, start: Int64, end: Int64) -> Int64:
    if len(start) == 0 or len(union.start_ns) == 0:
        return np.zeros(len(start), dtype=np.int64)

    def covered(at: Int64) -> Int64:
        place = np.searchsorted(union.start_ns, at, side="right")
        beyond = np.maximum(union.end_ns[np.maximum(place - 1, 0)] - at, 0)
        reached: Int64 = union.before_ns[place] - np.where(place > 0, beyond, 0)
        return reached

    return covered(end) - covered(start)


def compute_beside(timeline: GpuTimeline, rows: Int32, others: Int32) -> tuple[Int64, Int64]:
    """Starts and ends of the union of some activities, as far as it runs beside some others; both by start."""
    mine, theirs = _union(*_times(timeline, rows)), _union(*_times(timeline, others))
    beside = _covered_ns(theirs, mine.start_ns, mine.end_ns) > 0
    return mine.start_ns[beside], mine.end_ns[beside]


def copy_times(timeline: GpuTimeline, gaps: DeviceGaps) -> list[CopyTime]:
    """Copies and memsets by direction and memory, most time first. A rate is bytes over the sum of durations."""
    activities, strings = timeline.activities, timeline.strings
    rows = gaps.rows[np.isin(activities.kind[gaps.rows], (Activity.MEMCPY, Activity.MEMSET))]
    start, end = _times(timeline, rows)
    moved, name, kind = activities.bytes[rows], activities.name[rows], activities.kind[rows]
    labels: dict[tuple[str, str | None], npt.NDArray[np.bool_]] = {}
    for i in np.flatnonzero(np.bincount(name, minlength=len(strings))).tolist() if len(rows) else []:
        for copies in (Activity.MEMCPY, Activity.MEMSET):
            own = (name == i) & (kind == copies)
            if own.any():
                label = ("memset", None) if copies == Activity.MEMSET else copy_direction(strings[i])
                labels[label] = labels[label] | own if label in labels else own
    result = []
    for (direction, memory), own in labels.items():
        total = int((end[own] - start[own]).sum())
        known = bool((moved[own] >= 0).all())
        size = int(moved[own].sum()) if known else None
        result.append(
            CopyTime(
                direction=direction,
                memory=memory,
                count=int(own.sum()),
                sum_ns=total,
                busy_ns=union_ns(start[own], end[own]),
                bytes=size,
                bytes_per_second=size * 1e9 / total if size is not None and total else None,
            )
        )
    return sorted(result, key=lambda row: (-row.sum_ns, row.direction, row.memory or ""))


def process_times(timeline: GpuTimeline, gaps: DeviceGaps) -> list[ProcessTime]:
    """Each process that worked on a device, most busy first; empty where there is one only."""
    process = timeline.activities.process[gaps.rows]
    known = each_once(process[process >= 0])
    if len(known) < 2:
        return []
    start, end = _times(timeline, gaps.rows)
    result = []
    for one in known.tolist():
        own, other = process == one, process != one
        result.append(
            ProcessTime(
                process=one,
                busy_ns=union_ns(start[own], end[own]),
                alone_ns=gaps.busy_ns - union_ns(start[other], end[other]),
            )
        )
    return sorted(result, key=lambda row: (-row.busy_ns, row.process))


def occupied_ns(timeline: GpuTimeline, gaps: DeviceGaps) -> npt.NDArray[np.float64]:
    """For each row of a device the busy time that is its own: activities that run together part each instant evenly.

    These sum to the device's busy time, so no share of it exceeds 100 %.
    """
    start, end = _times(timeline, gaps.rows)
    duration = (end - start).astype(np.float64)
    if int((end - start).sum()) == gaps.busy_ns:
        return duration
    reach = np.maximum.accumulate(end)
    apart = start[1:] >= reach[:-1]
    crowded = np.concatenate([[False], ~apart]) | np.concatenate([~apart, [False]])
    start, end = start[crowded], end[crowded]
    at = np.concatenate([start, end])
    order = np.argsort(at, kind="stable")
    at = at[order]
    running = np.cumsum(np.where(order < len(start), 1, -1))
    length = np.diff(at, append=at[-1:]).astype(np.float64)
    elapsed = np.concatenate([[0.0], np.cumsum(length / np.maximum(running, 1))])
    duration[crowded] = elapsed[np.searchsorted(at, end)] - elapsed[np.searchsorted(at, start)]
    return duration


def _times(timeline: GpuTimeline, rows: Int32) -> tuple[Int64, Int64]:
    start = timeline.activities.start_ns[rows]
    return start, np.maximum(timeline.activities.end_ns[rows], start)


def _way(name: str) -> str | None:
    match = _COPY.match(name)
    return match["way"] if match else None


def copy_direction(name: str) -> tuple[str, str | None]:
    """A copy's direction in words, and the host memory's kind where the file says it."""
    match = _COPY.match(name)
    if match is None and (intel := _INTEL_COPY.search(name)):
        return f"{_MEMORIES[intel['source']]} to {_MEMORIES[intel['target']]}", None
    if match is None:
        rocm = _ROCM_COPY.match(name)
        return (f"{rocm['source']} to {rocm['target']}".lower() if rocm else "unknown"), None
    words = {"H": "host", "D": "device", "P": "peer", "A": "array"}
    one, other = match["source"].upper(), match["target"].upper()
    way = f"{words.get(one, one)} to {words.get(other, other)}"
    memory = (match["memory"] or "").lower().split(" -> ")
    host = [kind for kind in memory if kind not in ("", "device", "host", "array", "unknown")]
    if match["unified"]:
        return way, UNIFIED
    return way, host[0] if host else None


def migrations(timeline: GpuTimeline) -> npt.NDArray[np.bool_]:
    """Which activities are pages of unified memory that the driver moves by itself: no call launches them."""
    moves = np.array(
        [bool((match := _COPY.match(name)) and match["unified"]) for name in timeline.strings], dtype=np.bool_
    )
    result: npt.NDArray[np.bool_] = moves[timeline.activities.name] & (timeline.activities.kind == Activity.MEMCPY)
    return result
