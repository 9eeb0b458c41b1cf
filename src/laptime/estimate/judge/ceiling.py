"""The best that any predictor of configurations could reach, from repeats of the same configuration.

A predictor that sees only the configuration gives all of its repeats one number. However good it is, the spread of
repeats around their configuration's mean stays unexplained: R2 can't exceed the share of variance that lies between
configurations. An R2 of 0.25 is hopeless under a ceiling of 1 and nearly half of what there is under one of 0.57.

One-way random effects: T_ij = mu + a_i + e_ij. With k groups of n_i rows, N rows in all,

    MSW = SSW / (N - k)      MSB = SSB / (k - 1)      n0 = (N - sum n_i^2 / N) / (k - 1)
    within = MSW             between = max(0, (MSB - MSW) / n0)             ceiling = between / (between + within)

(analysis of variance estimators for unbalanced groups: Searle, Casella and McCulloch, Variance Components, 3.6; the
ratio is the intraclass correlation). The interval is the F interval with the harmonic mean of the group sizes (Thomas
and Hultquist 1978), exact for equal sizes and normal noise. Noise usually grows with time, and then it is too narrow;
from FEW_GROUPS groups on each end is the outer one of it and of a bootstrap over groups (in simulations of 20 to 100
groups with noise of one or of many sizes it then covers 94 to 98 %, where either alone falls to 87 %).
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.data.stats import Floats
from laptime.errors import LaptimeError

FEW_GROUPS = 20
DRAWS = 2000
CONFIDENCE = 0.95


class Ceiling(msgspec.Struct, frozen=True, kw_only=True):
    """The share of a target's variance that lies between groups, and the spreads that it comes from."""

    value: float  # between / (between + within): the largest R2 that the groups allow
    low: float | None  # 95 % interval; None with fewer than 3 groups
    high: float | None
    groups: int
    rows: int
    repeated: int  # groups with two rows or more: only these tell the noise
    cv_overall: float  # sqrt(between + within) / mean
    cv_within: float  # sqrt(within) / mean
    method: str  # how the interval was made


def ceiling_from_cv(cv_overall: float, cv_within: float) -> float:
    """1 - (within / overall)^2: the ceiling from two coefficients of variation of the same target.

    Raises LaptimeError when they can't be of the same target (within above overall, or not positive).
    """
    if not 0 <= cv_within <= cv_overall or cv_overall <= 0:
        raise LaptimeError(
            f"coefficients of variation within {cv_within:g} and overall {cv_overall:g}: "
            "the first must lie between 0 and the second"
        )
    return 1 - (cv_within / cv_overall) ** 2


def ceiling(values: Floats, groups: npt.ArrayLike, *, seed: int = 0) -> Ceiling | None:
    """The ceiling of R2 for a predictor that sees the group. None when no group has two rows, or there is one group.

    `values` (rows), `groups` (rows): any labels; rows with the same label are repeats.
    """
    values = np.asarray(values, dtype=np.float64)
    _, codes = np.unique(np.asarray(groups), return_inverse=True)
    if len(values) != len(codes):
        raise LaptimeError(f"{len(values)} values, but {len(codes)} group labels: one for each row is needed")
    sizes = np.bincount(codes).astype(np.float64)
    k = len(sizes)
    if k < 2 or not (sizes > 1).any():
        return None
    shifted = values - values.mean()  # sums of squares of large, close values would cancel
    sums = np.bincount(codes, weights=shifted).astype(np.float64)
    within_squares = np.bincount(codes, weights=(shifted - (sums / sizes)[codes]) ** 2).astype(np.float64)
    between, within = variance_components(sizes, sums, within_squares)
    both = float(between + within)
    if both == 0:
        return None
    share = float(between / both)
    low, high, method = _interval(sizes, sums, within_squares, share, seed)
    mean = float(values.mean())
    return Ceiling(
        value=share,
        low=low,
        high=high,
        groups=k,
        rows=len(values),
        repeated=int((sizes > 1).sum()),
        cv_overall=float(np.sqrt(both)) / mean if mean else float("nan"),
        cv_within=float(np.sqrt(within)) / mean if mean else float("nan"),
        method=method,
    )


def reachable_r2(values: Floats, groups: npt.ArrayLike, within: float) -> float | None:
    """The R2 that the true mean of every group would get on exactly these rows, the noise having variance `within`.

    1 - N within / SST: a split's test rows spread more or less than the whole table, and their R2 is to be read
    beside this. None when the rows are all equal or every row is its own group.
    """
    values = np.asarray(values, dtype=np.float64)
    total = float(((values - values.mean()) ** 2).sum())
    labels = np.unique(np.asarray(groups))
    if total == 0 or len(labels) == len(values):
        return None
    return max(0.0, 1 - len(values) * within / total)


def noise_variance(values: Floats, groups: npt.ArrayLike) -> float | None:
    """MSW: the variance of repeats around their group's mean, pooled. None when no group has two rows."""
    values = np.asarray(values, dtype=np.float64)
    _, codes = np.unique(np.asarray(groups), return_inverse=True)
    sizes = np.bincount(codes)
    if len(values) == len(sizes):
        return None
    means = np.bincount(codes, weights=values) / sizes
    return float(((values - means[codes]) ** 2).sum() / (len(values) - len(sizes)))


def variance_components(sizes: Floats, sums: Floats, within_squares: Floats) -> tuple[Floats, Floats]:
    """(between, within) from each group's size, sum and sum of squares around its mean, along the last axis.

    Leading axes are independent draws, so that a bootstrap is one call.
    """
    k = sizes.shape[-1]
    n = sizes.sum(-1)
    grand = sums.sum(-1) / n
    within = within_squares.sum(-1) / np.maximum(n - k, 1)
    spread = (sizes * (sums / sizes - grand[..., None]) ** 2).sum(-1) / (k - 1)
    n0 = (n - (sizes**2).sum(-1) / n) / (k - 1)
    return np.maximum(0.0, (spread - within) / n0), within


def _interval(
    sizes: Floats, sums: Floats, within_squares: Floats, share: float, seed: int
) -> tuple[float | None, float | None, str]:
    k = len(sizes)
    if k < 3:
        return None, None, "none: fewer than 3 groups"
    low, high = _f_interval(sizes, sums, within_squares)
    if k < FEW_GROUPS:
        return min(low, share), max(high, share), "F"
    drawn = np.random.default_rng(seed).integers(0, k, (DRAWS, k))
    between, within = variance_components(sizes[drawn], sums[drawn], within_squares[drawn])
    both = between + within
    shares = np.where(both > 0, between / np.where(both > 0, both, 1), np.nan)
    tail = (1 - CONFIDENCE) / 2
    drawn_low, drawn_high = np.nanquantile(shares, [tail, 1 - tail])
    return min(low, float(drawn_low), share), max(high, float(drawn_high), share), "F and bootstrap over groups"


def _f_interval(sizes: Floats, sums: Floats, within_squares: Floats) -> tuple[float, float]:
    """Exact for equal sizes and normal noise: F = MSB / MSW follows (1 + n between / within) F(k - 1, N - k)."""
    from scipy.stats import f  # takes as long to import as a prediction takes

    k, n = len(sizes), sizes.sum()
    harmonic = k / (1 / sizes).sum()
    means = sums / sizes
    within = within_squares.sum() / (n - k)
    spread = harmonic * ((means - means.mean()) ** 2).sum() / (k - 1)
    if within == 0:
        return 1.0, 1.0
    tail = (1 - CONFIDENCE) / 2
    ratios = [spread / within / f.ppf(1 - tail, k - 1, n - k), spread / within / f.ppf(tail, k - 1, n - k)]
    low, high = (max(0.0, (ratio - 1) / (ratio - 1 + harmonic)) for ratio in ratios)
    return float(low), float(high)
