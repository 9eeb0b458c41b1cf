"""What one host thread was doing, as flat segments: at each instant the innermost call or range that is open.

Nested intervals (Python frame > operator > API call) are flattened in O(n log n) without a loop over them.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.trace.read.distinct import each_once
from laptime.trace.read.timeline import Int32, Int64


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
    lasting = np.flatnonzero(end_ns > start_ns)  # an empty interval owns no time
    if len(lasting) == 0:
        return Segments(np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int32))
    start, end = start_ns[lasting], end_ns[lasting]
    if np.all(start[1:] >= end[:-1]):  # side by side, as the API calls of one thread are
        edges, owners = np.empty(2 * len(lasting), dtype=np.int64), np.full(2 * len(lasting) - 1, -1, dtype=np.int32)
        edges[0::2], edges[1::2] = start, end
        owners[0::2] = lasting
        return Segments(edges, owners)
    events = _events(lasting, start, end)
    return Segments(events.time_ns, events.top[:-1])


def nest(start_ns: Int64, end_ns: Int64) -> tuple[Segments, Int32]:
    """The same, and for each interval the one that it opened in; -1 for none, and for an empty interval."""
    parent = np.full(len(start_ns), -1, dtype=np.int32)
    lasting = np.flatnonzero(end_ns > start_ns)
    if len(lasting) == 0:
        return flatten(start_ns, end_ns), parent
    events = _events(lasting, start_ns[lasting], end_ns[lasting])
    parent[events.opened] = np.where(events.at > 0, events.top[events.at - 1], -1)
    return Segments(events.time_ns, events.top[:-1]), parent


class _Events(msgspec.Struct, frozen=True, eq=False):
    """Openings and closings in order of time. `top[i]` is the innermost interval open after the i-th, -1 for none."""

    time_ns: Int64
    top: Int32
    opened: npt.NDArray[np.intp]  # intervals in the order of their opening
    at: npt.NDArray[np.intp]  # the event at which each of them opens


def _events(lasting: npt.NDArray[np.intp], start: Int64, end: Int64) -> _Events:
    """Openings and closings of intervals that last, numbered as in `lasting`.

    The innermost open interval after an event at nesting depth d is the one that opened last at depth d. So the events
    are grouped by depth and the last opening carried forward within each group.
    """
    order = _outer_first(start, end)
    start, end = start[order], np.sort(_without_crossings(start[order], end[order]))
    # Where each opening stands among all events. At one instant, what ends does so before anything opens.
    at = np.arange(len(start)) + np.searchsorted(end, start, side="right")
    opens = np.zeros(2 * len(start), dtype=np.bool_)
    opens[at] = True
    time = np.empty(len(opens), dtype=np.int64)
    time[at], time[~opens] = start, end
    owner = np.full(len(opens), -1, dtype=np.int32)
    opened = lasting[order]
    owner[at] = opened
    del order, start, end
    depth = np.cumsum(np.where(opens, np.int8(1), np.int8(-1)), dtype=np.int32)
    by_depth = np.argsort(depth.astype(np.int16) if depth.max() < 2**15 else depth, kind="stable")  # int16: no compares
    # At each depth above 0 the first event is an opening, so the last opening so far is one of the same depth.
    last = np.where(opens[by_depth], np.arange(len(opens), dtype=np.int32), np.int32(0))
    np.maximum.accumulate(last, out=last)
    top = np.empty(len(opens), dtype=np.int32)
    top[by_depth] = owner[by_depth][last]
    top[depth == 0] = -1
    return _Events(time, top, opened, at)


def _outer_first(start: Int64, end: Int64) -> npt.NDArray[np.intp]:
    """The order in which intervals open: an outer one before an inner one with the same start."""
    order = np.argsort(start, kind="stable")  # merges the sorted runs that are given
    first, last = start[order], end[order]
    if np.any((first[1:] == first[:-1]) & (last[1:] > last[:-1])):
        return np.lexsort((-end, start))
    return order


def _without_crossings(start: Int64, end: Int64) -> Int64:
    """The ends of intervals (outer ones first), cut where an interval opens that outlasts this one."""
    crossing = _crossing(start, end)
    if not crossing.any():
        return end
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


def _crossing(start: Int64, end: Int64) -> npt.NDArray[np.bool_]:
    """Which intervals do not close in the reverse order of their opening: none where all nest.

    At each depth openings and closings take turns; where intervals nest, a closing belongs to the opening before it.
    """
    closed = np.sort(end)
    at = np.arange(len(start)) + np.searchsorted(closed, start, side="right")
    opens = np.zeros(2 * len(start), dtype=np.bool_)
    opens[at] = True
    level = np.cumsum(np.where(opens, np.int8(1), np.int8(-1)), dtype=np.int32) + ~opens
    order = np.argsort(level.astype(np.int16) if level.max() < 2**15 else level, kind="stable")
    interval = np.empty(2 * len(start), dtype=np.int32)  # of an opening which interval, of a closing which of `closed`
    interval[at] = interval[~opens] = np.arange(len(start), dtype=np.int32)
    opening, closing = interval[order[0::2]], interval[order[1::2]]
    result = np.zeros(len(start), dtype=np.bool_)
    result[opening] = end[opening] != closed[closing]
    return result


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
    edges = np.insert(under.edge_ns, at, cuts)
    cut_at = at + np.arange(len(cuts))
    last = len(under.edge_ns)
    before = np.where((at > 0) & (at < last), np.append(under.owner, np.int32(-1))[np.minimum(at, last) - 1], -1)
    owner = np.insert(np.append(under.owner, np.int32(-1)), at, before.astype(np.int32))[:-1]
    change = np.zeros(len(edges), dtype=np.int8)
    change[cut_at[0::2]] += 1
    change[cut_at[1::2]] -= 1
    owner[np.cumsum(change, dtype=np.int8)[:-1] > 0] = value
    return Segments(edges, owner)


def owner_at(segments: Segments, time_ns: Int64) -> Int32:
    """The owner at each instant; -1 where nothing is open."""
    at = np.searchsorted(segments.edge_ns, time_ns, side="right") - 1
    inside = (at >= 0) & (at < len(segments.owner))
    result = np.full(len(time_ns), -1, dtype=np.int32)
    result[inside] = segments.owner[at[inside]]
    return result


def time_within(
    segments: Segments, label: npt.NDArray[np.int8], begin_ns: Int64, end_ns: Int64, *, but: int = -1
) -> Iterator[tuple[int, Int64]]:
    """For each label of segments: how much of each window [begin, end) lies in segments with that label.

    Args:
        segments: the segments.
        label: one small number >= 0 for each segment.
        begin_ns, end_ns: the windows.
        but: a label that isn't asked for.
    """
    if len(label) == 0:
        return
    at_begin, at_end = (np.searchsorted(segments.edge_ns, t, side="right") - 1 for t in (begin_ns, end_ns))
    length = np.diff(segments.edge_ns)
    cumulated = np.zeros(len(label) + 1, dtype=np.int64)
    for value in np.flatnonzero(np.bincount(label)):  # np.unique is slower here
        if value == but:
            continue
        chosen = np.append(label == value, False)
        np.cumsum(length * chosen[:-1], out=cumulated[1:])
        spent = _time_before(segments, cumulated, chosen, at_end, end_ns)
        spent -= _time_before(segments, cumulated, chosen, at_begin, begin_ns)
        yield int(value), spent


def stretch(segments: Segments, begin_ns: int, end_ns: int) -> slice:
    """Which segments can hold any of [begin, end)."""
    first = max(int(np.searchsorted(segments.edge_ns, begin_ns, side="right")) - 1, 0)
    return slice(first, max(min(int(np.searchsorted(segments.edge_ns, end_ns)), len(segments.owner)), first))


def _time_before(
    segments: Segments, cumulated: Int64, chosen: npt.NDArray[np.bool_], at: npt.NDArray[np.intp], time_ns: Int64
) -> Int64:
    """The chosen segments' time before each instant, which lies in segment `at`."""
    inside = np.maximum(at, 0)
    part = np.where(at >= 0, time_ns - segments.edge_ns[inside], 0)
    result: Int64 = cumulated[inside] + part * chosen[inside]
    return result
