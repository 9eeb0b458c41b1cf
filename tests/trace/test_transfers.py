"""What one rank's trace promises where its collectives hold waiting for another rank.

Two ranks are simulated: a collective ends when both have come to it and its transfer is done. A remedy is applied on
both, so what it leaves is simulated, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace as changed

import numpy as np
import pytest

from laptime.trace.analysis import analyse, views
from laptime.trace.result import TraceAnalysis
from laptime.trace.transfers import transfers_ns
from tests.trace.build_timeline import build
from tests.trace.rank_programs import LAYERS, NAME, STEPS, TRANSFER_NS, Rank, as_graphs, launched, simulated
from tests.trace.write_traces import ActivityRow


def traced(
    rows: list[ActivityRow], rank: Rank, tpot_ms: float | None = None, beside: Sequence[ActivityRow] = ()
) -> TraceAnalysis:
    """The answer for one rank's trace, with what other GPUs in it did."""
    return analyse(build([*rows, *beside], *launched(rows, rank)), tpot_ms=tpot_ms)


def promise(analysis: TraceAnalysis) -> tuple[int, int]:
    row = next(row for row in analysis.whatif if row.remedy == "graph")
    assert row.floor_ns is not None
    assert row.floor_ns <= row.step_ns_low
    return row.step_ns_low, row.step_ns_high


@pytest.mark.parametrize("size", [16_384, None], ids=["sizes", "no sizes"])
def test_waiting_for_the_others_launches_goes_with_them(size: int | None) -> None:
    """The other rank's host is now slower and now as fast: this rank's collectives hold its launching."""
    ranks = (Rank(), Rank(slower=(1_000, 1_000, 1_000, 0)))
    rows = simulated(ranks, size)
    communicating = sum(row.end_ns - row.start_ns for row in rows[0] if row.name == NAME)
    assert communicating > 2 * STEPS * LAYERS * TRANSFER_NS, "this rank waits"
    analysis = traced(rows[0], ranks[0])
    assert not analysis.steps.unexplained
    low, high = promise(analysis)
    assert low <= as_graphs(ranks) <= high < 1.5 * low


def test_the_rank_that_others_wait_for_is_promised_the_same() -> None:
    ranks = (Rank(), Rank(host_ns=12_000))
    low, high = promise(traced(simulated(ranks)[1], ranks[1]))
    assert low <= as_graphs(ranks) <= high < 1.5 * low


@pytest.mark.parametrize("size", [16_384, None], ids=["sizes", "no sizes"])
def test_a_rank_that_waits_each_time_is_promised_nothing_by_its_own_trace(size: int | None) -> None:
    """The other host is slower before every launch: waiting looks like transfers over a slow link."""
    ranks = (Rank(), Rank(slower=(20_000,)))
    rows = simulated(ranks, size)
    analysis = traced(rows[0], ranks[0])
    assert not [row for row in analysis.whatif if row.remedy != "untraced"]
    assert "may be waiting for other ranks, so what remedies would leave" in analysis.advice
    assert "laptime trace FOLDER" in analysis.advice
    assert "maybe-waiting" in {finding.code for finding in analysis.integrity.findings}
    both = traced(rows[0], ranks[0], beside=[changed(row, device=1, correlation=None) for row in rows[1]])
    said = [both.advice, *(finding.message for finding in both.integrity.findings if finding.code == "maybe-waiting")]
    assert ["laptime trace FILE --ranks" in text for text in said] == [True, True]
    assert not any("FOLDER" in text for text in said)
    own = traced(rows[1], ranks[1])
    low, high = promise(own)
    assert low <= as_graphs(ranks) <= high < 1.5 * low
    assert "CUDA graph of all of it on every rank" in own.advice
    assert "maybe-waiting" not in {finding.code for finding in own.integrity.findings}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_a_rank_that_waits_may_be_given_any_shorter_time(share: float) -> None:
    """What its GPU was busy with was waiting: no time contradicts it, and nothing is promised above the given one."""
    rows = simulated((Rank(), Rank(slower=(20_000, 20_000, 20_000, 0))))
    steps = traced(rows[0], Rank()).steps
    assert steps.busy_ns is not None
    given = share * steps.busy_ns / 1e6
    analysis = traced(rows[0], Rank(), tpot_ms=given)
    assert all(row.step_ns_high <= given * 1e6 + 1 for row in analysis.whatif)


def test_waiting_for_what_the_other_host_does_but_launch_is_not_promised_away() -> None:
    """The other host works for 1.5 ms before most steps: a graph leaves that, which this rank's trace can't show."""
    ranks = (Rank(30_000), Rank(30_000, away_ns=(1_500_000, 1_500_000, 1_500_000, 0)))
    rows = simulated(ranks)
    analysis = traced(rows[0], ranks[0])
    assert analysis.steps.maybe_waiting_ns is not None
    assert analysis.steps.maybe_waiting_ns > 1_500_000
    assert all(row.step_ns_high >= as_graphs(ranks) for row in analysis.whatif if row.remedy == "graph")
    low, high = promise(traced(rows[1], ranks[1]))
    assert low <= as_graphs(ranks) <= high


def test_a_copy_between_gpus_waits_for_no_rank() -> None:
    rows = [
        ActivityRow(
            i * 100_000, i * 100_000 + 50_000 + 10_000 * (i % 3), "Memcpy PtoP (Device -> Device)", kind="memcpy"
        )
        for i in range(30)
    ]
    timeline = build(rows)
    (view,) = views(timeline)
    best, worst = transfers_ns(timeline, view.gaps, view.frame, view.gaps.rows)
    taken = (timeline.activities.end_ns - timeline.activities.start_ns)[view.gaps.rows]
    assert np.array_equal(best, taken)
    assert np.array_equal(worst, taken)


def test_waiting_for_the_others_kernels_stays() -> None:
    """The other rank computes more, and no host holds any of them up."""
    ranks = (Rank(1_000, 20_000), Rank(1_000, 26_000))
    low, high = promise(traced(simulated(ranks)[0], ranks[0]))
    assert low <= as_graphs(ranks) <= high


def test_an_untraced_time_below_the_waiting_is_taken() -> None:
    """Without the profiler the other rank's host is faster: the step is shorter than the collectives were traced."""
    rows = simulated((Rank(), Rank(slower=(1_000, 1_000, 1_000, 0))))
    steps = traced(rows[0], Rank()).steps
    assert steps.busy_ns is not None
    low, high = promise(traced(rows[0], Rank(), tpot_ms=0.8 * steps.busy_ns / 1e6))
    assert low <= as_graphs((Rank(), Rank())) <= high


def test_the_shortest_of_a_kind_is_its_transfer_but_no_damaged_one() -> None:
    rows = [
        changed(row, end_ns=row.start_ns + (1 if i == 6 else row.end_ns - row.start_ns))
        for i, row in enumerate(simulated((Rank(), Rank(host_ns=12_000)))[1])
    ]
    timeline = build(rows)
    (view,) = views(timeline)
    best, worst = transfers_ns(timeline, view.gaps, view.frame, view.gaps.rows)
    collective = np.array([timeline.strings[i] == NAME for i in timeline.activities.name[view.gaps.rows]])
    assert set(best[collective].tolist()) == {1, TRANSFER_NS}
    assert set(worst[collective].tolist()) == {1, TRANSFER_NS}
    taken = (timeline.activities.end_ns - timeline.activities.start_ns)[view.gaps.rows]
    assert np.array_equal(best[~collective], taken[~collective])
