"""Memory over a trace where the profiler recorded it (`profile_memory=True`): the curve, its peak, what held it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from laptime.trace.launch_labels import MODULE, OPERATOR
from laptime.trace.launch_threads import NOWHERE
from laptime.trace.launch_tree import LaunchTree, open_at
from laptime.trace.launched_by import PATH
from laptime.trace.memory_result import DeviceMemory, MemoryHolder, StepMemory
from laptime.trace.read.distinct import each_once
from laptime.trace.read.timeline import GpuTimeline, Int64

HELD, POINTS, STEPS = 40, 600, 2_000
"""Holders that are listed, points of a curve, and steps, at most."""


def device_memory(timeline: GpuTimeline, step_starts_ns: Int64) -> list[DeviceMemory]:
    """Each device's memory, the devices first, the host's last; empty where none was recorded.

    Args:
        timeline: the trace.
        step_starts_ns: when the host launched the first kernel of each step, ascending.
    """
    devices = each_once(timeline.memory.device)
    return [
        _of_device(timeline, int(device), step_starts_ns) for device in [*devices[devices >= 0], *devices[devices < 0]]
    ]


def _of_device(timeline: GpuTimeline, device: int, step_starts_ns: Int64) -> DeviceMemory:
    memory = timeline.memory
    rows = np.flatnonzero(memory.device == device)
    at_ns, change, stated = memory.at_ns[rows], memory.bytes[rows], memory.allocated[rows]
    relative = bool((stated < 0).any())
    after = np.cumsum(change) if relative else stated
    start = 0 if relative else int(max(stated[0] - change[0], 0))
    levels = np.concatenate([[start], after])  # levels[i]: before the i-th change
    peak = int(np.argmax(levels))
    reserved = int(memory.reserved[rows].max())
    held = _held(memory.address[rows][:peak], change[:peak])
    holders = _holders(timeline, rows[held]) if held is not None else []
    known = int(change[held].sum()) if held is not None else 0
    curve_ns, curve = _curve(at_ns, after)
    return DeviceMemory(
        device=device,
        changes=len(rows),
        relative=relative,
        start_bytes=start,
        end_bytes=int(levels[-1]),
        peak_bytes=int(levels[peak]),
        peak_ns=int(at_ns[max(peak - 1, 0)]),
        reserved_bytes=reserved if reserved >= 0 else None,
        before_bytes=None if held is None or relative else max(int(levels[peak]) - known, 0),
        holders=holders[:HELD],
        left_out=max(len(holders) - HELD, 0),
        steps=_steps(at_ns, levels, step_starts_ns[:STEPS]),
        curve_ns=curve_ns,
        curve_bytes=curve,
    )


def _held(address: Int64, change: Int64) -> npt.NDArray[np.intp] | None:
    """Which allocations were not freed; None where blocks have no addresses."""
    if len(address) and not address.any():
        return None
    last = len(address) - 1 - np.unique(address[::-1], return_index=True)[1]  # of each address the last change
    return np.sort(last[change[last] > 0])


def _holders(timeline: GpuTimeline, rows: npt.NDArray[np.intp]) -> list[MemoryHolder]:
    """Who allocated these blocks."""
    memory = timeline.memory
    tree = open_at(timeline, memory.process[rows], memory.thread[rows], memory.at_ns[rows], numbered=False)
    operators, modules = tree.nearest(OPERATOR), tree.nearest(MODULE)
    found: dict[tuple[str | None, str | None], list[int]] = {}
    for node, size in zip(tree.node.tolist(), memory.bytes[rows].tolist(), strict=True):
        operator = NOWHERE if node == NOWHERE else int(operators[node])
        module = NOWHERE if node == NOWHERE else int(modules[node])
        key = (None if operator == NOWHERE else tree.names[operator], _path(tree, modules, module))
        row = found.setdefault(key, [0, 0])
        row[0] += size
        row[1] += 1
    holders = [
        MemoryHolder(operator=operator, module=module, bytes=size, allocations=count)
        for (operator, module), (size, count) in found.items()
    ]
    return sorted(holders, key=lambda holder: (-holder.bytes, holder.operator or "", holder.module or ""))


def _path(tree: LaunchTree, modules: npt.NDArray[np.int32], module: int) -> str | None:
    names: list[str] = []
    while module != NOWHERE:
        names.insert(0, tree.names[module])
        above = int(tree.parent[module])
        module = NOWHERE if above == NOWHERE else int(modules[above])
    return PATH.join(names) or None


def _steps(at_ns: Int64, levels: Int64, starts_ns: Int64) -> list[StepMemory]:
    """What each step began with, and its peak; the last one ends with the trace."""
    if len(starts_ns) == 0:
        return []
    first = np.searchsorted(at_ns, starts_ns)
    ends = np.append(first[1:], len(at_ns))
    return [
        StepMemory(start_ns=int(start), start_bytes=int(levels[begin]), peak_bytes=int(levels[begin : end + 1].max()))
        for start, begin, end in zip(starts_ns.tolist(), first.tolist(), ends.tolist(), strict=True)
    ]


def _curve(at_ns: Int64, after: Int64) -> tuple[list[int], list[int]]:
    """The curve in at most POINTS stretches of equally many changes: of each the largest value, and the last change."""
    bounds = each_once(np.linspace(0, len(after), min(POINTS, len(after)) + 1).astype(np.int64))[:-1]
    places = [
        int(begin + np.argmax(after[begin:end])) for begin, end in zip(bounds, [*bounds[1:], len(after)], strict=True)
    ]
    if places and places[-1] != len(after) - 1:
        places.append(len(after) - 1)
    return at_ns[places].tolist(), after[places].tolist()
