"""What subtraction would have shown: the sentence, the section of the page and the dots of its chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from laptime.data.record import Subtraction
from laptime.data.subtraction import SubtractionSummary
from laptime.report.kit.html import Html, chart, section, table, tag
from laptime.report.kit.numbers import count, percent, text
from laptime.report.kit.text import counted, shortened

NAME_LIMIT = 120


def subtraction_sentence(error: SubtractionSummary) -> str:
    """How many decode times were clamped at 0, and how far they are off, for the terminal."""
    sentence = f"By subtraction: {count(error.clamped)} of {counted(error.samples, 'decode time')} clamped at 0"
    if error.error_relative_mean is None:
        return f"{sentence}."
    return f"{sentence}; on average they are off by {percent(error.error_relative_mean)} of the direct decode."


def subtraction_section(error: SubtractionSummary) -> Html:
    """Decode by subtraction beside the direct decode: a dot for each input, and the errors of all."""
    relative = f" ({percent(error.error_relative_mean)} of decode)" if error.error_relative_mean is not None else ""
    clamped = f"{count(error.clamped)} ({percent(error.clamped / error.samples)})"
    residuals = f"{text(error.residual_low_ms, 'ms')} to {text(error.residual_high_ms, 'ms')}"
    rows = [
        ["Inputs timed in three separate calls", count(error.samples)],
        ["Decode was negative and is stored as 0", clamped],
        ["Decode by subtraction, before that", residuals],
        ["Mean error against the direct decode", text(error.error_mean_ms, "ms")],
        ["Mean absolute error", text(error.error_abs_mean_ms, "ms") + relative],
    ]
    return section(
        "What subtraction would have shown",
        tag(
            "div",
            chart("subtraction-chart", "Decode by subtraction against decode measured directly, a dot for each input"),
            table([], rows, numeric=[1]),
            class_="columns",
        ),
        id="subtraction",
        lead="Here vision, prefill and the total come from three separate calls, and decode is what is left. A "
        "negative rest is stored as 0. No other number on this page is obtained this way.",
    )


def subtraction_pairs(subtractions: Sequence[Subtraction]) -> list[dict[str, Any]]:
    """The inputs whose decode was measured both ways, for the chart."""
    return [
        {
            "name": shortened(one.sample_id, NAME_LIMIT),
            "direct": round(one.direct.decode_ms, 4),
            "subtracted": round(one.decode_ms, 4),
            "clamped": one.residual_ms < 0,
        }
        for one in subtractions
        if one.direct is not None and one.direct.decode_ms is not None
    ]
