"""Backward operators belong to the modules of their forward operators: autograd numbers both alike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from laptime.trace.host_segments import owner_at
from laptime.trace.launch_labels import MODULE, RangeLabels
from laptime.trace.launch_threads import NOWHERE, GrowingTree, HostThread
from laptime.trace.read.timeline import GpuTimeline, Int64


def in_forward_modules(
    timeline: GpuTimeline,
    labels: RangeLabels,
    rows: npt.NDArray[np.intp],
    within: Int64,
    asked: tuple[npt.NDArray[np.bool_], GrowingTree],
) -> Int64:
    """The nodes that ranges lie in; outermost backward operators lie in the modules of their forward operator too.

    Autograd numbers forward operators. Only modules are taken over: a range around the forward pass has ended.

    Args:
        timeline, labels: the trace.
        rows: ranges, as rows of Ranges.
        within: the node that each lies in.
        asked: which of them are outermost operators; the tree as far as it has grown.
    """
    outermost, tree = asked
    sequence = timeline.ranges.sequence
    if len(sequence) == 0:
        return within
    backward = np.flatnonzero(outermost & (sequence[rows] <= -2))
    if len(backward) == 0:
        return within
    result: Int64 = within.copy()
    for host in tree.threads:
        module = _modules_of(timeline, labels, host, -2 - sequence[rows[backward]], rows[backward])
        found = backward[module != NOWHERE]
        pairs = np.stack([within[found], tree.of_range[module[module != NOWHERE]]], axis=1)
        distinct, which = np.unique(pairs, axis=0, return_inverse=True)
        places = np.array([_beneath(tree, base, node) for base, node in distinct.tolist()], dtype=np.int64)
        result[found] = places[which.ravel()]
    return result


def _beneath(tree: GrowingTree, base: int, node: int) -> int:
    """The modules that a node lies in, itself among them, beneath another node: the place of the innermost."""
    keys = list(tree.known)
    chain: list[str] = []
    at = node
    while at != NOWHERE:
        at, name, kind = keys[at]
        chain += [name] if kind == MODULE else []
    place = base
    for name in reversed(chain):
        place = tree.get(place, name, MODULE)
    return place


def _modules_of(
    timeline: GpuTimeline, labels: RangeLabels, host: HostThread, numbers: Int64, rows: npt.NDArray[np.intp]
) -> npt.NDArray[np.intp]:
    """The module that each of autograd's numbers was given in on a thread, as a row of Ranges; NOWHERE for none.

    rows: what asks for it, so that only what began before counts.
    """
    ranges = timeline.ranges
    result = np.full(len(numbers), NOWHERE, dtype=np.intp)
    if len(host.rows) == 0:
        return result
    process, thread = ranges.process[host.rows[0]], ranges.thread[host.rows[0]]
    own = np.flatnonzero((ranges.sequence >= 0) & (ranges.process == process) & (ranges.thread == thread))
    own = own[np.argsort(ranges.sequence[own], kind="stable")]  # of one number the outermost operator stays first
    if len(own) == 0:
        return result
    at = np.minimum(np.searchsorted(ranges.sequence[own], numbers), len(own) - 1)
    known = (ranges.sequence[own[at]] == numbers) & (ranges.start_ns[own[at]] < ranges.start_ns[rows])
    holder = owner_at(host.segments, ranges.start_ns[own[at]])
    kinds = labels.kind[host.rows]
    while True:
        between = (holder >= 0) & (kinds[np.maximum(holder, 0)] != MODULE)
        if not between.any():
            break
        holder = np.where(between, host.parent[np.maximum(holder, 0)], holder)
    known &= holder >= 0
    result[known] = host.rows[holder[known]]
    return result
