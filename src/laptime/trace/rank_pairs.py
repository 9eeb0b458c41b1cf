"""Which collectives of several ranks are one: the n-th of a process group on each of its ranks.

Where the traces name the process group of each collective (tensor, pipeline and data parallel groups), ranks are paired
within their groups, and clocks are aligned from group to group. Else all ranks must have run the same collectives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.trace.read.timeline import Int64

POINT_TO_POINT = frozenset({"send", "recv", "isend", "irecv", "batch_isend_irecv", "coalesced"})
"""Operations between two ranks of a group: the n-th of one rank is not the n-th of another."""


@dataclass(frozen=True, eq=False, slots=True)
class Collectives:
    """One rank's collectives in the order of their start. `groups`: a JSON list of name, ranks, operation; or empty."""

    rank: int
    names: Sequence[str]
    groups: Sequence[str]
    start_ns: Int64
    end_ns: Int64


@dataclass(frozen=True, eq=False, slots=True)
class Paired:
    """Collectives that some ranks ran together: one row for each of `members`, one column for each collective."""

    members: npt.NDArray[np.intp]  # places among the ranks
    start_ns: Int64
    end_ns: Int64


def pair(ranks: Sequence[Collectives]) -> tuple[list[Paired], str]:
    """The collectives that belong together; or none, and why."""
    if all(len(rank.groups) == len(rank.names) and len(rank.names) for rank in ranks):
        found = _by_group(ranks)
        if found:
            return found, ""
    sequence = list(ranks[0].names)
    if any(list(rank.names) != sequence for rank in ranks):
        return [], "the ranks did not run the same collectives in the same order"
    everyone = np.arange(len(ranks))
    return [Paired(everyone, *(np.stack([getattr(rank, c) for rank in ranks]) for c in ("start_ns", "end_ns")))], ""


def _by_group(ranks: Sequence[Collectives]) -> list[Paired]:
    """Pairs within each process group whose ranks ran the same operations in it."""
    members: dict[tuple[str, tuple[int, ...]], dict[int, list[tuple[int, str]]]] = {}
    for place, rank in enumerate(ranks):
        for i, text in enumerate(rank.groups):
            name, own, operation = msgspec.json.decode(text) if text else (None, None, None)
            if operation is not None and str(operation).lower() in POINT_TO_POINT:
                continue
            key = (str(name), tuple(own or ()))
            if own and rank.rank not in own:
                key = (f"{name} of {rank.rank}", key[1])  # the file's rank is not the group's: pair it with nobody
            members.setdefault(key, {}).setdefault(place, []).append((i, f"{operation} {rank.names[i]}"))
    pairs = []
    for rows in members.values():
        sequences = [[operation for _, operation in row] for row in rows.values()]
        if len(rows) < 2 or any(sequence != sequences[0] for sequence in sequences):
            continue
        start, end = (
            np.stack([getattr(ranks[place], column)[[i for i, _ in row]] for place, row in rows.items()])
            for column in ("start_ns", "end_ns")
        )
        pairs.append(Paired(np.array(list(rows), dtype=np.intp), start, end))
    return pairs


def offsets_of(count: int, pairs: Sequence[Paired]) -> Int64 | None:
    """Each clock's lead over the first rank's, by the ends of shared collectives; None where some share none.

    From rank to rank by the group with the most collectives between those that are known and those that are not.
    """
    offsets = np.zeros(count, dtype=np.int64)
    known = np.zeros(count, dtype=np.bool_)
    known[0] = True
    while not known.all():
        best: tuple[int, int, int, Paired] | None = None
        for one in pairs:
            inside, outside = known[one.members], ~known[one.members]
            if inside.any() and outside.any() and (best is None or one.end_ns.shape[1] > best[0]):
                best = (one.end_ns.shape[1], int(np.argmax(inside)), int(np.argmax(outside)), one)
        if best is None:
            return None
        _, base, new, one = best
        lead = int(np.median(one.end_ns[new] - one.end_ns[base]))
        offsets[one.members[new]] = offsets[one.members[base]] + lead
        known[one.members[new]] = True
    return offsets
