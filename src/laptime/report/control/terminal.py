"""Policies in a terminal: for each budget how often each is right and in time, what they differ by, the answer last."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from laptime.control.judge.result import ControlEvaluation, PolicyPoint
from laptime.report.control.policies import LESS, Kept, at, baselines, budgets, kept, main_policy, names, title
from laptime.report.control.words import (
    answer_lines,
    budget_number,
    facts,
    headline,
    paired_slow_downs,
    points_ends,
    points_number,
    share_ends,
    slow_down_words,
    surely,
    told_differences,
    whole_share,
)
from laptime.report.kit.numbers import NOTHING, number
from laptime.report.kit.text import one_line

STYLES: dict[Kept, str] = {"kept": "green", "short": "yellow", "missed": "bold red", "unfit": "dim"}
SEVERITY_STYLES = {"severe": "bold red", "warning": "yellow", "info": "dim"}
DIFFERENCES_BESIDE = 3
FINDINGS_SHOWN = 12
SLOW_DOWNS_SHOWN = 3
NAME_WIDTH = 26


def control_report(evaluation: ControlEvaluation) -> RenderableType:
    """The whole answer: a table of budgets and policies, one of differences, remarks, the answer as the last line."""
    parts: list[RenderableType] = [
        Text(one_line(evaluation.model, 120), style="bold"),
        Text(" · ".join(facts(evaluation)), style="dim"),
    ]
    if evaluation.points:
        parts.append(_points_table(evaluation))
        parts += [_indented(line) for line in _legend(evaluation)]
    if (differences := _differences_table(evaluation)) is not None:
        parts.append(differences)
    parts += [_indented(line) for line in _remarks(evaluation)]
    parts.append(Text(f"{headline(evaluation)}.", style="bold"))
    return Group(*parts)


def _points_table(found: ControlEvaluation) -> Table:
    main = main_policy(found)
    unfit = any(point.unfit for point in found.points)
    regret = any(point.regret is not None for point in found.points)
    table = _table()
    table.add_column("budget\nms", justify="right", no_wrap=True)
    table.add_column("policy", overflow="ellipsis", max_width=NAME_WIDTH)
    for head in ("right\n%", "interval\n95 %", "in time\n%", "median\nms", "p95\nms"):
        table.add_column(head, justify="right", no_wrap=True)
    for head, shown in (("regret\npoints", regret), ("unfit\n%", unfit)):
        if shown:
            table.add_column(head, justify="right", no_wrap=True)
    for budget in budgets(found):
        rows = [point for name in names(found) if (point := at(found, name, budget)) is not None]
        for i, point in enumerate(rows):
            style = "bold" if point.policy == main else ""
            table.add_row(
                Text(budget_number(budget) if i == 0 else ""),
                Text(title(point.policy), style=style),
                Text(_percent(point.accuracy.value), style=style),
                Text(share_ends(point.accuracy), style="dim"),
                _in_time(point, found.confidence, main),
                Text(number(point.total_ms.value)),
                Text(number(point.total_p95_ms)),
                *([Text(points_number(point.regret.value) if point.regret else NOTHING)] if regret else []),
                *([Text(_percent(point.unfit / max(1, point.questions)) if point.unfit else "")] if unfit else []),
                end_section=i == len(rows) - 1,
            )
    return table


def _in_time(point: PolicyPoint, confidence: float, main: str | None) -> Text:
    how = kept(point, confidence, main)
    return Text(f"{_percent(point.attainment.value)}{' ✗' if how == 'missed' else ''}", style=STYLES.get(how, ""))


def _legend(found: ControlEvaluation) -> Iterator[Text]:
    main = main_policy(found)
    told = [f"in time: share of answers within the budget; {whole_share(found.confidence)} was promised"]
    if any(kept(point, found.confidence, main) == "missed" for point in found.points):
        told.append("✗ surely below that")
    if any(point.regret is not None for point in found.points):
        told.append("regret: points below the oracle")
    if any(point.policy.endswith(LESS) for point in found.points):
        told.append("told less: given a smaller budget than it is judged by")
    if any(point.unfit for point in found.points):
        told.append("unfit: questions for which no choice fits")
    yield Text("; ".join(told), style="dim")


def _differences_table(found: ControlEvaluation) -> Table | None:
    """A row a budget, a column for each policy that the one in question is compared with: points and interval."""
    main = main_policy(found)
    columns = {than: told for than in baselines(found)[:DIFFERENCES_BESIDE] if (told := told_differences(found, than))}
    if main is None or not columns:
        return None
    table = _table()
    table.add_column("budget\nms", justify="right", no_wrap=True)
    for than in columns:
        table.add_column(Text(f"{title(main)} less\n{title(than)}, points"), justify="right", overflow="fold")
    for budget in sorted({one.budget_ms for told in columns.values() for one in told}):
        cells = []
        for told in columns.values():
            one = next((one for one in told if one.budget_ms == budget), None)
            sure = surely(one.accuracy) if one else "unsure"
            words = f"{points_number(one.accuracy.value)} ({points_ends(one.accuracy)})" if one else NOTHING
            words += "*" if one is not None and one.at == "equal attainment" else ""
            cells.append(Text(words, style={"better": "green", "worse": "red"}.get(sure, "dim")))
        table.add_row(Text(budget_number(budget)), *cells)
    if any(one.at == "equal attainment" for told in columns.values() for one in told):
        table.caption = Text("* at equal attainment", style="dim")
        table.caption_justify = "left"
    return table


def _remarks(found: ControlEvaluation) -> Iterator[Text]:
    pairs = paired_slow_downs(found)
    for pair in pairs[:SLOW_DOWNS_SHOWN]:
        yield Text(f"{slow_down_words(pair)}.")
    if len(pairs) > SLOW_DOWNS_SHOWN:
        yield Text(f"{len(pairs) - SLOW_DOWNS_SHOWN} more slow-downs: --json", style="dim")
    for finding in found.findings[:FINDINGS_SHOWN]:
        count = f" (×{finding.count})" if finding.count > 1 else ""
        words = f"{one_line(finding.code, 60)}: {one_line(finding.message, 400)}{count}"
        yield Text(words, style=SEVERITY_STYLES[finding.severity])
    if len(found.findings) > FINDINGS_SHOWN:
        yield Text(f"{len(found.findings) - FINDINGS_SHOWN} more findings: --json", style="dim")
    for line in answer_lines(found):
        yield Text(line)


def _percent(share: float) -> str:
    return f"{share * 100:.1f}" if isfinite(share) else NOTHING


def _indented(line: Text) -> Padding:
    return Padding(line, (0, 0, 0, 1))


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
