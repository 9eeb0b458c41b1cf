"""Statistics of timings and scores: quantiles, intervals of medians, means, ratios and shares, and when to stop."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import comb, exp, inf, sqrt
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

from laptime.data.record import Interval

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Values = Sequence[float] | Floats

CONFIDENCE = 0.95
BOOTSTRAP_DRAWS = 4000
FEWEST_FOR_MEDIAN = 6
"""With fewer values a median has no 95 % interval from order statistics."""
FEWEST_FOR_MEAN = 3
"""With fewer values a t interval says nothing: with two it is 12.7 standard errors wide on each side."""
ENOUGH = 30
"""Fractional scores for a t interval: with fewer, their skew does not average out."""
ENOUGH_SPREAD = 10
"""At least this many of them must differ from the commonest score, or their spread isn't known either."""
Z = NormalDist().inv_cdf(0.975)

AccuracyMethod = Literal["wilson", "t"]
"""How an accuracy's interval was computed."""


def quantile(values: Values, q: float) -> float:
    """The q-quantile by linear interpolation (Hyndman and Fan's type 7). Raises ValueError on no values."""
    if len(values) == 0:
        raise ValueError("no values")
    return float(np.quantile(np.asarray(values, dtype=np.float64), q))


def median_interval(values: Values, confidence: float = 0.95) -> Interval:
    """The median with its exact order-statistic interval (sign test): no distribution is assumed.

    The interval [x(k), x(n+1-k)] has coverage 1 - 2 P(Bin(n, 1/2) < k); k is the largest that keeps
    `confidence`. Below six values no such pair exists at 95 % and the ends are None.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    if n == 0:
        raise ValueError("no values")
    middle = float(np.median(ordered))
    k = _sign_test_rank(n, confidence)
    if k == 0:
        return Interval(middle, None, None, n)
    return Interval(middle, float(ordered[k - 1]), float(ordered[n - k]), n)


def ratio_of_medians(
    numerator: Values, denominator: Values, *, paired: bool, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """median(numerator) / median(denominator), or the median of the pairs' ratios, with a bootstrap interval.

    `paired` needs equal lengths: element i of both was measured side by side, so drift cancels in the ratio.
    """
    top = np.asarray(numerator, dtype=np.float64)
    bottom = np.asarray(denominator, dtype=np.float64)
    if len(top) == 0 or len(bottom) == 0 or (paired and len(top) != len(bottom)):
        raise ValueError("a ratio needs values on both sides, and pairs need equal lengths")
    rng = np.random.default_rng(seed)
    tail = (1 - confidence) / 2
    if paired:
        ratios = top / bottom
        value = float(np.median(ratios))
        draws = np.median(ratios[rng.integers(0, len(ratios), (BOOTSTRAP_DRAWS, len(ratios)))], axis=1)
    else:
        value = float(np.median(top) / np.median(bottom))
        draws = np.median(top[rng.integers(0, len(top), (BOOTSTRAP_DRAWS, len(top)))], axis=1) / np.median(
            bottom[rng.integers(0, len(bottom), (BOOTSTRAP_DRAWS, len(bottom)))], axis=1
        )
    n = min(len(top), len(bottom))
    if n < 2:
        return Interval(value, None, None, n)
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(value, float(low), float(high), n)


def relative_half_width(interval: Interval) -> float | None:
    """Half the interval's width over its value; None without an interval or with a value of zero."""
    if interval.low is None or interval.high is None or interval.value == 0:
        return None
    return (interval.high - interval.low) / 2 / abs(interval.value)


def relative_spread(values: Values) -> float:
    """A robust standard deviation over the median: 1.4826 MAD / median. 0 for one value."""
    array = np.asarray(values, dtype=np.float64)
    middle = float(np.median(array))
    if middle == 0:
        return 0.0
    return float(1.4826 * np.median(np.abs(array - middle)) / abs(middle))


def noise_is_stable(values: Values, *, window: int = 8, tolerance: float = 0.05) -> bool:
    """Whether the noise is known, so that more repeats narrow an interval by sqrt(n) only.

    It is when the relative spreads after each of the last `window` values differ by less than `tolerance` of their
    mean. Source: nvbench's second stopping rule.
    """
    if len(values) < 2 * window:
        return False
    array = np.asarray(values, dtype=np.float64)
    spreads = np.array([relative_spread(array[: len(array) - back]) for back in range(window)])
    mean = float(spreads.mean())
    return mean == 0 or float(spreads.max() - spreads.min()) <= tolerance * mean


def _sign_test_rank(n: int, confidence: float) -> int:
    """Largest k with P(Bin(n, 1/2) < k) <= (1 - confidence) / 2; 0 when there is none."""
    if n > 1000:  # the normal approximation is exact to a rank here, and big integers get slow
        z = NormalDist().inv_cdf((1 + confidence) / 2)
        return max(0, int(np.floor(n / 2 - z * np.sqrt(n) / 2)))
    tail = (1 - confidence) / 2 * 2**n
    below = 0
    for k in range(n // 2 + 1):
        below += comb(n, k)
        if below > tail:
            return k
    return n // 2


def column_medians(values: Floats) -> list[Interval | None]:
    """The median of each column of `values` (n, columns) with its exact interval; NaN is no value.

    As laptime.data.stats.median_interval (the sign test).
    """
    ordered = np.sort(values, axis=0)  # NaN goes last
    counts = (len(values) - np.isnan(values).sum(axis=0)).tolist()
    medians: list[Interval | None] = []
    for column, n in zip(ordered.T, counts, strict=True):
        if n == 0:
            medians.append(None)
            continue
        middle = float(column[(n - 1) // 2] + column[n // 2]) / 2
        ends = _median_ranks(n)
        low, high = (None, None) if ends is None else (float(column[ends[0]]), float(column[ends[1]]))
        medians.append(Interval(middle, low, high, n))
    return medians


def factor_interval(
    logs: Floats, confidence: float = CONFIDENCE, shared: float = 0.0, freedom: float = inf
) -> Interval:
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


def t_share(freedom: float, value: float) -> float:
    """The share of Student's t distribution that lies below a value."""
    from scipy.special import stdtr  # scipy.stats takes a second to import

    return float(stdtr(freedom, value))


@lru_cache(maxsize=4096)
def _median_ranks(n: int) -> tuple[int, int] | None:
    """The places, from 0, of the ends of the interval of n ordered values' median."""
    places = median_interval(np.arange(n, dtype=np.float64), CONFIDENCE)
    return None if places.low is None or places.high is None else (int(places.low), int(places.high))


def accuracy(scores: Floats) -> tuple[Interval, AccuracyMethod] | tuple[None, None]:
    """The mean of one score a sample, each from 0 to 1, with its 95 % interval and how that was computed.

    Scores of 0 and 1: Wilson's interval (1927), which holds for few samples and for none or all of them right, where
    the usual one is empty. Fractional scores (VQA accuracy, ANLS): Student's t interval of the mean, within 0..1, when
    there are ENOUGH of them with enough spread; else Wilson's too: no score between 0 and 1 with that mean can spread
    more than one of 0 and 1, so it is then wider than it need be, never narrower. A bootstrap of the mean agrees with
    t for many samples and covers less for few (benchmarks/sweep_intervals.py).
    """
    scores = np.clip(scores[~np.isnan(scores)], 0.0, 1.0)
    n = len(scores)
    if n == 0:
        return None, None
    mean = float(scores.mean())
    _, counts = np.unique(scores, return_counts=True)
    fractional = bool(((scores > 0) & (scores < 1)).any())
    if fractional and n >= ENOUGH and n - counts.max() >= ENOUGH_SPREAD:
        half = t_quantile(n - 1, 0.975) * float(scores.std(ddof=1)) / sqrt(n)
        return Interval(mean, max(0.0, mean - half), min(1.0, mean + half), n), "t"
    return wilson(mean, n), "wilson"


def wilson(share: float, n: int) -> Interval:
    """A share of n with Wilson's score interval at 95 %."""
    centre = share + Z * Z / (2 * n)
    half = Z * sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    scale = 1 + Z * Z / n
    return Interval(share, max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale), n)
