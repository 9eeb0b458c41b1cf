"""Busy, idle and gaps of one device over all its streams: exact integers, one pass of a running maximum.

Busy is the length of the union of all activities; a gap is one maximal idle interval between them.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.trace.read.timeline import Activities, Activity, Int32, Int64
from laptime.trace.result import HistogramBin

EDGES_NS: tuple[int, ...] = (1_000, 5_000, 10_000, 50_000, 100_000, 1_000_000)
"""Histogram edges: 1, 5, 10, 50, 100 µs, 1 ms. Seven bins, each lo <= duration < hi."""


class DeviceGaps(msgspec.Struct, frozen=True, eq=False):
    """One device's occupation. `rows` are indices into Activities in start order; gap columns have equal length."""

    device: int
    rows: Int32
    start_ns: int
    span_ns: int
    busy_ns: int
    gap_start_ns: Int64
    gap_end_ns: Int64
    before: Int32  # index into Activities: whose end opened the gap
    after: Int32  # index into Activities: whose start closed it

    @property
    def idle_ns(self) -> int:
        """span - busy."""
        return self.span_ns - self.busy_ns


def device_gaps(activities: Activities) -> list[DeviceGaps]:
    """The gaps of each device that has activities, by device number."""
    ordered = np.sort(activities.device)  # np.unique hashes, which is slower here
    devices = ordered[np.r_[True, ordered[1:] != ordered[:-1]]] if len(ordered) else ordered
    return [_of(activities, int(device)) for device in devices]


def _of(activities: Activities, device: int) -> DeviceGaps:
    rows = np.flatnonzero(activities.device == device).astype(np.int32)
    whole = len(rows) == len(activities.start_ns)
    start, end = (times if whole else times[rows] for times in (activities.start_ns, activities.end_ns))
    if np.any(start[1:] < start[:-1]):
        order = np.argsort(start, kind="stable")
        rows, start, end = rows[order], start[order], end[order]
    if np.any(end < start):
        end = np.maximum(end, start)  # a negative duration is no time
    reach = np.maximum.accumulate(end)
    opens = np.flatnonzero(start[1:] > reach[:-1])
    # Which activity made the running maximum: the last row whose end equals it.
    holder = np.maximum.accumulate(np.where(end == reach, np.arange(len(rows), dtype=np.int32), np.int32(0)))
    gap_start, gap_end = reach[opens], start[opens + 1]
    span = int(reach[-1] - start[0])
    return DeviceGaps(
        device=device,
        rows=rows,
        start_ns=int(start[0]),
        span_ns=span,
        busy_ns=span - int((gap_end - gap_start).sum()),
        gap_start_ns=gap_start,
        gap_end_ns=gap_end,
        before=rows[holder[opens]],
        after=rows[opens + 1],
    )


def union_ns(start_ns: Int64, end_ns: Int64) -> int:
    """Length of the union of intervals; `start_ns` ascending."""
    if len(start_ns) == 0:
        return 0
    end = np.maximum(end_ns, start_ns)
    reach = np.maximum.accumulate(end)
    idle = np.maximum(start_ns[1:] - reach[:-1], 0).sum()
    return int(reach[-1] - start_ns[0] - idle)


def covered_ns(start_ns: Int64, end_ns: Int64, begin_ns: Int64, stop_ns: Int64) -> Int64:
    """How much of each window [begin, stop) the union of intervals covers; `start_ns` ascending, no end before its
    start."""
    reach = np.maximum.accumulate(end_ns)
    fresh = np.r_[True, start_ns[1:] > reach[:-1]]
    first, last = start_ns[fresh], reach[np.r_[np.flatnonzero(fresh)[1:] - 1, len(reach) - 1]]
    before = np.concatenate([[0], np.cumsum(last - first)])

    def until(time_ns: Int64) -> Int64:
        at = np.searchsorted(first, time_ns, side="right") - 1
        inside = np.minimum(time_ns, last[at]) - first[at]
        result: Int64 = np.where(at >= 0, before[at] + inside, 0)
        return result

    spent: Int64 = until(stop_ns) - until(begin_ns)
    return spent


def sum_ns(activities: Activities, rows: Int32, kind: Activity) -> int:
    """Plain sum of the durations of one kind of activity."""
    chosen = rows[activities.kind[rows] == kind]
    return int(np.maximum(activities.end_ns[chosen] - activities.start_ns[chosen], 0).sum())


def histogram(duration_ns: Int64) -> list[HistogramBin]:
    """The seven bins. Counts sum to the number of gaps and total_ns to the idle time."""
    which = np.searchsorted(np.asarray(EDGES_NS), duration_ns, side="right")
    counts = np.bincount(which, minlength=len(EDGES_NS) + 1)
    bounds: list[int | None] = [0, *EDGES_NS, None]
    bins = []
    for i in range(len(EDGES_NS) + 1):
        total = int(duration_ns[which == i].sum())  # integers: bincount's weights would be float64
        bins.append(HistogramBin(bounds[i] or 0, bounds[i + 1], int(counts[i]), total))
    return bins


def median_ns(duration_ns: Int64) -> int | None:
    """The lower middle duration (an integer that occurs), None without gaps."""
    if len(duration_ns) == 0:
        return None
    middle = (len(duration_ns) - 1) // 2
    return int(np.partition(duration_ns, middle)[middle])


def largest(duration_ns: Int64, count: int) -> npt.NDArray[np.intp]:
    """Indices of the longest gaps, longest first; ties in time order."""
    if 0 < count < len(duration_ns):
        least = np.partition(duration_ns, len(duration_ns) - count)[len(duration_ns) - count]
        long = np.flatnonzero(duration_ns >= least)
    else:
        long = np.arange(len(duration_ns))
    return long[np.argsort(-duration_ns[long], kind="stable")][:count]
