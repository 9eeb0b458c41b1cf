"""How many late answers still prove that the promised share is in time: the binomial test. No torch."""

from __future__ import annotations

import numpy as np

SURE = 0.95
"""How sure it must be that the promise is kept, whichever questions it was tested on."""


def most_late(questions: int, confidence: float, sure: float = SURE) -> int:
    """The most late answers of so many that prove (binomial test) that the share in time is the confidence; -1: none.

    `questions` answers, independent, each late with the probability 1 - confidence, have no more of them late with a
    probability of at most 1 - sure.
    """
    from scipy.special import bdtr

    counts = np.arange(questions + 1)
    return int((bdtr(counts, questions, 1 - confidence) <= 1 - sure).sum()) - 1
