"""The words of remedies: the headline and the cells, the same in a terminal and on a page."""

from __future__ import annotations

from laptime.data.record import Interval
from laptime.remedy import result as conclusion
from laptime.remedy.result import RemedyReport, RemedyRow
from laptime.report.kit.numbers import NOTHING, count, interval_ends, number, percent, ratio, ratio_ends, text
from laptime.report.kit.text import counted, one_line, printable, shortened


def headline(report: RemedyReport) -> str:
    """The result in one sentence. It is about `leading(report)`, as the page's tiles are."""
    return shortened(printable(conclusion.headline(report.rows, number, count)), 300)


def leading(report: RemedyReport) -> RemedyRow:
    """The row that the headline and the tiles speak of."""
    return conclusion.leader(report.rows)


def how_sure(row: RemedyRow) -> str:
    """What a speed-up rests on: 95 % interval 10.9–12.1, not proven: 95 % interval 0.9–2.1."""
    if row.speedup is None:
        return "no remedy was measured to be faster"
    if row.speedup.low is None:
        return f"median of {counted(row.speedup.n, 'round')}; {conclusion.ROUNDS_FOR_AN_INTERVAL} give an interval"
    return f"{'' if conclusion.is_faster(row) else 'not proven: '}95 % interval {ratio_ends(row.speedup)}"


def promised(row: RemedyRow) -> str:
    """The promise as a range: 2.20–2.84 ms."""
    if row.promise is None:
        return NOTHING
    return interval_ends(Interval(row.promise.low_ms, row.promise.low_ms, row.promise.high_ms, 0), "ms")


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
    """After how many tokens the remedy has made up for its preparation: 1 333, never."""
    if row.prepare_s is None:
        return NOTHING
    if row.speedup is None or row.speedup.value <= 1 or row.pays_after_tokens is None:
        return "never"
    return count(row.pays_after_tokens)


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
    return [one_line(fact, 120) for fact in [machine, *shape, *copy, *floor, counted(report.rounds, "round")]]
