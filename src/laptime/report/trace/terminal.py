"""A trace's answer in a terminal: what may be believed, the point, gaps, causes, the step, what-if, kernels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from laptime.report.kit.numbers import KEEP_TOGETHER, count, percent, plain_text, text
from laptime.report.kit.terminal import BAR_CELLS, Column, bar, columns_table, with_remarks
from laptime.report.kit.text import counted, one_line
from laptime.report.trace import words
from laptime.report.trace.device_time import device_time_report
from laptime.report.trace.kernel_rows import per_step, told_apart
from laptime.report.trace.launched_by import launched_by_report
from laptime.report.trace.memory import memory_report
from laptime.report.trace.operator_times import operator_times_report
from laptime.trace.plain_names import plain
from laptime.trace.result import DeviceTimes, Integrity, LargeGap, Steps, TraceAnalysis, TracedPass, WhatIf

_STYLES = {"ok": "green", "partial": "yellow", "unsupported": "red"}
_BAR = Column(narrow="keep", min_width=BAR_CELLS)


def trace_report(analysis: TraceAnalysis, *, kernels: int = 12, large: int = 8) -> RenderableType:
    """The whole answer, top down: what may be believed, the point, and then the evidence.

    kernels, large: how many kernels and how many of the longest gaps are shown.
    """
    parts: list[RenderableType] = [*_integrity(analysis), Text(""), _bold(analysis.headline)]
    parts += [Text(one_line(analysis.advice, 600)), Text("")]
    for device in analysis.devices:
        parts += [*device_time_report(device), _gap_lengths(device), _causes(device, analysis.integrity)]
        if device.gaps.large:
            parts.append(_large(device.gaps.large[:large]))
    if analysis.steps.method != "none":
        parts.append(_step(analysis.steps))
    if analysis.whatif:
        parts.append(whatif_table(analysis.whatif))
    parts += [_pass(one) for one in analysis.passes]
    if record := words.record([*analysis.whatif, *(row for one in analysis.passes for row in one.whatif)]):
        parts.append(Padding(Text(record, style="dim"), (0, 0, 1, 1)))
    if analysis.launched_by:
        parts.append(launched_by_report(analysis.launched_by))
        if analysis.launched_by.work:
            parts.append(operator_times_report(analysis.launched_by))
    parts += memory_report(analysis.memory, [device.device for device in analysis.devices])
    if analysis.kernels:
        parts.append(_kernels(analysis, kernels))
    return Group(*parts)


def _bold(sentence: str) -> Text:
    return Text(one_line(sentence, 600), style="bold")


def _integrity(analysis: TraceAnalysis) -> Iterator[Text]:
    source, verdict = analysis.source, analysis.integrity.verdict
    yield Text(f"{one_line(source.file, 120)} ({source.format})")
    yield Text(words.verdict_text(analysis.integrity), style=_STYLES.get(verdict, ""))
    for finding in analysis.integrity.findings:
        yield Text(f"  {finding.severity}: {words.finding_text(finding)} [{finding.code}]", style="dim")


def _gap_lengths(device: DeviceTimes) -> RenderableType:
    span, busy, idle = (words.ms_column(ns) for ns in (device.span_ns, device.busy_ns, device.idle_ns))
    of_span = words.share(device.idle_ns, device.span_ns)
    title = f"GPU {device.device}: {span}{KEEP_TOGETHER}ms = {busy} busy + {idle} idle ({of_span})"
    table = columns_table("gaps of", "count", "total ms", "share of idle", _BAR, title=title, numeric=(1, 2, 3))
    for row in device.gaps.histogram:
        low = plain_text(row.lo_ns, "ns")
        length = f"{low} and more" if row.hi_ns is None else f"{low} to {plain_text(row.hi_ns, 'ns')}"
        table.add_row(length, count(row.count), words.ms_column(row.total_ns), *_of_idle(row.total_ns, device))
    facts = [
        words.launches(device),
        f"{counted(device.gaps.count, 'gap')} (median {text(device.gaps.median_ns, 'ns')})",
    ]
    if device.kernel_sum_ns is not None:
        union = text(device.kernel_busy_ns, "ns")
        facts.append(f"sum of kernel times {text(device.kernel_sum_ns, 'ns')}, their union {union}")
    return with_remarks(table, [Text("; ".join(facts), style="dim"), ""])


def _of_idle(ns: int, device: DeviceTimes) -> tuple[str, str]:
    part = ns / device.idle_ns if device.idle_ns else 0.0
    return percent(part), bar(part)


def _causes(device: DeviceTimes, integrity: Integrity) -> RenderableType:
    table = columns_table(
        "cause", "gaps", "total ms", "share of idle", _BAR, title="Why the GPU waited", numeric=(1, 2, 3)
    )
    for row in device.gaps.causes:
        cause = words.CAUSES.get(row.cause, row.cause)
        table.add_row(cause, count(row.gaps), words.ms_column(row.total_ns), *_of_idle(row.total_ns, device))
    remarks: list[str | Text] = []
    if len(device.gaps.causes) > 1:
        remarks.append(Text(words.GAPS_OF_CAUSES, style="dim"))
    if device.gaps.causes and (doubt := words.doubt_of_causes(integrity, device)):
        remarks.append(Text(doubt, style="dim"))
    if device.gaps.host:
        named = [f"{one_line(plain(row.name, 44), 44)} {text(row.total_ns, 'ns')}" for row in device.gaps.host[:5]]
        remarks.append(Text(f"meanwhile the host was in: {', '.join(named)}", style="dim"))
    return with_remarks(table, [*remarks, ""])


def _large(gaps: Sequence[LargeGap]) -> RenderableType:
    table = columns_table(
        Column("gap", numeric=True), "between", Column("cause", narrow="keep"), "in", title="Longest gaps"
    )
    for gap in gaps:
        between = f"{one_line(gap.before_short, 30)} → {one_line(gap.after_short, 30)}"
        cause = words.CAUSES.get(gap.cause, gap.cause)
        inside = one_line(plain(words.inside(gap), 24), 24)
        table.add_row(text(gap.duration_ns, "ns"), Text(between), cause, Text(inside))
    return Group(table, Text(""))


def _step(steps: Steps) -> RenderableType:
    heads = ("wall ms", "busy ms", "gaps ms", "utilisation", "kernels", "launches", words.layers_name(steps))
    table = columns_table(*heads, title=words.step_title(steps), numeric=range(len(heads)))
    table.add_row(
        *(words.ms_column(ns) for ns in (steps.wall_ns, steps.busy_ns, steps.gap_ns)),
        percent(steps.utilisation),
        count(steps.kernels_per_step),
        count(steps.launches_per_step),
        words.layer_shape(steps),
    )
    tokens = words.step_tokens(steps)
    remark = words.step_spread(steps) + (f"; it embeds {tokens} tokens" if tokens else "")
    return with_remarks(table, [Text(remark, style="dim"), ""])


def whatif_table(rows: Sequence[WhatIf]) -> RenderableType:
    """What remedies would leave of a step, and what each range assumes."""
    table = columns_table("remedy", "step ms", "speed-up", "floor ms", title="What if", numeric=(1, 2, 3))
    for row in rows:
        table.add_row(row.remedy, words.step_range(row), words.speedup_range(row), words.floor_ms(row))
    assumed = [Text(f"{whom}: {'; '.join(said)}", style="dim") for whom, said in words.notes(rows)]
    return with_remarks(table, [*assumed, ""])


def _pass(one: TracedPass) -> RenderableType:
    title = f"What if: {words.PASSES.get(one.stage, one.stage).lower()}, known by {words.pass_origin(one)}"
    table = columns_table("remedy", "pass ms", "speed-up", "floor ms", title=title, numeric=(1, 2, 3))
    table.add_row("as traced", words.ms_column(one.wall_ns), "", "")
    for row in one.whatif:
        table.add_row(row.remedy, words.step_range(row), words.speedup_range(row), words.floor_ms(row))
    said = [Text(one_line(one.advice, 400))]
    assumed = [Text(f"{whom}: {'; '.join(said)}", style="dim") for whom, said in words.notes(one.whatif)]
    return with_remarks(table, [*said, *assumed, ""])


def _kernels(analysis: TraceAnalysis, shown: int) -> RenderableType:
    rows, title = analysis.kernels[:shown], words.kernels_title(analysis.devices)
    several = len({kernel.device for kernel in analysis.kernels}) > 1
    p95 = not several  # 80 columns have no room for both
    heads = (*["GPU"] * several, "count", "per step", "p50", *["p95"] * p95, "total ms", "of busy")
    table = columns_table("kernel", "family", *(Column(head, numeric=True) for head in heads), title=title)
    names = told_apart(rows)
    often = [per_step(kernel, analysis.steps.count) for kernel in rows]
    for kernel, in_step in zip(rows, often, strict=True):
        table.add_row(
            Text(one_line(names[kernel.name], 60)),
            kernel.family,
            *[str(kernel.device)] * several,
            count(kernel.count),
            in_step,
            text(kernel.p50_ns, "ns"),
            *[text(kernel.p95_ns, "ns")] * p95,
            words.ms_column(kernel.total_ns),
            percent(kernel.share),
        )
    rest = len(analysis.kernels) - shown
    remarks = [f"and {count(rest)} more"] if rest > 0 else []
    whose = "busy time of the row's own GPU" if several else "device's busy time"
    remarks.append(f"Of busy: of the {whose}; kernels that run together share each instant evenly.")
    if several and any(kernel.per_step is not None for kernel in rows):
        remarks.append(f"Per step: in the step that is shown, of GPU {analysis.steps.device}.")
    if "<1" in often:
        remarks.append("Per step <1: not in the step that is shown, and less than once a step.")
    remarks.append("Names are shortened here; --html and --json have the whole ones.")
    return with_remarks(table, [Text(line, style="dim") for line in remarks])
