"""The sentences about a load on an endpoint that the terminal and the page both say."""

from __future__ import annotations

from laptime.data.record import Interval
from laptime.engines.result import Figure, LargestLoad, Level, ServeReport, Slo
from laptime.report.kit.numbers import NOTHING, count, interval_ends, percent, plain, plain_percent, plain_text, text
from laptime.report.kit.text import counted, one_line

SHORT_HEADS = ("load", "sent", "failed", "TTFT p50", "p99", "TPOT p50", "total p50", "p99", "req/s")
"""What fits a terminal of 80 columns; the page has all."""

HEADS = ("load", "requests", "failed", "TTFT p50", "p99", "TPOT p50", "p99", "ITL p50", "p99", "total p50", "p99",
         "p99.9", "req/s", "tok/s")  # fmt: skip


def headline(report: ServeReport) -> str:
    """The point of the run in a sentence."""
    if report.largest is not None and report.slo is not None:
        return _largest(report.largest, report.slo)
    answered = [level for level in report.levels if level.finished]
    if not answered:
        return "No request was answered"
    busiest = max(answered, key=lambda level: level.requests_per_s or 0.0)
    first = answered[0]
    said = f"{one_line(first.name, 60)}: first token after {percentile(first.ttft_ms, 0.5)}, {_rate(first)}"
    if busiest is first:
        return f"{said} (median)" if first.finished > 1 else said
    return f"{said}; {one_line(busiest.name, 60)}: {percentile(busiest.ttft_ms, 0.5)}, {_rate(busiest)} (medians)"


def facts(report: ServeReport) -> list[str]:
    """A short line of facts."""
    measured = sum(level.finished + sum(level.failed.values()) for level in report.levels)
    return [
        one_line(report.url, 200),
        *([one_line(report.model, 80)] if report.model else []),
        counted(measured, "request"),
        f"{count(report.warmup)} for warm-up",
        *([f"SLO: {slo_text(report.slo)}"] if report.slo else []),
    ]


def slo_text(slo: Slo) -> str:
    """The limits in words."""
    limits = (("TTFT", slo.ttft_ms), ("TPOT", slo.tpot_ms), ("total", slo.total_ms))
    said = ", ".join(f"{name} ≤ {plain_text(ms, 'ms')}" for name, ms in limits if ms is not None)
    return f"{said} for {plain_percent(slo.share)} of requests"


def percentile(figure: Figure, q: float) -> str:
    """One percentile: its time, "≥ time" where failed requests decide it, a dash where too few were sent."""
    for one in figure.percentiles:
        if one.q == q:
            if one.value_ms is None and one.at_least_ms is not None:
                return f"≥ {text(one.at_least_ms, 'ms')}"
            return text(one.value_ms, "ms")
    return NOTHING


def row(level: Level) -> list[str]:
    """A level as cells, under HEADS."""
    failed = sum(level.failed.values())
    times = [(level.ttft_ms, 0.5), (level.ttft_ms, 0.99), (level.tpot_ms, 0.5), (level.tpot_ms, 0.99)]
    times += [(level.itl_ms, 0.5), (level.itl_ms, 0.99), (level.total_ms, 0.5)]
    times += [(level.total_ms, 0.99), (level.total_ms, 0.999)]
    rates = [level.requests_per_s, level.output_tokens_per_s]
    return [
        one_line(level.name, 60),
        count(level.finished + failed),
        count(failed),
        *(percentile(figure, q) for figure, q in times),
        *(NOTHING if rate is None else plain(rate, 3) for rate in rates),
    ]


def short_row(level: Level) -> list[str]:
    """A level as cells, under SHORT_HEADS."""
    cells = dict(enumerate(row(level)))
    return [cells[place] for place in (0, 1, 2, 3, 4, 5, 9, 10, 12)]


def remarks(report: ServeReport) -> list[str]:
    """What stands under the table."""
    lines = [
        "Times count from when a request was due. Failed requests count as slower than every finished one. A dash "
        "under p99 or p99.9: fewer than 100 or 1 000 values."
    ]
    lines += [
        f"{one_line(level.name, 60)}: {_good(level.good)} of requests were good"
        + ("" if level.goodput_per_s is None else f", {plain(level.goodput_per_s, 3)} a second")
        for level in report.levels
        if level.good is not None
    ]
    lines += [
        f"{one_line(level.name, 60)}: chunks came {percentile(level.chunk_gap_ms, 0.5)} apart (median); a chunk is not "
        "always a token, and ITL is of those answers where it was"
        for level in report.levels
        if level.chunk_gap_ms.n and level.itl_requests < level.finished
    ]
    lines += [
        f"{one_line(level.name, 60)}: the client woke up to {text(level.lag_p99_ms, 'ms')} late and sent up to "
        f"{text(level.late_p99_ms, 'ms')} late (99th percentiles)"
        for level in report.levels
        if level.lag_p99_ms is not None and level.late_p99_ms is not None
    ]
    if any(level.wakes for level in report.levels):
        lines.append(
            "It wakes every few milliseconds, between sends too: waking late delays what is read of answers, and a "
            "request that goes out in between is still on time"
        )
    return lines


def search_line(largest: LargestLoad) -> str:
    """Why the search ended where it did."""
    return f"{counted(len(largest.visits), 'rate')} tried; the search stopped because {one_line(largest.stopped, 200)}"


def _largest(largest: LargestLoad, slo: Slo) -> str:
    limits = slo_text(slo)
    if largest.keeps_per_s is not None and largest.misses_per_s is not None:
        low, high = plain(largest.keeps_per_s, 3), plain(largest.misses_per_s, 3)
        if largest.keeps_per_s >= largest.misses_per_s:
            return f"No single largest load: {low} requests/s kept the SLO and {high} missed it ({limits})"
        return f"The largest load within the SLO is between {low} and {high} requests/s ({limits})"
    if largest.keeps_per_s is not None:
        return f"At least {plain(largest.keeps_per_s, 3)} requests/s keep the SLO ({limits})"
    if largest.misses_per_s is not None:
        return f"Below {plain(largest.misses_per_s, 3)} requests/s, if at all, the SLO is kept ({limits})"
    return f"The requests don't decide whether any load keeps the SLO ({limits})"


def _good(share: Interval) -> str:
    if share.low is None or share.high is None:
        return percent(share.value)
    ends = Interval(share.value * 100, share.low * 100, share.high * 100, share.n)
    return f"{percent(share.value)} ({interval_ends(ends, '%')})"


def _rate(level: Level) -> str:
    return f"{plain(level.requests_per_s, 3)} requests/s"
