"""A trace's answer in a terminal: integrity, the point, gaps, causes, the step, kernels, what-if."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from laptime.report.kit.text import printable, shortened
from laptime.trace.comparison import Pair, TraceComparison
from laptime.trace.result import DeviceTimes, Steps, TraceAnalysis

_VERDICTS = {"ok": "green", "partial": "yellow", "unsupported": "red"}
_BAR = 28


def ms(ns: float | None, digits: int = 3) -> str:
    """Nanoseconds as milliseconds."""
    return "–" if ns is None else f"{ns / 1e6:,.{digits}f}"


def duration(ns: float) -> str:
    """Nanoseconds in the unit that reads best."""
    if ns < 1_000:
        return f"{ns:.0f} ns"
    if ns < 1_000_000:
        return f"{ns / 1e3:.4g} µs"
    return f"{ns / 1e6:,.4g} ms"


def _text(value: str, limit: int = 64) -> Text:
    return Text(shortened(printable(" ".join(value.split())), limit))


def trace_report(analysis: TraceAnalysis, *, kernels: int = 12, large: int = 8) -> RenderableType:
    """Everything, top down: what may be believed, the point, and then the evidence."""
    parts: list[RenderableType] = [*_integrity(analysis), Text(""), Text(analysis.headline, style="bold")]
    parts += [Text(analysis.advice), Text("")]
    for device in analysis.devices:
        parts += [_device(device), _causes(device), _large(device, large)]
    if analysis.steps.method != "none":
        parts.append(_steps(analysis.steps))
    if analysis.whatif:
        parts.append(_whatif(analysis))
    if analysis.kernels:
        parts.append(_kernels(analysis, kernels))
    return Group(*parts)


def _integrity(analysis: TraceAnalysis) -> Iterator[Text]:
    source, verdict = analysis.source, analysis.integrity.verdict
    line = Text(f"{source.file} ({source.format}) ")
    line.append(f"integrity: {verdict}", style=_VERDICTS.get(verdict, ""))
    yield line
    for finding in analysis.integrity.findings:
        times = f" (×{finding.count})" if finding.count > 1 else ""
        yield Text(f"  {finding.severity}: {finding.message}{times} [{finding.code}]", style="dim")


def _table(title: str, *columns: str, left: int = 1) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, column in enumerate(columns):
        # On a narrow terminal words give way, figures never.
        table.add_column(column, justify="left" if i < left else "right", no_wrap=i >= left, overflow="ellipsis")
    return table


def _device(device: DeviceTimes) -> RenderableType:
    idle = device.idle_ns / device.span_ns if device.span_ns else 0.0
    parts = f"{ms(device.busy_ns)} busy + {ms(device.idle_ns)} idle ({idle:.1%})"
    title = f"GPU {device.device}: {ms(device.span_ns)} ms = {parts}"
    table = _table(title, "gaps of", "count", "total ms", "share of idle", left=1)
    for row in device.gaps.histogram:
        name = f"{duration(row.lo_ns)} – {duration(row.hi_ns)}" if row.hi_ns else f"≥ {duration(row.lo_ns)}"
        share = row.total_ns / device.idle_ns if device.idle_ns else 0.0
        table.add_row(name, f"{row.count:,}", ms(row.total_ns), f"{'█' * round(share * _BAR)} {share:6.1%}")
    facts = [
        f"kernels {_count(device.kernels)}",
        f"launches {_count(device.launches)}",
        f"gaps {device.gaps.count:,}",
        f"median gap {duration(device.gaps.median_ns) if device.gaps.median_ns is not None else '–'}",
        f"kernel sum {ms(device.kernel_sum_ns)} ms",
        f"kernel union {ms(device.kernel_busy_ns)} ms",
    ]
    return Group(table, Text("  ".join(facts), style="dim"), Text(""))


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _causes(device: DeviceTimes) -> RenderableType:
    table = _table("Why the GPU waited", "cause", "gaps", "total ms", "share of idle")
    for row in device.gaps.causes:
        share = row.total_ns / device.idle_ns if device.idle_ns else 0.0
        table.add_row(row.cause, f"{row.gaps:,}", ms(row.total_ns), f"{'█' * round(share * _BAR)} {share:6.1%}")
    parts: list[RenderableType] = [table]
    if device.gaps.host:
        named = ", ".join(
            f"{shortened(printable(row.name), 44)} {duration(row.total_ns)}" for row in device.gaps.host[:5]
        )
        parts.append(Text(f"meanwhile the host was in: {named}", style="dim"))
    return Group(*parts, Text(""))


def _large(device: DeviceTimes, count: int) -> RenderableType:
    table = _table("Longest gaps", "gap", "between", "cause", "in", left=4)
    for gap in device.gaps.large[:count]:
        inside = gap.host if gap.cause == "host-not-launching" else gap.api
        between = Text.assemble(_text(gap.before_short, 30), " → ", _text(gap.after_short, 30))
        table.add_row(duration(gap.duration_ns), between, gap.cause, _text(inside or "–", 40))
    return Group(table, Text(""))


def _steps(steps: Steps) -> RenderableType:
    name = f" {shortened(printable(steps.name), 40)}" if steps.name else ""
    table = _table(
        f"Steps: {steps.count} by {steps.method}{name} (confidence {steps.confidence:.0%}); the modal one",
        *("wall ms", "busy ms", "gaps ms", "utilisation", "kernels", "launches", "layers"),
        left=0,
    )
    layers = steps.layers
    shape = f"{layers.count} × {layers.kernels_per_layer:g} + {layers.outside}" if layers else "–"
    table.add_row(
        ms(steps.wall_ns),
        ms(steps.busy_ns),
        ms(steps.gap_ns),
        "–" if steps.utilisation is None else f"{steps.utilisation:.1%}",
        _count(steps.kernels_per_step),
        _count(steps.launches_per_step),
        shape,
    )
    spread = f"10 % to 90 % of steps: {ms(steps.wall_p10_ns)} to {ms(steps.wall_p90_ns)} ms"
    return Group(table, Text(spread, style="dim"), Text(""))


def _whatif(analysis: TraceAnalysis) -> RenderableType:
    table = _table("What if", "remedy", "step ms", "speed-up", left=1)
    for row in analysis.whatif:
        low, high = ms(row.step_ns_low, 2), ms(row.step_ns_high, 2)
        step = low if low == high else f"{low} – {high}"
        times = f"{row.speedup_low:.2f}×" if low == high else f"{row.speedup_low:.2f}× – {row.speedup_high:.2f}×"
        table.add_row(row.remedy, step, times)
    assumed = [Text(f"{row.remedy}: {'; '.join(row.assumptions)}", style="dim") for row in analysis.whatif]
    return Group(table, *assumed, Text(""))


def _kernels(analysis: TraceAnalysis, count: int) -> RenderableType:
    table = _table("Kernels", "kernel", "family", "count", "per step", "mean", "total ms", "share of busy", left=2)
    for kernel in analysis.kernels[:count]:
        table.add_row(
            _text(kernel.short_name, 44),
            kernel.family,
            f"{kernel.count:,}",
            _count(kernel.per_step),
            duration(kernel.mean_ns),
            ms(kernel.total_ns),
            f"{kernel.share:.1%}",
        )
    rest = len(analysis.kernels) - count
    return Group(table, Text(f"and {rest} more" if rest > 0 else "", style="dim"))


def comparison_report(comparison: TraceComparison, *, kernels: int = 15) -> RenderableType:
    """Two traces: kernel sums, gaps, counts, then the kernels that changed most."""
    parts: list[RenderableType] = [
        Text(f"A {comparison.a}\nB {comparison.b}"),
        Text(comparison.headline, style="bold"),
        Text(""),
    ]
    for title, pairs in (
        (f"Kernel sums per {comparison.per}", comparison.kernel_sums),
        (f"Gaps per {comparison.per}", comparison.gaps),
        ("Counts", comparison.counts),
    ):
        table = _table(title, "", "A", "B", "B − A", "B / A")
        for pair in pairs:
            table.add_row(pair.name, *(_figure(pair, value) for value in (pair.a, pair.b, pair.delta)), _ratio(pair))
        parts += [table, Text("")]
    table = _table("Kernels that changed most", "kernel", "A ms", "B ms", "B − A ms", "A count", "B count")
    for kernel in comparison.kernels[:kernels]:
        table.add_row(
            _text(kernel.short_name, 50),
            *(ms(value) for value in (kernel.a_ns, kernel.b_ns, kernel.b_ns - kernel.a_ns)),
            f"{kernel.a_count:g}",
            f"{kernel.b_count:g}",
        )
    return Group(*parts, table)


def _figure(pair: Pair, value: float | None) -> str:
    if value is None:
        return "–"
    return {"ns": f"{ms(value)} ms", "share": f"{value:.1%}"}.get(pair.unit, f"{value:,g}")


def _ratio(pair: Pair) -> str:
    return "–" if pair.ratio is None else f"{pair.ratio:.3f}"
