"""Memory of the framework's allocator over a trace, and who held it at the peak. A part of `laptime.trace/1`."""

from __future__ import annotations

import msgspec


class MemoryHolder(msgspec.Struct, frozen=True, kw_only=True):
    """What one operator in one module had allocated and not freed when the peak was reached."""

    operator: str | None  # the innermost; None outside all
    module: str | None  # with those that it lies in: A › B
    bytes: int
    allocations: int


class StepMemory(msgspec.Struct, frozen=True, kw_only=True):
    """One step, from the launch of its first kernel to that of the next step's."""

    start_ns: int
    start_bytes: int
    peak_bytes: int


class DeviceMemory(msgspec.Struct, frozen=True, kw_only=True):
    """One device's memory. Times are those at which the host allocated, which is ahead of the device's work."""

    device: int  # -1: the host's memory
    changes: int  # allocations and frees
    relative: bool  # the file has changes only: 0 is what was allocated when the trace began
    start_bytes: int  # before the first change
    end_bytes: int
    peak_bytes: int
    peak_ns: int
    reserved_bytes: int | None  # the most that the allocator had taken from the device; None where the file lacks it
    before_bytes: int | None  # at the peak: allocated before the trace began; None where blocks have no addresses
    holders: list[MemoryHolder]  # at the peak, most first
    left_out: int  # further holders
    steps: list[StepMemory]
    curve_ns: list[int]  # the largest of each stretch, and when
    curve_bytes: list[int]
