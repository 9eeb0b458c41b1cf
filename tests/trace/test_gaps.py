"""Busy, idle and gaps are exact: against brute force, against Decimal on real files, and by their own sums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laptime.trace.gaps import EDGES_NS, device_gaps, histogram, largest, median_ns, union_ns
from tests.trace.build_timeline import build
from tests.trace.write_traces import ActivityRow

INTERVALS = st.lists(
    st.tuples(st.integers(0, 300), st.integers(0, 40), st.integers(0, 2), st.sampled_from(["kernel", "memcpy"])),
    min_size=1,
    max_size=60,
)


def rows_of(intervals: list[tuple[int, int, int, str]]) -> list[ActivityRow]:
    return [ActivityRow(s, s + d, "k", kind, stream=stream) for s, d, stream, kind in intervals]


@given(INTERVALS)
def test_busy_is_the_union_and_idle_the_rest(intervals: list[tuple[int, int, int, str]]) -> None:
    (gaps,) = device_gaps(build(rows_of(intervals)).activities)
    covered = {instant for s, d, *_ in intervals for instant in range(s, s + d)}
    first, last = min(s for s, *_ in intervals), max(s + d for s, d, *_ in intervals)
    assert gaps.busy_ns == len(covered)
    assert gaps.span_ns == last - first
    assert gaps.busy_ns + gaps.idle_ns == gaps.span_ns
    idle = {t for a, b in zip(gaps.gap_start_ns, gaps.gap_end_ns, strict=True) for t in range(a, b)}
    assert idle == set(range(first, last)) - covered


@given(INTERVALS)
def test_each_gap_lies_between_the_work_it_names(intervals: list[tuple[int, int, int, str]]) -> None:
    activities = build(rows_of(intervals)).activities
    (gaps,) = device_gaps(activities)
    assert (activities.end_ns[gaps.before] == gaps.gap_start_ns).all()
    assert (activities.start_ns[gaps.after] == gaps.gap_end_ns).all()
    assert (gaps.gap_end_ns > gaps.gap_start_ns).all()


@given(st.lists(st.integers(1, 3_000_000), max_size=80))
def test_histogram_sums_to_the_idle_time(durations: list[int]) -> None:
    length = np.array(durations, dtype=np.int64)
    bins = histogram(length)
    assert len(bins) == 7
    assert [b.hi_ns for b in bins] == [*EDGES_NS, None]
    assert sum(b.count for b in bins) == len(durations)
    assert sum(b.total_ns for b in bins) == sum(durations)
    for b in bins:
        inside = [d for d in durations if b.lo_ns <= d < (b.hi_ns or 10**12)]
        assert (b.count, b.total_ns) == (len(inside), sum(inside))


@pytest.mark.parametrize(
    ("edge", "index"), [(999, 0), (1_000, 1), (4_999, 1), (5_000, 2), (999_999, 5), (1_000_000, 6)]
)
def test_an_edge_belongs_to_the_bin_above(edge: int, index: int) -> None:
    assert [b.count for b in histogram(np.array([edge]))].index(1) == index


@given(INTERVALS)
def test_union_is_what_brute_force_counts(intervals: list[tuple[int, int, int, str]]) -> None:
    ordered = sorted((s, s + d) for s, d, *_ in intervals)
    start, end = (np.array(column, dtype=np.int64) for column in zip(*ordered, strict=True))
    assert union_ns(start, end) == len({t for s, e in ordered for t in range(s, e)})


def test_devices_are_apart_and_times_of_today_stay_exact() -> None:
    t = 1_712_195_495_519_689_034
    rows = [
        ActivityRow(t, t + 10, device=0),
        ActivityRow(t + 5, t + 8, device=0, stream=9),
        ActivityRow(t + 13, t + 14, device=0),
        ActivityRow(t + 11, t + 12, device=3),
    ]
    zero, three = device_gaps(build(rows).activities)
    assert (zero.device, zero.span_ns, zero.busy_ns, zero.idle_ns) == (0, 14, 11, 3)
    assert (zero.gap_start_ns.tolist(), zero.gap_end_ns.tolist()) == ([t + 10], [t + 13])
    assert (three.device, three.span_ns, three.idle_ns, len(three.gap_start_ns)) == (3, 1, 0, 0)


def test_a_negative_duration_is_no_time() -> None:
    (gaps,) = device_gaps(build([ActivityRow(0, 10), ActivityRow(20, 5), ActivityRow(30, 40)]).activities)
    assert (gaps.span_ns, gaps.busy_ns) == (40, 20)


def test_median_and_largest() -> None:
    assert median_ns(np.array([], dtype=np.int64)) is None
    assert median_ns(np.array([5, 1, 9, 7])) == 5
    assert largest(np.array([3, 9, 9, 1]), 3).tolist() == [1, 2, 0]
