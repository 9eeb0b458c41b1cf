"""The page of remedies: the promised and the measured time of each in one picture, and what each costs."""

from __future__ import annotations

from math import ceil, floor, log10

from laptime.remedy.result import RemedyReport, RemedyRow, is_unsteady
from laptime.report.kit.environment import environment_pairs
from laptime.report.kit.html import Html, card, cards, definitions, note, section, table, tag
from laptime.report.kit.numbers import NOTHING, count, interval_ends, number, quantity, ratio_ends, text
from laptime.report.kit.page import asset, document
from laptime.report.kit.text import one_line, setting_text
from laptime.report.remedy.words import (
    answer_time,
    answers_pay,
    facts,
    headline,
    how_sure,
    kept,
    leading,
    lengths,
    pays,
    prepared,
    promised,
    promised_range,
    share,
    stage_time,
    times,
    title,
    to_apply,
    tokens,
    verdict,
    with_promised_stages,
)

ROW, TOP, INSET = 46, 26, 3.0
"""The picture's rows and its head, in pixels; what stays free on either side, in percent of its width."""
MOST_TICKS = 6


def remedy_page(report: RemedyReport) -> str:
    """The whole page as one HTML document."""
    sections = [_picture_section(report), _measures_section(report)]
    if report.answers:
        sections.append(_call_section(report))
    sections += [_cost_section(report), _choice_section(report)]
    failed = [row for row in report.rows if row.failed is not None]
    if failed:
        rows = [[title(row), one_line(row.failed or "", 400)] for row in failed]
        sections.append(section("Not measured", table(["remedy", "why"], rows), id="failed"))
    return document(
        title=one_line(report.model, 200),
        headline=headline(report),
        meta=facts(report),
        lead=_lead(report),
        sections=[*sections, _promise_section(report), _environment_section(report)],
        data=report,
        styles=[asset("remedy/page.css")],
        footer=[f"laptime {report.environment.laptime}", report.schema],
    )


def _lead(report: RemedyReport) -> Html:
    """The tiles. They speak of the same remedy as the headline."""
    best = leading(report)
    unsteady = is_unsteady(report.rows, report.baseline_alone_ms)
    sure = "not to be trusted now: the baseline was unsteady" if unsteady else how_sure(best)
    promises = [row for row in report.rows if row.kept is not None]
    rate, unit = quantity(best.tpot_ms.value if best.tpot_ms else None, "ms")
    floor_value, floor_unit = quantity(report.floor_ms, "ms")
    promises_kept = f"{sum(bool(row.kept) for row in promises)} of {len(promises)}" if promises else NOTHING
    return cards(
        card("Time per token", rate, unit, title(best)),
        card("Speed-up", times(best.speedup), "", sure, hint="Baseline over remedy, in neighbouring calls."),
        card("Floor per token", floor_value, floor_unit, "weights and cache, read once at copy bandwidth"),
        card("Bandwidth reached", share(best.bandwidth_share), "", "of what a copy reaches on this machine"),
        card("Promises kept", promises_kept, "", "measured times within the promised range"),
    )


def _picture_section(report: RemedyReport) -> Html:
    rows = [row for row in report.rows if row.tpot_ms is not None]
    missed = any(row.kept is False for row in rows)
    return section(
        "Promised and measured",
        _picture(rows, report.floor_ms),
        tag(
            "ul",
            tag("li", tag("span", class_="swatch promise-swatch"), "promised"),
            tag("li", tag("span", class_="swatch measured-swatch"), "measured, with its 95 % interval"),
            tag("li", tag("span", class_="swatch missed-swatch"), "measured outside the promise") if missed else None,
            tag("li", tag("span", class_="swatch floor-swatch"), "floor") if report.floor_ms else None,
            class_="legend small",
        ),
        id="promised-and-measured",
        lead="Time per token on a logarithmic scale. The bar is the promise, computed from the baseline's trace and "
        "time alone. The dot is the measured time.",
    )


def _picture(rows: list[RemedyRow], floor_ms: float | None) -> Html:
    """A row for each remedy: its name above its bar, so that the whole scale fits a phone."""
    ends = [value for row in rows for value in _values(row)] + ([floor_ms] if floor_ms else [])
    low, high = log10(min(ends)) - 0.04, log10(max(ends)) + 0.04
    height = TOP + ROW * len(rows) + 4

    def x(ms: float) -> str:
        return _percent(at(ms))

    def at(ms: float) -> float:
        return INSET + (log10(ms) - low) / (high - low) * (100 - 2 * INSET)

    marks: list[Html] = []
    for ms in _ticks(10**low, 10**high):
        marks.append(tag("line", x1=x(ms), x2=x(ms), y1=TOP - 6, y2=height, class_="tick"))
        marks.append(tag("text", text(ms, "ms", 2), x=x(ms), y=10, class_="tick-name"))
    if floor_ms:
        marks.append(tag("line", x1=x(floor_ms), x2=x(floor_ms), y1=TOP - 6, y2=height, class_="floor"))
    for i, row in enumerate(rows):
        top, y = TOP + ROW * i + 10, TOP + ROW * i + 31
        marks.append(tag("text", title(row), x=0, y=top, class_="name"))
        if row.promise is not None:
            begin, end = at(row.promise.low_ms), at(row.promise.high_ms)
            width = _percent(max(end - begin, 0.3))
            marks.append(tag("rect", x=_percent(begin), y=y - 9, width=width, height=18, rx=4, class_="promise"))
        if row.tpot_ms is not None:
            if row.tpot_ms.low is not None and row.tpot_ms.high is not None:
                marks.append(tag("line", x1=x(row.tpot_ms.low), x2=x(row.tpot_ms.high), y1=y, y2=y, class_="interval"))
            missed = " missed" if row.kept is False else ""
            marks.append(tag("circle", cx=x(row.tpot_ms.value), cy=y, r=5, class_=f"measured{missed}"))
            marks.append(tag("text", text(row.tpot_ms.value, "ms"), x="100%", y=top, class_="value"))
    label = "Promised range and measured time per token of each remedy"
    return tag("svg", *marks, width="100%", height=height, class_="promises", role="img", aria_label=label)


def _percent(value: float) -> str:
    return f"{round(value, 2)}%"


def _values(row: RemedyRow) -> list[float]:
    values = [row.tpot_ms.value, row.tpot_ms.low, row.tpot_ms.high] if row.tpot_ms else []
    if row.promise is not None:
        values += [row.promise.low_ms, row.promise.high_ms]
    return [value for value in values if value]


def _ticks(low: float, high: float) -> list[float]:
    steps = (1, 2, 5) if high / low > 4 else (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    ticks = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
    return ticks[:: ceil(len(ticks) / MOST_TICKS)] if ticks else []


def _measures_section(report: RemedyReport) -> Html:
    head = [
        "",
        "per token",
        "95 %",
        "promised",
        "kept?",
        "speed-up",
        "95 %",
        "GB/s",
        "of copy",
        "gaps",
        "kernels",
        "launches",
    ]
    rows = [
        [
            title(row),
            text(row.tpot_ms.value, "ms") if row.tpot_ms else NOTHING,
            interval_ends(row.tpot_ms, "ms"),
            promised(row),
            verdict(row),
            times(row.speedup),
            ratio_ends(row.speedup),
            number(row.gb_per_s),
            share(row.bandwidth_share),
            share(row.gap_share),
            count(row.kernels_per_step),
            count(row.launches_per_step),
        ]
        for row in report.rows
        if row.failed is None
    ]
    return section(
        "Measured",
        table(head, rows, numeric=range(1, 12)),
        id="measured",
        lead="Gaps, kernels and launches come from a traced step; times were taken without the profiler.",
    )


def _call_section(report: RemedyReport) -> Html:
    tokens = lengths(report)
    stages = ("vision", "prefill")
    whole = [
        [
            title(row),
            *(stage_time(row, stage) for stage in stages),
            *(answer_time(report, row.name, n) for n in tokens),
        ]
        for row in report.rows
        if row.failed is None
    ]
    promises = [
        [
            f"{title(row)}, {figures.stage}",
            promised_range(figures.promise.low_ms, figures.promise.high_ms) if figures.promise else NOTHING,
            text(figures.measured.value, "ms"),
            NOTHING if figures.floor_ms is None else text(figures.floor_ms, "ms"),
            kept(figures.kept),
            NOTHING,
        ]
        for row, figures in with_promised_stages(report)
    ]
    named = {row.name: title(row) for row in report.rows}
    promises += [
        [
            f"{named.get(answer.remedy, NOTHING)}, {count(answer.tokens)} tokens",
            promised_range(answer.promised_low_ms, answer.promised_high_ms),
            answer_time(report, answer.remedy, answer.tokens),
            NOTHING,
            kept(answer.kept),
            answers_pay(answer),
        ]
        for answer in report.answers
        if answer.remedy == "whole"
    ]
    head = ["", *stages, *(f"{count(n)} tokens" for n in tokens)]
    return section(
        "The whole call",
        table(head, whole, numeric=range(1, len(head))),
        note("What was promised of vision, prefill and whole answers, and what they took:") if promises else None,
        table(["", "promised", "time", "floor", "kept?", "pays after answers"], promises, numeric=(1, 2, 3, 5))
        if promises
        else None,
        id="call",
        lead="From generate() to its return, for answers of several lengths. ~ stands before a time that is computed "
        "from the stages of the measured calls.",
    )


def _cost_section(report: RemedyReport) -> Html:
    rows = [
        [
            title(row),
            ", ".join(row.parts) or NOTHING,
            prepared(row),
            pays(row),
            NOTHING if row.memory_bytes is None else text(float(row.memory_bytes), "bytes"),
            count(row.allocations_per_step),
            text(row.call_ms.value, "ms") if row.call_ms else NOTHING,
            tokens(row),
        ]
        for row in report.rows
        if row.failed is None
    ]
    head = ["", "consists of", "preparation", "pays after", "memory", "allocations per step", "generate()", "tokens"]
    return section(
        "What it costs",
        table(head, rows, numeric=range(2, 7)),
        *(note(one_line(line, 400)) for line in report.notes),
        id="costs",
        lead="Preparation is compiling and capturing, once in a process for each shape of call. It pays after this "
        "many decoded tokens, by the steps alone. Memory is the peak above the baseline's.",
    )


def _choice_section(report: RemedyReport) -> Html:
    names = {row.name: title(row) for row in report.rows}
    asked = report.config.get("new_tokens")
    rows = [
        [
            tag("strong", count(advice.tokens)) if advice.tokens == asked else count(advice.tokens),
            names.get(advice.remedy, one_line(advice.remedy, 60)),
            text(advice.seconds, "s"),
            text(advice.baseline_seconds, "s"),
        ]
        for advice in report.recommendations
    ]
    applied = to_apply(report)
    return section(
        "What to use",
        table(["tokens in a process", "use", "its time", "the baseline's time"], rows, numeric=(0, 2, 3)),
        note(applied, kind="good") if applied else None,
        id="choice",
        lead="The remedy that decodes this many tokens in one process in the least time: its preparation and "
        "its steps, without vision and prefill. Only remedies that are faster than the baseline count.",
    )


def _promise_section(report: RemedyReport) -> Html:
    rows = [
        [
            title(row),
            promised(row),
            one_line(row.promise.source, 80),
            "; ".join(one_line(a, 200) for a in row.promise.assumptions),
        ]
        for row in report.rows
        if row.promise is not None
    ]
    body = (
        table(["", "promised", "from", "assuming"], rows)
        if rows
        else note("There are no promises: they need a GPU's trace.")
    )
    return section("What the promises assume", body, id="assumptions")


def _environment_section(report: RemedyReport) -> Html:
    pairs = [(key.replace("_", " "), setting_text(value)) for key, value in report.config.items()]
    return section(
        "Machine",
        definitions([*pairs, *environment_pairs(report.environment)]),
        id="environment",
    )
