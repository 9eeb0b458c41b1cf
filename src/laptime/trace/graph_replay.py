"""A step as a graph: its kernels close together, the host's other work and its waits as they were.

Kernels of several streams share the device, a memset takes longer to reach than a kernel, and a graph that holds copies
takes longer to launch.
"""

from __future__ import annotations

import msgspec
import numpy as np
from msgspec.structs import replace

from laptime.trace.device_time import COMPUTE, COPY, MEMSET
from laptime.trace.read.distinct import each_once
from laptime.trace.read.timeline import Int64
from laptime.trace.remedied import AWAY, HOT, HOT_NS, Remedied, Replayed
from laptime.trace.replay import Timing, begun_ns, replay_ns

GRAPH_LAUNCH_NS = (18_000, 26_000)
"""What the launch of a graph adds behind host work and waits, until it is on its way to the device."""

GRAPH_LATENCY_NS = 4_000
"""And from there to the device, at least."""

GROWN = 1.2
"""Kernel time with a cache of fixed size at most, in multiples of that with a growing one: 8.2 and 8.45 ms were
measured on an H200 for the graph of a step with 6.2 ms of kernels."""

CROWDED, CROWDED_LONG = (0.0, 0.4), (0.6, 1.0)
"""How much of compute that a graph would put beside other compute lengthens the step, of short kernels and
of long ones: they share the device, and a long one fills it."""

BESIDE_NS = (1_500, 1_650)
"""How often a graph of several streams begins a kernel at most: every 1.56 and 1.59 µs were measured on an H200."""

MEMSET_NS = (500, 2_500)
"""What a graph takes to go from a kernel to a memset and on."""

LEAST_RESIDUAL = 0.4
"""What remains between two kernels in any case, in shares of the lower residual."""

GRAPH_COPY_NS = 6_000
"""What a copy adds to the launch of a graph at most: a graph of kernels alone is launched at once."""

GRAPH_KERNEL_NS, GRAPH_KERNELS_NS = 250, 40_000
"""What each of its kernels adds to that at most, and all of them: behind a wait 1,076 kernels took 0.1 ms on an H200 to
come to the device, 290 others 0.15 to 0.2 ms."""


def floor_ns(step: Replayed, busy_share: float = 1.0) -> int:
    """The critical path without launches: device work in its order, other host work, and the waits before it.

    Args:
        step: the step.
        busy_share: what is left of the device's work.
    """
    timing = floor_timing(step)
    return replay_ns(replace(timing, duration_ns=np.round(timing.duration_ns * busy_share).astype(np.int64)))


def _at_best(step: Replayed) -> Replayed:
    """The step with the least other host work that its untraced time allows."""
    scale = min(away for _, away in step.other_scales) * AWAY[0] if step.other_scales else step.away_scale
    return replace(step, away_scale=scale)


def _at_worst(step: Replayed) -> Replayed:
    """The step with the most of it."""
    return replace(step, away_scale=AWAY[1] * max((away for _, away in step.other_scales), default=step.away_scale))


class GraphTimings(msgspec.Struct, frozen=True, eq=False):
    """A step's times as a graph: what nothing goes below, at best, at worst, and at worst before kernels get hot."""

    least: Timing
    best: Timing
    worst: Timing
    cold: Timing


def floor_timing(step: Replayed) -> Timing:
    """The step without launches."""
    return _captured(_at_best(step), (0, 0), 0)


def graph_launch_ns(step: Replayed) -> tuple[int, int]:
    """What the launch of the step's graph adds behind a wait or other host work, at best and at worst."""
    kind = step.graph.kind
    kernels = min(GRAPH_KERNEL_NS * int(np.count_nonzero(kind == COMPUTE)), GRAPH_KERNELS_NS)
    return GRAPH_LAUNCH_NS[0], GRAPH_LAUNCH_NS[1] + GRAPH_COPY_NS * int(np.count_nonzero(kind == COPY)) + kernels


def graph_timings(step: Replayed, residual_ns: tuple[int, int]) -> GraphTimings:
    """The step's times as one graph, or several where the host works or waits in between."""
    graph = step.graph
    best = _at_best(step)
    soon = (GRAPH_LAUNCH_NS[0], min(GRAPH_LATENCY_NS, graph.latency_ns))
    launch = (graph_launch_ns(step)[1], graph.latency_ns)
    timing = _captured(_at_worst(step), launch, residual_ns[1], MEMSET_NS[1])
    hot = step.heavy & (graph.duration_ns >= HOT_NS)
    heated = np.round(timing.duration_ns * np.where(hot, HOT[1], 1.0)).astype(np.int64) + step.longer_ns
    return GraphTimings(
        _captured(best, (0, 0), round(LEAST_RESIDUAL * residual_ns[0])),
        _captured(best, soon, residual_ns[0], MEMSET_NS[0]),
        replace(timing, duration_ns=heated),
        timing,
    )


def graph_range(step: Replayed, residual_ns: tuple[int, int]) -> Remedied:
    """The step as one graph, or several where the host works or waits in between: at best and at worst."""
    missed = max(step.missed_ns, 0)  # an order that the replay doesn't know of
    timings = graph_timings(step, residual_ns)
    least, low = replay_ns(timings.least), replay_ns(timings.best)
    high = replay_ns(timings.worst) + step.late_ns + missed + grown_ns(step)
    low, high = (end + more for end, more in zip((low, high), crowded_ns(step, timings, (low, high)), strict=True))
    return Remedied(low, max(high, low), least)


def grown_ns(step: Replayed) -> int:
    """What a cache of fixed size adds to the device's work at most, where the step has one that grows."""
    return round((GROWN - 1) * int(step.graph.duration_ns.sum())) if step.grows else 0


def crowded_ns(step: Replayed, timings: GraphTimings, ends_ns: tuple[int, int]) -> tuple[int, int]:
    """What kernels of several streams add to each other in a graph, to its two ends."""
    low, high = (
        _crowding(step, end, begun_ns(replayed), shares, pace)
        for end, replayed, shares, pace in zip(
            ends_ns, (timings.best, timings.cold), zip(CROWDED, CROWDED_LONG, strict=True), BESIDE_NS, strict=True
        )
    )
    return low, high


def _crowding(step: Replayed, end_ns: int, begun: Int64, shares: tuple[float, float], pace_ns: int) -> int:
    """What kernels of several streams add to each other in a graph.

    They share the device, and it begins one kernel after another.

    Args:
        step: the step.
        end_ns: how long it lasts when they don't.
        begun: when its activities begin then, in ns and in order.
        shares: how much of what lies side by side lengthens the step, of short and of long kernels.
        pace_ns: from one beginning to the next.
    """
    graph = step.graph
    computes = graph.kind == COMPUTE
    if len(each_once(graph.stream[computes])) < 2:
        return 0
    duration = graph.duration_ns[computes]
    busy = max(float(duration.sum()), 1.0)
    filling = float(duration[duration >= HOT_NS].sum()) / busy
    share = shares[0] + filling * (shares[1] - shares[0])
    in_turn = np.sort(begun % max(end_ns, 1))  # a step overlaps with the next
    waiting = np.arange(len(in_turn)) * pace_ns
    paced = int((waiting + np.maximum.accumulate(in_turn - waiting))[-1] - in_turn[-1])
    return max(round(share * max(busy - end_ns, 0.0)), paced)


def outside_ns(step: Replayed, residual_ns: tuple[int, int]) -> int:
    """What a step gets longer by where a graph holds its layers alone and the host launches the rest as now."""
    launch = (GRAPH_LAUNCH_NS[1], step.graph.latency_ns)
    whole, layers = (
        replay_ns(_captured(step, launch, sum(residual_ns) // 2, outside=outside)) for outside in (False, True)
    )
    return max(layers - whole, 0)


def _captured(
    step: Replayed, launch_ns: tuple[int, int], residual_ns: int, memset_ns: int = 0, *, outside: bool = False
) -> Timing:
    """The step's times once graphs launch.

    Args:
        step: the step.
        launch_ns: host time of the graph's launch, and from there to the device's work.
        residual_ns: between two of its kernels.
        memset_ns: what a memset adds.
        outside: whether the launches outside the layers stay.
    """
    graph = step.graph
    away = [np.round(part * step.away_scale).astype(np.int64) for part in graph.away_ns]
    stays = step.outside & outside
    kept = (graph.waits > 0) & ((away[1] > 0) | stays)
    if not kept.any() and (graph.waits > 0).any():  # a program that waits once a step goes on doing so
        behind = np.where(graph.waits > 0, graph.launching_ns[0] + graph.launching_ns[1], -1)
        kept[0 if graph.waits[0] else int(behind.argmax())] = True
    launching = [
        np.where(stays, np.round(part * step.launching_scale), 0).astype(np.int64) for part in graph.launching_ns
    ]
    anew = np.where(kept | (away[0] + away[1] > 0), launch_ns[0], 0)
    return Timing(
        duration_ns=graph.duration_ns + np.where(graph.kind == MEMSET, memset_ns, 0),
        stream=graph.stream,
        host_ns=(away[0] + launching[0], away[1] + launching[1] + anew),
        waits=np.where(kept, graph.waits, 0),
        after=graph.after,
        latency_ns=launch_ns[1],
        residual_ns=residual_ns,
    )
