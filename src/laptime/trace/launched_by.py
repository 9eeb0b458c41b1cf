"""Device time by who launched it: tables by operator, module and range, and the tree that a page draws."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.trace.gaps import DeviceGaps
from laptime.trace.kernel_names import short_name
from laptime.trace.launch_labels import FRAME, KINDS, MODULE, OPERATOR, RANGE
from laptime.trace.launch_result import LaunchedBy, Launcher, LaunchNodes
from laptime.trace.launch_threads import NOWHERE
from laptime.trace.launch_tree import LaunchTree
from laptime.trace.operator_times import card_of, card_peaks
from laptime.trace.read.timeline import GpuTimeline, Int32, Int64

LISTED = 200
"""Launchers of one kind that are listed at most."""

SMALLEST = 0.0005
"""Share of the device's work below which a node of the tree is put together with its neighbours."""

DRAWN = 1_200
"""Nodes of a tree at most."""

PATH = " › "

_DENSE = 1 << 22


class _Sums(msgspec.Struct, frozen=True, eq=False):
    """For each node of a tree, and for each with all that lies in it."""

    own_ns: Int64
    total_ns: Int64
    own: Int64
    total: Int64


def launched_by(timeline: GpuTimeline, gaps: DeviceGaps, launched: Int64, tree: LaunchTree) -> LaunchedBy | None:
    """Who launched a device's work; None where the trace names nobody.

    Args:
        timeline: the trace.
        gaps: the device's gaps; its rows are what was launched.
        launched: for each activity of the timeline the index of its call, -1 without one.
        tree: of those rows.
    """
    if not tree.names:
        return None
    activities = timeline.activities
    duration = np.maximum(activities.end_ns[gaps.rows] - activities.start_ns[gaps.rows], 0)
    sums = _sums(tree, duration)
    rows = [
        *_by_name(tree, sums, OPERATOR),
        *_by_path(tree, sums, MODULE),
        *_by_name(tree, sums, RANGE),
        *_by_name(tree, sums, FRAME),
    ]
    total = int(duration.sum())
    listed: list[Launcher] = []
    for kind in KINDS:
        own = [row for row in rows if row[0] == kind]
        own.sort(key=lambda row: (-(row[4] if kind == "operator" else row[5]), -row[5], row[1]))
        for name, calls, count, own_ns, total_ns in (row[1:] for row in own[:LISTED]):
            listed.append(
                Launcher(
                    kind=kind,
                    name=name,
                    calls=calls,
                    activities=count,
                    own_ns=own_ns,
                    total_ns=total_ns,
                    share=round(total_ns / total, 6) if total else 0.0,
                )
            )
    unknown = launched[gaps.rows] < 0
    outside = (tree.node == NOWHERE) & ~unknown
    return LaunchedBy(
        device=gaps.device,
        total_ns=total,
        unknown_ns=int(duration[unknown].sum()),
        unnamed_ns=int(duration[outside].sum()),
        launchers=listed,
        left_out=len(rows) - len(listed),
        tree=_nodes(timeline, gaps.rows, duration, tree, sums),
        card=card_peaks(card_of(timeline, gaps.device)),
    )


def _sums(tree: LaunchTree, duration: Int64) -> _Sums:
    size = len(tree.names)
    inside = tree.node != NOWHERE
    own = np.bincount(tree.node[inside], minlength=size)
    own_ns = _sum_by(tree.node[inside], duration[inside], size)
    total, total_ns = own.copy(), own_ns.copy()
    parents = tree.parent.tolist()
    for i in range(size - 1, -1, -1):  # a parent stands before what lies in it
        if parents[i] != NOWHERE:
            total[parents[i]] += total[i]
            total_ns[parents[i]] += total_ns[i]
    return _Sums(own_ns, total_ns, own, total)


def _sum_by(group: npt.NDArray[np.signedinteger], value: Int64, size: int) -> Int64:
    """Exact sums of integers by group."""
    # In float64 integers are exact below 2^53, which is 104 days of device time.
    result: Int64 = np.bincount(group, weights=value, minlength=size).astype(np.int64)
    return result


_Row = tuple[str, str, int, int, int, int]
"""Kind, name, calls, activities, own and total nanoseconds."""


def _by_name(tree: LaunchTree, sums: _Sums, kind: int) -> list[_Row]:
    """Times of each name of a kind; a name inside itself counts once."""
    near = tree.nearest(kind)
    found: dict[str, list[int]] = {}
    for i, name in enumerate(tree.names):
        holder = int(near[i])
        if holder != NOWHERE:
            found.setdefault(tree.names[holder], [0, 0, 0, 0])[2] += int(sums.own_ns[i])
        if tree.kind[i] != kind:
            continue
        row = found.setdefault(name, [0, 0, 0, 0])
        above = int(tree.parent[i])
        while above != NOWHERE and not (tree.kind[above] == kind and tree.names[above] == name):
            above = int(tree.parent[above])
        row[0] += int(tree.calls[i])
        if above == NOWHERE:
            row[1] += int(sums.total[i])
            row[3] += int(sums.total_ns[i])
    return [(KINDS[kind], name, *row) for name, row in found.items()]  # type: ignore[misc]


def _by_path(tree: LaunchTree, sums: _Sums, kind: int) -> list[_Row]:
    """Times of each module, named with the modules that it lies in."""
    near = tree.nearest(kind)
    paths: dict[int, str] = {}
    found: dict[str, list[int]] = {}
    for i, name in enumerate(tree.names):
        holder = int(near[i])
        if tree.kind[i] == kind:
            above = int(near[tree.parent[i]]) if tree.parent[i] != NOWHERE else NOWHERE
            paths[i] = name if above == NOWHERE else f"{paths[above]}{PATH}{name}"
            row = found.setdefault(paths[i], [0, 0, 0, 0])
            row[0] += int(tree.calls[i])
            row[1] += int(sums.total[i])
            row[3] += int(sums.total_ns[i])
        if holder != NOWHERE:
            found[paths[holder]][2] += int(sums.own_ns[i])
    return [(KINDS[kind], name, *row) for name, row in found.items()]  # type: ignore[misc]


def _nodes(timeline: GpuTimeline, rows: Int32, duration: Int64, tree: LaunchTree, sums: _Sums) -> LaunchNodes:
    """The tree with its kernels as leaves, without what is too small to be seen; that is put together as `other`."""
    least = max(SMALLEST * int(duration.sum()), 1)
    if len(tree.names) > DRAWN // 2:
        least = max(least, int(np.sort(sums.total_ns)[-DRAWN // 2]))
    name, kind, parent, total_ns, count = [], [], [], [], []
    place: dict[int, int] = {}
    other: dict[int, list[int]] = {}

    def add(called: str, what: str, under: int, ns: int, activities: int) -> int:
        name.append(called)
        kind.append(what)
        parent.append(under)
        total_ns.append(ns)
        count.append(activities)
        return len(name) - 1

    for i in range(len(tree.names)):
        above = int(tree.parent[i])
        under = NOWHERE if above == NOWHERE else place.get(above)
        if under is None:
            continue  # what it lies in is too small itself
        if sums.total_ns[i] < least:
            rest = other.setdefault(under, [0, 0])
            rest[0] += int(sums.total_ns[i])
            rest[1] += int(sums.total[i])
            continue
        place[i] = add(tree.names[i], KINDS[tree.kind[i]], under, int(sums.total_ns[i]), int(sums.total[i]))
    for node, label, ns, activities in _leaves(timeline, rows, duration, tree):
        under = NOWHERE if node == NOWHERE else place.get(node)
        if under is None:
            continue
        if ns < least or len(name) >= DRAWN:
            rest = other.setdefault(under, [0, 0])
            rest[0] += ns
            rest[1] += activities
            continue
        add(label, "kernel", under, ns, activities)
    for under, (ns, activities) in other.items():
        add("smaller ones", "other", under, ns, activities)
    return LaunchNodes(name=name, kind=kind, parent=parent, total_ns=total_ns, activities=count)


def _leaves(timeline: GpuTimeline, rows: Int32, duration: Int64, tree: LaunchTree) -> list[tuple[int, str, int, int]]:
    """Work by the node that launched it and its short name: (node, name, nanoseconds, activities), longest first."""
    size = len(timeline.strings)
    key = (tree.node.astype(np.int64) + 1) * size + timeline.activities.name[rows]
    if (len(tree.names) + 1) * size <= _DENSE:
        counts = np.bincount(key)
        distinct = np.flatnonzero(counts)
        spent, counts = _sum_by(key, duration, 0)[distinct], counts[distinct]
    else:
        distinct, which = np.unique(key, return_inverse=True)
        spent = _sum_by(which.ravel(), duration, len(distinct))
        counts = np.bincount(which.ravel(), minlength=len(distinct))
    together: dict[tuple[int, str], list[int]] = {}
    for number, ns, count in zip(distinct.tolist(), spent.tolist(), counts.tolist(), strict=True):
        row = together.setdefault((number // size - 1, short_name(timeline.strings[number % size])), [0, 0])
        row[0] += ns
        row[1] += count
    leaves = [(node, label, ns, count) for (node, label), (ns, count) in together.items()]
    return sorted(leaves, key=lambda leaf: -leaf[2])
