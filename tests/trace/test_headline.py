"""The headline and the advice: claims about the steady state where there is one."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from laptime.errors import LaptimeError
from laptime.trace.analysis import analyse
from laptime.trace.busy_words import percent
from laptime.trace.plain_names import plain
from laptime.trace.result import SURE
from tests.trace.build_timeline import build
from tests.trace.engines import LAYER, Rows, decoder, host_bound
from tests.trace.programs import Op, run
from tests.trace.write_traces import ActivityRow, CallRow, RangeRow

STEP = decoder(12, LAYER, [("embedding", 3_000)], [("argmax", 3_000)])


def test_start_up_is_the_headline_only_where_nothing_is_steady() -> None:
    calls = [CallRow(0, 4_000, "cudaMemcpyAsync", 90_001), CallRow(10_000, 900_010_000, "cudaLaunchKernel", 90_002)]
    work = [
        ActivityRow(5_000, 6_000, "copy", "memcpy", correlation=90_001),
        ActivityRow(900_011_000, 900_020_000, correlation=90_002),
    ]
    calls += [CallRow(900_030_000, 900_032_000, correlation=90_003)]
    work += [ActivityRow(900_033_000, 900_050_000, correlation=90_003)]
    alone = analyse(build(work, calls))
    assert alone.headline.startswith("GPU idle over 99.9 % while the program starts up: 900.0 of the 900.0 ms idle")
    assert alone.headline.endswith("in cudaLaunchKernel")
    assert "Warm up first" in alone.advice
    steady = host_bound([STEP] * 6, between_ns=30_000, start_ns=1_000_000_000)
    both = analyse(build([*work, *steady.activities], [*calls, *steady.calls]))
    assert "of a step: the host can't launch fast enough" in both.headline
    assert "start" not in both.headline.partition(";")[0]
    assert "ms of the trace lie outside the steps" in both.headline


def test_long_work_between_launches_is_not_called_slow_launching() -> None:
    rows = host_bound([STEP] * 6, between_ns=200_000_000)
    assert "the host does other work than launching" in analyse(build(*rows.all)).headline


def test_ranges_with_unlike_work_are_not_called_steps() -> None:
    """A sampled trace: of the one range other kernels are left than of the other."""
    ranges = [[(f"{name}{i % 7}", 9_000) for i in range(many)] for name, many in (("gemm", 40), ("relu", 60))]
    analysis = analyse(build(*host_bound(ranges, annotate="ProfilerStep#{}", between_ns=30_000).all))
    assert (analysis.steps.count, analysis.steps.confidence < SURE) == (2, True)
    assert analysis.advice.startswith("The one shown of 2 ranges of ProfilerStep#N takes")


def test_repeated_products_alone_are_no_forward_pass() -> None:
    """A GEMM and a collective, 20 times: a loop, which says nothing of layers."""
    names = ["ampere_sgemm_128x64_tn", "add_kernel", "ncclDevKernel_AllReduce_Sum_f32_RING_LL", "relu_kernel"]
    rows = [ActivityRow(i * 50_000, (i + 1) * 50_000 - 1, names[i % 4]) for i in range(80)]
    analysis = analyse(build(rows))
    assert analysis.steps.method == "forward"
    assert "steps-unsure" in {finding.code for finding in analysis.integrity.findings}
    assert analysis.advice.startswith("If what repeats are layers, the one pass through them takes 4.00 ms")
    assert "(20 equal parts)" in analysis.advice
    assert "For 1.00 ms only communication runs; most of that may be waiting for other ranks" in analysis.advice
    assert not re.search(r"(would|could) leave \d", analysis.advice)


def test_first_launches_are_not_called_slow_launching() -> None:
    """Three kernels, each for the first time: how fast this host launches can't be read from them."""
    calls = [CallRow(i * 60_000, i * 60_000 + 55_000, correlation=i) for i in range(3)]
    rows = [ActivityRow(i * 60_000 + 56_000, i * 60_000 + 58_000, f"k{i}", correlation=i) for i in range(3)]
    assert analyse(build(rows, calls)).headline.endswith(
        "it waits for launches; most of the 3 are a kernel's first or second in this trace, and a first launch can take"
        " longer"
    )
    again = [
        ActivityRow(r.start_ns + j * 180_000, r.end_ns + j * 180_000, r.name, correlation=j * 3 + i)
        for j in range(9)
        for i, r in enumerate(rows)
    ]
    calls = [CallRow(r.start_ns - 56_000, r.start_ns - 1_000, correlation=r.correlation or 0) for r in again]
    assert "the host can't launch fast enough" in analyse(build(again, calls)).headline


def test_nothing_is_said_of_why_where_most_launches_are_missing() -> None:
    rows = [ActivityRow(i * 900_000, i * 900_000 + 9_000, f"k{i}", correlation=i) for i in range(20)]
    calls = [CallRow(i * 900_000 - 9_000, i * 900_000 - 5_000, correlation=i) for i in range(3)]
    assert analyse(build(rows, calls)).headline.endswith(
        "most of its work has no launch in this trace, so why isn't known"
    )


def test_one_kernel_waits_for_nothing_that_the_trace_holds() -> None:
    analysis = analyse(build([ActivityRow(6_000, 9_000, correlation=1)], [CallRow(1_000, 5_000, correlation=1)]))
    assert analysis.headline == "GPU: only one activity is in the trace, so there are no gaps to explain"


def test_one_copy_and_a_second_gpu_that_worked_for_a_moment() -> None:
    """A device with one activity has no share of its time, and another's share is of the time in which that worked."""
    copy = ActivityRow(0, 4_000_000, "Memcpy HtoD (Pageable -> Device)", "memcpy", device=2, bytes=20_000_000)
    rows = [ActivityRow(4_100_000 + 60_000 * i, 4_150_000 + 60_000 * i, "k") for i in range(2)]
    assert analyse(build([copy, *rows])).headline == (
        "GPU 2: only one activity, a copy host to device (pageable, 5 GB/s), is in the trace, so there are no gaps to"
        " explain; GPU 0 busy 91 % of the 0.11 ms in which it worked"
    )


def test_a_share_that_would_be_printed_as_nothing_is_left_out() -> None:
    rows = [ActivityRow(0, 90_000_000, "k"), ActivityRow(90_000_010, 90_000_020, "Memcpy HtoD", "memcpy")]
    said = analyse(build(rows)).headline
    assert said.startswith(
        "GPU busy over 99.9 %: it hardly waits; its busy time goes to k ("
    )  # a kernel of no family by its name
    assert "copies" not in said


def test_a_step_of_first_calls_promises_nothing() -> None:
    rows = host_bound([STEP], between_ns=30_000)
    ended = rows.calls[-1].end_ns
    slow = CallRow(ended + 10_000, ended + 90_000_000, "cudaLaunchKernel", 99_999)
    last = ActivityRow(slow.end_ns + 5_000, slow.end_ns + 9_000, "first of its name", correlation=99_999)
    mark = RangeRow(rows.calls[0].start_ns - 1, slow.end_ns + 20_000, "ProfilerStep#1")
    analysis = analyse(build([*rows.activities, last], [*rows.calls, slow], [mark]))
    assert analysis.steps.count == 1
    assert "first calls are made: warm up first" in analysis.advice
    assert not re.search(r"(would|could) leave \d", analysis.advice)


def with_a_first_call(steps: int) -> Rows:
    """Steps with ranges; 500 ms of the last but one, or of the only one, are a first call between two launches."""
    rows, late = host_bound([STEP] * steps, between_ns=30_000, annotate="ProfilerStep#{}"), 500_000_000
    number = max(steps - 2, 0) * len(STEP) + 5
    at = rows.calls[number].start_ns

    def later(row: Any) -> Any:
        begun = row.start_ns + (late if row.start_ns >= at else 0)
        return replace(row, start_ns=begun, end_ns=row.end_ns + (late if row.end_ns > at else 0))

    moved = Rows(*([later(row) for row in part] for part in (rows.activities, rows.calls, rows.ranges)))
    moved.calls.append(CallRow(at - 1_000, at + late - 1_000, "cudaFree", 0))
    return moved


def test_a_first_call_in_one_of_many_steps_is_not_their_headline() -> None:
    rows = with_a_first_call(6)
    analysis = analyse(build(rows.activities, rows.calls, rows.ranges))
    assert analysis.steps.count == 6
    assert "of a step: " in analysis.headline
    assert re.search(r"; first calls elsewhere took 500\.\d ms$", analysis.headline)
    assert analysis.whatif


def test_the_only_step_with_a_first_call_waits_for_that_and_promises_nothing() -> None:
    rows = with_a_first_call(1)
    analysis = analyse(build(rows.activities, rows.calls, rows.ranges))
    assert analysis.steps.count == 1
    assert "while the program starts up: 500." in analysis.headline
    assert "warm up first" in analysis.advice
    assert analysis.whatif == []


def test_kernels_that_are_loaded_in_every_step_are_no_start_up() -> None:
    """As where each step has new shapes."""
    rows = host_bound([STEP] * 8, between_ns=6_000_000, annotate="ProfilerStep#{}")
    loads = [CallRow(row.end_ns + 9_000, row.end_ns + 5_000_000, "cuModuleLoadData") for row in rows.ranges]
    analysis = analyse(build(rows.activities, [*rows.calls, *loads], rows.ranges))
    assert ": the host is loading or compiling kernels" in analysis.headline
    assert "start" not in analysis.headline
    assert "kernels are loaded or compiled, in this step as in others." in analysis.advice
    assert "warm up" not in analysis.advice


def test_one_step_of_many_that_lasts_far_longer_is_not_their_headline() -> None:
    """The last kernel is recorded to last 5 s: the five steps before it say how a step is."""
    rows = host_bound([STEP] * 6, between_ns=30_000, annotate="ProfilerStep#{}")
    last = rows.activities[-1]
    for name, told in (
        ("validation", "a few steps are longer, by 5000."),
        (last.name, "the last recorded duration is"),
    ):
        rows.activities[-1] = replace(last, name=name, end_ns=last.end_ns + 5_000_000_000)
        said = analyse(build(*rows.all)).headline
        assert f"of a step: the host can't launch fast enough; {told}" in said
        assert "hardly waits" not in said


def a_loop(count: int, *, names: str = "gemm add", process: int = 100, shift_ns: int = 0) -> Rows:
    """Short kernels that wait for the host, 40 µs apart."""
    rows = Rows()
    for i in range(count):
        at, number = 1_000_000 + shift_ns + i * 40_000, process * 10_000 + i
        name = names.split()[i % len(names.split())]
        rows.calls.append(CallRow(at, at + 5_000, correlation=number, process=process, thread=process))
        rows.activities.append(ActivityRow(at + 6_000, at + 16_000, name, correlation=number, process=process))
    return rows


def test_two_kernels_in_turns_are_no_layers() -> None:
    for names in ("gemm add", "gemm add relu", "gemm gemm add add"):
        analysis = analyse(build(*a_loop(120, names=names).all))
        assert (analysis.steps.method, analysis.steps.layers) == ("none", None)


def test_kernels_of_two_programs_in_turns_are_no_step() -> None:
    """Each program runs the same five kernels; together they repeat ten."""
    one, two = (
        a_loop(200, names="gemm add relu norm softmax", process=p, shift_ns=(p - 100) * 20_000) for p in (100, 101)
    )
    analysis = analyse(build([*one.activities, *two.activities], [*one.calls, *two.calls]))
    assert analysis.steps.reason == "kernels of 2 processes run in turns: what repeats is no step of one program"
    assert "hardly waits" not in analysis.headline


def test_missing_kernels_leave_the_cause_open_and_promise_nothing() -> None:
    rows = host_bound([STEP] * 6, between_ns=300_000)
    whole = analyse(build(*rows.all))
    assert re.search(r"(would|could) leave \d", whole.advice)
    lost = analyse(build([row for i, row in enumerate(rows.activities) if i % 9], rows.calls))
    missing = len(range(0, len(rows.activities), 9))
    assert lost.headline.endswith(
        f"in what was recorded; {missing} of {len(rows.calls)} kernel launches have no kernel, so why isn't certain"
    )
    assert not re.search(r"(would|could) leave \d", lost.advice)


def test_graph_replays_without_kernels_leave_the_cause_open() -> None:
    rows = [CallRow(100_000 * i, 100_000 * i + 5_000, "cudaGraphLaunch", i) for i in range(1, 13)]
    work = [
        ActivityRow(100_000 * i + 9_000 + 6_001 * k, 100_000 * i + 14_000 + 6_001 * k, f"k{k}", correlation=i)
        for i in range(1, 13, 3)
        for k in range(9)
    ]
    said = analyse(build([replace(row, graph_node=i % 9) for i, row in enumerate(work)], rows)).headline
    assert "in what was recorded; graph replays lack kernels, so why isn't certain" in said


def test_impossible_durations_bound_the_idle_time() -> None:
    rows = a_loop(120)
    long = rows.activities[30]
    rows.activities[30] = replace(long, end_ns=long.start_ns + 1_000_000)
    said = analyse(build(*rows.all)).headline
    assert said.startswith("GPU idle at least ")
    assert said.endswith("; some recorded durations can't be")


def test_work_that_is_queued_and_not_begun_waits_for_something_unseen() -> None:
    """All is launched at once, and the device begins each kernel 5 ms after the last one: no host, no launch."""
    calls = [CallRow(i * 6_000, i * 6_000 + 5_000, correlation=i + 1) for i in range(400)]
    rows = [
        ActivityRow(10_000_000 + i * 5_100_000, 10_100_000 + i * 5_100_000, "gemm", correlation=i + 1)
        for i in range(400)
    ]
    assert analyse(build(rows, calls)).headline.endswith("what it waited for isn't in the trace")
    close = [ActivityRow(3_000_000 + i * 3_000, 3_002_000 + i * 3_000, "gemm", correlation=i + 1) for i in range(400)]
    assert analyse(build(close, calls)).headline.endswith("the GPU took the time between its own kernels")


def test_a_capture_is_named_as_what_the_host_does() -> None:
    rows = a_loop(10)
    begins = rows.calls[-1].end_ns + 20_000
    calls = [CallRow(begins, begins + 1_000, "cudaStreamBeginCapture", 90_000)]
    calls += [CallRow(begins + 9_000 * i, begins + 9_000 * i + 5_000, correlation=80_000 + i) for i in range(1, 101)]
    ends = calls[-1].end_ns + 3_000
    calls.append(CallRow(ends, ends + 1_000, "cudaStreamEndCapture", 90_001))
    last = [CallRow(ends + 9_000, ends + 12_000, correlation=95_000)]
    work = [ActivityRow(ends + 15_000, ends + 25_000, "gemm", correlation=95_000)]
    said = analyse(build([*rows.activities, *work], [*rows.calls, *calls, *last])).headline
    assert "the host captures graphs meanwhile, which runs no kernel" in said


def test_between_graphs_of_a_whole_step_the_host_does_not_launch_slowly() -> None:
    rows = host_bound([STEP] * 12, graph=True, between_ns=400_000)
    assert analyse(build(*rows.all)).steps.method == "graph"
    assert "the host does other work than launching" in analyse(build(*rows.all)).headline


def test_a_trace_without_calls_promises_nothing() -> None:
    rows = host_bound([STEP] * 6, between_ns=30_000)
    alone = analyse(build(rows.activities))
    assert alone.steps.confidence >= SURE
    assert not re.search(r"(would|could) leave \d", alone.advice)


def test_other_devices_are_named() -> None:
    one, two = a_loop(40), a_loop(40, process=101)
    away = [replace(row, device=1) for row in two.activities[::2]]
    said = analyse(build([*one.activities, *away], [*one.calls, *two.calls[::2]])).headline
    assert said.startswith("GPU 0 idle 75 %")
    assert said.endswith("; GPU 1 idle 87 %")


def test_devices_in_one_headline_are_told_in_one_measure() -> None:
    """One works 91 % and the other 89 %: the second isn't said to be idle 11 %."""
    rows, calls = [], []
    for device, lasts in ((0, 9_100), (1, 8_900)):
        for i in range(60):
            at, number = 10_000 * i, 1_000 * device + i
            rows.append(ActivityRow(at + 1_000, at + 1_000 + lasts, "gemm", device=device, correlation=number))
            calls.append(CallRow(at, at + 500, correlation=number))
    said = analyse(build(rows, calls)).headline
    assert said.startswith("GPU 0 busy 91 %")
    assert said.endswith("; GPU 1 busy 89 %")


def test_a_wide_range_is_said_by_its_end() -> None:
    tiny = host_bound([decoder(12, [(name, 1_000) for name, _ in LAYER], [("embedding", 900)])] * 6, between_ns=30_000)
    analysis = analyse(build(*tiny.all))
    best = next(row for row in analysis.whatif if row.remedy == "graph")
    wide = best.step_ns_high - best.step_ns_low > 0.2 * (best.step_ns_high + best.step_ns_low)
    assert wide
    assert f" leave a step of {best.step_ns_high / 1e6:.2f} ms or less." in analysis.advice


def test_many_kernels_of_no_family_are_one_kind() -> None:
    rows = [ActivityRow(1_000_000 + i * 10_000, 1_009_900 + i * 10_000, f"k{i}") for i in range(40)]
    assert analyse(build(rows)).headline.partition("(")[0].endswith("its busy time goes to kernels of no known kind ")


def test_a_long_frame_keeps_its_function() -> None:
    compiled = "/tmp/torchinductor_root/ov/cov463qhi2m2kw6ldmzzijfv5t3cjjklfci3qly3nsw.py(1234): call"
    assert plain(compiled).startswith("ov/cov463")
    assert plain(compiled).endswith(".py(1234): call")
    assert len(plain(compiled)) == 48
    assert plain("/opt/a/long/way/down/to/site-packages/torch/nn/modules/module.py(1779): _call_impl", 44) == (
        "modules/module.py(1779): _call_impl"
    )
    assert plain("aten::mm") == "aten::mm"
    assert len(plain("/" * 50_000 + "a" * 50_000)) == 48


def test_communication_beside_compute_is_called_that() -> None:
    """Experts' tokens travel on a stream of their own while others are computed: nobody waits for them."""
    rows = [ActivityRow(i * 50_000, (i + 1) * 50_000 - 1_000, "gemm", stream=7) for i in range(20)]
    rows += [
        ActivityRow(i * 50_000, i * 50_000 + 45_000, "void deep_ep::internode::dispatch<8>(int4*)", stream=27)
        for i in range(20)
    ]
    analysis = analyse(build(rows))
    busy = {row.kind: (row.busy_ns, row.exposed_ns) for row in analysis.devices[0].busy}
    assert busy["communication"] == (900_000, 0)
    assert "communication beside compute (46 %)" in analysis.headline


def test_copies_beside_kernels_take_nothing_from_them() -> None:
    """Kernels work all the time but for 1 % of it; copies run beside them."""
    rows = [ActivityRow(i * 101_000, i * 101_000 + 100_000, "gemm", stream=7) for i in range(20)]
    rows += [
        ActivityRow(i * 101_000 + 9_000, i * 101_000 + 101_000, "Memcpy HtoD (Pinned -> Device)", "memcpy", stream=20)
        for i in range(20)
    ]
    assert analyse(build(rows)).headline.endswith("its busy time goes to GEMM (99 %) and copies (1 %)")
    assert [percent(share) for share in (1.0000000000002, 0.9999999999998, 0.99999, 0.9951)] == [
        *("100 %", "100 %", "over 99.9 %", "99.5 %")
    ]


def test_a_pass_in_a_long_trace_is_not_its_headline_alone() -> None:
    rows = host_bound([STEP], start_ns=8_000_000_000)
    load = CallRow(0, 7_000_000_000, "cudaDeviceSynchronize", 99_999)
    headline = analyse(build(rows.activities, [load, *rows.calls])).headline
    assert headline.startswith("The GPU's work lies within 4.95 ms of the 8005 ms that were traced")
    assert "; in it: GPU idle" in headline


def test_a_server_that_waits_for_requests_waits_in_no_step() -> None:
    """Three bursts of ten tokens, two seconds apart: of the trace nearly all is idle, and of a step nearly nothing."""
    rows = Rows()
    for burst in range(3):
        more = host_bound([STEP] * 10, host=((None, 100),), launch_ns=200, start_ns=1_000_000 + burst * 2_000_000_000)
        for own, new in zip(rows.all, more.all, strict=True):
            own.extend(
                replace(row, correlation=row.correlation + 100_000 * burst) if hasattr(row, "correlation") else row
                for row in new
            )
    analysis = analyse(build(*rows.all))
    steps = analysis.steps
    assert steps.count == 30
    assert not steps.uneven
    assert steps.outside_idle_ns is not None
    assert 3_900_000_000 < steps.outside_idle_ns < 4_000_000_000
    assert "busy" in analysis.headline
    assert "of a step: it hardly waits" in analysis.headline
    assert analysis.headline.endswith("ms of them idle: the host does other work than launching")


def test_what_less_time_goes_to_than_to_compute_does_not_stand_for_all_of_it() -> None:
    """Per 1 ms: 550 µs of kernels, 260 µs of copies, and idle time."""
    rows = Rows()
    for i in range(20):
        at = 1_000_000 + i * 1_000_000
        for k, (name, kind, begins, lasts) in enumerate(
            (("solve", "kernel", 8_000, 550_000), ("Memcpy HtoD (Pageable -> Device)", "memcpy", 560_000, 260_000))
        ):
            rows.calls.append(CallRow(at + begins - 8_000, at + begins - 2_000, correlation=2 * i + k + 1))
            rows.activities.append(
                ActivityRow(at + begins, at + begins + lasts, name, kind, correlation=2 * i + k + 1, bytes=1_000_000)
            )
    said = analyse(build(*rows.all)).headline
    assert said.startswith("GPU busy 82 %, computing 56 %: only copies run 26 % of the time, host to device (pageable")
    peer = [
        replace(row, name="Memcpy PtoP (Device -> Device)") if row.kind == "memcpy" else row for row in rows.activities
    ]
    said = analyse(build(peer, rows.calls)).headline
    assert said == "GPU busy 82 %, computing 56 %: only copies between GPUs run 26 % of the time"


def test_a_busy_step_among_steps_that_wait_does_not_stand_for_them() -> None:
    """Every third step waits for its batch four times as long as a step lasts; some idle time lies before them all."""
    waits = [400_000 if i % 3 == 2 else 0 for i in range(12)]
    rows = Rows()
    at = 1_000_000
    number = iter(range(1, 10_000))
    for i, wait in enumerate(waits):
        begun = at
        for k in range(10):
            n = next(number)
            rows.calls.append(CallRow(at - 8_000, at - 4_000, correlation=n))
            rows.activities.append(ActivityRow(at, at + 10_000, f"void gemm{k}", correlation=n))
            at += 10_000
        at += wait
        rows.ranges.append(RangeRow(begun - 9_000, at - 9_000, f"ProfilerStep#{i}"))
    analysis = analyse(build([ActivityRow(0, 1_000, "fill"), *rows.activities], rows.calls, rows.ranges))
    assert analysis.steps.uneven
    assert "hardly waits" not in analysis.headline
    assert analysis.headline.startswith("GPU idle ")


def test_clocks_that_disagree_leave_the_cause_open() -> None:
    rows = host_bound([STEP] * 6, between_ns=300_000)
    work = [replace(row, start_ns=row.start_ns - 900_000, end_ns=row.end_ns - 900_000) for row in rows.activities]
    analysis = analyse(build(work, rows.calls))
    assert analysis.headline.endswith("; the clocks of host and device disagree, so why isn't certain")
    assert not re.search(r"(would|could) leave \d", analysis.advice)


def test_warm_up_steps_lie_outside_the_steady_ones() -> None:
    cold = host_bound([STEP], host=((None, 400_000),), annotate="ProfilerStep#9")
    warm = host_bound(
        [STEP] * 7, start_ns=cold.ranges[0].end_ns + 30_000, between_ns=30_000, annotate="ProfilerStep#{}"
    )
    begun = len(cold.calls)
    for row in (*warm.calls, *warm.activities):
        object.__setattr__(row, "correlation", row.correlation + begun)  # numbers of their own
    analysis = analyse(build(*(one + more for one, more in zip(cold.all, warm.all, strict=True))))
    assert (analysis.steps.count, analysis.steps.warm_up) == (8, 1)
    assert "ms of the trace lie outside the steady steps" in analysis.headline


def test_a_step_that_the_profiler_lengthens_promises_nothing() -> None:
    rows = host_bound([STEP] * 6, between_ns=4_000_000, annotate="ProfilerStep#{}")
    own = [RangeRow(row.end_ns + 1_000, row.end_ns + 3_900_000, "Buffer Flush", "profiler") for row in rows.ranges]
    timeline = build(rows.activities, rows.calls, [*rows.ranges, *own])
    assert "the profiler itself holds the host up" in analyse(timeline).headline
    assert analyse(timeline).advice.endswith("give the step's time without it (--tpot, in Python tpot_ms).")
    assert re.search(r"(would|could) leave \d", analyse(timeline, tpot_ms=6.0).advice)


@pytest.mark.parametrize("tpot_ms", [0.0, -5.0, 1e-300, float("nan"), float("inf")])
def test_a_given_time_that_is_none_is_refused(tpot_ms: float) -> None:
    rows = host_bound([STEP] * 6)
    with pytest.raises(LaptimeError, match="is no time of a token"):
        analyse(build(*rows.all), tpot_ms=tpot_ms)


def test_durations_that_are_all_zero_say_nothing_of_idle_time() -> None:
    rows = a_loop(40)
    work = [replace(row, end_ns=row.start_ns) for row in rows.activities]
    analysis = analyse(build(work, rows.calls))
    assert analysis.headline.startswith("GPU: all durations of its work are recorded as 0")
    assert analysis.integrity.verdict == "partial"
    assert "the GPU works 0" not in analysis.advice


def test_one_gap_that_is_nearly_all_idle_time_is_named() -> None:
    rows, late = a_loop(40, names="gemm"), 5_000_000_000
    work, calls = (
        [replace(row, start_ns=row.start_ns + late * (i >= 20), end_ns=row.end_ns + late * (i >= 20)) for i, row in own]
        for own in (enumerate(rows.activities), enumerate(rows.calls))
    )
    assert analyse(build(work, calls)).headline.endswith("; one gap of 5000.0 ms is nearly all of it")
    assert "one gap" not in analyse(build(*rows.all)).headline


def test_a_host_that_waits_again_and_again_within_a_step_is_said_to() -> None:
    """A loop that reads a value back after each of its layers can launch nothing ahead."""
    step = [op for i in range(12) for op in (Op("launch", 30_000, name=f"gemm_{i}"), Op("sync"), Op("work", 20_000))]
    many, few = (analyse(build(*run(ops).all)).headline for ops in (step, [*step[::3] * 2, Op("sync"), *step[2::3]]))
    assert "the host can't launch fast enough, and waits for the GPU 12 times in a step" in many
    assert "waits for the GPU" not in few


def test_scans_of_a_state_space_are_not_called_attention() -> None:
    layer = [("rms_norm", 4_000), ("gemm_in", 60_000), ("_selective_scan_fwd_kernel", 80_000), ("gemm_out", 40_000)]
    step = decoder(24, layer, [("embedding", 3_000)], [("argmax", 3_000)])
    busy = analyse(build(*host_bound([step] * 5, launch_ns=100, host=[]).all)).headline
    assert "its busy time goes to GEMM (54 %) and linear attention or scans (43 %)" in busy


def test_memory_that_is_taken_and_given_back_each_time_is_said_both() -> None:
    calls = [("cudaMalloc", 80_000), (None, 1_000), ("cudaFree", 120_000)]
    headline = analyse(build(*host_bound([STEP] * 5, host=calls).all)).headline
    assert headline.endswith("the host is allocating and freeing memory")
    mostly = [("cudaMalloc", 80_000), ("cudaFree", 8_000)]
    assert analyse(build(*host_bound([STEP] * 5, host=mostly).all)).headline.endswith("the host is allocating memory")


def test_no_time_reads_as_nothing() -> None:
    """Steps of 5 µs."""
    step = [(f"gemm_{i}", 310) for i in range(10)]
    advice = analyse(
        build(*host_bound([[*step, ("argmax", 200)]] * 30, launch_ns=100, host=[], between_ns=900).all)
    ).advice
    assert advice.startswith("A step takes 0.0053 ms, the GPU works 0.0033 ms of it in 11 kernels")
    assert " 0.00 " not in advice
