"""The page of a trace: what may be believed, what the GPU waited for, the modal step to scale, and the evidence."""

from __future__ import annotations

from collections.abc import Sequence

from laptime import __version__
from laptime.data.record import Finding
from laptime.report.kit.html import Child, Html, chart, definitions, note, section, table, tag
from laptime.report.kit.page import asset, document
from laptime.report.kit.text import one_line, shortened
from laptime.trace.comparison import Pair, TraceComparison
from laptime.trace.result import DeviceTimes, Steps, TraceAnalysis, WhatIf

NAME_LIMIT = 2_000
"""Characters of a kernel's full name that a page carries."""

CAUSE_WORDS: dict[str, str] = {
    "host-not-launching": "host not launching",
    "launch-overhead": "launching",
    "graph-launch": "launching a graph",
    "memcpy": "copying",
    "synchronize": "synchronising",
    "allocation": "allocating",
    "free": "freeing",
    "module-load": "loading kernels",
    "graph-capture": "capturing a graph",
    "other-api": "other API calls",
    "profiler-overhead": "the profiler",
    "queued": "already queued",
    "unknown": "unknown",
}


def trace_page(analysis: TraceAnalysis) -> str:
    """The whole page as one HTML document."""
    device = max(analysis.devices, key=lambda d: d.busy_ns, default=None)
    sections: list[Html | None] = [
        _step_section(analysis) if analysis.modal_step else None,
        _whatif_section(analysis.whatif) if analysis.whatif else None,
        *(_gap_section(d, several=len(analysis.devices) > 1) for d in analysis.devices),
        _kernel_section(analysis) if analysis.kernels else None,
        _api_section(analysis) if analysis.api else None,
        _integrity_section(analysis),
    ]
    return document(
        title=one_line(analysis.source.file, 200),
        headline=one_line(analysis.headline, 300),
        meta=_facts(analysis, device),
        lead=tag(
            "div",
            _verdict(analysis),
            tag("p", one_line(analysis.advice, 400), class_="advice") if device else None,
            chart("time-bar", "Device time: busy, and idle by cause") if device else None,
        ),
        sections=[part for part in sections if part is not None],
        data=_data(analysis, device),
        scripts=_SCRIPTS(),
        styles=[asset("trace/page.css")],
        footer=[f"laptime {__version__}", analysis.schema],
    )


def _SCRIPTS() -> list[str]:  # noqa: N802
    return [
        asset(name)
        for name in (
            "kit/charts/scale.js",
            "kit/charts/tooltip.js",
            "trace/step_drawing.js",
            "trace/table.js",
            "trace/page.js",
        )
    ]


def _ms(ns: float | None, digits: int = 3) -> str:
    return "–" if ns is None else f"{ns / 1e6:,.{digits}f}"


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _percent(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "–"


def _facts(analysis: TraceAnalysis, device: DeviceTimes | None) -> list[str]:
    facts = [analysis.source.format]
    if device is not None:
        facts.append(f"{_ms(device.span_ns, 1)} ms on GPU {device.device}")
        facts += [f"{device.kernels:,} kernels"] if device.kernels is not None else []
        facts += [f"{device.launches:,} launches"] if device.launches is not None else []
    if analysis.steps.method != "none":
        facts.append(f"{analysis.steps.count} steps")
    return facts


def _verdict(analysis: TraceAnalysis) -> Html:
    """One line on top: whether the numbers below can be believed."""
    verdict = analysis.integrity.verdict
    words = {
        "ok": "Integrity ok: the figures on this page can be relied on.",
        "partial": "Integrity partial: some figures are not supported by this file.",
        "unsupported": "Integrity: this file can't support an answer.",
    }
    kind = {"ok": "good", "partial": "warning"}.get(verdict, "severe")
    worst = [f for f in analysis.integrity.findings if f.severity == "severe"][:3]
    return note(words.get(verdict, verdict), *(tag("span", " ", one_line(_finding(f), 300)) for f in worst), kind=kind)


def _finding(finding: Finding) -> str:
    return f"{finding.message}{f' (×{finding.count:,})' if finding.count > 1 else ''}"


def _integrity_section(analysis: TraceAnalysis) -> Html:
    findings = analysis.integrity.findings
    pairs = [(f"{f.severity}: {f.code}", one_line(_finding(f), 600)) for f in findings]
    body: Child = definitions(pairs) if pairs else tag("p", "Nothing was noticed.")
    return section("Integrity", body, id="integrity", lead=f"Verdict: {analysis.integrity.verdict}.")


def _step_section(analysis: TraceAnalysis) -> Html:
    steps = analysis.steps
    return section(
        "One step, to scale",
        _step_facts(steps),
        tag(
            "div",
            tag("button", "Zoom in", type="button", id="zoom-in"),
            tag("button", "Zoom out", type="button", id="zoom-out"),
            tag("button", "Whole step", type="button", id="zoom-all"),
            tag("span", "", class_="count", id="step-window"),
            class_="toolbar",
        ),
        chart("step", "The modal step: kernels per stream, gaps coloured by cause"),
        tag("ul", id="step-legend", class_="legend"),
        id="step-section",
        lead="The modal step of the steady ones. Wheel or buttons zoom, dragging moves, pointing names.",
    )


def _step_facts(steps: Steps) -> Html:
    layers = steps.layers
    shape = None
    if layers is not None:
        shape = f"{layers.count} × {layers.kernels_per_layer:g} kernels + {layers.outside} outside"
        if layers.period_layers > 1:
            shape += f" (repeats every {layers.period_layers} layers, {layers.period_kernels} kernels)"
    name = f" ({one_line(steps.name, 60)})" if steps.name else ""
    return definitions(
        [
            ("found by", f"{steps.method}{name}, confidence {steps.confidence:.0%}"),
            (
                "wall",
                f"{_ms(steps.wall_ns)} ms; 10 % to 90 % of steps {_ms(steps.wall_p10_ns)} to {_ms(steps.wall_p90_ns)}",
            ),
            ("GPU works", f"{_ms(steps.busy_ns)} ms ({_percent(steps.busy_ns or 0, steps.wall_ns or 0)})"),
            ("kernels", f"{_count(steps.kernels_per_step)} from {_count(steps.launches_per_step)} launches"),
            ("layers", shape),
        ]
    )


def _whatif_section(rows: Sequence[WhatIf]) -> Html:
    return section(
        "What if",
        chart("whatif", "The step under each remedy, as a range"),
        tag(
            "ul",
            [tag("li", tag("b", row.remedy), ": ", "; ".join(row.assumptions)) for row in rows],
            class_="assumptions",
        ),
        id="whatif-section",
        lead="What the step would take under each remedy: the pale part of a bar is the range.",
    )


def _gap_section(device: DeviceTimes, *, several: bool) -> Html:
    gaps = device.gaps
    causes = [
        [
            tag("span", tag("span", class_=f"swatch cause-{row.cause}"), CAUSE_WORDS.get(row.cause, row.cause)),
            _count(row.gaps),
            _ms(row.total_ns),
            _percent(row.total_ns, device.idle_ns),
        ]
        for row in gaps.causes
    ]
    host = [[one_line(row.name, 90), _ms(row.total_ns), _percent(row.total_ns, device.idle_ns)] for row in gaps.host]
    large = [
        [
            _ms(gap.duration_ns),
            f"{one_line(gap.before_short, 40)} → {one_line(gap.after_short, 40)}",
            tag("span", tag("span", class_=f"swatch cause-{gap.cause}"), CAUSE_WORDS.get(gap.cause, gap.cause)),
            one_line(gap.api or "–", 40),
            one_line(gap.host or "–", 60),
        ]
        for gap in gaps.large
    ]
    median = "–" if gaps.median_ns is None else f"{gaps.median_ns / 1e3:,.2f} µs"
    return section(
        f"Gaps of GPU {device.device}" if several else "Gaps",
        chart(f"gaps-{device.device}", "How long the gaps are: count and total time"),
        tag(
            "div",
            tag(
                "div",
                tag("h3", "Why the GPU waited"),
                table(["cause", "gaps", "ms", "of idle"], causes, numeric=[1, 2, 3]),
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
        lead=f"{gaps.count:,} gaps, median {median}: {_ms(device.idle_ns)} of {_ms(device.span_ns)} ms "
        f"({_percent(device.idle_ns, device.span_ns)}).",
    )


def _kernel_section(analysis: TraceAnalysis) -> Html:
    return section(
        "Kernels",
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
        lead="A click on a column sorts; share is of the device's busy time.",
    )


def _api_section(analysis: TraceAnalysis) -> Html:
    rows = [
        [one_line(row.name, 80), _count(row.count), _ms(row.total_ns), f"{row.total_ns / row.count / 1e3:,.2f}"]
        for row in analysis.api[:25]
    ]
    return section(
        "API calls",
        table(["call", "count", "ms", "mean µs"], rows, numeric=[1, 2, 3]),
        id="api-section",
        lead="On all host threads, over the whole trace.",
    )


def _data(analysis: TraceAnalysis, device: DeviceTimes | None) -> dict[str, object]:
    """What the scripts draw; long names are cut so that a page stays small."""
    return {
        "device": device and {"busy_ns": device.busy_ns, "idle_ns": device.idle_ns, "causes": device.gaps.causes},
        "histograms": [{"id": f"gaps-{d.device}", "bins": d.gaps.histogram} for d in analysis.devices],
        "causeWords": CAUSE_WORDS,
        "step": analysis.modal_step,
        "stepCauses": analysis.steps.causes,
        "stepWallNs": analysis.steps.wall_ns,
        "whatif": analysis.whatif,
        "kernels": [
            {
                "device": k.device,
                "name": shortened(k.name, NAME_LIMIT),
                "short": k.short_name,
                "family": k.family,
                "count": k.count,
                "per_step": k.per_step,
                "mean_us": k.mean_ns / 1e3,
                "total_ms": k.total_ns / 1e6,
                "share": k.share,
            }
            for k in analysis.kernels[:5_000]
        ],
    }


def comparison_page(comparison: TraceComparison) -> str:
    """Two traces side by side: kernel sums first, then gaps, then counts, then the kernels that changed."""
    names = {"a": one_line(comparison.a, 120), "b": one_line(comparison.b, 120)}
    kernels = [
        [
            one_line(row.short_name, 64),
            row.family,
            _ms(row.a_ns),
            _ms(row.b_ns),
            f"{(row.b_ns - row.a_ns) / 1e6:+,.3f}",
            f"{row.a_count:g}",
            f"{row.b_count:g}",
        ]
        for row in comparison.kernels[:100]
    ]
    return document(
        title=f"{names['a']} and {names['b']}",
        headline=one_line(comparison.headline, 300),
        meta=[f"A: {names['a']}", f"B: {names['b']}", f"per {comparison.per}"],
        sections=[
            _pairs("Kernel sums", comparison.kernel_sums, "kernel-sums"),
            _pairs("Gaps", comparison.gaps, "gaps"),
            _pairs("Counts", comparison.counts, "counts"),
            section(
                "Kernels that changed most",
                table(
                    ["kernel", "family", "A ms", "B ms", "B − A", "A count", "B count"], kernels, numeric=range(2, 7)
                ),
                id="kernels",
            ),
        ],
        scripts=[],
        styles=[asset("trace/page.css")],
        footer=[f"laptime {__version__}", comparison.schema],
    )


def _pairs(title: str, pairs: Sequence[Pair], id: str) -> Html:
    def shown(pair: Pair, value: float | None) -> str:
        if value is None:
            return "–"
        return {"ns": f"{_ms(value)} ms", "share": f"{value:.1%}"}.get(pair.unit, _count(value))

    rows = [
        [
            one_line(pair.name, 60),
            *(shown(pair, value) for value in (pair.a, pair.b, pair.delta)),
            "–" if pair.ratio is None else f"{pair.ratio:.3f}",
        ]
        for pair in pairs
    ]
    return section(title, table(["", "A", "B", "B − A", "B / A"], rows, numeric=[1, 2, 3, 4]), id=id)
