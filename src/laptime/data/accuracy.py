"""How right a configuration's answers were, with an interval that keeps its promise for few and for equal scores."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

from laptime.data.intervals import t_quantile
from laptime.data.record import Interval

Reals = npt.NDArray[np.float64]
AccuracyMethod = Literal["wilson", "t"]
"""How an accuracy's interval was made."""

ENOUGH = 30
"""Fractional scores for a t interval: with fewer, their skew is not averaged out."""
ENOUGH_SPREAD = 10
"""And so many of them must differ from the commonest score, or their spread isn't known either."""

Z = NormalDist().inv_cdf(0.975)


def accuracy(scores: Reals) -> tuple[Interval, AccuracyMethod] | tuple[None, None]:
    """The mean of one score a sample, each from 0 to 1, with its 95 % interval and how that was made.

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
