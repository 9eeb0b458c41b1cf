"""What a thread was doing, cut into windows and nested: against definitions that look at every instant."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from laptime.trace.host_segments import flatten, nest, owner_at, pieces

INTERVALS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30)), max_size=12)
WINDOWS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=8)


def columns(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    start = np.array([begin for begin, _ in pairs], dtype=np.int64)
    return start, start + np.array([lasts for _, lasts in pairs], dtype=np.int64)


@given(INTERVALS, WINDOWS)
def test_pieces_hold_each_instant_of_a_window_once(
    intervals: list[tuple[int, int]], apart: list[tuple[int, int]]
) -> None:
    """Windows one after the other, each some time after the last one."""
    segments = flatten(*columns(intervals))
    edges = np.cumsum(np.array(apart, dtype=np.int64).reshape(-1))
    begin, end = edges[0::2], edges[1::2]
    found = pieces(segments, begin, end)
    for window in range(len(begin)):
        owners = owner_at(segments, np.arange(begin[window], end[window])).tolist()
        own = found.window == window
        spent = np.zeros(len(intervals) + 1, dtype=np.int64)
        np.add.at(spent, segments.owner[found.segment[own]], found.time_ns[own])
        assert spent[:-1].tolist() == [owners.count(i) for i in range(len(intervals))]


@given(st.lists(st.booleans(), max_size=30))
def test_an_interval_lies_in_what_is_open_when_it_opens(opens: list[bool]) -> None:
    start, end, holder, depth, waiting = [], [], [], [], []  # one list for each, and those that are open
    for at, opening in enumerate([*opens, *[False] * 30]):
        if opening:
            holder.append(waiting[-1] if waiting else -1)
            depth.append(len(waiting))
            waiting.append(len(start))
            start.append(at)
            end.append(at)
        elif waiting:
            end[waiting.pop()] = at
    _, parent, level = nest(np.array(start, dtype=np.int64), np.array(end, dtype=np.int64))
    assert (parent.tolist(), level.tolist()) == (holder, depth)


def test_a_long_thread_is_nested_as_its_parts_are() -> None:
    """What repeats 6,000 times, with an interval that ends inside a later one, is worked on in several blocks."""
    start, end = columns([(0, 90), (10, 30), (20, 15), (50, 50), (60, 5)])
    one, parent, _ = nest(start, end)
    times = 6_000
    shift = np.repeat(np.arange(times) * 100, len(start))
    whole, parents, _ = nest(np.tile(start, times) + shift, np.tile(end, times) + shift)
    number = np.repeat(np.arange(times) * len(start), len(start))
    assert np.array_equal(parents, np.where(np.tile(parent, times) >= 0, np.tile(parent, times) + number, -1))
    instants = np.arange(100)
    expected = owner_at(one, instants)
    for turn in (0, 1, 1_637, 1_638, 1_639, 3_500, times - 1):
        owners = owner_at(whole, instants + turn * 100)
        assert np.array_equal(owners, np.where(expected >= 0, expected + turn * len(start), -1))
