"""Events that a file holds twice, as one that was merged with itself does: each counts once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from msgspec.structs import asdict

from laptime.data.finding import Finding
from laptime.trace.read.timeline import Activities, ApiCalls, Int32, Int64

Rows = TypeVar("Rows", Activities, ApiCalls)


def without_repeats(activities: Activities, calls: ApiCalls) -> tuple[Activities, ApiCalls, Finding | None]:
    """The rows without those that come again, and a finding where there were any.

    One launch makes one kernel. So a kernel, copy or memset of the same launch, stream, name and times is the same one
    again; so is a call of the same thread, id, name and times. Of a graph's kernels, which share a launch, nothing is
    said unless the file numbers them.
    """
    numbered = (activities.correlation > 0) & (activities.graph_node != 0)
    columns = (activities.device, activities.stream, activities.process, activities.name, activities.graph_node)
    again = _again(activities.start_ns, activities.end_ns, activities.correlation, columns, numbered)
    again &= activities.end_ns > activities.start_ns
    shared = np.zeros(0, dtype=np.int64) if not again.any() else _of_several(activities, again)
    again &= ~np.isin(activities.correlation, shared)
    if not again.any():
        return activities, calls, None
    of_calls = (calls.process, calls.thread, calls.name)
    twice = _again(calls.start_ns, calls.end_ns, calls.correlation, of_calls, calls.correlation > 0)
    count = int(np.count_nonzero(again))
    message = (
        f"{count} of {len(again)} device activities come again in the file, with the same launch, stream and times, as"
        " in one that was merged with itself: each counts once"
    )
    finding = Finding(code="repeated-events", severity="warning", message=message, count=count)
    return _kept(activities, ~again), _kept(calls, ~twice), finding


def _of_several(activities: Activities, again: npt.NDArray[np.bool_]) -> Int64:
    """Launches of a repeated row, that made several unlike ones too: of a graph that numbers no kernels."""
    once = ~again & np.isin(activities.correlation, activities.correlation[again]) & (activities.graph_node < 0)
    launches, counts = np.unique(activities.correlation[once], return_counts=True)
    several: Int64 = launches[counts > 1].astype(np.int64)
    return several


def _again(
    start: Int64, end: Int64, launch: Int64, columns: Sequence[Int32 | Int64], known: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Which rows, in order of time, are the same as one before."""
    result = np.zeros(len(start), dtype=np.bool_)
    close = np.flatnonzero((start[1:] == start[:-1]) & (end[1:] == end[:-1]))
    if len(close) == 0:
        return result
    marked = np.zeros(len(start), dtype=np.bool_)
    marked[close] = marked[close + 1] = True
    rows = np.flatnonzero(marked & known)
    keys = [column[rows] for column in (*columns, launch, end, start)]
    order = np.lexsort(keys)
    same = np.all([key[order][1:] == key[order][:-1] for key in keys], axis=0)
    result[rows[order][1:][same]] = True
    return result


def _kept(rows: Rows, chosen: npt.NDArray[np.bool_]) -> Rows:
    columns = {name: column[chosen] if len(column) else column for name, column in asdict(rows).items()}
    return type(rows)(**columns)
