"""Which API calls a program makes slowly only once: the first use of a kernel, of a library, of a pool of memory.

A driver loads a kernel's code, a library makes its handles and an allocator grows on the first call that needs it, and
that call is then thousands of times as long as its kind. Such time is gone in a steady state.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from laptime.trace.api import GRAPH_LAUNCH, MEMCPY, MODULE_LOAD, PROFILER, SYNCHRONIZE, purposes
from laptime.trace.read.distinct import each_once
from laptime.trace.read.timeline import GpuTimeline, Int64
from laptime.trace.result import CauseTime

START_UP = frozenset({"start-up", "module-load"})
"""Causes of what a program does once."""

SOME = 0.05
"""First calls of more than this share of a step make it none to judge remedies by."""

LEAST_NS = 1_000_000
"""Shorter calls are not worth a cause of their own."""

TIMES_USUAL = 20
"""A first call counts when it lasts this many times as long as the middle call of its name."""


def first_calls_ns(causes: Iterable[CauseTime]) -> int:
    """Idle time in what a program does once."""
    return sum(row.total_ns for row in causes if row.cause in START_UP)


def start_up_calls(timeline: GpuTimeline, launched: Int64) -> npt.NDArray[np.bool_]:
    """For each API call whether it is a program's slow first one.

    It is the first of its name, or stands on the way to the first launch of a kernel on its thread; and it lasts far
    longer than its kind, and no later call of its name does so again. A wait for the device or a copy is neither.

    Args:
        timeline: the trace.
        launched: for each activity the index of its call, -1 without one.
    """
    calls = timeline.calls
    duration = calls.end_ns - calls.start_ns
    chosen = np.zeros(len(duration), dtype=np.bool_)
    slow = np.flatnonzero(duration >= LEAST_NS)
    purpose = purposes(calls.name[slow], timeline.strings)
    slow = slow[~np.isin(purpose, (SYNCHRONIZE, MEMCPY, MODULE_LOAD, GRAPH_LAUNCH, PROFILER))]
    if len(slow) == 0:
        return chosen
    before_first = _before_first_launch(timeline, launched, slow)
    for process in each_once(calls.process[slow]).tolist():
        of_process = calls.process == process
        for name in each_once(calls.name[slow[of_process[slow]]]).tolist():
            alike = np.flatnonzero(of_process & (calls.name == name))
            if len(alike) == 1:
                chosen[alike] = True
                continue
            usual = int(np.sort(duration[alike])[(len(alike) - 1) // 2])  # of two, the shorter one
            candidates = slow[of_process[slow] & (calls.name[slow] == name)]
            once = before_first[np.searchsorted(slow, candidates)] | (candidates == alike[0])
            candidates = candidates[once & (duration[candidates] >= TIMES_USUAL * usual)]
            chosen[candidates] = True
            for call in candidates.tolist():
                again = (alike > call) & (duration[alike] >= duration[call] // 2) & ~np.isin(alike, candidates)
                if np.count_nonzero(again) > 1:  # that is how the program runs
                    chosen[call] = False
    return chosen


def _before_first_launch(timeline: GpuTimeline, launched: Int64, slow: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    """For each slow call whether the next launch on its thread, or it itself, is the first of a kernel."""
    calls, activities = timeline.calls, timeline.activities
    linked = np.flatnonzero(launched >= 0)
    first: list[int] = []
    for process in each_once(activities.process[linked]).tolist():  # each process loads its own code
        own = linked[activities.process[linked] == process]
        earliest = np.full(len(timeline.strings), -1, dtype=np.int64)
        earliest[activities.name[own[::-1]]] = own[::-1]  # the earliest is written last
        first += earliest[earliest >= 0].tolist()
    launching, first_launch = np.zeros((2, len(calls.start_ns)), dtype=np.bool_)
    launching[launched[linked]] = True
    first_launch[launched[first]] = True
    result = np.zeros(len(slow), dtype=np.bool_)
    for thread in each_once(calls.thread[slow]).tolist():
        own = np.flatnonzero(launching & (calls.thread == thread))
        of_thread = np.flatnonzero(calls.thread[slow] == thread)
        following = np.searchsorted(own, slow[of_thread])
        known = following < len(own)
        result[of_thread[known]] = first_launch[own[following[known]]]
    return result
