"""Which call launched an activity: by process and correlation, never by either alone."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.trace.read.launch_links import launches
from laptime.trace.read.reading import read_timeline
from tests.trace.read.rows_back import activity_rows, call_rows
from tests.trace.write_traces import ActivityRow, CallRow, write_nsys

ids = st.tuples(st.integers(1, 3), st.integers(0, 6))


@settings(max_examples=60, deadline=None)
@given(ran=st.lists(ids, max_size=20), called=st.lists(ids, max_size=20))
def test_launches_are_the_first_call_of_the_same_process_and_correlation(tmp_path_factory, ran, called) -> None:
    activities = [ActivityRow(1_000 + i, 2_000 + i, correlation=c, process=p) for i, (p, c) in enumerate(ran)]
    calls = [CallRow(i, i + 1, correlation=c, process=p, thread=p) for i, (p, c) in enumerate(called)]
    timeline = read_timeline(write_nsys(tmp_path_factory.mktemp("launch") / "t.sqlite", activities, calls))
    rows, calls = activity_rows(timeline), call_rows(timeline)
    expected = [
        next((i for i, c in enumerate(calls) if (c.process, c.correlation) == (a.process, a.correlation)), -1)
        for a in rows
    ]
    assert launches(timeline).tolist() == expected


def test_no_correlation_is_no_link(tmp_path: Path) -> None:
    path = write_nsys(tmp_path / "t.sqlite", [ActivityRow(5, 6)], [CallRow(1, 2, correlation=-1)])
    assert launches(read_timeline(path)).tolist() == [-1]
