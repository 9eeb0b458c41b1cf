"""What remedies can change in the modal step's graph: launches outside its layers, large copies, runs of kernels, and
host work that needs nothing of the device."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from laptime.trace.device_time import copy_direction
from laptime.trace.gaps import DeviceGaps
from laptime.trace.kernel_names import compiled, family
from laptime.trace.name_marks import counted_names, marked
from laptime.trace.operator_times import card_of
from laptime.trace.read.timeline import Activity, GpuTimeline, Int8, Int64
from laptime.trace.remedied import FIFTH_BYTES_PER_NS, LARGE_NS, PINNED_BYTES_PER_NS, Replayed
from laptime.trace.replay import replay_ns
from laptime.trace.step_graph import StepGraph, as_it_is, step_graph
from laptime.trace.step_host import LOADER
from laptime.trace.steps import StepFrame
from laptime.trace.transfers import transfers_ns

FUSABLE = frozenset({"elementwise", "norm", "copy", "rope"})
"""Families whose kernels move memory and little else: neighbours of these can be one kernel."""

MERGEABLE = FUSABLE | {"pooling"}
"""What a compiler merges: a mean over neighbours too."""

HEAVY = frozenset({"GEMM", "attention", "convolution"})
"""Families whose long kernels draw the most power."""

_STRIDED = re.compile(r"(?<!vectorized_)elementwise_kernel<|CatArray")
_LAYOUT = re.compile(r"nchwToNhwc|nhwcToNchw")
_DEPTHWISE = re.compile(r"conv_?depthwise", re.IGNORECASE)

_STATISTICS = re.compile(r"batch_?norm\w*(collect|reduce)", re.IGNORECASE)

_FIFTH = re.compile(r"\b(H\d{2,3}|B\d00)\b")
"""Cards whose link to the host is PCI Express 5."""

_INDEXED = re.compile(r"index_?(copy|put|fill|elementwise)|scatter", re.IGNORECASE)


MOST_INSIDE = 0.75
"""Where fewer of a step's kernels lie in its layers, it is no forward of which a graph would hold the layers alone."""


def step_changes(timeline: GpuTimeline, gaps: DeviceGaps, launched: Int64, frame: StepFrame) -> Replayed | None:
    """The modal step for replays; None where it has no graph.

    Args:
        timeline: the trace.
        gaps: the device's gaps.
        launched: for each activity the index of its call, -1 without one.
        frame: the steps.
    """
    traced = step_graph(timeline, gaps, launched, frame)
    if traced is None or frame.steps.wall_ns is None:
        return None
    of_transfers = transfers_ns(timeline, gaps, frame, traced.rows)
    shortest, longest = (np.minimum(lasts, traced.duration_ns) for lasts in of_transfers)
    graph = replace(traced, duration_ns=shortest)
    explained = replay_ns(as_it_is(traced))
    replayed = late = explained
    if (shortest < traced.duration_ns).any():  # else replays need no time anew
        replayed, late = (replay_ns(as_it_is(replace(traced, duration_ns=one))) for one in (shortest, longest))
    activities = timeline.activities
    copies, pinned = _copies(timeline, graph)
    away = graph.away_ns[0] + graph.away_ns[1] > 0
    return Replayed(
        graph=graph,
        base_ns=frame.steps.wall_ns,
        replayed_ns=replayed,
        explained_ns=explained,
        longer_ns=longest - shortest,
        waiting=explained / max(replayed, 1),
        late_ns=max(explained - late, 0),
        outside=_outside(timeline, graph, frame),
        copies=copies,
        pinned=pinned,
        bytes=activities.bytes[graph.rows],
        runs=_runs(timeline, graph),
        heavy=_of(timeline, graph, lambda name: family(name) in HEAVY),
        strided=_of(timeline, graph, lambda name: _STRIDED.search(name) is not None),
        layout=_of(timeline, graph, lambda name: _LAYOUT.search(name) is not None),
        softmax=_of(timeline, graph, lambda name: family(name) == "softmax"),
        depthwise=_of(timeline, graph, lambda name: _DEPTHWISE.search(name) is not None),
        loading=away & (bool(away.any()) and _loads(timeline, launched, graph)),
        link_bytes_per_ns=_link(timeline, gaps.device),
        grows=_grows(counted_names(activities.name[graph.rows], timeline.strings), frame),
    )


def _outside(timeline: GpuTimeline, graph: StepGraph, frame: StepFrame) -> npt.NDArray[np.bool_]:
    """Activities around which the host goes on launching where a graph holds the layers alone."""
    run, modal = frame.layer_run, frame.modal_rows
    kernel = timeline.activities.kind[modal] == Activity.KERNEL
    if run is None or run.period * run.count < MOST_INSIDE * int(kernel.sum()):
        return np.zeros(len(graph), dtype=np.bool_)
    before = np.cumsum(kernel) - 1  # the kernel that each belongs to
    out = (before < run.start) | (before >= run.start + run.period * run.count)
    own = np.isin(graph.rows, modal[out])
    return own | np.roll(own, 1)


def _copies(timeline: GpuTimeline, graph: StepGraph) -> tuple[Int8, npt.NDArray[np.bool_]]:
    """Large copies between host and device, 1 to the device and 2 to the host; and which are pinned already."""
    activities, rows = timeline.activities, graph.rows
    result, pinned = np.zeros(len(rows), dtype=np.int8), np.zeros(len(rows), dtype=np.bool_)
    for i in np.flatnonzero((activities.kind[rows] == Activity.MEMCPY) & (graph.duration_ns >= LARGE_NS)).tolist():
        way, memory = copy_direction(timeline.strings[activities.name[rows[i]]])
        result[i] = {"host to device": 1, "device to host": 2}.get(way, 0)
        pinned[i] = memory != "pageable"
    return result, pinned


def _link(timeline: GpuTimeline, device: int) -> tuple[float, float]:
    """What the card's link to the host carries."""
    card = card_of(timeline, device)
    return FIFTH_BYTES_PER_NS if card is not None and _FIFTH.search(card.name) else PINNED_BYTES_PER_NS


def _of(timeline: GpuTimeline, graph: StepGraph, holds: Callable[[str], bool]) -> npt.NDArray[np.bool_]:
    """Which of the step's activities are kernels whose name is such."""
    activities = timeline.activities
    of_kernel = activities.kind[graph.rows] == Activity.KERNEL
    result: npt.NDArray[np.bool_] = of_kernel & marked(activities.name[graph.rows], timeline.strings, holds)
    return result


def compiled_already(names: Mapping[str, int]) -> bool:
    """Whether a compiler made most of a step's small kernels: what else it holds can't be compiled, or was left out.

    names: how often each kernel runs.
    """
    made = sum(count for name, count in names.items() if compiled(name))
    others = sum(count for name, count in names.items() if not compiled(name) and family(name) in FUSABLE)
    return made > others


def _runs(timeline: GpuTimeline, graph: StepGraph) -> Int64:
    """Neighbours of fusable families on one stream have one number, all else -1. A reduction or a softmax next to them
    is of them, as a norm in single operators has one, and so is a copy within the device, which is how eager code makes
    a tensor contiguous. Statistics of a batch need all of it before what follows, and what a compiler made it has
    merged already."""
    kinds, names = timeline.activities.kind[graph.rows], timeline.activities.name[graph.rows]
    kernel = kinds == Activity.KERNEL
    if compiled_already(counted_names(names[kernel], timeline.strings)):
        return np.full(len(graph), -1, dtype=np.int64)

    def chosen(name: str, families: Container[str]) -> bool:
        return family(name) in families and not compiled(name) and not _STATISTICS.search(name)

    fusable = _of(timeline, graph, lambda name: chosen(name, MERGEABLE))
    inside = marked(names, timeline.strings, lambda name: copy_direction(name)[0] == "device to device")
    fusable |= (kinds == Activity.MEMCPY) & inside
    beside = np.r_[fusable[1:], False] | np.r_[False, fusable[:-1]]
    fusable |= beside & _of(timeline, graph, lambda name: chosen(name, ("reduce", "softmax")))
    begins = np.r_[True, ~fusable[:-1] | (graph.stream[1:] != graph.stream[:-1])]
    return np.where(fusable, np.cumsum(begins), -1).astype(np.int64)


def _grows(names: Mapping[str, int], frame: StepFrame) -> bool:
    """Whether each layer concatenates keys and values, and nothing writes at an index: a cache that grows."""
    layers = frame.steps.layers
    if layers is None or any(_INDEXED.search(name) for name in names):
        return False
    return sum(count for name, count in names.items() if "CatArray" in name) >= 2 * layers.count


def _loads(timeline: GpuTimeline, launched: Int64, graph: StepGraph) -> bool:
    """Whether most of the host's other work lies in ranges that are named as a data loader's."""
    calls, ranges = timeline.calls, timeline.ranges
    own = launched[graph.rows]
    own = own[own >= 0]
    away = graph.away_ns[0] + graph.away_ns[1]
    longest_away = int(away.max())  # it can lie before the first launch, or behind the last
    begins, ends = int(calls.start_ns[own].min()) - longest_away, int(calls.start_ns[own].max()) + longest_away
    named = np.array([bool(LOADER.search(name)) for name in timeline.strings], dtype=np.bool_)
    if not named.any() or not len(ranges.name):
        return False
    inside = named[ranges.name] & (ranges.end_ns > begins) & (ranges.start_ns < ends)
    longest = int((ranges.end_ns - ranges.start_ns)[inside].max(initial=0))
    return longest > 0.5 * int(away.sum())
