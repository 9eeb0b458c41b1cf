"""What communication takes by itself, as one rank's trace can tell.

A collective's kernel ends when the last rank has come to it and the data are there, so its time holds waiting for
others. Of the same transfers the shortest waited least: what the others take longer is waiting, or sharing a link.

A rank that waits each time waits in the shortest, too, and its own trace can't tell that from a slow link. So a
transfer is taken to last no longer than a slow link takes, and at best no longer than a fast one does.
"""

from __future__ import annotations

import re

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.trace.device_time import COMMUNICATION, kinds
from laptime.trace.gaps import DeviceGaps
from laptime.trace.name_marks import marked
from laptime.trace.read.timeline import Activity, GpuTimeline, Int32, Int64
from laptime.trace.steps import StepFrame

Floats = npt.NDArray[np.float64]

_GATHERS = re.compile(r"all_?gather", re.IGNORECASE)

LONGER = 1.5
"""How long a transfer takes at worst, in multiples of the shortest of its kind."""

FEW, ONE_OF = 3, 100
"""From so many transfers of a kind on, the shortest one is left out, or one of a hundred: a duration can be damaged."""

LATENCY_NS, BYTES_PER_NS = (10_000, 100_000), (400.0, 10.0)
"""What a collective takes over a fast link and over a slow one: its latency, and twice its bytes over the rate.

NVLink carries 450 GB/s each way between Hopper's cards, and small collectives of eight take 5 to 10 µs. 10 GB/s are
less than PCI Express 3 and a network of 100 Gbit/s carry. A ring sends less than twice the bytes; gathering, which is
given one rank's part, sends that to each other rank.
"""


LARGE_NS = 1_000_000
"""A collective without a size that never takes less is taken for a large one."""


def transfers_ns(timeline: GpuTimeline, gaps: DeviceGaps, frame: StepFrame, rows: Int32) -> tuple[Int64, Int64]:
    """For some activities how long they take without waiting for other ranks, at best and at worst.

    Communication of one name, process group and size is of one kind. Where the file says no size, communication at the
    same place of like steps is; nothing bounds that at worst, and at best only where it is short. What doesn't
    communicate takes the time that it took, and so does a copy between GPUs, which waits for no rank.

    Args:
        timeline: the trace.
        gaps: the device's gaps.
        frame: the steps.
        rows: the activities.
    """
    activities = timeline.activities
    taken = np.maximum(activities.end_ns[rows] - activities.start_ns[rows], 0)
    communicates = collectives(timeline, rows)
    if not communicates.any():
        return taken, taken
    others = gaps.rows[collectives(timeline, gaps.rows)]
    sort = np.stack([activities.name[others], activities.bytes[others], _places(timeline, frame, others)])
    if len(activities.group):
        sort = np.concatenate([sort, activities.group[others][None, :]])
    known = (activities.bytes[others] >= 0) | (sort[2] >= 0)
    _, number = np.unique(sort, axis=1, return_inverse=True)
    number = number.reshape(-1)
    lasts = np.maximum(activities.end_ns[others] - activities.start_ns[others], 0)
    shortest = lasts.copy()
    for one in np.unique(number[known]).tolist():
        own = np.flatnonzero(number == one)
        ascending = np.sort(lasts[own])
        left_out = max(1, len(own) // ONE_OF) if len(own) >= FEW else 0
        shortest[own] = ascending[left_out]
    own_of = dict(zip(others.tolist(), shortest.tolist(), strict=True))
    alone = np.array([own_of.get(row, lasting) for row, lasting in zip(rows.tolist(), taken.tolist(), strict=True)])
    shortest, (fast, slow) = np.minimum(taken, alone), _by_links(timeline, rows)
    fast = np.where((activities.bytes[rows] < 0) & (shortest >= LARGE_NS), np.inf, fast)
    best = np.where(communicates, np.round(np.minimum(shortest, fast)), taken).astype(np.int64)
    longest = np.minimum(np.round(LONGER * shortest), np.maximum(slow, best))
    worst = np.where(communicates, np.minimum(taken, longest), taken).astype(np.int64)
    return best, worst


def _by_links(timeline: GpuTimeline, rows: Int32) -> tuple[Floats, Floats]:
    """How long collectives take over a fast link and over a slow one; without a size nothing is slow."""
    activities, size = timeline.activities, timeline.activities.bytes[rows]
    times = np.full(len(rows), 2.0)
    gathers = marked(activities.name[rows], timeline.strings, lambda name: _GATHERS.search(name) is not None)
    for i in np.flatnonzero(gathers).tolist():
        group = activities.group[rows[i]] if len(activities.group) else -1
        members = (msgspec.json.decode(timeline.groups[group])[1] if group >= 0 else None) or ()
        times[i] = max(len(members) - 1, 2) if members else np.inf
    sent = np.where(size > 0, np.where(np.isinf(times), 2.0, times) * size, 0)
    fast, slow = (latency + sent / rate for latency, rate in zip(LATENCY_NS, BYTES_PER_NS, strict=True))
    return fast, np.where((size >= 0) & np.isfinite(times), slow, np.inf)


def collectives(timeline: GpuTimeline, rows: Int32) -> npt.NDArray[np.bool_]:
    """Which activities are kernels that communicate."""
    found: npt.NDArray[np.bool_] = kinds(timeline, rows) == COMMUNICATION
    found &= timeline.activities.kind[rows] == Activity.KERNEL
    return found


def _places(timeline: GpuTimeline, frame: StepFrame, rows: Int32) -> Int64:
    """Of communication without a size its place in its step, where that communicates as the modal step does; else -1.

    rows: all communication, by start.
    """
    activities = timeline.activities
    places = np.full(len(rows), -1, dtype=np.int64)
    modal = np.isin(rows, frame.modal_rows)
    names = activities.name[rows]
    starts = activities.start_ns[rows]
    for begin, end in zip(frame.start_ns.tolist(), frame.end_ns.tolist(), strict=True):
        inside = slice(*np.searchsorted(starts, (begin, end)).tolist())
        if np.array_equal(names[inside], names[modal]):
            places[inside] = np.arange(inside.stop - inside.start)
    places[modal] = np.arange(np.count_nonzero(modal))
    return np.where(activities.bytes[rows] >= 0, -1, places)
