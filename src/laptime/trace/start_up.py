"""Which API calls a program makes slowly only once: the first use of a kernel, of a library, of a pool of memory.

A driver loads a kernel's code, a library makes its handles and an allocator grows on the first call that needs it, and
that call is then thousands of times as long as its kind. Such time is gone in a steady state.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from laptime.trace.api import GRAPH_LAUNCH, MEMCPY, MODULE_LOAD, PROFILER, SYNCHRONIZE, purposes
from laptime.trace.read.timeline import GpuTimeline, Int64

LEAST_NS = 1_000_000
"""Shorter calls are not worth a cause of their own."""

TIMES_USUAL = 20
"""A first call counts when it lasts this many times the median of the calls of its name."""


def start_up_calls(timeline: GpuTimeline, launched: Int64) -> npt.NDArray[np.bool_]:
    """For each API call whether it is a program's slow first one.

    It is the first of its name, or stands on the way to the first launch of a kernel on its thread; and it lasts far
    longer than its kind, and no later call of its name does so again. A wait for the device or a copy is neither.

    Args:
        timeline: the trace.
        launched: for each activity the index of its call, -1 without one.
    """
    calls, activities = timeline.calls, timeline.activities
    duration = calls.end_ns - calls.start_ns
    chosen = np.zeros(len(duration), dtype=np.bool_)
    purpose = purposes(calls.name, timeline.strings)
    slow = np.flatnonzero(
        (duration >= LEAST_NS) & ~np.isin(purpose, (SYNCHRONIZE, MEMCPY, MODULE_LOAD, GRAPH_LAUNCH, PROFILER))
    )
    if len(slow) == 0:
        return chosen
    linked = np.flatnonzero(launched >= 0)
    _, first = np.unique(activities.name[linked], return_index=True)  # activities are in the order of their start
    first_launch = np.zeros(len(duration), dtype=np.bool_)
    first_launch[launched[linked[first]]] = True
    launching = np.zeros(len(duration), dtype=np.bool_)
    launching[launched[linked]] = True
    for call in slow.tolist():
        alike = np.flatnonzero((calls.name == calls.name[call]) & (calls.process == calls.process[call]))
        is_first = alike[0] == call
        others = duration[alike[alike != call]]
        usual = float(np.median(others)) if len(others) else 0.0
        if duration[call] < TIMES_USUAL * usual:
            continue
        same_thread = (calls.thread[call:] == calls.thread[call]) & (calls.process[call:] == calls.process[call])
        following = call + np.flatnonzero(launching[call:] & same_thread)
        chosen[call] = is_first or (len(following) > 0 and first_launch[following[0]])
    for call in np.flatnonzero(chosen).tolist():
        alike = np.flatnonzero((calls.name == calls.name[call]) & (duration >= duration[call] // 2))
        if np.count_nonzero(~chosen[alike] & (alike > call)) > 1:  # it comes again: that is how the program runs
            chosen[call] = False
    return chosen
