"""What one host thread was doing, as flat segments: at each instant the innermost call or range that is open.

Nested intervals (Python frame > operator > API call) are flattened in O(n log n) without a loop over them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from laptime.trace.timeline import Int32, Int64


@dataclass(frozen=True, eq=False, slots=True)
class Segments:
    """Segment i lasts from edge_ns[i] to edge_ns[i + 1]; `owner[i]` is an index into the intervals given, or -1.

    Before the first edge and after the last one nothing is open.
    """

    edge_ns: Int64  # ascending, n + 1
    owner: Int32  # n


def flatten(start_ns: Int64, end_ns: Int64) -> Segments:
    """The innermost interval at each instant. Intervals must nest; where they only overlap, one of the two wins.

    The innermost open interval after an event at nesting depth d is the one that opened last at depth d. So the
    events are grouped by depth and the last opening carried forward within each group.
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
    order = np.lexsort((-end, start))  # an outer interval opens before an inner one with the same start
    # Ends stand before starts, so that the stable sort closes before it opens at one instant.
    time = np.concatenate([end[order], start[order]])
    owner = np.concatenate([lasting[order]] * 2)
    opens = np.repeat([False, True], len(order))
    events = np.argsort(time, kind="stable")
    time, owner, opens = time[events], owner[events], opens[events]
    depth = np.cumsum(np.where(opens, 1, -1))
    by_depth = np.argsort(depth, kind="stable")
    position = np.arange(len(events))
    carried = np.maximum.accumulate(np.where(opens[by_depth], position, -1))
    first_of_group = np.r_[True, depth[by_depth][1:] != depth[by_depth][:-1]]
    group_start = np.maximum.accumulate(np.where(first_of_group, position, 0))
    found = carried >= group_start
    top = np.full(len(events), -1, dtype=np.int32)
    top[by_depth[found]] = owner[by_depth[carried[found]]]
    top[depth <= 0] = -1
    return Segments(time, top[:-1])


def overlay(under: Segments, start_ns: Int64, end_ns: Int64, value: int) -> Segments:
    """`under` with `value` as the owner inside the union of the intervals given (in start order)."""
    if len(start_ns) == 0:
        return under
    reach = np.maximum.accumulate(np.maximum(end_ns, start_ns))
    fresh = np.r_[True, start_ns[1:] > reach[:-1]]
    begins = start_ns[fresh]
    ends = reach[np.r_[np.flatnonzero(fresh)[1:] - 1, len(reach) - 1]]
    edges = np.sort(np.concatenate([under.edge_ns, begins, ends]), kind="stable")
    edges = edges[np.r_[True, edges[1:] > edges[:-1]]]
    owner = owner_at(under, edges[:-1])
    at = np.searchsorted(begins, edges[:-1], side="right") - 1
    covered = (at >= 0) & (edges[:-1] < ends[np.maximum(at, 0)])
    owner[covered] = value
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
    """For each label of segments: how much of each window [begin, end) lies in segments so labelled.

    Args:
        segments: the segments.
        label: one small number >= 0 for each segment.
        begin_ns, end_ns: the windows.
        but: a label that isn't asked for.
    """
    if len(label) == 0:
        return
    at_begin, at_end = _located(segments, begin_ns), _located(segments, end_ns)
    cumulated = np.zeros(len(label) + 1, dtype=np.int64)
    for value in np.flatnonzero(np.bincount(label)):  # np.unique is slower here
        if value == but:
            continue
        chosen = np.append(label == value, False)
        np.multiply(np.diff(segments.edge_ns), chosen[:-1], out=cumulated[1:])
        np.cumsum(cumulated[1:], out=cumulated[1:])
        spent = np.empty(len(begin_ns), dtype=np.int64)
        for first in range(0, len(spent), _BLOCK):  # in blocks: a trace has millions of gaps
            block = slice(first, first + _BLOCK)
            spent[block] = _time_before(segments, cumulated, chosen, at_end[block], end_ns[block])
            spent[block] -= _time_before(segments, cumulated, chosen, at_begin[block], begin_ns[block])
        yield int(value), spent


_BLOCK = 131_072


def _located(segments: Segments, time_ns: Int64) -> Int32:
    """For each instant the segment that it lies in: -1 before the first, their number behind the last."""
    at = np.empty(len(time_ns), dtype=np.int32)
    for first in range(0, len(at), _BLOCK):
        block = slice(first, first + _BLOCK)
        at[block] = np.searchsorted(segments.edge_ns, time_ns[block], side="right") - 1
    return at


def _time_before(
    segments: Segments, cumulated: Int64, chosen: npt.NDArray[np.bool_], at: Int32, time_ns: Int64
) -> Int64:
    """The chosen segments' time before each instant, which lies in segment `at`."""
    inside = np.maximum(at, 0)
    part = np.where(at >= 0, time_ns - segments.edge_ns[inside], 0)
    result: Int64 = cumulated[inside] + part * chosen[inside]
    return result
