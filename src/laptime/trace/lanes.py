"""Activities of one stream one after the other: a lane is a stream of a process on a device."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from laptime.trace.read.timeline import Activities, Int64

_SMALL = 2**15
"""Lanes up to this number are sorted without comparing."""


def by_lane(activities: Activities, rows: npt.NDArray[np.signedinteger]) -> tuple[Int64, npt.NDArray[np.bool_]]:
    """Rows by device, stream, process and start; and for all but the last whether the next one is of the same lane.

    rows: ascending, so that they are in the order of their start.
    """
    rows = rows.astype(np.int64, copy=False)
    lane, size = np.zeros(len(rows), dtype=np.int64), 1
    for column in (activities.device, activities.stream, activities.process):
        if len(rows) == 0 or column.min() == column.max():
            continue
        number, count = _numbered(column[rows])
        if count > 1:
            lane, size = lane * count + number, size * count
        if size > _SMALL:
            lane, size = _ranked(lane)
    if size <= 1:
        return rows, np.ones(max(len(rows) - 1, 0), dtype=np.bool_)
    order = np.argsort(lane.astype(np.int16) if size <= _SMALL else lane, kind="stable")
    lane = lane[order]
    return rows[order], lane[1:] == lane[:-1]


def _numbered(values: npt.NDArray[np.signedinteger]) -> tuple[Int64, int]:
    """Numbers from 0 in the order of some values, and how many there can be."""
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    return (values.astype(np.int64) - low, high - low + 1) if high - low < _SMALL else _ranked(values)


def _ranked(values: npt.NDArray[np.signedinteger]) -> tuple[Int64, int]:
    known, rank = np.unique(values, return_inverse=True)
    return rank.reshape(-1).astype(np.int64, copy=False), len(known)
