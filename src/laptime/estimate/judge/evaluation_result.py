"""An evaluation as a value, and the scores in it. JSON: laptime.evaluation/1.

Scores say how far off the median is, whether the bound holds and how wide it is. Arrays are one-dimensional, of one
length, in the target's own unit (ms).
"""

from __future__ import annotations

from typing import ClassVar

import msgspec
import numpy as np

from laptime.data.shown import Shown
from laptime.data.stats import Floats
from laptime.errors import LaptimeError
from laptime.estimate.judge.ceiling import Ceiling
from laptime.estimate.judge.splits import Filtered

METRICS = ("mae_ms", "rmse_ms", "mape", "relative_error", "r2", "bias", "coverage", "width", "width_median",
           "pinball_ms")  # fmt: skip


class Spread(msgspec.Struct, frozen=True):
    """One figure over several seeds or held-out levels: its mean, standard deviation and ends."""

    mean: float
    sd: float
    low: float
    high: float
    n: int


class GroupScores(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of one group, over all splits of a kind."""

    group: str
    rows: int
    mape: float | None
    coverage: float | None
    width: float | None
    abstained: int


class SplitScores(msgspec.Struct, frozen=True, kw_only=True):
    """All splits of one kind."""

    kind: str
    details: list[str]  # what was held out, one for each split
    train_rows: int  # of the first split; 0 when the estimator had been fitted before
    test_rows: int  # of the first split
    metrics: dict[str, Spread]  # by METRICS; a figure that no split has is absent
    reachable_r2: Spread | None  # the R2 that the true mean of repeats would have on the test rows
    abstained: float  # share of the test rows without a finite bound
    support: dict[str, int]  # test rows inside, near, outside the training domain
    groups: list[GroupScores]
    held_rows: int = 0  # test rows of all splits together


class WeakPart(msgspec.Struct, frozen=True):
    """A part whose bound fails: the rows of one group, or (group None) all rows of one way of holding out."""

    kind: str
    group: str | None
    rows: int  # with a bound
    coverage: float


class Points(msgspec.Struct, frozen=True, kw_only=True):
    """Single predictions of held-out rows, to look at: columns of one length."""

    kind: list[str]
    group: list[str]
    support: list[str]
    actual_ms: list[float]
    median_ms: list[float]
    bound_ms: list[float | None]
    features: dict[str, list[float]]  # numeric features only


class Evaluation(Shown, msgspec.Struct, frozen=True, kw_only=True):
    """How far a target can be predicted, and how far it is. JSON: laptime.evaluation/1."""

    ROWS: ClassVar[str] = "splits"

    schema: str = "laptime.evaluation/1"
    source: str
    target: str
    q: float  # the coverage asked of the bound
    rows: int
    configurations: int  # the same as `different_rows`
    different_rows: int  # distinct combinations of the features
    grouped_by: list[str]  # columns of `SplitScores.groups`
    ceiling: Ceiling | None  # over all rows; None without repeats
    ceiling_of: list[str]  # rows that are equal in these columns were taken for repeats
    splits: list[SplitScores]
    filtered: Filtered | None = None
    unfiltered: list[SplitScores] | None = None  # the same splits fitted on all rows, when outliers were left out
    points: Points
    notes: list[str] = []
    weakest: WeakPart | None = None  # where the bound holds surely less often than asked, if anywhere
    fitted_on: float | None = None  # the share of the rows that the estimator was fitted on, where that is known


class PointScores(msgspec.Struct, frozen=True, kw_only=True):
    """Errors of the median prediction. Shares are of 1."""

    rows: int
    mae_ms: float
    rmse_ms: float
    mape: float | None  # mean of |error| / actual; None when an actual is not above 0
    relative_error: float | None  # MAE / mean of the actuals
    r2: float | None  # 1 - SSE / SST; None when all actuals are equal
    bias: float | None  # median of predicted / actual, less 1


class BoundScores(msgspec.Struct, frozen=True, kw_only=True):
    """Whether an upper bound with the promised coverage holds, and what it costs."""

    q: float  # the coverage that was asked for
    rows: int
    coverage: float | None  # share of rows at or below their bound; None when all were abstained from
    width: float | None  # mean of bound / actual over rows with a bound
    width_median: float | None
    pinball_ms: float | None  # mean pinball loss at q over rows with a bound
    abstained: int  # rows without a finite bound


def point_scores(actual: Floats, predicted: Floats) -> PointScores:
    """Errors of `predicted` against `actual`. Raises LaptimeError when there is no row or a prediction isn't finite."""
    _check(actual, predicted)
    if not np.isfinite(predicted).all():
        raise LaptimeError(f"{int((~np.isfinite(predicted)).sum())} of {len(predicted)} predictions are not numbers")
    error = predicted - actual
    absolute = np.abs(error)
    total = float(((actual - actual.mean()) ** 2).sum())
    positive = bool((actual > 0).all())
    return PointScores(
        rows=len(actual),
        mae_ms=float(absolute.mean()),
        rmse_ms=float(np.sqrt((error**2).mean())),
        mape=float((absolute / actual).mean()) if positive else None,
        relative_error=float(absolute.mean() / actual.mean()) if actual.mean() > 0 else None,
        r2=1 - float((error**2).sum()) / total if total > 0 else None,
        bias=float(np.median(predicted / actual)) - 1 if positive else None,
    )


def bound_scores(actual: Floats, bound: Floats, q: float) -> BoundScores:
    """Coverage, width and pinball loss of the upper bound for coverage `q`; infinite bounds count as abstained.

    An abstention is neither covered nor missed: coverage is over the rows that got a bound, and the abstained are
    counted beside it, so that neither figure can be bought with the other.
    """
    _check(actual, bound)
    given = np.isfinite(bound)
    kept, limit = actual[given], bound[given]
    positive = len(kept) > 0 and bool((kept > 0).all())
    return BoundScores(
        q=q,
        rows=len(actual),
        coverage=float((kept <= limit).mean()) if len(kept) else None,
        width=float((limit / kept).mean()) if positive else None,
        width_median=float(np.median(limit / kept)) if positive else None,
        pinball_ms=pinball(kept, limit, q) if len(kept) else None,
        abstained=int((~given).sum()),
    )


def pinball(actual: Floats, bound: Floats, q: float) -> float:
    """Mean of max(q (T - b), (q - 1)(T - b)): the true q-quantile minimises it (Koenker and Bassett 1978)."""
    over = actual - bound
    return float(np.maximum(q * over, (q - 1) * over).mean())


def _check(actual: Floats, other: Floats) -> None:
    if len(actual) != len(other):
        raise LaptimeError(f"{len(actual)} actual values, but {len(other)} predictions: one for each row is needed")
    if len(actual) == 0:
        raise LaptimeError("there is no row to judge")
