"""Who launched a device's work: for each activity the ranges, modules and operators that its launch lay in, as a tree.

An activity belongs to what was open on the launching thread at the instant of the launch. A range that ended before
owns nothing of it. Where that thread is in no range (autograd runs backward on a thread of its own), the range that was
open on the thread with most of the process' ranges counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from laptime.trace.host_segments import owner_at
from laptime.trace.launch_backward import in_forward_modules
from laptime.trace.launch_labels import KINDS, MODULE, NUMBERED, OPERATOR, RANGE, RangeLabels, range_labels
from laptime.trace.launch_threads import NOWHERE, GrowingTree, HostThread, host_thread
from laptime.trace.read.distinct import each_once
from laptime.trace.read.timeline import GpuTimeline, Int8, Int32, Int64

_DENSE = 16
"""Keys below so many times their count are counted in a table: a level of a deep tree has few of them."""
_FEW = 64
"""So few keys are faster in a set than in arrays."""


class LaunchTree(msgspec.Struct, frozen=True, eq=False):
    """Nodes are names in the order of their nesting; a node stands behind its parent."""

    names: list[str]
    kind: Int8  # of each node, an index into KINDS
    parent: Int32  # of each node, NOWHERE for an outermost one
    calls: Int64  # of each node: ranges of it that launched something
    of_range: Int32  # of each row of Ranges its node, NOWHERE for one that launched nothing
    node: Int32  # of each launch that was asked for: the innermost node, NOWHERE outside all
    operator: Int64  # of each launch: the innermost operator's call, NOWHERE outside all
    operator_name: Int32  # of each launch: index into strings, NOWHERE
    operator_shape: Int32  # of each launch: index into shapes, NOWHERE
    strings: Sequence[str]
    shapes: Sequence[str]

    def nearest(self, kind: int) -> Int32:
        """For each node the innermost one of a kind among it and what it lies in; NOWHERE for none."""
        result = np.full(len(self.names), NOWHERE, dtype=np.int32)
        for i, parent in enumerate(self.parent.tolist()):  # a parent comes first
            if self.kind[i] == kind:
                result[i] = i
            elif parent != NOWHERE:
                result[i] = result[parent]
        return result


def launch_tree(timeline: GpuTimeline, calls: Int64) -> LaunchTree:
    """The tree of what launched.

    Args:
        timeline: the trace.
        calls: indices into ApiCalls, one for each launch that is asked for; -1 where it is not known.
    """
    known = np.flatnonzero(calls >= 0)
    made = timeline.calls
    of = calls[known]
    tree = open_at(timeline, made.process[of], made.thread[of], made.start_ns[of])

    def spread(column: npt.NDArray[np.signedinteger]) -> npt.NDArray[np.signedinteger]:
        whole = np.full(len(calls), NOWHERE, dtype=column.dtype)
        whole[known] = column
        return whole

    return replace(
        tree,
        node=spread(tree.node),
        operator=spread(tree.operator),
        operator_name=spread(tree.operator_name),
        operator_shape=spread(tree.operator_shape),
    )


def open_at(timeline: GpuTimeline, process: Int32, thread: Int64, at_ns: Int64, *, numbered: bool = True) -> LaunchTree:
    """The same for any instants of host threads: what was open there.

    numbered: whether a few modules of one class inside one module have numbers.
    """
    labels = range_labels(timeline.ranges, timeline.strings)
    if not numbered:
        labels = replace(labels, number=np.full_like(labels.number, -1))
    node, operator = (np.full(len(at_ns), NOWHERE, dtype=np.int32) for _ in range(2))
    nodes = GrowingTree({}, np.full(len(timeline.ranges.start_ns), NOWHERE, dtype=np.int32), [])
    for one in _distinct(process):
        of_process = process == one
        ranged = _thread_of_ranges(timeline, labels, one)
        others = np.array(_distinct(thread[of_process]), dtype=np.int64)
        begun = [int(at_ns[of_process][thread[of_process] == other].min()) for other in others.tolist()]
        for other in others[np.argsort(begun, kind="stable")].tolist():  # forward comes before backward
            chosen = np.flatnonzero(of_process & (thread == other))
            own = at_ns[chosen]
            host = host_thread(timeline, labels, (one, other), own)
            around = None
            if ranged is not None and ranged != other:
                around = host_thread(timeline, labels, (one, ranged), own, only=RANGE)
            node[chosen], operator[chosen] = _placed(timeline, labels, (host, around), own, nodes)
            nodes.threads.append(host)
    return LaunchTree(
        names=[name for _, name, _ in nodes.known],
        kind=np.array([kind for _, _, kind in nodes.known], dtype=np.int8),
        parent=np.array([parent for parent, _, _ in nodes.known], dtype=np.int32),
        calls=np.bincount(nodes.of_range[nodes.of_range != NOWHERE], minlength=len(nodes.known)),
        of_range=nodes.of_range,
        node=node,
        operator=operator.astype(np.int64),
        operator_name=_of_rows(timeline.ranges.name, operator),
        operator_shape=_of_rows(timeline.ranges.shape, operator),
        strings=timeline.strings,
        shapes=timeline.shapes,
    )


def _distinct(values: npt.NDArray[np.signedinteger]) -> list[int]:
    """The distinct values; mostly there is one, which is found without sorting."""
    if len(values) and (values == values[0]).all():
        return [int(values[0])]
    return [int(value) for value in each_once(values).tolist()]


def _of_rows(column: Int32, rows: Int32) -> Int32:
    """A column of Ranges at some rows; NOWHERE where there is no row or no column."""
    if len(column) == 0:
        return np.full(len(rows), NOWHERE, dtype=np.int32)
    return np.where(rows >= 0, column[np.maximum(rows, 0)], NOWHERE).astype(np.int32)


def _thread_of_ranges(timeline: GpuTimeline, labels: RangeLabels, process: int) -> int | None:
    """The thread that most of a process' ranges are on."""
    threads = timeline.ranges.thread[(timeline.ranges.process == process) & (labels.kind == RANGE)]
    if len(threads) == 0:
        return None
    known, counts = np.unique(threads, return_counts=True)
    return int(known[np.argmax(counts)])


def _placed(
    timeline: GpuTimeline,
    labels: RangeLabels,
    hosts: tuple[HostThread, HostThread | None],
    at_ns: Int64,
    nodes: GrowingTree,
) -> tuple[Int32, Int32]:
    """The node and the operator of each launch at these instants.

    hosts: the thread that launched, and the ranges of another one around those launches that are in no range.
    """
    host, around = hosts
    owner = owner_at(host.segments, at_ns)
    needed, level = _needed(host, owner), host.level
    outer = np.full(len(host.rows), NOWHERE, dtype=np.int32)
    alone = np.full(len(at_ns), NOWHERE, dtype=np.int32)
    if around is not None and len(around.rows):
        roots = needed[(level[needed] == 0)]
        roots = roots[labels.kind[host.rows[roots]] != RANGE]
        instants = np.concatenate([timeline.ranges.start_ns[host.rows[roots]], at_ns[owner < 0]])
        found, _ = _placed(timeline, labels, (around, None), instants, nodes)
        outer[roots], alone[owner < 0] = found[: len(roots)], found[len(roots) :]
    label, words = _named(labels, host, needed)
    node = np.full(len(host.rows), NOWHERE, dtype=np.int32)
    kinds, size = labels.kind[host.rows].astype(np.int64), len(words) * len(KINDS)
    for depth, rows in enumerate(_by_level(needed, level)):
        within = (node[host.parent[rows]] if depth else outer[rows]).astype(np.int64)
        outermost = (kinds[rows] == OPERATOR) & (kinds[np.maximum(host.parent[rows], 0)] != OPERATOR if depth else True)
        within = in_forward_modules(timeline, labels, host.rows[rows], within, (outermost, nodes))
        keys = ((within + 1) * len(words) + label[rows]) * len(KINDS) + kinds[rows]
        node[rows] = _mapped(
            keys, lambda key: nodes.get(key // size - 1, words[key % size // len(KINDS)], key % len(KINDS))
        )
        nodes.of_range[host.rows[rows]] = node[rows]
    innermost = np.where(owner >= 0, node[np.maximum(owner, 0)], alone) if len(node) else alone
    return innermost.astype(np.int32), _operators(labels, host, owner)


def _mapped(keys: Int64, value: Callable[[int], int]) -> Int32:
    """What each key stands for; each distinct one is asked once, in ascending order."""
    if len(keys) <= _FEW:
        some = keys.tolist()
        known = {key: value(key) for key in sorted(set(some))}
        return np.array([known[key] for key in some], dtype=np.int32)
    most = int(keys.max())
    if most < _DENSE * len(keys):
        values = np.zeros(most + 1, dtype=np.int32)
        for key in np.flatnonzero(np.bincount(keys)).tolist():
            values[key] = value(key)
        return values[keys]
    distinct, which = np.unique(keys, return_inverse=True)
    return np.array([value(key) for key in distinct.tolist()], dtype=np.int32)[which.ravel()]


def _needed(host: HostThread, owner: Int32) -> npt.NDArray[np.intp]:
    """The ranges that hold a launch. `owner`: the innermost one of each, -1 for none."""
    needed = np.zeros(len(host.rows), dtype=np.bool_)
    needed[owner[owner >= 0]] = True
    for rows in reversed(_by_level(np.arange(len(host.rows)), host.level)[1:]):
        needed[host.parent[rows[needed[rows]]]] = True
    return np.flatnonzero(needed)


def _by_level(rows: npt.NDArray[np.intp], level: Int32) -> list[npt.NDArray[np.intp]]:
    """The rows of each level from the outermost on, each in the order given."""
    own = level[rows]
    order = rows[np.argsort(own.astype(np.int16) if own.max(initial=0) < 2**15 else own, kind="stable")]
    return np.split(order, np.cumsum(np.bincount(own))[:-1])


def _named(labels: RangeLabels, host: HostThread, needed: npt.NDArray[np.intp]) -> tuple[Int32, list[str]]:
    """The name of each range as a place in a list. Of a few modules of one class inside one module each has its
    number."""
    label, number = labels.label[host.rows], labels.number[host.rows]
    modules = needed[number[needed] >= 0]
    words = list(labels.labels)
    if len(modules) == 0:
        return label, words
    kinds = labels.kind[host.rows]
    above = host.parent[modules]
    while True:
        between = (above >= 0) & (kinds[np.maximum(above, 0)] != MODULE)
        if not between.any():
            break
        above = np.where(between, host.parent[np.maximum(above, 0)], above)
    inside = above >= 0
    found = np.stack(
        [
            label[modules],
            np.where(inside, label[np.maximum(above, 0)], -1),
            np.where(inside, number[np.maximum(above, 0)], -1),
            number[modules],
        ],
        axis=1,
    )
    alike, which = np.unique(found, axis=0, return_inverse=True)
    _, group, sizes = np.unique(alike[:, :3], axis=0, return_inverse=True, return_counts=True)
    group = group.ravel()
    turn = np.arange(len(alike)) - np.concatenate([[0], np.cumsum(sizes)])[group]  # rows are sorted by all columns
    numbered: dict[str, int] = {}
    own = alike[:, 0].astype(np.int32)
    for i in np.flatnonzero((sizes[group] >= 2) & (sizes[group] <= NUMBERED)).tolist():
        text = f"{words[alike[i, 0]]} {turn[i] + 1}"
        own[i] = numbered.setdefault(text, len(words) + len(numbered))
    label = label.copy()
    label[modules] = own[which.ravel()]
    return label, words + list(numbered)


def _operators(labels: RangeLabels, host: HostThread, owner: Int32) -> Int32:
    """Of each launch the innermost operator that is open, as a row of Ranges."""
    kinds = labels.kind[host.rows]
    at = owner.copy()
    while True:
        inside = at >= 0
        if not inside.any():
            break
        wrong = inside & (kinds[np.maximum(at, 0)] != OPERATOR)
        if not wrong.any():
            break
        at = np.where(wrong, host.parent[np.maximum(at, 0)], at)
    return np.where(at >= 0, host.rows[np.maximum(at, 0)], NOWHERE).astype(np.int32) if len(host.rows) else at
