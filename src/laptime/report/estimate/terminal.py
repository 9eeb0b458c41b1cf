"""What fit, evaluate and predict say in a terminal: model cards, scores beside their ceiling, predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import polars as pl
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from laptime.estimate.judge.evaluation_result import Evaluation, SplitScores, Spread
from laptime.estimate.learn.card import ModelCard
from laptime.estimate.prediction import Prediction
from laptime.estimate.run_evaluation import JudgedEstimator
from laptime.estimate.run_fit import FittedRun
from laptime.report.estimate.words import (
    QUESTIONS,
    SPLITS,
    SUPPORT,
    basis_line,
    ceiling_lines,
    config_text,
    evaluation_headline,
    filter_lines,
    support_legend,
    support_line,
    value_text,
)
from laptime.report.kit.numbers import (
    KEEP_TOGETHER,
    NOTHING,
    count,
    decimals,
    duration,
    number,
    percent,
    plain_percent,
    plain_text,
    signed_percent,
    text,
)
from laptime.report.kit.terminal import Column, columns_table, with_remarks
from laptime.report.kit.text import counted, one_line

GROUPS_SHOWN = 20
NARROW = 40
"""So many characters are left for what was asked, beside the figures in 80 columns."""
ROWS_SHOWN = 50
BASES_SHOWN = 5
CHOSEN = (
    "Chosen: of the ways to predict that were tried (candidates), the one that erred least on rows that it had not"
    " seen; docs/estimate.md describes them."
)
SUPPORT_STYLE = {"inside": "", "near": "yellow", "outside": "bold yellow", "unknown": "bold red"}


def fit_report(fitted: FittedRun) -> RenderableType:
    """The model card of each estimator, where it is and how long it took to fit."""
    cards = [one.estimator.card for one in fitted.targets.values()]
    of_all = [note for note in cards[0].notes if all(note in card.notes for card in cards)] if len(cards) > 1 else []
    reports: list[RenderableType] = []
    for one in fitted.targets.values():
        lines = [] if one.folder is None else [one_line(str(one.folder), 300)]
        lines += [f"fitted in {duration(one.took_s)}", *filter_lines(one.removed)]
        reports.append(card_report(one.estimator.card, lines, said=of_all))
    lines = [CHOSEN, *(f"for each of the {len(cards)}: {one_line(note, 400)}" for note in of_all)]
    return Group(*reports, *(Text(line, style="dim") for line in lines))


def card_report(card: ModelCard, lines: Sequence[str] = (), *, said: Sequence[str] = ()) -> RenderableType:
    """What was learnt from, what was chosen for which question, and its held-out error; then lines and notes.

    said: notes that stand elsewhere.
    """
    table = columns_table("question", "chosen", "held-out error", "candidates tried", numeric=(2, 3))
    for chosen in card.choices:
        tried = sum(score.question == chosen.question for score in card.scores)
        table.add_row(
            Text(QUESTIONS.get(chosen.question, chosen.question)),
            Text(one_line(chosen.candidate, 60)),
            Text("not judged" if chosen.error is None else f"±{percent(chosen.error)}"),
            Text(count(tried) if tried else NOTHING),
        )
    notes = [Text(f"note: {one_line(note, 400)}", style="dim") for note in card.notes if note not in said]
    headline = Text(f"{one_line(card.target, 80)}: {_learnt_from(card)}", style="bold")
    return Group(headline, with_remarks(table, [*lines, *notes]))


def judged_report(judged: JudgedEstimator) -> RenderableType:
    """The report of the evaluation."""
    return evaluation_report(judged.evaluation)


def evaluation_report(evaluation: Evaluation) -> RenderableType:
    """R2 beside its ceiling, errors, coverage and width for each way of holding out, then groups and spreads."""
    several = any(split.metrics["mape"].n > 1 for split in evaluation.splits if "mape" in split.metrics)
    parts: list[RenderableType] = [Text(evaluation_headline(evaluation), style="bold")]
    parts += [Text(f"  {line}") for line in ceiling_lines(evaluation)]
    parts.append(_splits_table(evaluation.splits, evaluation.q))
    if several:
        parts.append(Text("  mean ± standard deviation over the splits of a kind", style="dim"))
    if shown := [split for split in evaluation.splits if split.groups]:
        new = [split for split in shown if split.kind == "new-config"]
        parts.append(_groups_table((new or shown)[0], evaluation.grouped_by))
    if evaluation.filtered is not None and evaluation.unfiltered is not None:
        parts += [Text(f"  {line}") for line in filter_lines(evaluation.filtered)]
        parts += [Text("Fitted on all rows instead:"), _splits_table(evaluation.unfiltered, evaluation.q)]
    parts += [Text(f"  note: {one_line(note, 400)}", style="yellow") for note in evaluation.notes]
    return Group(*parts)


def prediction_report(prediction: Prediction) -> RenderableType:
    """One sentence for one row, a table for several."""
    if len(prediction.answers) == 1:
        return Group(*_one_prediction(prediction))
    with_budget = prediction.budget_ms is not None
    heads, asked_cells, same = _asked_cells(prediction)
    figures = ["median", f"{plain_percent(prediction.confidence)} bound", *(["within"] if with_budget else [])]
    columns = [Column(head, narrow="fold") for head in heads]
    table = columns_table(*columns, *figures, "support", numeric=range(len(heads), len(heads) + len(figures)))
    for asked, answer in zip(asked_cells, prediction.answers.head(ROWS_SHOWN).iter_rows(named=True), strict=True):
        cells = [*asked, text(answer["median_ms"], "ms"), text(answer["bound_ms"], "ms")]
        cells += [_probability(answer, "") or NOTHING] if with_budget else []
        table.add_row(*map(Text, cells), Text(answer["support"], style=SUPPORT_STYLE[answer["support"]]))
    left = len(prediction.answers) - ROWS_SHOWN
    remarks = [f"all with {same}"] if same else []
    remarks += [f"{counted(left, 'more row')}: --to FILE.csv or --json"] if left > 0 else []
    shown = prediction.answers.head(ROWS_SHOWN).filter(pl.col("basis").is_not_null())
    bases = [basis_line(row["basis"], bounded=row["bound_ms"] is not None) for row in shown.iter_rows(named=True)]
    remarks += support_legend(prediction.answers["support"].head(ROWS_SHOWN))
    shown_outside = prediction.answers["outside"].head(ROWS_SHOWN).drop_nulls()
    said = [one_line(f"not inside: {one}", 300) for one in shown_outside.unique(maintain_order=True)]
    remarks += said[:BASES_SHOWN]
    remarks += list(dict.fromkeys(bases))[:BASES_SHOWN]
    return with_remarks(table, remarks)


def _asked_cells(prediction: Prediction) -> tuple[list[str], list[list[str]], str]:
    """What tells the rows apart: the heads of its columns, the cells of each row, and what all rows have.

    A column each where these are narrow, else one column with names and values: a name that is cut says nothing.
    """
    names, shown = prediction.features, prediction.asked.head(ROWS_SHOWN)
    rows = [{name: row[name] for name in names} for row in shown.iter_rows(named=True)]
    cells = [[one_line(value_text(row[name]), 60) for name in names] for row in rows]
    widths = [max(len(name), *(len(row[place]) for row in cells)) for place, name in enumerate(names)]
    if sum(widths) + len(widths) <= NARROW:
        return [one_line(name, 60) for name in names], cells, ""
    same = [name for name in names if len({str(row[name]) for row in rows}) == 1] if len(rows) > 1 else []
    same = same if len(same) < len(names) else []
    apart = [[config_text({name: row[name] for name in names if name not in same})] for row in rows]
    return ["row"], apart, config_text({name: rows[0][name] for name in same})


def _one_prediction(prediction: Prediction) -> Iterator[RenderableType]:
    answer = prediction.answers.row(0, named=True)
    sure = plain_percent(prediction.confidence)
    if answer["unknown"] is not None:
        yield Text(f"{one_line(prediction.target, 60)}: unknown. {one_line(answer['unknown'], 300)}", style="bold red")
        yield Text(f"  {SUPPORT['unknown']}", style=SUPPORT_STYLE["unknown"])
        return
    line = f"{one_line(prediction.target, 60)}: {text(answer['median_ms'], 'ms')}, "
    if answer["bound_ms"] is None:
        line += f"no bound can be promised for {sure}"
    else:
        line += f"at most {text(answer['bound_ms'], 'ms')} in {sure} of cases"
    yield Text(line, style="bold")
    if prediction.budget_ms is not None:
        limit = plain_text(prediction.budget_ms, "ms")
        yield Text(f"  within {limit}: {_probability(answer) or 'no probability can be promised'}")
    line = support_line(answer["support"], bounded=answer["bound_ms"] is not None, outside=answer["outside"])
    yield Text(f"  {line}", style=SUPPORT_STYLE[answer["support"]])
    if answer["basis"] is not None:
        yield Text(f"  {basis_line(answer['basis'], bounded=answer['bound_ms'] is not None)}")


def _probability(answer: dict[str, Any], before: str = "probability ") -> str:
    """The probability in words; nothing where neither it nor a bound can be promised: 0 would say that it is late."""
    share = answer["probability_within"]
    return "" if answer["bound_ms"] is None and not share else f"{before}{percent(share)}"


def figure_rows(splits: Sequence[SplitScores], q: float) -> list[list[str]]:
    """A row for each figure, a cell for each way of holding out: mean ± standard deviation over its splits."""
    held = any(split.kind != "given" for split in splits)
    figures: list[tuple[str, str, Callable[[float], str]]] = [
        ("MAPE", "mape", percent),
        ("MAE / mean", "relative_error", percent),
        ("MAE, ms", "mae_ms", number),
        ("RMSE, ms", "rmse_ms", number),
        ("bias (median)", "bias", signed_percent),
        ("R²", "r2", _three),
        ("R² within reach", "", _three),
        (f"{plain_percent(q)} bound holds", "coverage", percent),
        ("bound / actual", "width", number),
        ("pinball loss, ms", "pinball_ms", number),
    ]
    rows = [
        [head, *(_spread(split.metrics.get(key) if key else split.reachable_r2, show) for split in splits)]
        for head, key, show in figures
        if key or held  # of the whole table the ceiling stands in the sentences above
    ]
    rows.append(["rows without bound", *(percent(split.abstained) for split in splits)])
    rows.append(["rows held out" if held else "rows", *(_held(split) for split in splits)])
    return rows


def _splits_table(splits: Sequence[SplitScores], q: float) -> Table:
    heads = ["", *(SPLITS.get(split.kind, split.kind) for split in splits)]
    table = columns_table(*heads, numeric=range(1, len(heads)))
    for row in figure_rows(splits, q):
        table.add_row(*map(Text, row))
    return table


def _held(split: SplitScores) -> str:
    times = f" in {len(split.details)} splits" if len(split.details) > 1 else ""
    return f"{count(split.held_rows)}{times}"


def _groups_table(split: SplitScores, names: Sequence[str]) -> Table:
    head = f"{', '.join(names)} ({SPLITS.get(split.kind, split.kind)})"
    table = columns_table(head, "rows", "MAPE", "bound holds", "bound/actual", numeric=range(1, 5))
    for group in sorted(split.groups, key=lambda g: 1.0 if g.coverage is None else g.coverage)[:GROUPS_SHOWN]:
        cells = [one_line(group.group, 60), count(group.rows), percent(group.mape)]
        cells += [percent(group.coverage), number(group.width)]
        table.add_row(*map(Text, cells))
    if len(split.groups) > GROUPS_SHOWN:
        table.add_row(Text(f"{len(split.groups) - GROUPS_SHOWN} more: --json", style="dim"))
    return table


def _learnt_from(card: ModelCard) -> str:
    words = f"{counted(card.rows, 'row')}, {count(card.configurations)} different"
    return words + (f", in {counted(card.groups, 'group')}" if card.groups else "")


def _spread(figure: Spread | None, show: Callable[[float], str]) -> str:
    if figure is None:
        return NOTHING
    mean = show(figure.mean)
    if figure.n < 2:
        return mean
    return f"{mean.removesuffix(KEEP_TOGETHER + '%')}{KEEP_TOGETHER}±{KEEP_TOGETHER}{show(figure.sd).lstrip('+')}"


def _three(value: float | None) -> str:
    return decimals(value, 3)
