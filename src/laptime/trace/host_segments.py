"""What one host thread was doing, as flat segments: at each instant the innermost call or range that is open.

Nested intervals (Python frame > operator > API call) are flattened in O(n log n) without a loop over them.
"""

from __future__ import annotations

from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.trace.read.distinct import each_once
from laptime.trace.read.tables import Column
from laptime.trace.read.timeline import Int32, Int64

_PIECES = 1_000
_BLOCK = 8_192
"""Intervals that are nested together: what that needs stays in the processor's cache."""


class Segments(msgspec.Struct, frozen=True, eq=False):
    """Segment i lasts from edge_ns[i] to edge_ns[i + 1]; `owner[i]` is an index into the intervals given, or -1.

    Before the first edge and after the last one nothing is open.
    """

    edge_ns: Int64  # ascending, n + 1
    owner: Int32  # n


def flatten(start_ns: Int64, end_ns: Int64) -> Segments:
    """The innermost interval at each instant: of those open, the one that opened last.

    An interval that ends inside one that opened later owns nothing from there on, so it is cut where the other opens;
    what is left nests.
    """
    opened, start, end = _in_opening_order(start_ns, end_ns)
    if len(opened) == 0:
        return Segments(np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int32))
    if np.all(start[1:] >= end[:-1]):  # side by side, as the API calls of one thread are
        edges, owners = np.empty(2 * len(opened), dtype=np.int64), np.full(2 * len(opened) - 1, -1, dtype=np.int32)
        edges[0::2], edges[1::2] = start, end
        owners[0::2] = opened
        return Segments(edges, owners)
    events = _events(opened, start, end)
    return Segments(events.time_ns, events.top[:-1])


def nest(start_ns: Int64, end_ns: Int64) -> tuple[Segments, Int32, Int32]:
    """The same; for each interval the one that it opened in, -1 for none; and how many it lies in. An empty one lies in
    none."""
    parent, level = np.full(len(start_ns), -1, dtype=np.int32), np.zeros(len(start_ns), dtype=np.int32)
    opened, start, end = _in_opening_order(start_ns, end_ns)
    if len(opened) == 0:
        return flatten(start_ns, end_ns), parent, level
    events = _events(opened, start, end)
    parent[opened], level[opened] = events.parent, events.level
    return Segments(events.time_ns, events.top[:-1]), parent, level


def _in_opening_order(start_ns: Int64, end_ns: Int64) -> tuple[Int32, Int64, Int64]:
    """Which intervals last (an empty one owns no time), in the order in which they open, an outer one before an inner
    one with the same start; their starts and ends."""
    order = None
    if np.any(start_ns[1:] < start_ns[:-1]):
        order = np.argsort(start_ns, kind="stable")  # merges the sorted runs that are given
        start_ns, end_ns = start_ns[order], end_ns[order]
    lasting = end_ns > start_ns
    if not lasting.all():
        order = np.flatnonzero(lasting) if order is None else order[lasting]
        start_ns, end_ns = start_ns[lasting], end_ns[lasting]
    if np.any((start_ns[1:] == start_ns[:-1]) & (end_ns[1:] > end_ns[:-1])):
        outer_first = np.lexsort((-end_ns, start_ns))
        order = outer_first if order is None else order[outer_first]
        start_ns, end_ns = start_ns[outer_first], end_ns[outer_first]
    opened = np.arange(len(start_ns), dtype=np.int32) if order is None else order.astype(np.int32)
    return opened, start_ns, end_ns


class _Events(msgspec.Struct, frozen=True, eq=False):
    """Openings and closings in order of time. `top[i]` is the innermost interval open after the i-th, -1 for none."""

    time_ns: Int64
    top: Int32
    parent: Int32  # of each interval, in the order of their opening, the one that it opened in, -1 for none
    level: Int32  # of each of them how many it lies in


class _Levels(msgspec.Struct, frozen=True, eq=False):
    """Openings and closings grouped by nesting depth, in each depth in order of time.

    At each depth openings and closings take turns. Where intervals nest, a closing belongs to the opening before it.
    """

    time_ns: Int64  # of all events, in order of time
    number: Int32  # of an event which interval it opens; unset for closings
    level: Int32  # of an event how many intervals hold the one that it opens or closes
    opens: npt.NDArray[np.bool_]
    opening: npt.NDArray[np.intp]  # events, by depth
    closing: npt.NDArray[np.intp]  # the one after each opening, at its depth


def _events(opened: Int32, start: Int64, end: Int64) -> _Events:
    """Openings and closings of intervals in the order of their opening, numbered as in `opened`."""
    count = len(opened)
    time_ns, top = np.empty(2 * count, dtype=np.int64), np.empty(2 * count, dtype=np.int32)
    parent, level = (np.empty(count, dtype=np.int32) for _ in range(2))
    for first, stop in pairwise(_blocks(start, end)):
        levels = _levels(start[first:stop], end[first:stop])
        crossing = _crossing(levels, end[first:stop])
        if crossing.any():
            cut = _without_crossings(start[first:stop], end[first:stop], crossing)
            levels = _levels(start[first:stop], cut)
        named = np.append(opened[first:stop], np.int32(-1))
        numbers, within = levels.number[levels.opening], named[_holders(levels)]
        events = slice(2 * first, 2 * stop)
        time_ns[events], level[first:stop] = levels.time_ns, levels.level[levels.opens]
        top[events][levels.opening], top[events][levels.closing] = named[numbers], within
        parent[first:stop][numbers] = within
    return _Events(time_ns, top, parent, level)


def _blocks(start: Int64, end: Int64) -> list[int]:
    """Where intervals can be parted, as nothing is open there: about _BLOCK of them lie between two such places."""
    alone = np.flatnonzero(start[1:] >= np.maximum.accumulate(end)[:-1]) + 1
    wanted = np.searchsorted(alone, np.arange(_BLOCK, len(start) - _BLOCK, _BLOCK))
    return [0, *each_once(alone[wanted[wanted < len(alone)]]).tolist(), len(start)]


def _holders(levels: _Levels) -> Int32:
    """For each opening, by depth, the interval that it lies in, -1 for none.

    What opens right after an opening lies in that one. What opens right after a closing lies where the closed one lay,
    which stands before it among the openings of its depth.
    """
    before = levels.opening - 1
    deeper = levels.opens[before]
    deeper[0] = True  # the first event of all, with nothing before it
    holder = levels.number[before]
    holder[0] = -1
    result: Int32 = holder[np.maximum.accumulate(np.where(deeper, np.arange(len(deeper), dtype=np.int32), np.int32(0)))]
    return result


def _levels(start: Int64, end: Int64) -> _Levels:
    """The events of intervals in the order of their opening."""
    count = len(start)
    times = np.concatenate([np.sort(end, kind="stable"), start])  # nearly sorted: merging is faster than sorting anew
    order = np.argsort(times, kind="stable")  # at one instant, what ends does so before anything opens
    opens = order >= count
    level = np.cumsum(np.where(opens, np.int8(1), np.int8(-1)), dtype=np.int32) - opens
    by_level = np.argsort(level.astype(np.int16) if level.max() < 2**15 else level, kind="stable")  # int16: no compares
    number = (order - count).astype(np.int32)
    return _Levels(times[order], number, level, opens, by_level[0::2], by_level[1::2])


def _crossing(levels: _Levels, end: Int64) -> npt.NDArray[np.bool_]:
    """Which intervals do not close in the reverse order of their opening: none where all nest."""
    opened = levels.number[levels.opening]
    result = np.zeros(len(end), dtype=np.bool_)
    result[opened] = end[opened] != levels.time_ns[levels.closing]
    return result


def _without_crossings(start: Int64, end: Int64, crossing: npt.NDArray[np.bool_]) -> Int64:
    """The ends of intervals (outer ones first), cut where an interval opens that outlasts this one."""
    # Only groups of intervals that share instants with a crossing one are looked at one by one.
    fresh = np.r_[True, start[1:] >= np.maximum.accumulate(end)[:-1]]
    bounds = np.append(np.flatnonzero(fresh), len(start))
    cut: Int64 = end.copy()
    for group in each_once(np.cumsum(fresh)[crossing] - 1).tolist():
        first, last = int(bounds[group]), int(bounds[group + 1])
        opened, closes = start[first:last].tolist(), end[first:last].tolist()
        waiting: list[int] = []  # intervals that none has outlasted yet, the innermost last
        for i, close in enumerate(closes):
            while waiting and closes[waiting[-1]] < close:
                outlasted = waiting.pop()
                cut[first + outlasted] = min(opened[i], closes[outlasted])
            waiting.append(i)
    return cut


def overlay(under: Segments, start_ns: Int64, end_ns: Int64, value: int) -> Segments:
    """`under` with `value` as the owner inside the union of the intervals given (in start order)."""
    if len(start_ns) == 0:
        return under
    reach = np.maximum.accumulate(np.maximum(end_ns, start_ns))
    fresh = np.r_[True, start_ns[1:] > reach[:-1]]
    begins = start_ns[fresh]
    ends = reach[np.r_[np.flatnonzero(fresh)[1:] - 1, len(reach) - 1]]
    # Every begin and end becomes an edge; segments of no length may come of it, which own no time.
    cuts = np.stack([begins, ends], axis=1).ravel()
    at = np.searchsorted(under.edge_ns, cuts, side="right")
    edges = _with(under.edge_ns, at, cuts)
    cut_at = at + np.arange(len(cuts))
    last = len(under.edge_ns)
    before = np.where((at > 0) & (at < last), np.append(under.owner, np.int32(-1))[np.minimum(at, last) - 1], -1)
    owner = _with(np.append(under.owner, np.int32(-1)), at, before.astype(np.int32))[:-1]
    lengths = cut_at[1::2] - cut_at[0::2]
    inside = np.repeat(cut_at[0::2] - (np.cumsum(lengths) - lengths), lengths) + np.arange(int(lengths.sum()))
    owner[inside] = value
    return Segments(edges, owner)


def _with(values: Column, at: npt.NDArray[np.intp], new: Column) -> Column:
    """Values with new ones before some places; few are put in piece by piece, which copies fastest."""
    if len(at) > _PIECES:
        return np.insert(values, at, new)
    parts = [values[: at[0]]]
    for i, stop in enumerate([*at[1:].tolist(), len(values)]):
        parts += [new[i : i + 1], values[at[i] : stop]]
    return np.concatenate(parts)


def owner_at(segments: Segments, time_ns: Int64) -> Int32:
    """The owner at each instant; -1 where nothing is open."""
    at = np.searchsorted(segments.edge_ns, time_ns, side="right") - 1
    inside = (at >= 0) & (at < len(segments.owner))
    result = np.full(len(time_ns), -1, dtype=np.int32)
    result[inside] = segments.owner[at[inside]]
    return result


class Pieces(msgspec.Struct, frozen=True, eq=False):
    """What windows and segments share, one row for each segment in each window."""

    window: npt.NDArray[np.intp]
    segment: npt.NDArray[np.intp]
    time_ns: Int64


def pieces(segments: Segments, begin_ns: Int64, end_ns: Int64) -> Pieces:
    """Each window [begin, end) cut where segments begin; what lies in no segment is left out."""
    edges = segments.edge_ns
    first = np.maximum(np.searchsorted(edges, begin_ns, side="right") - 1, 0)
    stop = np.minimum(np.searchsorted(edges, end_ns), len(segments.owner))
    count = np.where(end_ns > begin_ns, np.maximum(stop - first, 0), 0)
    window = np.repeat(np.arange(len(count)), count)
    segment = np.arange(len(window)) + np.repeat(first - (np.cumsum(count) - count), count)
    time_ns = np.minimum(edges[segment + 1], end_ns[window]) - np.maximum(edges[segment], begin_ns[window])
    return Pieces(window, segment, time_ns)


def stretch(segments: Segments, begin_ns: int, end_ns: int) -> slice:
    """Which segments can hold any of [begin, end)."""
    first = max(int(np.searchsorted(segments.edge_ns, begin_ns, side="right")) - 1, 0)
    return slice(first, max(min(int(np.searchsorted(segments.edge_ns, end_ns)), len(segments.owner)), first))
