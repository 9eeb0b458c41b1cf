"""The best that any predictor of configurations could reach, from repeats of the same configuration.

A predictor that sees only the configuration gives all of its repeats one number. However good it is, the spread of
repeats around their configuration's mean stays unexplained: R2 can't exceed the share of variance that lies between
configurations. An R2 of 0.25 is hopeless under a ceiling of 1 and nearly half of what there is under one of 0.57.

One-way random effects: T_ij = mu + a_i + e_ij. With k groups of n_i rows, N rows in all,

    MSW = SSW / (N - k)      MSB = SSB / (k - 1)      n0 = (N - sum n_i^2 / N) / (k - 1)
    within = MSW             between = max(0, (MSB - MSW) / n0)             ceiling = between / (between + within)

(analysis of variance estimators for unbalanced groups: Searle, Casella and McCulloch, Variance Components, 3.6; the
ratio is the intraclass correlation). Calls of one visit share its state. Where visits are known, they are a level of
their own, T_ijk = mu + a_i + v_ij + e_ijk (the same book, 3.7), and what differs from visit to visit is noise, too:
within = Var(v) + Var(e). Where no group has two visits, it can't be told apart from the groups; then the ceiling is at
most the value. The interval is the F interval with the harmonic mean of the group sizes (Thomas
and Hultquist 1978), exact for equal sizes and normal noise. Noise usually grows with time, and then it is too narrow;
from FEW_GROUPS groups on each end is the outer one of it and of a bootstrap over groups (in simulations of 20 to 100
groups with noise of one or of many sizes it then covers 94 to 98 %, where either alone falls to 87 %).
"""

from __future__ import annotations

from typing import NamedTuple

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
    cv_visits: float | None = None  # the part of cv_within that the calls of a visit share; None where it isn't known
    at_most: bool = False  # every group was measured in one visit, so the noise of visits stands in the value


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


def ceiling(
    values: Floats, groups: npt.ArrayLike, *, visits: npt.ArrayLike | None = None, seed: int = 0
) -> Ceiling | None:
    """The ceiling of R2 for a predictor that sees the group. None when no group has two rows, or there is one group.

    `values` (rows), `groups` (rows): any labels; rows with the same label are repeats. visits (rows): labels of the
    visits that the rows belong to (laptime.data.visits); None: every row counts as a visit of its own.
    """
    values = np.asarray(values, dtype=np.float64)
    _, codes = np.unique(np.asarray(groups), return_inverse=True)
    if len(values) != len(codes):
        raise LaptimeError(f"{len(values)} values, but {len(codes)} group labels: one for each row is needed")
    groups_ = _sums(values, codes, _cells(codes, visits))
    k = len(groups_.sizes)
    if k < 2 or not (groups_.sizes > 1).any():
        return None
    between, visit, call = variance_components(groups_)
    within = visit + call
    both = float(between + within)
    if both == 0:
        return None
    share = float(between / both)
    low, high, method = _interval(groups_, share, seed)
    mean = float(values.mean())
    several = bool((groups_.visits > 1).any())
    repeated = bool((groups_.visits < groups_.sizes).any())  # some visit has two calls
    return Ceiling(
        value=share,
        low=low,
        high=high,
        groups=k,
        rows=len(values),
        repeated=int((groups_.sizes > 1).sum()),
        cv_overall=float(np.sqrt(both)) / mean if mean else float("nan"),
        cv_within=float(np.sqrt(within)) / mean if mean else float("nan"),
        method=method,
        cv_visits=float(np.sqrt(visit)) / mean if visits is not None and several and repeated and mean else None,
        at_most=visits is not None and not several,
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


def noise_variance(values: Floats, groups: npt.ArrayLike, visits: npt.ArrayLike | None = None) -> float | None:
    """The variance of a call around its group's mean, pooled; with that of visits. None when no group has two rows."""
    values = np.asarray(values, dtype=np.float64)
    _, codes = np.unique(np.asarray(groups), return_inverse=True)
    if len(values) == len(np.unique(codes)):
        return None
    _, visit, call = variance_components(_sums(values, codes, _cells(codes, visits)))
    return float(visit + call)


class GroupSums(NamedTuple):
    """What variance components are made of, a value for each group (the last axis).

    sizes: rows. sums: of the values. visits: number of visits. call_squares: around the visits' means. visit_squares:
    of the visits' means around the group's, by rows. squared_sizes: sum of the squares of the visits' sizes.
    """

    sizes: Floats
    sums: Floats
    visits: Floats
    call_squares: Floats
    visit_squares: Floats
    squared_sizes: Floats

    def take(self, drawn: npt.NDArray[np.int64]) -> GroupSums:
        """These groups; (draws, groups) makes a bootstrap one call."""
        return GroupSums(*(array[drawn] for array in self))


def _cells(codes: npt.NDArray[np.int64], visits: npt.ArrayLike | None) -> npt.NDArray[np.int64]:
    """The number of each row's cell, a visit to one group."""
    if visits is None:
        return np.arange(len(codes))
    _, visit = np.unique(np.asarray(visits), return_inverse=True)
    cells: npt.NDArray[np.int64] = np.unique(codes * (int(visit.max()) + 1) + visit, return_inverse=True)[1]
    return cells


def _sums(values: Floats, codes: npt.NDArray[np.int64], cells: npt.NDArray[np.int64]) -> GroupSums:
    shifted = values - values.mean()  # sums of squares of large, close values would cancel
    sizes = np.bincount(codes).astype(np.float64)
    sums = _total(codes, shifted)
    cell_sizes = np.bincount(cells).astype(np.float64)
    cell_means = _total(cells, shifted) / cell_sizes
    owner = np.zeros(len(cell_sizes), dtype=np.int64)
    owner[cells] = codes
    return GroupSums(
        sizes=sizes,
        sums=sums,
        visits=np.bincount(owner, minlength=len(sizes)).astype(np.float64),
        call_squares=_total(codes, (shifted - cell_means[cells]) ** 2),
        visit_squares=_total(owner, cell_sizes * (cell_means - (sums / sizes)[owner]) ** 2),
        squared_sizes=_total(owner, cell_sizes**2),
    )


def _total(codes: npt.NDArray[np.int64], weights: Floats) -> Floats:
    return np.asarray(np.bincount(codes, weights=weights), dtype=np.float64)


def variance_components(groups: GroupSums) -> tuple[Floats, Floats, Floats]:
    """The variances between groups, between visits to a group, and of calls in a visit, along the last axis.

    Where every visit is one call, the second is 0 and the third holds both. Where no group has two visits, the second
    is 0 and the first holds both. Leading axes are independent draws, so that a bootstrap is one call.
    """
    k = groups.sizes.shape[-1]
    n, visits = groups.sizes.sum(-1), groups.visits.sum(-1)
    calls = groups.call_squares.sum(-1) / np.maximum(n - visits, 1)
    per_visit = groups.visit_squares.sum(-1) / np.maximum(visits - k, 1)
    own = (groups.squared_sizes / groups.sizes).sum(-1)
    n0 = (n - own) / np.maximum(visits - k, 1)
    single = n - visits < 1  # a visit is a call
    visit = np.where(single | (visits - k < 1), 0.0, np.maximum(0.0, (per_visit - calls) / np.maximum(n0, 1e-300)))
    call = np.where(single, per_visit, calls)
    grand = groups.sums.sum(-1) / n
    spread = (groups.sizes * (groups.sums / groups.sizes - grand[..., None]) ** 2).sum(-1) / (k - 1)
    rows = (n - (groups.sizes**2).sum(-1) / n) / (k - 1)
    shared = (own - groups.squared_sizes.sum(-1) / n) / (k - 1)
    return np.maximum(0.0, (spread - call - shared * visit) / rows), visit, call


def _interval(groups: GroupSums, share: float, seed: int) -> tuple[float | None, float | None, str]:
    k = len(groups.sizes)
    if k < 3:
        return None, None, "none: fewer than 3 groups"
    low, high = _f_interval(groups)
    if k < FEW_GROUPS:
        return min(low, share), max(high, share), "F"
    drawn = np.random.default_rng(seed).integers(0, k, (DRAWS, k))
    between, visit, call = variance_components(groups.take(drawn))
    both = between + visit + call
    shares = np.where(both > 0, between / np.where(both > 0, both, 1), np.nan)
    tail = (1 - CONFIDENCE) / 2
    drawn_low, drawn_high = np.nanquantile(shares, [tail, 1 - tail])
    return min(low, float(drawn_low), share), max(high, float(drawn_high), share), "F and bootstrap over groups"


def _f_interval(groups: GroupSums) -> tuple[float, float]:
    """Exact for equal sizes and normal noise: MSB / MSV follows (1 + n between / noise) F(k - 1, units - k).

    The units of a group are its visits, or its rows where no group has two visits. Visits' means carry less of the
    calls' noise than a call does, so the ratio is then scaled to that of a call.
    """
    from scipy.stats import f  # takes as long to import as a prediction takes

    k, n = len(groups.sizes), groups.sizes.sum()
    several = groups.visits.sum() > k
    units = groups.visits if several else groups.sizes
    squares = groups.visit_squares.sum() if several else (groups.call_squares + groups.visit_squares).sum()
    harmonic = k / (1 / units).sum()
    means = groups.sums / groups.sizes
    per_unit = float(n / units.sum())  # rows of a unit
    noise = squares / (units.sum() - k) / per_unit
    spread = harmonic * ((means - means.mean()) ** 2).sum() / (k - 1)
    if noise == 0:
        return 1.0, 1.0
    _, visit, call = variance_components(groups)
    scale = float((visit + call) / (visit + call / per_unit)) if visit + call > 0 else 1.0
    tail = (1 - CONFIDENCE) / 2
    ratios = [spread / noise / f.ppf(q, k - 1, units.sum() - k) for q in (1 - tail, tail)]
    low, high = (max(0.0, (ratio - 1) / (ratio - 1 + harmonic * scale)) for ratio in ratios)
    return float(low), float(high)
