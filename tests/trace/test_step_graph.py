"""A step's dependency graph replays the step, and what it promises of remedies is what a simulator makes of them."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from laptime.trace.analysis import analyse
from laptime.trace.read.timeline import Card
from laptime.trace.result import TraceAnalysis
from tests.trace.build_timeline import build
from tests.trace.programs import Op, Run, as_graph, launches, run
from tests.trace.write_traces import ActivityRow, CallRow, RangeRow

MS = 1_000_000


def of(made: Run) -> TraceAnalysis:
    return analyse(build(*made.all))


def promised(analysis: TraceAnalysis, remedy: str) -> tuple[int, int]:
    row = next(row for row in analysis.whatif if row.remedy == remedy)
    assert row.floor_ns is not None
    assert row.floor_ns <= row.step_ns_low <= row.step_ns_high
    return row.step_ns_low, row.step_ns_high


SYNC = [Op("sync")]
PROGRAMS: dict[str, list[Op]] = {
    "the host launches slowly": launches(60, 4_000),
    "the host runs ahead": launches(60, 40_000),
    "a wait ends each step": launches(60, 20_000) + SYNC,
    "host work after a wait": [*launches(60, 20_000), *SYNC, Op("work", 20 * MS)],
    "host work beside the device": [*launches(60, 400_000), Op("work", 10 * MS)],
    "a loader": [Op("load", 12 * MS), *launches(60, 100_000)],
    "two streams, joined": [
        Op("wait", stream=20, other=7),
        *launches(30, 12_000, stream=20),
        *launches(30, 12_000),
        Op("wait", stream=7, other=20),
        *launches(2, 20_000),
    ],
    "a pageable copy": [Op("launch", 5 * MS, memory="pageable", bytes=50_000_000), *launches(40, 200_000)],
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_replay_lasts_as_long_as_the_step(name: str) -> None:
    made = run(PROGRAMS[name])
    steps = of(made).steps
    assert steps.wall_ns == pytest.approx(made.step_ns, rel=0.001)
    assert steps.replay_ns == pytest.approx(made.step_ns, rel=0.02)


@pytest.mark.parametrize("name", [name for name in PROGRAMS if "copy" not in name])
def test_the_promise_of_a_graph_holds_what_a_graph_takes(name: str) -> None:
    low, high = promised(of(run(PROGRAMS[name])), "graph")
    assert 0.99 * low <= as_graph(PROGRAMS[name]) <= high
    assert high - low <= (0.6 if "streams" in name else 0.3) * low  # what runs side by side may slow one another


def test_host_work_that_the_device_hides_is_not_added() -> None:
    """24 ms of kernels beside 10 ms of host work last 24 ms as a graph, behind a wait 34."""
    step = [*launches(60, 400_000), Op("work", 10 * MS)]
    assert promised(of(run(step)), "graph")[1] < 25 * MS
    step = [*launches(60, 400_000), *SYNC, Op("work", 10 * MS)]
    assert promised(of(run(step)), "graph")[0] >= 34 * MS


@pytest.mark.parametrize("times", [1, 6])
def test_short_host_work_behind_a_wait_stays_and_is_named(times: int) -> None:
    """150 us of sampling after the logits arrived, once or before each of six small kernels: nothing here ends it."""
    sampling = [op for _ in range(times) for op in (Op("work", 150_000), Op("launch", 3_000, name="argmax"))]
    analysis = of(run([*launches(60, 9_000, 1_000), *SYNC, *sampling]))
    busy, kept = 60 * 9_000 + times * 3_000, times * 150_000
    assert analysis.steps.host_work_ns == pytest.approx(kept, rel=0.1)
    for row in analysis.whatif:
        assert row.step_ns_low >= 0.95 * (busy + kept), row.remedy
    launching = analysis.headline.count("the host can't launch fast enough")
    assert (launching, "does other work" in analysis.headline) == (0, True)


def test_slow_launching_behind_a_wait_is_still_launching() -> None:
    """A host that needs 40 us for each launch needs no less for the first ones behind a wait."""
    analysis = of(run([*launches(60, 9_000, 40_000), *SYNC, Op("work", 70_000)]))
    assert promised(analysis, "graph")[0] < 60 * 9_000 + 60_000
    assert "the host can't launch fast enough" in analysis.headline


def test_two_streams_run_side_by_side_in_a_graph() -> None:
    """Launched one by one they hardly overlap; the branches' join is kept."""
    analysis = of(run(PROGRAMS["two streams, joined"]))
    assert analysis.steps.busy_ns is not None
    low, high = promised(analysis, "graph")
    assert low >= 30 * 12_000 + 2 * 20_000
    assert high < analysis.steps.busy_ns
    assert low < 0.6 * analysis.steps.busy_ns


def test_each_branch_begins_from_the_main_stream() -> None:
    """The second branch doesn't wait for the first, though that was launched last before it."""
    branch = [op for lane in (20, 21) for op in [Op("wait", stream=lane, other=7), *launches(30, 12_000, stream=lane)]]
    step = [*launches(2, 20_000), *branch, Op("wait", stream=7, other=20), Op("wait", stream=7, other=21)]
    low, high = promised(of(run([*step, *launches(2, 20_000)])), "graph")
    assert low < 30 * 12_000 + 4 * 20_000 + 60_000 <= high  # side by side, 64 kernels


def test_views_of_a_tensor_are_no_other_work() -> None:
    """A tensor is taken apart for 3 ms: a graph doesn't do that. A sort for as long stays."""
    made = run([*launches(60, 20_000), Op("work", 3 * MS)])
    for name, goes in (("aten::unbind", True), ("aten::sort", False)):
        inside = [RangeRow(row.end_ns - 3 * MS + 1_000, row.end_ns - 1_000, name, "cpu_op") for row in made.ranges]
        low, _ = promised(analyse(build(made.activities, made.calls, made.ranges + inside)), "graph")
        assert (low < 2 * MS) == goes


def test_numbers_that_the_host_makes_into_others_before_a_copy_stay() -> None:
    """A copy to the device first makes 4 ms of conversions in an operator of its own, which launches nothing."""
    made = run([*launches(60, 20_000), Op("work", 4 * MS)])
    ends = [row.end_ns for row in made.ranges]
    outer = [RangeRow(end - 4 * MS, end + 20_000, "aten::copy_", "cpu_op") for end in ends]
    inner = [RangeRow(end - 4 * MS + 9_000, end - 9_000, "aten::to", "cpu_op") for end in ends]
    assert promised(analyse(build(made.activities, made.calls, made.ranges + outer)), "graph")[1] < 3 * MS
    assert promised(analyse(build(made.activities, made.calls, made.ranges + outer + inner)), "graph")[0] > 3.9 * MS


def test_workers_take_the_loading_away() -> None:
    analysis = of(run(PROGRAMS["a loader"]))
    low, high = promised(analysis, "workers")
    assert low <= run(PROGRAMS["a loader"][1:]).step_ns <= high
    assert promised(analysis, "graph")[0] >= 12 * MS
    assert "the host loads data, which no graph ends. Workers in the data loader could leave" in analysis.advice


def test_a_loader_counts_also_where_every_range_is_an_operator_and_the_device_hides_it() -> None:
    """As PyTorch wrote it in 2021. The loader stands before the step's first launch, and a graph would hide it."""
    launching = [op for launch in launches(300, 35_000) for op in (Op("work", 20_000), launch)]
    made = run([Op("load", 10 * MS), *launching])
    made.ranges = [replace(row, kind="cpu_op") for row in made.ranges]
    analysis = of(made)
    assert "workers" in {row.remedy for row in analysis.whatif}
    assert "ms the GPU waits while the host loads data." in analysis.advice
    assert "no graph ends" not in analysis.advice
    assert "Workers in the data loader could leave" in analysis.advice


def test_a_servers_scheduler_is_no_data_loader() -> None:
    made = run(PROGRAMS["a loader"])
    for name, workers in (("data.py(24): next_batch", True), ("scheduler.py(24): get_next_batch_to_run", False)):
        chosen = [replace(row, name=name) for row in made.ranges]
        steps = [RangeRow(a.start_ns, b.start_ns, f"ProfilerStep#{a.start_ns}") for a, b in pairwise(chosen)]
        analysis = analyse(build(made.activities, made.calls, [*chosen, *steps]))
        assert ("workers" in {row.remedy for row in analysis.whatif}) == workers, name
        assert ("data" in analysis.advice) == workers, name


def test_kernels_that_begin_before_the_one_ahead_ends_hold_their_stream_once() -> None:
    """Dependent launches: what two kernels do at the same time is no time that a graph needs twice."""
    made = run(PROGRAMS["the host runs ahead"])
    apart = made.activities[31].start_ns - made.activities[30].start_ns
    made.activities = [replace(row, end_ns=row.start_ns + round(1.3 * apart)) for row in made.activities]
    analysis = of(made)
    assert analysis.steps.replay_ns == pytest.approx(made.step_ns, rel=0.02)
    assert promised(analysis, "graph")[0] <= made.step_ns


def test_what_an_optimizer_and_the_profiler_do_goes_with_a_graph() -> None:
    """Both are long stretches without an API call, and neither is other work."""
    step = [*launches(60, 20_000), Op("optimize", 4 * MS), *launches(20, 20_000)]
    low, high = promised(of(run(step)), "graph")
    assert low <= as_graph(step) <= high < 3 * MS
    made = run([*launches(60, 20_000), Op("work", 4 * MS)])
    made.ranges = [replace(row, end_ns=row.end_ns - 4 * MS) for row in made.ranges]  # the profiler's, between two steps
    assert promised(of(made), "graph")[1] < 3 * MS


def test_what_an_operator_does_before_its_launch_goes_with_a_graph_and_other_operators_stay() -> None:
    """An operator that launches nothing is work of the processor: a sort, a bicubic resize."""
    made = run([*launches(60, 20_000), Op("work", 6 * MS)])
    ends = [row.end_ns for row in made.ranges]
    outer = [RangeRow(end - 6 * MS, end + 20_000, "aten::_foreach_pow", "cpu_op") for end in ends]
    inner = [RangeRow(end - 6 * MS + 1_000, end - 1_000, "aten::sort", "cpu_op") for end in ends]
    assert promised(analyse(build(made.activities, made.calls, made.ranges + outer)), "graph")[1] < 3 * MS
    assert promised(analyse(build(made.activities, made.calls, made.ranges + inner)), "graph")[0] > 6 * MS


def test_host_work_in_pieces_is_work_too() -> None:
    """Sampling on the host, which asks every 80 µs how far the device is: no piece is long, all of them are."""
    made = run([*launches(60, 20_000), *SYNC, Op("work", 3 * MS)])
    ends = [row.end_ns for row in made.calls if row.name == "cudaStreamSynchronize"]
    asked = [
        CallRow(end + k * 80_000, end + k * 80_000 + 1_000, "cudaEventQuery") for end in ends for k in range(1, 37)
    ]
    assert promised(analyse(build(made.activities, made.calls + asked, made.ranges)), "graph")[0] > 2.8 * MS


def test_a_graph_is_not_promised_without_the_waits_that_it_cant_hold() -> None:
    part = [*launches(6, 10_000), Op("sync"), Op("work", 80_000)]
    assert "can't hold the host's 10 waits for the GPU in a step" in of(run(part * 10)).advice
    assert "waits for the GPU" not in of(run([*launches(60, 10_000), *SYNC])).advice


def test_calls_that_come_to_nothing_hold_nobody() -> None:
    """A memset of no bytes, as cuBLAS makes before its kernels, and memory freed in the stream's order."""
    made = run(launches(60, 10_000))
    for name in ("cudaMemsetAsync", "cudaFreeAsync"):
        between = [CallRow(row.start_ns - 4_000, row.start_ns - 2_000, name) for row in made.calls[1::6]]
        analysis = analyse(build(made.activities, made.calls + between, made.ranges))
        assert analysis.steps.host_waits == 0
        assert "waits for the GPU" not in analysis.advice


def two_graphs(between: list[CallRow]) -> TraceAnalysis:
    """A step is two graphs of 16 kernels, and six launches in between that take the host 30 µs each."""
    activities, calls, ranges, at, number = [], [], [], 1_000_000, 0
    for step in range(8):
        began = at
        for kernels in (16, *[1] * 6, 16):
            number += 1
            name = "cudaGraphLaunch" if kernels > 1 else "cudaLaunchKernel"
            calls.append(CallRow(at, at + 8_000, name, number))
            start = max(at + 9_000, activities[-1].end_ns + 1_000 if activities else 0)
            for i in range(kernels):
                kernel = ("ampere_sgemm", "void at::native::vectorized_elementwise_kernel<4, int>(int)")[i % 2]
                begin = start + i * 10_100
                activities.append(ActivityRow(begin, begin + 10_000, kernel, correlation=number))
            at += 30_000
            if kernels > 1:
                at = max(at, activities[-1].end_ns - 20_000)
        calls += [replace(row, start_ns=began + row.start_ns, end_ns=began + row.end_ns) for row in between]
        ranges.append(RangeRow(began, at - 2_000, f"ProfilerStep#{step}"))
    return analyse(build(activities, calls, ranges))


def test_a_step_in_two_graphs_is_promised_one_graph_and_no_compiling_without() -> None:
    analysis = two_graphs([])
    assert {"graph", "compile"} & {row.remedy for row in analysis.whatif} == {"graph"}
    low, high = promised(analysis, "graph")
    work = 38 * 10_000
    assert work < low < high < (analysis.steps.wall_ns or 0)
    waits = two_graphs([CallRow(340_000, 341_000, "cudaStreamSynchronize")])
    assert not {"graph", "compile"} & {row.remedy for row in waits.whatif}


def test_a_wait_that_outlasts_the_device_is_for_something_else_and_stays() -> None:
    made = run([*launches(60, 20_000), *SYNC, Op("work", 5 * MS)])
    longer = [
        replace(row, end_ns=row.end_ns + 5 * MS) if row.name == "cudaStreamSynchronize" else row for row in made.calls
    ]
    analysis = analyse(build(made.activities, longer, made.ranges))
    assert "the host sits in synchronisations" in analysis.headline
    assert promised(analysis, "graph")[0] > 5 * MS


def test_other_host_work_is_promised_to_no_worker() -> None:
    for name in ("host work after a wait", "host work beside the device"):
        assert "workers" not in {row.remedy for row in of(run(PROGRAMS[name])).whatif}


@pytest.mark.parametrize("beside", [False, True])
def test_host_work_that_a_graph_can_hide_is_said_to_run_beside_the_device(beside: bool) -> None:
    """The device has 10 ms of kernels to hide 10 ms of other work behind, unless that follows a wait."""
    slow = [op for launch in launches(300, 35_000) for op in (Op("work", 20_000), launch)]
    step = [Op("work", 10 * MS), *slow] if beside else PROGRAMS["host work after a wait"]
    graph = next(row for row in of(run(step)).whatif if row.remedy == "graph")
    (said,) = [note for note in graph.assumptions if "works on something else stay" in note]
    assert said.endswith("but can run beside the GPU's work, as launches run ahead") == beside


@pytest.mark.parametrize("what", ["gradients are clipped", "no gradients", "a batch is read behind them"])
def test_what_the_host_does_behind_a_backward_pass_goes_with_its_launches(what: str) -> None:
    """Clipping gradients or averaging weights in Python ends in launches; a batch that is read comes to the device."""
    backward = [] if what == "no gradients" else [Op("differentiate", 3_000)]
    copy = [Op("launch", 5_000, memory="pageable", bytes=1_000)] if "batch" in what else []
    step = [*launches(60, 20_000), *backward, *launches(20, 20_000), Op("work", 6 * MS), *copy, *launches(20, 20_000)]
    low, high = promised(of(run(step)), "graph")
    if what == "gradients are clipped":
        assert high < 3 * MS
    else:
        assert low > 5 * MS


def test_copies_that_were_slower_than_in_the_trace_lengthen_no_launching() -> None:
    step = [Op("launch", 10 * MS, memory="pageable", bytes=50_000_000), *launches(100, 2_000, 10_000)]
    timeline = structs.replace(build(*run(step).all), cards=(Card(0, "NVIDIA H200"),))
    assert promised(analyse(timeline, tpot_ms=13.5), "overlap")[1] < 2.2 * MS


def test_a_pageable_copy_hides_behind_the_kernels() -> None:
    analysis = of(run(PROGRAMS["a pageable copy"]))
    low, high = promised(analysis, "overlap")
    assert low <= 40 * 201_000 <= high
    assert high < analysis.steps.wall_ns * 0.82  # type: ignore[operator]


def test_copies_longer_than_the_kernels_bound_the_step() -> None:
    step = [Op("launch", 9 * MS, memory="pinned", bytes=400_000_000), *launches(40, 200_000)]
    low, high = promised(of(run(step)), "overlap")
    assert low >= 8.7 * MS
    assert high < 11.5 * MS


def test_runs_of_elementwise_kernels_are_compiled_into_one() -> None:
    chain = [("gemm", 200_000), *((f"elementwise_{i}", 40_000) for i in range(6))] * 8
    step = [op for name, time_ns in chain for op in launches(1, time_ns, name=name)]
    fused = [
        op
        for name, time_ns in [("gemm", 200_000), ("triton_fused", 44_000)] * 8
        for op in launches(1, time_ns, name=name)
    ]
    low, high = promised(of(run(step)), "compile")
    assert low <= run(fused).step_ns <= high
    assert high - low <= 0.35 * low


def test_a_copy_within_the_device_is_compiled_into_its_neighbours() -> None:
    """Eager code makes scores contiguous by a copy; compiled code writes them so at once."""

    def layers(memory: str) -> list[Op]:
        layer = [
            *launches(1, 200_000),
            *launches(1, 40_000, name="elementwise_add"),
            Op("launch", 120_000, memory=memory, bytes=200_000_000),
            *launches(1, 40_000, name="elementwise_mul"),
        ]
        return layer * 8

    names = [("gemm", 200_000), ("triton_fused", 125_000)] * 8
    fused = run([op for name, time_ns in names for op in launches(1, time_ns, name=name)])
    low, high = promised(of(run(layers("device"))), "compile")
    assert low <= fused.step_ns <= high
    beside = {row.remedy: row.step_ns_low for row in of(run(layers("pinned"))).whatif}
    assert beside.get("compile", fused.step_ns) >= fused.step_ns


def test_a_mean_over_neighbours_and_a_change_of_layout_are_compiled_away() -> None:
    mean, layout = "avg_pool2d_out_cuda_frame", "cudnn::engines_precompiled::nhwcToNchwKernel"

    def layers(*names: str) -> list[Op]:
        times = {"convolution": 200_000, "triton_fused": 44_000, layout: 30_000}
        return [op for name in names * 8 for op in launches(1, times.get(name, 40_000), name=name)]

    before = of(
        run(layers("convolution", layout, "vectorized_elementwise_kernel", mean, "vectorized_elementwise_kernel"))
    )
    low, high = promised(before, "compile")
    assert low <= run(layers("convolution", "triton_fused")).step_ns <= high


@pytest.mark.parametrize("compiled", ["triton_poi_fused_add_mul_{}", "loop_add_fusion_{}", "__myl_AddMul_{}"])
def test_what_a_compiler_made_is_not_compiled_again(compiled: str) -> None:
    """Inductor's, XLA's and TensorRT's kernels follow one another because nothing more could be merged."""
    chain = [("gemm", 200_000), *((compiled.format(i), 40_000) for i in range(4)), ("elementwise_add", 20_000)] * 8
    analysis = of(run([op for name, time_ns in chain for op in launches(1, time_ns, name=name)]))
    assert not {"compile", "fusion"} & {row.remedy for row in analysis.whatif}
    eager = of(
        run([op for name, ns in chain for op in launches(1, ns, name=name.replace(compiled[:6], "elementwise"))])
    )
    assert "compile" in {row.remedy for row in eager.whatif}


def test_a_step_that_its_dependencies_dont_explain_is_promised_nothing() -> None:
    """The device waits 2 ms for something that is not in the trace."""
    made = run(launches(40, 100_000))
    late = list(made.activities)
    for i, row in enumerate(late):
        shift = 2 * MS * (i // 40 + (i % 40 >= 20))
        late[i] = row.__class__(row.start_ns + shift, row.end_ns + shift, row.name, correlation=row.correlation)
    analysis = analyse(build(late, made.calls, made.ranges))
    assert analysis.steps.unexplained
    assert "step-unexplained" in {finding.code for finding in analysis.integrity.findings}
    assert not re.search(r"(would|could) leave \d", analysis.advice)


def with_side_work(made: Run, lasts_ns: int) -> TraceAnalysis:
    """The program with work on another stream, begun in the first step."""
    first, number = made.begun_ns[0], 10_000
    side = ActivityRow(first + 1_000, first + 1_000 + lasts_ns, "side", "kernel", stream=99, correlation=number)
    launch = CallRow(first - 3_000, first - 2_000, "cudaLaunchKernel", number)
    return analyse(build([*made.activities, side], [*made.calls, launch], made.ranges))


def test_work_from_before_the_step_that_covers_it_leaves_no_promise() -> None:
    """A graph of the step doesn't end what runs on another stream since long before it."""
    made = run(launches(40, 10_000))
    covered = with_side_work(made, made.activities[-1].end_ns - made.begun_ns[0])
    assert covered.steps.busy_ns == covered.steps.wall_ns
    assert covered.steps.carried_ns == (covered.steps.wall_ns or 0) - 40 * 10_000
    assert covered.whatif == []
    assert "step-carried" in {finding.code for finding in covered.integrity.findings}
    assert not re.search(r"(would|could) leave \d", covered.advice)
    short = with_side_work(made, 200_000)
    assert short.steps.carried_ns == 0
    assert short.whatif == of(made).whatif != []
    assert "step-carried" not in {finding.code for finding in short.integrity.findings}


WORK = st.lists(
    st.one_of(
        st.builds(launches, st.integers(1, 12), st.integers(2_000, 300_000), st.integers(1_000, 40_000)),
        st.just(SYNC),
        st.builds(lambda time: [Op("work", time)], st.integers(2 * MS, 20 * MS)),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=40, deadline=None)
@given(WORK, st.integers(0, 40_000))
def test_any_program_is_replayed_and_no_promise_goes_below_its_floor(parts: list[list[Op]], host_ns: int) -> None:
    step = launches(8, 20_000, host_ns) + [op for part in parts for op in part]
    made = run(step)
    analysis = of(made)
    if analysis.steps.method != "annotation":
        return
    assert analysis.steps.replay_ns == pytest.approx(made.step_ns, rel=0.03)
    for row in analysis.whatif:
        promised(analysis, row.remedy)
        assert row.step_ns_high <= (analysis.steps.wall_ns or 0)
