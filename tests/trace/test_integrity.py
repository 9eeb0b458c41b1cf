"""What may be asked of a trace: each finding appears when its cause is there, with its count, and not otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from laptime.trace.integrity import check
from laptime.trace.read.reading import read_timeline
from laptime.trace.result import Integrity
from tests.trace.write_traces import ActivityRow, CallRow, RangeRow, write_kineto, write_nsys

T = 50_000_000_000
STEP = 10_007


def kernels(count: int, **changed: object) -> list[ActivityRow]:
    times = [(T + STEP * i, T + STEP * i + 3_001 + i) for i in range(count)]
    return [ActivityRow(start, end, correlation=i + 1, **changed) for i, (start, end) in enumerate(times)]  # type: ignore[arg-type]


def calls(count: int, name: str = "cudaLaunchKernel") -> list[CallRow]:
    return [CallRow(T + STEP * i - 9_003, T + STEP * i - 5_000, name, i + 1) for i in range(count)]


def kineto(folder: Path, activities: list[ActivityRow], launches: list[CallRow]) -> Integrity:
    return check(read_timeline(write_kineto(folder / "t.json", activities, launches)))


def nsys(folder: Path, activities: list[ActivityRow], launches: list[CallRow], **options: object) -> Integrity:
    path = write_nsys(folder / "t.sqlite", activities, launches, **options)  # type: ignore[arg-type]
    return check(read_timeline(path))


def codes(integrity: Integrity) -> dict[str, tuple[str, int]]:
    return {finding.code: (finding.severity, finding.count) for finding in integrity.findings}


@pytest.mark.parametrize("write", [kineto, nsys])
def test_a_whole_trace_is_ok(tmp_path: Path, write) -> None:
    assert write(tmp_path, kernels(40), calls(40)) == Integrity("ok", [])


def test_nothing_on_a_device_is_unsupported(tmp_path: Path) -> None:
    integrity = kineto(tmp_path, [], calls(3))
    assert integrity.verdict == "unsupported"
    assert "no-device-activity" in codes(integrity)


@pytest.mark.parametrize("write", [kineto, nsys])
@pytest.mark.parametrize(("launched", "severity", "verdict"), [(39, "warning", "ok"), (20, "severe", "partial")])
def test_activities_without_a_launch_record_are_counted(tmp_path: Path, write, launched, severity, verdict) -> None:
    integrity = write(tmp_path, kernels(40), calls(launched))
    assert codes(integrity) == {"no-launch-record": (severity, 40 - launched)}
    assert integrity.verdict == verdict


@pytest.mark.parametrize("write", [kineto, nsys])
def test_work_that_was_launched_before_the_capture_is_no_fault_of_it(tmp_path: Path, write) -> None:
    """A profiler that begins while the device works through its queue sees kernels without their launches."""
    integrity = write(tmp_path, kernels(40), calls(40)[25:])
    assert codes(integrity) == {"no-launch-record": ("info", 25)}
    assert integrity.verdict == "ok"


def test_a_trace_without_any_api_call_says_so_once(tmp_path: Path) -> None:
    assert codes(kineto(tmp_path, kernels(4), [])) == {"no-api-calls": ("severe", 1)}
    assert codes(nsys(tmp_path, kernels(4), [])) == {"missing-table": ("severe", 1)}


def test_kernels_before_their_launch_are_counted(tmp_path: Path) -> None:
    late = [CallRow(c.start_ns + 60_000, c.end_ns + 60_000, c.name, c.correlation) for c in calls(3)]
    integrity = kineto(tmp_path, kernels(40), [*late, *calls(40)[3:]])
    assert codes(integrity) == {"before-launch": ("severe", 3)}
    assert "50997 ns" in integrity.findings[0].message
    near = [CallRow(c.start_ns + 10_000, c.end_ns + 10_000, c.name, c.correlation) for c in calls(40)]
    assert codes(kineto(tmp_path, kernels(40), near)) == {"before-launch": ("warning", 40)}  # by a microsecond


def test_whole_graph_replays_hide_their_kernels(tmp_path: Path) -> None:
    graph = ActivityRow(T + 10**9, T + 10**9 + 5_001, "CUDA graph 1", "graph", correlation=41)
    integrity = nsys(tmp_path, [*kernels(40), graph], [*calls(40), CallRow(T, T + 1, "cudaGraphLaunch_v10000", 41)])
    assert codes(integrity) == {"graph-granularity": ("severe", 1)}
    assert integrity.verdict == "partial"


def replay(correlation: int, nodes: range, graph: int = 2) -> list[ActivityRow]:
    at = T + 1_000_003 * correlation
    return [
        ActivityRow(
            at + 1_001 * n, at + 1_001 * n + 501 + n, f"k{n}", correlation=correlation, graph_node=graph << 32 | n
        )
        for n in nodes
    ]


@pytest.mark.parametrize("write", [kineto, nsys])
def test_replays_that_lack_kernels_are_counted(tmp_path: Path, write) -> None:
    launches = [CallRow(T + i, T + i + 1, "cudaGraphLaunch", i) for i in range(1, 7)]
    whole = [row for c in (1, 2) for row in replay(c, range(1, 9))]
    other_graph = replay(3, range(1, 4), graph=5)
    assert codes(write(tmp_path, whole + other_graph, launches[:3])) == {}
    short = replay(4, range(1, 8)) + replay(5, range(3, 9))
    integrity = write(tmp_path, whole + other_graph + short, launches)
    assert codes(integrity) == {"under-recorded-replays": ("severe", 3)}
    assert "1 have none, 2 fewer" in integrity.findings[0].message


@pytest.mark.parametrize("tick", [1_000, 250])
def test_coarse_clocks_are_told(tmp_path: Path, tick: int) -> None:
    rows = [
        ActivityRow(r.start_ns // tick * tick, r.end_ns // tick * tick, correlation=r.correlation) for r in kernels(40)
    ]
    integrity = kineto(tmp_path, rows, calls(40))
    assert codes(integrity) == {"quantised-timestamps": ("warning", 40)}
    assert f"multiples of {tick} ns" in integrity.findings[0].message


def test_rounding_through_float64_is_told_though_it_leaves_odd_nanoseconds(tmp_path: Path) -> None:
    at = 400_000_000_000_000_000  # 4e14 µs: float64 steps of 62.5 ns
    times = [float((at + STEP * i) / 1000) for i in range(1200)]
    start = [round(us * 1000) if us < 2**43 else int(us) * 1000 + round(us % 1 * 1000) for us in times]
    rows = [ActivityRow(s, s + 3_001 + i, correlation=i + 1) for i, s in enumerate(start)]
    launched = [CallRow(s - 9_000, s - 5_000, correlation=i + 1) for i, s in enumerate(start)]
    assert codes(kineto(tmp_path, rows, launched)) == {"quantised-timestamps": ("warning", 1200)}


def test_times_that_were_never_taken_are_told(tmp_path: Path) -> None:
    lost = [ActivityRow(0, 0, correlation=1), ActivityRow(0, 0, correlation=2)]
    integrity = nsys(tmp_path, [*lost, *kernels(40)[2:]], calls(40))
    assert codes(integrity)["zero-timestamps"] == ("severe", 2)


@pytest.mark.parametrize(
    ("overlap", "severity", "twice_ns"),
    [(600, "info", 600), (9_000, "warning", 3_009)],  # the second holds the kernel behind it, of 3 µs, whole
)
def test_overlap_on_one_stream_is_told_with_its_size(
    tmp_path: Path, overlap: int, severity: str, twice_ns: int
) -> None:
    rows = kernels(40)
    rows[7] = ActivityRow(rows[7].start_ns, rows[8].start_ns + overlap, correlation=8)
    beside = [ActivityRow(r.start_ns + 7, r.end_ns + 7, stream=9, correlation=r.correlation) for r in rows[:3]]
    integrity = kineto(tmp_path, rows + beside, calls(40))
    assert codes(integrity) == {"overlapping-kernels": (severity, 1)}
    assert f"{overlap} ns" in integrity.findings[0].message
    assert f"sum to {twice_ns} ns more than the time in which a kernel ran" in integrity.findings[0].message


def test_ranges_alone_change_nothing(tmp_path: Path) -> None:
    path = write_kineto(tmp_path / "t.json", kernels(40), calls(40), [RangeRow(T, T + 5)])
    assert check(read_timeline(path)) == Integrity("ok", [])
