"""The processes of a merged file, each with an id of its own: which work is whose, and whether they are ranks.

A correlation id that only one process launched with settles it. For one that several did, the first launch in the file
and the first activity in the file belong together: files are merged one behind the other, or sorted by time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.trace.read.distinct import each_once
from laptime.trace.read.tables import Table
from laptime.trace.read.timeline import Activity, Int64

MAYBE_SHARED = (
    "Processes that shared one GPU (MPS) could look the same, and the file doesn't say: then that GPU's work is the sum"
)

_LAUNCH = re.compile(r"launch|memcpy|memset", re.IGNORECASE)
_COLLECTIVE = re.compile(r"nccl|rccl", re.IGNORECASE)

_FEW = 0.1
_SHARED = 0.5
_UNKNOWN = 0.02
_DISORDER = 0.05
_SKEW_NS = 10_000
"""How much earlier than its launch an activity may seem to begin: the clocks of host and device differ."""

_EXPECTED = 0.02
"""Of the common time: how long independent processes must be expected to work at once to say that they take turns."""


class Launches(msgspec.Struct, frozen=True, eq=False):
    """Launches of all processes: for each process and id the first, in the order of id, then of the file."""

    processes: Int64  # in the order of the file
    rank: Int64  # of each launch, the index of its process
    correlation: Int64
    start_ns: Int64
    graph: npt.NDArray[np.bool_]  # whether it launched a graph, and so many kernels
    one_behind_the_other: bool  # whether each process's launches stand together in the file


def launching(process: Int64, correlation: Int64, name: Int64, start_ns: Int64, names: Sequence[str]) -> Launches:
    """The launches, copies and memsets among calls, which are given in the order of the file."""
    starts_work = np.fromiter((_LAUNCH.search(text) is not None for text in names), dtype=np.bool_, count=len(names))
    row = np.flatnonzero(starts_work[name] & (correlation > 0))
    found, first, of = np.unique(process[row], return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty(len(found), dtype=np.int64)
    place[order] = np.arange(len(found))
    rank, ids = place[of], correlation[row]
    by_both = np.lexsort((rank, ids))
    again = np.zeros(len(row), dtype=np.bool_)
    again[1:] = (np.diff(ids[by_both]) == 0) & (np.diff(rank[by_both]) == 0)
    kept = np.sort(by_both[~again])
    kept = kept[np.argsort(ids[kept], kind="stable")]
    together = bool(np.all(np.diff(rank) >= 0))
    graph = np.fromiter(("GraphLaunch" in text for text in names), dtype=np.bool_, count=len(names))
    return Launches(found[order], rank[kept], ids[kept], start_ns[row][kept], graph[name[row][kept]], together)


def owners(own: Table, launches: Launches) -> Int64 | None:
    """For each activity the index of the process that launched it, -1 where that isn't known; None where few are."""
    wanted = own["correlation"].astype(np.int64)
    first = np.searchsorted(launches.correlation, wanted, side="left")
    many = np.searchsorted(launches.correlation, wanted, side="right") - first
    by_id = np.argsort(wanted, kind="stable")
    begin = np.searchsorted(wanted[by_id], wanted, side="left")
    size = np.searchsorted(wanted[by_id], wanted, side="right") - begin
    turn = np.empty(len(wanted), dtype=np.int64)
    turn[by_id] = np.arange(len(wanted))
    turn -= begin
    at = np.minimum(first + np.where(many == 1, 0, turn), len(launches.correlation) - 1)
    settled = (many > 0) & ((size == many) | ((many == 1) & launches.graph[at]))
    settled &= launches.start_ns[at] <= own["start_ns"] + _SKEW_NS
    rank = np.where(settled, launches.rank[at], -1)
    if launches.one_behind_the_other:
        stretches = _stretches(rank, own["start_ns"], len(launches.processes))
        if np.count_nonzero((stretches == rank) & (rank >= 0)) >= (1 - _FEW) * np.count_nonzero(rank >= 0):
            return stretches
    unknown = np.count_nonzero(rank < 0)
    return None if unknown > _UNKNOWN * len(rank) or _disorder(own, rank) > _DISORDER else rank


def _stretches(rank: Int64, start_ns: Int64, count: int) -> Int64:
    """Ranks in stretches, one for each in order, that agree with most of those given; time goes back between them."""
    size = len(rank)
    best = np.zeros(size + 1, dtype=np.int64)
    came = np.zeros((count, size + 1), dtype=np.int32)
    for i in range(count):
        agree = np.concatenate([[0], np.cumsum(rank == i)])
        before = best - agree if i else np.where(np.arange(size + 1) == 0, 0, -size - 1)
        most = np.maximum.accumulate(before)
        came[i] = np.maximum.accumulate(np.where(before == most, np.arange(size + 1), 0))
        best = most + agree
    bounds = np.full(count + 1, size, dtype=np.int64)
    for i in reversed(range(count)):
        bounds[i] = came[i][bounds[i + 1]]
    for i in range(1, count):
        bounds[i] = _moved(rank, start_ns, bounds[i - 1 : i + 2], i)
    return np.searchsorted(bounds[1:count], np.arange(size), side="right").astype(np.int64)


def _moved(rank: Int64, start_ns: Int64, bounds: Int64, i: int) -> int:
    """Where the stretch of rank i begins: time goes back most there, of the places that agree nearly as well.

    bounds: where the stretch before it, its own and the next begin.
    """
    low, now, high = (int(bound) for bound in bounds)
    part = rank[low:high]
    gain = np.concatenate([[0], np.cumsum((part == i - 1).astype(np.int64) - (part == i))])
    allowed = _FEW * min(np.count_nonzero(part == i - 1), np.count_nonzero(part == i))
    back = np.concatenate([[0], np.diff(start_ns[low:high]), [0]])
    back = np.where(gain >= gain[now - low] - allowed, back, 0)
    at = int(np.argmin(back))
    return low + at if back[at] < 0 else now


def _disorder(own: Table, rank: Int64) -> float:
    """The share of kernels that, were they of these ranks, would run beside or before an earlier one of their stream.

    A stream runs its kernels one by one in the order of their launches.
    """
    row = np.flatnonzero((own["kind"] == Activity.KERNEL) & (own["graph_node"] < 0) & (rank >= 0))
    start, end, ids = (own[column][row] for column in ("start_ns", "end_ns", "correlation"))
    stream = own["device"][row].astype(np.int64) * (1 << 32) + own["stream"][row]
    order = np.lexsort((start, stream, rank[row]))
    same = (np.diff(rank[row][order]) == 0) & (np.diff(stream[order]) == 0)
    wrong = same & ((start[order][1:] < end[order][:-1]) | (np.diff(ids[order]) < 0))
    return float(wrong.sum() / max(len(row), 1))


def ranks_of(own: Table, rank: Int64, launches: Launches, names: Sequence[str]) -> int:
    """How many ranks worked under one device number; 1 where they may as well be processes that shared a GPU.

    Ranks run one program: the same ids launch the same kernels, or all take part in collectives, which give each rank
    a GPU of its own. Processes whose work never overlaps, though by chance it would, take turns on one GPU.
    """
    count = len(launches.processes)
    if np.count_nonzero(rank < 0) > _FEW * len(rank) or len(each_once(rank[rank >= 0])) != count:
        return 1
    kernel = (own["kind"] == Activity.KERNEL) & (own["graph_node"] < 0) & (rank >= 0)
    talks = np.fromiter((_COLLECTIVE.search(text) is not None for text in names), dtype=np.bool_, count=len(names))
    together = len(each_once(rank[kernel & talks[own["name"]]])) == count
    if not (together or _same_program(own, kernel)) or _takes_turns(own, rank, count):
        return 1
    return count


def _same_program(own: Table, kernel: npt.NDArray[np.bool_]) -> bool:
    """Whether most kernels share their id with another one, and nearly all of these their name too."""
    ids, names = own["correlation"][kernel].astype(np.int64), own["name"][kernel].astype(np.int64)
    order = np.argsort(ids, kind="stable")
    same_id = np.diff(ids[order]) == 0
    same_name = same_id & (np.diff(names[order]) == 0)
    return bool(
        2 * np.count_nonzero(same_id) >= _SHARED * len(ids) and same_name.sum() >= (1 - _FEW) * same_id.sum() > 0
    )


def _takes_turns(own: Table, rank: Int64, count: int) -> bool:
    rows = [np.flatnonzero(rank == i) for i in range(count)]
    begin = max(int(own["start_ns"][row].min()) for row in rows)
    end = min(int(own["end_ns"][row].max()) for row in rows)
    if end <= begin:
        return False
    busy = [_union_ns(own, row, begin, end) for row in rows]
    free = float(np.prod([1 - one / (end - begin) for one in busy]))
    expected = sum(busy) - (1 - free) * (end - begin)
    overlap = sum(busy) - _union_ns(own, np.concatenate(rows), begin, end)
    return expected > _EXPECTED * (end - begin) and overlap < _FEW * expected


def _union_ns(own: Table, rows: npt.NDArray[np.intp], begin: int, end: int) -> int:
    start, stop = np.clip(own["start_ns"][rows], begin, end), np.clip(own["end_ns"][rows], begin, end)
    order = np.argsort(start, kind="stable")
    start, stop = start[order], np.maximum.accumulate(stop[order])
    covered = np.concatenate([[begin], stop[:-1]])
    return int(np.maximum(stop - np.maximum(start, covered), 0).sum())


def own_devices(own: Table, launches: Launches) -> tuple[dict[int, int], bool]:
    """Which process each device belongs to, where every process has one to itself.

    Returns:
        device to the index of its process, empty where it isn't so; and whether another order would fit as well.
    """
    devices, first, of = np.unique(own["device"], return_index=True, return_inverse=True)
    order = np.argsort(first)
    count = len(launches.processes)
    if len(devices) != count:
        return {}, False
    wanted, start = own["correlation"].astype(np.int64), own["start_ns"]
    amiss = np.zeros((count, count), dtype=np.int64)  # of each device, in the file's order, for each process
    anyone = np.zeros(len(wanted), dtype=np.bool_)
    fits = np.zeros((count, len(wanted)), dtype=np.bool_)
    for i in range(count):
        mine = launches.rank == i
        ids, launched = launches.correlation[mine], launches.start_ns[mine]
        at = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
        fits[i] = (ids[at] == wanted) & (launched[at] <= start)
        anyone |= fits[i]
    size = np.array([np.count_nonzero(anyone & (of == device)) for device in order])
    for i in range(count):
        amiss[:, i] = [np.count_nonzero(anyone & ~fits[i] & (of == device)) for device in order]
    chosen, guessed = _assigned(amiss)
    if np.any(amiss[np.arange(count), chosen] > _FEW * size):
        return {}, False
    return {int(devices[order[i]]): int(chosen[i]) for i in range(count)}, guessed


def _assigned(amiss: Int64) -> tuple[Int64, bool]:
    """A column for each row with little amiss, in order where that is as good; whether a swap would be as good."""
    count = len(amiss)
    chosen = np.arange(count)
    better = True
    while better:
        better, equal = False, False
        for i in range(count):
            for j in range(i + 1, count):
                now = amiss[i, chosen[i]] + amiss[j, chosen[j]]
                swapped = amiss[i, chosen[j]] + amiss[j, chosen[i]]
                equal |= bool(swapped == now)
                if swapped < now:
                    chosen[[i, j]] = chosen[[j, i]]
                    better = True
    return chosen, equal
