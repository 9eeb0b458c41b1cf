"""Operators by the shapes of their inputs: device time, operations and bytes, and how near that is to the card's peaks.

The least time of a call is the longer one of operations over the peak rate and bytes over the peak bandwidth (Williams
et al. 2009). A call's time is the sum of its own launches.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.trace.cards import Peaks, peaks_of
from laptime.trace.gaps import DeviceGaps
from laptime.trace.launch_result import CardPeaks, OperatorWork
from laptime.trace.launch_threads import NOWHERE
from laptime.trace.launch_tree import LaunchTree
from laptime.trace.operator_work import Work, operator_work
from laptime.trace.read.timeline import Activity, Card, GpuTimeline, Int64
from laptime.trace.recorded_shapes import shape_text

LISTED = 300
"""Operators with a shape that are listed at most."""

MOSTLY = 0.8
"""A kernel that takes this share of an operator's call is the one that does its work."""


class OperatorCalls(msgspec.Struct, frozen=True, eq=False):
    """Calls of operators with recorded shapes that launched something, one entry each."""

    name: Int64  # index into strings
    shape: Int64  # index into shapes
    own_ns: Int64
    activities: Int64
    longest: npt.NDArray[np.intp]  # row of the device's rows: the activity that took longest
    strings: Sequence[str]
    shapes: Sequence[str]


class KernelWork(msgspec.Struct, frozen=True):
    """What a kernel's launches did together."""

    flop_per_second: float | None
    bytes_per_second: float | None
    of_peak: float | None


def card_of(timeline: GpuTimeline, device: int) -> Card | None:
    """The card that a trace names for a device; the only one, where it names one only."""
    named = [card for card in timeline.cards if card.device == device]
    names = {card.name for card in timeline.cards}
    return named[0] if named else timeline.cards[0] if len(names) == 1 else None


def card_peaks(card: Card | None) -> CardPeaks | None:
    """What is known of a card's peaks."""
    if card is None:
        return None
    peaks = peaks_of(card)
    if peaks is None:
        return CardPeaks(name=card.name, bytes_per_second=None, flop_per_second={})
    rates = {name: getattr(peaks, name) for name in ("fp64", "fp32", "tf32", "fp16", "fp8", "int8")}
    known = {name: rate for name, rate in rates.items() if rate is not None}
    return CardPeaks(name=card.name, bytes_per_second=peaks.bytes_per_second, flop_per_second=known)


def operator_calls(timeline: GpuTimeline, gaps: DeviceGaps, tree: LaunchTree) -> OperatorCalls | None:
    """The calls whose shapes were recorded; None where none was."""
    rows = np.flatnonzero((tree.operator != NOWHERE) & (tree.operator_shape != NOWHERE))
    if len(rows) == 0:
        return None
    activities = timeline.activities
    duration = np.maximum(activities.end_ns[gaps.rows[rows]] - activities.start_ns[gaps.rows[rows]], 0)
    order = np.lexsort((duration, tree.operator[rows]))
    rows, duration = rows[order], duration[order]
    operator = tree.operator[rows]
    ends = np.flatnonzero(np.append(operator[1:] != operator[:-1], True))
    return OperatorCalls(
        name=tree.operator_name[rows[ends]].astype(np.int64),
        shape=tree.operator_shape[rows[ends]].astype(np.int64),
        own_ns=np.diff(np.concatenate([[0], np.cumsum(duration)[ends]])),
        activities=np.diff(np.concatenate([[-1], ends])),
        longest=rows[ends],
        strings=tree.strings,
        shapes=tree.shapes,
    )


def operator_times(timeline: GpuTimeline, gaps: DeviceGaps, calls: OperatorCalls) -> tuple[list[OperatorWork], int]:
    """Each operator with each shape, most time first, and how many are left out."""
    peaks = peaks_of(card_of(timeline, gaps.device))
    key = calls.name * len(calls.shapes) + calls.shape
    distinct, which = np.unique(key, return_inverse=True)
    which = which.ravel()
    total = np.zeros(len(distinct), dtype=np.int64)
    activities = np.zeros(len(distinct), dtype=np.int64)
    np.add.at(total, which, calls.own_ns)
    np.add.at(activities, which, calls.activities)
    counts = np.bincount(which, minlength=len(distinct))
    example = np.zeros(len(distinct), dtype=np.int64)
    example[which] = calls.longest
    found = []
    listed = []
    for i in np.flatnonzero(total >= np.sort(total)[-LISTED:][0]).tolist():
        name, shape = divmod(int(distinct[i]), len(calls.shapes))
        listed.append((-int(total[i]), calls.strings[name], calls.shapes[shape], i))
    for _, operator, shapes, i in sorted(listed)[:LISTED]:  # ties by name: a file's order says nothing
        work = operator_work(operator, shapes)
        kernel = timeline.strings[timeline.activities.name[gaps.rows[example[i]]]]
        each_ns = total[i] / counts[i]
        least = None if work is None else least_ns(work, peaks, kernel)
        found.append(
            OperatorWork(
                operator=operator,
                shape=shape_text(shapes),
                kind=None if work is None else work.kind,
                calls=int(counts[i]),
                activities=int(activities[i]),
                total_ns=int(total[i]),
                flop=None if work is None else work.flop,
                bytes=None if work is None else work.bytes,
                flop_per_second=_rate(None if work is None else work.flop, each_ns),
                bytes_per_second=_rate(None if work is None else work.bytes, each_ns),
                bound=None if least is None else least[1],
                of_peak=None if least is None or not each_ns else round(float(least[0] / each_ns), 6),
            )
        )
    return found, len(distinct) - len(found)


def kernel_work(
    timeline: GpuTimeline, gaps: DeviceGaps, launched: Int64, calls: OperatorCalls
) -> dict[int, KernelWork]:
    """The work that each kernel did, by the kernel's name (index into strings).

    A kernel that takes most of an operator's call did its work. A kernel is left out unless that holds for all of its
    launches that the trace has, and the work of each is known.

    Args:
        timeline: the trace.
        gaps: the device's gaps.
        launched: for each activity of the timeline the index of its call, -1 without one.
        calls: the device's operator calls.
    """
    activities = timeline.activities
    peaks = peaks_of(card_of(timeline, gaps.device))
    rows = gaps.rows[calls.longest]
    duration = activities.end_ns[rows] - activities.start_ns[rows]
    whole = (duration >= MOSTLY * calls.own_ns) & (activities.kind[rows] == Activity.KERNEL)
    own = gaps.rows[(activities.kind[gaps.rows] == Activity.KERNEL) & (launched[gaps.rows] >= 0)]
    launches = np.bincount(activities.name[own], minlength=len(timeline.strings))
    keys = np.stack([activities.name[rows].astype(np.int64), calls.name, calls.shape], axis=1)[whole]
    distinct, which = np.unique(keys, axis=0, return_inverse=True)
    counts = np.bincount(which.ravel(), minlength=len(distinct))
    spent = np.zeros(len(distinct), dtype=np.int64)
    np.add.at(spent, which.ravel(), duration[whole])
    parts: dict[int, list[tuple[int, int, Work]]] = {}
    for (kernel, name, shape), count, ns in zip(distinct.tolist(), counts.tolist(), spent.tolist(), strict=True):
        work = operator_work(calls.strings[name], calls.shapes[shape])
        if work is not None:
            parts.setdefault(kernel, []).append((count, ns, work))
    result = {}
    for kernel, done in parts.items():
        if sum(count for count, _, _ in done) < launches[kernel]:
            continue
        total_ns = sum(ns for _, ns, _ in done)
        flop = sum(count * work.flop for count, _, work in done)
        moved = [None if work.bytes is None else count * work.bytes for count, _, work in done]
        least = [least_ns(work, peaks, timeline.strings[kernel]) for _, _, work in done]
        known = [count * one[0] for (count, _, _), one in zip(done, least, strict=True) if one is not None]
        result[kernel] = KernelWork(
            flop_per_second=_rate(flop, total_ns),
            bytes_per_second=_rate(None if None in moved else sum(size or 0 for size in moved), total_ns),
            of_peak=round(sum(known) / total_ns, 6) if len(known) == len(done) and total_ns else None,
        )
    return result


def least_ns(work: Work, peaks: Peaks | None, kernel: str) -> tuple[float, str] | None:
    """The least time of a call by the card's peaks, and which of them bounds it; None where they aren't known."""
    if peaks is None or work.bytes is None or _OVER_THE_BUS.search(kernel):
        return None
    moving = work.bytes / peaks.bytes_per_second * 1e9
    if work.kind not in _MULTIPLIES:
        return moving, "memory"
    dtype = "tf32" if work.dtype == "fp32" and _TF32.search(kernel) else work.dtype
    rate: float | None = getattr(peaks, dtype, None)
    if rate is None:
        return None
    computing = work.flop / rate * 1e9
    return (computing, "compute") if computing > moving else (moving, "memory")


_MULTIPLIES = frozenset({"GEMM", "convolution", "attention"})
_OVER_THE_BUS = re.compile(r"Mem(?:cpy|copy) (?:unified )?(?:H|P|\w*toH|\w*toP)", re.IGNORECASE)
"""Copies that the device's memory does not bound."""

_TF32 = re.compile(r"tf32|s1688|s16816gemm_f32|xf32", re.IGNORECASE)
"""What kernels are called that round 32-bit inputs for the tensor cores."""


def _rate(amount: int | None, ns: float) -> float | None:
    return None if not amount or not ns else float(amount / ns * 1e9)
