"""Who launched the device's work, in a terminal and on the page: a table, and the tree as an icicle."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from laptime.report.kit.html import Html, chart, section, tag
from laptime.report.kit.numbers import KEEP_TOGETHER, count, percent
from laptime.report.kit.terminal import Column, columns_table, with_remarks
from laptime.report.kit.text import one_line
from laptime.report.trace import words
from laptime.trace.launch_result import LaunchedBy
from laptime.trace.launched_by import PATH

KINDS = {"operator": "operator", "module": "module", "range": "range", "frame": "Python frame"}
SHOWN = {"range": 4, "module": 8, "operator": 8, "frame": 6}
"""How many of each kind a terminal shows, in this order."""


def launched_by_report(found: LaunchedBy) -> RenderableType:
    """Those that launched most, of each kind."""
    table = columns_table(
        Column("", narrow="keep"),
        Column("launched by", max_width=34),
        *(Column(head, numeric=True) for head in ("calls", "own ms", "all ms", "of work")),
        title=f"Who launched the work of GPU {found.device}",
    )
    for kind, shown in SHOWN.items():
        for row in [row for row in found.launchers if row.kind == kind][:shown]:
            table.add_row(
                KINDS[kind],
                Text(last_parts(one_line(row.name, 300), 34)),
                count(row.calls),
                words.ms_column(row.own_ns),
                words.ms_column(row.total_ns),
                percent(row.share),
            )
    lines = [*_not_shown(found), *_remarks(found)]
    return with_remarks(table, [*(Text(line, style="dim") for line in lines), ""])


def _not_shown(found: LaunchedBy) -> list[str]:
    """How many of each kind a terminal leaves out."""
    more = {kind: sum(row.kind == kind for row in found.launchers) - shown for kind, shown in SHOWN.items()}
    parts = [f"{count(n)} more {KINDS[kind]}{'' if n == 1 else 's'}" for kind, n in more.items() if n > 0]
    return [f"and {', '.join(parts)}"] if parts else []


def launched_by_section(found: LaunchedBy) -> Html:
    """The icicle, then the table; the page's script fills both."""
    return section(
        "Who launched it",
        tag(
            "div",
            tag("button", "Whole trace", type="button", id="icicle-all"),
            tag("span", "", class_="count", id="icicle-window"),
            class_="toolbar",
        ),
        chart("icicle", "Device time by the ranges, modules, operators and kernels that it was launched in"),
        tag("ul", id="icicle-legend", class_="legend"),
        tag(
            "div",
            tag(
                "input", type="search", id="launcher-filter", placeholder="Filter by name or kind", aria_label="Filter"
            ),
            tag("span", "", class_="count", id="launcher-count"),
            class_="toolbar",
        ),
        tag("div", id="launcher-table", class_="table-box"),
        [tag("p", line, class_="assumptions") for line in _remarks(found)],
        id="launched-section",
        lead="What was open on the launching thread at the instant of each launch. Each box is as wide as the device "
        "time of what it launched. Click a box to zoom in.",
    )


def launched_by_data(found: LaunchedBy) -> dict[str, object]:
    """What the script draws."""
    return {
        "total": found.total_ns,
        "tree": found.tree,
        "rows": [
            {
                "kind": KINDS[row.kind],
                "family": KINDS[row.kind],
                "short": one_line(row.name.rsplit(PATH, 1)[-1], 90),
                "name": one_line(row.name, 600),
                "calls": row.calls,
                "activities": row.activities,
                "own_ms": row.own_ns / 1e6,
                "total_ms": row.total_ns / 1e6,
                "share": row.share,
            }
            for row in found.launchers
        ],
    }


def _remarks(found: LaunchedBy) -> list[str]:
    total = f"{words.ms_column(found.total_ns)}{KEEP_TOGETHER}ms"
    lines = [
        f"Of {total}, the sum of all durations. Own: launched while nothing of its kind was open inside it."
        " All: launched while it was open."
    ]
    if found.unknown_ns:
        lines.append(f"{words.ms_column(found.unknown_ns)}{KEEP_TOGETHER}ms have no launch in the trace.")
    match = found.capture
    if match is not None and match.named:
        how = (
            "by number and order, with operators that fit them"
            if match.agreement is None
            else f"{percent(match.agreement)} of them by their stated names"
        )
        lines.append(
            f"{one_line(match.file, 60)} names {count(match.activities)} kernels of {count(match.named)} graph replays:"
            f" {how}."
        )
    if found.unnamed_ns:
        lines.append(f"{words.ms_column(found.unnamed_ns)}{KEEP_TOGETHER}ms were launched outside any named range.")
    return lines


def last_parts(path: str, limit: int) -> str:
    """The end of a module's path, as many of its parts as fit."""
    parts: Sequence[str] = path.split(PATH)
    while len(parts) > 1 and len(PATH.join(parts)) + 2 > limit:
        parts = parts[1:]
    text = PATH.join(parts)
    return text if text == path else f"… {text}"
