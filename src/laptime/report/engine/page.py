"""The page of an engine's marks: requests over steps, where the time goes as the load grows, others' figures beside."""

from __future__ import annotations

import msgspec

from laptime.engines.engine_result import EngineLevel, EngineReport
from laptime.engines.life import SPAN_WORDS
from laptime.report.engine.gantt import gantt
from laptime.report.engine.words import (
    BESIDE_HEADS,
    STAGE_HEADS,
    beside_row,
    closure,
    facts,
    headline,
    level_lines,
    stage_rows,
    step_line,
)
from laptime.report.kit.html import Html, note, section, table, tag
from laptime.report.kit.numbers import percent, text
from laptime.report.kit.page import asset, document
from laptime.report.kit.text import one_line
from laptime.report.profile.data import stage_bar, stage_swatches


def engine_page(report: EngineReport) -> str:
    """The whole page as one HTML document."""
    last = report.levels[-1]
    how_many = "All" if len(report.lives) == last.requests else f"The first {len(report.lives)}"
    drawn = f"{how_many} requests of {one_line(last.name, 60)}"
    sections = [
        *(note(one_line(found.message, 400), kind=found.severity) for found in report.findings),
        section(
            "Requests over the engine's steps",
            gantt(report),
            id="lives",
            lead=f"{drawn}. On top are the steps. A name ends with prompt + output tokens. A request's time in "
            "a shared step is the whole step.",
        ),
        section(
            "Where the time goes as the load grows",
            _bars(report),
            table(list(STAGE_HEADS), [row for level in report.levels for row in stage_rows(level)],
                  numeric=(1, 3, 4, 5, 6)),
            [tag("p", line, class_="small") for line in (closure(report), *_lines(report))],
            id="stages",
        ),
        _kinds(report),
        *_beside(report),
    ]  # fmt: skip
    return document(
        title=one_line(report.source, 200),
        headline=headline(report),
        meta=facts(report),
        sections=sections,
        data=msgspec.structs.replace(report, lives=[], shown_steps=[]),  # they are drawn, and nothing reads them
        styles=[asset("profile/page.css"), asset("engine/page.css")],
        footer=[one_line(f"{report.engine} {report.version}", 80), report.schema],
    )


def _lines(report: EngineReport) -> list[str]:
    lines = [line for level in report.levels for line in level_lines(level)]
    return [*lines, *([step_line(report.steps)] if report.steps else [])]


def _bars(report: EngineReport) -> Html:
    longest = max(level.total.mean_ms for level in report.levels)
    bars = [
        tag("div", tag("h3", f"{one_line(level.name, 60)}: {text(level.total.mean_ms, 'ms')}"),
            stage_bar(_means(level), height=26, scale_ms=longest, labels=False))
        for level in report.levels
    ]  # fmt: skip
    names = dict.fromkeys(name for level in report.levels for name in level.stages)
    return tag("div", *bars, stage_swatches(names))


def _means(level: EngineLevel) -> dict[str, float]:
    return {name: figure.mean_ms for name, figure in level.stages.items()}


def _kinds(report: EngineReport) -> Html:
    rows = [
        [one_line(level.name, 60) if place == 0 else "", kind, SPAN_WORDS[kind], text(ms, "ms"),
         percent(ms / level.total.mean_ms)]
        for level in report.levels
        for place, (kind, ms) in enumerate(level.kinds.items())
    ]  # fmt: skip
    return section(
        "What a request did and waited for",
        table(["load", "part", "from … until", "mean", "share"], rows, numeric=(3, 4)),
        id="kinds",
        lead="The parts of a life, without a hole; they sum to the total.",
    )


def _beside(report: EngineReport) -> list[Html]:
    pairs = [(level, one) for level in report.levels for one in level.beside]
    if not pairs:
        return []
    rows = [[*beside_row(level, one), one.why] for level, one in pairs]
    shown = section(
        "The same requests by other programs",
        table([*BESIDE_HEADS, "why"], rows, numeric=(3, 4, 5, 6)),
        id="beside",
        lead="Medians over the requests that have both; the difference is there less here, and its median.",
    )
    return [shown]
