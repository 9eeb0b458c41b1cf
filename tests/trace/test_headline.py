"""The headline and the advice: claims about the steady state where there is one."""

from __future__ import annotations

from laptime.trace.analysis import analyse
from tests.trace.build_timeline import build
from tests.trace.engines import LAYER, decoder, host_bound
from tests.trace.write_traces import ActivityRow, CallRow

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
    assert alone.headline.startswith("GPU idle 100.0 % while the program starts up: 900.0 of the 900.0 ms idle")
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
