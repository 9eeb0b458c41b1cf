"""Operators by shape against the card's peaks, in a terminal and on the page."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from laptime.report.kit.html import Html, section, tag
from laptime.report.kit.numbers import KEEP_TOGETHER, NOTHING, count, number, percent
from laptime.report.kit.terminal import Column, columns_table, with_remarks
from laptime.report.kit.text import one_line
from laptime.report.trace import words
from laptime.trace.launch_result import LaunchedBy

SHOWN = 10
"""Operators that a terminal shows."""


def operator_times_report(found: LaunchedBy) -> RenderableType:
    """The operators with most time."""
    heads = ("calls", "ms", "TFLOP/s", "GB/s", "of peak")
    table = columns_table(
        Column("operator, shapes", max_width=36, narrow="fold"),
        *(Column(head, numeric=True) for head in heads),
        title="Operators by shape",
    )
    for row in found.work[:SHOWN]:
        table.add_row(
            Text(f"{one_line(row.operator, 60)} {one_line(row.shape, 60)}"),
            count(row.calls),
            words.ms_column(row.total_ns),
            number(in_unit(row.flop_per_second, 1e12)),
            number(in_unit(row.bytes_per_second, 1e9)),
            percent(row.of_peak),
        )
    rest = len(found.work) + found.work_left_out - SHOWN
    more = [f"and {count(rest)} more"] if rest > 0 else []
    return with_remarks(table, [*(Text(line, style="dim") for line in (*more, peak_words(found))), ""])


def operator_times_section(found: LaunchedBy) -> Html:
    """The table that the page's script fills."""
    return section(
        "Operators by shape",
        tag(
            "div",
            tag(
                "input", type="search", id="work-filter", placeholder="Filter by name, kind or shape", aria_label="Find"
            ),
            tag("span", "", class_="count", id="work-count"),
            class_="toolbar",
        ),
        tag("div", id="work-table", class_="table-box"),
        id="work-shapes-section",
        lead=peak_words(found),
    )


def operator_times_data(found: LaunchedBy) -> list[dict[str, object]]:
    """What the script draws."""
    return [
        {
            "short": one_line(row.operator, 90),
            "name": one_line(row.shape, 200) or "no tensor",
            "family": row.kind or "not known",
            "calls": row.calls,
            "total_ms": row.total_ns / 1e6,
            "mean_us": row.total_ns / row.calls / 1e3,
            "tflops": in_unit(row.flop_per_second, 1e12),
            "gbs": in_unit(row.bytes_per_second, 1e9),
            "bound": row.bound or NOTHING,
            "of_peak": row.of_peak,
        }
        for row in found.work
    ]


def in_unit(rate: float | None, unit: float) -> float | None:
    """A rate in a unit; None stays."""
    return None if rate is None else rate / unit


def peak_words(found: LaunchedBy) -> str:
    """What the figures are of, and what the card can do."""
    text = "Rates of the operations and bytes that the recorded shapes need at least, over the device time of the call"
    card = found.card
    if card is None:
        return f"{text}. The trace doesn't name its card, so nothing is said of peaks."
    name = one_line(card.name, 60)
    if card.bytes_per_second is None:
        return f"{text}. The peaks of {name} are not known here."
    half = card.flop_per_second.get("fp16")
    rates = f"{number(card.bytes_per_second / 1e12)}{KEEP_TOGETHER}TB/s"
    if half is not None:
        rates += f", {number(half / 1e12)}{KEEP_TOGETHER}TFLOP/s in 16 bits"
    return (
        f"{text}. Of peak: the least time by the peaks of {name} ({rates}, the maker's) over the measured one."
        " More than 100 % is data that was still in a cache."
    )
