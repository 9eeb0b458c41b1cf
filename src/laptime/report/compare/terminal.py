"""A comparison in a terminal: the answer in one line, a row for each stage, then the findings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.text import Text

from laptime.comparisons.odds import odds_words
from laptime.comparisons.result import UNKNOWN_NOISE, Comparison, Side, StageComparison, Verdict
from laptime.data.record import Interval
from laptime.data.usable import LEFT_OUT_REASONS
from laptime.report.kit.numbers import KEEP_TOGETHER, NOTHING, count, percent, text
from laptime.report.kit.terminal import Column, columns_table, with_remarks
from laptime.report.kit.text import counted, one_line

STYLES: dict[Verdict, str] = {"faster": "green", "slower": "bold red", "same": "", "inconclusive": "yellow"}
WIDEST = 200
"""A table is as wide as its words and figures are; this is wider."""

SEVERITIES = {"info": "dim", "warning": "yellow", "severe": "bold red"}


def compare_report(comparison: Comparison) -> RenderableType:
    """The whole comparison; B against A."""
    answer = Text(headline(comparison), style=STYLES[comparison.verdict] or "bold")
    rows = _Stages(comparison) if comparison.stages else Group()
    return Group(answer, with_remarks(rows, list(_remarks(comparison))))


@dataclass(frozen=True)
class _Stages:
    """A row for each stage; where the table is too wide for the terminal, a few lines for each."""

    comparison: Comparison

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        heads = ("A", "B", "change", _interval_head(self.comparison))
        table = columns_table(Column(), *(Column(head, numeric=True) for head in heads), Column(narrow="fold"))
        rows = [_cells(stage) for stage in self.comparison.stages]
        for row in rows:
            table.add_row(*row)
        if Measurement.get(console, options.update(width=WIDEST), table).maximum <= options.max_width:
            yield table
            return
        yield Text(f"\n A → B, change, {heads[-1]}")
        for name, a, b, changed, ends, word in rows:
            yield Text.assemble("\n ", name, ": ", word)
            yield Text(f"   {a.plain} → {b.plain}, {changed.plain}")
            if ends.plain != NOTHING:
                yield Text(f"   {ends.plain}")
        yield Text()


def headline(comparison: Comparison) -> str:
    """The answer in one sentence."""
    word = comparison.verdict
    deciding = [
        f"{_name(c.stage)} {change(_judged_ratio(c).value)}"
        for c in comparison.stages
        if c.verdict == word and c.decides
    ]
    if word == "same":
        return f"B takes the same time as A: every stage within ±{percent(comparison.min_effect)}."
    if word == "inconclusive" and comparison.reason == UNKNOWN_NOISE:
        within = [f"{_name(c.stage)} {change(c.ratio.value)}" for c in comparison.stages if _differs_within(c)]
        if within:
            seen = f"Between these two runs lie {', '.join(within)}, and two runs of the same code can differ as much."
        elif any(c.decides and c.ratio.low is None for c in comparison.stages):
            seen = "There are too few samples for an interval within the runs."
        else:
            seen = "Within the runs no difference is sure."
        return f"Inconclusive: {UNKNOWN_NOISE}. {seen}"
    if word == "inconclusive" and comparison.reason is not None:
        return f"Inconclusive: {comparison.reason}."
    if word == "inconclusive":
        if comparison.turns:
            these = counted(len(comparison.turns), "process", "processes")
            return f"{these} can't decide whether B is faster or slower than A."
        known = {c.verdict for c in comparison.stages} - {"inconclusive"}
        what = "for every stage whether" if known else "whether"
        return f"These samples can't decide {what} B is faster or slower than A."
    return f"B is {word} than A: {', '.join(deciding)}."


def _differs_within(stage: StageComparison) -> bool:
    return stage.decides and stage.within_run in ("slower", "faster")


def _judged_ratio(stage: StageComparison) -> Interval:
    return stage.between or stage.ratio


def change(ratio: float) -> str:
    """A ratio B/A as a signed change: +5.1 %, −12 %, 0 %."""
    share = ratio - 1
    sign = "+" if share > 0 else "−" if share < 0 else ""
    return f"{sign}{percent(round(abs(share), 5))}"


def _interval_head(comparison: Comparison) -> str:
    share = f"{comparison.confidence * 100:g}{KEEP_TOGETHER}%"
    if comparison.reason == UNKNOWN_NOISE:
        return f"{share} within the runs"
    return f"interval ({share}{' together' if len(comparison.stages) > 1 else ''})"


def _cells(stage: StageComparison) -> list[Text]:
    shown = _judged_ratio(stage)
    low, high = shown.low, shown.high
    ends = NOTHING if low is None or high is None else f"{change(low)} to {change(high)}"
    return [
        Text(_name(stage.stage).capitalize()),
        Text(text(stage.a_median_ms, "ms")),
        Text(text(stage.b_median_ms, "ms")),
        Text(change(shown.value), style="bold"),
        Text(ends),
        Text(stage.verdict if stage.decides else "too small", style=STYLES[stage.verdict] if stage.decides else "dim"),
    ]


def _remarks(comparison: Comparison) -> Iterable[Text]:
    for letter, side in (("A", comparison.a), ("B", comparison.b)):
        yield Text(_side(letter, side))
    yield Text(f"{_units(comparison)}; a change below {percent(comparison.min_effect)} counts as none.")
    if comparison.stages:
        yield Text(_columns_sentence(comparison))
    if comparison.reason == UNKNOWN_NOISE and len(comparison.stages) > 1:
        yield Text("The intervals hold all together, and say nothing of the noise between runs.")
    if comparison.turns:
        odds = ", ".join(f"{_name(s.stage)} {odds_words(s.odds)}" for s in comparison.stages if s.decides and s.odds)
        if odds:
            yield Text(f"Odds that B differs: {odds}.")
    elif comparison.reason == UNKNOWN_NOISE:
        yield Text(
            "To decide: laptime compare --run COMMAND_A --against COMMAND_B measures both in turns; or name three or "
            "more further runs of A with --baseline.",
            style="yellow",
        )
    elif comparison.reason is None and not any(s.between for s in comparison.stages):
        undecided = [s for s in comparison.stages if s.verdict == "inconclusive" and s.decides]
        if undecided:
            needs = ", ".join(f"{_name(stage.stage)} {_needed(stage)}" for stage in undecided)
            yield Text(f"To decide, each run needs about this many more samples: {needs}.", style="yellow")
    for finding in comparison.findings:
        yield Text(one_line(f"{finding.severity}: {finding.message}", 600), style=SEVERITIES[finding.severity])


def _columns_sentence(comparison: Comparison) -> str:
    """Of what the columns A, B and change are, since the change is no quotient of the other two."""
    paired = all(stage.paired for stage in comparison.stages)
    of = "inputs' medians" if not paired else "samples" if comparison.turns else "paired samples"
    if comparison.turns:
        ratios = "between the two processes of each pair"
    elif any(stage.between for stage in comparison.stages):
        ratios = "of B to each run of A"
    else:
        ratios = "within each pair" if paired else "of each input of B to each of A"
    return f"A and B: medians of a side's {of}. Change: from the ratios {ratios}, so it may not be B / A of them."


def _units(comparison: Comparison) -> str:
    if comparison.turns:
        pairs = max((stage.ratio.n for stage in comparison.stages), default=0)
        return f"Measured in turns: {counted(pairs, 'pair')} of processes"
    if any(stage.paired for stage in comparison.stages):
        return "Paired by sample and repeat"
    return "Not paired: the runs share too few samples"


def _needed(stage: StageComparison) -> str:
    return f"{NOTHING} (too close to the smallest effect)" if stage.more_samples is None else count(stage.more_samples)


def _side(letter: str, side: Side) -> str:
    line = (
        f"{letter}: {one_line(side.run, 200)}, {count(side.used)} of {counted(side.samples - side.warm_ups, 'sample')}"
    )
    line += ", all of them flagged" * side.all_flagged
    if side.measured_left_out:
        left = side.measured_left_out.items()
        flags = (f"{count(n)} {flag} ({LEFT_OUT_REASONS.get(flag, 'flagged')})" for flag, n in left)
        samples = side.samples - side.warm_ups - side.used - side.unpaired
        line += f"; {count(samples)} left out: {', '.join(flags)}"
        if sum(side.measured_left_out.values()) > samples:
            line += "; a sample can carry several of these flags"
    if side.warm_ups:
        line += f"; {counted(side.warm_ups, 'warm-up call')} apart"
    return line + (f"; {count(side.unpaired)} without a partner" if side.unpaired else "")


def _name(stage: str) -> str:
    return stage.replace("_", " ")
