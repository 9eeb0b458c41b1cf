"""The page of a load on an endpoint: latency against load, and where the time goes as the load grows."""

from __future__ import annotations

from math import ceil, floor, log10

from laptime.engines.result import Level, ServeReport
from laptime.report.kit.environment import environment_pairs
from laptime.report.kit.html import Html, definitions, note, section, table, tag
from laptime.report.kit.numbers import NOTHING, decimals, plain, plain_text, text
from laptime.report.kit.page import asset, document
from laptime.report.kit.text import one_line
from laptime.report.serve.words import HEADS, facts, headline, remarks, row, search_line

ROW, TOP, INSET = 46, 26, 2.0
"""A row's height and the scale's, in pixels; the margin left and right of a picture, in percent of its width.

Places along a picture are in percent, so it fits a phone and its text keeps its size.
"""

PARTS = (
    ("client_wait_ms", "until the client sent it", "wait"),
    ("first_event_ms", "until the first event", "event"),
    ("first_content_ms", "until the first content", "content"),
    ("streaming_ms", "first to last content", "stream"),
    ("end_ms", "until the stream ended", "end"),
)
"""A field of Segments, its name for a reader, its class in the style sheet."""


def serve_page(report: ServeReport) -> str:
    """The whole page as one HTML document."""
    sections = [note(one_line(found.message, 400), kind=found.severity) for found in report.findings]
    sections.append(
        section(
            "Levels",
            table(list(HEADS), [row(level) for level in report.levels], numeric=range(1, len(HEADS))),
            [tag("p", line, class_="small") for line in remarks(report)],
            id="levels",
        )
    )
    sections += [_latency(report), _parts(report)]
    if report.largest is not None:
        sections.append(_search(report))
    engine = [(level, level.engine) for level in report.levels if level.engine]
    if engine:
        rows = [
            [one_line(level.name, 60), one_line(name, 60), decimals(value, 2)]
            for level, said in engine
            for name, value in said.items()
        ]
        lead = "Medians, under the engine's own names and by its own definitions and clock."
        sections.append(section("What the engine itself said", table(["load", "name", "median"], rows, numeric=(2,)),
                                id="engine", lead=lead))  # fmt: skip
    sections.append(section("Client", definitions(environment_pairs(report.environment)), id="environment"))
    return document(
        title=one_line(report.url, 200),
        headline=headline(report),
        meta=facts(report),
        sections=sections,
        data=report,
        styles=[asset("serve/page.css")],
        footer=[f"laptime {report.environment.laptime}", report.schema],
    )


def _latency(report: ServeReport) -> Html:
    """TTFT and total of each level: p50, p90, p99 on one logarithmic scale."""
    drawn = [(level, name, figure) for level in report.levels
             for name, figure in (("TTFT", level.ttft_ms), ("total", level.total_ms))]  # fmt: skip
    values = [p.value_ms for _, _, figure in drawn for p in figure.percentiles if p.value_ms]
    limits = {} if report.slo is None else {"TTFT": report.slo.ttft_ms, "total": report.slo.total_ms}
    if not values:
        return section("Latency against load", tag("p", "No request was answered."), id="latency")
    scale = [*values, *(ms for ms in limits.values() if ms)]
    low, high = log10(min(scale)) - 0.05, log10(max(scale)) + 0.05

    def x(ms: float) -> str:
        return _percent(INSET + (log10(ms) - low) / (high - low) * (100 - 2 * INSET))

    height = TOP + ROW * len(drawn) + 4
    marks: list[Html] = []
    for ms in _ticks(low, high):
        marks.append(tag("line", x1=x(ms), x2=x(ms), y1=TOP - 6, y2=height, class_="tick"))
        marks.append(tag("text", text(ms, "ms", 2), x=x(ms), y=10, class_="tick-name"))
    for place, (level, name, figure) in enumerate(drawn):
        top, y = TOP + ROW * place + 10, TOP + ROW * place + 30
        known = {p.q: p.value_ms for p in figure.percentiles if p.value_ms}
        limit = limits.get(name)
        said = f"{one_line(level.name, 18)} · {name}" + (f" · SLO ≤ {plain_text(limit, 'ms')}" if limit else "")
        marks.append(tag("text", said, x=0, y=top, class_="name"))
        if known:
            ends = x(min(known.values())), x(max(known.values()))
            marks.append(tag("line", x1=ends[0], x2=ends[1], y1=y, y2=y, class_="spread"))
        if limit:
            hint = tag("title", f"the SLO: {name} ≤ {text(limit, 'ms')}")
            marks.append(tag("line", hint, x1=x(limit), x2=x(limit), y1=y - 10, y2=y + 10, class_="limit"))
        for q, ms in known.items():
            kind = "middle" if q == 0.5 else "tail"
            dot = tag("title", f"p{plain(q * 100)}: {text(ms, 'ms')}")
            marks.append(tag("circle", dot, cx=x(ms), cy=y, r=5 if q == 0.5 else 3.5, class_=kind))
        marks.append(tag("text", text(known.get(0.5), "ms"), x="100%", y=top, class_="value"))
    label = "Time to the first token and total of each load: percentiles 50 to 99.9"
    lead = "The large dot is the median, the small ones are p90, p95, p99 and p99.9 where enough requests were sent."
    if any(limits.values()):
        lead += " The upright line is the SLO's limit."
    return section("Latency against load", _picture(marks, height, label), id="latency", lead=lead)


def _parts(report: ServeReport) -> Html:
    levels = [level for level in report.levels if level.segments is not None]
    legend = tag("ul", *(tag("li", tag("span", class_=f"swatch {kind}-swatch"), name) for _, name, kind in PARTS),
                 class_="legend small")  # fmt: skip
    if not levels:
        return section("Where the time goes", tag("p", "No streamed answer was finished."), id="parts")
    longest = max(sum(_times(level)) for level in levels)
    height = ROW * len(levels) + 4
    marks: list[Html] = []
    for place, level in enumerate(levels):
        y, at = ROW * place, 0.0
        marks.append(tag("text", one_line(level.name, 24), x=0, y=y + 10, class_="name"))
        marks.append(tag("text", text(sum(_times(level)), "ms"), x="100%", y=y + 10, class_="value"))
        for (_, name, kind), ms in zip(PARTS, _times(level), strict=True):
            width = ms / longest * 100
            hint = tag("title", f"{name}: {text(ms, 'ms')}")
            marks.append(tag("rect", hint, x=_percent(at), y=y + 20, width=_percent(width), height=20, class_=kind))
            at += width
    label = "Mean time of a finished request in each part, for each load"
    lead = "Means over finished requests, as the client saw them. A client can't see the engine's own stages."
    shown = _picture(marks, height, label)
    return section("Where the time goes as the load grows", shown, legend, id="parts", lead=lead)


def _picture(marks: list[Html], height: int, label: str) -> Html:
    return tag("svg", *marks, width="100%", height=height, class_="loads", role="img", aria_label=label)


def _percent(value: float) -> str:
    return f"{round(value, 2)}%"


def _search(report: ServeReport) -> Html:
    assert report.largest is not None
    rows = [
        [plain(rate, 4), decimals(share.value * 100, 1), _ends(share.low, share.high), word]
        for rate, share, word in report.largest.visits
    ]
    return section(
        "The largest load within the SLO",
        table(["requests/s", "good, %", "95 % interval", "the SLO"], rows, numeric=(0, 1, 2)),
        id="search",
        lead=search_line(report.largest),
    )


def _ends(low: float | None, high: float | None) -> str:
    return NOTHING if low is None or high is None else f"{decimals(low * 100, 1)}–{decimals(high * 100, 1)}"


def _times(level: Level) -> list[float]:
    return [max(0.0, getattr(level.segments, field)) for field, _, _ in PARTS]


def _ticks(low: float, high: float) -> list[float]:
    """Few enough that their names don't meet on a phone."""
    steps = (
        (1, 2, 3, 5, 7) if high - low < 0.8 else (1, 2, 5) if high - low < 1.2 else (1, 3) if high - low < 2.2 else (1,)
    )
    powers = range(floor(low), ceil(high) + 1)
    return [step * 10.0**power for power in powers for step in steps if low <= log10(step) + power <= high]
