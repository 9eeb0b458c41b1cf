"""Ranks that were merged into one file under one process id and one device number: recognised and taken apart.

Correlation ids never repeat within a process. Where most calls share theirs with another call of the same name, the
file holds several processes that bear one id.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from laptime.trace.read.launch_links import UNKNOWN
from laptime.trace.read.tables import Table
from laptime.trace.read.timeline import Activity, Int64

LEAST_CALLS = 16
_MOST = 0.5
_RANKS = 64


def split_merged(activities: Sequence[Table], calls: Sequence[Table], ranges: Sequence[Table]) -> int:
    """Give each merged rank a process and devices of its own, in place.

    Args:
        activities: one piece or none, in the order of the file.
        calls, ranges: pieces in the order of the file.

    Returns:
        how many ranks there are; 1 where nothing was merged.
    """
    if len(activities) != 1 or not calls:
        return 1
    process, correlation, name = (
        np.concatenate([piece[column] for piece in calls]).astype(np.int64)
        for column in ("process", "correlation", "name")
    )
    if len(np.unique(process)) != 1:
        return 1
    known = correlation > 0
    keys = np.where(known, (correlation << 20) ^ name, -1)
    turn = _turns(keys)
    count = int(turn[known].max()) + 1 if known.any() else 1
    repeated = int(np.count_nonzero(turn[known] > 0))
    if not 2 <= count <= _RANKS or known.sum() < LEAST_CALLS or repeated < _MOST * known.sum() * (count - 1) / count:
        return 1
    own = activities[0]
    of_graphs = own["graph_node"] >= 0
    kernel = (own["kind"] == Activity.KERNEL) & ~of_graphs & (own["correlation"] > 0)
    worked = _turns(np.where(kernel, own["correlation"].astype(np.int64), -1))
    if int(worked[kernel].max(initial=0)) + 1 != count:
        return 1
    base = int(process[0])
    _renumber(calls, "process", _in_stretches(turn, known), base)
    rank = _in_stretches(worked, kernel)
    step = int(own["device"].max()) + 1
    own["device"] = own["device"] + rank * step
    own["process"] = np.where(own["process"] == UNKNOWN, base, own["process"]) + rank * _APART
    _renumber(ranges, "process", _by_restarts(ranges, count), base)
    return count


_APART = 1 << 22
"""Between the process ids that merged ranks get: more than any system's ids."""


def _turns(keys: Int64) -> Int64:
    """For each key how often it occurred before; 0 for keys below 0."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.searchsorted(ordered, ordered, side="left")
    turn = np.empty(len(keys), dtype=np.int64)
    turn[order] = np.arange(len(keys)) - first
    turn[keys < 0] = 0
    return turn


def _in_stretches(turn: Int64, known: npt.NDArray[np.bool_]) -> Int64:
    """Which rank each row is of. Where the ranks stand one after the other, rows between take part."""
    starts = [int(np.argmax(known & (turn == rank))) for rank in range(int(turn.max()) + 1)]
    whole = np.searchsorted(starts, np.arange(len(turn)), side="right") - 1
    agrees = float(np.mean(whole[known] == turn[known])) if known.any() else 0.0
    return whole.astype(np.int64) if sorted(starts) == starts and agrees > 0.9 else turn


def _by_restarts(pieces: Sequence[Table], count: int) -> Int64:
    """Which rank each range is of: time goes back most where the next rank begins."""
    start = np.concatenate([piece["start_ns"] for piece in pieces]) if pieces else np.zeros(0, dtype=np.int64)
    if len(start) < count:
        return np.zeros(len(start), dtype=np.int64)
    back = np.minimum(np.diff(start), 0)
    restarts = np.sort(np.argsort(back, kind="stable")[: count - 1]) + 1
    return np.searchsorted(restarts, np.arange(len(start)), side="right").astype(np.int64)


def _renumber(pieces: Sequence[Table], column: str, rank: Int64, base: int) -> None:
    at = 0
    for piece in pieces:
        size = len(piece[column])
        own = piece[column].astype(np.int64)
        piece[column] = np.where(own == base, own + rank[at : at + size] * _APART, own)
        at += size
