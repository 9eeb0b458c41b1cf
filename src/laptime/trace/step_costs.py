"""The modal step's costs for what-if questions, and its drawing: taken from the step's own rows and gaps."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from laptime.trace.api import ALLOCATION, CAUSES, FREE, HOST, LAUNCH, MEMCPY, SYNCHRONIZE
from laptime.trace.causes import GapCauses
from laptime.trace.gaps import DeviceGaps, covered_ns, union_ns
from laptime.trace.kernel_names import compiled, family, short_name
from laptime.trace.name_marks import marked
from laptime.trace.operator_times import card_of
from laptime.trace.read.distinct import each_once
from laptime.trace.read.timeline import Activity, GpuTimeline, Int32, Int64
from laptime.trace.remedied import Replayed
from laptime.trace.result import StepDrawing
from laptime.trace.step_changes import FUSABLE
from laptime.trace.step_totals import RESIDUAL_NS, StepCosts
from laptime.trace.steps import StepFrame
from laptime.trace.transfers import collectives, transfers_ns

AWAY_NS = (200_000, 1_000_000)
"""A host that launches nothing for longer does something else: from the first where that is many times as long as
usual, from the second in any case."""

TIMES_USUAL = 20
"""How many times the usual time before a launch is too long for launching."""

OFTEN = 20
"""Gaps with host time that a step must have to say what is usual."""

LARGE_CARD_NS, _LARGE_CARD = (210, 430), re.compile(r"\b(G?H\d{2,3}|G?B\d00)\b")
"""The residual on Hopper's and Blackwell's cards for servers: 0.25 to 0.42 µs on an H200."""

ONE_GRAPH = 16
"""A step of graphs and more launches than these is in pieces that one graph could hold."""

SMALL_NS = 20_000
"""Longer kernels are not bound by launches: what fusing them saves can't be read from a trace."""

DRAWN = 20_000
"""Activities of a step that are drawn at most."""


def step_costs(
    timeline: GpuTimeline,
    gaps: DeviceGaps,
    causes: GapCauses,
    launched: Int64,
    frame: StepFrame,
    changes: Replayed | None = None,
) -> StepCosts | None:
    """The costs of the modal step; None without steps or where graphs hide the kernels.

    `changes`: the step's graph, which knows of other work of the host behind its waits.
    """
    steps = frame.steps
    if steps.wall_ns is None or steps.busy_ns is None or not steps.kernels_per_step:
        return None
    activities = timeline.activities
    kernels = frame.modal_rows[activities.kind[frame.modal_rows] == Activity.KERNEL]
    inside = _gaps_in_step(gaps, frame)
    spent = causes.time_ns[inside].astype(np.int64)
    layer = _layer_of(frame, len(kernels))
    outside_rows = kernels[layer < 0]
    length = gaps.gap_end_ns[inside] - gaps.gap_start_ns[inside]
    if frame.layer_run is not None:
        around = np.isin(gaps.after[inside], outside_rows) | np.isin(gaps.before[inside], outside_rows)
    else:
        around = length == length.max(initial=-1)
    waiting = spent[:, SYNCHRONIZE] + spent[:, MEMCPY]
    away = _away(spent[:, HOST], around if frame.layer_run is not None else np.ones(len(length), dtype=bool))
    if changes is not None and len(changes.graph.elsewhere_ns[0]):
        begins, ends = changes.graph.elsewhere_ns
        known = covered_ns(begins, ends, gaps.gap_start_ns[inside], gaps.gap_end_ns[inside])
        away = np.maximum(away, np.minimum(known, spent[:, HOST]))
    outside = np.where(around, length, np.maximum(waiting, away))

    call = launched[kernels]
    same = (call[1:] == call[:-1]) & (call[1:] >= 0)
    kernel_gap = activities.start_ns[kernels][1:] - np.maximum.accumulate(activities.end_ns[kernels])[:-1]
    card = card_of(timeline, gaps.device)
    residual = LARGE_CARD_NS if card is not None and _LARGE_CARD.search(card.name) else RESIDUAL_NS
    replayed = bool(len(same)) and float(same.mean()) >= 0.5
    graphed = replayed and len(each_once(call[call >= 0])) <= ONE_GRAPH and not _in_pieces(timeline, call, changes)
    if same.sum() >= 20:  # the trace's own replays say it
        typical = int(np.median(np.maximum(kernel_gap[same], 0)))
        residual = (round(typical * 0.6), round(typical * 1.1))  # the profiler stretches them
    duration = activities.end_ns[kernels] - activities.start_ns[kernels]
    alone = duration - _beside(timeline, frame.modal_rows, kernels)
    exposed = alone > 0.5 * duration
    movable = marked(
        activities.name[kernels], timeline.strings, lambda name: family(name) in FUSABLE and not compiled(name)
    )
    merged = _fusable(movable & (duration < SMALL_NS) & exposed)
    launching = spent[:, LAUNCH][spent[:, LAUNCH] > 0]
    rows = frame.modal_rows if changes is None else changes.graph.rows
    together = collectives(timeline, rows)
    if changes is None:
        transfers = transfers_ns(timeline, gaps, frame, rows)[0]
    else:
        lasts = activities.end_ns[rows] - activities.start_ns[rows]
        transfers = np.where(together, changes.graph.duration_ns, lasts)
    return StepCosts(
        wall_ns=steps.wall_ns,
        busy_ns=_own_busy_ns(timeline, rows, transfers, steps.busy_ns),
        kernels=len(kernels),
        allocation_ns=int(spent[:, ALLOCATION].sum() + spent[:, FREE].sum()),
        outside_ns=int(outside.sum()),
        fusable=int(merged.sum()),
        fusable_ns=int(np.minimum(alone, np.roll(alone, 1))[merged].sum()),
        fusable_gap_ns=int((length - away)[np.isin(gaps.after[inside], kernels[merged])].sum()),
        kept_ns=int(away.sum()),
        launch_ns=int(launching.min(initial=steps.wall_ns)) if len(launching) else 0,
        hidden=int(np.count_nonzero(~exposed)),
        graphed=graphed,
        replayed=replayed,
        residual_ns=residual,
        communicates=bool(together.any()),
        waiting_ns=int((activities.end_ns[rows] - activities.start_ns[rows] - transfers).clip(0).sum()),
        carried_ns=_carried_ns(timeline, gaps, frame),
    )


def _carried_ns(timeline: GpuTimeline, gaps: DeviceGaps, frame: StepFrame) -> int:
    """How long in the modal step the device works only on what began before it."""
    steps, activities = frame.steps, timeline.activities
    if steps.start_ns is None or steps.wall_ns is None or steps.busy_ns is None:
        return 0
    stop = steps.start_ns + steps.wall_ns
    low, high = np.searchsorted(activities.start_ns[gaps.rows], (steps.start_ns, stop))
    rows = gaps.rows[low:high]
    end = np.minimum(activities.end_ns[rows], stop)
    return max(steps.busy_ns - union_ns(activities.start_ns[rows], end), 0)


def _own_busy_ns(timeline: GpuTimeline, rows: Int32, transfers_ns: Int64, busy_ns: int) -> int:
    """The device's busy time without waiting for other ranks, with which a transfer's time begins.

    Args:
        timeline: the trace.
        rows: the step's activities.
        transfers_ns: how long each takes without that waiting.
        busy_ns: the busy time with it.
    """
    end = timeline.activities.end_ns[rows]
    alone, begun = end - transfers_ns, timeline.activities.start_ns[rows]
    if (alone <= begun).all():
        return busy_ns
    order = np.argsort(alone, kind="stable")
    return min(union_ns(alone[order], end[order]), busy_ns)


def _in_pieces(timeline: GpuTimeline, call: Int64, changes: Replayed | None) -> bool:
    """Whether a step has several graphs between which the host waits for nothing: one graph could hold them all.

    Args:
        timeline: the trace.
        call: the calls that launched the step's kernels, -1 without one.
        changes: the step's graph, which knows of the host's waits.
    """
    names = timeline.calls.name[each_once(call[call >= 0])]
    graphs = int(np.count_nonzero(marked(names, timeline.strings, lambda name: "GraphLaunch" in name)))
    return graphs > 1 and changes is not None and not changes.graph.waits.any()


def _away(host_ns: Int64, outside: npt.NDArray[np.bool_]) -> Int64:
    """Of each gap the host's time that is not spent on the way to a launch: long stretches among short ones.

    A host that launches eagerly needs about as long before each kernel. What is many times as long, and long in
    itself, is other work: it reads a batch, makes an image smaller, samples in Python. Between kernels of layers it
    must be longer to be more than a hiccup.

    Args:
        host_ns: of each gap the time in which the host was in no API call.
        outside: of each gap whether it lies outside the layers.
    """
    often = host_ns[host_ns > 0]
    usual = int(np.median(often)) if len(often) >= OFTEN else 0
    least = min(max(TIMES_USUAL * usual, AWAY_NS[0]), AWAY_NS[1]) if usual else AWAY_NS[1]
    # A host that needs a millisecond before every kernel is slow at launching.
    long = np.maximum(np.where(outside, least, AWAY_NS[1]), 2 * usual)
    return np.where(host_ns >= long, host_ns - usual, 0)


def _beside(timeline: GpuTimeline, rows: Int32, kernels: Int32) -> Int64:
    """For each kernel how much of it activities of other streams cover. `rows`: all activities of the step."""
    activities = timeline.activities
    result = np.zeros(len(kernels), dtype=np.int64)
    if (activities.stream[rows] == activities.stream[rows[:1]]).all():
        return result
    start, end = activities.start_ns[kernels], activities.end_ns[kernels]
    for stream in each_once(activities.stream[kernels]).tolist():
        own = activities.stream[kernels] == stream
        others = rows[activities.stream[rows] != stream]
        if len(others):
            other_end = np.maximum(activities.end_ns[others], activities.start_ns[others])
            result[own] = covered_ns(activities.start_ns[others], other_end, start[own], end[own])
    return result


def _fusable(movable: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Kernels that can be merged into the kernel before them: pairs of neighbours, none in two pairs.

    movable: the small ones that only move memory. What a compiler made it has merged already.
    """
    place = np.arange(len(movable))
    begins = np.maximum.accumulate(np.where(movable, -1, place))  # the last one that isn't
    second: npt.NDArray[np.bool_] = (place - begins) % 2 == 0
    return movable & second


def _gaps_in_step(gaps: DeviceGaps, frame: StepFrame) -> npt.NDArray[np.intp]:
    start = frame.steps.start_ns or 0
    end = start + (frame.steps.wall_ns or 0)
    return np.flatnonzero((gaps.gap_start_ns >= start) & (gaps.gap_end_ns <= end))


def _layer_of(frame: StepFrame, kernels: int) -> Int64:
    """The unit of layers that each kernel of the modal step belongs to, -1 outside."""
    layer = np.full(kernels, -1, dtype=np.int64)
    run = frame.layer_run
    if run is not None:
        stop = min(run.start + run.period * run.count, kernels)
        layer[run.start : stop] = np.arange(stop - run.start) // run.period
    return layer


def drawing(timeline: GpuTimeline, gaps: DeviceGaps, causes: GapCauses, frame: StepFrame) -> StepDrawing | None:
    """The modal step in columns for a page, None without steps."""
    steps = frame.steps
    if steps.start_ns is None or steps.wall_ns is None:
        return None
    activities = timeline.activities
    rows = frame.modal_rows[:DRAWN]
    used, local = np.unique(activities.name[rows], return_inverse=True)
    kernel = activities.kind[rows] == Activity.KERNEL
    layer = np.full(len(rows), -1, dtype=np.int64)
    if steps.layers is not None and steps.layers.known:  # a run that is not all of a step's layers has no numbers
        all_kernels = int((activities.kind[frame.modal_rows] == Activity.KERNEL).sum())
        layer[kernel] = _layer_of(frame, all_kernels)[: kernel.sum()]
    kind_of = {int(n): int(k) for n, k in zip(activities.name[rows], activities.kind[rows], strict=True)}
    inside = _gaps_in_step(gaps, frame)[:DRAWN]
    families = [
        {Activity.KERNEL: family(timeline.strings[i]), Activity.GRAPH: "graph"}.get(Activity(kind_of[int(i)]), "copy")
        for i in used
    ]
    return StepDrawing(
        wall_ns=steps.wall_ns,
        start_ns=(activities.start_ns[rows] - steps.start_ns).tolist(),
        duration_ns=(activities.end_ns[rows] - activities.start_ns[rows]).tolist(),
        stream=activities.stream[rows].tolist(),
        name=local.tolist(),
        names=[short_name(timeline.strings[i]) for i in used],
        families=families,
        layer=layer.tolist(),
        gap_start_ns=(gaps.gap_start_ns[inside] - steps.start_ns).tolist(),
        gap_duration_ns=(gaps.gap_end_ns[inside] - gaps.gap_start_ns[inside]).tolist(),
        gap_cause=[CAUSES[i] for i in causes.main[inside]],
        truncated=max(len(frame.modal_rows) - len(rows), 0),
    )
