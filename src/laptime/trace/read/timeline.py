"""GpuTimeline: one frozen, columnar value for every trace format. Readers make it; nothing changes it.

All times are integer nanoseconds on the trace's own clock. Columns of a table have equal length and are
sorted by (start_ns, end_ns). Names are indices into one string table.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.data.finding import Finding

Int8 = npt.NDArray[np.int8]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


def _no_column() -> Int32:
    return np.zeros(0, dtype=np.int32)


def _no_numbers() -> Int64:
    return np.zeros(0, dtype=np.int64)


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


class Activities(msgspec.Struct, frozen=True, eq=False):
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
    bytes: Int64  # what a copy or memset moved, or a collective was given; -1 where the file does not say
    # of collectives: index into GpuTimeline.groups, -1; or empty
    group: Int32 = msgspec.field(default_factory=_no_column)


class ApiCalls(msgspec.Struct, frozen=True, eq=False):
    """API calls on the host (runtime and driver), one row each."""

    start_ns: Int64
    end_ns: Int64
    process: Int32
    thread: Int64
    name: Int32
    correlation: Int64
    kernel: Int32 = msgspec.field(default_factory=_no_column)  # what it launches: index into strings, -1; or empty


class Ranges(msgspec.Struct, frozen=True, eq=False):
    """Named intervals on host threads."""

    start_ns: Int64
    end_ns: Int64
    process: Int32
    thread: Int64
    name: Int32
    kind: Int8  # RangeKind
    # of operators: index into GpuTimeline.shapes, -1; or empty
    shape: Int32 = msgspec.field(default_factory=_no_column)
    # autograd's: of a forward operator its number, of backward -2 less the number of what it is backward of; -1 for
    # neither; or empty
    sequence: Int64 = msgspec.field(default_factory=_no_numbers)


class MemoryEvents(msgspec.Struct, frozen=True, eq=False):
    """Allocations and frees by the framework's allocator, one row each, in order of time."""

    at_ns: Int64
    process: Int32
    thread: Int64
    device: Int32  # -1 for the host's memory
    bytes: Int64  # below 0 for a free
    allocated: Int64  # on this device afterwards; -1 where the file does not say
    reserved: Int64
    address: Int64  # 0 where the file does not say


def _no_memory() -> MemoryEvents:
    none = np.zeros(0, dtype=np.int64)
    return MemoryEvents(none, _no_column(), none, _no_column(), none, none, none, none)


class Card(msgspec.Struct, frozen=True):
    """A device as the file names it."""

    device: int
    name: str
    memory_bytes: int | None = None
    compute_major: int | None = None  # of NVIDIA's compute capability


class Source(msgspec.Struct, frozen=True):
    """Where a timeline came from."""

    format: str  # "kineto" | "nsys-sqlite"
    file: str
    schema_version: str | None
    rank: int | None = None  # of a distributed run, where the file says it
    world_size: int | None = None  # how many ranks that run has


class GpuTimeline(msgspec.Struct, frozen=True, eq=False):
    """One trace, wherever it came from. `findings` is what the reader itself noticed (dropped rows, cut file)."""

    source: Source
    activities: Activities
    calls: ApiCalls
    ranges: Ranges
    strings: tuple[str, ...]
    findings: tuple[Finding, ...]
    shapes: tuple[str, ...] = ()  # of operators: a JSON list of dimensions, types, values or null, strides
    groups: tuple[str, ...] = ()  # of collectives: a JSON list of the group's name, its ranks, the operation
    memory: MemoryEvents = msgspec.field(default_factory=_no_memory)
    cards: tuple[Card, ...] = ()
    cut: tuple[tuple[int, int], ...] = ()  # activities that were cut, as their recorded durations can't be: row, ns
