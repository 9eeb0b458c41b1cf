"""The promise of each remedy, without having seen it: from the baseline's trace, and from bytes and bandwidth.

Three remedies are the what-if rows of the trace (laptime.trace.whatif). A trace says nothing of a compiled step without
graphs and of FastDecoder's kernels: their ranges are computed here, and each names its assumptions.
"""

from __future__ import annotations

from itertools import groupby

from laptime.remedy.result import Promise
from laptime.trace.result import TraceAnalysis
from laptime.trace.step_changes import FUSABLE

PER_KERNEL_US = (1.5, 5.0)
"""What a kernel of FastDecoder costs in a graph beyond its bytes' time: filling and draining the GPU. Measured on an
H200 by leaving out each kind of kernel in turn: from 1.3 µs (the widest) to 7 µs (attention)."""
ROWS_BANDWIDTH = (1.0, 0.8)
"""The share of copy bandwidth, high and low, at which a step of several rows reads its bytes. Its kernels' cost comes
on top. Fitted on an H100 to three models at 8 and 32 rows, 128 to 8,192 positions: all 18 steps lie inside, at least
7 % from both ends (`benchmarks/remedy.py lengths-MODEL`)."""
COMPILED_LAUNCH = (0.35, 1.0)
"""What a launch from compiled code costs, in multiples of the eager step's mean gap between kernels."""
COMPILED_LOOP_MS = (0.5, 4.0)
"""What generate() itself takes between two compiled steps."""
TRITON_LAUNCH = (1.0, 4.0)
"""What a launch of FastDecoder's kernels without a graph costs, in multiples of the same gap."""
GROWING = "CatArray"
"""The name of torch.cat's kernels begins so. With them a dynamic cache copies itself for every new token."""
ALLOCATOR_NOISE = (0.93, 1.05)
"""What a preallocated cache can reach, as shares of the step, when no gap of the step is spent in allocation."""


def promises(
    analysis: TraceAnalysis, base_ms: float, *, floor_ms: float | None, our_kernels: int | None, batch: int = 1
) -> dict[str, Promise]:
    """Promises by the remedy's name. A remedy that nothing is known about has none.

    analysis: of the baseline's trace, read with its untraced time per token. base_ms: that time.
    floor_ms: the bytes of a step over the copy bandwidth. our_kernels: launches of FastDecoder's step.
    """
    ranges: dict[str, Promise] = {}
    growing = growing_ms(analysis)
    by_name = {row.remedy: row for row in analysis.whatif}
    for name, whatif in (("buffers", "buffers"), ("graph", "graph"), ("compiled", "graph+fusion")):
        row = by_name.get(whatif)
        if row is not None:
            assumptions = [*row.assumptions, f"at best also the {growing:.2f} ms go in which the cache is concatenated"]
            low = max(row.step_ns_low / 1e6 - growing, 0.0)
            high = (row.step_ns_high + (row.outside_ns or 0)) / 1e6  # generate() launches what lies outside the layers
            ranges[name] = _promise(low, high, f"trace, {whatif}", assumptions)
    steps = analysis.steps
    if steps.kernels_per_step is None or steps.busy_ns is None:
        return ranges
    if "buffers" not in ranges:
        low, high = (share * base_ms for share in ALLOCATOR_NOISE)
        ranges["buffers"] = _promise(low, high, "trace, buffers", ["no gap of a step is spent in allocation or free"])
    gap_ms = max(base_ms - steps.busy_ns / 1e6, 0.0) / steps.kernels_per_step
    fused = fused_kernels(analysis)
    if fused is not None:
        kernels, busy_ms = fused
        low, high = (
            max(busy_ms - goes, kernels * gap_ms * launch + loop)
            for goes, launch, loop in zip((growing, 0.0), COMPILED_LAUNCH, COMPILED_LOOP_MS, strict=True)
        )
        ranges["fusion"] = _promise(
            low,
            min(high, base_ms),
            "trace, runs of small kernels merged",
            [
                f"{kernels} of {steps.kernels_per_step} kernels stay; a launch by compiled code takes "
                f"{COMPILED_LAUNCH[0]:g} to {COMPILED_LAUNCH[1]:g} of the eager {gap_ms * 1e3:.1f} µs",
                f"generate() itself takes {COMPILED_LOOP_MS[0]:g} to {COMPILED_LOOP_MS[1]:g} ms between steps",
            ],
        )
    if floor_ms is not None and our_kernels is not None:
        low, high = fast_range(floor_ms, our_kernels, batch)
        bytes_note = f"weights and cache at the copy bandwidth take {floor_ms:.2f} ms"
        if batch > 1:
            reached = f"{ROWS_BANDWIDTH[1]:.0%} to {ROWS_BANDWIDTH[0]:.0%}"
            bytes_note += f", products of several rows reach {reached} of it"
        each = f"each of {our_kernels} kernels adds {PER_KERNEL_US[0]:g} to {PER_KERNEL_US[1]:g} µs"
        ranges["fast"] = ranges["whole"] = _promise(low, high, "bytes over bandwidth", [bytes_note, each])
        bound = [our_kernels * gap_ms * launch for launch in TRITON_LAUNCH]
        note = f"{our_kernels} launches at {TRITON_LAUNCH[0]:g} to {TRITON_LAUNCH[1]:g} of the eager gap"
        ranges["kernels"] = _promise(max(bound[0], low), max(bound[1], high), "launches, or bytes", [note, bytes_note])
    return ranges


def fast_range(floor_ms: float, our_kernels: int, batch: int) -> tuple[float, float]:
    """FastDecoder's step in ms, low and high: its bytes at the bandwidth that it reaches, plus its kernels' cost."""
    reached = ROWS_BANDWIDTH if batch > 1 else (1.0, 1.0)
    low, high = (
        floor_ms / share + our_kernels * cost / 1e3 for share, cost in zip(reached, PER_KERNEL_US, strict=True)
    )
    return low, high


def growing_ms(analysis: TraceAnalysis) -> float:
    """Time of the modal step in concatenations, in ms: a dynamic cache makes them, a preallocated one doesn't."""
    picture = analysis.modal_step
    if picture is None or picture.truncated:
        return 0.0
    named = zip(picture.name, picture.duration_ns, strict=True)
    return sum(duration for name, duration in named if picture.names[name].startswith(GROWING)) / 1e6


def fused_kernels(analysis: TraceAnalysis) -> tuple[int, float] | None:
    """Kernels of the modal step if every run of small kernels were merged into one, and their busy time in ms.

    A merged run takes as long as its longest kernel.
    """
    picture = analysis.modal_step
    if picture is None or picture.truncated:
        return None
    kernels, busy_ns = 0, 0
    each = zip((picture.families[name] in FUSABLE for name in picture.name), picture.duration_ns, strict=True)
    for fusable, run in groupby(each, key=lambda pair: pair[0]):
        durations = [duration for _, duration in run]
        kernels += 1 if fusable else len(durations)
        busy_ns += max(durations) if fusable else sum(durations)
    return kernels, busy_ns / 1e6


def _promise(low: float, high: float, source: str, assumptions: list[str]) -> Promise:
    return Promise(low_ms=round(low, 4), high_ms=round(max(high, low), 4), source=source, assumptions=list(assumptions))
