"""An engine's marks in a terminal: the stages of each load, what others say of the same requests, the steps."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from laptime.engines.engine_result import EngineReport
from laptime.report.engine.words import (
    beside_row,
    closure,
    facts,
    headline,
    level_lines,
    stage_rows,
    step_line,
)
from laptime.report.kit.terminal import Column, columns_table, with_remarks
from laptime.report.kit.text import one_line

STYLES = {"severe": "bold red", "warning": "yellow", "info": "dim"}


def engine_terminal(report: EngineReport) -> RenderableType:
    """The whole result."""
    stages = columns_table(
        Column("load", max_width=16), Column("requests", numeric=True), Column("stage", narrow="keep"),
        *(Column(head, numeric=True) for head in ("median", "95 % interval", "mean", "share")),
    )  # fmt: skip
    for level in report.levels:
        for row in stage_rows(level):
            stages.add_row(*(Text(cell) for cell in row))
    lines = [Text(closure(report), style="dim")]
    lines += [Text(line, style="dim") for level in report.levels for line in level_lines(level)]
    if report.steps is not None:
        lines.append(Text(step_line(report.steps), style="dim"))
    others = columns_table("figure", "whose", *(Column(head, numeric=True) for head in ("here", "there", "difference")))
    level = report.levels[-1]
    for one in level.beside:
        _, name, whose, here, there, difference, _ = beside_row(level, one)
        others.add_row(*(Text(cell) for cell in (name, whose, here, there, difference)))
    lead = Text(f"The same requests by other programs ({one_line(level.name, 60)}, medians):")
    findings = [Text(one_line(found.message, 400), style=STYLES[found.severity]) for found in report.findings]
    return Group(
        Text(headline(report), style="bold"),
        Text(" · ".join(facts(report)), style="dim"),
        with_remarks(stages, lines),
        *((lead, others) if level.beside else ()),
        *findings,
    )
