"""Honest statistics of timings: quantiles, distribution-free intervals, ratios, and when to stop repeating."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np
import numpy.typing as npt

from laptime.data.record import Interval

Values = Sequence[float] | npt.NDArray[np.float64]

BOOTSTRAP_DRAWS = 4000


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
    """Whether more repeats would still tell more about the noise (nvbench's second stopping rule).

    The relative spread after each of the last `window` values is looked at: once these spreads differ by
    less than `tolerance` of their mean, the noise is known and repeating only buys sqrt(n).
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
        from statistics import NormalDist

        z = NormalDist().inv_cdf((1 + confidence) / 2)
        return max(0, int(np.floor(n / 2 - z * np.sqrt(n) / 2)))
    tail = (1 - confidence) / 2 * 2**n
    below = 0
    for k in range(n // 2 + 1):
        below += comb(n, k)
        if below > tail:
            return k
    return n // 2
