"""Kernels of one stream that run at the same time: launched so, or of streams under one number."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from laptime.data.finding import Finding
from laptime.trace.durations import PDL_NS, overlong_kernels
from laptime.trace.gaps import union_ns
from laptime.trace.lanes import by_lane
from laptime.trace.read.distinct import each_once
from laptime.trace.read.timeline import Activities, Activity, GpuTimeline, Int64

MERGED = 0.05
"""Kernels of one stream hardly run beside each other (under 1 % of their time), unless a program asks for it."""

HOPPER = 9
"""The compute capability from which on a kernel can begin before the one ahead of it ends (dependent launch)."""

PART, RARE = 0.75, 100
"""A kernel that begins early waits for most of its own time: it overlaps by less than this part of the shorter one.
One in so many may differ."""


def overlaps(timeline: GpuTimeline) -> Iterator[Finding]:
    """Kernels of one stream that run at the same time."""
    kernels = np.flatnonzero(timeline.activities.kind == Activity.KERNEL)
    a = timeline.activities
    order, same = by_lane(a, kernels)
    overlap = np.where(same, a.end_ns[order][:-1] - a.start_ns[order][1:], 0)
    count = int(np.count_nonzero(overlap > 0))
    if not count:
        return
    most = int(overlap.max())
    edges = np.flatnonzero(np.concatenate([[True], ~same, [True]]))
    twice_ns = sum(
        int((a.end_ns[own] - a.start_ns[own]).sum()) - union_ns(a.start_ns[own], a.end_ns[own])
        for first, stop in pairwise(edges.tolist())
        if len(own := order[first:stop]) > 1
    )
    total_ns = int((a.end_ns[order] - a.start_ns[order]).sum())
    alongside = twice_ns > MERGED * total_ns and not any(True for _ in overlong_kernels(timeline))
    majors = _majors(timeline, order[np.flatnonzero(overlap > 0)]) if alongside else []
    launched_so = (
        alongside and _in_turn(a, order, same, overlap) and all(major is None or major >= HOPPER for major in majors)
    )
    surely = launched_so and None not in majors
    yield Finding(
        code="overlapping-kernels",
        severity="info" if most <= PDL_NS or surely else "warning",
        message=f"kernels start before the one ahead of them on their stream ends, by up to {most} ns (programmatic"
        f" dependent launch{'' if surely else ', or streams merged by the profiler'}): stream by stream, kernel times"
        f" sum to {twice_ns} ns more than the time in which a kernel ran",
        count=count,
    )
    if alongside and not surely:
        why = "which one stream does by programmatic dependent launch alone: if the program has none, several"
        yield Finding(
            code="merged-streams",
            severity="warning",
            message=f"kernels of one stream run beside each other for {twice_ns / total_ns * 100:.0f} % of their"
            f" time, {why if launched_so else 'which no stream does: several'} were written under one number, or ranks"
            " with a GPU of their own each, and busy and idle time are those of all of them together",
            count=count,
        )


def _majors(timeline: GpuTimeline, rows: Int64) -> list[int | None]:
    """The compute capabilities of the devices that rows ran on: None where unknown, 0 of other makers."""
    known = {card.device: card.compute_major if card.name.startswith("NVIDIA") else 0 for card in timeline.cards}
    return [known.get(device) for device in each_once(timeline.activities.device[rows]).tolist()]


def _in_turn(a: Activities, order: Int64, same: npt.NDArray[np.bool_], overlap: Int64) -> bool:
    """Whether kernels overlap as dependent launches do: with the next one only, by a part, and they end in turn."""
    start, end = a.start_ns[order], a.end_ns[order]
    early = np.flatnonzero(overlap > 0)
    shorter = np.minimum(end - start, np.roll(end - start, -1))[early]
    unlike = overlap[early] > PART * shorter
    unlike |= end[early] > end[early + 1]
    third = early[early + 2 < len(order)]
    three = np.count_nonzero(same[third] & same[third + 1] & (end[third] > start[third + 2]))
    return bool(np.count_nonzero(unlike) + three <= len(early) / RARE)
