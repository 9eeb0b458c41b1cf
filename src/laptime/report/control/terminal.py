"""Policies in a terminal: how often each is right and in time at each budget, then differences, the answer last."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from laptime.control.judge.result import SMALLER_BUDGET, ControlEvaluation, PolicyPoint
from laptime.control.judge.verdict import (
    Kept,
    at,
    baselines,
    budgets,
    differences_to,
    kept,
    main_policy,
    paired_slow_downs,
    policy_names,
    surely,
)
from laptime.report.control.policies import title
from laptime.report.control.words import (
    answer_lines,
    facts,
    headline,
    intervals_note,
    points_ends,
    points_number,
    share_ends,
    share_number,
    slow_down_words,
)
from laptime.report.kit.numbers import NOTHING, number, plain, plain_percent
from laptime.report.kit.terminal import Column, columns_table, with_remarks
from laptime.report.kit.text import counted, one_line

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
        parts.append(with_remarks(_points_table(evaluation), [_legend(evaluation)]))
    if (differences := _differences_table(evaluation)) is not None:
        parts.append(differences)
    parts.append(with_remarks("", list(_remarks(evaluation))))
    parts.append(Text(f"{headline(evaluation)}.", style="bold"))
    return Group(*parts)


def _points_table(evaluation: ControlEvaluation) -> Table:
    main = main_policy(evaluation)
    unfit = any(point.unfit for point in evaluation.points)
    regret = any(point.regret is not None for point in evaluation.points)
    heads = ["right\n%", "interval\n95 %", "in time\n%", "median\nms", "p95\nms"]
    heads += ["regret\npoints"] if regret else []
    heads += ["unfit\n%"] if unfit else []
    table = columns_table(
        Column("budget\nms", numeric=True),
        Column("policy", narrow="fold", max_width=NAME_WIDTH),
        *(Column(head, numeric=True) for head in heads),
    )
    for budget in budgets(evaluation):
        names = policy_names(evaluation)
        points = [point for name in names if (point := at(evaluation, name, budget)) is not None]
        for i, point in enumerate(points):
            style = "bold" if point.policy == main else ""
            table.add_row(
                Text(plain(budget) if i == 0 else ""),
                Text(title(point.policy), style=style),
                Text(share_number(point.accuracy.value), style=style),
                Text(share_ends(point.accuracy), style="dim"),
                _in_time(point, evaluation.confidence, main),
                Text(number(point.total_ms.value)),
                Text(number(point.total_p95_ms)),
                *([Text(points_number(point.regret.value) if point.regret else NOTHING)] if regret else []),
                *([Text(share_number(point.unfit / max(1, point.questions)) if point.unfit else "")] if unfit else []),
                end_section=i == len(points) - 1,
            )
    return table


def _in_time(point: PolicyPoint, confidence: float, main: str | None) -> Text:
    how = kept(point, confidence, main)
    return Text(f"{share_number(point.attainment.value)}{' ✗' if how == 'missed' else ''}", style=STYLES.get(how, ""))


def _legend(evaluation: ControlEvaluation) -> Text:
    main = main_policy(evaluation)
    lines = [f"in time: share of answers within the budget; {plain_percent(evaluation.confidence)} was promised"]
    if any(kept(point, evaluation.confidence, main) == "missed" for point in evaluation.points):
        lines.append("✗ surely below that")
    if any(point.regret is not None for point in evaluation.points):
        lines.append("regret: points below the oracle")
    if any(point.policy.endswith(SMALLER_BUDGET) for point in evaluation.points):
        lines.append("less budget: decides under a smaller budget than it is judged by")
    if any(point.unfit for point in evaluation.points):
        lines.append("unfit: questions for which no choice fits")
    return Text("; ".join(lines), style="dim")


def _differences_table(evaluation: ControlEvaluation) -> Table | None:
    """A row for each budget, a column for each policy that the one in question is compared with."""
    main = main_policy(evaluation)
    columns = {
        than: compared
        for than in baselines(evaluation)[:DIFFERENCES_BESIDE]
        if (compared := differences_to(evaluation, than))
    }
    if main is None or not columns:
        return None
    heads = [Column(f"{title(main)} less\n{title(than)}, points", numeric=True) for than in columns]
    table = columns_table(Column("budget\nms", numeric=True), *heads)
    for budget in sorted({one.budget_ms for compared in columns.values() for one in compared}):
        cells = []
        for compared in columns.values():
            one = next((one for one in compared if one.budget_ms == budget), None)
            verdict = surely(one) if one else "unsure"
            words = f"{points_number(one.accuracy.value)} ({points_ends(one.accuracy)})" if one else NOTHING
            words += "*" if one is not None and one.at == "equal attainment" else ""
            cells.append(Text(words, style={"better": "green", "worse": "red"}.get(verdict, "dim")))
        table.add_row(Text(plain(budget)), *cells)
    equal = any(one.at == "equal attainment" for compared in columns.values() for one in compared)
    table.caption = Text(f"{'* at equal attainment. ' if equal else ''}{intervals_note(evaluation)}", style="dim")
    table.caption_justify = "left"
    return table


def _remarks(evaluation: ControlEvaluation) -> Iterator[Text]:
    pairs = paired_slow_downs(evaluation)
    for pair in pairs[:SLOW_DOWNS_SHOWN]:
        yield Text(f"{slow_down_words(pair)}.")
    if len(pairs) > SLOW_DOWNS_SHOWN:
        yield Text(f"{counted(len(pairs) - SLOW_DOWNS_SHOWN, 'more slow-down')} in --json", style="dim")
    for finding in evaluation.findings[:FINDINGS_SHOWN]:
        times = f" (×{finding.count})" if finding.count > 1 else ""
        words = f"{one_line(finding.code, 60)}: {one_line(finding.message, 400)}{times}"
        yield Text(words, style=SEVERITY_STYLES[finding.severity])
    if len(evaluation.findings) > FINDINGS_SHOWN:
        yield Text(f"{counted(len(evaluation.findings) - FINDINGS_SHOWN, 'more finding')} in --json", style="dim")
    for line in answer_lines(evaluation):
        yield Text(line)
