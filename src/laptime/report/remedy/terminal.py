"""Remedies in a terminal: the headline, a row for each, what failed and why, what to use for how many tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from laptime.remedy.result import RemedyReport, RemedyRow, is_unsteady
from laptime.report.kit.numbers import NOTHING, count, interval_ends, text
from laptime.report.kit.terminal import Column, columns_table, with_remarks
from laptime.report.kit.text import one_line
from laptime.report.remedy.words import (
    answer_promises,
    answer_time,
    answers_pay,
    facts,
    headline,
    kept,
    lengths,
    pays,
    prepared,
    promised,
    promised_range,
    share,
    stage_time,
    times,
    title,
    to_apply,
    tokens_short,
    verdict,
    with_promised_stages,
)

STYLES = {"kept": "green", "faster": "yellow", "slower": "yellow"}
TIMES = ("per token", "95 % interval", "promised", "kept?", "speed-up", "of copy")
COSTS = ("launches", "gaps", "allocs", "memory", "preparation", "pays after", "tokens")


def remedy_report(report: RemedyReport) -> RenderableType:
    """The whole result. A column in which no row has a value is left out."""
    shown = [row for row in report.rows if row.failed is None]
    names = "; ".join(f"{one_line(row.name, 20)}: {title(row)}" for row in shown)
    return Group(
        Text(headline(report), style="bold"),
        Text(" · ".join([one_line(report.model, 120), *facts(report)]), style="dim"),
        _table(TIMES, shown, _times),
        *_whole_call(report, shown),
        with_remarks(_table(COSTS, shown, _costs), [Text(names, style="dim"), *_remarks(report)]),
    )


def _whole_call(report: RemedyReport, shown: Sequence[RemedyRow]) -> list[RenderableType]:
    """Vision and prefill of each remedy, and answers of several lengths; then what was promised of them."""
    tokens = lengths(report)
    if not tokens:
        return []
    heads = ("vision", "prefill", *(f"{count(n)} tok." for n in tokens))

    def cells(row: RemedyRow) -> list[Text]:
        stages = [stage_time(row, stage) for stage in ("vision", "prefill")]
        return [Text(cell) for cell in (*stages, *(answer_time(report, row.name, n) for n in tokens))]

    lines = [
        f"{one_line(row.name, 20)}, {figures.stage}: promised "
        f"{promised_range(figures.promise.low_ms, figures.promise.high_ms)}, {kept(figures.kept)}"
        for row, figures in with_promised_stages(report)
        if figures.promise is not None
    ]
    lines += [
        f"{one_line(answer.remedy, 20)}, {count(answer.tokens)} tokens: promised "
        f"{promised_range(answer.promised_low_ms, answer.promised_high_ms)}, {answer_time(report, answer.remedy, n)}"
        f"{f', {kept(answer.kept)}' if answer.kept is not None else ''}"
        for n in tokens
        for answer in answer_promises(report, n)
    ]
    note = "whole calls; ~ is computed from the stages of the measured calls"
    return [
        _table(heads, shown, cells),
        *(Text(line, style="dim") for line in [note, *lines]),
        *_paid(report, shown, tokens),
    ]


def _paid(report: RemedyReport, shown: Sequence[RemedyRow], tokens: Sequence[int]) -> list[RenderableType]:
    """After how many answers of each length a remedy's preparation has paid for itself."""
    pay = {(answer.remedy, answer.tokens): answers_pay(answer) for answer in report.answers}
    prepared_ones = [row for row in shown if row.prepare_s is not None and (row.name, tokens[0]) in pay]
    if not prepared_ones:
        return []
    heads = [f"{count(n)} tok." for n in tokens]
    table = _table(heads, prepared_ones, lambda row: [Text(pay.get((row.name, n), NOTHING)) for n in tokens])
    note = (
        "after so many answers of this length the preparation has paid for itself, vision and prefill included; pays "
        "after, below: so many decoded tokens, by the steps alone"
    )
    return [table, Text(note, style="dim")]


def _table(heads: Sequence[str], rows: Sequence[RemedyRow], cells: Callable[[RemedyRow], list[Text]]) -> Table:
    columns = list(zip(*(cells(row) for row in rows), strict=True))
    known = [i for i, column in enumerate(columns) if any(cell.plain != NOTHING for cell in column)]
    shown = [Column(heads[i], numeric=heads[i] != "kept?", narrow="keep") for i in known]
    table = columns_table(Column(narrow="keep"), *shown)
    for n, row in enumerate(rows):
        table.add_row(Text(one_line(row.name, 20)), *(columns[i][n] for i in known))
    return table


def _times(row: RemedyRow) -> list[Text]:
    word = verdict(row)
    return [
        Text(text(row.tpot_ms.value, "ms") if row.tpot_ms else NOTHING, style="bold"),
        Text(interval_ends(row.tpot_ms, "ms")),
        Text(promised(row)),
        Text(word, style=STYLES.get(word, "")),
        Text(times(row.speedup)),
        Text(share(row.bandwidth_share)),
    ]


def _costs(row: RemedyRow) -> list[Text]:
    """Of a step: launches, share of gaps, allocations; then memory, preparation, tokens."""
    return [
        Text(NOTHING if row.launches_per_step is None else count(row.launches_per_step)),
        Text(share(row.gap_share)),
        Text(NOTHING if row.allocations_per_step is None else count(row.allocations_per_step)),
        Text(NOTHING if row.memory_bytes is None else text(float(row.memory_bytes), "bytes", 2)),
        Text(prepared(row)),
        Text(pays(row)),
        Text(tokens_short(row)),
    ]


def _remarks(report: RemedyReport) -> Iterable[Text]:
    for row in report.rows:
        if row.failed is not None:
            yield Text(one_line(f"{row.name} ({title(row)}): {row.failed}", 400), style="yellow")
    advised = [one for one in report.recommendations if one.remedy != report.rows[0].name]
    if report.recommendations and not advised:
        yield Text("no remedy that ran is surely faster than the baseline, for any number of tokens", style="bold")
    if advised:
        unsure = "; not to be trusted now, as the headline says" * is_unsteady(report.rows, report.baseline_alone_ms)
        line = "least time for so many decoded tokens: preparation and steps, without vision and prefill"
        yield Text(line + unsure, style="dim")
    for advice in report.recommendations if advised else []:
        asked = advice.tokens == report.config.get("new_tokens")
        seconds = f"{text(advice.seconds, 's')}, the baseline {text(advice.baseline_seconds, 's')}"
        line = f"{count(advice.tokens)} tokens in a process: {one_line(advice.remedy, 20)} ({seconds})"
        yield Text(line, style="bold" if asked else "")
    if applied := to_apply(report):
        yield Text(one_line(applied, 300), style="bold")
    for line in report.notes:
        yield Text(one_line(line, 400), style="dim")
