"""Requests against the engine's steps: a bar for each life, coloured by what it did or waited for."""

from __future__ import annotations

from collections.abc import Sequence

from laptime.engines.engine_result import EngineReport
from laptime.engines.life import SPAN_WORDS, RequestLife, SpanKind
from laptime.engines.step import StepSample
from laptime.report.kit.html import Html, tag
from laptime.report.kit.numbers import count, plain_text, text
from laptime.report.kit.text import counted, one_line

LEFT, WIDTH, ROW, TOP, STRIP = 138, 1100, 18, 22, 18
"""The picture's sizes in its own units."""
FEWEST = 0.4
"""A span narrower than this is drawn together with its neighbours of the same kind, or not at all."""

LEGEND: tuple[tuple[str, str], ...] = (
    ("other", "client, HTTP, output"), ("preprocessing", "preprocessing"), ("queue", "queue"), ("vision", "vision"),
    ("others-vision", "others' vision"), ("prefill", "prefill"), ("decode", "decode"),
    ("beside-prefill", "decode beside another's prompt"), ("stalled", "waits for a step without it"),
    ("between", "no step"),
)  # fmt: skip

STAGE_CLASSES = ("preprocessing", "queue", "vision", "prefill", "decode")


def gantt(report: EngineReport) -> Html:
    """The picture, its legend beside."""
    lives, steps = report.lives, report.shown_steps
    begin, end = lives[0].spans[0].begin, max(life.spans[-1].end for life in lives)
    scale = (WIDTH - LEFT) / max(end - begin, 1)

    def x(ns: int) -> float:
        return round(LEFT + (min(max(ns, begin), end) - begin) * scale, 2)

    height = TOP + STRIP + ROW * len(lives) + 6
    marks: list[Html] = []
    for ms in _ticks((end - begin) / 1e6):
        at = x(begin + int(ms * 1e6))
        marks.append(tag("line", x1=at, x2=at, y1=TOP - 4, y2=height, class_="tick"))
        marks.append(tag("text", plain_text(ms, "ms"), x=at, y=10, class_="tick-name"))
    marks.append(tag("text", "steps", x=0, y=TOP + STRIP / 2 - 3, class_="soft"))
    marks += [_rect(x(one.begin), x(one.end), TOP, STRIP - 6, _step_class(one), _step_words(one)) for one in steps]
    for place, life in enumerate(lives):
        y = TOP + STRIP + ROW * place
        marks.append(tag("text", _name(life), x=0, y=y + ROW / 2 - 1))
        marks += _bar(life, x, y)
    label = f"{counted(len(lives), 'request')} over {counted(len(steps), 'step')} of the engine"
    picture = tag("svg", *marks, viewBox=f"0 0 {WIDTH} {height}", class_="gantt", role="img", aria_label=label)
    swatches = [
        tag("li", tag("span", class_=f"swatch {kind if kind in STAGE_CLASSES else f'{kind}-swatch'}"), words)
        for kind, words in LEGEND
    ]
    return tag("div", tag("div", picture, class_="scroll"), tag("ul", *swatches, class_="legend small"))


def _bar(life: RequestLife, x, y: float) -> list[Html]:  # type: ignore[no-untyped-def]
    """Neighbours of one kind are one rectangle where they touch on the screen."""
    marks: list[Html] = []
    held: tuple[SpanKind, int, int, int] | None = None
    for span in life.spans:
        if held is not None and held[0] == span.kind and x(span.begin) - x(held[2]) < FEWEST:
            held = (held[0], held[1], span.end, held[3] + 1)
            continue
        if held is not None:
            marks += _drawn(held, x, y)
        held = (span.kind, span.begin, span.end, 1)
    if held is not None:
        marks += _drawn(held, x, y)
    return marks


def _drawn(held: tuple[SpanKind, int, int, int], x, y: float) -> list[Html]:  # type: ignore[no-untyped-def]
    kind, begin, end, parts = held
    if x(end) - x(begin) < FEWEST / 4:
        return []
    words = f"{kind}, {text(end - begin, 'ns')}{f' in {count(parts)} parts' if parts > 1 else ''}: {SPAN_WORDS[kind]}"
    return [_rect(x(begin), x(end), y, ROW - 5, kind, words)]


def _rect(left: float, right: float, y: float, height: float, class_: str, words: str) -> Html:
    return tag("rect", tag("title", words), x=left, y=y, width=max(round(right - left, 2), 0.15), height=height,
               class_=class_)  # fmt: skip


def _step_class(step: StepSample) -> str:
    if step.encoder is not None:
        return "vision"
    return "step-mixed" if step.mixed else "prefill" if step.rows and step.rows[0].prefill else "decode"


def _step_words(step: StepSample) -> str:
    prompts = sum(row.prefill for row in step.rows)
    parts = [f"step {step.number}: {text(step.end - step.begin, 'ns')}", counted(step.tokens, "token"),
             f"{prompts} with prompts, {len(step.rows) - prompts} decoding"]  # fmt: skip
    if step.encoder is not None:
        parts.append(f"encoder {text(step.encoder[1] - step.encoder[0], 'ns')}")
    if step.forward is not None:
        parts.append(f"forward {text(step.forward[1] - step.forward[0], 'ns')}")
    return ", ".join(parts)


def _name(life: RequestLife) -> str:
    request = life.request
    return one_line(f"{request.request_id[-9:]} {request.prompt_tokens or '?'}+{request.output_tokens or '?'}", 20)


def _ticks(length_ms: float) -> Sequence[float]:
    for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 600_000):
        if length_ms / step <= 9:
            return [step * place for place in range(int(length_ms // step) + 1)]
    return []
