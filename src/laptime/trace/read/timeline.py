"""GpuTimeline: one frozen, columnar value for every trace format. Readers make it; nothing changes it.

All times are integer nanoseconds on the trace's own clock. Columns of a table have equal length and are
sorted by (start_ns, end_ns). Names are indices into one string table.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from laptime.data.record import Finding

Int8 = npt.NDArray[np.int8]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


_BLOCK = 131_072


class Activity(IntEnum):
    """What a device was doing."""

    KERNEL = 0
    MEMCPY = 1
    MEMSET = 2
    GRAPH = 3  # one whole graph replay, recorded as one interval (graph granularity): its kernels are not known


class RangeKind(IntEnum):
    """Who named a host range."""

    NVTX = 0  # NVTX ranges, torch.profiler's record_function ("user_annotation")
    CPU_OP = 1  # an operator of the framework (aten::mm)
    PYTHON = 2  # a Python frame (with_stack)
    PROFILER = 3  # the profiler's own work: buffer flushes, overhead records


@dataclass(frozen=True, eq=False, slots=True)
class Activities:
    """Work on the devices, one row each."""

    start_ns: Int64
    end_ns: Int64
    device: Int32
    stream: Int32
    process: Int32
    name: Int32  # index into GpuTimeline.strings
    kind: Int8  # Activity
    correlation: Int64  # joins to a call of the same process; -1 when the trace gives none
    graph_node: Int64  # >= 0 when it ran as part of a graph replay (node id or 0); else -1


@dataclass(frozen=True, eq=False, slots=True)
class Calls:
    """API calls on the host (runtime and driver), one row each."""

    start_ns: Int64
    end_ns: Int64
    process: Int32
    thread: Int64
    name: Int32
    correlation: Int64


@dataclass(frozen=True, eq=False, slots=True)
class Ranges:
    """Named intervals on host threads."""

    start_ns: Int64
    end_ns: Int64
    process: Int32
    thread: Int64
    name: Int32
    kind: Int8  # RangeKind


@dataclass(frozen=True, slots=True)
class Source:
    """Where a timeline came from."""

    format: str  # "kineto" | "nsys-sqlite"
    file: str
    schema_version: str | None


@dataclass(frozen=True, eq=False, slots=True)
class GpuTimeline:
    """One trace, wherever it came from. `findings` is what the reader itself noticed (dropped rows, cut file)."""

    source: Source
    activities: Activities
    calls: Calls
    ranges: Ranges
    strings: tuple[str, ...]
    findings: tuple[Finding, ...]


def launches(timeline: GpuTimeline) -> Int64:
    """For each activity the index of the call that launched it, by (process, correlation); -1 without one.

    Correlation ids repeat across processes, never within one: where calls share one (a driver call inside a runtime
    call), the first to start is taken.
    """
    activities, calls = timeline.activities, timeline.calls
    result = np.full(len(activities.start_ns), -1, dtype=np.int64)
    processes = np.flatnonzero(np.diff(np.sort(activities.process), prepend=-(2**40)))
    for process in np.sort(activities.process)[processes].tolist():
        of_process = calls.process == process
        theirs = slice(None) if of_process.all() else np.flatnonzero(of_process)
        known = calls.correlation[theirs]
        if len(known) == 0:
            continue
        order = None
        if np.any(known[1:] < known[:-1]):
            order = np.argsort(known, kind="stable")
            known = known[order]
        for first in range(0, len(result), _BLOCK):
            block = slice(first, first + _BLOCK)
            wanted = activities.correlation[block]
            at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
            found = (known[at] == wanted) & (wanted >= 0) & (activities.process[block] == process)
            at = at if order is None else order[at]
            result[block][found] = (at if isinstance(theirs, slice) else theirs[at])[found]
    return result
