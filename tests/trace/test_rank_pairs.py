"""Ranks in process groups (tensor, data and pipeline parallel) are paired within their groups."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from laptime.trace.ranks import read_ranks
from laptime.trace.ranks_result import RankAnalysis

GEMM, NCCL = "ampere_sgemm_128x64_tn", "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)"
SEND = "ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)"
CLOCKS_US = (0, 7_000_000, -55, 1_234)
STEPS = 5


def kernel(name: str, at: float, until: float, stream: int, **args: object) -> dict[str, object]:
    own = {"device": 0, "stream": stream, **args}
    return {"ph": "X", "cat": "kernel", "name": name, "pid": 0, "tid": 7, "ts": at, "dur": until - at, "args": own}


def collective(name: str, at: float, until: float, group: str, ranks: list[int], operation: str) -> dict[str, object]:
    described = {"Process Group Name": group, "Process Group Ranks": str(ranks), "Collective name": operation}
    return kernel(name, at, until, 20, **described)


def write_grid(folder: Path, *, slow: int, calls: tuple[int, ...] = (2, 2, 2, 2), named: bool = True) -> RankAnalysis:
    """Four ranks, tensor parallel in pairs and data parallel across them; `slow` computes for longer.

    calls: tensor-parallel collectives that each rank runs in a step. Each pair ends together, then all ends together.
    """
    folder.mkdir()
    for rank in range(4):
        pair, across = [rank // 2 * 2, rank // 2 * 2 + 1], [rank % 2, rank % 2 + 2]
        events = []
        for step in range(STEPS):
            at = 1_000.0 + step * 2_000 + CLOCKS_US[rank]
            for _ in range(calls[rank]):
                long = 150 if rank == slow else 50
                longest = 150 if slow in pair else 50
                events.append(kernel(GEMM, at, at + long, 7))
                events.append(collective(NCCL, at + long, at + longest + 20, f"tp{pair[0]}", pair, "allreduce"))
                at += longest + 20
            start = 1_000.0 + step * 2_000 + CLOCKS_US[rank]
            if pair == [0, 1]:  # a pipeline's sending, which ends when it likes
                events.append(collective(SEND, at, at + 5 + 3 * rank + step, "pp", [0, 1, 2, 3], "send"))
            events.append(collective(NCCL, at + 20, start + 900, f"dp{across[0]}", across, "allreduce"))
        if not named:
            for event in events:
                event["args"] = {"device": 0, "stream": event["args"]["stream"]}  # type: ignore[index]
        content = {"distributedInfo": {"backend": "nccl", "rank": rank}, "traceEvents": events}
        (folder / f"rank{rank}.json").write_text(json.dumps(content))
    return read_ranks(folder)


@pytest.mark.parametrize("slow", [0, 3])
def test_each_group_waits_for_its_own(tmp_path: Path, slow: int) -> None:
    analysis = write_grid(tmp_path / "grid", slow=slow)
    assert analysis.clocks.aligned, analysis.clocks.why
    assert analysis.clocks.offsets_ns == [us * 1_000 for us in CLOCKS_US]
    beside, across = slow ^ 1, slow ^ 2
    waited = {rank.rank: {row.rank: row.total_ns for row in rank.waited_for or []} for rank in analysis.ranks}
    assert waited[beside][slow] == STEPS * 2 * 100_000, "in the tensor-parallel group"
    assert waited[across][slow] == STEPS * 200_000, "in the data-parallel group"
    assert slow not in waited[slow]
    assert analysis.straggler == slow
    assert [rank.paired for rank in analysis.ranks] == [STEPS * 3] * 4
    assert f"Most waiting is for rank {slow}, which comes last to" in analysis.headline
    assert f"of {STEPS * 3} collectives" in analysis.headline


def test_ranks_of_unlike_work_are_paired_by_their_groups_alone(tmp_path: Path) -> None:
    """The first pair runs two tensor-parallel collectives a step, the second pair three: no common sequence."""
    analysis = write_grid(tmp_path / "grid", slow=3, calls=(2, 2, 3, 3))
    assert analysis.clocks.aligned, analysis.clocks.why
    assert [rank.paired for rank in analysis.ranks] == [STEPS * n for n in (3, 3, 4, 4)]
    without = write_grid(tmp_path / "unnamed", slow=3, calls=(2, 2, 3, 3), named=False)
    assert not without.clocks.aligned
    assert "did not run the same collectives" in without.clocks.why


def apart(folder: Path, cuts: list[slice], *, regular: bool = False, grouped: bool = False) -> RankAnalysis:
    """Ranks of one run whose captures hold different parts of its 40 collectives; rank 1 computes for longest."""
    folder.mkdir()
    turn = random.Random(7)
    waits = [30 if regular else turn.randint(10, 90) for _ in range(40)]
    for rank, cut in enumerate(cuts):
        events, at = [], 1_000.0 + CLOCKS_US[rank]
        for wait in waits:
            own = 150 if rank == 1 else 100
            events.append(kernel(GEMM, at, at + own, 7))
            told = {"group": "tp", "ranks": list(range(len(cuts))), "operation": "allreduce"}
            events.append(collective(NCCL, at + own, at + 170, **told))  # type: ignore[arg-type]
            at += 170 + wait
        events = [event for i in range(40)[cut] for event in events[2 * i : 2 * i + 2]]
        if not grouped:
            for event in events:
                event["args"] = {"device": 0, "stream": event["args"]["stream"]}  # type: ignore[index]
        content = {"distributedInfo": {"backend": "nccl", "rank": rank}, "traceEvents": events}
        (folder / f"rank{rank}.json").write_text(json.dumps(content))
    return read_ranks(folder)


@pytest.mark.parametrize("grouped", [False, True])
def test_captures_that_begin_and_end_apart_are_paired_where_they_overlap(tmp_path: Path, grouped: bool) -> None:
    analysis = apart(tmp_path / "cut", [slice(2, 38), slice(0, 36), slice(5, 40)], grouped=grouped)
    assert analysis.clocks.aligned, analysis.clocks.why
    assert analysis.clocks.offsets_ns == [us * 1_000 for us in CLOCKS_US[:3]]
    assert [rank.paired for rank in analysis.ranks] == [31, 31, 31]
    assert [rank.waited_ns for rank in analysis.ranks] == [31 * 50_000, 0, 31 * 50_000]
    assert analysis.straggler == 1


def test_captures_that_fit_together_in_more_than_one_way_are_not(tmp_path: Path) -> None:
    """All collectives alike and evenly apart: which of them are one can't be known."""
    assert apart(tmp_path / "as many", [slice(2, 38), slice(0, 36)]).ranks[0].paired == 34, "told by their ends"
    analysis = apart(tmp_path / "uneven", [slice(2, 38), slice(0, 35)], regular=True)
    assert not analysis.clocks.aligned
    assert analysis.straggler is None


def test_groups_that_share_no_collective_are_not_aligned(tmp_path: Path) -> None:
    folder = tmp_path / "apart"
    folder.mkdir()
    for rank in range(4):
        pair = [rank // 2 * 2, rank // 2 * 2 + 1]
        events = [
            collective(NCCL, 1_000.0 * i, 1_000.0 * i + 100, f"tp{pair[0]}", pair, f"op{pair[0]}") for i in range(9)
        ]
        content = {"distributedInfo": {"backend": "nccl", "rank": rank}, "traceEvents": events}
        (folder / f"rank{rank}.json").write_text(json.dumps(content))
    analysis = read_ranks(folder)
    assert not analysis.clocks.aligned
    assert "no collective connects all ranks" in analysis.headline


@pytest.mark.parametrize("named", [True, False])
def test_broadcasts_end_apart_and_say_nothing_of_clocks(tmp_path: Path, named: bool) -> None:
    """Rank 0 sends and is done; rank 1, which begins 400 µs later, receives. More broadcasts than anything else."""
    chance, broadcast = random.Random(5), NCCL.replace("AllReduce_Sum_f32", "Broadcast")
    for rank in range(2):
        events, at, clock = [], 1_000.0, CLOCKS_US[rank]
        for step in range(24):
            late = 400 * rank
            ends = at + late + 20 + chance.randrange(600)
            events.append(collective(broadcast, clock + at + late, clock + ends, "dp", [0, 1], "broadcast"))
            if step % 3 == 0:
                began = clock + at + 1_100 + (300 if rank == 1 else 0)
                events.append(collective(NCCL, began, clock + at + 1_500, "dp", [0, 1], "allreduce"))
            at += 2_000
        if not named:
            for event in events:
                event["args"] = {"device": 0, "stream": 20}
        content = {"distributedInfo": {"backend": "nccl", "rank": rank}, "traceEvents": events}
        (tmp_path / f"rank{rank}.json").write_text(json.dumps(content))
    found = read_ranks(tmp_path)
    assert found.clocks.aligned
    assert found.clocks.offsets_ns == [0, CLOCKS_US[1] * 1_000]
    assert found.ranks[0].waited_ns > 8 * 300_000
    assert found.ranks[1].waited_ns < 100_000
