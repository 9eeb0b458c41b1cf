"""Kernels of graph replays named by a trace of their capture: the n-th captured launch runs as the n-th kernel.

A replay fits a capture that has as many launches. Where the capture states kernels' names (HIP does), nine of ten must
agree; elsewhere what operators are called must fit the kernels' families. What doesn't fit stays without a name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from laptime.trace.api import LAUNCH, MEMCPY, purposes
from laptime.trace.kernel_names import family
from laptime.trace.launch_labels import MODULE, RANGE
from laptime.trace.launch_result import CaptureMatch
from laptime.trace.launch_threads import NOWHERE
from laptime.trace.launch_tree import LaunchTree, launch_tree
from laptime.trace.read.distinct import each_once
from laptime.trace.read.timeline import GpuTimeline, Int32, Int64

AGREE, PLAUSIBLE = 0.9, 0.7
"""Shares of kernels that must bear the captured name, or belong to a family that fits their operator."""

_BEGIN, _END = re.compile(r"BeginCapture", re.IGNORECASE), re.compile(r"EndCapture", re.IGNORECASE)
_NO_NODE = re.compile(r"graph|hostfunc", re.IGNORECASE)
_EXPECTED: tuple[tuple[re.Pattern[str], frozenset[str]], ...] = (
    (re.compile(r"::(?:addmm|mm|bmm|baddbmm|linear|_scaled_mm|matmul)$"), frozenset({"GEMM", "GEMV", "reduce"})),
    (re.compile(r"attention|flash|sdpa", re.IGNORECASE), frozenset({"attention"})),
    (re.compile(r"convolution"), frozenset({"convolution", "GEMM", "copy"})),
    (re.compile(r"softmax"), frozenset({"softmax"})),
    (re.compile(r"_norm"), frozenset({"norm", "reduce", "elementwise"})),
    (re.compile(r"::(?:add|mul|sub|div|silu|gelu|relu)_?$"), frozenset({"elementwise"})),
)
"""Operators whose kernels' families are known."""


class _Capture(msgspec.Struct, frozen=True, eq=False):
    """One captured graph: its launches in order."""

    number: int
    places: npt.NDArray[np.intp]  # in the tree of all captured launches
    begin_ns: int
    end_ns: int


class _Captured(msgspec.Struct, frozen=True, eq=False):
    """All captures of a trace, and the tree of their launches."""

    timeline: GpuTimeline
    tree: LaunchTree
    kernel: Int32  # of each launch: its kernel's name in the capture's strings, NOWHERE
    captures: list[_Capture]


def named_by_capture(
    timeline: GpuTimeline, rows: Int32, launched: Int64, tree: LaunchTree, capture: GpuTimeline
) -> tuple[LaunchTree, CaptureMatch]:
    """The tree with the kernels of graph replays under what launched them when the graph was captured.

    Args:
        timeline: the trace with the replays.
        rows: the device's activities, as `tree` has them.
        launched: for each activity of the timeline the index of its call, -1 without one.
        tree: who launched these rows.
        capture: the capture's trace.
    """
    captured = _captured(capture)
    names, kind, parent = list(tree.names), tree.kind.tolist(), tree.parent.tolist()
    calls, began = tree.calls.tolist(), _called(captured) if captured.captures else None
    known = {(p, n, k): i for i, (p, n, k) in enumerate(zip(parent, names, kind, strict=True))}
    node, operator = tree.node.copy(), tree.operator.copy()
    operator_name, operator_shape = tree.operator_name.copy(), tree.operator_shape.copy()
    replays = _replays(timeline, rows, launched)
    turn: dict[int, int] = {}
    named = activities = alike = stated = 0
    by_order = False
    for number, places in enumerate(replays):
        fit = _fitting(timeline, rows[places], captured, turn)
        if fit is None:
            continue
        own, (agreed, said), guessed = fit
        named, activities = named + 1, activities + len(places)
        alike, stated, by_order = alike + agreed, stated + said, by_order or guessed
        above = int(node[places[0]])
        around = [names[i] for i in _up(parent, above) if kind[i] == MODULE]
        met: dict[int, int] = {}  # a node of the capture: its place
        for place, launch in zip(places.tolist(), own.places.tolist(), strict=True):
            at = above
            for step in _inside(captured.tree, int(captured.tree.node[launch]), around):
                key = (at, captured.tree.names[step], int(captured.tree.kind[step]))
                if key not in known:
                    known[key] = len(names)
                    names.append(key[1])
                    kind.append(key[2])
                    parent.append(at)
                    calls.append(0)
                at = known[key]
                met[step] = at
            node[place] = at
            if captured.tree.operator[launch] != NOWHERE:
                size = len(capture.ranges.start_ns)
                first = len(timeline.ranges.start_ns) + number * size
                operator[place] = first + captured.tree.operator[launch]
                operator_name[place] = len(tree.strings) + captured.tree.operator_name[launch]
                shape = int(captured.tree.operator_shape[launch])
                operator_shape[place] = NOWHERE if shape == NOWHERE else len(tree.shapes) + shape
        for step, at in met.items():
            calls[at] += 0 if began is None else int(began[own.number, step])
    counts = np.array(calls, dtype=np.int64)
    added = slice(len(tree.names), None)
    counts[added] = np.maximum(counts[added], 1)  # what holds a whole capture began before it
    whole = replace(
        tree,
        names=names,
        kind=np.array(kind, dtype=np.int8),
        parent=np.array(parent, dtype=np.int32),
        calls=counts,
        node=node,
        operator=operator,
        operator_name=operator_name,
        operator_shape=operator_shape,
        strings=[*tree.strings, *capture.strings],
        shapes=[*tree.shapes, *capture.shapes],
    )
    match = CaptureMatch(
        file=capture.source.file.rsplit("/", 1)[-1],
        captures=len(captured.captures),
        replays=len(replays),
        named=named,
        activities=activities,
        agreement=round(alike / stated, 6) if stated else None,
        by_order=by_order,
    )
    return whole, match


def _called(captured: _Captured) -> Int64:
    """How often each node of the captures' tree began within each capture: (captures, nodes)."""
    ranges, of_range = captured.timeline.ranges, captured.tree.of_range
    own = np.flatnonzero(of_range != NOWHERE)
    size = len(captured.tree.names)
    begins = np.array([one.begin_ns for one in captured.captures], dtype=np.int64)
    ends = np.array([one.end_ns for one in captured.captures], dtype=np.int64)
    order = np.argsort(begins)
    at = np.searchsorted(begins[order], ranges.start_ns[own], side="right") - 1
    which = order[np.maximum(at, 0)]
    inside = (at >= 0) & (ranges.start_ns[own] < ends[which])
    counts = np.bincount(which[inside] * size + of_range[own][inside], minlength=size * len(begins))
    return counts.reshape(len(begins), size)


def _captured(timeline: GpuTimeline) -> _Captured:
    """The launches that each capture recorded, in order."""
    calls = timeline.calls
    names = timeline.strings
    begins, ends = (
        np.array([bool(sign.search(name)) for name in names], dtype=np.bool_)[calls.name] for sign in (_BEGIN, _END)
    )
    nodes = np.array([not _NO_NODE.search(name) for name in names], dtype=np.bool_)[calls.name]
    purpose = purposes(calls.name, names)
    asynchronous = np.array(["Async" in name for name in names], dtype=np.bool_)[calls.name]
    launches = nodes & ((purpose == LAUNCH) | ((purpose == MEMCPY) & asynchronous))
    chosen: list[npt.NDArray[np.intp]] = []
    spans: list[tuple[int, int]] = []
    for begin in np.flatnonzero(begins).tolist():
        same = (calls.process == calls.process[begin]) & (calls.thread == calls.thread[begin])
        stop = np.flatnonzero(same & ends & (calls.start_ns >= calls.end_ns[begin]))
        if len(stop) == 0:
            continue
        within = same & launches & (calls.start_ns >= calls.end_ns[begin]) & (calls.start_ns < calls.start_ns[stop[0]])
        chosen.append(_outermost(timeline, np.flatnonzero(within)))
        spans.append((int(calls.start_ns[begin]), int(calls.end_ns[stop[0]])))
    rows = np.concatenate(chosen) if chosen else np.zeros(0, dtype=np.intp)
    bounds = np.cumsum([0, *(len(part) for part in chosen)]).tolist()
    kernel = calls.kernel[rows] if len(calls.kernel) else np.full(len(rows), NOWHERE, dtype=np.int32)
    places = np.arange(len(rows))
    captures = [
        _Capture(i, places[first:last], *span)
        for i, ((first, last), span) in enumerate(zip(pairwise(bounds), spans, strict=True))
    ]
    return _Captured(timeline, _without_outer_ranges(launch_tree(timeline, rows)), kernel, captures)


def _outermost(timeline: GpuTimeline, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Those of a thread's calls that lie in no other of them: a driver's call inside a runtime's is one launch."""
    if len(rows) == 0:
        return rows
    reach = np.maximum.accumulate(timeline.calls.end_ns[rows])
    outer: npt.NDArray[np.intp] = rows[np.r_[True, timeline.calls.start_ns[rows][1:] >= reach[:-1]]]
    return outer


def _without_outer_ranges(tree: LaunchTree) -> LaunchTree:
    """The tree without the ranges that hold all of a capture: `capture_32` says nothing of a replay."""
    kind, parent = tree.kind, tree.parent.copy()
    for i in range(len(parent)):
        above = int(parent[i])
        if above != NOWHERE and kind[above] == RANGE and parent[above] == NOWHERE:
            parent[i] = NOWHERE
    gone = np.flatnonzero((kind == RANGE) & (tree.parent == NOWHERE))
    return replace(tree, parent=parent, node=np.where(np.isin(tree.node, gone), NOWHERE, tree.node).astype(np.int32))


def _replays(timeline: GpuTimeline, rows: Int32, launched: Int64) -> list[npt.NDArray[np.intp]]:
    """Places in `rows` of each replay's activities, in the order of their nodes: of nodes' ids, else of time."""
    is_graph = np.array(["graphlaunch" in name.lower().replace("_", "") for name in timeline.strings], dtype=np.bool_)
    call = launched[rows]
    own = np.flatnonzero(call >= 0)
    own = own[is_graph[timeline.calls.name[call[own]]]]
    node = timeline.activities.graph_node[rows]
    replays = []
    for one in each_once(call[own]).tolist():
        places = own[call[own] == one]
        streams = timeline.activities.stream[rows[places]]
        if (streams != streams[0]).any() and (node[places] > 0).all():
            places = places[np.argsort(node[places], kind="stable")]
        replays.append(places)
    return replays


def _fitting(
    timeline: GpuTimeline, rows: Int32, captured: _Captured, turn: dict[int, int]
) -> tuple[_Capture, tuple[int, int], bool] | None:
    """The capture that a replay fits, how many kernels agree with a stated name and how many are stated, and whether
    number and order alone speak for it. Captures of one size take turns."""
    sized = [one for one in captured.captures if len(one.places) == len(rows)]
    if not sized:
        return None
    first = turn.get(len(rows), 0)
    turn[len(rows)] = first + 1
    ordered = sized[first % len(sized) :] + sized[: first % len(sized)]
    names = [timeline.strings[i] for i in timeline.activities.name[rows].tolist()]
    best: tuple[float, _Capture, tuple[int, int], bool] | None = None
    for one in ordered:
        stated = [captured.kernel[place] for place in one.places]
        said = [(name, captured.timeline.strings[i]) for name, i in zip(names, stated, strict=True) if i != NOWHERE]
        if said:
            agreed = sum(_same(name, text) for name, text in said)
            share, needed, figures = agreed / len(said), AGREE, (agreed, len(said))
        else:
            share, needed, figures = _plausible(names, captured, one), PLAUSIBLE, (0, 0)
        if share >= needed and (best is None or share > best[0]):
            best = (share, one, figures, not said)
    return None if best is None else best[1:]


def _same(name: str, stated: str) -> bool:
    """Whether two names are of one kernel; one of them may be mangled or cut."""
    shortest = min(len(name), len(stated))
    return name == stated or name.removesuffix(".kd")[:shortest] == stated.removesuffix(".kd")[:shortest]


def _plausible(names: list[str], captured: _Captured, one: _Capture) -> float:
    """The share of kernels that fit their operator, of those whose operator says what to expect; 1 where none does."""
    fits, asked = 0, 0
    for name, place in zip(names, one.places.tolist(), strict=True):
        operator = int(captured.tree.operator_name[place])
        if operator == NOWHERE:
            continue
        called = captured.tree.strings[operator]
        wanted = next((families for pattern, families in _EXPECTED if pattern.search(called)), None)
        if wanted is not None:
            asked += 1
            fits += family(name) in wanted
    return fits / asked if asked else 1.0


def _inside(tree: LaunchTree, node: int, around: list[str]) -> list[int]:
    """A node of a capture with all that it lies in, the outermost first, without the modules around the replay."""
    path = _up(tree.parent, node)
    modules = [step for step in path if tree.kind[step] == MODULE]
    same = 0
    while same < min(len(modules), len(around)) and tree.names[modules[same]] == around[same]:
        same += 1
    return [step for step in path if step not in modules[:same]]


def _up(parent: Sequence[int] | Int32, node: int) -> list[int]:
    """A node with all that it lies in, the outermost first."""
    path: list[int] = []
    while node != NOWHERE:
        path.append(node)
        node = int(parent[node])
    return path[::-1]
