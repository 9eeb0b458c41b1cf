"""Which collectives of several ranks are one: the n-th of a process group on each of its ranks.

Where the traces name the process group of each collective (tensor, pipeline and data parallel groups), ranks are paired
within their groups, and clocks are aligned from group to group. Else all ranks must have run the same collectives.
Captures may begin or end at different ones: the parts that belong together are found by when their collectives end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.trace.read.timeline import Int64

EDGE = 256
"""Captures that begin or end at different collectives are compared where they differ by at most so many."""

OVERLAP = 0.5
"""The least share of the shorter capture's collectives that are compared then."""

NEAR_NS = 20_000
"""Ends of the same sequences that lie within this belong together as they come."""

CLEARER = 3
"""How many times as far apart the ends must lie for every other pairing: else which belong together isn't known."""

LEAST_COMMON = 8
"""The fewest collectives whose ends say where two captures belong together."""

GRAIN_NS = 2_000
"""Ends that lie nearer than this are as near as any."""

POINT_TO_POINT = frozenset({"send", "recv", "isend", "irecv", "batch_isend_irecv", "coalesced"})
"""Operations between two ranks of a group: the n-th of one rank is not the n-th of another."""

_ONE_WAY = re.compile(
    r"^_?(broadcast|reduce|gather|scatter)(_oop)? |nccl(?:Dev)?(?:Kernel)?_?(?:Broadcast|Reduce(?!Scatter))",
    re.IGNORECASE,
)
"""Operations from one rank to all or back: who only sends is done before the others, so they don't end together."""

Mask = npt.NDArray[np.bool_]


class Collectives(msgspec.Struct, frozen=True, eq=False):
    """One rank's collectives in the order of their start. `groups`: a JSON list of name, ranks, operation; or empty."""

    rank: int
    names: Sequence[str]
    groups: Sequence[str]
    start_ns: Int64
    end_ns: Int64


class Paired(msgspec.Struct, frozen=True, eq=False):
    """Collectives that some ranks ran together: one row for each of `members`, one column for each collective."""

    members: npt.NDArray[np.intp]  # places among the ranks
    start_ns: Int64
    end_ns: Int64
    together: Mask  # of each collective whether it ends on all ranks together, which says how their clocks differ

    def timed(self) -> Paired:
        """Those of them that last on every rank: of one recorded to last no time the end isn't known."""
        lasts = (self.end_ns > self.start_ns).all(axis=0)
        if lasts.all():
            return self
        return Paired(self.members, self.start_ns[:, lasts], self.end_ns[:, lasts], self.together[lasts])


def pair(ranks: Sequence[Collectives]) -> tuple[list[Paired], str]:
    """The collectives that belong together; or none, and why."""
    if all(len(rank.groups) == len(rank.names) and len(rank.names) for rank in ranks):
        found = _by_group(ranks)
        if found:
            return found, ""
    rows = [np.arange(len(rank.names)) for rank in ranks]
    common = _common([list(rank.names) for rank in ranks], [rank.end_ns for rank in ranks])
    if common is None:
        return [], _why_none([list(rank.names) for rank in ranks])
    cuts = [row[cut] for row, cut in zip(rows, common, strict=True)]
    return [_paired(ranks, list(range(len(ranks))), cuts, list(ranks[0].names)[common[0]])], ""


def _why_none(sequences: Sequence[list[str]]) -> str:
    """Why no part of some sequences is known to be common: they differ, or captures begin or end apart."""
    others = [[name for name in sequence if "sendrecv" not in name.lower()] for sequence in sequences]
    paired = others != sequences
    if paired and all(sequence == others[0] for sequence in others):
        return "sends and receives are among them, and the files don't say which of two ranks belong together"
    longest = max(sequences, key=len)
    counts = [len(sequence) for sequence in sequences]
    if not paired and min(counts) and all(_holds(longest, sequence) for sequence in sequences):
        held = f"{min(counts)} to {max(counts)} of the same collectives"
        return f"the files hold {held}, and which of them belong together isn't certain"
    return "the ranks did not run the same collectives in the same order"


def _holds(sequence: list[str], part: list[str]) -> bool:
    """Whether a part stands in a sequence as it is, at its beginning, its end, or at most EDGE behind its beginning."""
    last = len(sequence) - len(part)
    return any(sequence[at : at + len(part)] == part for at in {*range(min(last, EDGE) + 1), last})


def _together(names: Sequence[str]) -> Mask:
    """Which operations end on all ranks together; all of them where none is known to."""
    result = np.array([_ONE_WAY.search(name) is None for name in names], dtype=np.bool_)
    return result if result.any() else ~result


def _paired(
    ranks: Sequence[Collectives], places: list[int], rows: Sequence[npt.NDArray[np.intp]], names: Sequence[str]
) -> Paired:
    start, end = (
        np.stack([getattr(ranks[place], column)[own] for place, own in zip(places, rows, strict=True)])
        for column in ("start_ns", "end_ns")
    )
    return Paired(np.array(places, dtype=np.intp), start, end, _together(names))


def _common(sequences: Sequence[list[str]], ends_ns: Sequence[Int64]) -> list[slice] | None:
    """Of each rank the part of its collectives that all ranks hold; None where that isn't known.

    All of them where the ranks ran the same, and it fits. Else the captures begin or end apart: the parts are those of
    equal names whose ends lie nearest, and clearly nearer than those of any other.
    """
    names = sorted({name for sequence in sequences for name in sequence})
    number = {name: i for i, name in enumerate(names)}
    coded = [np.array([number[name] for name in sequence], dtype=np.int64) for sequence in sequences]
    same = all(sequence == sequences[0] for sequence in sequences)
    whole = [slice(0, len(coded[0]))] * len(coded)
    mask = _together(sequences[0])
    if same and all(_apart((end - ends_ns[0])[mask]) <= NEAR_NS for end in ends_ns[1:]):
        return whole
    shifts = [0]
    for other, end in zip(coded[1:], ends_ns[1:], strict=True):
        shift = _shift(coded[0], other, ends_ns[0], end, mask)
        if shift is None:
            return whole if same else None
        shifts.append(shift)
    begin = max(-shift for shift in shifts)
    stop = min(len(own) - shift for own, shift in zip(coded, shifts, strict=True))
    if stop - begin < OVERLAP * min(map(len, coded)):
        return None
    return [slice(begin + shift, stop + shift) for shift in shifts]


def _apart(lead: Int64) -> float:
    """Within how much of their median three of four ends lie; of many, some thousand spread over them."""
    lead = lead[:: max(len(lead) // 4_096, 1)]
    return upper_quartile(np.abs(lead - np.median(lead))) if len(lead) else 0.0


def upper_quartile(values: npt.NDArray[np.signedinteger | np.float64]) -> float:
    """What three of four values are at most, by linear interpolation. np.percentile imports numpy.ma for it."""
    return float(np.interp(0.75 * (len(values) - 1), np.arange(len(values)), np.sort(values)))


def _shift(one: Int64, other: Int64, one_end: Int64, other_end: Int64, together: Mask) -> int | None:
    """By how much another rank's collectives are numbered higher than those that they belong to; None: not known.

    `together`: which of the one rank's end on all ranks together.
    """
    found: list[tuple[float, int]] = []
    for shift in range(-EDGE, EDGE + 1):
        a, b = max(0, -shift), min(len(one), len(other) - shift)
        if b - a < max(LEAST_COMMON, OVERLAP * min(len(one), len(other))):
            continue
        if not np.array_equal(one[a:b], other[a + shift : b + shift]):
            continue
        found.append((_apart((other_end[a + shift : b + shift] - one_end[a:b])[together[a:b]]), shift))
    found.sort()
    if not found or (len(found) > 1 and found[1][0] < CLEARER * found[0][0] + GRAIN_NS):
        return None
    return found[0][1]


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
        if len(rows) < 2:
            continue
        own = {place: np.array([i for i, _ in row], dtype=np.intp) for place, row in rows.items()}
        sequences = [[operation for _, operation in row] for row in rows.values()]
        common = _common(sequences, [ranks[place].end_ns[row] for place, row in own.items()])
        if common is not None:
            cut = [row[part] for row, part in zip(own.values(), common, strict=True)]
            pairs.append(_paired(ranks, list(own), cut, sequences[0][common[0]]))
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
            held = int(one.together.sum())
            if inside.any() and outside.any() and (best is None or held > best[0]):
                best = (held, int(np.argmax(inside)), int(np.argmax(outside)), one)
        if best is None:
            return None
        _, base, new, one = best
        lead = int(np.median((one.end_ns[new] - one.end_ns[base])[one.together]))
        offsets[one.members[new]] = offsets[one.members[base]] + lead
        known[one.members[new]] = True
    return offsets
