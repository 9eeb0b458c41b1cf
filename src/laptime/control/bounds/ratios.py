"""How far below their bounds calls end on the machine that these are of: where correction begins. No torch."""

from __future__ import annotations

import numpy as np

from laptime.control.bounds.bounds import Bounds
from laptime.control.seen import Floats32
from laptime.control.tables.features import LANGUAGE
from laptime.data.stats import Floats

KEPT = 200
"""Quantiles of the ratios that are kept, evenly spaced in probability."""
FEWEST = 20
"""Fewer calls say too little of their distribution."""
LEVELS = 20
"""Quantiles of each choice's own distribution that stand for measured calls where none are known."""


def measured_ratios(bounds: Bounds, total_ms: Floats, language: Floats32) -> Floats | None:
    """log(time / bound) of the measured calls as KEPT quantiles, ascending; None for fewer than FEWEST calls.

    total_ms (questions, choices): NaN where none was measured. language (questions, L): the questions' features. The
    bound is the one that is known before the answer's length is. Choices without a bound are left out.
    """
    timed = np.isfinite(total_ms).any(axis=1)
    if not timed.any():
        return None
    bound_ms, _ = bounds.for_questions(language[timed])
    ratios = np.log(total_ms[timed]) - np.log(bound_ms)
    finite = ratios[np.isfinite(ratios)]
    if len(finite) < FEWEST:
        return None
    kept: Floats = np.quantile(finite, (np.arange(KEPT) + 0.5) / KEPT)
    return kept


def ratios_of(bounds: Bounds) -> Floats:
    """log(time / bound) that is usual for these bounds; empty where they promise nothing.

    Bounds that an older laptime wrote don't hold measured ratios. Then each choice's own distribution gives them.
    """
    if bounds.ratios is not None:
        return bounds.ratios
    share = bounds.share_of(np.zeros(LANGUAGE, dtype=np.float32))
    bound_ms = bounds.bound_of(share)
    promised = np.isfinite(bound_ms)
    steps = [bounds.first_above(share, (step + 0.5) / LEVELS)[promised] for step in range(LEVELS)]
    ratios = np.log(np.concatenate(steps)) - np.tile(np.log(bound_ms[promised]), LEVELS)
    finite: Floats = np.sort(ratios[np.isfinite(ratios)])
    return finite
