"""The subtraction way beside the direct one, so that anybody can see its error."""

from __future__ import annotations

from laptime.data.summary import SubtractionSummary
from laptime.report.kit.html import Html, chart, section, table, tag
from laptime.report.kit.numbers import percent, text


def subtraction_section(error: SubtractionSummary) -> Html:
    """The old way beside the direct one."""
    clamped = percent(error.clamped / error.samples)
    relative = f" ({percent(error.error_relative_mean)} of decode)" if error.error_relative_mean is not None else ""
    rows = [
        ["Inputs timed in three separate calls", str(error.samples)],
        ["Decode came out negative and was clamped to 0", f"{error.clamped} ({clamped})"],
        ["What was left for decode", f"{text(error.residual_low_ms, 'ms')} to {text(error.residual_high_ms, 'ms')}"],
        ["Mean error against the direct decode", text(error.error_mean_ms, "ms")],
        ["Mean absolute error", text(error.error_abs_mean_ms, "ms") + relative],
    ]
    return section(
        "What subtraction would have said",
        tag(
            "div",
            chart("subtraction-chart", "Decode by subtraction against decode measured directly, a dot for each input"),
            table([], rows, numeric=[1]),
            class_="columns",
        ),
        id="subtraction",
        lead="Vision, prefill and total timed in calls of their own, decode as what is left, clamped at zero. No other "
        "figure of this page is made this way.",
    )
