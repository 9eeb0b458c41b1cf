"""Ranks that were merged into one file: recognised, taken apart, and each joined to its own launches.

torch.profiler records one process, so a file with launches of several was merged from several files. Correlation ids
never repeat within a process: where most calls share theirs with another call of the same name under one process id,
the file holds several processes that bear one id.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from laptime.data.finding import Finding
from laptime.trace.read.distinct import each_once
from laptime.trace.read.launch_links import UNKNOWN
from laptime.trace.read.merged_processes import MAYBE_SHARED, Launches, launching, own_devices, owners, ranks_of
from laptime.trace.read.tables import Table
from laptime.trace.read.timeline import Activity, Int64

LEAST_CALLS = 16
_MOST = 0.5
_RANKS = 64
_ALL = 0.9
"""Of repeated calls: from which share at the same times on they are one process' own, written twice."""

_BETTER = "better read the ranks' own files together"
_GUESS = f"Which host range is whose is a guess; {_BETTER}"


def split_merged(
    activities: Sequence[Table],
    calls: Sequence[Table],
    ranges: Sequence[Table],
    memory: Sequence[Table],
    names: Sequence[str],
) -> Finding | None:
    """Give each merged rank a process and devices of its own, in place.

    Args:
        activities: one piece or none, in the order of the file.
        calls, ranges, memory: pieces in the order of the file.
        names: the string table.

    Returns:
        what was merged, and how it is shown; None where nothing was, or where nothing had to be guessed.
    """
    if len(activities) != 1 or not calls:
        return None
    process, correlation, name, start = (
        np.concatenate([piece[column] for piece in calls]).astype(np.int64)
        for column in ("process", "correlation", "name", "start_ns")
    )
    known = correlation > 0
    if known.sum() < LEAST_CALLS:
        return None
    if len(each_once(process)) == 1:
        keys = (correlation << 20) ^ name
        return (
            None if _at_once(keys[known], start[known]) else _of_one_process(activities[0], calls, ranges, keys, known)
        )
    launches = launching(process, correlation, name, start, names)
    if not 2 <= len(launches.processes) <= _RANKS:
        return None
    return _of_several(activities[0], memory, launches, names)


def _of_several(own: Table, memory: Sequence[Table], launches: Launches, names: Sequence[str]) -> Finding | None:
    """Each process keeps its id; it gets devices of its own where several bear one number."""
    rank_of, guessed = own_devices(own, launches)
    for device, owner in rank_of.items():
        mine = (own["device"] == device) & (own["process"] == UNKNOWN)
        own["process"] = np.where(mine, launches.processes[owner], own["process"])
    count = len(launches.processes)
    if rank_of:
        message = (
            f"{count} ranks were merged into this file, and their launches bear the same ids: which GPU is of which"
            f" process follows from their order in it alone; {_BETTER}"
        )
        return Finding(code="merged-ranks", severity="warning", message=message, count=count) if guessed else None
    rank = owners(own, launches)
    numbers = len(each_once(own["device"]))
    number = "one device number" if numbers == 1 else "device numbers that they share"
    if rank is None:
        if numbers >= count:
            return None
        message = (
            f"{count} processes were merged into this file under {number}, sorted by time: which work is whose can't be"
            f" told from their ids, nor on how many GPUs it ran; {_BETTER}"
        )
        return Finding(code="merged-ranks", severity="warning", message=message, count=count)
    own["process"] = np.where((rank >= 0) & (own["process"] == UNKNOWN), launches.processes[rank], own["process"])
    known = rank >= 0
    pairs = len(each_once(rank[known] * (1 << 32) + own["device"][known]))
    if numbers >= count or pairs != count or ranks_of(own, rank, launches, names) < 2:
        return None
    first = int(own["device"].min())
    own["device"] = np.where(known, first + rank, own["device"])
    for piece in memory:
        on_device = (piece["device"] >= 0) & np.isin(piece["process"], launches.processes)
        of = np.argmax(piece["process"][:, None] == launches.processes[None, :], axis=1)
        piece["device"] = np.where(on_device, first + of, piece["device"])
    message = (
        f"{count} ranks were merged into this file, each with a process id of its own, under {number}: they are shown"
        f" as GPUs of their own. {MAYBE_SHARED}; {_BETTER}"
    )
    return Finding(code="merged-ranks", severity="warning", message=message, count=count)


def _at_once(keys: Int64, start_ns: Int64) -> bool:
    """Whether calls of one id and name were made at the same times: the same calls again, and not another rank's."""
    order = np.argsort(keys, kind="stable")
    again = np.diff(keys[order]) == 0
    return bool(again.any() and np.mean(np.diff(start_ns[order])[again] == 0) > _ALL)


def _of_one_process(
    own: Table, calls: Sequence[Table], ranges: Sequence[Table], keys: Int64, known: npt.NDArray[np.bool_]
) -> Finding | None:
    """keys: of each call, the same for calls with one id and name."""
    turn = _turns(np.where(known, keys, -1))
    count = int(turn[known].max()) + 1
    repeated = int(np.count_nonzero(turn[known] > 0))
    if not 2 <= count <= _RANKS or repeated < _MOST * known.sum() * (count - 1) / count:
        return None
    of_graphs = own["graph_node"] >= 0
    kernel = (own["kind"] == Activity.KERNEL) & ~of_graphs & (own["correlation"] > 0)
    worked = _turns(np.where(kernel, own["correlation"].astype(np.int64), -1))
    if int(worked[kernel].max(initial=0)) + 1 != count:
        return None
    base = int(calls[0]["process"][0])
    _renumber(calls, "process", _in_stretches(turn, known), base)
    rank = _by_device(own, kernel, count)
    apart = rank is not None
    if rank is None:
        rank = _in_stretches(worked, kernel)
        own["device"] = own["device"] + rank * (int(own["device"].max()) + 1)
    own["process"] = np.where(own["process"] == UNKNOWN, base, own["process"]) + rank * _APART
    _renumber(ranges, "process", _by_restarts(ranges, count), base)
    how = (
        "under one process id, each on a GPU with a number of its own"
        if apart
        else "under one process id and device number: they are shown as GPUs of their own"
    )
    message = f"{count} ranks were merged into this file {how}. {_GUESS}"
    return Finding(code="merged-ranks", severity="warning", message=message, count=count)


def _by_device(own: Table, kernel: npt.NDArray[np.bool_], count: int) -> Int64 | None:
    """Which rank each row is of, where each rank has one device to itself: they count in the order of the file."""
    devices, first, of = np.unique(own["device"], return_index=True, return_inverse=True)
    if len(devices) != count:
        return None
    keys = np.where(kernel, own["correlation"].astype(np.int64) * count + of, -1)
    if np.any(_turns(keys) > 0):
        return None
    place = np.empty(count, dtype=np.int64)
    place[np.argsort(first)] = np.arange(count)
    return place[of]


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
