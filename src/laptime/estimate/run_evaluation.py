"""Judge a saved estimator on a table, or fit and judge a table by holding rows out in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import polars

from laptime.data.shown import Shown
from laptime.errors import LaptimeError
from laptime.estimate.estimator import Estimator
from laptime.estimate.judge import splits
from laptime.estimate.judge.evaluation import cross_evaluate, evaluate, target_of
from laptime.estimate.judge.evaluation_result import Evaluation
from laptime.estimate.judge.splits import Split
from laptime.estimate.known import require_known
from laptime.estimate.learn.card import ModelCard
from laptime.estimate.learn.conformal import check_confidence
from laptime.estimate.run_fit import FitOptions, chosen_columns, make_estimator, outliers_of
from laptime.estimate.table.reading import Columns, is_run_frame, read_table, usable_rows
from laptime.estimate.table.table import require_columns
from laptime.estimate.total import load_predictor

WORTH_SAYING = 0.02
"""A table of coarse times can have a few rows by chance that the training table has."""
KINDS = ("random", "new-config", "largest", "held-out")


class SplitOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to hold out of a table."""

    kinds: tuple[str, ...] = KINDS
    size: list[str] = []
    """Columns whose product is the size, for "largest". None of them: those that the time grows with."""
    hold_out: list[str] = []
    """Columns whose values are held out one by one. None of them: the categorical ones."""
    seeds: int = 3
    """Random splits of each kind."""


@dataclass(frozen=True)
class JudgedEstimator(Shown):
    """An evaluation, and the card of the estimator that was judged (of the first one, where several were fitted)."""

    evaluation: Evaluation
    card: ModelCard | None

    def _table(self, name: str) -> polars.DataFrame:
        return self.evaluation.frame(name or None)


def evaluate_saved(folder: Path, table: Path, *, confidence: float = 0.95, keep: Sequence[str] = ()) -> JudgedEstimator:
    """Judge what `laptime fit` wrote on another table.

    confidence: the coverage that is asked of the bound.
    keep: flags whose samples are used all the same.
    Raises LaptimeError for input that can't be read or judged.
    """
    check_confidence(confidence)
    predictor = load_predictor(folder)
    frame = read_table(table, keep)
    if predictor.target in frame.columns:
        frame = usable_rows(frame, [predictor.target])
    require_known(predictor, frame, str(table), whole=True)
    try:
        evaluation = evaluate(predictor, frame, q=confidence, source=str(table))
    except LaptimeError as error:
        raise LaptimeError(f"{table}: {error}") from error
    seen = predictor.share_seen(frame)
    notes = evaluation.notes
    if seen is not None and seen >= WORTH_SAYING:
        notes = [
            *notes,
            "rows that it was fitted on make an estimator look better than it is on new ones; judge it on others",
        ]
    evaluation = msgspec.structs.replace(evaluation, fitted_on=seen, notes=notes)
    return JudgedEstimator(evaluation, predictor.card if isinstance(predictor, Estimator) else None)


def evaluate_table(
    table: Path,
    options: FitOptions,
    split_options: SplitOptions,
    *,
    confidence: float = 0.95,
    progress: Callable[[str, int, int], None] = lambda phase, done, of: None,
) -> JudgedEstimator:
    """Fit anew on each split's training rows and judge on the rows held out.

    progress: called after each split, with how many are done. Raises LaptimeError for a table that can't be read,
    learnt from or split.
    """
    check_confidence(confidence)
    frame = read_table(table, options.keep)
    columns = chosen_columns(frame, options.target, options)
    if is_run_frame(frame):
        frame = usable_rows(frame, [columns.target, *columns.features, *columns.categorical])
    estimators: list[Estimator] = []

    def fit(rows: polars.DataFrame, seed: int) -> Estimator:
        estimators.append(make_estimator(rows, columns, options, seed=seed).fit(rows))
        return estimators[-1]

    try:
        planned = list(_splits(frame, columns, split_options))
        outliers = outliers_of(frame, columns, options.iqr, by_group=True)
        evaluation = cross_evaluate(
            fit, frame, _reported(planned, progress), q=confidence, source=str(table), outliers=outliers
        )
    except LaptimeError as error:
        raise LaptimeError(f"{table}: {error}") from error
    return JudgedEstimator(evaluation, estimators[0].card)


def _reported(planned: Sequence[Split], progress: Callable[[str, int, int], None]) -> Iterator[Split]:
    """The splits, one by one; the next is asked for when the one before was judged."""
    for done, split in enumerate(planned, 1):
        yield split
        progress("splits", done, len(planned))


def _splits(frame: polars.DataFrame, columns: Columns, options: SplitOptions) -> Iterator[Split]:
    require_columns(frame, [*options.size, *options.hold_out])
    kinds, seeds = options.kinds, range(options.seeds)
    features = [*columns.features, *columns.categorical]
    alike = splits.row_labels([frame[name].to_numpy() for name in features], len(frame))
    group = splits.row_labels([frame[name].to_numpy() for name in columns.group], len(frame))
    group = group if columns.group else alike
    same = len(set(zip(alike.tolist(), group.tolist(), strict=True))) == len(set(alike.tolist()))
    several = len(set(group.tolist())) > 1
    if "random" in kinds and not (same and "new-config" in kinds and several and group.max() == alike.max()):
        yield from splits.by_group("random", alike, seeds=seeds)
    if "new-config" in kinds and several:
        yield from splits.by_group("new-config", group, seeds=seeds)
    numeric = {name: frame[name].to_numpy() for name in columns.features if frame[name].dtype.is_numeric()}
    by = options.size or splits.growing(numeric, target_of(frame, columns.target))
    if "largest" in kinds and by:
        yield from splits.largest(splits.product([frame[name].to_numpy() for name in by]), name=" × ".join(by))
    if "held-out" in kinds:
        texts = [name for name in columns.features if not frame[name].dtype.is_numeric()]
        for name in options.hold_out or dict.fromkeys([*columns.categorical, *texts]):
            yield from splits.held_out(name, frame[name].to_list())
