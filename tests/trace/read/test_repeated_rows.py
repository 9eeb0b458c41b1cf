"""Events that a file holds twice count once; what is alike by its nature stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from laptime.trace.read.reading import read_timeline
from tests.trace.read.rows_back import activity_rows, call_rows
from tests.trace.write_traces import ActivityRow, CallRow, write_kineto


def a_program(count: int = 20) -> tuple[list[ActivityRow], list[CallRow]]:
    starts = [1_000_000 + 20_011 * i for i in range(count)]
    activities = [ActivityRow(at + 6_001, at + 16_003, f"k{i % 3}", correlation=i + 1) for i, at in enumerate(starts)]
    return activities, [CallRow(at, at + 5_000, correlation=i + 1) for i, at in enumerate(starts)]


def test_a_file_that_was_merged_with_itself_is_read_once(tmp_path: Path) -> None:
    activities, calls = a_program()
    once = read_timeline(write_kineto(tmp_path / "once.json", activities, calls))
    twice = read_timeline(write_kineto(tmp_path / "twice.json", [*activities, *activities], [*calls, *calls]))
    assert activity_rows(twice) == activity_rows(once)
    assert call_rows(twice) == call_rows(once)
    (finding,) = [finding for finding in twice.findings if finding.code == "repeated-events"]
    assert (finding.severity, finding.count) == ("warning", len(activities))
    assert not once.findings


def test_what_is_alike_by_its_nature_is_not_repeated(tmp_path: Path) -> None:
    """On two streams, on two GPUs, of two launches; and kernels of a graph whose times were rounded to the same."""
    activities, calls = a_program(4)
    other = [
        replace(activities[0], stream=8),
        replace(activities[1], device=1),
        replace(activities[2], correlation=90),
        *[replace(activities[3], name="in a graph", correlation=91)] * 2,
        replace(activities[3], name="beside it", correlation=91),
        replace(activities[3], name="behind it", correlation=91),
        *[replace(activities[3], end_ns=activities[3].start_ns, correlation=92)] * 2,
    ]
    timeline = read_timeline(write_kineto(tmp_path / "t.json", [*activities, *other], calls))
    assert len(activity_rows(timeline)) == len(activities) + len(other)
    assert not timeline.findings
