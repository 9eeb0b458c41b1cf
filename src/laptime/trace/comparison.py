"""Two traces side by side: kernel sums first, then gaps, then counts.

Per step when both have steps, over the whole trace otherwise. Kernels are matched by their full name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from laptime.data.shown import Shown
from laptime.trace.busy_words import ms_words
from laptime.trace.result import SURE, DeviceTimes, Kernel, Steps, TraceAnalysis

SCHEMA = "laptime.trace-compare/1"


class Pair(msgspec.Struct, frozen=True):
    """One figure in both traces; None where a file can't support it."""

    name: str
    a: float | None
    b: float | None
    unit: str  # ns | count | share

    @property
    def delta(self) -> float | None:
        return None if self.a is None or self.b is None else self.b - self.a

    @property
    def ratio(self) -> float | None:
        return None if not self.a or self.b is None else self.b / self.a


class KernelPair(msgspec.Struct, frozen=True):
    """One kernel's time in both traces, 0 where it doesn't run.

    Per step it is the kernel's mean in usual steps times its count in the modal step.
    """

    name: str
    short_name: str
    family: str
    a_ns: float
    b_ns: float
    a_count: float
    b_count: float


class TraceComparison(Shown, msgspec.Struct, frozen=True, kw_only=True):
    """What changed from a to b."""

    ROWS: ClassVar[str] = "kernels"

    schema: str = SCHEMA
    a: str
    b: str
    per: str  # step | trace
    headline: str
    kernel_sums: list[Pair]
    gaps: list[Pair]
    counts: list[Pair]
    kernels: list[KernelPair]


def compare(a: TraceAnalysis, b: TraceAnalysis) -> TraceComparison:
    """The comparison of two analyses; each side's device is the one that worked most."""
    steps = a.steps.wall_ns is not None and b.steps.wall_ns is not None
    kernels = _kernels(a, b, per_step=steps)
    da, db = _device(a), _device(b)
    families = sorted(
        {k.family for k in kernels}, key=lambda f: (-sum(k.a_ns + k.b_ns for k in kernels if k.family == f), f)
    )

    def summed(name: str, of: Sequence[KernelPair]) -> Pair:
        return Pair(name, sum(k.a_ns for k in of) if da else None, sum(k.b_ns for k in of) if db else None, "ns")

    sums = [summed("all kernels", kernels), *(summed(f, [k for k in kernels if k.family == f]) for f in families)]
    if steps:
        gaps = [
            Pair("wall", a.steps.wall_ns, b.steps.wall_ns, "ns"),
            Pair("busy", a.steps.busy_ns, b.steps.busy_ns, "ns"),
            Pair("gaps", a.steps.gap_ns, b.steps.gap_ns, "ns"),
            Pair("utilisation", a.steps.utilisation, b.steps.utilisation, "share"),
        ]
        counts = [
            Pair("kernels", a.steps.kernels_per_step, b.steps.kernels_per_step, "count"),
            Pair("launches", a.steps.launches_per_step, b.steps.launches_per_step, "count"),
            Pair("layers", _layers(a.steps), _layers(b.steps), "count"),
            Pair("steps", a.steps.count, b.steps.count, "count"),
        ]
        causes = (a.steps.causes, b.steps.causes)
    else:
        gaps = [
            Pair("span", da.span_ns if da else None, db.span_ns if db else None, "ns"),
            Pair("busy", da.busy_ns if da else None, db.busy_ns if db else None, "ns"),
            Pair("gaps", da.idle_ns if da else None, db.idle_ns if db else None, "ns"),
        ]
        counts = [
            Pair("kernels", da.kernels if da else None, db.kernels if db else None, "count"),
            Pair("launches", da.launches if da else None, db.launches if db else None, "count"),
            Pair("gaps", da.gaps.count if da else None, db.gaps.count if db else None, "count"),
        ]
        causes = (da.gaps.causes if da else [], db.gaps.causes if db else [])
    by_cause = [{row.cause: row.total_ns for row in rows} for rows in causes]
    for cause in sorted({*by_cause[0], *by_cause[1]}, key=lambda c: (-max(t.get(c, 0) for t in by_cause), c)):
        before, after = (by.get(cause, 0) if one else None for by, one in zip(by_cause, (da, db), strict=True))
        gaps.append(Pair(f"gaps: {cause}", before, after, "ns"))
    return TraceComparison(
        a=a.source.file,
        b=b.source.file,
        per="step" if steps else "trace",
        headline=_headline(a, b, *(next(pair for pair in gaps if pair.name == name) for name in ("busy", "gaps"))),
        kernel_sums=sums,
        gaps=gaps,
        counts=counts,
        kernels=kernels,
    )


def _headline(a: TraceAnalysis, b: TraceAnalysis, busy: Pair, gaps: Pair) -> str:
    """What became of a step; of the whole traces where one of them has no steps."""
    sides = (("A", a), ("B", b))
    if unread := [f"{side}: {one.headline}" for side, one in sides if one.integrity.verdict == "unsupported"]:
        return f"Nothing to compare. {'; '.join(unread)}"
    partial = [side for side, one in sides if one.integrity.verdict == "partial"]
    changes = _changes(a, b, busy, gaps)
    return f"{changes}; the record of {' and '.join(partial)} is partial" if partial else changes


def _changes(a: TraceAnalysis, b: TraceAnalysis, busy: Pair, gaps: Pair) -> str:
    changes = f"{_change(busy)}, {_change(gaps)}"
    before, after = a.steps.wall_ns, b.steps.wall_ns
    if before is None or after is None:
        without = "either" if before is after else "A" if before is None else "B"
        return f"Per trace, from A to B: {changes}; no steps are known in {without}, so their work may differ"
    text = (
        f"A step goes from {ms_words(before)} to {ms_words(after)} ms"
        f" ({_signed((after / before - 1) * 100, 1)} %): {changes}"
    )
    layers = (_layers(a.steps), _layers(b.steps))
    if None not in layers and layers[0] != layers[1]:
        return f"{text}; but a step of A has {layers[0]} layers and one of B {layers[1]}"
    tokens = [" × ".join(map(str, one.steps.tokens or [])) for one in (a, b)]
    if all(tokens) and tokens[0] != tokens[1]:
        return f"{text}; but a step of A embeds {tokens[0]} tokens and one of B {tokens[1]}"
    if min(a.steps.confidence, b.steps.confidence) < SURE or (layers[0] is None) != (layers[1] is None):
        return f"{text}, if both are steps of the same work"
    return text


def _change(pair: Pair) -> str:
    delta = pair.delta
    if delta is None:
        return f"{pair.name} not comparable"
    ratio = f" ({_signed((pair.ratio - 1) * 100, 1)} %)" if pair.ratio is not None else ""
    return f"{pair.name} {_signed(delta / 1e6, 3)} ms{ratio}"


def _signed(value: float, places: int) -> str:
    """A difference with the minus sign that tables have."""
    return f"{value:+.{places}f}".replace("-", "−")


def _layers(steps: Steps) -> int | None:
    return steps.layers.count if steps.layers else None


def _device(analysis: TraceAnalysis) -> DeviceTimes | None:
    return max(analysis.devices, key=lambda device: device.busy_ns, default=None)


def _kernels(a: TraceAnalysis, b: TraceAnalysis, *, per_step: bool) -> list[KernelPair]:
    sides = []
    for analysis in (a, b):
        device = analysis.steps.device if per_step else getattr(_device(analysis), "device", None)
        sides.append({k.name: k for k in analysis.kernels if k.device == device})

    def cost(kernel: Kernel | None) -> tuple[float, float]:
        if kernel is None:
            return 0.0, 0.0
        if per_step:
            count = kernel.per_step or 0
            mean_ns = kernel.total_ns / kernel.count
            return mean_ns * count if kernel.step_ns is None else kernel.step_ns, count
        return kernel.total_ns, kernel.count

    pairs = []
    for name in {**sides[0], **sides[1]}:
        known = sides[0].get(name) or sides[1][name]
        (a_ns, a_count), (b_ns, b_count) = cost(sides[0].get(name)), cost(sides[1].get(name))
        if a_count or b_count:
            pairs.append(KernelPair(name, known.short_name, known.family, a_ns, b_ns, a_count, b_count))
    return sorted(pairs, key=lambda pair: -abs(pair.b_ns - pair.a_ns))
