"""The page of a trace: what may be believed, what the GPU waited for, one step to scale, and the evidence."""

from __future__ import annotations

from collections.abc import Sequence

from laptime import __version__
from laptime.report.kit.html import Child, Html, chart, definitions, note, section, table, tag
from laptime.report.kit.numbers import KEEP_TOGETHER, NOTHING, count, percent, text
from laptime.report.kit.page import asset, document
from laptime.report.kit.text import counted, one_line, shortened
from laptime.report.trace import words
from laptime.report.trace.device_time import device_time_section
from laptime.report.trace.kernel_rows import per_step, told_apart
from laptime.report.trace.launched_by import launched_by_data, launched_by_section
from laptime.report.trace.memory import memory_data, memory_section, shown
from laptime.report.trace.operator_times import in_unit, operator_times_data, operator_times_section
from laptime.trace.plain_names import plain
from laptime.trace.result import DeviceTimes, Integrity, Steps, TraceAnalysis, TracedPass, WhatIf

NAME_LIMIT = 2_000
"""Characters of a kernel's full name that a page carries."""

KERNELS = 5_000
"""Kernels that the table holds."""

SCRIPTS = (
    "kit/charts/scale.js",
    "kit/charts/tooltip.js",
    "trace/step_drawing.js",
    "trace/table.js",
    "trace/icicle.js",
    "trace/memory.js",
    "trace/page.js",
)


def trace_page(analysis: TraceAnalysis) -> str:
    """The whole page as one HTML document."""
    device = words.main_device(analysis)
    sections: list[Html | None] = [
        _step_section(analysis) if analysis.modal_step else None,
        _whatif_section(analysis.whatif) if analysis.whatif else None,
        _pass_section(analysis.passes) if analysis.passes else None,
        *(device_time_section(d, several=len(analysis.devices) > 1) for d in analysis.devices),
        *(_gap_section(d, analysis.integrity, several=len(analysis.devices) > 1) for d in analysis.devices),
        launched_by_section(analysis.launched_by) if analysis.launched_by else None,
        operator_times_section(analysis.launched_by) if analysis.launched_by and analysis.launched_by.work else None,
        _kernel_section(analysis) if analysis.kernels else None,
        memory_section(analysis.memory, [d.device for d in analysis.devices]) if shown(analysis.memory) else None,
        _api_section(analysis) if analysis.api else None,
        _integrity_section(analysis),
    ]
    return document(
        title=one_line(analysis.source.file, 200),
        headline=one_line(analysis.headline, 600),
        meta=_facts(analysis, device),
        lead=tag(
            "div",
            _verdict(analysis),
            tag("p", one_line(analysis.advice, 600), class_="advice") if device else None,
            chart("time-bar", "Device time: work by kind, and idle by cause") if device else None,
        ),
        sections=[part for part in sections if part is not None],
        data=_data(analysis, device),
        scripts=[asset(name) for name in SCRIPTS],
        styles=[asset("trace/page.css")],
        footer=[f"laptime {__version__}", analysis.schema],
    )


def _facts(analysis: TraceAnalysis, device: DeviceTimes | None) -> list[str]:
    facts = [analysis.source.format]
    if device is not None:
        facts.append(f"{text(device.span_ns, 'ns')} on GPU {device.device}")
        facts += [counted(device.kernels, "kernel")] if device.kernels is not None else []
        facts += [counted(device.launches, "launch", "launches")] if device.launches is not None else []
    if analysis.steps.method != "none":
        facts.append(counted(analysis.steps.count, "step"))
    return facts


def _verdict(analysis: TraceAnalysis) -> Html:
    """One line on top: whether the numbers below can be believed."""
    verdict = analysis.integrity.verdict
    kind = {"ok": "good", "partial": "warning"}.get(verdict, "severe")
    worst = [f for f in analysis.integrity.findings if f.severity == "severe"][:3]
    lines = [tag("span", " ", words.finding_text(finding, 300)) for finding in worst]
    if verdict == "ok" and any(f.severity == "warning" for f in analysis.integrity.findings):
        lines.append(tag("span", " ", tag("a", "What they say", href="#integrity"), "."))
    return note(words.verdict_text(analysis.integrity), *lines, kind=kind)


def _integrity_section(analysis: TraceAnalysis) -> Html:
    findings = analysis.integrity.findings
    pairs = [(f"{f.severity}: {f.code}", words.finding_text(f)) for f in findings]
    body: Child = definitions(pairs) if pairs else tag("p", "Nothing was noticed.")
    return section("Integrity", body, id="integrity", lead=f"Verdict: {analysis.integrity.verdict}.")


def _step_section(analysis: TraceAnalysis) -> Html:
    steps = analysis.steps
    median = "A real step: the one with the median time among the steady steps."
    which = median if steps.count > 1 else "The trace has no second one."
    return section(
        "The one forward pass, to scale" if steps.method == "forward" else "One step, to scale",
        _step_facts(steps),
        tag(
            "div",
            tag("button", "Zoom in", type="button", id="zoom-in"),
            tag("button", "Zoom out", type="button", id="zoom-out"),
            tag("button", "Whole step", type="button", id="zoom-all"),
            tag("span", "", class_="count", id="step-window"),
            class_="toolbar",
        ),
        chart("step", "One step: kernels by stream, gaps coloured by cause"),
        tag("ul", id="step-legend", class_="legend"),
        id="step-section",
        lead=f"{which} Zoom with the mouse wheel or the buttons. Drag to move. Point at a kernel to see its name.",
    )


def _step_facts(steps: Steps) -> Html:
    layers = steps.layers
    shape = None
    if layers is not None:
        shape = f"{words.layer_shape(steps)} ({words.layers_name(steps)} × kernels + kernels outside)"
        if layers.period_layers > 1:
            shape += f"; {layers.period_layers} layers of {layers.period_kernels} kernels repeat together"
    return definitions(
        [
            ("cut by", words.step_origin(steps)),
            ("wall", f"{words.ms_column(steps.wall_ns)}{KEEP_TOGETHER}ms; {words.step_spread(steps)}"),
            ("GPU works", f"{words.ms_column(steps.busy_ns)}{KEEP_TOGETHER}ms ({percent(steps.utilisation)})"),
            ("kernels", f"{count(steps.kernels_per_step)} from {count(steps.launches_per_step)} launches"),
            (words.layers_name(steps), shape or words.uncounted_layers(steps)),
            ("tokens", words.step_tokens(steps)),
        ]
    )


def _assumptions(rows: Sequence[WhatIf]) -> Html:
    floors = [f"{row.remedy} {words.floor_ms(row)}{KEEP_TOGETHER}ms" for row in rows if row.floor_ns is not None]
    said = [(whom, "; ".join(these)) for whom, these in words.notes(rows)]
    said += [("never below", ", ".join(floors))] if floors else []
    return tag("ul", [tag("li", tag("b", whom), ": ", these) for whom, these in said], class_="assumptions")


def _record(rows: Sequence[WhatIf]) -> Child:
    """How often ranges like these held, once for all of them."""
    said = words.record(rows)
    return tag("p", said, class_="assumptions") if said else None


def _whatif_section(rows: Sequence[WhatIf]) -> Html:
    return section(
        "What if",
        chart("whatif", "The step under each remedy, as a range"),
        _assumptions(rows),
        _record(rows),
        id="whatif-section",
        lead="How long the step would take with each remedy. The pale part of a bar is the range.",
    )


def _pass_section(passes: Sequence[TracedPass]) -> Html:
    parts: list[Child] = []
    for number, one in enumerate(passes):
        title = f"{words.PASSES.get(one.stage, one.stage)}, known by {words.pass_origin(one)}"
        parts.append(tag("h3", title))
        parts.append(tag("p", one_line(one.advice, 400)))
        if one.whatif:
            parts.append(chart(f"pass-{number}", f"{words.PASSES.get(one.stage, one.stage)} under each remedy"))
            parts.append(_assumptions(one.whatif))
    return section(
        "Before decoding",
        *parts,
        _record([row for one in passes for row in one.whatif]),
        id="pass-section",
        lead="How long vision and prefill would take with each remedy, from the first kernel of a pass to its last.",
    )


def _gap_section(device: DeviceTimes, integrity: Integrity, *, several: bool) -> Html:
    gaps = device.gaps
    doubt = words.doubt_of_causes(integrity, device) if gaps.causes else None
    causes = [
        [
            tag("span", tag("span", class_=f"swatch cause-{row.cause}"), words.CAUSES.get(row.cause, row.cause)),
            count(row.gaps),
            words.ms_column(row.total_ns),
            words.share(row.total_ns, device.idle_ns),
        ]
        for row in gaps.causes
    ]
    host = [
        [one_line(plain(row.name, 52), 52), words.ms_column(row.total_ns), words.share(row.total_ns, device.idle_ns)]
        for row in gaps.host
    ]
    large = [
        [
            words.ms_column(gap.duration_ns),
            f"{one_line(gap.before_short, 40)} → {one_line(gap.after_short, 40)}",
            tag("span", tag("span", class_=f"swatch cause-{gap.cause}"), words.CAUSES.get(gap.cause, gap.cause)),
            one_line(gap.api or NOTHING, 40),
            one_line(plain(gap.host or NOTHING, 34), 34),
        ]
        for gap in gaps.large
    ]
    return section(
        f"Gaps of GPU {device.device}" if several else "Gaps",
        chart(f"gaps-{device.device}", "How long the gaps are: count and total time"),
        tag(
            "div",
            tag(
                "div",
                tag("h3", "Why the GPU waited"),
                table(["cause", "gaps", "ms", "of idle"], causes, numeric=[1, 2, 3]),
                tag("p", words.GAPS_OF_CAUSES, class_="lead") if len(gaps.causes) > 1 else None,
                tag("p", doubt, class_="lead") if doubt else None,
            ),
            tag(
                "div",
                tag("h3", "Where the host was meanwhile"),
                table(["operator or frame", "ms", "of idle"], host, numeric=[1, 2])
                if host
                else tag("p", "The trace names no operator or frame on the launching thread."),
            ),
            class_="columns",
        ),
        tag("h3", "Longest gaps"),
        table(["ms", "between", "cause", "API call", "operator or frame"], large, numeric=[0]),
        id=f"gaps-section-{device.device}",
        lead=f"{counted(gaps.count, 'gap')}, median {text(gaps.median_ns, 'ns')}: {words.ms_column(device.idle_ns)} of "
        f"{words.ms_column(device.span_ns)} ms ({words.share(device.idle_ns, device.span_ns)}).",
    )


def _kernel_section(analysis: TraceAnalysis) -> Html:
    several = len({kernel.device for kernel in analysis.kernels}) > 1
    whose = "the busy time of the row's own GPU" if several else "the device's busy time"
    return section(
        words.kernels_title(analysis.devices),
        tag(
            "div",
            tag(
                "input", type="search", id="kernel-filter", placeholder="Filter by name or family", aria_label="Filter"
            ),
            tag("span", "", class_="count", id="kernel-count"),
            class_="toolbar",
        ),
        tag("div", id="kernel-table", class_="table-box"),
        id="kernels-section",
        lead="Click a column to sort by it, a row to see the kernel's whole name. Share is of "
        f"{whose} over the whole trace; kernels that run together share each instant evenly. Half of a kernel's "
        "launches last no longer than p50, 95 % no longer than p95. Per step counts its launches in the step above"
        f"{f', of GPU {analysis.steps.device}' if several and analysis.steps.device is not None else ''}; "
        "<1 is a kernel that isn't in it, and runs less than once a step.",
    )


def _api_section(analysis: TraceAnalysis) -> Html:
    rows = [
        [one_line(row.name, 80), count(row.count), words.ms_column(row.total_ns), text(row.total_ns / row.count, "ns")]
        for row in analysis.api[:25]
    ]
    return section(
        "API calls",
        table(["call", "count", "ms", "mean"], rows, numeric=[1, 2, 3]),
        id="api-section",
        lead="Calls of all host threads over the whole trace.",
    )


def _data(analysis: TraceAnalysis, device: DeviceTimes | None) -> dict[str, object]:
    """What the scripts draw; long names are cut so that a page stays small."""
    names = told_apart(analysis.kernels[:KERNELS])
    return {
        "device": device
        and {
            "busy_ns": device.busy_ns,
            "idle_ns": device.idle_ns,
            "work": device.busy,
            "causes": device.gaps.causes,
        },
        "histograms": [{"id": f"gaps-{d.device}", "bins": d.gaps.histogram} for d in analysis.devices],
        "causeWords": words.CAUSES,
        "step": analysis.modal_step,
        "stepCauses": analysis.steps.causes,
        "stepWallNs": analysis.steps.wall_ns,
        "whatif": analysis.whatif,
        "passes": [{"wallNs": one.wall_ns, "whatif": one.whatif} for one in analysis.passes],
        "work": operator_times_data(analysis.launched_by) if analysis.launched_by else [],
        "memory": memory_data(analysis.memory),
        "launchedBy": analysis.launched_by and launched_by_data(analysis.launched_by),
        "kernels": [
            {
                "device": k.device,
                "name": shortened(k.name, NAME_LIMIT),
                "short": names[k.name],
                "family": k.family,
                "count": k.count,
                "per_step": k.per_step,
                "in_step": per_step(k, analysis.steps.count),
                "mean_us": k.mean_ns / 1e3,
                "p50_us": k.p50_ns / 1e3,
                "p95_us": k.p95_ns / 1e3,
                "max_us": k.max_ns / 1e3,
                "tflops": in_unit(k.flop_per_second, 1e12),
                "gbs": in_unit(k.bytes_per_second, 1e9),
                "of_peak": k.of_peak,
                "total_ms": k.total_ns / 1e6,
                "share": k.share,
            }
            for k in analysis.kernels[:KERNELS]
        ],
    }
