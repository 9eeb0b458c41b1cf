"""What a user can choose when an estimator is fitted, and the columns and the work that follow from it.

On a frame of laptime's own runs nothing need be named: the columns that vary are taken, and the work of each call is
computed where the model is known.
"""

from __future__ import annotations

import msgspec
import polars

from laptime.errors import LaptimeError
from laptime.estimate.estimator import Estimator
from laptime.estimate.judge.evaluation import configuration_labels, target_of
from laptime.estimate.judge.outliers import OutlierFilter, outlier_filter
from laptime.estimate.roofline.roofline import Rates
from laptime.estimate.roofline.work import Work, work_of_run
from laptime.estimate.table.positions import TARGET as BY_POSITION
from laptime.estimate.table.positions import position_columns
from laptime.estimate.table.reading import Columns, is_run_frame, run_columns
from laptime.estimate.table.table import require_columns


class FitOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to fit: everything may be left to its default on a run's own table."""

    target: str | None = None
    """The column to predict, in ms. None on a run: each stage and the total."""
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


def device_rates(bandwidth_gb_s: float | None, tflop_s: float | None) -> Rates | None:
    """What was measured of the device, both or neither. Raises LaptimeError for one alone, or nothing above 0."""
    if bandwidth_gb_s is None and tflop_s is None:
        return None
    if bandwidth_gb_s is None or tflop_s is None:
        raise LaptimeError("--bandwidth-gb-s and --tflop-s go together: a roofline has both")
    for name, value in (("--bandwidth-gb-s", bandwidth_gb_s), ("--tflop-s", tflop_s)):
        if not 0 < value < float("inf"):
            raise LaptimeError(f"{name} {value:g}: write a rate above 0")
    return Rates(bandwidth_gb_s=bandwidth_gb_s, tflop_s=tflop_s)


def chosen_columns(frame: polars.DataFrame, target: str | None, options: FitOptions) -> Columns:
    """Which column plays which part. Raises LaptimeError for a name that is missing or needed."""
    if target is None:
        raise LaptimeError(
            f"--target COL is needed: which column to predict (the table has {', '.join(frame.columns[:12])})"
        )
    require_columns(frame, [target])
    if options.features or options.categorical:
        return Columns(target, options.features, options.categorical, options.group)
    if not is_run_frame(frame):
        raise LaptimeError(f"--features a,b,c is needed: the columns that {target} depends on")
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
    labels, _ = configuration_labels(frame, features, columns.group if by_group else [])
    return outlier_filter(target_of(frame, columns.target), labels, iqr)


def _work(rows: polars.DataFrame, columns: Columns, options: FitOptions) -> Work | None:
    """The work columns of a run's defaults; none where the user named the features, or of any other table."""
    if options.features or options.categorical or not is_run_frame(rows):
        if options.rates is not None:
            raise LaptimeError("--bandwidth-gb-s and --tflop-s go with a run whose features are not named")
        return None
    return work_of_run(rows, columns.target, columns.features, columns.categorical, options.rates)
