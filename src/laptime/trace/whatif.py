"""What a remedy would make of the modal step: ranges that say what they assume, each with its floor.

The model has five parts. Busy time stays (fusion alone shortens it, and only where nothing else runs beside the
kernels). Long host work between launches stays whatever it is called: a graph launches for the host, it does not read
images for it. Gap time spent in allocation and free goes
with a buffer pool. Gap time of launching goes with a CUDA graph, but a residual between its kernels stays; gaps
around kernels that a graph of the model's forward doesn't hold stay too, at worst. Tracing itself stretches the
gaps: with the step's untraced time given, all gaps are scaled to it. A combination is computed from what its
last member leaves, never by adding savings up.

The residual: 0.24 µs a kernel on an H200 (504 kernels, 4.13 ms in a 4.25 ms replay), 0.8 µs and 1.3 µs on a
consumer Blackwell card: 0.2 to 0.8 µs unless the trace itself has replays to measure it in.
"""

from __future__ import annotations

import msgspec

from laptime.errors import LaptimeError
from laptime.trace.given_time import beside_traced
from laptime.trace.graph_replay import floor_ns, graph_launch_ns, graph_range, outside_ns
from laptime.trace.remedied import (
    Remedied,
    Replayed,
    compile_range,
    overlap_range,
    workers_range,
)
from laptime.trace.result import WhatIf, unexplained
from laptime.trace.step_totals import StepCosts
from laptime.trace.tolerance import REACHES, RECORD, tolerated
from laptime.trace.untraced_step import untraced

HARDLY_NS = 10
"""A shorter gap between two kernels is within the clock's grain."""

SHORTEST = 0.95
"""A measured step this much shorter than the traced GPU work is one of the same: the profiler slows kernels too."""

WORTH = 0.97
"""A remedy that leaves more of the step than this at best is not worth a row."""

NOTED = 0.005
"""A graph of the layers alone is spoken of where it leaves more than this share of the step more."""

HIDES = 0.1
"""The host's other work runs beside the device's where a step can hide more than this share of it."""

WIDEST = {"compile": 0.2, "workers": 0.35, "overlap": 0.35, "graph": 0.3}
"""A range whose ends are further from its middle than this says too little to be a row. Of five compiled programs with
wider ones two ended outside. A graph's is so wide only where transfers can't be told from waiting for other ranks."""

GRAPH_LAUNCH_NS = (0, 15_000)
"""What one replay's launch adds to a step when nothing hides it."""

POOL_SAVES = (0.7, 1.15)
"""What a pool takes out of the gaps, in multiples of the allocation and free calls' time: its own bookkeeping
stays, the host code around those calls goes with them."""

FUSION_GAP = (0.85, 1.0)
"""Share of the usual gap before a kernel that goes with the kernel, when the host is what the GPU waits for."""

FUSION_KERNEL = (0.3, 2.0)
"""Kernel time saved by merging two kernels, in multiples of the shorter one: at best its result is neither
written nor read again."""


FUSED_NS = 1_500
"""Gap and start of a kernel that goes with it, at most: measured on a consumer card."""


ASSUMES = {
    "graph": "static shapes, preallocated buffers, no wait of the host inside; it holds all kernels of the step",
    "compile": "torch.compile without a graph: neighbouring elementwise, norm, rope and copy kernels become one",
    "workers": "worker processes load the data, fast enough, while the step before runs",
    "overlap": "pinned memory; large copies are made on streams of their own, a step ahead",
}
"""What a remedy is, and needs."""

TRACED = "compared with the traced step; to start from the untraced one, give its time (--tpot, in Python tpot_ms)"


def what_if(
    costs: StepCosts,
    untraced_ns: int | None = None,
    step: Replayed | None = None,
    *,
    compared: str = TRACED,
    longest_ns: int = 0,
) -> list[WhatIf]:
    """The remedies that apply, each against the step as it is (untraced, when that time is given).

    Args:
        costs: the modal step.
        untraced_ns: the step's time without the profiler.
        step: its dependency graph; without one the step counts as one stream that the host launches.
        compared: what a saving is compared with where the untraced time is not given.
        longest_ns: how long the long ones among the usual steps take, where that is more than this one.

    Raises:
        LaptimeError: when the untraced time is shorter than the step's GPU work.
    """
    if costs.busy_ns <= 0:
        return []  # kernels of no time at all: nothing that is left can be said
    base = costs.wall_ns if untraced_ns is None else untraced_ns
    contradicted = untraced_ns is not None and untraced_ns < SHORTEST * costs.busy_ns
    if contradicted and not costs.waits:  # kernels beside communication that waits take longer, too
        raise LaptimeError(
            f"the given time of a token, {base / 1e6:g} ms, is shorter than the {costs.busy_ns / 1e6:.3f} "
            "ms that the GPU works in a step of this trace; give the time per token of the same configuration, "
            "measured without the profiler"
        )
    unknown = costs.waits and step is not None and unexplained(costs.wall_ns, step.explained_ns)
    base = base if contradicted else max(base, costs.busy_ns)
    if step is not None and not contradicted and untraced_ns is not None:
        step = untraced(step, base)
    rows = []
    if untraced_ns is not None:
        note = beside_traced(base, costs.wall_ns, max(longest_ns, costs.wall_ns))
        rows.append(row_of("untraced", base, (base, base), base, [note]))
    if contradicted or unknown or costs.carries:
        return rows
    taxed = compared
    if untraced_ns is not None:
        taxed = "the profiler's own time is left out of the gaps in proportion"
        if base > costs.wall_ns:
            taxed = "compared with the time that was given, which is longer than the traced one"
    least = floor(costs, base) if step is None else min(floor_ns(step) + costs.launch_ns, base)
    left = _least_busy(costs) / costs.busy_ns
    least_fused = floor(costs, base, fused=True)
    if step is not None:
        least_fused = min(max(floor_ns(step, left), 1) + costs.launch_ns, base)
    if costs.allocation_ns > 0 and not costs.waits:
        low, high = buffers(costs, base)
        spent = f"the {costs.allocation_ns / 1e6:.2f} ms of gap time in allocation and free"
        around = f"{(POOL_SAVES[1] - 1) * 100:.0f} % of that in host code around those calls"
        share = f"{POOL_SAVES[0] * 100:.0f} % to all of {spent} goes, and at best another {around}"
        rows.append(row_of("buffers", base, (low, high), min(least, low), [share, taxed]))
    if costs.fusable and not costs.waits:
        low, high = fusion(costs, base)
        note = f"{costs.fusable} elementwise, norm or copy kernels are merged into the neighbour before them"
        rows.append(row_of("fusion", base, (low, high), min(least_fused, low), [note, taxed]))
    if not costs.graphed and (step is not None or not costs.waits):
        rows += _graph_rows(costs, step, base, (least, least_fused))
    if step is not None:
        rows += _replayed(costs, step, base, taxed)
    return rows


def _graph_rows(costs: StepCosts, step: Replayed | None, base: int, least_ns: tuple[int, int]) -> list[WhatIf]:
    """The step as a graph, alone and with fusion; none where waiting for other ranks leaves too wide a range.

    Args:
        costs: the modal step.
        step: its dependency graph.
        base: the step as it is.
        least_ns: what no remedy of this kind goes below, without and with fusion.
    """
    least, least_fused = least_ns
    made = graph_range(step, costs.residual_ns) if step is not None else _graphed(costs, base, least)
    promised = tolerated(made, "graph")
    low, high = within((promised.low_ns, promised.high_ns), least, base)
    if step is not None and step.longer_ns.any() and high - low > WIDEST["graph"] * (high + low):
        return []
    residual = f"{costs.residual_ns[0] / 1e3:g} to {costs.residual_ns[1] / 1e3:g} µs stay between two kernels"
    if costs.residual_ns[1] < HARDLY_NS:
        residual = "its kernels follow one another with hardly a gap, as they do in the replays of this trace"
    launch = GRAPH_LAUNCH_NS if step is None else graph_launch_ns(step)
    launching = f"behind a wait or other host work its launch adds {launch[0] / 1e3:.0f} to {launch[1] / 1e3:.0f} µs"
    notes = [residual, launching, ASSUMES["graph"]]
    if costs.kept_ns:
        notes.append(_kept_words(costs, base, least))
    if costs.communicates:
        notes.append("on every rank; no other rank then takes longer than this one")
    notes += [REACHES, RECORD]
    more = min(outside_ns(step, costs.residual_ns) if step is not None else costs.outside_ns, base - high)
    if more > NOTED * base:
        notes.append(f"a graph of the layers alone leaves up to {more / 1e6:.2f} ms more")
    graph_row = row_of("graph", base, (low, high), least, notes)
    rows = [msgspec.structs.replace(graph_row, outside_ns=max(more, 0))]
    if costs.fusable:
        low, high = graph_and_fusion(costs, (low, high), least_fused)
        note = (
            f"in the graph {costs.fusable} elementwise, norm or copy kernels are merged into the neighbour before them,"
            " which saves part of their time and what stays between; launch gaps are gone with the graph already"
        )
        fused = row_of("graph+fusion", base, (low, high), least_fused, [note])
        rows.append(msgspec.structs.replace(fused, outside_ns=max(more, 0)))
    return rows


def _replayed(costs: StepCosts, step: Replayed, base: int, taxed: str) -> list[WhatIf]:
    """The remedies that only a replay can tell, where they may win anything worth it.

    Compiling without a graph would give up the graphs that a step has. Of several ranks the slowest one's loader
    decides, and this trace doesn't show the others'.
    """
    ways = (
        ("compile", None if costs.replayed else compile_range(step)),
        ("workers", None if costs.communicates else workers_range(step)),
        ("overlap", overlap_range(step)),
    )
    rows = []
    for remedy, ends_of in ways:
        if ends_of is None:
            continue
        made = tolerated(ends_of, remedy)
        ends = within((made.low_ns, made.high_ns), made.floor_ns, base)
        if costs.waits and ends[1] > WORTH * base:  # what it leaves less at best may all be waiting
            continue
        if ends[0] < WORTH * base and ends[1] - ends[0] <= WIDEST[remedy] * (ends[1] + ends[0]):
            rows.append(row_of(remedy, base, ends, min(made.floor_ns, base), [ASSUMES[remedy], taxed, REACHES, RECORD]))
    return rows


def within(ends: tuple[int, int], least: int, base: int) -> tuple[int, int]:
    """A range that neither goes below the floor nor above the step as it is."""
    low = min(max(ends[0], least), base)
    return low, min(max(ends[1], low), base)


def row_of(remedy: str, base: int, ends: tuple[int, int], floor_ns: int, assumptions: list[str]) -> WhatIf:
    """A remedy's range, and its speed-up over the step as it is."""
    low, high = ends
    return WhatIf(
        remedy=remedy,
        step_ns_low=low,
        step_ns_high=high,
        speedup_low=round(base / high, 4),
        speedup_high=round(base / low, 4),
        floor_ns=floor_ns,
        assumptions=assumptions,
    )


def floor(costs: StepCosts, base_ns: int, *, fused: bool = False) -> int:
    """What no remedy of this kind goes below: the device's own work, the host's other work and one launch.

    Args:
        costs: the modal step.
        base_ns: the step as it is.
        fused: whether the remedy merges kernels.
    """
    busy = _least_busy(costs) if fused else costs.busy_ns
    return min(busy + _kept(costs, base_ns) + costs.launch_ns, base_ns)


def _kept(costs: StepCosts, base_ns: int) -> int:
    """The host's other work, without the profiler's share when the untraced time is known."""
    return round(costs.kept_ns * _scale(costs, base_ns))


def _kept_words(costs: StepCosts, base_ns: int, least_ns: int) -> str:
    """What becomes of the host's other work under a graph.

    Args:
        costs: the modal step.
        base_ns: the step as it is.
        least_ns: what a graph doesn't go below: where that is less than both works in turn, they overlap.
    """
    words = f"the {costs.kept_ns / 1e6:.2f} ms in which the host works on something else stay"
    in_turn = costs.busy_ns + (1 - HIDES) * _kept(costs, base_ns)
    return words if least_ns >= in_turn else f"{words}, but can run beside the GPU's work, as launches run ahead"


def _scale(costs: StepCosts, base_ns: int) -> float:
    """How much of a traced gap is there without the profiler."""
    return min((base_ns - costs.busy_ns) / costs.gap_ns, 1.0) if costs.gap_ns > 0 else 1.0


def buffers(costs: StepCosts, base_ns: int) -> tuple[int, int]:
    """The step with preallocated buffers: (low, high) ns. How the tax falls on allocation calls is not known, so
    at best they kept their traced time and all of it goes."""
    gap = base_ns - costs.busy_ns
    most = min(costs.allocation_ns * POOL_SAVES[1], max(gap - _kept(costs, base_ns) - costs.launch_ns, 0))
    least = costs.allocation_ns * _scale(costs, base_ns) * POOL_SAVES[0]
    return round(base_ns - most), round(base_ns - min(least, most))


def graph(costs: StepCosts, base_ns: int) -> tuple[int, int]:
    """The step as one graph replay: (low, high) ns; never above the step as it is. It holds no allocations, so a
    buffer pool is part of it."""
    kept = _kept(costs, base_ns)
    least_launch = max(GRAPH_LAUNCH_NS[0], costs.launch_ns)
    low = costs.busy_ns + costs.in_turn * costs.residual_ns[0] + least_launch + kept
    stays = max(costs.outside_ns, costs.kept_ns) * _scale(costs, base_ns)
    high = costs.busy_ns + costs.in_turn * costs.residual_ns[1] + max(GRAPH_LAUNCH_NS[1], least_launch) + stays
    return round(min(low, base_ns)), round(min(max(high, low), base_ns))


def _graphed(costs: StepCosts, base_ns: int, least_ns: int) -> Remedied:
    low, high = graph(costs, base_ns)
    return Remedied(low, high, min(least_ns + costs.in_turn * costs.residual_ns[0] // 2, low))


def fusion(costs: StepCosts, base_ns: int) -> tuple[int, int]:
    """The step with fewer launches, everything else as it is: (low, high) ns."""
    gap = costs.fusable_gap_ns * _scale(costs, base_ns)
    most = gap * FUSION_GAP[1] + costs.fusable_ns * FUSION_KERNEL[1]
    least = gap * FUSION_GAP[0] + costs.fusable_ns * FUSION_KERNEL[0]
    low = round(max(base_ns - most, floor(costs, base_ns, fused=True)))
    return low, max(round(base_ns - least), low)


def fusion_saving_in_graph(costs: StepCosts) -> tuple[int, int]:
    """What merging the fusable kernels takes off a replayed step: (low, high) ns."""
    low = costs.fusable * costs.residual_ns[0] + costs.fusable_ns * FUSION_KERNEL[0]
    high = costs.fusable * max(costs.residual_ns[1], FUSED_NS) + costs.fusable_ns * FUSION_KERNEL[1]
    return round(low), round(high)


def graph_and_fusion(costs: StepCosts, graphed: tuple[int, int], least_ns: int) -> tuple[int, int]:
    """A replayed step with fewer kernels: (low, high) ns.

    The same residual holds for the kernels that stay and for those that go, so each end is computed whole.

    Args:
        costs: the modal step.
        graphed: the step as a graph.
        least_ns: what no remedy of this kind goes below.
    """
    low, high = graphed
    best = costs.fusable * costs.residual_ns[0] + costs.fusable_ns * FUSION_KERNEL[1]
    worst = costs.fusable * costs.residual_ns[1] + costs.fusable_ns * FUSION_KERNEL[0]
    low = round(max(low - best, least_ns))
    return low, max(round(high - worst), low)


def _least_busy(costs: StepCosts) -> int:
    """Kernel time that fusion leaves at best."""
    return max(round(costs.busy_ns - costs.fusable_ns * FUSION_KERNEL[1]), 1)
