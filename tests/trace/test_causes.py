"""The cause of a gap is what the launching thread did during it, by time, and a gap's parts sum to it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laptime.trace.analysis import analyse
from laptime.trace.api import CAUSES, api_calls, plain_name, purpose
from laptime.trace.causes import UNNAMED, GapCauses, cause_times, gap_causes, host_times, large_gaps
from laptime.trace.gaps import device_gaps
from laptime.trace.host_segments import flatten, overlay, owner_at
from laptime.trace.read.launch_links import launches
from laptime.trace.read.timeline import GpuTimeline
from tests.trace.build_timeline import build
from tests.trace.write_traces import ActivityRow, CallRow, RangeRow


def causes_of(timeline: GpuTimeline) -> GapCauses:
    (gaps,) = device_gaps(timeline.activities)
    return gap_causes(timeline, gaps, launches(timeline))


def one_gap(calls: list[CallRow], ranges: list[RangeRow] | None = None, **after: object) -> dict[str, int]:
    """The causes of a single gap [100, 1100) µs before a kernel with correlation 7."""
    work = [ActivityRow(0, 100_000, "a"), ActivityRow(1_100_000, 1_200_000, "b", **{"correlation": 7, **after})]
    timeline = build(work, calls, ranges or [])
    result = causes_of(timeline)
    assert result.time_ns.sum() == 1_000_000
    return {row.cause: row.total_ns for row in cause_times(result)}


LAUNCH = CallRow(1_090_000, 1_098_000, "cudaLaunchKernel", 7)


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("cuMemAllocAsync", "allocation"),
        ("cudaMalloc_v3020", "allocation"),
        ("hipMalloc", "allocation"),
        ("cudaHostAlloc", "allocation"),
        ("cudaFreeAsync_v11020", "free"),
        ("cuMemFreeAsync", "free"),
        ("hipFree", "free"),
        ("cudaStreamSynchronize", "synchronize"),
        ("cuCtxSynchronize", "synchronize"),
        ("hipDeviceSynchronize", "synchronize"),
        ("cudaMemcpyAsync", "memcpy"),
        ("hipMemcpyWithStream", "memcpy"),
        ("cudaMemsetAsync", "memcpy"),
        ("cuModuleLoadData", "module-load"),
        ("cuLibraryLoadData", "module-load"),
        ("cudaGraphInstantiate", "graph-capture"),
        ("cudaGraphLaunch", "graph-launch"),
        ("hipGraphLaunch", "graph-launch"),
        ("hipModuleLaunchKernel", "launch-overhead"),
        ("cuLaunchKernelEx", "launch-overhead"),
        ("cudaGetDevice", "other-api"),
        ("cnInvokeKernel", "launch-overhead"),
        ("cnrtQueueSync", "synchronize"),
    ],
)
def test_a_call_has_its_purpose_and_is_the_cause_of_its_time(name: str, cause: str) -> None:
    assert CAUSES[purpose(name)] == cause
    spent = one_gap([CallRow(200_000, 1_000_000, name, 3), LAUNCH])
    assert spent[cause] >= 800_000
    assert spent["host-not-launching"] == 190_000


def test_time_decides_not_order() -> None:
    calls = [
        CallRow(100_000, 110_000, "cudaMalloc", 1),
        CallRow(110_000, 120_000, "cudaMalloc", 2),
        CallRow(120_000, 900_000, "cudaStreamSynchronize", 3),
        CallRow(900_000, 1_000_000, "cudaFree", 4),
        LAUNCH,
    ]
    timeline = build([ActivityRow(0, 100_000, "a"), ActivityRow(1_100_000, 1_200_000, "b", correlation=7)], calls)
    (gaps,) = device_gaps(timeline.activities)
    result = gap_causes(timeline, gaps, launches(timeline))
    (gap,) = large_gaps(timeline, gaps, result)
    assert (gap.cause, gap.api, gap.cause_ns) == ("synchronize", "cudaStreamSynchronize", 780_000)
    assert {s.cause: s.total_ns for s in gap.shares}["allocation"] == 20_000


@pytest.mark.parametrize(("until", "named"), [(120_000, None), (900_000, "aten::copy_")])
def test_a_gap_is_in_the_operator_only_if_it_was_there_for_longest(until: int, named: str | None) -> None:
    work = [ActivityRow(0, 100_000, "a"), ActivityRow(1_100_000, 1_200_000, "b", correlation=7)]
    timeline = build(work, [LAUNCH], [RangeRow(110_000, until, "aten::copy_", "cpu_op")])
    (gaps,) = device_gaps(timeline.activities)
    (gap,) = large_gaps(timeline, gaps, gap_causes(timeline, gaps, launches(timeline)))
    assert (gap.cause, gap.host) == ("host-not-launching", named)


def test_only_the_launching_thread_counts() -> None:
    other = CallRow(100_000, 1_100_000, "cudaDeviceSynchronize", 9, thread=555)
    assert "synchronize" not in one_gap([other, LAUNCH])


def test_correlations_of_another_process_are_not_taken() -> None:
    other = CallRow(0, 1_099_000, "cudaLaunchKernel", 7, process=200, thread=200)
    assert one_gap([other, LAUNCH])["host-not-launching"] == 990_000


def test_work_that_was_there_is_queued() -> None:
    early = CallRow(10_000, 20_000, "cudaLaunchKernel", 7)
    busy = CallRow(100_000, 1_100_000, "cudaStreamSynchronize", 8)
    assert one_gap([early, busy]) == {"queued": 1_000_000}


def test_work_without_a_launch_record_that_starts_under_a_synchronize_is_queued() -> None:
    waiting = CallRow(50_000, 1_300_000, "cudaDeviceSynchronize", 8)
    assert one_gap([waiting], correlation=None) == {"queued": 1_000_000}


def test_work_that_was_launched_before_the_capture_was_queued() -> None:
    work = [ActivityRow(0, 100_000, "a"), ActivityRow(1_100_000, 1_200_000, "b")]
    timeline = build(
        [*work, ActivityRow(1_250_000, 1_300_000, "c", correlation=7)],
        [CallRow(1_190_000, 1_195_000, "cudaLaunchKernel", 7)],
    )
    assert {row.cause: row.total_ns for row in cause_times(causes_of(timeline))} == {"queued": 1_050_000}


def test_work_after_a_wait_in_the_capture_was_not_queued_before_it() -> None:
    work = [ActivityRow(0, 100_000, "a"), ActivityRow(1_100_000, 1_200_000, "b")]
    calls = [CallRow(50_000, 60_000, "cudaGetDevice", 6), CallRow(1_190_000, 1_195_000, "cudaLaunchKernel", 7)]
    spent = cause_times(causes_of(build([*work, ActivityRow(1_250_000, 1_300_000, "c", correlation=7)], calls)))
    assert {row.cause: row.total_ns for row in spent} == {"host-not-launching": 1_000_000, "queued": 50_000}


@pytest.mark.parametrize("profiled", [False, True])
def test_work_without_a_launch_record_is_judged_by_time_else(profiled: bool) -> None:
    """The thread waits at first, then does something else: nothing was queued then."""
    waiting = CallRow(50_000, 300_000, "cudaDeviceSynchronize", 8)
    flush = [RangeRow(1_000_000, 1_200_000, "Buffer Flush", "profiler")] if profiled else []
    spent = one_gap([waiting], flush, correlation=None)
    assert spent["synchronize"] == 200_000
    assert spent["host-not-launching"] == (700_000 if profiled else 800_000)
    assert spent.get("profiler-overhead", 0) == (100_000 if profiled else 0)


def test_kernels_of_one_graph_replay_wait_for_the_device() -> None:
    work = [
        ActivityRow(0, 100, "a", correlation=5, graph_node=0),
        ActivityRow(200, 300, "b", correlation=5, graph_node=1),
    ]
    result = causes_of(build(work, [CallRow(-50, 1_000, "cudaGraphLaunch", 5)]))
    assert [(row.cause, row.total_ns) for row in cause_times(result)] == [("queued", 100)]


def test_the_way_from_the_call_to_the_device_is_launching() -> None:
    assert one_gap([CallRow(300_000, 308_000, "cudaLaunchKernel", 7)]) == {
        "host-not-launching": 200_000,
        "launch-overhead": 800_000,
    }


def test_a_device_that_begins_long_after_the_launch_returned_waits_for_something_else() -> None:
    """As where its stream waits for an event of work that is not in the trace."""
    work = [ActivityRow(0, 100_000, "a"), ActivityRow(463_100_000, 463_200_000, "b", correlation=7)]
    calls = [CallRow(120_000, 140_000, "hipStreamWaitEvent", 6), CallRow(300_000, 308_000, "hipLaunchKernel", 7)]
    found = {row.cause: row.total_ns for row in cause_times(causes_of(build(work, calls))) if row.total_ns > 100_000}
    assert found == {"queued": 462_792_000, "host-not-launching": 180_000}


def test_the_innermost_operator_is_named_and_an_inner_call_wins() -> None:
    ranges = [
        RangeRow(150_000, 1_099_000, "step", "nvtx"),
        RangeRow(200_000, 1_000_000, "aten::outer", "cpu_op"),
        RangeRow(300_000, 900_000, "aten::inner", "cpu_op"),
    ]
    calls = [CallRow(400_000, 500_000, "cudaMalloc", 1), LAUNCH]
    work = [ActivityRow(0, 100_000, "a"), ActivityRow(1_100_000, 1_200_000, "b", correlation=7)]
    timeline = build(work, calls, ranges)
    result = causes_of(timeline)
    named = {row.name: row.total_ns for row in host_times(result, timeline.strings)}
    assert named == {"aten::inner": 500_000, "aten::outer": 200_000, "step": 140_000, UNNAMED: 50_000}
    spent = {row.cause: row.total_ns for row in cause_times(result)}
    assert spent["host-not-launching"] == sum(named.values())
    assert spent["allocation"] == 100_000


def test_a_call_is_inside_a_range_of_the_same_times() -> None:
    """As whole microseconds make of them."""
    free = CallRow(200_000, 900_000, "cudaMalloc")
    around = RangeRow(200_000, 900_000, "aten::empty", "cpu_op")
    assert one_gap([LAUNCH, free], [around])["allocation"] == 700_000


def test_the_profilers_own_time_is_its_own() -> None:
    flush = RangeRow(200_000, 1_000_000, "Buffer Flush", "profiler", thread=0)
    spent = one_gap([CallRow(100_000, 1_085_000, "cudaStreamSynchronize", 3), LAUNCH], [flush])
    assert spent["profiler-overhead"] == 800_000
    assert spent["synchronize"] == 185_000


def test_without_calls_the_cause_is_unknown() -> None:
    assert one_gap([]) == {"unknown": 1_000_000}


def spans(limit: int = 400) -> st.SearchStrategy[list[tuple[int, int]]]:
    return st.lists(st.tuples(st.integers(0, limit), st.integers(1, 60)), max_size=25)


@given(spans(), spans(), spans(), st.data())
def test_the_parts_of_every_gap_sum_to_it(kernels: list, calls: list, ranges: list, data: st.DataObject) -> None:
    names = ["cudaMalloc", "cudaLaunchKernel", "cudaStreamSynchronize", "cudaFree", "x"]
    work = [ActivityRow(s, s + d, "k", correlation=i) for i, (s, d) in enumerate([*kernels, (0, 1), (500, 1)])]
    api = [
        CallRow(s, s + d, data.draw(st.sampled_from(names)), i, thread=data.draw(st.sampled_from([1, 2])))
        for i, (s, d) in enumerate(calls)
    ]
    host = [RangeRow(s, s + d, "op", data.draw(st.sampled_from(["cpu_op", "profiler"])), thread=1) for s, d in ranges]
    timeline = build(work, api, host)
    (gaps,) = device_gaps(timeline.activities)
    result = gap_causes(timeline, gaps, launches(timeline))
    assert (result.time_ns >= 0).all()
    assert (result.time_ns.sum(axis=1) == gaps.gap_end_ns - gaps.gap_start_ns).all()
    assert 0 <= result.by_name_ns.sum() <= result.time_ns[:, 0].sum()


@st.composite
def nested(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Properly nested intervals, as calls and operators of one thread are."""
    result: list[tuple[int, int]] = []

    def fill(low: int, high: int, depth: int) -> None:
        at = low
        while at < high and depth < 4 and len(result) < 30 and draw(st.booleans()):
            start = draw(st.integers(at, high - 1))
            end = draw(st.integers(start + 1, high))
            result.append((start, end))
            fill(start, end, depth + 1)
            at = end

    fill(0, 120, 0)
    return result


@given(spans())
def test_flatten_names_what_opened_last_also_where_intervals_cross(intervals: list[tuple[int, int]]) -> None:
    start = np.array([s for s, _ in intervals], dtype=np.int64)
    end = np.array([s + d for s, d in intervals], dtype=np.int64)
    owners = owner_at(flatten(start, end), np.arange(-2, 470))
    for instant, owner in zip(range(-2, 470), owners, strict=True):
        open_now = [(s, -d) for s, d in intervals if s <= instant < s + d]
        if not open_now:
            assert owner == -1
        else:
            assert (start[owner], start[owner] - end[owner]) == max(open_now)


def test_a_range_gets_nothing_beyond_its_end() -> None:
    """A range of 80 µs that ends inside a launch call of 950 µs."""
    work = [ActivityRow(5_000, 40_000, "a", correlation=1), ActivityRow(1_005_000, 1_105_000, "b", correlation=2)]
    calls = [CallRow(0, 5_000, correlation=1), CallRow(50_000, 1_000_000, correlation=2)]
    timeline = build(work, calls, [RangeRow(20_000, 100_000, "load_batch")])
    result = causes_of(timeline)
    named = {row.name: row.total_ns for row in host_times(result, timeline.strings)}
    assert named == {"load_batch": 10_000}
    assert {row.cause: row.total_ns for row in cause_times(result)} == {
        "host-not-launching": 10_000,
        "launch-overhead": 955_000,
    }


@given(nested())
def test_flatten_names_the_innermost_interval_at_each_instant(intervals: list[tuple[int, int]]) -> None:
    start = np.array([s for s, _ in intervals], dtype=np.int64)
    end = np.array([e for _, e in intervals], dtype=np.int64)
    owners = owner_at(flatten(start, end), np.arange(-2, 125))
    for instant, owner in zip(range(-2, 125), owners, strict=True):
        open_now = [e - s for s, e in intervals if s <= instant < e]
        if not open_now:
            assert owner == -1
        else:
            assert end[owner] - start[owner] == min(open_now)
            assert start[owner] <= instant < end[owner]


def test_overlay_wins_where_it_lies() -> None:
    under = flatten(np.array([0, 20]), np.array([10, 30]))
    over = overlay(under, np.array([5, 6, 28]), np.array([8, 7, 40]), -2)
    assert owner_at(over, np.array([0, 4, 5, 7, 8, 15, 20, 27, 28, 35, 40])).tolist() == [
        *(0, 0, -2, -2, 0, -1, 1, 1, -2, -2, -1)
    ]


def test_api_calls_fold_versions() -> None:
    calls = [CallRow(0, 10, "cudaLaunchKernel_v7000"), CallRow(20, 25, "cudaLaunchKernel"), CallRow(30, 31, "cuInit")]
    timeline = build(calls=calls)
    rows = api_calls(timeline.calls, timeline.strings)
    assert [(r.name, r.count, r.total_ns) for r in rows] == [("cudaLaunchKernel", 2, 15), ("cuInit", 1, 1)]
    assert plain_name("cuMemAlloc_v2_ptsz") == "cuMemAlloc"


def start_up_of(calls: list[CallRow], work: list[ActivityRow]) -> dict[str, int]:
    return {row.cause: row.total_ns for row in cause_times(causes_of(build(work, calls)))}


def test_a_slow_first_launch_is_start_up() -> None:
    """15.9 ms in the first launch of a kernel, 5 µs in each later one."""
    calls = [CallRow(0, 4_000, "cudaMemcpyAsync", 1), CallRow(10_000, 15_910_000, "cudaLaunchKernel", 2)]
    work = [
        ActivityRow(5_000, 6_000, "copy", "memcpy", correlation=1),
        ActivityRow(15_911_000, 15_920_000, correlation=2),
    ]
    for i in range(5):
        start = 15_930_000 + i * 20_000
        calls.append(CallRow(start, start + 5_000, "cudaLaunchKernel", 10 + i))
        work.append(ActivityRow(start + 6_000, start + 12_000, correlation=10 + i))
    spent = start_up_of(calls, work)
    assert spent["start-up"] == 15_900_000
    assert spent["launch-overhead"] < 100_000
    # The same wait in every launch of the kernel is no start-up.
    slow = [CallRow(i * 20_000_000, i * 20_000_000 + 15_900_000, "cudaLaunchKernel", i) for i in range(6)]
    work = [ActivityRow(call.end_ns, call.end_ns + 9_000, correlation=call.correlation) for call in slow]
    assert "start-up" not in start_up_of(slow, work)


def test_each_process_has_first_launches_of_its_own() -> None:
    """Two ranks launch the same kernels, each of them slowly the first time."""
    calls, work = [], []
    for process in (100, 200):
        at = 0 if process == 100 else 500_000_000
        for i in range(8):
            slow = 100_000_000 if i == 1 else 5_000
            name, number = "copy" if i == 0 else "gemm", process * 100 + i
            calls.append(CallRow(at, at + slow, "cudaLaunchKernel", number, process=process, thread=process))
            end = at + slow + 12_000
            work.append(
                ActivityRow(end - 6_000, end, name, device=process // 100 - 1, correlation=number, process=process)
            )
            at = end + 2_000
    for device in analyse(build(work, calls)).devices:
        spent = {row.cause: row.total_ns for row in device.gaps.causes}
        assert spent["start-up"] > 99_000_000, device.device


def test_a_library_that_frees_on_its_first_call_is_starting_up() -> None:
    """6 s of cudaFree before the first convolution; later ones take 1 ms."""
    calls, work = [CallRow(0, 5_000, correlation=1)], [ActivityRow(5_000, 6_000, "fill", correlation=1)]
    calls += [CallRow(10_000, 6_000_010_000, "cudaFree", 2), CallRow(6_000_020_000, 6_000_025_000, correlation=3)]
    work.append(ActivityRow(6_000_026_000, 6_000_036_000, "conv", correlation=3))
    for i in range(5):
        start = 6_000_040_000 + i * 2_000_000
        calls.append(CallRow(start, start + 1_000_000, "cudaFree", 100 + i))
        calls.append(CallRow(start + 1_010_000, start + 1_015_000, correlation=10 + i))
        work.append(ActivityRow(start + 1_016_000, start + 1_020_000, "conv", correlation=10 + i))
    spent = start_up_of(calls, work)
    assert spent["start-up"] == 6_000_000_000
    assert spent["free"] == 5_000_000


def test_freeing_in_every_step_is_not_start_up() -> None:
    """An allocator that is off: the first step's long frees come again in each later one."""
    calls, work = [CallRow(0, 5_000, correlation=1)], [ActivityRow(5_000, 6_000, "first", correlation=1)]
    for i in range(5):
        start = 1_000_000 + i * 100_000_000
        calls += [CallRow(start, start + 70_000_000, "hipFree", 100 + i)]
        calls += [
            CallRow(start + 71_000_000 + j * 9_000, start + 71_000_500 + j * 9_000, "hipFree", 0) for j in range(9)
        ]
        calls.append(CallRow(start + 80_000_000, start + 80_005_000, "hipLaunchKernel", 10 + i))
        work.append(ActivityRow(start + 80_006_000, start + 80_020_000, "conv", correlation=10 + i))
    spent = start_up_of(calls, work)
    assert "start-up" not in spent
    assert spent["free"] >= 350_000_000
