"""The headline and the advice: claims about the steady state where there is one."""

from __future__ import annotations

from laptime.trace.analysis import analyse
from tests.trace.build_timeline import build
from tests.trace.engines import LAYER, decoder, host_bound
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


def test_repeated_products_alone_are_no_forward_pass() -> None:
    """A GEMM and a collective, 20 times: a loop, which says nothing of layers."""
    names = ["ampere_sgemm_128x64_tn", "add_kernel", "ncclDevKernel_AllReduce_Sum_f32_RING_LL", "relu_kernel"]
    rows = [ActivityRow(i * 50_000, (i + 1) * 50_000 - 1, names[i % 4]) for i in range(80)]
    analysis = analyse(build(rows))
    assert analysis.steps.method == "forward"
    assert "steps-unsure" in {finding.code for finding in analysis.integrity.findings}
    assert analysis.advice.startswith("If what repeats are layers, the one pass through them takes 4.00 ms")
    assert "(20 equal parts)" in analysis.advice
    assert "For 1.00 ms only communication runs: no remedy here ends it." in analysis.advice
    assert "would leave" not in analysis.advice


def test_first_launches_are_not_called_slow_launching() -> None:
    """Three kernels, each for the first time: how fast this host launches can't be read from them."""
    calls = [CallRow(i * 60_000, i * 60_000 + 55_000, correlation=i) for i in range(3)]
    rows = [ActivityRow(i * 60_000 + 56_000, i * 60_000 + 58_000, f"k{i}", correlation=i) for i in range(3)]
    assert analyse(build(rows, calls)).headline.endswith(
        "most of its 3 kernels ran for the first time, which takes long once"
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


def test_a_share_that_would_be_printed_as_nothing_is_left_out() -> None:
    rows = [ActivityRow(0, 90_000_000, "k"), ActivityRow(90_000_010, 90_000_020, "Memcpy HtoD", "memcpy")]
    said = analyse(build(rows)).headline
    assert said.startswith("GPU busy over 99.9 %: it hardly waits; its time goes to other (")
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
    assert "would leave" not in analysis.advice
