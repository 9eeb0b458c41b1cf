"""The trace in a terminal: what is said of verdict, causes, kernels and memory doesn't contradict the figures."""

from __future__ import annotations

import io
import re

import msgspec
import pytest
from rich.console import Console

from laptime.data.finding import Finding
from laptime.report.trace import words
from laptime.report.trace.comparison import comparison_page, comparison_report
from laptime.report.trace.page import trace_page
from laptime.report.trace.terminal import trace_report
from laptime.trace.analysis import analyse
from laptime.trace.comparison import compare
from laptime.trace.memory_result import DeviceMemory
from laptime.trace.result import Integrity, TraceAnalysis
from laptime.trace.tolerance import RECORD
from tests.trace import engines
from tests.trace.build_timeline import build
from tests.trace.write_traces import ActivityRow, CallRow, RangeRow


def an_analysis() -> TraceAnalysis:
    return analyse(build(*engines.published_engine(6).all))


def shown(analysis: TraceAnalysis) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(trace_report(analysis))
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("severities", "verdict", "said"),
    [
        (["info"], "ok", "Integrity ok: the file supports every figure."),
        (["warning"], "ok", "Integrity ok, with 1 warning: the figures hold as far as the warning allows."),
        (["warning", "warning"], "ok", "Integrity ok, with 2 warnings: the figures hold as far as the warnings allow."),
        (["severe", "warning"], "partial", "Integrity partial: the file does not support some figures."),
    ],
)
def test_a_verdict_does_not_contradict_its_findings(severities: list[str], verdict: str, said: str) -> None:
    findings = [Finding(code="lost", severity=one, message="2 launches have no kernel") for one in severities]
    analysis = msgspec.structs.replace(an_analysis(), integrity=Integrity(verdict, findings))
    assert said in shown(analysis)
    assert said in trace_page(analysis)


def test_a_partial_verdict_names_the_figures() -> None:
    codes = ("no-launch-record", "launches-without-kernels", "before-launch")
    findings = [Finding(code=code, severity="severe", message=code) for code in codes[:2]]
    findings += [Finding(code=codes[2], severity="warning", message="a warning limits no more")]
    text = shown(msgspec.structs.replace(an_analysis(), integrity=Integrity("partial", findings)))
    figures = "launches, causes of gaps, who launched what, busy time, kernels and gaps"
    assert f"Integrity partial: the file does not wholly support {figures}." in text


def test_copies_and_memsets_are_counted_beside_kernels() -> None:
    """Each launch is of one of them: two kernels are not said to come from five launches."""
    names = [("k", "kernel")] * 2 + [("Memcpy HtoD (Pinned -> Device)", "memcpy"), ("Memset (Device)", "memset")]
    rows = [
        ActivityRow(9_000 * i, 9_000 * i + 3_000, name, kind, correlation=i) for i, (name, kind) in enumerate(names)
    ]
    calls = [CallRow(row.start_ns - 3_000, row.start_ns - 1_000, correlation=row.correlation or 0) for row in rows]
    assert "2 kernels, 1 copy and 1 memset from 4 launches" in shown(analyse(build(rows, calls)))
    assert "2 kernels from 2 launches" in shown(analyse(build(rows[:2], calls[:2])))
    assert "1 kernel from 1 launch;" in shown(analyse(build(rows[:1], calls[:1])))
    one_lost = shown(analyse(build(rows, [*calls[:1], *calls[2:]])))
    assert "2 kernels, 1 copy and 1 memset; not all of their launches were recorded" in one_lost


def test_of_graphs_that_were_recorded_whole_no_kernel_is_counted() -> None:
    rows = [ActivityRow(i * 9_000, i * 9_000 + 5_000, "CUDA graph 1", "graph", correlation=i) for i in range(3)]
    calls = [CallRow(row.start_ns - 3_000, row.start_ns - 1_000, correlation=row.correlation or 0) for row in rows]
    text = shown(analyse(build(rows, calls)))
    assert "kernels are not counted, as replays of graphs were recorded whole; 3 launches; 2 gaps" in text
    assert "–" not in text.partition("kernels are not counted")[2].partition("\n")[0]
    assert "launches were not recorded" in shown(analyse(build(rows)))


def test_what_the_table_of_launchers_leaves_out_is_counted() -> None:
    rows = [ActivityRow(9_000 * i, 9_000 * i + 3_000, f"k{i}", correlation=i + 1) for i in range(12)]
    calls = [CallRow(row.start_ns - 3_000, row.start_ns - 1_000, correlation=row.correlation or 0) for row in rows]
    ranges = [
        RangeRow(call.start_ns - 500, call.end_ns + 500, f"aten::op_{'x' * i}", "cpu_op")
        for i, call in enumerate(calls)
    ]
    assert "and 4 more operators" in shown(analyse(build(rows, calls, ranges)))
    assert "more operator" not in shown(analyse(build(rows[:8], calls[:8], ranges[:8])))


def test_how_often_ranges_held_is_said_once() -> None:
    analysis = an_analysis()
    assert [row.remedy for row in analysis.whatif if RECORD in row.assumptions] == ["graph", "compile"]
    assert shown(analysis).count("how often such ranges held") == 1
    assert f"graph, compile: {RECORD}." in shown(analysis)


def test_what_several_ranges_assume_is_said_once() -> None:
    analysis = an_analysis()
    said = words.notes(analysis.whatif)
    for row in analysis.whatif:
        for one in words.assumed(row):
            (whom,) = [whom for whom, these in said if one in these]
            assert whom == "all of them" or row.remedy in whom.split(", ")
    listed = re.findall(r"<ul [^>]*assumptions.*?</ul>", trace_page(analysis), re.DOTALL)
    for report in (shown(analysis), "".join(listed)):
        assert report.count("to start from the untraced one") == 1


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(1.0829, 1.104, "1.083–1.104×"), (7.641, 10.66, "7.6–10.7×"), (1.35, 1.5, "1.35–1.50×"), (1.0, 1.0, "1.000×")],
)
def test_both_ends_of_a_speed_up_have_as_many_decimals(low: float, high: float, said: str) -> None:
    row = msgspec.structs.replace(an_analysis().whatif[0], speedup_low=low, speedup_high=high)
    assert words.speedup_range(row) == said


def test_a_comparison_says_points_and_why_sums_and_busy_differ() -> None:
    """The second engine's steps are the same with half as much idle time."""
    longer = analyse(build(*engines.host_bound([engines.decoder(12, [("k", 4_000)], [], [("h", 9_000)])] * 6).all))
    comparison = compare(an_analysis(), longer)
    console = Console(file=io.StringIO(), width=80)
    console.print(comparison_report(comparison))
    text = console.file.getvalue().replace("\xa0", " ")  # type: ignore[attr-defined]
    (row,) = [line for line in text.splitlines() if line.strip().startswith("utilisation")]
    assert row.split()[-2] == "points"
    assert "mean time in usual steps" in text
    assert "mean time in usual steps" in comparison_page(comparison)
    assert not re.search(r"[( ]-\d", text), "one minus sign"


def test_a_comparison_tells_kernels_of_one_short_name_apart() -> None:
    names = [f"nvjet_tst_8x64_64x16_{one}_h_bz_TNT" for one in ("1x4", "4x1")]
    comparison = compare(
        *(
            analyse(build([ActivityRow(9_000 * i, 9_000 * i + ns + i, names[i % 2]) for i in range(8)]))
            for ns in (3_000, 5_000)
        )
    )
    console = Console(file=io.StringIO(), width=120)
    console.print(comparison_report(comparison))
    for text in (console.file.getvalue(), comparison_page(comparison)):  # type: ignore[attr-defined]
        assert "nvjet 8x64 64x16 1x4" in text and "nvjet 8x64 64x16 4x1" in text


def test_the_whole_one_of_two_steps_has_no_spread() -> None:
    rows = engines.host_bound([engines.published_step()] * 2, annotate="ProfilerStep#{}", between_ns=30_000)
    assert "the other one is at an edge of the trace, or of the warm-up" in shown(analyse(build(*rows.all)))


def test_a_cause_with_time_and_no_gap_is_explained() -> None:
    analysis = an_analysis()
    assert any(row.gaps == 0 and row.total_ns for row in analysis.devices[0].gaps.causes)
    for text in (shown(analysis), trace_page(analysis)):
        assert "A gap is counted under its main cause; its time is parted among all of its causes." in text


def test_causes_are_doubted_where_the_headline_leaves_them_open() -> None:
    whole = an_analysis()
    assert "not surely why" not in shown(whole) + trace_page(whole)
    lost = Finding(code="launches-without-kernels", severity="severe", message="9 of 20 launches have no kernel: x")
    for text in (shown, trace_page):
        analysis = msgspec.structs.replace(whole, integrity=Integrity("partial", [lost]))
        assert "what the host did meanwhile, not surely why: 9 of 20 launches have no kernel." in text(analysis)


def test_kernels_beside_whole_graphs_are_said_to_be_outside_them() -> None:
    rows = [ActivityRow(1_000, 2_000, "add", correlation=1), ActivityRow(9_000, 99_000, "CUDA graph 1", "graph", 2)]
    calls = [CallRow(0, 500, correlation=1), CallRow(5_000, 6_000, "cudaGraphLaunch", 2)]
    assert "Kernels outside graphs" in shown(analyse(build(rows, calls)))
    assert "Kernels outside graphs" in trace_page(analyse(build(rows, calls)))
    assert "outside graphs" not in shown(an_analysis())


@pytest.mark.parametrize(("number", "differs"), [(0, False), (3, True), (-1, False)])
def test_memory_of_a_gpu_without_work_is_explained(number: int, differs: bool) -> None:
    memory = DeviceMemory(
        device=number, changes=1, relative=False, start_bytes=0, end_bytes=1 << 30, peak_bytes=1 << 30, peak_ns=5,
        reserved_bytes=None, before_bytes=None, holders=[], left_out=0, steps=[], curve_ns=[5], curve_bytes=[1 << 30],
    )  # fmt: skip
    analysis = msgspec.structs.replace(an_analysis(), memory=[memory])
    assert "held at the peak by" not in shown(analysis)  # a table that would have no row
    said = f"{number} is the allocator's number; the work in this file is numbered GPU 0"
    assert (said in shown(analysis)) == differs
