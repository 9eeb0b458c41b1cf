"""Ranks of ordered residuals: the bound at a level, and the level of a value."""

from __future__ import annotations

import numpy as np

from laptime.data.stats import Floats, Ints

ROUNDING = 1e-9
"""(n + 1) q is compared with whole numbers: 0.95 * 100 must be 95."""


def rank(count: int, q: Floats) -> Ints:
    """k of the bound r(k) for each level, from 1 to count + 1 (which stands for infinity)."""
    return np.maximum(np.ceil((count + 1) * q - ROUNDING), 1).astype(np.int64)


def bound(ordered: Floats, q: Floats) -> Floats:
    """The upper bound on a scaled residual at each level: r(ceil((n + 1) q)), infinite beyond n."""
    with_infinity = np.append(ordered, np.inf)
    return np.asarray(with_infinity[rank(len(ordered), q) - 1], dtype=np.float64)


def share_below(ordered: Floats, values: Floats) -> Floats:
    """The probability that a scaled residual is at most each value: #{r <= value} / (n + 1)."""
    below = np.searchsorted(ordered, values, side="right")
    return np.asarray(below / (len(ordered) + 1), dtype=np.float64)
