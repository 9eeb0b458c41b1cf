"""What a notebook shows of a result: the report of the terminal, as HTML without a script."""

from __future__ import annotations

import io
from typing import Any

COLUMNS = 110
"""The width of the report in characters; a notebook's cell scrolls where it is narrower."""

FRAME = (
    '<pre class="laptime" style="overflow-x:auto;line-height:1.35;white-space:pre;'
    "font-family:ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace\">{code}</pre>"
)


def notebook_html(result: Any) -> str:
    """The report of a result as one `<pre>`: it works in every notebook, also in one that isn't trusted.

    Raises TypeError for what is no result. The page with its charts: laptime.page.
    """
    from laptime.report.kit.terminal import ReportConsole
    from laptime.report.results import report

    console = ReportConsole(
        record=True, width=COLUMNS, file=io.StringIO(), force_jupyter=False, color_system="truecolor"
    )
    console.print(report(result))
    return console.export_html(inline_styles=True, code_format=FRAME)
