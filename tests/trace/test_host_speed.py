"""What the host's own speed, copies that hold nobody, and a card's link do to promises, against the simulator."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs

from laptime.trace.analysis import analyse
from laptime.trace.read.timeline import Card
from laptime.trace.result import TraceAnalysis
from tests.trace.build_timeline import build
from tests.trace.programs import Op, Run, as_graph, launches, run

MS = 1_000_000
SYNC = Op("sync")


def promised(analysis: TraceAnalysis, remedy: str) -> tuple[int, int]:
    row = next(row for row in analysis.whatif if row.remedy == remedy)
    return row.step_ns_low, row.step_ns_high


@pytest.mark.parametrize("speed", [0.65, 1.0, 1.35])
def test_a_host_of_another_speed_than_in_the_trace_does_all_of_its_work_at_that_speed(speed: float) -> None:
    """The profiler stretches launching by 1.4; the host is besides faster or slower when it isn't watched."""

    def program(launching_ns: float, work_ns: float) -> list[Op]:
        return [*launches(400, 4_000, round(launching_ns) - 5_000), SYNC, Op("work", round(work_ns))]

    traced, real = run(program(45_000, 20 * MS)), program(45_000 / 1.4 * speed, 20 * MS * speed)
    low, high = promised(analyse(build(*traced.all), tpot_ms=run(real).step_ns / MS), "graph")
    assert low <= as_graph(real) <= high
    assert high - low <= 0.42 * low


def test_a_longer_time_than_traced_is_launching_that_a_graph_removes() -> None:
    traced = run(launches(60, 4_000))
    ends = [
        promised(analyse(build(*traced.all), tpot_ms=given), "graph") for given in (None, traced.step_ns * 1.3 / MS)
    ]
    assert ends[1] == pytest.approx(ends[0], rel=0.02)


def ending_early(made: Run, name: str) -> Run:
    """Copies that end before the calls that launched them do."""
    began = {call.correlation: call.start_ns for call in made.calls}
    rows = [
        replace(row, start_ns=began[row.correlation] + 2_000, end_ns=began[row.correlation] + 3_000, name=name)
        if row.kind == "memcpy"
        else row
        for row in made.activities
    ]
    return Run(rows, made.calls, made.ranges, made.begun_ns)


def test_a_short_copy_that_ends_before_its_call_does_holds_the_host_only_with_pageable_memory() -> None:
    made = run([*launches(60, 4_000), Op("work", 10_000), Op("launch", 1_000, memory="pinned")])
    ends = {}
    for name in ("DtoD (Device -> Device)", "HtoD (Pinned -> Device)", "HtoD (Pageable -> Device)"):
        ends[name[:12]] = promised(analyse(build(*ending_early(made, f"Memcpy {name}").all)), "graph")
    on_device, pinned, pageable = ends.values()
    assert on_device == pinned
    assert pageable[1] > pinned[1] + 15_000  # a graph is launched anew behind a wait


def test_a_softmax_is_compiled_with_its_neighbours_and_statistics_of_a_batch_are_not() -> None:
    def chain(*parts: tuple[str, int]) -> list[Op]:
        return [op for name, time_ns in parts * 8 for op in launches(1, time_ns, name=name)]

    elementwise, statistics = "vectorized_elementwise_kernel", ("batch_norm_collect_statistics_kernel", 100_000)
    pairs = (
        (
            chain(("gemm", 200_000), (elementwise, 80_000), (elementwise, 80_000), ("cunn_SoftMaxForward", 40_000)),
            chain(("gemm", 200_000), ("triton", 104_000)),
        ),
        (
            chain(("gemm", 200_000), statistics, (elementwise, 100_000), (elementwise, 80_000)),
            chain(("gemm", 200_000), statistics, ("triton", 104_000)),
        ),
    )
    for before, after in pairs:
        low, high = promised(analyse(build(*run(before).all)), "compile")
        assert low <= run(after).step_ns <= high


@pytest.mark.parametrize("softmax_ns", [30_000, 300_000])
def test_where_a_long_softmax_is_between_operators_no_compiler_is_promised_anything(softmax_ns: int) -> None:
    """It may get faster or slower than it was by itself; a short one makes no difference."""
    adds = [("vectorized_elementwise_kernel", 80_000)] * 4
    parts = [("gemm", 200_000), *adds, ("cunn_SoftMaxForward", softmax_ns)] * 8
    before = run([op for name, time_ns in parts for op in launches(1, time_ns, name=name)])
    remedies = {row.remedy for row in analyse(build(*before.all)).whatif}
    assert ("compile" in remedies) == (softmax_ns < 100_000)


def test_a_known_link_narrows_the_promise_of_pinned_copies() -> None:
    made = run([Op("launch", 10 * MS, memory="pageable", bytes=150_000_000), *launches(20, 200_000)])
    timeline = build(*made.all)
    widths = []
    for name in ("NVIDIA H200", "Some other card"):
        low, high = promised(analyse(structs.replace(timeline, cards=(Card(0, name),))), "overlap")
        widths.append((high - low) / (high + low))
        if name == "NVIDIA H200":
            assert low <= 20 * 201_000 <= high  # 2.7 ms of copies hide behind 4 ms of compute
    assert widths[0] < 0.16
    assert widths[1] > 0.2
