"""From an interval of the ratio B/A to a word, and how many more samples would change `inconclusive`."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, log, log1p

from laptime.comparisons.result import Verdict
from laptime.data.record import Interval

MOST_SAMPLES = 1_000_000
"""More samples than this are no advice."""


def verdict(ratio: Interval, min_effect: float) -> Verdict:
    """What the interval of B/A allows to say. With L = 1 + min_effect:

    slower        the interval lies above 1 and the estimate above L
    faster        the interval lies below 1 and the estimate below 1/L
    same          the whole interval lies within [1/L, L]
    inconclusive  anything else, and whenever there are too few values for an interval

    1/L instead of 1 - min_effect, so that comparing B with A gives the mirrored word.
    """
    if ratio.low is None or ratio.high is None:
        return "inconclusive"
    limit = 1 + min_effect
    if 1 / limit <= ratio.low and ratio.high <= limit:
        return "same"
    if ratio.low > 1 and ratio.value > limit:
        return "slower"
    if ratio.high < 1 and ratio.value < 1 / limit:
        return "faster"
    return "inconclusive"


def more_samples(ratio: Interval, min_effect: float, fewest: int) -> int | None:
    """About how many more values would decide an inconclusive ratio, if the estimate stays where it is.

    An interval narrows with 1/sqrt(n): from n values with a half-width h to one of r it takes n (h / r)^2. r is the
    estimate's distance from 1 when it exceeds min_effect, else its distance from the nearer bound of `same`. None
    when the estimate lies on that bound or more than a million would be needed.
    """
    n = ratio.n
    if ratio.low is None or ratio.high is None:
        return max(1, fewest - n)
    estimate, limit = log(ratio.value), log1p(min_effect)
    below, above = estimate - log(ratio.low), log(ratio.high) - estimate
    if abs(estimate) > limit:
        factor = (below if estimate > 0 else above) / abs(estimate)
    elif abs(estimate) < limit:
        factor = max(above / (limit - estimate), below / (limit + estimate))
    else:
        return None
    needed = n * factor**2
    return max(1, ceil(needed - 1e-6) - n) if needed <= MOST_SAMPLES else None


def overall(verdicts: Iterable[Verdict]) -> Verdict:
    """One word for several stages: slower wins, then faster; same only when all are."""
    given = list(verdicts)
    for word in ("slower", "faster"):
        if word in given:
            return word
    return "same" if given and all(word == "same" for word in given) else "inconclusive"
