"""The words of remedies, the same in a terminal and on a page."""

from __future__ import annotations

from laptime.data.record import Interval
from laptime.remedy.result import RemedyReport, RemedyRow
from laptime.report.kit.numbers import KEEP_TOGETHER, NOTHING, THIN, number, percent, text
from laptime.report.kit.text import one_line


def promised(row: RemedyRow) -> str:
    """The promise as a range: 2.20–2.84 ms."""
    if row.promise is None:
        return NOTHING
    return f"{number(row.promise.low_ms)}–{number(row.promise.high_ms)}{KEEP_TOGETHER}ms"


def verdict(row: RemedyRow) -> str:
    """Whether the promise was kept, in a word."""
    if row.kept is None or row.promise is None or row.tpot_ms is None:
        return NOTHING
    if row.kept:
        return "kept"
    return "slower" if row.tpot_ms.value > row.promise.high_ms else "faster"


def times(speedup: Interval | None) -> str:
    """A speed-up: 11.5×."""
    return NOTHING if speedup is None else f"{number(speedup.value)}×"


def prepared(row: RemedyRow) -> str:
    """What preparation takes: 23.2 s, 91 ms."""
    if row.prepare_s is None:
        return NOTHING
    return text(row.prepare_s * 1e3, "ms", 2) if row.prepare_s < 1 else f"{number(row.prepare_s)}{KEEP_TOGETHER}s"


def pays(row: RemedyRow) -> str:
    """After how many tokens the preparation has come back: 1 333, never."""
    if row.prepare_s is None:
        return NOTHING
    if row.speedup is None or row.speedup.value <= 1 or row.pays_after_tokens is None:
        return "never"
    return f"{row.pays_after_tokens:,}".replace(",", THIN)


def tokens(row: RemedyRow) -> str:
    """Whether the greedy tokens are the baseline's."""
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
    """A share of one, in per cent."""
    return NOTHING if value is None else percent(round(value, 3))


def title(row: RemedyRow) -> str:
    """The remedy's title, safe to show."""
    return one_line(row.title, 60)


def facts(report: RemedyReport) -> list[str]:
    """One line of facts: machine, shape, floor."""
    environment = report.environment
    machine = environment.gpu if environment.gpu and environment.device != "cpu" else environment.cpu
    shape = [f"{key.replace('_', ' ')} {value}" for key, value in report.config.items() if value not in (None, 0)]
    floor = [] if report.floor_ms is None else [f"floor {text(report.floor_ms, 'ms')} a token"]
    copy = [] if report.copy_gb_per_s is None else [f"copies {number(report.copy_gb_per_s, 4)} GB/s"]
    return [one_line(fact, 120) for fact in [machine, *shape, *copy, *floor, f"{report.rounds} rounds"]]
