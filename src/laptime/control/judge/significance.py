"""Whether two policies differ by more than chance, over many comparisons: McNemar's test and Holm's correction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from laptime.data.stats import Floats


def paired_p(first: Floats, second: Floats) -> float | None:
    """The p-value of two policies' scores on the same questions being alike, two-sided. None below two questions.

    Scores of 0 and 1: McNemar's exact test, the binomial test of the questions on which they differ (McNemar 1947).
    Fractional scores: the paired t test.
    """
    from scipy.stats import binomtest, ttest_rel

    if len(first) < 2:
        return None
    gaps = first - second
    if not gaps.any():
        return 1.0
    if set(np.unique(gaps)) <= {-1.0, 0.0, 1.0}:
        better, worse = int((gaps > 0).sum()), int((gaps < 0).sum())
        return float(binomtest(min(better, worse), better + worse, 0.5).pvalue)
    if np.ptp(gaps) <= 1e-9 * np.abs(gaps).max():
        return 0.0
    return float(ttest_rel(first, second).pvalue)


def holm(values: Sequence[float | None]) -> list[float | None]:
    """The p-values corrected for their number (Holm 1979), in the same order; None stays None."""
    known = sorted((value, place) for place, value in enumerate(values) if value is not None)
    corrected: list[float | None] = [None] * len(values)
    largest = 0.0
    for rank, (value, place) in enumerate(known):
        largest = max(largest, min(1.0, value * (len(known) - rank)))
        corrected[place] = largest
    return corrected
