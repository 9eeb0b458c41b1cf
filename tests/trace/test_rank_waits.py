"""A rank is called the one that others wait for only where that costs them something."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from laptime.report.results import report
from laptime.trace.device_time import covered_ns
from laptime.trace.ranks import read_ranks
from laptime.trace.ranks_result import RankAnalysis
from tests.trace.test_rank_pairs import GEMM, NCCL, kernel

STEPS = 12


def write(folder: Path, *steps_of_rank: list[tuple[float, float, float, float]]) -> RankAnalysis:
    """Ranks of one run. Each step, in µs: compute from, compute until, collective from, collective until."""
    folder.mkdir()
    for rank, steps in enumerate(steps_of_rank):
        events = []
        for compute, computed, start, end in steps:
            events.append(kernel(GEMM, compute, computed, 7))
            events.append(kernel(NCCL, start, end, 20))
        content = {"distributedInfo": {"backend": "nccl", "rank": rank}, "traceEvents": events}
        (folder / f"rank{rank}.json").write_text(json.dumps(content))
    return read_ranks(folder)


def shown(analysis: RankAnalysis) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(report(analysis))
    return console.file.getvalue().replace("\xa0", " ")  # type: ignore[attr-defined]


def sequential(*compute_us: float, sending: float = 20, step_us: float = 5_000) -> list[list[tuple[float, ...]]]:
    """Of each rank: each step computes, then a collective ends on all ranks `sending` µs after the last one came."""
    begins = [step_us * step for step in range(1, STEPS + 1)]
    return [[(at, at + us, at + us, at + max(compute_us) + sending) for at in begins] for us in compute_us]


def test_collectives_that_take_long_are_not_waiting(tmp_path: Path) -> None:
    """Rank 0 comes last to every collective, by 8 µs of 1,500: that is no reason to look at rank 0."""
    analysis = write(tmp_path / "large", *sequential(1_008, 1_000, sending=1_500, step_us=2_600))
    assert [rank.last_in for rank in analysis.ranks] == [STEPS, 0]
    assert analysis.ranks[1].waited_ns == analysis.ranks[1].exposed_waited_ns == STEPS * 8_000
    assert analysis.straggler is None
    assert analysis.headline.endswith("At most 0.096 ms of it is waiting for other ranks (rank 1)")
    late = write(tmp_path / "late", *sequential(1_400, 1_000, sending=1_500, step_us=3_000))
    assert late.straggler == 0
    assert f"Most waiting is for rank 0, which comes last to {STEPS} of {STEPS} collectives" in late.headline


def test_waiting_beside_compute_is_no_straggler(tmp_path: Path) -> None:
    """Rank 1 starts each collective 400 µs early and computes on: the wait costs it nothing but the first 3 µs."""
    ranks = [[], []]
    for step in range(STEPS):
        at = 1_000.0 + 2_000 * step
        ranks[0].append((at + 400, at + 1_800, at + 400, at + 1_000))
        ranks[1].append((at + 3, at + 1_700, at, at + 1_000))
    analysis = write(tmp_path / "hidden", *ranks)
    waits = analysis.ranks[1]
    assert (waits.waited_ns, waits.exposed_waited_ns) == (STEPS * 400_000, STEPS * 3_000)
    assert [(row.rank, row.exposed_ns) for row in waits.waited_for or []] == [(0, STEPS * 3_000)]
    assert waits.exposed_waited_ns == waits.exposed_communication_ns
    assert analysis.straggler is None
    assert analysis.headline.endswith("Rank 1 waits 4.8 ms for others; compute runs beside 4.76 ms of that")
    assert "Of what rank 1 waited, 4.76 ms had compute beside it; exposed time lacks that." in shown(analysis)
    three = write(tmp_path / "three", ranks[0], ranks[1], ranks[1])
    assert "Of what ranks 1 and 2 waited, up to 4.76 ms each had compute beside it" in shown(three)
    exposed = write(tmp_path / "exposed", ranks[0], [(start + 400, to, start, end) for _, to, start, end in ranks[1]])
    assert exposed.straggler == 0, "the same collectives with the compute after the wait"


def test_waiting_in_the_first_collective_is_said(tmp_path: Path) -> None:
    """The capture of rank 0 begins 30 ms before it comes to the first collective; to the others it is 0.4 ms late."""
    ranks = sequential(1_400, 1_000, sending=500)
    begins, computed, _, _ = ranks[0][0]
    ranks[0][0] = (begins, computed + 30_000, computed + 30_000, computed + 30_500)
    ranks[1][0] = (*ranks[1][0][:3], computed + 30_500)
    moved = [[rank[0], *[tuple(at + 31_000 for at in step) for step in rank[1:]]] for rank in ranks]
    analysis = write(tmp_path / "first", *moved)
    assert analysis.straggler == 0
    assert analysis.headline.endswith("; the ranks wait 34.8 ms for it together, 30.4 ms of that in the first one")
    assert "first one" not in write(tmp_path / "even", *sequential(1_400, 1_000, sending=500)).headline


def test_ranks_that_begin_apart_hold_nobody_up(tmp_path: Path) -> None:
    """Rank 0 comes 1,300 ms late to the first collective, and in time to all others."""
    ranks = sequential(1_008, 1_000, sending=500)
    for rank in ranks:
        rank[1:] = [tuple(at + 1_300_000 for at in step) for step in rank[1:]]
    begins, computed, _, end = ranks[0][0]
    ranks[0][0] = (begins, computed, computed + 1_300_000, end + 1_300_000)
    ranks[1][0] = (*ranks[1][0][:3], end + 1_300_000)
    analysis = write(tmp_path / "apart", *ranks)
    assert analysis.straggler is None
    assert analysis.ranks[1].waited_ns == 1_300_008_000 + 11 * 8_000
    said = (
        "Rank 1 waits 1300 ms for rank 0 in the first collective, as it does where captures begin apart; in later ones"
    )
    assert analysis.headline.endswith(f"{said} no rank waits for more than 0.088 ms")


def test_the_largest_part_is_not_called_most(tmp_path: Path) -> None:
    """Ranks 0, 1 and 2 come last in turn, rank 0 twice as often."""
    turns = [
        (2_000 if step % 4 in (0, 1) else 0, 2_000 * (step % 4 == 2), 2_000 * (step % 4 == 3), 0) for step in range(16)
    ]
    ranks: list[list[tuple[float, ...]]] = [[] for _ in range(4)]
    for step, late in enumerate(turns):
        at, end = 10_000.0 * step, 10_000.0 * step + 5_000
        for rank, own in enumerate(late):
            ranks[rank].append((at, at + 2_000 + own, at + 2_000 + own, end))
    analysis = write(tmp_path / "turns", *ranks)
    assert analysis.straggler == 0
    assert "The largest part of the waiting (50 %) is for rank 0, which comes last to 8 of 16" in analysis.headline


def test_clocks_that_are_worse_than_the_waits_name_nobody(tmp_path: Path) -> None:
    """Ends of a collective lie 10 µs apart on the aligned clocks: 4 µs of waiting in each are not known to be any."""
    ranks = sequential(24, 20, sending=20, step_us=46)
    moved = [[at + (10, -10)[step % 2] for at in times] for step, times in enumerate(ranks[1])]
    analysis = write(tmp_path / "coarse", ranks[0], moved)
    assert (analysis.clocks.aligned, analysis.clocks.spread_ns) == (True, 10_000)
    assert analysis.straggler is None
    assert analysis.headline.endswith("isn't certain: waits are as short as the clocks' spread of 10 µs")
    sharp = write(tmp_path / "sharp", *ranks)
    assert sharp.straggler == 0


intervals = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), max_size=9)


@settings(max_examples=150)
@given(union=intervals, asked=intervals)
def test_covered_time_is_that_of_every_instant(union: list[tuple[int, int]], asked: list[tuple[int, int]]) -> None:
    inside = {at for start, length in union for at in range(start, start + length)}
    edges = [at for at in range(80) if (at in inside) != (at - 1 in inside)]
    start, end = (np.array(edges[i::2], dtype=np.int64) for i in range(2))
    begins = np.array([a for a, _ in asked], dtype=np.int64)
    ends = np.array([a + n for a, n in asked], dtype=np.int64)
    expected = [sum(at in inside for at in range(a, a + n)) for a, n in asked]
    assert covered_ns(start, end, begins, ends).tolist() == expected
