"""Intervals for many groups of values at once: of medians by order statistics, of ratios by Student's t."""

from __future__ import annotations

from functools import lru_cache
from math import exp, inf, sqrt

import numpy as np
import numpy.typing as npt

from laptime.data.record import Interval
from laptime.data.stats import median_interval

Reals = npt.NDArray[np.float64]

CONFIDENCE = 0.95
FEWEST_FOR_MEDIAN = 6
"""Values below which a median has no 95 % interval from order statistics."""
FEWEST_FOR_MEAN = 3
"""Values below which a t interval says nothing: with two it is 12.7 standard errors wide on each side."""


def column_medians(values: Reals) -> list[Interval | None]:
    """The median of each column of `values` (n, columns) with its exact interval; NaN is no value.

    As laptime.data.stats.median_interval (the sign test).
    """
    ordered = np.sort(values, axis=0)  # NaN goes last
    counts = (len(values) - np.isnan(values).sum(axis=0)).tolist()
    found: list[Interval | None] = []
    for column, n in zip(ordered.T, counts, strict=True):
        if n == 0:
            found.append(None)
            continue
        middle = float(column[(n - 1) // 2] + column[n // 2]) / 2
        ends = _median_ranks(n)
        low, high = (None, None) if ends is None else (float(column[ends[0]]), float(column[ends[1]]))
        found.append(Interval(middle, low, high, n))
    return found


def factor_interval(logs: Reals, confidence: float = CONFIDENCE, shared: float = 0.0, freedom: float = inf) -> Interval:
    """The geometric mean of factors from their logarithms, with Student's t interval.

    shared: the variance of their mean from what they have in common, which their own spread doesn't show, known with
    `freedom` degrees of freedom; the sum's follow Satterthwaite (1946). The ends are None below FEWEST_FOR_MEAN. `logs`
    must not be empty.
    """
    n, mean = len(logs), float(logs.mean())
    if n < FEWEST_FOR_MEAN:
        return Interval(exp(mean), None, None, n)
    own = float(logs.var(ddof=1)) / n
    together = n - 1.0
    if shared > 0:
        together = (own + shared) ** 2 / (own**2 / (n - 1) + shared**2 / freedom)
    half = t_quantile(round(together, 2), (1 + confidence) / 2) * sqrt(own + shared)
    return Interval(exp(mean), exp(mean - half), exp(mean + half), n)


@lru_cache(maxsize=4096)
def t_quantile(freedom: float, share: float) -> float:
    """The quantile of Student's t distribution."""
    from scipy.special import stdtrit  # scipy.stats takes a second to import

    return float(stdtrit(freedom, share))


@lru_cache(maxsize=4096)
def _median_ranks(n: int) -> tuple[int, int] | None:
    """The places, from 0, of the ends of the interval of n ordered values' median."""
    places = median_interval(np.arange(n, dtype=np.float64), CONFIDENCE)
    return None if places.low is None or places.high is None else (int(places.low), int(places.high))
