"""What communication takes by itself, as one rank's trace can tell.

A collective's kernel ends when the last rank has come to it and the data are there, so its time holds waiting for
others. Of the same transfers the shortest waited least: what the others take longer is waiting, or sharing a link.
"""

from __future__ import annotations

import numpy as np

from laptime.trace.device_time import COMMUNICATION, kinds
from laptime.trace.gaps import DeviceGaps
from laptime.trace.read.timeline import GpuTimeline, Int32, Int64
from laptime.trace.steps import StepFrame

LONGER = 1.5
"""How long a transfer takes at worst, in multiples of the shortest of its kind."""

FEW, ONE_OF = 3, 100
"""From so many transfers of a kind on, the shortest one is left out, or one of a hundred: a duration can be damaged."""


def transfers_ns(timeline: GpuTimeline, gaps: DeviceGaps, frame: StepFrame, rows: Int32) -> tuple[Int64, Int64]:
    """For some activities how long they take without waiting for other ranks, at best and at worst.

    Communication of one name, process group and size is of one kind. Where the file says no size, communication at the
    same place of like steps is. What doesn't communicate takes the time that it took.

    Args:
        timeline: the trace.
        gaps: the device's gaps.
        frame: the steps.
        rows: the activities.
    """
    activities = timeline.activities
    taken = np.maximum(activities.end_ns[rows] - activities.start_ns[rows], 0)
    communicates = kinds(timeline, rows) == COMMUNICATION
    if not communicates.any():
        return taken, taken
    others = gaps.rows[kinds(timeline, gaps.rows) == COMMUNICATION]
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
    best = np.where(communicates, np.minimum(taken, alone), taken).astype(np.int64)
    worst = np.where(communicates, np.minimum(taken, np.round(LONGER * best)), taken).astype(np.int64)
    return best, worst


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
