"""Fit what a table teaches: one column of any table, or each stage and the total of a run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import polars

from laptime.data.record import LEFT_OUT
from laptime.data.shown import Shown
from laptime.errors import LaptimeError
from laptime.estimate.estimator import Estimator
from laptime.estimate.files import check_estimator_folder, estimator_folder
from laptime.estimate.judge.evaluation import repeat_labels, target_of
from laptime.estimate.judge.splits import Filtered, OutlierFilter, outlier_filter
from laptime.estimate.roofline.roofline import Rates
from laptime.estimate.roofline.work import Work, work_of_run
from laptime.estimate.table.positions import TARGET as BY_POSITION
from laptime.estimate.table.positions import by_position, position_columns
from laptime.estimate.table.reading import (
    MOST_ROWS,
    STAGE_TARGETS,
    Columns,
    is_run_frame,
    read_table,
    run_columns,
    some_of_each,
    usable_rows,
)
from laptime.estimate.table.table import as_polars, require_columns
from laptime.estimate.table.units import unit_notes
from laptime.estimate.total import TotalEstimator


@dataclass(frozen=True)
class FittedTarget:
    """One fitted column.

    folder: where it was saved, relative to what `out` named; None where nothing was saved.
    removed: what the outlier filter left out of fitting.
    """

    estimator: Estimator
    folder: Path | None
    took_s: float
    removed: Filtered | None


@dataclass(frozen=True)
class FittedRun(Shown):
    """What `fit_run` learnt: an estimator for each target column, and why others were left out."""

    targets: dict[str, FittedTarget]
    skipped: dict[str, str]

    def predictor(self, tokens: list[int] | None = None) -> Estimator | TotalEstimator:
        """The total of the stages, or the only estimator. tokens: equally likely counts of output tokens."""
        estimators = {name: one.estimator for name, one in self.targets.items()}
        if len(estimators) == 1:
            return next(iter(estimators.values()))
        return TotalEstimator.of({name.removesuffix("_ms"): one for name, one in estimators.items()}, tokens)


def fit_run(
    table: Any,
    out: str | Path | None = None,
    options: FitOptions | None = None,
    *,
    force: bool = False,
    progress: Callable[[str, int, int], None] = lambda target, done, of: None,
) -> FittedRun:
    """Learn how long a configuration takes, and save it.

    table: a run folder, a Parquet or CSV file, or a frame.
    out: the folder to write; for a run without a target it holds a folder for each stage. None: nothing is saved.
    force: replace an estimator that is there. It is replaced whole, or not at all.
    progress: called with the target, and how many of them are done.
    Raises LaptimeError for a table that can't be read or learnt from, and a folder that may not or can't be written.
    """
    options = options or FitOptions()
    place = None if out is None else Path(out)
    if place is not None:
        check_estimator_folder(place, force=force)
    source = f"{table}: " if isinstance(table, (str, Path)) else ""
    frame = _frame(table, options)
    whole_run = options.target is None and is_run_frame(frame)
    measured_rows = frame.height
    if options.seed < 0:
        raise LaptimeError(f"the seed can't be negative: {options.seed}")
    frame, each = some_of_each(frame, options.most_rows, options.seed) if is_run_frame(frame) else (frame, None)
    notes = [] if each is None else [_drawn(frame.height, measured_rows, each)]
    tables = _tables_of_run(frame, options) if whole_run else {options.target: frame}
    targets: dict[str, FittedTarget] = {}
    skipped: dict[str, str] = {}
    for done, (target, measured) in enumerate(tables.items()):
        progress(str(target), done, len(tables))
        try:
            fitted = _fit_target(measured, target, options, place, notes, whole_run=whole_run)
        except LaptimeError as error:
            if not whole_run:
                raise LaptimeError(f"{source}{error}") from error
            skipped[str(target)] = str(error)  # a text-only run has no vision to learn
            continue
        targets[fitted.estimator.target] = fitted
    progress("done", len(tables), len(tables))
    if not targets:
        alike: dict[str, list[str]] = {}
        for name, reason in skipped.items():
            alike.setdefault(reason, []).append(name)
        why = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in alike.items())
        raise LaptimeError(f"{source}no stage can be learnt ({why}){_left_out(table, options, measured_rows)}")
    if place is not None:
        _save(targets, place, force=force)
    return FittedRun(targets, skipped)


def _frame(table: Any, options: FitOptions) -> polars.DataFrame:
    if isinstance(table, (str, Path)):
        return read_table(table, options.keep, by_token=options.target is None)
    return as_polars(table)


def _left_out(table: Any, options: FitOptions, used: int) -> str:
    """How many of a run's samples weren't learnt from, and how they would be; empty where all were, or for a frame."""
    if not isinstance(table, (str, Path)):
        return ""
    flagged = read_table(table, sorted(LEFT_OUT))
    if flagged.height <= used or "flags" not in flagged.columns:
        return ""
    names = set(flagged["flags"].fill_null("").str.split(",").explode().to_list()) & LEFT_OUT - set(options.keep)
    return (
        f"; {flagged.height - used} of {flagged.height} samples are flagged and were left out: measure again"
        f" undisturbed, or use them all the same with `keep` {','.join(sorted({*names, *options.keep}))}"
    )


def _tables_of_run(frame: polars.DataFrame, options: FitOptions) -> dict[str | None, polars.DataFrame]:
    """The rows to learn each stage and the total from; decode by position where tokens were marked."""
    tables: dict[str | None, polars.DataFrame] = {
        name: frame for name in STAGE_TARGETS if name in frame.columns and frame[name].drop_nulls().len()
    }
    if not (options.features or options.categorical) and (stretches := by_position(frame)) is not None:
        tables[BY_POSITION] = stretches
    return tables


def _drawn(used: int, of: int, each: int) -> str:
    drawn, measured, most = (f"{number:,}".replace(",", "\u202f") for number in (used, of, each))
    return (
        f"fitted on {drawn} of {measured} calls: at most {most} of each configuration, drawn at random. Bounds hold as "
        "they would from all"
    )


def _fit_target(
    measured: polars.DataFrame,
    target: str | None,
    options: FitOptions,
    out: Path | None,
    notes: list[str],
    *,
    whole_run: bool,
) -> FittedTarget:
    began = time.perf_counter()
    columns = chosen_columns(measured, target, options)
    needed = [columns.target, *columns.features, *columns.categorical, *columns.group]
    rows = usable_rows(measured, needed) if whole_run else measured
    outliers = outliers_of(rows, columns, options.iqr)
    if outliers is not None:
        rows = rows.filter(outliers.keep)
    said = [] if whole_run else unit_notes(columns.target)
    estimator = make_estimator(rows, columns, options, seed=options.seed).fit(rows, notes=[*notes, *said])
    folder = out if out is None or not whole_run else out / columns.target.removesuffix("_ms")
    removed = None if outliers is None else outliers.removed
    return FittedTarget(estimator, folder, time.perf_counter() - began, removed)


def _save(targets: dict[str, FittedTarget], out: Path, *, force: bool) -> None:
    """All of them at once: whoever reads `out` finds what was there before, or all that is new."""
    with estimator_folder(out, force=force) as new:
        for one in targets.values():
            assert one.folder is not None
            part = new / one.folder.relative_to(out)
            part.mkdir(exist_ok=True)
            one.estimator.write_files(part)


class FitOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to fit: everything may be left to its default on a run's own table."""

    target: str | None = None
    """The column to predict, in ms or its name's unit. None on a run: each stage and the total."""
    features: list[str] = []
    """Columns that the target depends on. None of them on a run: those that vary."""
    categorical: list[str] = []
    """Features that are names, not sizes."""
    group: list[str] = []
    """Columns whose rows belong together and are held out together."""
    iqr: float | None = None
    """Leave out times beyond this number of interquartile ranges from the quartiles of their configuration."""
    rates: Rates | None = None
    """The device's measured rates, for a run whose features are not named."""
    keep: list[str] = []
    """Flags whose samples are used all the same."""
    seed: int = 0
    most_rows: int = MOST_ROWS
    """Calls of a run that are learnt from. Of more, some of each configuration are drawn at random."""


def device_rates(bandwidth_gb_s: float | None, tflop_s: float | None) -> Rates | None:
    """What was measured of the device, both or neither. Raises LaptimeError for one alone, or nothing above 0."""
    if bandwidth_gb_s is None and tflop_s is None:
        return None
    if bandwidth_gb_s is None or tflop_s is None:
        raise LaptimeError("`bandwidth_gb_s` and `tflop_s` go together: a roofline has both")
    for name, value in (("`bandwidth_gb_s`", bandwidth_gb_s), ("`tflop_s`", tflop_s)):
        if not 0 < value < float("inf"):
            raise LaptimeError(f"{name} {value:g}: write a rate above 0")
    return Rates(bandwidth_gb_s=bandwidth_gb_s, tflop_s=tflop_s)


def chosen_columns(frame: polars.DataFrame, target: str | None, options: FitOptions) -> Columns:
    """Which column plays which part. Raises LaptimeError for a name that is missing or needed."""
    if target is None:
        raise LaptimeError(f"`target` is needed: the column to predict (the table has {', '.join(frame.columns[:12])})")
    require_columns(frame, [target])
    if options.features or options.categorical:
        return Columns(target, options.features, options.categorical, options.group)
    if not is_run_frame(frame):
        others = ", ".join(name for name in frame.columns if name != target)
        raise LaptimeError(f"`features` is needed: the columns that {target} depends on, of {others}")
    chosen = position_columns(frame) if target == BY_POSITION else run_columns(frame, target)
    return Columns(target, chosen.features, chosen.categorical, options.group or chosen.group)


def make_estimator(rows: polars.DataFrame, columns: Columns, options: FitOptions, *, seed: int) -> Estimator:
    """An estimator that is ready to be fitted to these rows. Raises LaptimeError for rates that can't be used."""
    return Estimator(
        target=columns.target,
        features=columns.features,
        categorical=columns.categorical,
        group=columns.group,
        work=_work(rows, columns, options),
        seed=seed,
    )


def outliers_of(
    frame: polars.DataFrame, columns: Columns, iqr: float | None, *, by_group: bool = False
) -> OutlierFilter | None:
    """The filter that `iqr` asks for. `by_group`: where no two rows are equal, rows of one group count as repeats."""
    if iqr is None:
        return None
    features = [*columns.features, *columns.categorical]
    labels, _ = repeat_labels(frame, features, columns.group if by_group else [])
    return outlier_filter(target_of(frame, columns.target), labels, iqr)


def _work(rows: polars.DataFrame, columns: Columns, options: FitOptions) -> Work | None:
    """The work columns of a run's defaults; none where the user named the features, or of any other table."""
    if options.features or options.categorical or not is_run_frame(rows):
        if options.rates is not None:
            raise LaptimeError("`bandwidth_gb_s` and `tflop_s` go with a run whose features are not named")
        return None
    return work_of_run(rows, columns.target, columns.features, columns.categorical, options.rates)
