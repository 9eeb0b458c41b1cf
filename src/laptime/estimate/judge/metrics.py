"""How good predictions are: errors of the median, and whether the bound holds and how wide it is.

All arrays are one-dimensional and of one length, in the target's own unit (ms). Nothing here knows an estimator.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.errors import LaptimeError

Array = npt.NDArray[np.float64]


class PointScores(msgspec.Struct, frozen=True, kw_only=True):
    """Errors of the median prediction. Shares are of 1."""

    rows: int
    mae_ms: float
    rmse_ms: float
    mape: float | None  # mean of |error| / actual; None when an actual is not above 0
    relative_error: float | None  # MAE / mean of the actuals: the seeds' measure
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


def point_scores(actual: Array, predicted: Array) -> PointScores:
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


def bound_scores(actual: Array, bound: Array, q: float) -> BoundScores:
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


def pinball(actual: Array, bound: Array, q: float) -> float:
    """Mean of max(q (T - b), (q - 1)(T - b)): the true q-quantile minimises it (Koenker and Bassett 1978)."""
    over = actual - bound
    return float(np.maximum(q * over, (q - 1) * over).mean())


def _check(actual: Array, other: Array) -> None:
    if len(actual) != len(other):
        raise LaptimeError(f"{len(actual)} actual values, but {len(other)} predictions: one for each row is needed")
    if len(actual) == 0:
        raise LaptimeError("there is no row to judge")
