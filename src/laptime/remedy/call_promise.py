"""What FastModel promises for vision and prefill: from a trace of the eager pass, else from floors and kernels alone.

Nothing that was measured of FastModel itself enters. The constants come from four models on an H200; for other models
and cards the ranges are predictions (benchmarks/fast_promises.py holds them against others).
"""

from __future__ import annotations

from laptime.decoder.plan import DecodePlan
from laptime.remedy.call_floor import PartFloor
from laptime.remedy.result import Promise
from laptime.trace.result import TracedPass
from laptime.trace.step_totals import RESIDUAL_NS

DENSE = (1.1, 1.55)
"""A dense prefill or a tower takes this many times its floor: its products are smaller than the one that gave the
rate. Fitted on Qwen3-4B (512 tokens) and molmoe-1b's tower (1, 6 and 12 crops)."""
PACKED = (1.5, 2.4)
"""The same of a tower that packs images of any size into one row: it attends in windows, and turns queries and keys.
Fitted on qwen2.5-vl-3b's tower (2,304 and 4,800 patches)."""
ROUTED = (0.75, 1.4)
"""A prefill with routed experts takes this many times the sum of its operations' and its bytes' time. Fitted on
molmoe-1b (322, 1,042 and 1,906 tokens) and 12 blocks of Qwen3-30B-A3B's shape (512 and 1,500 tokens)."""
PER_KERNEL_US = (1.5, 5.0)
"""What each kernel adds: filling and draining the GPU."""
DENSE_KERNELS, ROUTED_KERNELS, TOWER_KERNELS = 9, 12, 13
"""Kernels of a block: of the prefill, dense and routed, and of a tower whose blocks are compiled."""
AROUND_MS = (0.2, 3.0)
"""What a call takes on the host before, between and after the replays."""


def prefill_promise(plan: DecodePlan, floor: PartFloor, rate: float | None, bandwidth: float | None) -> Promise | None:
    """The range of FastModel's prefill. rate: TFLOP/s, bandwidth: GB/s; None where one isn't known."""
    if floor.ms is None or rate is None or bandwidth is None:
        return None
    routed = len(plan.top_k)
    kernels = ROUTED_KERNELS * routed + DENSE_KERNELS * (len(plan.layers) - routed)
    if routed:
        base, shares = (floor.tflop / rate + floor.gb / bandwidth) * 1e3, ROUTED
        note = f"{shares[0]:g} to {shares[1]:g} times {base:.2f} ms: its operations' time and its bytes' time"
    else:
        base, shares = floor.ms, DENSE
        note = f"{shares[0]:g} to {shares[1]:g} times the floor of {base:.2f} ms"
    return _range(base, shares, kernels, note, least=floor.ms)


def vision_promise(floor: PartFloor, blocks: int, *, packed: bool) -> Promise | None:
    """The range of FastModel's vision: a tower of this many blocks. packed: it takes images of any size in one row."""
    if floor.ms is None:
        return None
    shares = PACKED if packed else DENSE
    note = f"{shares[0]:g} to {shares[1]:g} times the floor of {floor.ms:.2f} ms"
    return _range(floor.ms, shares, TOWER_KERNELS * blocks, note, least=floor.ms)


def traced_promise(one: TracedPass | None, floor: PartFloor, by_work: Promise | None, *, same: bool) -> Promise | None:
    """The range of a pass from its eager trace; without one that says enough, what its operations and bytes promise.

    A pass whose products and attention FastModel computes by the same kinds of kernels takes at least these, and at
    most all of its kernels with each run of small ones merged. Where FastModel has kernels of its own for them (routed
    experts, packed towers, attention written out), only that end is sure.

    one: the traced pass. by_work: the promise by operations and bytes. same: whether the kinds of kernels stay.
    """
    if (
        one is None
        or one.unsure
        or one.lost_kernels
        or not one.merged_kernels
        or not one.merged_ns
        or not one.products_ns
    ):
        return by_work
    most = (one.merged_ns + one.merged_kernels * RESIDUAL_NS[1]) / 1e6
    merged = f"with runs of small kernels merged {one.merged_kernels} of {one.kernels} stay; they take {most:.2f} ms"
    if same and one.attention_kernels:
        products = f"products and attention of the traced pass take {one.products_ns / 1e6:.2f} ms"
        low = max(one.products_ns / 1e6, floor.ms or 0.0)
        return Promise(
            low_ms=round(low, 4),
            high_ms=round(max(most, low), 4),
            source="trace, small kernels merged",
            assumptions=[products, merged],
        )
    if by_work is None or most >= by_work.high_ms:
        return by_work
    return Promise(
        low_ms=by_work.low_ms,
        high_ms=round(max(most, by_work.low_ms), 4),
        source=f"{by_work.source}; trace, small kernels merged",
        assumptions=[*by_work.assumptions, merged],
    )


def _range(base: float, shares: tuple[float, float], kernels: int, note: str, *, least: float) -> Promise:
    low, high = (
        max(base * share, least) + kernels * cost / 1e3 for share, cost in zip(shares, PER_KERNEL_US, strict=True)
    )
    each = f"each of {kernels} kernels adds {PER_KERNEL_US[0]:g} to {PER_KERNEL_US[1]:g} µs"
    return Promise(
        low_ms=round(low, 4), high_ms=round(high, 4), source="operations and bytes", assumptions=[note, each]
    )
