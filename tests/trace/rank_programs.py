"""Ranks that run a program together, simulated: a collective ends when all have come to it and its transfer is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.trace.write_traces import ActivityRow, CallRow, RangeRow

NAME = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL"
TRANSFER_NS, LAUNCH_NS, GAP_NS = 8_000, 5_000, 1_000
LAYERS, STEPS, KERNELS = 30, 8, 6


@dataclass(frozen=True)
class Rank:
    """How long its host takes before each launch, and each of its kernels."""

    host_ns: int = 9_000
    kernel_ns: int = 4_000
    slower: tuple[int, ...] = (0,)  # its host, step by step
    away_ns: tuple[int, ...] = (0,)  # what its host does before each step but launch


def simulated(ranks: Sequence[Rank], size: int | None = 16_384) -> list[list[ActivityRow]]:
    """All ranks' kernels, launched by the host one by one; all hosts wait for the device at each step's end."""
    rows: list[list[ActivityRow]] = [[] for _ in ranks]
    host, tail, number = [0] * len(ranks), [0] * len(ranks), 0
    for step in range(STEPS):
        host = [own + rank.away_ns[step % len(rank.away_ns)] for own, rank in zip(host, ranks, strict=True)]
        for at in range(LAYERS * (KERNELS + 1)):
            number += 1
            for i, rank in enumerate(ranks):
                host[i] += rank.host_ns + rank.slower[step % len(rank.slower)]
            came = [max(host[i] + LAUNCH_NS, tail[i] + GAP_NS) for i in range(len(ranks))]
            collective = at % (KERNELS + 1) == KERNELS
            for i, rank in enumerate(ranks):
                tail[i] = max(came) + TRANSFER_NS if collective else came[i] + rank.kernel_ns
                name = NAME if collective else "gemm"
                rows[i].append(
                    ActivityRow(came[i], tail[i], name, correlation=number, bytes=size if collective else None)
                )
        host = [max(own, ended) + 2_000 for own, ended in zip(host, tail, strict=True)]
    return rows


def launched(rows: list[ActivityRow], rank: Rank) -> tuple[list[CallRow], list[RangeRow]]:
    """A rank's calls and the ranges of its steps."""
    a_step = LAYERS * (KERNELS + 1)
    calls, ranges, host = [], [], 0
    for step in range(STEPS):
        began = host
        host += rank.away_ns[step % len(rank.away_ns)]
        for row in rows[step * a_step : (step + 1) * a_step]:
            host += rank.host_ns + rank.slower[step % len(rank.slower)]
            calls.append(CallRow(host, host + LAUNCH_NS, correlation=row.correlation or 0))
        ended = max(host + LAUNCH_NS, rows[(step + 1) * a_step - 1].end_ns)
        calls.append(CallRow(host + LAUNCH_NS, ended + 2_000, "cudaStreamSynchronize"))
        host = max(host, ended) + 2_000
        ranges.append(RangeRow(began, host, f"ProfilerStep#{step}"))
    return calls, ranges


def as_graphs(ranks: Sequence[Rank]) -> int:
    """A step's time when all ranks launch a graph behind a wait of their hosts."""
    slowest = max(rank.kernel_ns for rank in ranks)
    away = max(max(rank.away_ns) for rank in ranks)
    return away + LAYERS * (KERNELS * (slowest + 500) + TRANSFER_NS + 500) + 20_000
