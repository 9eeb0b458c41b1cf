"""A step's dependency graph under each remedy: what is changed in it, at best and at worst, and how long it then lasts.

What stays whatever is done: the device's own work in the order of its streams, the host's other work, and the waits
before it. Where launching stays (workers, copies beside the compute, compiling) the saving is the difference between
two replays, so that what a replay misses of the step as it is doesn't enter.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from laptime.trace.read.timeline import Int8, Int64
from laptime.trace.replay import Timing, replay_ns
from laptime.trace.step_graph import StepGraph, as_it_is

Bools = npt.NDArray[np.bool_]

FETCH_NS = (600_000, 1_300_000)
"""What it takes to receive a batch that a worker made: 0.75 to 1.35 ms were traced, whatever its size."""

LARGE_NS = 50_000
"""Shorter copies are not worth a stream of their own."""

PINNED_BYTES_PER_NS, FIFTH_BYTES_PER_NS = (55.0, 20.0), (55.5, 48.0)
"""What a link carries from pinned memory where the trace shows pageable copies only: high, low; and a link of PCI
Express 5, 51 to 55 on an H200."""

UNKNOWN_COPY = (0.1, 1.0)
"""What is left of a pageable copy's time where its size is not known."""

CONTENTION = (1.0, 1.05)
"""Compute beside copies, in multiples of its time alone: they share memory."""

HOT = (1.0, 1.14)
"""GEMMs, attention and convolutions once the device no longer rests between them, in multiples of their time in the
trace: it draws more power and clocks lower. 1.10 to 1.16 were measured on an H200."""

HOT_NS = 20_000
"""Shorter kernels don't heat it."""

AWAY = (0.87, 1.13)
"""Other host work, in multiples of what the one step that is shown took for it: 0.78 to 1.17 were measured of the same
work, of pictures in Pillow and numpy, a spectrogram, a search and a simulation in Python."""

LAUNCHED = (0.93, 1.07)
"""A step that the host goes on launching, likewise."""

MERGED = (0.0, 0.02, 0.11)
"""What merging a run of kernels leaves of all but its longest: never less than, low, high."""

STRIDED = (0.28, 0.28, 0.5)
"""What a compiler makes of a kernel that reads or writes element by element, in shares of its time: never less than,
low, high."""

SOFTMAX = (0.28, 0.7, 2.9)
"""The same of a softmax between such kernels. On an H200 it and its neighbours became one kernel of 0.74 to 2.8 of its
own time: where a mask is made beside it, compiled code makes the mask anew in each pass over a row."""

LAYOUT = (0.0, 0.2, 1.0)
"""The same of what only changes a layout around a convolution: a compiler may choose one layout for all."""

DEPTHWISE = (0.28, 0.7)
"""The same of a convolution by channel, where it may choose another layout."""

COMPILED_LAUNCH = (0.35, 0.95)
"""What a launch by compiled code takes, in multiples of an eager launch's host time."""

COMPILED_CALL_NS = (20_000, 200_000)
"""What entering compiled code takes: its guards."""

SAME = 0.98
"""The device's own work beside copies, in multiples of that in the trace, at least: it differs from run to run."""

JITTER = (0.98, 1.02)
"""What remains uncertain of a step in which the host goes on launching."""


class Replayed(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """A step's graph, and what remedies need to know of its activities. Columns as in StepGraph.

    In the graph communication takes the time of its transfer. `waiting` is the traced step in multiples of its replay
    with the shortest transfers: other ranks are taken to be so much slower in all that they do.
    """

    graph: StepGraph
    base_ns: int  # the step as it is, untraced where that is known
    replayed_ns: int  # what its replay takes
    explained_ns: int  # what the replay of the traced step takes, with its waiting for other ranks
    longer_ns: Int64  # how much longer than in the graph a transfer takes at worst
    waiting: float = 1.0
    late_ns: int = (
        0  # waiting that no transfer explains: at worst other ranks do other work than launching, and it stays
    )
    launching_scale: float = 1.0  # untraced launching in shares of the traced
    away_scale: float = 1.0  # likewise of other host work
    other_scales: tuple[tuple[float, float], ...] = ()  # both, where the profiler stretched launching less, and more
    outside: Bools  # the host goes on launching where a graph holds the layers alone
    copies: Int8  # large ones between host and device: 1 to the device, 2 to the host; else 0
    pinned: Bools
    bytes: Int64  # -1 where unknown
    runs: Int64  # the run of mergeable kernels that an activity belongs to, -1 for none
    heavy: Bools  # GEMMs, attention and convolutions
    strided: Bools  # kernels that work element by element
    softmax: Bools
    layout: Bools  # kernels that only change a layout
    depthwise: Bools
    loading: Bools  # a data loader works before the launch
    link_bytes_per_ns: tuple[float, float] = PINNED_BYTES_PER_NS  # from pinned memory: high, low
    grows: bool = False  # a cache is concatenated: a graph needs one of fixed size, whose kernels read all of it

    @property
    def missed_ns(self) -> int:
        """By how much the step lasts longer than its replay and the waiting for other ranks explain."""
        return self.base_ns - round(self.replayed_ns * self.waiting)

    @property
    def longer_at(self) -> tuple[Int64, Int64]:
        """How much longer a transfer takes at best and at worst."""
        return np.zeros_like(self.longer_ns), self.longer_ns

    def as_it_is(self) -> Timing:
        """The step without the profiler's share of host time."""
        graph = self.graph
        host = [
            np.round(launching * self.launching_scale + away * self.away_scale).astype(np.int64)
            for launching, away in zip(graph.launching_ns, graph.away_ns, strict=True)
        ]
        return replace(as_it_is(graph), host_ns=(host[0], host[1]))


TO_HOST = 2
"""What `Replayed.copies` has for a copy to the host."""


class Remedied(msgspec.Struct, frozen=True):
    """A step under a remedy in ns: at best, at worst, and what nothing goes below."""

    low_ns: int
    high_ns: int
    floor_ns: int


class Ends(msgspec.Struct, frozen=True, eq=False):
    """A step's times under a remedy: what nothing goes below, at best, at worst."""

    least: Timing
    best: Timing
    worst: Timing
    same: float = 1.0  # the device's own work, in multiples of that in the trace, at least
    varies: tuple[float, float] = (1.0, 1.0)  # the step with it, in multiples of what its replays give


def workers_range(step: Replayed) -> Remedied | None:
    """The step when workers load its data; None where no data loader is named."""
    return _by_saving(step, workers_ends(step))


def workers_ends(step: Replayed) -> Ends | None:
    """Its times then."""
    own = step.loading
    if not np.where(own, step.graph.away_ns[0] + step.graph.away_ns[1], 0).any():
        return None
    less, more = step.other_scales or ((step.launching_scale, step.away_scale),) * 2
    ends = []
    for fetch, (launching, scale), longer in zip(FETCH_NS, (more, less), step.longer_at, strict=True):
        away = [np.where(own, np.round(part * scale), 0).astype(np.int64) for part in step.graph.away_ns]
        timing = replace(step, launching_scale=launching, away_scale=scale).as_it_is()
        before, behind = (spent - part for spent, part in zip(timing.host_ns, away, strict=True))
        anew = np.where(away[0] + away[1] > 0, np.minimum(fetch, away[0] + away[1]), 0)
        ends.append(replace(timing, duration_ns=timing.duration_ns + longer, host_ns=(before, behind + anew)))
    return Ends(_without_launching(step, ends[0]), ends[0], ends[1], varies=LAUNCHED)


def overlap_range(step: Replayed) -> Remedied | None:
    """The step when large copies are pinned and run on streams of their own; None without such copies."""
    return _by_saving(step, overlap_ends(step))


def overlap_ends(step: Replayed) -> Ends | None:
    """Its times then. What the host waits for and then works on is copied as fast, but can't come a step earlier."""
    graph, chosen = step.graph, step.copies > 0
    if not chosen.any():
        return None
    places = np.arange(len(graph))
    apart = chosen & ~_worked_on(step)
    timing = replace(step, launching_scale=min(step.launching_scale, 1.0)).as_it_is()  # else the copies were slower
    after = {
        i: kept
        for i, backs in graph.after.items()
        if not apart[i] and (kept := tuple(back for back in backs if not apart[(i - back) % len(graph)]))
    }
    ends = []
    hot = step.heavy & (graph.duration_ns >= HOT_NS)
    ways = zip(step.link_bytes_per_ns, UNKNOWN_COPY, CONTENTION, HOT, step.longer_at, strict=True)
    for rate, unknown, beside, heated, longer in ways:
        slowed = beside * np.where(hot, heated, 1.0)
        fast = np.where(step.bytes >= 0, step.bytes / rate, graph.duration_ns * unknown)
        copied = np.where(step.pinned, graph.duration_ns, np.minimum(fast, graph.duration_ns))
        ends.append(
            replace(
                timing,
                duration_ns=np.round(np.where(chosen, copied, graph.duration_ns * slowed + longer)).astype(np.int64),
                stream=np.where(apart, graph.stream.max() + step.copies, graph.stream).astype(np.int32),
                waits=np.where(apart[(places - graph.waits) % len(graph)], 0, graph.waits),
                after=after,
            )
        )
    return Ends(_without_launching(step, ends[0]), ends[0], ends[1], same=SAME)


def _worked_on(step: Replayed) -> Bools:
    """Copies to the host behind whose wait the host does other work: it may need what was copied, to choose a token."""
    graph = step.graph
    waits = np.flatnonzero((graph.waits > 0) & (graph.away_ns[1] > 0))
    copied = (waits - graph.waits[waits]) % len(graph)
    result = np.zeros(len(graph), dtype=np.bool_)
    result[copied] = True
    result &= step.copies == TO_HOST
    return result


def compile_range(step: Replayed) -> Remedied | None:
    """The step when runs of small neighbours are one kernel each, launched by compiled code; None without runs."""
    return _by_saving(step, compile_ends(step))


def compile_ends(step: Replayed) -> Ends | None:
    """Its times then."""
    graph, timing = step.graph, step.as_it_is()
    _, run = np.unique(np.where(step.runs >= 0, step.runs, -1 - np.arange(len(graph))), return_inverse=True)
    first = np.zeros(len(graph), dtype=np.bool_)
    first[np.unique(run, return_index=True)[1]] = True
    if first.all():
        return None
    hot = step.heavy & (graph.duration_ns >= HOT_NS)
    ends = []
    for left, strided, softmax, layout, i in zip(MERGED, STRIDED, SOFTMAX, LAYOUT, (0, 0, 1), strict=True):
        longest = np.zeros(run.max() + 1, dtype=np.int64)
        share = np.select([step.strided, step.softmax, step.layout], [strided, softmax, layout], 1.0)
        rows = np.where((step.runs >= 0) | step.layout, graph.duration_ns * share, graph.duration_ns).astype(np.int64)
        np.maximum.at(longest, run, rows)
        total = np.bincount(run, weights=rows)
        merged = longest + left * (total - longest)
        merged[run[step.depthwise]] *= DEPTHWISE[i]
        merged[run[hot]] *= HOT[i]
        scale = step.launching_scale * COMPILED_LAUNCH[i]
        launching = [np.where(first, part * scale, 0) for part in graph.launching_ns]
        away = [part * step.away_scale for part in graph.away_ns]
        host = [np.round(one + other).astype(np.int64) for one, other in zip(launching, away, strict=True)]
        host[1][0] += COMPILED_CALL_NS[i]
        merged[run] += step.longer_at[i]
        ends.append(
            replace(
                timing,
                duration_ns=np.where(first, np.round(merged[run]), -1).astype(np.int64),
                host_ns=(host[0], host[1]),
            )
        )
    return Ends(_without_launching(step, ends[0]), ends[1], ends[2])


def unchanged_ends(step: Replayed) -> Ends:
    """The times of a step in which a remedy changes nothing."""
    timing = step.as_it_is()
    return Ends(_without_launching(step, timing), timing, timing)


def _by_saving(step: Replayed, ends: Ends | None) -> Remedied | None:
    """The step less what two replays, at best and at worst, save of it."""
    if ends is None:
        return None
    least, best, worst = (replay_ns(timing) for timing in (ends.least, ends.best, ends.worst))
    replays = (round(ends.same * least), best, worst + step.late_ns)
    return saved(step.missed_ns, step.replayed_ns, replays, ends.varies)


def saved(
    missed_ns: int, replayed_ns: int, ends_ns: tuple[float, float, float], varies: tuple[float, float]
) -> Remedied:
    """What a remedy leaves of a step that differs from its replay.

    Args:
        missed_ns: by how much it lasts longer.
        replayed_ns: what its replay takes.
        ends_ns: replays of what nothing goes below, at best and at worst.
        varies: what the ends are multiplied by.
    """
    least, best, worst = ends_ns
    goes = min(best / max(replayed_ns, 1), 1.0) if missed_ns > 0 else 1.0  # at best it goes with what is saved
    low = round(max((missed_ns * goes + best) * JITTER[0], least))
    high = max(round((missed_ns + worst) * JITTER[1]), low)
    ends = [max(round(end * factor), round(least)) for end, factor in zip((low, high), varies, strict=True)]
    return Remedied(ends[0], ends[1], round(least))


def _without_launching(step: Replayed, timing: Timing) -> Timing:
    """Times with the device's work and the host's other work alone: what bounds them from below."""
    launching = [np.round(part * step.launching_scale).astype(np.int64) for part in step.graph.launching_ns]
    host = [np.maximum(spent - part, 0) for spent, part in zip(timing.host_ns, launching, strict=True)]
    return replace(timing, host_ns=(host[0], host[1]), latency_ns=0, residual_ns=0)
