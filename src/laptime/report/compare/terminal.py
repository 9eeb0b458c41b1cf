"""A comparison in a terminal: the answer in one line, a row for each stage, then the findings."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.text import Text

from laptime.comparisons.result import Comparison, Side, StageComparison, Verdict
from laptime.data.usable import LEFT_OUT_REASONS
from laptime.report.kit.numbers import KEEP_TOGETHER, NOTHING, count, percent, text
from laptime.report.kit.terminal import Column, columns_table, with_remarks
from laptime.report.kit.text import counted, one_line

STYLES: dict[Verdict, str] = {"faster": "green", "slower": "bold red", "same": "", "inconclusive": "yellow"}
SEVERITIES = {"info": "dim", "warning": "yellow", "severe": "bold red"}


def compare_report(comparison: Comparison) -> RenderableType:
    """The whole comparison; B against A."""
    figures = (Column(head, numeric=True) for head in ("A", "B", "change", _interval_head(comparison)))
    table = columns_table(Column(narrow="keep"), *figures, Column(narrow="keep"))
    for stage in comparison.stages:
        table.add_row(*_cells(stage))
    answer = Text(headline(comparison), style=STYLES[comparison.verdict] or "bold")
    return Group(answer, with_remarks(table, list(_remarks(comparison))))


def headline(comparison: Comparison) -> str:
    """The answer in one sentence."""
    word = comparison.verdict
    deciding = [f"{_name(c.stage)} {change(c.ratio.value)}" for c in comparison.stages if c.verdict == word]
    if word == "same":
        return f"B takes the same time as A: every stage within ±{percent(comparison.min_effect)}."
    if word == "inconclusive":
        known = {c.verdict for c in comparison.stages} - {"inconclusive"}
        what = "for every stage whether" if known else "whether"
        return f"These samples can't decide {what} B is faster or slower than A."
    return f"B is {word} than A: {', '.join(deciding)}."


def change(ratio: float) -> str:
    """A ratio B/A as a signed change: +5.1 %, −12 %, 0 %."""
    share = ratio - 1
    sign = "+" if share > 0 else "−" if share < 0 else ""
    return f"{sign}{percent(round(abs(share), 5))}"


def _interval_head(comparison: Comparison) -> str:
    together = " together" if len(comparison.stages) > 1 else ""
    return f"interval ({comparison.confidence * 100:g}{KEEP_TOGETHER}%{together})"


def _cells(stage: StageComparison) -> list[Text]:
    low, high = stage.ratio.low, stage.ratio.high
    ends = NOTHING if low is None or high is None else f"{change(low)} to {change(high)}"
    return [
        Text(_name(stage.stage).capitalize()),
        Text(text(stage.a_median_ms, "ms")),
        Text(text(stage.b_median_ms, "ms")),
        Text(change(stage.ratio.value), style="bold"),
        Text(ends),
        Text(stage.verdict, style=STYLES[stage.verdict]),
    ]


def _remarks(comparison: Comparison) -> Iterable[Text]:
    paired = any(stage.paired for stage in comparison.stages)
    for letter, side in (("A", comparison.a), ("B", comparison.b)):
        yield Text(_side(letter, side))
    yield Text(
        f"{'Paired by sample and repeat' if paired else 'Not paired: the runs share too few samples'}; "
        f"a change below {percent(comparison.min_effect)} counts as none."
    )
    if undecided := [stage for stage in comparison.stages if stage.verdict == "inconclusive"]:
        needs = ", ".join(f"{_name(stage.stage)} {_needed(stage)}" for stage in undecided)
        yield Text(f"To decide, each run needs about this many more samples: {needs}.", style="yellow")
    for finding in comparison.findings:
        yield Text(one_line(f"{finding.severity}: {finding.message}", 600), style=SEVERITIES[finding.severity])


def _needed(stage: StageComparison) -> str:
    return f"{NOTHING} (too close to the smallest effect)" if stage.more_samples is None else count(stage.more_samples)


def _side(letter: str, side: Side) -> str:
    line = f"{letter}: {one_line(side.run, 200)}, {count(side.used)} of {counted(side.samples, 'sample')}"
    if side.left_out:
        reasons = (f"{count(n)} {flag} ({LEFT_OUT_REASONS.get(flag, 'flagged')})" for flag, n in side.left_out.items())
        line += f"; left out: {', '.join(reasons)}"
    return line + (f"; {count(side.unpaired)} without a partner" if side.unpaired else "")


def _name(stage: str) -> str:
    return stage.replace("_", " ")
