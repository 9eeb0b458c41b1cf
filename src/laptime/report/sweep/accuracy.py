"""Accuracy against latency: the section of a sweep's page that shows the front."""

from __future__ import annotations

from laptime.report.kit.html import Html, chart, note, section, table
from laptime.report.kit.numbers import NOTHING, count, interval_ends, percent, text
from laptime.report.kit.text import counted
from laptime.report.sweep.words import config_text
from laptime.sweeps.summary.result import ConfigRow, SweepSummary

FRONT_SHOWN = 40


def accuracy_section(summary: SweepSummary) -> Html:
    """The picture of the front and its table; without scores, how to get them."""
    scored = [row for row in summary.rows if row.accuracy is not None and "total" in row.stages]
    if not scored:
        return section(
            "Accuracy against latency",
            note("No sample has a score. With questions and answers (workload: data) and a metric (workload: score) "
                 "each configuration's accuracy is shown here against its latency."),
            id="accuracy",
        )  # fmt: skip
    rows = {row.config_id: row for row in scored}
    front = [rows[key] for key in summary.pareto if key in rows]
    near = len(summary.near_pareto)
    return section(
        "Accuracy against latency",
        chart("pareto", "Accuracy against total latency, a point for each configuration, and the Pareto front"),
        _front_table(front[:FRONT_SHOWN], summary) if front else None,
        id="accuracy",
        lead=f"The line joins {counted(len(front), 'configuration')} of {count(len(scored))}: no other one is faster "
        "and at least as accurate. The lines at a point are 95 % intervals. Click a point to find its row in the table."
        + (f" By their intervals {count(near)} of the others could be on the front as well (darker)." if near else ""),
    )


def _front_table(front: list[ConfigRow], summary: SweepSummary) -> Html:
    rows = []
    for row in front:
        assert row.accuracy is not None
        total = row.stages["total"]
        ends = NOTHING
        if row.accuracy.low is not None and row.accuracy.high is not None:
            ends = f"{percent(row.accuracy.low)} to {percent(row.accuracy.high)}"
        rows.append([config_text(row.config, summary), text(total.value, "ms"), interval_ends(total, "ms"),
                     percent(row.accuracy.value), ends])  # fmt: skip
    return table(
        ["On the front, fastest first", "total", "95 % interval", "accuracy", "95 % interval"],
        rows,
        numeric=[1, 2, 3, 4],
    )
