"""How long a step lasts when it runs again and again: the longest path through what each activity waits for.

A replay goes through several steps in a row, so that a host that runs ahead and copies that are fetched ahead come out
as they would. The device works through each stream in the order of launches.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import pairwise

import msgspec
import numpy as np

from laptime.trace.read.timeline import Int32, Int64

REPEATS = 3
"""Steps in a row that a replay runs: the last one is steady."""

MOST_WAITS = 200
"""With fewer waits a step of one stream is replayed in stretches between them."""

NEVER = -(2**60)


class Timing(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """What a replay takes for the times of a step. Columns as in StepGraph."""

    duration_ns: Int64  # below 0 where the activity is gone
    stream: Int32
    host_ns: tuple[Int64, Int64]  # host time before and after each wait
    waits: Int64
    after: dict[int, tuple[int, ...]] = msgspec.field(default_factory=dict)
    latency_ns: int = 0
    residual_ns: int = 0


def replay_ns(timing: Timing) -> int:
    """How long a step lasts when it runs again and again with these times."""
    if not len(timing.stream):
        return 0
    alone = not timing.after and (timing.stream == timing.stream[0]).all()
    if alone and np.count_nonzero(timing.waits) < MOST_WAITS:
        return _replay_one_stream(timing)
    return _replay_streams(timing)[0]


def begun_ns(timing: Timing) -> Int64:
    """When the work of each activity that is there begins in such a step, in ns from any zero, in the order of time."""
    if not len(timing.stream):
        return np.zeros(0, dtype=np.int64)
    ended = np.array(_replay_streams(timing)[1][-len(timing.stream) :], dtype=np.int64)
    there = timing.duration_ns >= 0
    return np.sort((ended - timing.duration_ns)[there])


def replay_together_ns(ranks: Sequence[tuple[Timing, Sequence[int]]]) -> int | None:
    """How long a step of several ranks lasts when it runs again and again; None where they would wait for each other.

    ranks: of each its times, and for each activity the meeting that it is, -1 for none. Activities of one meeting begin
        together, when the last rank has come to it.
    """
    if not ranks:
        return 0
    members: dict[int, list[int]] = {}
    for rank, (_, meets) in enumerate(ranks):
        for meeting in meets:
            if meeting >= 0:
                members.setdefault(meeting, []).append(rank)
    runs = [_steps(timing, meets) for timing, meets in ranks]
    came: dict[int, dict[int, int]] = {}
    spans = [0] * len(ranks)
    ready: list[tuple[int, int | None]] = [(rank, None) for rank in range(len(ranks))]
    ended = 0
    while ready:
        rank, begun = ready.pop()
        try:
            meeting, arrived = runs[rank].send(begun)  # type: ignore[arg-type]  # the first value sent is None
        except StopIteration as stop:
            spans[rank], ended = stop.value[0], ended + 1
            continue
        here = came.setdefault(meeting, {})
        here[rank] = arrived
        if len(here) == len(members[meeting]):
            last = max(here.values())
            ready += [(one, last) for one in here]
            del came[meeting]
    return max(spans) if ended == len(ranks) else None


def _replay_streams(timing: Timing) -> tuple[int, list[int]]:
    """How long the step lasts, and all ends of several in a row."""
    try:
        next(_steps(timing, [-1] * len(timing.stream)))
    except StopIteration as stop:
        result: tuple[int, list[int]] = stop.value
        return result
    raise AssertionError("nothing meets anybody")


def _steps(timing: Timing, meets: Sequence[int]) -> Generator[tuple[int, int], int, tuple[int, list[int]]]:
    """Several steps in a row: how long one lasts, and all ends. At each meeting it gives that and when it has come, and
    is sent when the meeting begins."""
    duration, stream = timing.duration_ns.tolist(), timing.stream.tolist()
    before, behind = (part.tolist() for part in timing.host_ns)
    waits, after = timing.waits.tolist(), [timing.after.get(i, ()) for i in range(len(duration))]
    latency, residual = timing.latency_ns, timing.residual_ns
    ended = [0] * (REPEATS * len(duration))
    last = [0] * (max(stream) + 1)
    host, at, before_last = 0, 0, last
    for _ in range(REPEATS):
        before_last = last.copy()
        for lasts, lane, early, back, late, others, meeting in zip(
            duration, stream, before, waits, behind, after, meets, strict=True
        ):
            host += early
            if 0 < back <= at and ended[at - back] > host:
                host = ended[at - back]
            host += late
            if lasts < 0:
                ended[at] = last[lane]
                at += 1
                continue
            start = max(host + latency, last[lane] + residual)
            for other in others:
                if other <= at and ended[at - other] > start:
                    start = ended[at - other]
            if meeting >= 0:
                start = yield meeting, start
            ended[at] = last[lane] = start + lasts
            at += 1
    return max(int(end - sooner) for end, sooner in zip(last, before_last, strict=True)), ended


def _replay_one_stream(timing: Timing) -> int:
    """The same of one stream: between two waits of the host all ends follow from one running maximum."""
    duration, (before, behind), count = timing.duration_ns, timing.host_ns, len(timing.stream)
    there = duration >= 0
    queue = np.cumsum(np.where(there, duration + timing.residual_ns, 0))
    launched = np.cumsum(before + behind)
    own = np.where(there, timing.latency_ns + duration - queue, NEVER)
    cuts = [0, *np.flatnonzero(timing.waits)[timing.waits.nonzero()[0] > 0].tolist(), count]
    ended = np.zeros(REPEATS * count, dtype=np.int64)
    host, finished, ends = 0, 0, []
    for turn in range(REPEATS):
        base = turn * count
        for first, stop in pairwise(cuts):
            back = int(timing.waits[first])
            if 0 < back <= base + first:
                host = max(host + int(before[first]), int(ended[base + first - back])) - int(before[first])
            begun = host + launched[first:stop] - (launched[first - 1] if first else 0)
            queued = queue[first - 1] if first else 0
            reach = np.maximum(np.maximum.accumulate(begun + own[first:stop]), finished - queued)
            ended[base + first : base + stop] = reach + queue[first:stop]
            host, finished = int(begun[-1]), int(ended[base + stop - 1])
        ends.append(finished)
    return ends[-1] - ends[-2]
