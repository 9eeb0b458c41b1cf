"""One-sided split conformal bounds from log ratios of held-out rows.

Residual = log(measured / predicted) of a row that its predictor had not seen. With n of them and exchangeable rows,
T <= predicted * exp(r(k)) with k = ceil((n + 1) q) holds with probability at least q (Vovk et al. 2005; Lei et al.
2018): no distribution is assumed. A level above n / (n + 1) can't be promised and the bound is infinite. The
probability of staying within a budget is the same rule read backwards, so that
`quantile(q) <= budget` exactly when `probability(budget) >= q`.

Residuals are divided by a scale before they are sorted (1 inside the training domain, growing with the distance
outside it), and a bound multiplies its own row's scale back.
"""

from __future__ import annotations

import numpy as np

from laptime.data.arrays import Floats
from laptime.errors import LaptimeError

ROUNDING = 1e-9
"""(n + 1) q is compared with whole numbers: 0.95 * 100 must be 95."""


def rank(count: int, q: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
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


def check_level(q: Floats) -> None:
    """Raise LaptimeError for a level that is no share strictly between 0 and 1."""
    if not ((q > 0) & (q < 1)).all():
        raise LaptimeError(f"a quantile's level is above 0 and below 1, not {q[~((q > 0) & (q < 1))].flat[0]:g}")
