"""The sentences about an engine's marks that the terminal and the page both say."""

from __future__ import annotations

from laptime.data.record import Interval
from laptime.engines.engine_result import Beside, EngineLevel, EngineReport, StepFigures
from laptime.report.kit.numbers import NOTHING, count, decimals, interval_ends, number, percent, plain, plain_text, text
from laptime.report.kit.text import counted, one_line

STAGE_HEADS = ("load", "requests", "stage", "median", "95 % interval", "mean", "share")
BESIDE_HEADS = ("load", "figure", "whose", "here", "there", "difference", "largest")


def headline(report: EngineReport) -> str:
    """The point of the run in a sentence: the two largest stages of the last load."""
    level = report.levels[-1]
    largest = sorted(level.stages.items(), key=lambda item: item[1].mean_ms, reverse=True)[:2]
    said = " and ".join(f"{name} {percent(figure.share)}" for name, figure in largest)
    waits = level.kinds.get("beside-prefill", 0.0) + level.kinds.get("stalled", 0.0)
    beside = f"; {percent(waits / level.total.mean_ms)} of it decoding beside, or waiting for, other requests" if (
        waits > 0.01 * level.total.mean_ms) else ""  # fmt: skip
    name = "" if level.name == "engine" else f"{one_line(level.name, 60)}: "
    return f"{name}a request takes {text(level.total.mean_ms, 'ms')}: {said}{beside} (means)"


def facts(report: EngineReport) -> list[str]:
    """A short line of facts."""
    return [
        one_line(f"{report.engine} {report.version}", 80),
        counted(report.requests, "request"),
        *([counted(report.steps.steps, "step")] if report.steps else []),
        "from the client's due to its last byte" if report.client and not report.cross_host else
        "from arrival in the engine to the HTTP server",
        f"clocks joined to {plain_text(report.clock_error_ns, 'ns')}",
        *(f"{count(n)} {one_line(what, 60)}" for what, n in report.left_out.items()),
    ]  # fmt: skip


def stage_rows(level: EngineLevel) -> list[list[str]]:
    """A level's stages as cells under STAGE_HEADS; the total last."""
    rows = []
    figures = [*level.stages.items(), ("total", level.total)]
    for place, (name, figure) in enumerate(figures):
        rows.append(
            [
                one_line(level.name, 60) if place == 0 else "",
                count(level.requests) if place == 0 else "",
                name,
                text(figure.median.value, "ms"),
                interval_ends(figure.median, "ms"),
                text(figure.mean_ms, "ms"),
                percent(figure.share),
            ]
        )
    return rows


def level_lines(level: EngineLevel) -> list[str]:
    """What else is known of a level."""
    name = one_line(level.name, 60)
    lines = []
    if level.cost_ms is not None:
        lines.append(
            f"{name}: a request waits for {text(level.total.mean_ms, 'ms')} and costs {text(level.cost_ms, 'ms')} of "
            "the engine's steps, its share by tokens (means)"
        )
    known = [
        f"time to the first token {text(level.ttft_ms.value, 'ms')}",
        *([f"decode per token {text(level.decode_per_token_ms.value, 'ms')}"] if level.decode_per_token_ms else []),
        *([f"{plain(level.tokens_per_step, 3)} tokens a step"] if level.tokens_per_step else []),
        *([f"{percent(level.cached_share)} of the prompts from the cache"] if level.cached_share is not None else []),
        *(
            [f"{count(level.shared)} of {counted(level.requests, 'request')} shared a step"]
            if level.shared is not None
            else []
        ),
        *([f"{count(level.chunked)} with the prompt in several steps"] if level.chunked else []),
        *([f"{count(level.preempted)} preempted"] if level.preempted else []),
    ]
    lines.append(f"{name}: " + ", ".join(known))
    return lines


def closure(report: EngineReport) -> str:
    """Whether the parts close."""
    worst = max(level.out_of_order_ms for level in report.levels)
    order = "every instant came after the one before it" if worst <= 0 else (
        f"an instant preceded the one before it by {text(worst, 'ms')} at most")  # fmt: skip
    return f"The stages of each of {counted(report.requests, 'request')} sum to its total to the nanosecond; {order}."


def step_line(steps: StepFigures) -> str:
    """The steps in a sentence."""
    kinds = [("decoding only", steps.decode_step), ("prompts only", steps.prefill_step), ("mixed", steps.mixed_step)]
    lengths = ", ".join(f"{name} {_ends(one)}" for name, one in kinds if one is not None)
    gap = f"; {text(steps.gap.value, 'ms')} between two steps" if steps.gap else ""
    skew = f"; {count(steps.workers)} workers ended a step {text(steps.skew.value, 'ms')} apart" if steps.skew else ""
    return (
        f"{counted(steps.steps, 'step')}, {count(steps.mixed)} of them with prompts and decoding mixed: {lengths} "
        f"(medians){gap}; {number(steps.requests_mean)} requests and {number(steps.tokens_mean)} tokens a step on "
        f"average, at most {counted(steps.requests_most, 'request')}{skew}."
    )


def beside_row(level: EngineLevel, one: Beside) -> list[str]:
    """A figure beside another program's, as cells under BESIDE_HEADS."""
    return [
        one_line(level.name, 60), one.name, one.whose, text(one.here_ms, "ms"), text(one.there_ms, "ms"),
        f"{decimals(one.difference_ms, 3)}\xa0ms", f"{decimals(one.largest_ms, 3)}\xa0ms",
    ]  # fmt: skip


def _ends(interval: Interval) -> str:
    return text(interval.value, "ms") if interval else NOTHING
