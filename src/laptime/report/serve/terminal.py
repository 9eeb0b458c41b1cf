"""A load on an endpoint in a terminal: the headline, a row for each level, findings."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from laptime.engines.result import ServeReport
from laptime.report.kit.terminal import Column, columns_table, with_remarks
from laptime.report.kit.text import one_line
from laptime.report.serve.words import SHORT_HEADS, facts, headline, remarks, search_line, short_row

STYLES = {"severe": "bold red", "warning": "yellow", "info": "dim"}


def serve_report(report: ServeReport) -> RenderableType:
    """The whole result."""
    first = Column(SHORT_HEADS[0], min_width=12, max_width=20)
    table = columns_table(first, *(Column(head, numeric=True) for head in SHORT_HEADS[1:]))
    for level in report.levels:
        table.add_row(*(Text(cell) for cell in short_row(level)))
    lines = [Text(line, style="dim") for line in remarks(report)]
    if report.largest is not None:
        lines.append(Text(search_line(report.largest)))
    lines += [Text(one_line(found.message, 400), style=STYLES[found.severity]) for found in report.findings]
    if report.folder is not None:
        lines.append(Text(f"run: {one_line(report.folder, 300)}"))
    return Group(
        Text(headline(report), style="bold"),
        Text(" · ".join(facts(report)), style="dim"),
        with_remarks(table, lines),
    )
