"""What-if against outcomes that are known: the published engine's buffers, graph and fusion fall inside the ranges."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from laptime.errors import LaptimeError
from laptime.trace.analysis import analyse, views
from laptime.trace.read.timeline import Card
from laptime.trace.result import TraceAnalysis
from laptime.trace.step_costs import step_costs
from laptime.trace.step_totals import StepCosts
from laptime.trace.whatif import fusion_saving_in_graph, what_if
from tests.trace import engines
from tests.trace.build_timeline import build
from tests.trace.write_traces import ActivityRow, CallRow, RangeRow

MS = 1_000_000


def published(tpot_ms: float | None = engines.PUBLISHED_UNTRACED_MS) -> TraceAnalysis:
    return analyse(build(*engines.published_engine().all), tpot_ms=tpot_ms)


def published_costs() -> StepCosts:
    timeline = build(*engines.published_engine().all)
    (view,) = views(timeline)
    costs = step_costs(timeline, view.gaps, view.causes, view.launched, view.frame)
    assert costs is not None
    return costs


def test_the_published_step_is_rebuilt() -> None:
    steps = published().steps
    assert (steps.wall_ns, steps.kernel_ns, steps.gap_ns) == (15_200_000, 11_971_000, 3_229_000)
    assert (steps.kernels_per_step, steps.launches_per_step) == (400, 400)
    assert steps.layers is not None
    assert (steps.layers.count, steps.layers.kernels_per_layer, steps.layers.outside) == (36, 11, 4)


@pytest.mark.parametrize(
    ("remedy", "measured_ms"),
    [("buffers", engines.PUBLISHED_BUFFERS_MS), ("graph", engines.PUBLISHED_GRAPH_MS)],
)
def test_what_was_measured_lies_in_the_range(remedy: str, measured_ms: float) -> None:
    row = next(row for row in published().whatif if row.remedy == remedy)
    assert row.step_ns_low <= measured_ms * MS <= row.step_ns_high


def test_the_costs_are_those_of_the_published_step() -> None:
    costs = published_costs()
    gap = 3_229_000 // 400
    assert (costs.wall_ns, costs.busy_ns, costs.kernels, costs.graphed) == (15_200_000, 11_971_000, 400, False)
    assert costs.allocation_ns == 400 * (gap - 5_200 - 300)
    assert costs.outside_ns == 5 * gap + 200  # around 1 kernel before the layers and 3 behind, and between steps
    assert costs.fusable == 72  # add + norm, twice a layer
    assert costs.fusable_ns == sum(duration for name, duration in engines.published_step() if name == "add")


def test_kernels_that_leave_no_gap_in_replays_are_promised_none() -> None:
    rows = what_if(structs.replace(published_costs(), residual_ns=(0, 1)))
    (graph,) = [row for row in rows if row.remedy == "graph"]
    assert graph.assumptions[0].startswith("its kernels follow one another with hardly a gap")


def test_fusion_under_the_graph_gave_0_9_percent() -> None:
    costs = published_costs()
    adds = [duration for name, duration in engines.published_step() if name == "add"]
    one_a_layer = structs.replace(costs, fusable=36, fusable_ns=sum(adds[:36]))
    low, high = fusion_saving_in_graph(one_a_layer)
    measured = engines.PUBLISHED_FUSION_SHARE * engines.PUBLISHED_GRAPH_MS * MS
    assert low <= measured <= high
    assert high < 0.02 * engines.PUBLISHED_GRAPH_MS * MS  # far from the 10 % that was hoped for


def test_every_range_is_narrow_enough_to_be_worth_reading() -> None:
    analysis = published()
    for row in analysis.whatif:
        half = (row.step_ns_high - row.step_ns_low) / 2
        assert half <= 0.1 * engines.PUBLISHED_UNTRACED_MS * MS, row


def test_the_hope_of_the_note_is_outside() -> None:
    """12.0 ms, all gaps gone, was predicted; a graph keeps a residual."""
    row = next(row for row in published().whatif if row.remedy == "graph")
    assert row.step_ns_low > 12.0 * MS


def test_the_untraced_time_is_the_baseline() -> None:
    rows = {row.remedy: row for row in published().whatif}
    untraced = rows["untraced"]
    assert (untraced.step_ns_low, untraced.step_ns_high, untraced.speedup_low) == (14_630_000, 14_630_000, 1.0)
    assert rows["graph"].speedup_low == pytest.approx(14.63 * MS / rows["graph"].step_ns_high, abs=1e-3)
    assert "untraced" not in {row.remedy for row in published(None).whatif}


def test_the_advice_tells_the_traced_step_from_the_given_time() -> None:
    assert published().advice.startswith("As traced, a step takes ")
    assert "(given without the profiler: 14.63 ms), the GPU works" in published().advice
    assert published(None).advice.startswith("A step takes ")


def test_an_untraced_time_below_the_kernels_is_refused() -> None:
    with pytest.raises(LaptimeError, match=r"the given time of a token, 11 ms, is shorter than the 11\.971 ms"):
        published(11.0)


@pytest.mark.parametrize("tpot_ms", [22.9, 28_000.0])
def test_an_untraced_time_far_above_the_traced_step_is_refused(tpot_ms: float) -> None:
    with pytest.raises(LaptimeError, match=r"is over 1\.5 times the 15\.2 ms that the longer steps of this trace take"):
        published(tpot_ms)


def test_an_untraced_time_above_the_traced_step_is_said_to_be_unlikely() -> None:
    longer = published(17.0)
    assert longer.advice.endswith(" This starts from the given time of a token, which is longer than the traced step.")
    assert "1.80 ms longer than what was traced" in longer.whatif[0].assumptions[0]
    assert [f.code for f in longer.integrity.findings if f.code.startswith("tpot")] == ["tpot-longer"]
    as_long = published(15.25)
    assert "tracing adds nothing that shows" in as_long.whatif[0].assumptions[0]
    assert "given time" not in as_long.advice
    for analysis in (longer, as_long, published(15.0)):
        assert not [f for row in analysis.whatif for f in row.assumptions if "adds -" in f]
    assert not [f for a in (as_long, published(15.0)) for f in a.integrity.findings if f.code.startswith("tpot")]


def test_kernels_of_no_time_get_no_promise() -> None:
    assert what_if(structs.replace(published_costs(), busy_ns=0)) == []


def test_a_graphed_step_gets_no_graph_advice() -> None:
    rows = engines.host_bound([engines.published_step()] * 8, graph=True, between_ns=20_000)
    remedies = {row.remedy for row in analyse(build(*rows.all)).whatif}
    assert "graph" not in remedies
    assert "fusion" in remedies


def test_host_work_between_copies_stays_under_a_graph() -> None:
    """Images are prepared on the CPU for 200 ms between the copy back of one request and the copy of the next."""
    activities, calls, now = [], [], 0
    for request in range(6):
        rows = engines.host_bound([engines.decoder(24, engines.LAYER, [("embedding", 9_000)])], start_ns=now)
        last = rows.activities[-1].end_ns
        for i, at in enumerate((last + 10_000, last + 200_030_000)):
            rows.calls.append(CallRow(at, at + 5_000, "cudaMemcpyAsync", 5_000 + i))
            rows.activities.append(ActivityRow(at + 6_000, at + 20_000, "Memcpy", "memcpy", correlation=5_000 + i))
        now = last + 200_060_000
        shift = request * 10_000
        calls += [replace(call, correlation=call.correlation + shift) for call in rows.calls]
        activities += [replace(row, correlation=row.correlation + shift) for row in rows.activities]
    analysis = analyse(build(activities, calls))
    assert analysis.steps.count >= 5
    for row in analysis.whatif:
        assert row.step_ns_low >= 200_000_000
        assert row.floor_ns is not None
        assert row.floor_ns >= 200_000_000
    assert "the host does other work than launching" in analysis.headline
    assert "no remedy here ends it" in analysis.advice


def test_kernels_hidden_under_communication_are_not_saved() -> None:
    """100 small kernels run under a collective of 5 ms, of a size that the file lacks, behind a GEMM of 0.5 ms."""
    activities, calls, ranges, number = [], [], [], 0
    for step in range(5):
        start = step * 5_526_000
        ranges.append(RangeRow(start, start + 5_500_000, f"ProfilerStep#{step}"))
        at = start + 1_000
        layer = [(f"elementwise_{name}", 4_000) for name in "abcd"] * 25
        work = [("gemm", 500_000, 7), ("ncclDevKernel_AllReduce", 5_000_000, 20), *((n, d, 7) for n, d in layer)]
        end = {7: start + 7_000, 20: start + 507_000}
        for name, duration, stream in work:
            number += 1
            calls.append(CallRow(at, at + 5_000, correlation=number))
            activities.append(ActivityRow(end[stream], end[stream] + duration, name, stream=stream, correlation=number))
            end[stream] += duration
            at += 5_000
    analysis = analyse(build(activities, calls, ranges))
    assert (analysis.steps.wall_ns, analysis.steps.busy_ns) == (5_526_000, 5_500_000)
    rows = {row.remedy: row for row in analysis.whatif}
    assert "fusion" not in rows
    for row in rows.values():
        assert row.floor_ns == 5_506_000  # the work itself, and the way of one launch
        assert row.step_ns_low >= row.floor_ns


def test_compiling_what_runs_beside_communication_that_may_wait_is_no_row() -> None:
    """As above, with a collective of 50 MB: at best nearly all is waiting, which compiling doesn't end."""
    activities, calls, ranges, number = [], [], [], 0
    for step in range(5):
        start = step * 5_526_000
        ranges.append(RangeRow(start, start + 5_500_000, f"ProfilerStep#{step}"))
        layer = [(f"elementwise_{name}", 4_000) for name in "abcd"] * 25
        work = [("gemm", 500_000, 7), ("ncclDevKernel_AllReduce", 5_000_000, 20), *((n, d, 7) for n, d in layer)]
        at, end = start + 1_000, {7: start + 7_000, 20: start + 507_000}
        for name, duration, stream in work:
            number += 1
            calls.append(CallRow(at, at + 5_000, correlation=number))
            size = 50_000_000 if stream == 20 else None
            activities.append(
                ActivityRow(end[stream], end[stream] + duration, name, stream=stream, correlation=number, bytes=size)
            )
            end[stream] += duration
            at += 5_000
    analysis = analyse(build(activities, calls, ranges))
    assert "compile" not in {row.remedy for row in analysis.whatif}
    assert "most of that may be waiting for other ranks" in analysis.advice


def test_low_confidence_is_said_with_the_range() -> None:
    uneven = [(f"k{i}", 3_000) for i in range(26)]
    analysis = analyse(build(*engines.host_bound([uneven] * 12).all))
    assert analysis.whatif
    assert all("the step itself is a guess" in row.assumptions for row in analysis.whatif)
    assert not re.search(r"(would|could) leave \d", analysis.advice)


COSTS = st.builds(
    lambda busy, gap, kernels, share, outside, fused, length, kept: StepCosts(
        wall_ns=busy + gap,
        busy_ns=busy,
        kernels=kernels,
        allocation_ns=int(gap * share),
        outside_ns=int(gap * outside),
        fusable=int(kernels * fused / 2),
        fusable_ns=int(min(busy * 0.2, kernels * fused / 2 * length)),
        fusable_gap_ns=int(gap * fused / 2),
        kept_ns=int(gap * kept / 2),
        launch_ns=int(gap * kept / 100),
    ),
    st.integers(1_000, 10**8),
    st.integers(0, 10**8),
    st.integers(1, 5_000),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(500, 5_000),
    st.floats(0, 1),
)


@given(COSTS, st.floats(0, 1))
def test_no_remedy_slows_a_step_or_saves_what_is_not_there(costs: StepCosts, share: float) -> None:
    base = costs.busy_ns + int(costs.gap_ns * share)
    rows = {row.remedy: row for row in what_if(costs, base)}
    for row in rows.values():
        assert 0 < row.step_ns_low <= row.step_ns_high <= base
        assert 1 <= row.speedup_low <= row.speedup_high
        assert row.floor_ns is not None
        assert row.floor_ns <= row.step_ns_low
    if "buffers" in rows:  # a pool takes nothing but gaps
        assert rows["buffers"].step_ns_low >= costs.busy_ns
    if "graph+fusion" in rows:  # not more than the two apart
        low = rows["graph"].step_ns_low
        assert rows["graph+fusion"].step_ns_low <= low
        assert low - rows["graph+fusion"].step_ns_low <= fusion_saving_in_graph(costs)[1]


def test_a_card_for_servers_keeps_the_kernels_of_a_graph_closer() -> None:
    timeline = build(*engines.published_engine().all)
    ends = []
    for name in ("NVIDIA H200", "NVIDIA GeForce RTX 5070 Ti"):
        analysis = analyse(structs.replace(timeline, cards=(Card(0, name),)))
        row = next(row for row in analysis.whatif if row.remedy == "graph")
        ends.append((row.step_ns_low, row.step_ns_high, row.assumptions[0]))
    assert ends[0][1] < ends[1][1]
    assert ends[0][2] == "0.21 to 0.43 µs stay between two kernels"


def test_what_the_host_works_on_can_not_be_copied_a_step_earlier() -> None:
    """Logits are copied to the host, 3 ms of pageable memory, and the next token is chosen there for 5 ms."""
    activities, calls, now, number = [], [], 1_000_000, 0
    for _ in range(10):
        end = now
        for i in range(12):
            number += 1
            calls.append(CallRow(now, now + 4_000, correlation=number))
            begin = max(now + 5_000, end + 1_000)
            end = begin + 100_000
            activities.append(ActivityRow(begin, end, f"gemm_{i}", correlation=number))
            now += 6_000
        number += 1
        copied = (end + 1_000, end + 3_001_000)
        name = "Memcpy DtoH (Device -> Pageable)"
        activities.append(ActivityRow(*copied, name, "memcpy", correlation=number, bytes=38_000_000))
        calls.append(CallRow(now, copied[1] + 1_000, "cudaMemcpyAsync", number))
        now = copied[1] + 1_000 + 5_000_000
    rows = {row.remedy: row for row in analyse(build(activities, calls)).whatif}
    pinned_ns = 38_000_000 / 55.5
    assert rows["overlap"].step_ns_low >= 0.95 * (1_200_000 + pinned_ns + 5_000_000)
