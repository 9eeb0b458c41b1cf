"""The kernels of a device by name: how often each ran, how long, and its share of the busy time."""

from __future__ import annotations

from math import ceil

import numpy as np

from laptime.trace.device_time import occupied_ns
from laptime.trace.gaps import DeviceGaps
from laptime.trace.kernel_names import family, short_name
from laptime.trace.read.timeline import Activity, GpuTimeline, Int32, Int64
from laptime.trace.result import Kernel


def rank(timeline: GpuTimeline, gaps: DeviceGaps, step_rows: Int32 | None) -> list[Kernel]:
    """The kernels of one device, most time first.

    Args:
        timeline: the trace.
        gaps: the device's gaps; share is of its busy time, shared evenly where kernels run together.
        step_rows: indices into Activities of the modal step, None when this device has no steps.
    """
    activities, strings = timeline.activities, timeline.strings
    rows = gaps.rows[activities.kind[gaps.rows] == Activity.KERNEL]
    name = activities.name[rows]
    duration = np.maximum(activities.end_ns[rows] - activities.start_ns[rows], 0)
    counts = np.bincount(name, minlength=len(strings))
    bounds = np.concatenate([[0], np.cumsum(counts)])
    ordered = _by_name(name, duration)
    totals = np.diff(np.concatenate([[0], np.cumsum(ordered)])[bounds])
    in_step = None
    if step_rows is not None:
        own = step_rows[activities.kind[step_rows] == Activity.KERNEL]
        in_step = np.bincount(activities.name[own], minlength=len(strings))
    whole = occupied_ns(timeline, gaps)[activities.kind[gaps.rows] == Activity.KERNEL]
    occupied = np.bincount(name, weights=whole, minlength=len(strings))
    used = np.flatnonzero(counts)
    used = used[np.argsort(-totals[used], kind="stable")]
    return [
        Kernel(
            device=gaps.device,
            name=strings[i],
            short_name=short_name(strings[i]),
            family=family(strings[i]),
            count=int(counts[i]),
            total_ns=int(totals[i]),
            mean_ns=int(totals[i] // counts[i]),
            share=round(float(occupied[i] / gaps.busy_ns), 6) if gaps.busy_ns else 0.0,
            per_step=int(in_step[i]) if in_step is not None else None,
            p50_ns=int(ordered[bounds[i] + _place(counts[i], 0.5)]),
            p95_ns=int(ordered[bounds[i] + _place(counts[i], 0.95)]),
            max_ns=int(ordered[bounds[i + 1] - 1]),
        )
        for i in used.tolist()
    ]


def _by_name(name: Int32, duration: Int64) -> Int64:
    """The durations of each name, shortest first; names one after the other."""
    longest = int(duration.max(initial=0)) + 1
    if longest * (int(name.max(initial=0)) + 1) >= 2**63:
        return duration[np.lexsort((duration, name))]
    keys = np.sort(name.astype(np.int64) * longest + duration)  # one column sorts faster than two
    result: Int64 = keys % longest
    return result


def _place(count: int, share: float) -> int:
    """Where the smallest value stands that this share of all does not exceed."""
    return max(ceil(share * count) - 1, 0)
