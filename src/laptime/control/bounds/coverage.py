"""How many answers prove that a share of answers is in time: ranks, counts and limits from order alone. No torch.

Nothing is assumed of how times are distributed; only that questions are independent.
"""

from __future__ import annotations

from math import ceil, inf

import numpy as np

from laptime.data.stats import Floats

SURE = 0.95
"""How sure a proof is that the promise is kept, whichever questions it was tested on."""


def level_rank(confidence: float, questions: int) -> float:
    """The quantile of `questions` calibration values that the next value is below, with the confidence.

    Above 1: there are too few values. Source: split conformal prediction, the ceil((n + 1) q)-th smallest of n values.
    """
    return ceil((questions + 1) * confidence - 1e-9) / questions


def most_late(questions: int, confidence: float, sure: float = SURE) -> int:
    """The most late answers that still prove that the share in time is at least the confidence; -1: no count does.

    Source: one-sided binomial test. If each of `questions` independent answers were late with the probability
    1 - confidence, this count or a lower one would be seen with a probability of at most 1 - sure.
    """
    from scipy.special import bdtr  # scipy takes a fifth of a second to import; deciding doesn't need it

    counts = np.arange(questions + 1)
    return int((bdtr(counts, questions, 1 - confidence) <= 1 - sure).sum()) - 1


def proven_limit(times: Floats, confidence: float) -> float:
    """The time that is proven to hold for the share `confidence`; infinite if there are too few times.

    times: measured ones, (n,), all finite. Source: the one-sided tolerance limit of Wilks 1941, an order statistic.
    """
    most = most_late(len(times), confidence)
    return float(np.sort(times)[len(times) - 1 - most]) if most >= 0 else inf
