"""The words of remedies: the headline and the cells, the same in a terminal and on a page."""

from __future__ import annotations

from laptime.data.record import Interval
from laptime.remedy import result as conclusion
from laptime.remedy.result import AnswerTime, RemedyReport, RemedyRow, StageFigures
from laptime.report.kit.numbers import NOTHING, count, interval_ends, number, percent, ratio, ratio_ends, text
from laptime.report.kit.text import counted, one_line, printable, shortened


def headline(report: RemedyReport) -> str:
    """The result in one sentence. It is about `leading(report)`, as the page's tiles are."""
    return shortened(printable(conclusion.headline(report.rows, number, count, report.baseline_alone_ms)), 400)


def leading(report: RemedyReport) -> RemedyRow:
    """The row that the headline and the tiles speak of."""
    return conclusion.leader(report.rows)


APPLY = {
    "static": 'model.generate(**inputs, cache_implementation="static", disable_compile=True)',
    "fusion": 'config = CompileConfig(mode="default"); config._compile_all_devices = True; '
    'model.generate(**inputs, cache_implementation="static", compile_config=config)',
    "compiled": 'model.generate(**inputs, cache_implementation="static")',
    "fast": "with laptime.FastDecoder(model) as fast: ids = fast.generate(**inputs, max_new_tokens=64)",
    "whole": "with laptime.FastModel(model) as fast: ids = fast.generate(**inputs, max_new_tokens=64)",
}
"""What a user's own program writes to have a remedy. The others are steps of FastDecoder, with no call of their own."""


def to_apply(report: RemedyReport) -> str | None:
    """How to apply what won; None where nothing is proven, or the machine is too unsteady to tell."""
    row = leading(report)
    if not conclusion.is_faster(row) or conclusion.is_unsteady(report.rows, report.baseline_alone_ms):
        return None
    code = APPLY.get(row.name)
    if code is None:
        return f"To apply {row.name}: it has no call of its own; laptime.FastDecoder holds its parts (docs/remedy.md)"
    return f"To apply {row.name}: {code}"


def how_sure(row: RemedyRow) -> str:
    """What a speed-up rests on: 95 % interval 10.9–12.1, not proven: 95 % interval 0.9–2.1."""
    if row.speedup is None:
        return "no remedy was measured to be faster"
    if row.speedup.low is None:
        return f"median of {counted(row.speedup.n, 'round')}; {conclusion.ROUNDS_FOR_AN_INTERVAL} give an interval"
    return f"{'' if conclusion.is_faster(row) else 'not proven: '}95 % interval {ratio_ends(row.speedup)}"


def promised(row: RemedyRow) -> str:
    """The promise as a range: 2.20–2.84 ms."""
    return NOTHING if row.promise is None else promised_range(row.promise.low_ms, row.promise.high_ms)


def verdict(row: RemedyRow) -> str:
    """Whether the promise was kept, in a word."""
    if row.kept is None or row.promise is None or row.tpot_ms is None:
        return NOTHING
    if row.kept:
        return "kept"
    return "slower" if row.tpot_ms.value > row.promise.high_ms else "faster"


def times(speedup: Interval | None) -> str:
    """A speed-up: 11.5×."""
    return NOTHING if speedup is None else ratio(speedup.value)


def prepared(row: RemedyRow) -> str:
    """What preparation takes: 23.2 s, 91 ms."""
    if row.prepare_s is None:
        return NOTHING
    return text(row.prepare_s, "s", 2 if row.prepare_s < 1 else 3)


def pays(row: RemedyRow) -> str:
    """After how many tokens the remedy has made up for its preparation: 1 333, never; not sure if it is faster."""
    if row.prepare_s is None:
        return NOTHING
    if row.speedup is None or row.speedup.value <= 1 or row.pays_after_tokens is None:
        return "never"
    return count(row.pays_after_tokens) if conclusion.is_faster(row) else "not sure"


def tokens(row: RemedyRow) -> str:
    """Whether the greedy tokens equal the baseline's: same, differ at 3 (2.0 bf16 steps)."""
    if row.tokens_same is None:
        return NOTHING
    if row.tokens_same:
        return "same"
    where = f"differ at {row.first_difference}"
    if row.bf16_steps is None:
        return where
    return f"{where} ({number(abs(row.bf16_steps), 2)} bf16 steps)"


def tokens_short(row: RemedyRow) -> str:
    """The same in a word or two: same, ≠ at 3."""
    return f"≠ at {row.first_difference}" if row.tokens_same is False else tokens(row)


def stage_time(row: RemedyRow, stage: str) -> str:
    """The median time of a stage of the remedy's calls: 6.3 ms."""
    return next((text(figures.measured.value, "ms") for figures in row.stages if figures.stage == stage), NOTHING)


def lengths(report: RemedyReport) -> list[int]:
    """The answer lengths that the result speaks of, ascending."""
    return sorted({answer.tokens for answer in report.answers})


def answer_time(report: RemedyReport, remedy: str, tokens: int) -> str:
    """The time of an answer of this many tokens; ~ before one that is computed from calls of another length."""
    for answer in report.answers:
        if (answer.remedy, answer.tokens) == (remedy, tokens):
            return f"{'' if answer.measured else '~'}{text(answer.ms, 'ms')}"
    return NOTHING


def with_promised_stages(report: RemedyReport) -> list[tuple[RemedyRow, StageFigures]]:
    """Each stage before decode that a remedy has a promise for."""
    return [
        (row, figures)
        for row in report.rows
        for figures in row.stages
        if figures.promise is not None and figures.stage != "decode"
    ]


def answer_promises(report: RemedyReport, tokens: int) -> list[AnswerTime]:
    """The answers of this many tokens whose whole time was promised."""
    return [one for one in report.answers if one.tokens == tokens and one.promised_low_ms is not None]


def promised_range(low_ms: float | None, high_ms: float | None) -> str:
    """A range in ms: 5.4–8.7 ms."""
    if low_ms is None or high_ms is None:
        return NOTHING
    return interval_ends(Interval(low_ms, low_ms, high_ms, 0), "ms")


def kept(measured: bool | None) -> str:
    """Whether a promise was kept, in a word."""
    return NOTHING if measured is None else "kept" if measured else "missed"


def answers_pay(answer: AnswerTime) -> str:
    """After how many answers of this length the preparation has paid for itself."""
    return "never" if answer.pays_after_answers is None else count(answer.pays_after_answers)


def share(value: float | None) -> str:
    """A share of 1 in per cent; what rounds to nothing is 0 %."""
    return NOTHING if value is None else percent(round(value, 3))


def title(row: RemedyRow) -> str:
    """The remedy's title, safe to show."""
    return one_line(row.title, 60)


def facts(report: RemedyReport) -> list[str]:
    """Facts for one line: machine, shape of the call, floor."""
    environment = report.environment
    machine = environment.gpu if environment.gpu and environment.device != "cpu" else environment.cpu
    shape = [f"{key.replace('_', ' ')} {value}" for key, value in report.config.items() if value not in (None, 0)]
    floor = [] if report.floor_ms is None else [f"floor {text(report.floor_ms, 'ms')} a token"]
    copy = [] if report.copy_gb_per_s is None else [f"copies {number(report.copy_gb_per_s, 4)} GB/s"]
    unpromised = [] if environment.gpu and environment.device != "cpu" else ["nothing is promised without a CUDA GPU"]
    said = [machine, *unpromised, *shape, *copy, *floor, counted(report.rounds, "round")]
    return [one_line(fact, 120) for fact in said]
