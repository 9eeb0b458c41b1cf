"""Which API call launched which work: joined by process and correlation id, whatever format the trace has.

`claim` completes the activities while they are read; `launches` gives the join of a whole timeline.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from laptime.trace.read.distinct import each_once
from laptime.trace.read.tables import Column, Columns, Table
from laptime.trace.read.timeline import GpuTimeline, Int64

UNKNOWN = -1
"""The process of an activity while it is not known."""

_BLOCK = 131_072

_KERNEL_LAUNCH = re.compile(r"launch(?!hostfunc)|invokekernel", re.IGNORECASE)
_NO_KERNEL = re.compile(r"hostfunc|graph", re.IGNORECASE)


def launches_kernel(name: str) -> bool:
    """Whether a call of this name launches one kernel."""
    return _KERNEL_LAUNCH.search(name) is not None and not _NO_KERNEL.search(name)


def claim(activities: Sequence[Columns], calls: Sequence[Columns], names: Iterable[str]) -> list[Table]:
    """Fill in what only the launching call knows.

    Args:
        activities: pieces with `correlation`, `graph_node` and `process`, UNKNOWN where the file does not say.
        calls: pieces with `process`, `correlation` and `name` (an index into names).
        names: the string table.

    Returns:
        the activity pieces. A process is filled in when it can be only one: the only one that made calls, or the
        only one with a call of that correlation. Correlation ids repeat across processes, so otherwise it stays
        UNKNOWN. Activities that a graph launch ran have a graph_node of at least 0.
    """
    process, correlation, name = (
        np.concatenate([call[column] for call in calls]) if calls else np.zeros(0, dtype=np.int64)
        for column in ("process", "correlation", "name")
    )
    is_graph = np.fromiter(("GraphLaunch" in text for text in names), dtype=np.bool_)
    of_graphs = np.flatnonzero(is_graph[name])
    pairs = np.stack([process[of_graphs], correlation[of_graphs]], axis=1)
    processes = each_once(process)
    if len(processes) > 1:
        order = np.lexsort((process, correlation))
        process, correlation = process[order], correlation[order]
    claimed = []
    for piece in activities:
        owner = _owners(piece, process, correlation, processes)
        node = piece["graph_node"]
        if len(pairs):
            node = np.where(_among(owner, piece["correlation"], pairs) & (node < 0), 0, node)
        claimed.append({**piece, "process": owner, "graph_node": node})
    return claimed


def _owners(piece: Columns, process: Column, correlation: Column, processes: Column) -> Column:
    """The process of each activity; calls of several processes are sorted by (correlation, process)."""
    owner = piece["process"]
    wanted = piece["correlation"]
    unknown = owner == UNKNOWN
    if not unknown.any():
        return owner
    owner = owner.astype(np.int64)
    if len(processes) == 1:
        owner[unknown] = processes[0]
    elif len(processes) > 1:
        first = np.searchsorted(correlation, wanted, side="left")
        behind = np.searchsorted(correlation, wanted, side="right")
        called = unknown & (behind > first) & (wanted >= 0)
        first, last = np.where(called, first, 0), np.where(called, behind - 1, 0)
        only = called & (process[first] == process[last])
        owner[only] = process[first[only]]
    return owner


def _among(process: Column, correlation: Column, pairs: Column) -> npt.NDArray[np.bool_]:
    """Whether each (process, correlation) is one of some pairs."""
    result = np.zeros(len(process), dtype=np.bool_)
    for owner in each_once(pairs[:, 0]):
        result |= (process == owner) & np.isin(correlation, pairs[pairs[:, 0] == owner, 1])
    return result


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
        own_calls = slice(None) if of_process.all() else np.flatnonzero(of_process)
        known = calls.correlation[own_calls]
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
            linked = (known[at] == wanted) & (wanted >= 0) & (activities.process[block] == process)
            at = at if order is None else order[at]
            result[block][linked] = (at if isinstance(own_calls, slice) else own_calls[at])[linked]
    return result
