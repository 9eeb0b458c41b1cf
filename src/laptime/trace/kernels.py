"""The kernels of a device by name: how often each ran, how long, and its share of the busy time."""

from __future__ import annotations

from math import ceil

import numpy as np
import numpy.typing as npt

from laptime.trace.device_time import occupied_ns
from laptime.trace.gaps import DeviceGaps
from laptime.trace.kernel_names import family, short_name
from laptime.trace.read.timeline import Activity, GpuTimeline, Int32, Int64
from laptime.trace.result import Kernel
from laptime.trace.steps import StepFrame

Floats = npt.NDArray[np.float64]


def rank(timeline: GpuTimeline, gaps: DeviceGaps, frame: StepFrame | None) -> list[Kernel]:
    """The kernels of one device, most time first.

    Args:
        timeline: the trace.
        gaps: the device's gaps; share is of its busy time, shared evenly where kernels run together.
        frame: its steps, None when it has none.
    """
    activities, strings = timeline.activities, timeline.strings
    rows = gaps.rows[activities.kind[gaps.rows] == Activity.KERNEL]
    name = activities.name[rows]
    duration = np.maximum(activities.end_ns[rows] - activities.start_ns[rows], 0)
    counts = np.bincount(name, minlength=len(strings))
    bounds = np.concatenate([[0], np.cumsum(counts)])
    ordered = _by_name(name, duration)
    totals = np.diff(np.concatenate([[0], np.cumsum(ordered)])[bounds])
    in_step = within = None
    if frame is not None:
        own = frame.modal_rows[activities.kind[frame.modal_rows] == Activity.KERNEL]
        in_step = np.bincount(activities.name[own], minlength=len(strings))
        within = _means_within(frame, activities.start_ns[rows], name, duration, len(strings))
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
            step_ns=round(within[i] * in_step[i]) if within is not None and in_step is not None else None,
            p50_ns=int(ordered[bounds[i] + _place(counts[i], 0.5)]),
            p95_ns=int(ordered[bounds[i] + _place(counts[i], 0.95)]),
            max_ns=int(ordered[bounds[i + 1] - 1]),
        )
        for i in used.tolist()
    ]


def _means_within(frame: StepFrame, start_ns: Int64, name: Int32, duration_ns: Int64, names: int) -> Floats:
    """For each name the mean time of its kernels that begin in a usual step, 0 for none: four of five are usual.

    Kernels are in order of their starts.
    """
    lasts = frame.end_ns - frame.start_ns
    usual = (lasts >= (frame.steps.wall_p10_ns or 0)) & (lasts <= (frame.steps.wall_p90_ns or lasts.max(initial=0)))
    first, stop = (np.searchsorted(start_ns, edge[usual]) for edge in (frame.start_ns, frame.end_ns))
    edges = np.zeros(len(start_ns) + 1, dtype=np.int64)
    np.add.at(edges, first, 1)
    np.add.at(edges, stop, -1)
    inside = np.cumsum(edges[:-1]) > 0
    counts = np.bincount(name[inside], minlength=names)
    totals = np.bincount(name[inside], weights=duration_ns[inside], minlength=names)
    result: Floats = totals / np.maximum(counts, 1)
    return result


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
