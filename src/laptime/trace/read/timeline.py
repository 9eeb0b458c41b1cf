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
    bytes: Int64  # what a copy or memset moved; -1 where the file does not say


@dataclass(frozen=True, eq=False, slots=True)
class ApiCalls:
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
    rank: int | None = None  # of a distributed run, where the file says it


@dataclass(frozen=True, eq=False, slots=True)
class GpuTimeline:
    """One trace, wherever it came from. `findings` is what the reader itself noticed (dropped rows, cut file)."""

    source: Source
    activities: Activities
    calls: ApiCalls
    ranges: Ranges
    strings: tuple[str, ...]
    findings: tuple[Finding, ...]
