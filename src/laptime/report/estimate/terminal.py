"""What the estimator's verbs answer, in a terminal: the model card, the evaluation, predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from laptime.estimate.judge.ceiling import Ceiling
from laptime.estimate.judge.evaluation_result import Evaluation, SplitScores, Spread
from laptime.estimate.judge.splits import Filtered
from laptime.estimate.learn.card import ModelCard
from laptime.estimate.predictor import Predictor
from laptime.report.kit.numbers import KEEP_TOGETHER, NOTHING, number, percent, text
from laptime.report.kit.text import counted, one_line

if TYPE_CHECKING:
    import polars

QUESTIONS = {
    "inside": "within what was measured",
    "beyond": "larger or smaller",
    "group": "groups never seen",
    "level": "levels never seen",
}
SPLITS = {
    "given": "the table as it is",
    "random": "rows at random",
    "new-config": "new configurations",
    "largest": "the largest sizes",
    "held-out": "a level never seen",
}
GROUPS_SHOWN = 20


def fit_report(card: ModelCard, folder: str, took_s: float, removed: Filtered | None = None) -> RenderableType:
    """The model card: what was learnt from, what was chosen for which question, and its held-out error."""
    table = simple_table("question", "chosen", "held-out error", "candidates tried", right=(2, 3))
    for choice in card.choices:
        tried = sum(score.question == choice.question for score in card.scores)
        table.add_row(
            Text(QUESTIONS.get(choice.question, choice.question)),
            Text(one_line(choice.candidate, 60)),
            Text("not judged" if choice.error is None else f"±{percent(choice.error)}"),
            Text(str(tried)),
        )
    lines: list[RenderableType] = [
        Text(f"{one_line(card.target, 80)}: {_learnt_from(card)}, fitted in {took_s:.1f} s", style="bold"),
        table,
        Text(f"  {one_line(folder, 300)}"),
    ]
    lines += [Text(f"  {line}") for line in filter_lines(removed)]
    lines += [Text(f"  note: {one_line(note, 400)}", style="dim") for note in card.notes]
    return Group(*lines)


def evaluation_report(found: Evaluation) -> RenderableType:
    """R2 beside its ceiling, errors, coverage and width for each way of holding out, then groups and spreads."""
    several = any(split.metrics["mape"].n > 1 for split in found.splits if "mape" in split.metrics)
    parts: list[RenderableType] = [Text(evaluation_headline(found), style="bold")]
    parts += [Text(f"  {line}") for line in ceiling_lines(found)]
    parts.append(_splits_table(found.splits, found.q))
    if several:
        parts.append(Text("  mean ± standard deviation over the splits of a kind", style="dim"))
    if shown := [split for split in found.splits if split.groups]:
        new = [split for split in shown if split.kind == "new-config"]
        parts.append(_groups_table((new or shown)[0], found.grouped_by))
    if found.filtered is not None and found.unfiltered is not None:
        parts += [Text(f"  {line}") for line in filter_lines(found.filtered)]
        parts += [Text("Fitted on all rows instead:"), _splits_table(found.unfiltered, found.q)]
    parts += [Text(f"  note: {one_line(note, 400)}", style="yellow") for note in found.notes]
    return Group(*parts)


def evaluation_headline(found: Evaluation) -> str:
    """The point in one sentence."""
    if not found.splits:
        return "Nothing was judged"
    split = next((s for s in found.splits if s.kind == "new-config"), found.splits[0])
    mape = split.metrics.get("mape")
    coverage = split.metrics.get("coverage")
    words = f"{one_line(found.target, 80)}, {SPLITS[split.kind]}: "
    words += f"predicted within {percent(mape.mean)} on average" if mape else "judged"
    if coverage:
        words += f"; the {plain_percent(found.q)} bound holds for {percent(coverage.mean)}"
    return words


def ceiling_lines(found: Evaluation) -> Iterator[str]:
    """What the repeats say: the ceiling, and the two spreads that it comes from."""
    top = found.ceiling
    rows = f"{found.rows} rows of {counted(found.configurations, 'configuration')}"
    if top is None:
        yield f"{rows}; no ceiling of R²: no configuration was repeated"
        return
    yield (
        f"{rows}. Repeats of a configuration differ by {percent(top.cv_within)}, all rows by {percent(top.cv_overall)} "
        "(standard deviation over mean)"
    )
    yield f"so no predictor can exceed an R² of {ceiling_text(top)}"


def ceiling_text(top: Ceiling) -> str:
    """The ceiling with its interval."""
    if top.low is None or top.high is None:
        return f"{top.value:.3f}"
    return f"{top.value:.3f} ({top.low:.3f} to {top.high:.3f})"


def predict_report(
    estimator: Predictor,
    frame: polars.DataFrame,
    found: polars.DataFrame,
    q: float,
    budget_ms: float | None,
    *,
    shown: int,
) -> RenderableType:
    """One sentence for one row, a table for several."""
    bound_head = f"P{100 * q:g} bound"
    if len(found) == 1:
        row = found.row(0, named=True)
        bound = "no bound can be promised" if row["bound_ms"] is None else f"at most {text(row['bound_ms'], 'ms')}"
        line = f"{one_line(estimator.target, 60)}: {text(row['median_ms'], 'ms')}, {bound}"
        line += f" in {plain_percent(q)} of cases" if row["bound_ms"] is not None else f" for {plain_percent(q)}"
        parts = [Text(line, style="bold")]
        if budget_ms is not None:
            parts.append(Text(f"  within {text(budget_ms, 'ms')}: probability {percent(row['probability_within'])}"))
        parts.append(Text(f"  {SUPPORT[row['support']]}", style=SUPPORT_STYLE[row["support"]]))
        return Group(*parts)
    names = list(dict.fromkeys([*estimator.features, *estimator.categorical]))
    heads = [*names, "median", bound_head, *(["within"] if budget_ms is not None else []), "support"]
    table = simple_table(*(one_line(head, 24) for head in heads), right=range(len(names), len(heads) - 1))
    for asked, row in zip(
        frame.head(shown).iter_rows(named=True), found.head(shown).iter_rows(named=True), strict=True
    ):
        cells = [one_line(str(asked[name]), 24) for name in names]
        cells += [text(row["median_ms"], "ms"), text(row["bound_ms"], "ms")]
        cells += [percent(row["probability_within"])] if budget_ms is not None else []
        table.add_row(*map(Text, cells), Text(row["support"], style=SUPPORT_STYLE[row["support"]]))
    left = len(found) - shown
    return Group(table, *([Text(f"  {left} more rows: --out FILE.csv or --json", style="dim")] if left > 0 else []))


SUPPORT = {
    "inside": "inside what the estimator was fitted on",
    "near": "near what the estimator was fitted on (up to a quarter beyond): the bound is widened",
    "outside": "outside what the estimator was fitted on: the bound is widened, measure before relying on it",
}
SUPPORT_STYLE = {"inside": "", "near": "yellow", "outside": "bold yellow"}


def plain_percent(share: float) -> str:
    """A round share as it was asked for: 95 %, 99.5 %."""
    return f"{100 * share:g}{KEEP_TOGETHER}%"


def figure_rows(splits: Sequence[SplitScores], q: float) -> list[list[str]]:
    """A row for each figure, a cell for each way of holding out: mean ± standard deviation over its splits."""
    figures: list[tuple[str, str, Callable[[float], str]]] = [
        ("MAPE", "mape", percent),
        ("MAE / mean", "relative_error", percent),
        ("MAE, ms", "mae_ms", number),
        ("RMSE, ms", "rmse_ms", number),
        ("bias (median)", "bias", _signed),
        ("R²", "r2", _three),
        ("R² within reach", "", _three),
        (f"{plain_percent(q)} bound holds", "coverage", percent),
        ("bound / actual", "width", number),
        ("pinball loss, ms", "pinball_ms", number),
    ]
    rows = [
        [head, *(_spread(split.metrics.get(key) if key else split.reachable_r2, show) for split in splits)]
        for head, key, show in figures
    ]
    rows.append(["rows without bound", *(percent(split.abstained) for split in splits)])
    rows.append(["rows held out", *(_held(split) for split in splits)])
    return rows


def _splits_table(splits: Sequence[SplitScores], q: float) -> Table:
    heads = ["", *(SPLITS.get(split.kind, split.kind) for split in splits)]
    table = simple_table(*heads, right=range(1, len(heads)))
    for row in figure_rows(splits, q):
        table.add_row(*map(Text, row))
    return table


def _held(split: SplitScores) -> str:
    times = f", {len(split.details)} times" if len(split.details) > 1 else ""
    return f"{split.test_rows}{times}"


def _groups_table(split: SplitScores, names: Sequence[str]) -> Table:
    table = simple_table(f"{', '.join(names)} ({SPLITS.get(split.kind, split.kind)})", "rows", "MAPE", "bound holds",
                   "bound/actual", right=range(1, 5))  # fmt: skip
    for group in sorted(split.groups, key=lambda g: 1.0 if g.coverage is None else g.coverage)[:GROUPS_SHOWN]:
        cells = [one_line(group.group, 60), str(group.rows), percent(group.mape)]
        cells += [percent(group.coverage), number(group.width)]
        table.add_row(*map(Text, cells))
    if len(split.groups) > GROUPS_SHOWN:
        table.add_row(Text(f"{len(split.groups) - GROUPS_SHOWN} more: --json", style="dim"))
    return table


def filter_lines(removed: Filtered | None) -> Iterator[str]:
    """What an outlier filter removed."""
    if removed is None:
        return
    yield (
        f"outliers beyond {removed.factor:g} interquartile ranges left out of fitting: {removed.removed} of "
        f"{removed.rows} rows ({percent(removed.share)}), {removed.slower} of them slower than their median; "
        f"ceiling {_three(removed.ceiling_before)} → {_three(removed.ceiling_after)}"
    )


def _learnt_from(card: ModelCard) -> str:
    words = f"{counted(card.rows, 'row')} of {counted(card.configurations, 'configuration')}"
    return words + (f" in {counted(card.groups, 'group')}" if card.groups else "")


def _spread(figure: Spread | None, show: Callable[[float], str]) -> str:
    if figure is None:
        return NOTHING
    mean = show(figure.mean)
    return (
        mean
        if figure.n < 2
        else f"{mean.removesuffix(KEEP_TOGETHER + '%')}{KEEP_TOGETHER}±{KEEP_TOGETHER}{show(figure.sd).lstrip('+')}"
    )


def _signed(share: float) -> str:
    return ("+" if share > 0 else "−" if share < 0 else "") + percent(abs(share))


def _three(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}".replace("-", "−")


def simple_table(*heads: str, right: Sequence[int] | range = ()) -> Table:
    """A table with a line under its heads; `right` names the columns of numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for place, head in enumerate(heads):
        table.add_column(Text(head), justify="right" if place in right else "left", no_wrap=place in right)
    return table
